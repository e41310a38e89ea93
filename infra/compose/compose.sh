#!/bin/sh
# One machine's installation with Docker Compose: docs/compose.md.
#
#   infra/compose/compose.sh up                 make .env, secrets and missing images; start or upgrade everything
#   infra/compose/compose.sh down               stop and remove the containers; the volumes stay
#   infra/compose/compose.sh backup [FOLDER]    copy database and volumes (default: backups/DATE)
#   infra/compose/compose.sh restore FOLDER     fill the empty volumes of an installation from a backup
#   infra/compose/compose.sh COMMAND…           any other command of Docker Compose: ps, logs worker, …
#
# COMPOSE_FOLDER is where .env, secrets/ and backups/ are (default: this folder).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
: "${COMPOSE_FOLDER:=$here}"
mkdir -p "$COMPOSE_FOLDER"
COMPOSE_FOLDER=$(cd "$COMPOSE_FOLDER" && pwd)
ENV_FILE=$COMPOSE_FOLDER/.env SECRETS=$COMPOSE_FOLDER/secrets
export ENV_FILE SECRETS
say() { echo "compose: $*" >&2; }
fail() { say "$*"; exit 1; }

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose --env-file "$ENV_FILE" --file "$here/compose.yaml" "$@"
    else
        docker-compose --env-file "$ENV_FILE" --file "$here/compose.yaml" "$@"
    fi
}

# The value of a line in .env; the environment wins, as it does for Compose.
setting() {
    eval "value=\${$1:-}"
    if [ -z "$value" ]; then value=$(sed -n "s/^$1=//p" "$ENV_FILE" | tail -n 1); fi
    echo "$value"
}

has_profile() { case ",$(setting COMPOSE_PROFILES)," in *",$1,"*) true ;; *) false ;; esac; }

project() { value=$(setting COMPOSE_PROJECT_NAME); echo "${value:-mnist-nightly}"; }

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# Containers of other users read the files, so they are for all; the folder is for its owner alone.
secret() {
    if [ ! -e "$SECRETS/$1" ]; then
        printf '%s' "$2" >"$SECRETS/$1.part"
        chmod 0444 "$SECRETS/$1.part"
        mv "$SECRETS/$1.part" "$SECRETS/$1"
    fi
}

prepare() {
    docker info >/dev/null 2>&1 || fail "no docker engine answers: start it, or set DOCKER_HOST"
    docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null \
        || fail "Docker Compose is missing: install the package docker-compose-plugin"
    [ -e "$ENV_FILE" ] || cp "$here/env.example" "$ENV_FILE"
    mkdir -p -m 0700 "$SECRETS"
    secret prefect-login "mnist:$(random 24)"
    secret database-password "$(random 24)"
    secret practice-token "KGAT_$(random 16)"
    secret kaggle-token ""
    if has_profile s3; then
        secret aws-access-key-id "$(random 10)"
        secret aws-secret-access-key "$(random 20)"
        secret s3.json "{\"identities\": [{\"name\": \"mnist\", \"credentials\": [{\"accessKey\": \"$(
            cat "$SECRETS/aws-access-key-id")\", \"secretKey\": \"$(cat "$SECRETS/aws-secret-access-key"
            )\"}], \"actions\": [\"Admin\", \"Read\", \"Write\", \"List\", \"Tagging\"]}]}"
    else
        for name in aws-access-key-id aws-secret-access-key s3.json; do secret "$name" ""; done
    fi
    if [ "$(setting MNIST_KAGGLE)" = live ] && [ ! -s "$SECRETS/kaggle-token" ]; then
        fail "MNIST_KAGGLE is live: put the token of kaggle.com → Settings → API into $SECRETS/kaggle-token"
    fi
}

up() {
    for target in predict train; do
        docker image inspect "mnist-nightly:$target" >/dev/null 2>&1 || "$here/../image.sh" "$target"
    done
    revision=$(git -C "$here" describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || true)
    built=$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' \
        mnist-nightly:predict)
    if [ -n "$revision" ] && [ "$built" != "$revision" ]; then
        say "the images are of $built, and this tree is $revision: make image compose"
    fi
    compose up --detach --remove-orphans --quiet-pull
    wait_for_health
    say "Prefect UI: http://127.0.0.1:$(value=$(setting PORT); echo "${value:-4200}")"
    say "It asks for the login in $SECRETS/prefect-login"
}

# `up` ends well although a service has failed, and its --wait takes one that has done its work for a failure.
wait_for_health() {
    deadline=$(($(date +%s) + 300))
    for service in $(compose config --services); do
        case $service in deploy | bucket) continue ;; esac
        while [ "$(compose ps --format '{{.Health}}' "$service")" != healthy ]; do
            [ "$(date +%s)" -lt $deadline ] || fail "$service is not healthy: infra/compose/compose.sh logs $service"
            for done in deploy bucket; do
                case "$(compose ps --all --format '{{.State}} {{.ExitCode}}' "$done" 2>/dev/null)" in
                    "" | *running* | *created* | "exited 0") ;;
                    *) fail "$done has failed: infra/compose/compose.sh logs $done" ;;
                esac
            done
            sleep 2
        done
    done
}

volumes() { docker volume ls --quiet --filter "label=com.docker.compose.project=$(project)"; }

# Run tar as root on a volume, without a network.
tar_of() {
    volume=$1
    shift
    docker run --rm --interactive --network none --user 0 --entrypoint tar \
        --volume "$volume:/volume" mnist-nightly:predict --directory /volume "$@"
}

# All but the database stops, so that the copies belong together; a run that is stopped is finished by the next night.
backup() {
    folder=${1:-$COMPOSE_FOLDER/backups/$(date -u +%Y-%m-%dT%H%M%SZ)}
    [ ! -e "$folder" ] || fail "$folder exists: choose another folder"
    mkdir -p "$(dirname "$folder")"
    part=$folder.part
    rm -rf "$part"
    mkdir -m 0700 "$part"
    running=$(compose ps --services --status running | grep -v '^database$' || true)
    trap 'if [ -n "$running" ]; then compose start $running >/dev/null 2>&1; fi' EXIT
    # shellcheck disable=SC2086
    [ -z "$running" ] || compose stop $running >/dev/null 2>&1
    compose exec -T database pg_dump --username prefect prefect >"$part/database.sql"
    for volume in $(volumes); do
        name=${volume#"$(project)_"}
        [ "$name" = database ] || tar_of "$volume" --create . >"$part/$name.tar"
    done
    mv "$part" "$folder"
    say "$folder holds the history and the store; keep .env and secrets/ too"
}

restore() {
    folder=${1:?usage: compose.sh restore FOLDER}
    [ -s "$folder/database.sql" ] || fail "$folder holds no backup"
    [ -z "$(volumes)" ] || fail "there is an installation already: back it up, then remove it with its volumes: \
infra/compose/compose.sh down --volumes"
    compose create --quiet-pull >/dev/null 2>&1
    for file in "$folder"/*.tar; do
        name=$(basename "$file" .tar)
        docker volume inspect "$(project)_$name" >/dev/null 2>&1 \
            || docker volume create --label "com.docker.compose.project=$(project)" \
                --label "com.docker.compose.volume=$name" "$(project)_$name" >/dev/null
        tar_of "$(project)_$name" --extract --preserve-permissions --same-owner <"$file"
    done
    compose up --detach --wait database >/dev/null 2>&1
    compose exec -T database psql --username prefect --quiet --set ON_ERROR_STOP=1 --single-transaction \
        --output /dev/null prefect <"$folder/database.sql"
    say "restored; start it with: make compose"
}

case ${1:-} in
    "") sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    up) prepare; up ;;
    backup | restore) prepare; "$@" ;;
    *) prepare; compose "$@" ;;
esac
