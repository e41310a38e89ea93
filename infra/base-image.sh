#!/bin/sh
# A base image for the Dockerfile where none can be pulled: Debian's own packages, its Python and nothing else.
# Needs root, debootstrap and buildah. `make image` calls it when pulling fails.
#
#   infra/base-image.sh localhost/mnist-base:bookworm
set -eu
name=${1:?usage: infra/base-image.sh NAME}
: "${BUILDAH_ISOLATION:=chroot}" "${STORAGE_DRIVER:=vfs}"
export BUILDAH_ISOLATION STORAGE_DRIVER

folder=$(mktemp -d)
container=
trap 'if [ -n "$container" ]; then buildah rm "$container" >/dev/null; fi; rm -rf "$folder"' EXIT
# bookworm's Python is 3.11, the version that the tests run on.
debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
    bookworm "$folder" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}
# Lists, downloads and manuals are of no use in an image; neither is a host name of this machine's.
rm -rf "$folder"/var/lib/apt/lists/* "$folder"/var/cache/apt/* "$folder"/usr/share/doc/* \
    "$folder"/usr/share/man/* "$folder"/usr/share/locale/* "$folder"/var/log/* "$folder"/etc/hostname
rm -f "$folder"/etc/resolv.conf
container=$(buildah from scratch)
buildah add --quiet "$container" "$folder" /
buildah config --cmd python3 "$container"
buildah commit --quiet "$container" "$name"
