"""`compose.sh backup` and `restore` with a program that plays docker: what they refuse and leave."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "compose" / "compose.sh"
MADE = "mnist-nightly_database mnist-nightly_home mnist-nightly_practice"
# FAIL and CUT are parts of a call: it fails as Docker does, or ends well although half of its output is lost.
DOCKER = r"""#!/bin/sh
echo "$*" >>"$LOG"
failing() { [ -n "${FAIL:-}" ] && case "$*" in *"$FAIL"*) true ;; *) false ;; esac; }
if failing "$*"; then echo "Error response from daemon: no space left on device" >&2; exit 1; fi
case "$*" in *"${CUT:-nothing}"*) lose() { head -c 5000; } ;; *) lose() { cat; } ;; esac
case "$*" in
    *"ps --services"*) printf '%s\n' ${RUNNING:-database server worker} ;;
    "volume ls"*) printf '%s\n' ${VOLUMES:-} ;;
    "volume inspect"*) exit 1 ;;
    *pg_dump*) { seq 3000; echo "-- PostgreSQL database dump complete"; } | lose ;;
    *--create*) tar --create --directory "$STORE" . | lose ;;
    *--extract*) cat >>"$RESTORED/volumes" ;;
    *psql*) cat >"$RESTORED/database.sql" ;;
esac
"""

Run = Callable[..., tuple["subprocess.CompletedProcess[str]", str]]


@pytest.fixture
def script(tmp_path: Path) -> Run:
    """Run the script; return its result and what docker was asked."""
    docker, log = tmp_path / "docker", tmp_path / "log"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    for name in ("store", "restored"):
        (tmp_path / name).mkdir()
    (tmp_path / "store" / "version.json").write_text("{}" * 5000)
    fixed = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log), "STORE": str(tmp_path / "store"),
        "RESTORED": str(tmp_path / "restored"), "COMPOSE_FOLDER": str(tmp_path / "installation"),
    }  # fmt: skip

    def run(*arguments: str | Path, **variables: str) -> tuple["subprocess.CompletedProcess[str]", str]:
        log.write_text("")
        done = subprocess.run(
            [SCRIPT, *arguments],
            env=fixed | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done, log.read_text()

    return run


@pytest.fixture
def copy(script: Run, tmp_path: Path) -> Path:
    """Return the folder of a backup that went well."""
    done, _ = script("backup", tmp_path / "copy", VOLUMES=MADE)
    assert done.returncode == 0, done.stderr
    return tmp_path / "copy"


def test_what_was_copied_is_restored(script: Run, copy: Path, tmp_path: Path) -> None:
    """Every volume but the database's as a tar file, the database as SQL, and all of it again afterwards."""
    done, asked = script("restore", copy)

    assert done.returncode == 0, done.stderr
    assert {file.name for file in copy.iterdir()} == {
        "SHA256SUMS", "backup", "database.sql", "home.tar", "practice.tar"
    }  # fmt: skip
    restored = tmp_path / "restored"
    assert (restored / "database.sql").read_text() == (copy / "database.sql").read_text()
    tars = (copy / "home.tar").read_bytes() + (copy / "practice.tar").read_bytes()
    assert (restored / "volumes").read_bytes() == tars
    assert "down --volumes" not in asked


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ("ps --services", "the services cannot be listed"),
        ("volume ls", "the volumes cannot be listed"),
        ("stop server worker", "the services cannot be stopped"),
        ("pg_dump", "the database cannot be copied"),
        ("mnist-nightly_practice:/volume", "the volume mnist-nightly_practice cannot be copied"),
    ],
)
def test_a_backup_that_fails_shows_dockers_error_and_leaves_nothing(script, tmp_path, failing, said) -> None:
    """One sentence says what failed and what to do; no folder has the final name; what ran runs again."""
    done, asked = script("backup", tmp_path / "copy", VOLUMES=MADE, FAIL=failing)

    assert done.returncode == 1
    shown, sentence = done.stderr.splitlines()
    assert shown == "Error response from daemon: no space left on device"
    assert sentence == (
        f"compose: {said}: nothing is kept of this backup; correct what is shown above, and repeat it"
    )
    assert not list(tmp_path.glob("copy*"))
    assert ("start server worker" in asked) == ("stop server worker" in asked)


@pytest.mark.parametrize(
    ("cut", "said"), [("pg_dump", "the copy of the database has no end"), ("_home:", "home.tar is not whole")]
)
def test_a_copy_whose_end_is_lost_is_not_kept(script, tmp_path, cut, said) -> None:
    """Although docker's exit code is 0, as it can be on a full disk."""
    done, _ = script("backup", tmp_path / "copy", VOLUMES=MADE, CUT=cut)

    assert done.returncode == 1
    assert said in done.stderr
    assert not list(tmp_path.glob("copy*"))


def test_a_database_that_does_not_run_is_not_copied(script, tmp_path) -> None:
    """Nothing is stopped, and the message says what to start."""
    done, asked = script("backup", tmp_path / "copy", VOLUMES=MADE, RUNNING="server worker")

    assert done.returncode == 1
    assert "the database does not run, so it cannot be copied: make compose" in done.stderr
    assert " stop " not in asked


def test_services_that_do_not_start_again_are_reported(script, tmp_path) -> None:
    """The copy is kept, and the message says how to start them."""
    done, _ = script("backup", tmp_path / "copy", VOLUMES=MADE, FAIL="start server worker")

    assert "no space left on device" in done.stderr
    assert "the services cannot be started again: make compose" in done.stderr
    assert (tmp_path / "copy" / "SHA256SUMS").exists()


def flip(copy: Path) -> None:
    """Change one byte."""
    data = bytearray((copy / "home.tar").read_bytes())
    data[700] ^= 1
    (copy / "home.tar").write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (flip, "home.tar: FAILED"),
    "cut": (lambda copy: os.truncate(copy / "database.sql", 100), "database.sql: FAILED"),
    "incomplete": (lambda copy: (copy / "home.tar").unlink(), "it should hold backup database.sql home.tar"),
    "more": (lambda copy: (copy / "other.tar").touch(), "and holds backup database.sql home.tar other.tar"),
    "without sums": (lambda copy: (copy / "SHA256SUMS").unlink(), "is damaged"),
    "foreign": (lambda copy: (copy / "backup").unlink(), "is not a copy that compose-backup made"),
    "later": (lambda copy: (copy / "backup").write_text("mnist-nightly compose backup 2\n"), "begin with"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_copy_is_refused_first(script, copy, damage) -> None:
    """Before anything is made or removed, and before an installation is asked to be removed for it."""
    make, said = DAMAGES[damage]
    make(copy)

    done, asked = script("restore", copy, VOLUMES=MADE)

    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.endswith("nothing was changed: restore another copy\n")
    assert "remove it" not in done.stderr
    assert {line.split()[0] for line in asked.splitlines()} == {"info", "compose"}
    assert all(line == "compose version" for line in asked.splitlines() if line != "info")


def test_an_installation_is_not_overwritten(script, copy) -> None:
    """Its volumes stay; the copy was checked, so that it may be removed for it."""
    done, asked = script("restore", copy, VOLUMES=MADE)

    assert done.returncode == 1
    assert f"{copy} is whole, but there is an installation already" in done.stderr
    assert "down" not in asked


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ("create --quiet-pull", "the containers cannot be made (a missing image: make image)"),
        ("volume create", "the volume mnist-nightly_home cannot be made"),
        ("mnist-nightly_practice:/volume", "the volume mnist-nightly_practice cannot be filled"),
        ("--wait database", "the database does not start"),
        ("psql", "the database cannot be filled"),
    ],
)
def test_a_restore_that_fails_shows_dockers_error_and_leaves_nothing(script, copy, failing, said) -> None:
    """What it made is removed, so that it can be repeated."""
    done, asked = script("restore", copy, FAIL=failing)

    assert done.returncode == 1
    shown, sentence = done.stderr.splitlines()
    assert shown == "Error response from daemon: no space left on device"
    assert sentence == (
        f"compose: {said}: nothing is left of this restore; correct what is shown above, and repeat it"
    )
    assert "down --volumes" in asked
