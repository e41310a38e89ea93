#!/bin/sh
# Make a base image for the Dockerfile if none can be pulled: Debian's own packages and Python, nothing else.
# Needs root and debootstrap, and `docker` with an engine that answers, else `buildah`. `make image` calls it when
# pulling fails.
#
#   infra/base-image.sh localhost/mnist-base:bookworm [PACKAGE…]
set -eu
name=${1:?usage: infra/base-image.sh NAME [PACKAGE…]}
shift
: "${BUILDAH_ISOLATION:=chroot}" "${STORAGE_DRIVER:=vfs}"
export BUILDAH_ISOLATION STORAGE_DRIVER

folder=$(mktemp -d)
archive=$folder.tar
container=
trap 'if [ -n "$container" ]; then buildah rm "$container" >/dev/null; fi; rm -rf "$folder" "$archive"' EXIT
trap 'exit 130' HUP INT TERM # dash runs no EXIT trap for a signal
packages=python3,python3-venv,ca-certificates
for package in "$@"; do packages=$packages,$package; done
# Half the time would be spent to wait for the disk; Debian's image for Docker has this too.
mkdir -p "$folder/etc/dpkg/dpkg.cfg.d"
echo force-unsafe-io >"$folder/etc/dpkg/dpkg.cfg.d/docker-apt-speedup"
# Python 3.11 of bookworm is the version that the tests run on.
debootstrap --variant=minbase --include="$packages" bookworm "$folder" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}
# An image needs no package lists, downloads or manuals, and not this machine's host name.
rm -rf "$folder"/var/lib/apt/lists/* "$folder"/var/cache/apt/* "$folder"/usr/share/doc/* \
    "$folder"/usr/share/man/* "$folder"/usr/share/locale/* "$folder"/var/log/* "$folder"/etc/hostname
rm -f "$folder"/etc/resolv.conf
if docker info >/dev/null 2>&1; then
    # Not through a pipe, whose last command alone would say whether both succeeded.
    tar -C "$folder" --numeric-owner --create --file "$archive" .
    docker import --change 'CMD ["python3"]' "$archive" "$name" >/dev/null
else
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$folder" /
    buildah config --cmd python3 "$container"
    buildah commit --quiet "$container" "$name"
fi
