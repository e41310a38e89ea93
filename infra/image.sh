#!/bin/sh
# `make image`: build both images, with `docker` if an engine answers, else with `buildah`.
#
#   infra/image.sh [TARGET…]     default: predict train
#
# IMAGE_ARGS is passed to the builder: for a network that intercepts TLS `--volume /etc/ssl/certs:/etc/ssl/certs:ro`
# (buildah) or `--secret id=certificates,src=/etc/ssl/certs/ca-certificates.crt` (docker), `--build-arg TORCH=…` for
# another torch. BASE is another base image, such as the digest that an earlier build printed and that its image's label
# org.opencontainers.image.base.digest has. PLATFORM (linux/amd64 or linux/arm64) is the architecture of the images
# (default: this machine's).
set -eu
cd "$(dirname "$0")/.."
: "${BUILDAH_ISOLATION:=chroot}" "${STORAGE_DRIVER:=vfs}"
export BUILDAH_ISOLATION STORAGE_DRIVER
# An attestation is an image of its own in a registry, and would count among the five that it keeps.
export BUILDX_NO_DEFAULT_ATTESTATIONS=1
say() { echo "image: $*" >&2; }

# A docker client is not enough: the engine must answer.
if docker info >/dev/null 2>&1; then
    builder=docker
elif command -v buildah >/dev/null || { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }; then
    builder=buildah
    if ! command -v buildah >/dev/null; then
        say "no docker engine answers and buildah is missing: installing it from Debian"
        apt-get update -qq && apt-get install -qq -y --no-install-recommends buildah debootstrap >/dev/null
    fi
else
    say "no docker engine answers and buildah is missing; start docker, or: sudo apt-get install buildah debootstrap"
    exit 1
fi

platform=${PLATFORM:-}
case $platform in
    "" | linux/amd64 | linux/arm64) ;;
    *) say "PLATFORM=$platform is not linux/amd64 or linux/arm64"; exit 1 ;;
esac

base=${BASE:-$(sed -n 's/^ARG BASE=//p' Dockerfile)}
exists() {
    case $builder in
        docker) docker image inspect "$1" ;;
        buildah) buildah inspect --type image "$1" ;;
    esac >/dev/null 2>&1
}
# shellcheck disable=SC2086
pull() { timeout 120 "$builder" pull --quiet ${platform:+--platform "$platform"} "$base" 2>&1 >/dev/null; }
if ! exists "$base" && ! why=$(pull); then
    case $(uname -m) in x86_64) own=linux/amd64 ;; *) own=linux/arm64 ;; esac
    if [ -n "${BASE:-}" ]; then
        say "$why"
        say "BASE=$base cannot be pulled, and no other image is taken in its place: correct it, or leave it out"
        exit 1
    elif [ "${platform:-$own}" != "$own" ]; then
        say "$base cannot be pulled, and one made here would be for $own, not $platform; set BASE to an image for $platform"
        exit 1
    fi
    say "$base cannot be pulled: making a base image from Debian"
    base=localhost/mnist-base:bookworm
    if ! exists "$base"; then
        command -v debootstrap >/dev/null || { say "debootstrap is missing: sudo apt-get install debootstrap"; exit 1; }
        infra/base-image.sh "$base" >/dev/null
    fi
fi

# A tag may name another image tomorrow: with the digest of the one that is used, a build can be repeated.
case $base in
    *@sha256:*) digest=${base##*@} ;;
    localhost/*) digest= ;; # made here: no registry knows it
    *)
        case $builder in
            docker) digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$base") ;;
            buildah) digest=$(buildah inspect --type image --format '{{.FromImageDigest}}' "$base") ;;
        esac
        digest=$(printf '%s\n' "$digest" | sed -n 's/.*\(sha256:[0-9a-f]\{64\}\).*/\1/p' | head -n 1)
        ;;
esac
name=${base%@*}
if [ -n "$digest" ]; then
    base=$name@$digest
    say "base image: $base"
else
    say "base image: $base, of which no digest is known"
fi

revision=$(git describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || echo unknown)
# A wheel of torch's CPU build in requirements/ is preferred to its index; pip's own PIP_FIND_LINKS may have one.
find_wheel() { find "$1" -maxdepth 1 -name 'torch-*+cpu-*.whl' 2>/dev/null | sort | tail -n 1; }
wheel=$(find_wheel requirements)
for folder in ${PIP_FIND_LINKS:-}; do
    found=$(find_wheel "$folder")
    if [ -z "$wheel" ] && [ -n "$found" ]; then
        wheel=requirements/$(basename "$found")
        trap 'rm -f "$wheel"' EXIT
        trap 'exit 130' HUP INT TERM
        cp "$found" "$wheel"
    fi
done

build() {
    target=$1 started=$(date +%s)
    set -- --build-arg BASE="$base" --build-arg BASE_NAME="$name" --build-arg BASE_DIGEST="${digest:-unknown}" \
        --build-arg REVISION="$revision" --target "$target" --tag "mnist-nightly:$target"
    if [ -n "$wheel" ] && [ "$target" = predict ]; then
        version=${wheel#requirements/torch-}
        set -- "$@" --build-arg TORCH="torch==${version%%-*} --no-index"
    fi
    if [ -n "$platform" ]; then set -- "$@" --platform "$platform"; fi
    if [ "$builder" = docker ]; then
        # shellcheck disable=SC2086
        DOCKER_BUILDKIT=1 docker build --quiet "$@" ${IMAGE_ARGS:-} . >/dev/null || return 1
        size=$(docker image inspect --format '{{.Size}}' "mnist-nightly:$target")
    else
        # shellcheck disable=SC2086
        buildah build --quiet --layers=false --format docker "$@" ${IMAGE_ARGS:-} . >/dev/null || return 1
        size=$(buildah images --json "mnist-nightly:$target" | sed -n 's/.*"size": "\(.*\)".*/\1/p')
    fi
    say "mnist-nightly:$target  $size  built with $builder in $(($(date +%s) - started)) s"
}

# With an engine at once: one downloads while the other unpacks.
running= failed=
for target in ${*:-predict train}; do
    if [ "$builder" = docker ]; then
        build "$target" &
        running="$running $!"
    else
        build "$target"
    fi
done
for process in $running; do wait "$process" || failed=yes; done
[ -z "$failed" ] || { say "the build failed, as shown above"; exit 1; }
