#!/bin/sh
# `make setup`: find a Python, and let infra/environment.py make .venv with it. If .venv is up to date, nothing is done.
#
#   PYTHON=python3.12   this Python (default: that of .venv, python3, or the newest that is found)
#   TORCH=cpu, cuda     this build of torch (default: that of .venv; cpu if no GPU is found)
#   TORCH_CPU_INDEX=URL   a mirror of download.pytorch.org/whl/cpu
set -eu
cd "$(dirname "$0")/.."
die() { echo "setup: $*" >&2; exit 1; }
log() { echo "setup: $*" >&2; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }
base() { .venv/bin/python -c 'import sys; print(sys._base_executable)' 2>/dev/null; }

# What .venv was made from: the folder that it lies in, since its programs name it, and the lock.
facts() { (cd -P .venv/.. 2>/dev/null || :; pwd -P); cksum requirements/dev.lock pyproject.toml; }

what() { if command -v "$1" >/dev/null; then "$1" --version 2>&1 | tail -n 1; else echo missing; fi; }
version() { "$1" -c 'import sys; print(sys.version)' 2>/dev/null; }

is_ready() {
    [ -f .venv/ready ] && [ "$(sed 1d .venv/ready)" = "$(facts)" ] || return 1
    built=$(sed -n 1p .venv/ready)
    [ "${TORCH:-$built}" = "$built" ] || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version "$PYTHON")" = "$(version .venv/bin/python)" ] || return 1
    # An interpreter that was removed, or replaced by another version, does not find the packages.
    .venv/bin/python -c 'import typer' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || die "PYTHON=$PYTHON is $(what "$PYTHON"); Python 3.11 to 3.14 is needed: PYTHON= make setup"
        command -v "$PYTHON"
        return
    fi
    for python in "$(base)" python3 python3.14 python3.13 python3.12 python3.11; do
        if supported "$python"; then command -v "$python"; return; fi
    done
    if uv=$(command -v uv || command -v "${HOME:-}/.local/bin/uv"); then
        "$uv" python find '>=3.11,<3.15' 2>/dev/null && return
        log "no Python 3.11 to 3.14 is on PATH: uv downloads one"
        "$uv" python install 3.13 >&2 && "$uv" python find 3.13 && return
        die "uv cannot install Python 3.13 (its message is above); install Python 3.11 to 3.14 otherwise, then: make setup"
    fi
    die "Python 3.11 to 3.14 is needed, python3 is $(what python3);" \
        "install one, or uv, which brings one: curl -LsSf https://astral.sh/uv/install.sh | sh; then: make setup"
}

if is_ready; then exit 0; fi
python=$(find_python)
unset PYTHONSAFEPATH PYTHONHOME # the first keeps this folder off the path
exec "$python" -B -m infra.environment "$(facts)"
