"""`make image` with a program that plays docker: what the builder is asked for."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = '#!/bin/sh\necho "$BUILDX_NO_DEFAULT_ATTESTATIONS $*" >>"$LOG"\n'


def make(folder: Path, **variables: str) -> tuple[int, str, str]:
    """Run infra/image.sh for `predict`; return its exit code, what it said, and what docker was asked for."""
    docker, log = folder / "docker", folder / "log"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    done = subprocess.run(
        ["sh", "infra/image.sh", "predict"],
        cwd=ROOT,
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
