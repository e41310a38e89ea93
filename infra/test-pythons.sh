#!/bin/bash
# `make test-pythons`: this commit on Debian's own Pythons, each in a fresh chroot: the set-up, a night, lint and
# types (newer Pythons get a newer numpy, with other stubs), the core tests.
# Needs root, debootstrap, 9 GB of disk for each release, and 10 to 20 minutes for each on two cores.
#
#   infra/test-pythons.sh [bookworm] [trixie] [sid]   3.11, 3.13, 3.14; default: all
#   NIGHT_ONLY=1   without the core tests
#   CHROOTS=DIR    keep the chroots here, and use those that are there
set -euo pipefail
cd "$(dirname "$0")/.."
log() { echo "test-pythons: $*" >&2; }
die() { log "$*"; exit 1; }
[ "$(id -u)" = 0 ] || die "chroots need root: sudo make test-pythons"
command -v debootstrap >/dev/null || die "debootstrap is missing: apt install debootstrap"

chroots=${CHROOTS:-$(mktemp -d)}
root=
clean_up() {
    if [ -n "$root" ]; then for folder in dev/shm proc; do umount "$root/$folder" 2>/dev/null || true; done; fi
    if [ -z "${CHROOTS:-}" ]; then rm -rf --one-file-system "$chroots"; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

inside() { # a network that needs a proxy, or certificates of its own, needs them inside too
    env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/srv UV_CACHE_DIR=/srv/uv LANG=C.UTF-8 \
        ${HTTPS_PROXY:+HTTPS_PROXY="$HTTPS_PROXY"} \
        ${NO_PROXY:+NO_PROXY="$NO_PROXY"} ${SSL_CERT_FILE:+SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt} \
        ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} ${TORCH:+TORCH="$TORCH"} \
        chroot "$root" sh -c "cd /srv/mnist-nightly && $1"
}

prepare() { # SUITE: make its chroot, with this commit and what uv has already
    root=$chroots/$1
    if [ ! -x "$root/usr/bin/python3" ]; then
        log "$1: debootstrap"
        debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,make,git "$1" "$root" \
            ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$chroots/$1.log" 2>&1 || die "debootstrap failed: $chroots/$1.log"
    fi
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    rm -rf "$root/srv/mnist-nightly"
    git clone --quiet . "$root/srv/mnist-nightly"
    if [ -d ~/.cache/uv ] && [ ! -e "$root/srv/uv" ]; then
        cp -al ~/.cache/uv "$root/srv/uv" 2>/dev/null || rm -rf "$root/srv/uv"
    fi
    mount -t proc proc "$root/proc"
    mkdir -p "$root/dev/shm"
    mount -t tmpfs tmpfs "$root/dev/shm"
}

[ $# -gt 0 ] || set -- bookworm trixie sid
for suite; do
    prepare "$suite"
    python=$(inside 'python3 --version')
    began=$SECONDS
    inside 'make setup' || die "$suite, $python: the set-up failed"
    log "$suite, $python: set-up $((SECONDS - began)) s, .venv $(du -sm "$root/srv/mnist-nightly/.venv" | cut -f1) MB"
    began=$SECONDS
    result=$(inside 'make --no-print-directory nightly ARGS=--json') || die "$suite, $python: the night failed"
    log "$suite, $python: night $((SECONDS - began)) s: $result"
    inside '.venv/bin/ruff check --quiet && .venv/bin/mypy' || die "$suite, $python: lint or types failed"
    if [ -z "${NIGHT_ONLY:-}" ]; then
        inside 'make --no-print-directory test ARGS="tests/core -q"' || die "$suite, $python: tests failed"
    fi
    umount "$root/dev/shm" "$root/proc"
    log "$suite, $python: passed"
    if [ -z "${CHROOTS:-}" ]; then rm -rf --one-file-system "$root"; fi
done
