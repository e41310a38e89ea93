#!/bin/sh
# `make deploy`: deploy this commit to the cloud. It is safe to repeat: what exists is kept.
#
#   images → registry → Terraform → pools → deployments → a dry night as a smoke test
#
# Reads the usual AWS variables and infra/terraform/terraform.tfvars (infra/README.md).
# STATE_BUCKET keeps Terraform's state in S3; PREFECT_CLOUD_API_URL and PREFECT_API_KEY select Prefect Cloud;
# SMOKE=no skips the smoke test; WAIT=no does not wait for the end of a run that the restart of the server would hurt;
# YES=1 applies without asking; PORT is the local end of the port-forward (4200).
# In CI (a tag, .github/workflows/ci.yml) TFVARS is the text of terraform.tfvars, all packages are checked by their
# hashes, and a plan that changes more than images and their task definitions is refused.
set -eu
cd "$(dirname "$0")/.."
variables=infra/terraform/terraform.tfvars
python=${PYTHON:-.venv/bin/python} # PYTHON: one that has the packages already
say() { echo "deploy: $*" >&2; }
die() { say "$*"; exit 1; }

for program in aws terraform git; do
    command -v "$program" >/dev/null || die "$program is missing; install it as infra/README.md says"
done
[ -z "$(git status --porcelain)" ] || die "there are uncommitted changes; commit them, because an image is named by its commit"
tag=$(git rev-parse --short=12 HEAD)
scratch=$(mktemp -d)
forward=
trap 'if [ -n "$forward" ]; then kill "$forward" 2>/dev/null || true; fi; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
if [ -n "${CI:-}" ]; then
    [ -n "${TFVARS:-}" ] || die "TFVARS is empty: give the environment \`production\` on GitHub a variable TFVARS with \
the text of your $variables"
    printf '%s\n' "$TFVARS" > "$variables"
fi
if [ -n "${PYTHON:-}" ]; then :; elif [ -n "${CI:-}" ]; then # this job may use the role: the images' packages, nothing else
    python3 -m venv "$scratch/venv"
    python=$scratch/venv/bin/python
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --requirement requirements/predict.lock
else
    infra/setup.sh
fi

terraform() { command terraform -chdir=infra/terraform "$@"; }
export TF_VAR_image_tag="$tag"
if [ -n "${PREFECT_CLOUD_API_URL:-}" ]; then export TF_VAR_prefect_cloud_api_url="$PREFECT_CLOUD_API_URL"; fi
# What terraform.tfvars says counts more than a variable of the environment, as it does for Terraform.
setting() {
    value=$(sed -n "s/^$1 *= *\"\([^\"]*\)\".*/\1/p" "$variables" 2>/dev/null | tail -n 1)
    echo "${value:-$2}"
}
if [ -n "${STATE_BUCKET:-}" ]; then
    printf 'terraform {\n  backend "s3" {\n    use_lockfile = true\n  }\n}\n' > infra/terraform/backend_override.tf
    terraform init -input=false -lockfile=readonly -backend-config="bucket=$STATE_BUCKET" \
        -backend-config="key=$(setting name "${TF_VAR_name:-mnist-nightly}")/terraform.tfstate" \
        -backend-config="region=$(setting region "${TF_VAR_region:-${AWS_DEFAULT_REGION:-us-east-1}}")" >/dev/null
else
    terraform init -input=false -lockfile=readonly >/dev/null
fi
approve=${CI:+-auto-approve}
if [ -n "${YES:-}" ]; then approve=-auto-approve; fi

port=${PORT:-4200}
if [ -z "${PREFECT_CLOUD_API_URL:-}" ]; then # before anything is changed
    "$python" -m infra.forward free "$port"
fi

if [ -n "${CI:-}" ]; then
    terraform plan -input=false -out="$scratch/plan" >/dev/null
    terraform show -json "$scratch/plan" > "$scratch/plan.json"
    "$python" -m infra.deploy_plan "$scratch/plan.json"
fi

say "$tag: the registry, and the login of Prefect's server"
# shellcheck disable=SC2086
terraform apply ${approve} -target=aws_ecr_repository.image -target=aws_secretsmanager_secret.login

repository() { terraform output -json repositories | "$python" -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }
region=$(repository predict | cut -d. -f4)
export AWS_DEFAULT_REGION="$region"
docker info >/dev/null 2>&1 && builder=docker || builder=buildah
for target in predict train; do
    address=$(repository "$target")
    if aws ecr describe-images --repository-name "${address#*/}" --image-ids imageTag="$tag" >/dev/null 2>&1; then
        say "$target:$tag is already in the registry"
        continue
    fi
    PLATFORM=linux/amd64 infra/image.sh "$target" # that of the task definitions
    aws ecr get-login-password | "$builder" login --username AWS --password-stdin "${address%%/*}" >/dev/null
    "$builder" tag "mnist-nightly:$target" "$address:$tag"
    "$builder" push "$address:$tag" >/dev/null
    say "pushed $target:$tag"
done

if [ -z "${PREFECT_CLOUD_API_URL:-}" ]; then # the value is never in Terraform's state, in an argument or in a log
    secret=$(terraform output -raw login)
    read_login() { aws secretsmanager get-secret-value --secret-id "$secret" --query SecretString --output text; }
    if ! PREFECT_API_AUTH_STRING=$(read_login 2>"$scratch/login.log"); then
        # Only if there is none: another login would lock out the server and all jobs.
        grep -q ResourceNotFoundException "$scratch/login.log" ||
            die "the login of Prefect's server cannot be read: $(cat "$scratch/login.log")"
        "$python" -c 'from flows.ops.server_settings import new_login; print(new_login(), end="")' |
            aws secretsmanager put-secret-value --secret-id "$secret" --secret-string file:///dev/stdin >/dev/null
        PREFECT_API_AUTH_STRING=$(read_login)
    fi
    export PREFECT_API_AUTH_STRING
fi

value() { "$python" -c "import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])" "$scratch/pool.json" "$1"; }
# Forward the port to the server of a cluster, and check that it is this deployment's own.
connect() {
    "$python" -m infra.forward free "$port" || return 1
    infra/ui.sh "$1" "$port" > "$scratch/forward.log" 2>&1 &
    forward=$!
    export PREFECT_API_URL="http://127.0.0.1:$port/api"
    "$python" -m infra.forward wait "$PREFECT_API_URL" "$forward" "$scratch/forward.log"
}
disconnect() {
    kill "$forward" 2>/dev/null || true
    wait "$forward" 2>/dev/null || true
    forward=
}

# With Prefect Cloud nothing restarts but the workers, and a job goes on without them.
if [ -z "${PREFECT_CLOUD_API_URL:-}" ] && [ "${WAIT:-yes}" = yes ] &&
    terraform output -json pool > "$scratch/pool.json" 2>/dev/null; then # else nothing has been deployed yet
    running=$(value cluster)
    server=$(aws ecs list-tasks --cluster "$running" --service-name server --query 'taskArns[0]' --output text)
    if [ "$server" != None ]; then # it is not stopped
        say "looking for a run that is under way"
        connect "$running" || die "if the server is broken, deploy without asking it: WAIT=no make deploy"
        "$python" -m infra.forward idle
        disconnect
    fi
fi

say "Terraform"
# shellcheck disable=SC2086
terraform apply ${approve}
terraform output -json pool > "$scratch/pool.json"
cluster=$(value cluster)

say "waiting for the services"
aws ecs wait services-stable --cluster "$cluster" --services worker

if [ -n "${PREFECT_CLOUD_API_URL:-}" ]; then
    : "${PREFECT_API_KEY:?Prefect Cloud needs PREFECT_API_KEY}"
    export PREFECT_API_URL="$PREFECT_CLOUD_API_URL"
else
    aws ecs wait services-stable --cluster "$cluster" --services server
    connect "$cluster"
fi

say "pools and deployments"
"$python" -m infra.pools "$scratch" < "$scratch/pool.json"
"$python" -m flows.ops.pools --templates "$scratch" --pool-type ecs

if [ "${SMOKE:-yes}" = yes ]; then
    say "smoke test: a short dry run on a GPU, which promotes and submits nothing, and keeps no night away"
    "$python" -m prefect --no-prompt deployment run nightly/smoke --watch --watch-timeout 3600
fi
say "$tag is deployed"
