"""`make image` with a program that plays docker: what the builder is asked for."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = r"""#!/bin/sh
echo "$BUILDX_NO_DEFAULT_ATTESTATIONS $*" >>"$LOG"
case "$*" in
    *RepoDigests*) echo "${DIGEST:-}" ;;
    "image inspect "* | "pull "*) [ -z "${ABSENT:-}" ] || { echo "Error: no such host" >&2; exit 1; } ;;
    "build "*) [ -z "${BROKEN:-}" ] || { echo "Error: no space left on device" >&2; exit 1; } ;;
esac
"""
BASE = "docker.io/library/python:3.11-slim-bookworm"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"


def make(folder: Path, *targets: str, tree: Path = ROOT, **variables: str) -> tuple[int, str, str]:
    """Run infra/image.sh, by default for `predict`; return exit code, messages and docker's arguments."""
    docker, log = folder / "docker", folder / "log"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    done = subprocess.run(
        ["sh", "infra/image.sh", *(targets or ("predict",))],
        cwd=tree,
        env={"PATH": f"{folder}:{os.environ['PATH']}", "LOG": str(log), **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr, log.read_text() if log.exists() else ""


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_an_image_is_built_for_the_architecture_that_is_asked_for(tmp_path: Path, platform: str) -> None:
    """Without an attestation, which a registry would count as an image."""
    code, _, asked = make(tmp_path, PLATFORM=platform)

    (build,) = (line for line in asked.splitlines() if " build " in line)
    assert code == 0
    assert build.startswith("1 build ")
    assert "--target predict --tag mnist-nightly:predict " in build
    assert f" --platform {platform} " in build


def test_without_a_platform_it_is_this_machines(tmp_path: Path) -> None:
    """So that an image made here runs here."""
    assert "--platform" not in make(tmp_path)[2]


def test_an_architecture_that_the_locks_do_not_have_is_refused(tmp_path: Path) -> None:
    """Before anything is built."""
    code, said, asked = make(tmp_path, PLATFORM="linux/riscv64")

    assert code == 1
    assert "PLATFORM=linux/riscv64 is not linux/amd64 or linux/arm64" in said
    assert " build " not in asked


def test_the_digest_of_the_base_image_is_said_used_and_kept_in_the_image(tmp_path: Path) -> None:
    """A tag names another image after a while, so a build could not be repeated by it."""
    code, said, asked = make(tmp_path, DIGEST=f"python@{DIGEST}")

    assert code == 0
    assert f"image: base image: {BASE}@{DIGEST}\n" in said
    arguments = (
        f"--build-arg BASE={BASE}@{DIGEST} --build-arg BASE_NAME={BASE} --build-arg BASE_DIGEST={DIGEST} "
    )
    assert arguments in asked
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert dockerfile.count('org.opencontainers.image.base.digest="${BASE_DIGEST}"') == 2


def test_a_pinned_base_image_is_taken_as_it_is(tmp_path: Path) -> None:
    """Whatever the tag names now."""
    pinned = f"registry.example/python:3.11@{DIGEST}"

    _, said, asked = make(tmp_path, BASE=pinned, DIGEST=f"python@sha256:{'f' * 64}")

    assert f"base image: {pinned}\n" in said
    assert f"--build-arg BASE={pinned} " in asked


def test_a_base_image_without_a_digest_is_said_to_have_none(tmp_path: Path) -> None:
    """One that was made on this machine."""
    _, said, asked = make(tmp_path)

    assert f"base image: {BASE}, of which no digest is known" in said
    assert f"--build-arg BASE={BASE} --build-arg BASE_NAME={BASE} --build-arg BASE_DIGEST=unknown " in asked


def test_a_base_image_that_was_asked_for_is_not_replaced(tmp_path: Path) -> None:
    """Only the default one is made from Debian if it cannot be pulled."""
    code, said, asked = make(tmp_path, BASE=f"{BASE}@{DIGEST}", ABSENT="yes")

    assert code == 1
    assert said.splitlines() == [
        "image: Error: no such host",
        f"image: BASE={BASE}@{DIGEST} cannot be pulled, and no other image is taken in its place: "
        "correct it, or leave it out",
    ]
    assert " build " not in asked


def test_a_build_that_fails_fails_the_command(tmp_path: Path) -> None:
    """Both are built at once, and each error is shown."""
    code, said, asked = make(tmp_path, "predict", "train", BROKEN="yes")

    assert code == 1
    assert said.count("no space left on device") == 2
    assert said.endswith("image: the build failed, as shown above\n")
    assert asked.count(" build ") == 2


def test_a_wheel_of_torch_that_pip_would_find_is_used(tmp_path: Path) -> None:
    """A machine that cannot reach torch's index has it among its own wheels; the tree is left as it was."""
    tree, wheels = tmp_path / "tree", tmp_path / "wheels"
    for folder in (tree / "infra", tree / "requirements", wheels):
        folder.mkdir(parents=True)
    for name in ("infra/image.sh", "Dockerfile"):
        (tree / name).write_bytes((ROOT / name).read_bytes())
    (wheels / "torch-2.14.1+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()

    code, said, asked = make(tmp_path, tree=tree, PIP_FIND_LINKS=f"/nowhere {wheels}")

    assert code == 0, said
    assert "--build-arg TORCH=torch==2.14.1+cpu --no-index " in asked
    assert not list((tree / "requirements").iterdir())
