#!/bin/sh
# One machine's installation with Docker Compose: docs/compose.md.
#
#   infra/compose/compose.sh up                 make .env, secrets and missing images; start or upgrade everything
#   infra/compose/compose.sh down               stop and remove the containers; the volumes stay
#   infra/compose/compose.sh backup [FOLDER]    copy database and volumes (default: backups/DATE)
#   infra/compose/compose.sh restore FOLDER     fill the empty volumes of an installation from a backup
#   infra/compose/compose.sh flows COMMAND…     run our command line with the installation's settings and store
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
FORMAT="mnist-nightly compose backup 1" # the first line of a copy's file `backup`
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
}

up() {
    if [ "$(setting MNIST_KAGGLE)" = live ] && [ ! -s "$SECRETS/kaggle-token" ]; then
        fail "MNIST_KAGGLE is live: put the token of kaggle.com → Settings → API into $SECRETS/kaggle-token"
    fi
    for target in predict train; do
        docker image inspect "mnist-nightly:$target" >/dev/null 2>&1 || "$here/../image.sh" "$target"
    done
    revision=$(git -C "$here" describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || true)
    built=$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' \
        mnist-nightly:predict)
    if [ -n "$revision" ] && [ "$built" != "$revision" ]; then
        say "the images are of $built, and this tree is $revision: make image compose"
    fi
    compose up --detach --remove-orphans --quiet-pull \
        || fail "not everything started, as shown above; what a service said: infra/compose/compose.sh logs SERVICE"
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

# An error here must not look like an installation without volumes: callers check it.
volumes() { docker volume ls --quiet --filter "label=com.docker.compose.project=$(project)"; }

# Run a command and show its output only if it fails, with what to do then.
quietly() {
    instead=$1
    shift
    printed=$("$@" 2>&1) || { printf '%s\n' "$printed" >&2; fail "$instead"; }
}

# Run tar as root on a volume, without a network.
tar_of() {
    volume=$1
    shift
    docker run --rm --interactive --pull never --network none --user 0 --entrypoint tar \
        --volume "$volume:/volume" mnist-nightly:predict --directory /volume "$@"
}

# Check that a folder is a whole copy, made by a `backup` of this format.
#   $1: the folder   $2: what to do if it is not
check_copy() {
    [ "$(head -n 1 "$1/backup" 2>/dev/null)" = "$FORMAT" ] \
        || fail "$1 is not a copy that compose-backup made: its file backup does not begin with '$FORMAT'; $2"
    named=$(sed -n 's/^[0-9a-f]\{64\}  //p' "$1/SHA256SUMS" | tr '\n' ' ')
    there=$(cd "$1" && for file in *; do [ "$file" = SHA256SUMS ] || printf '%s ' "$file"; done)
    [ "$named" = "$there" ] || fail "$1 is damaged: it should hold ${named}and holds ${there}; $2"
    (cd "$1" && sha256sum --check --strict --quiet SHA256SUMS >&2) || fail "$1 is damaged, as shown above; $2"
}

# Leave no half copy, and start what was stopped, however the backup ends.
end_backup() {
    rm -rf "$part"
    [ -n "$stopped" ] || return 0
    # shellcheck disable=SC2086
    printed=$(compose start $stopped 2>&1) \
        || { printf '%s\n' "$printed" >&2; say "the services cannot be started again: make compose"; }
}

# All but the database stops, so that the copies belong together; a run that is stopped is finished by the next night.
backup() {
    folder=${1:-$COMPOSE_FOLDER/backups/$(date -u +%Y-%m-%dT%H%M%SZ)}
    again="nothing is kept of this backup; correct what is shown above, and repeat it"
    [ ! -e "$folder" ] || fail "$folder exists: choose another folder"
    running=$(compose ps --services --status running) || fail "the services cannot be listed: $again"
    echo "$running" | grep -q '^database$' || fail "the database does not run, so it cannot be copied: make compose"
    found=$(volumes) || fail "the volumes cannot be listed: $again"
    part=$folder.part stopped=
    rm -rf "$part"
    trap end_backup EXIT
    trap 'exit 130' HUP INT TERM
    mkdir -p "$(dirname "$folder")" && mkdir -m 0700 "$part" || fail "$part cannot be made: $again"
    stopped=$(echo "$running" | grep -v '^database$' | tr '\n' ' ')
    # shellcheck disable=SC2086
    [ -z "$stopped" ] || quietly "the services cannot be stopped: $again" compose stop $stopped
    compose exec -T database pg_dump --username prefect prefect >"$part/database.sql" \
        || fail "the database cannot be copied: $again"
    for volume in $found; do
        name=${volume#"$(project)_"}
        [ "$name" = database ] || tar_of "$volume" --create . >"$part/$name.tar" \
            || fail "the volume $volume cannot be copied: $again"
    done
    # A full disk shows here at the latest: a program's exit code does not always say that its output was lost.
    tail -n 20 "$part/database.sql" | grep -q 'PostgreSQL database dump complete' \
        || fail "the copy of the database has no end (is the disk full?): $again"
    for file in "$part"/*.tar; do
        tar --list --file "$file" >/dev/null || fail "$file is not whole (is the disk full?): $again"
    done
    printf '%s\n' "$FORMAT" "$(project), $(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$part/backup" \
        && sums=$(cd "$part" && sha256sum -- *) && printf '%s\n' "$sums" >"$part/SHA256SUMS" \
        && sync -- "$part"/* && mv "$part" "$folder" || fail "$folder cannot be written: $again"
    say "$folder holds the history and the store; keep .env and secrets/ too"
}

# A restore that fails leaves no half installation: there was none before.
end_restore() {
    [ -n "$unfinished" ] || return 0
    printed=$(compose down --volumes --remove-orphans 2>&1) || printf '%s\n' "$printed" >&2
    for volume in $(volumes); do docker volume rm "$volume" >/dev/null || true; done
}

restore() {
    folder=${1:?usage: compose.sh restore FOLDER}
    check_copy "$folder" "nothing was changed: restore another copy"
    found=$(volumes) || fail "the volumes cannot be listed, as shown above: nothing was changed"
    [ -z "$found" ] || fail "$folder is whole, but there is an installation already: back it up, then remove it with \
its volumes: infra/compose/compose.sh down --volumes"
    again="nothing is left of this restore; correct what is shown above, and repeat it"
    unfinished=yes
    trap end_restore EXIT
    trap 'exit 130' HUP INT TERM
    quietly "the containers cannot be made (a missing image: make image): $again" compose create --quiet-pull
    for file in "$folder"/*.tar; do
        name=$(basename "$file" .tar)
        volume=$(project)_$name
        docker volume inspect "$volume" >/dev/null 2>&1 \
            || quietly "the volume $volume cannot be made: $again" docker volume create \
                --label "com.docker.compose.project=$(project)" --label "com.docker.compose.volume=$name" "$volume"
        tar_of "$volume" --extract --preserve-permissions --same-owner <"$file" \
            || fail "the volume $volume cannot be filled: $again"
    done
    quietly "the database does not start: $again" compose up --detach --wait database
    compose exec -T database psql --username prefect --quiet --set ON_ERROR_STOP=1 --single-transaction \
        --output /dev/null prefect <"$folder/database.sql" || fail "the database cannot be filled: $again"
    unfinished=
    say "restored; start it with: make compose"
}

case ${1:-} in
    "") sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    up) prepare; up ;;
    backup | restore) prepare; "$@" ;;
    flows) # without the services that the worker depends on: starting them deploys again
        prepare
        shift
        # shellcheck disable=SC2046
        compose run --rm --no-deps $([ -t 0 ] || echo -T) worker python -m flows "$@"
        ;;
    *) prepare; compose "$@" ;;
esac
