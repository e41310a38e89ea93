"""`infra/environment.py`, with small wheels from stand-ins for the package indexes, and the real uv."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra import environment
from infra.environment import Build
from mnist_core.errors import MnistError
from tests.package_index import WHEEL_CODE, Index

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
LOCK = "nvidia-cublas==13.1\ntorch==2.14.1\ntorchvision==0.29.1\ntyper==0.16.0\n"
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "mnist-nightly"
version = "1"
requires-python = ">=3.11,<3.15"
dependencies = ["torch>=2.11", "typer>=0.16"]
[project.optional-dependencies]
dev = ["torchvision>=0.26"]
"""
BACKEND = """
from tests_wheel import write_wheel
def build_editable(folder, config_settings=None, metadata_directory=None):
    needs = ["torch>=2.11", "typer>=0.16", "torchvision>=0.26 ; extra == 'dev'"]
    return write_wheel(folder, "mnist_nightly", "1", needs, extras=["dev"])
"""


@pytest.fixture
def index(tmp_path) -> Iterator[Index]:
    """The index of everything, which only pip is configured with."""
    made = Index(tmp_path / "all")
    made.add("torch", "2.14.1", ["nvidia-cublas==13.1"])
    made.add("torchvision", "0.29.1", ["torch==2.14.1"])
    made.add("nvidia_cublas", "13.1")
    made.add("typer", "0.16.0")
    version = environment.UV.partition("==")[2]
    made.add("uv", version, files={f"uv-{version}.data/scripts/uv": f'#!/bin/sh\nexec "{UV}" "$@"\n'})
    yield made
    made.server.shutdown()


@pytest.fixture
def cpu_index(tmp_path) -> Iterator[Index]:
    """The index of torch's builds for CPUs."""
    made = Index(tmp_path / "cpu")
    made.add("torch", "2.14.1+cpu")
    made.add("torchvision", "0.29.1+cpu", ["torch==2.14.1"])
    yield made
    made.server.shutdown()


class Clone:
    """The project's files for setting up, in a folder with a space in its name.

    The machine is a Debian without python3-venv, but with uv; a real `ensurepip` takes seconds, too.
    """

    def __init__(self, folder: Path, index: Index, cpu_index: Index) -> None:
        self.folder = folder
        for name in ("infra/__init__.py", "infra/setup.sh", "infra/environment.py", "infra/indexes.py"):
            self._copy(name)
        for name in ("mnist_core/__init__.py", "mnist_core/errors.py"):
            self._copy(name)
        (folder / "requirements").mkdir()
        (folder / "requirements/dev.lock").write_text(LOCK)
        (folder / "pyproject.toml").write_text(PROJECT)
        (folder / "backend.py").write_text(BACKEND)
        (folder / "tests_wheel.py").write_text(WHEEL_CODE)
        home = folder.parent / "home"
        home.mkdir()
        (home / "uv").symlink_to(UV)
        (home / "ensurepip.py").write_text("raise ImportError")
        self.variables = {
            "PATH": f"{home}:{Path(sys._base_executable).parent}:/usr/bin:/bin", "HOME": str(home),
            "PYTHONPATH": str(home), "PIP_INDEX_URL": index.url, "TORCH_CPU_INDEX": cpu_index.url,
        }  # fmt: skip

    def _copy(self, name: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, self.folder / name)

    def set_up(self, **variables: str) -> str:
        """Run `infra/setup.sh`, and return what it printed."""
        done = subprocess.run(
            ["infra/setup.sh"], cwd=self.folder, env=self.variables | variables,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr

    def installed(self) -> set[str]:
        """Return what is installed, except for pip and its like."""
        found = {path.stem for path in self.folder.glob(".venv/lib/python3*/site-packages/*.dist-info")}
        return {name for name in found if not name.startswith(("pip", "setuptools", "uv"))}


@pytest.fixture
def clone(tmp_path, index, cpu_index) -> Clone:
    """A fresh clone."""
    return Clone(tmp_path / "a clone", index, cpu_index)


CPU = {"mnist_nightly-1", "torch-2.14.1+cpu", "torchvision-0.29.1+cpu", "typer-0.16.0"}
CUDA = {"mnist_nightly-1", "nvidia_cublas-13.1", "torch-2.14.1", "torchvision-0.29.1", "typer-0.16.0"}


@pytest.mark.skipif(environment.has_gpu(), reason="the default is CUDA where there is a GPU")
def test_a_machine_without_a_gpu_gets_torch_for_cpus_until_told_otherwise(clone, index, cpu_index):
    """Both torch and torchvision come from the index of CPU builds, the rest from the one that pip has.

    A second time nothing is done. TORCH=cuda leaves nothing of the other build, and a moved .venv nothing of
    the other folder.
    """
    said = clone.set_up()

    assert clone.installed() == CPU
    assert "0.6 GB to download" in said
    taken = {path.rpartition("/")[2].split("-")[0] for path in index.asked if path.endswith(".whl")}
    assert taken == {"typer", "uv"}
    assert {path.split("/")[1] for path in cpu_index.asked} == {"torch", "torchvision"}

    index.asked.clear()
    assert clone.set_up() == ""
    assert clone.set_up(TORCH="cpu", PYTHON=sys._base_executable) == ""
    assert index.asked == []

    assert "made again: it has torch without CUDA" in clone.set_up(TORCH="cuda")
    assert clone.installed() == CUDA

    clone.folder = clone.folder.rename(clone.folder.with_name("moved"))
    assert "made again: it was moved" in clone.set_up()
    assert clone.installed() == CUDA
    where = [clone.folder / ".venv/bin/python", "-c", "import mnist_nightly; print(mnist_nightly.__file__)"]
    assert str(clone.folder) in subprocess.run(where, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(environment.has_gpu(), reason="the default is CUDA where there is a GPU")
def test_an_index_without_this_version_leaves_the_build_of_the_lock(clone, cpu_index):
    """The set-up continues with CUDA's libraries, and says so."""
    shutil.rmtree(cpu_index.wheels / "torchvision")

    said = clone.set_up()

    assert clone.installed() == CUDA
    assert "does not give torch, so it is installed with CUDA: about 3.4 GB" in said


@pytest.mark.parametrize(
    ("gpu", "index_answers", "build"),
    [
        (False, True, Build.CPU),
        (False, False, Build.CUDA),
        (True, True, Build.CUDA),
        (True, False, Build.CUDA),
    ],
)
def test_torch_is_for_cpus_if_there_is_no_gpu_and_its_index_answers(gpu, index_answers, build):
    """Anything else takes the lock's, as before."""
    assert environment.choose_build(gpu, lambda: index_answers) is build


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """The working directory, with nothing in it."""
    monkeypatch.chdir(tmp_path)
    return Path(".venv")


def half_made(venv: Path) -> None:
    """Leave one as Debian does without python3-venv."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)


def dangling(venv: Path) -> None:
    """Remove its interpreter."""
    half_made(venv)
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to("/nowhere/python3")


def of_another_python(venv: Path) -> None:
    """Let its interpreter be another version, after an upgrade of the system."""
    half_made(venv)
    (venv / "bin/python").unlink()
    (venv / "bin/python").write_text("#!/bin/sh\necho 3.10.2 with something\n")
    (venv / "bin/python").chmod(0o755)


def moved(venv: Path) -> None:
    """Let its stamp name another folder."""
    half_made(venv)
    (venv / "ready").write_text("cpu\n/another/folder\n1 2 lock\n")


def good(venv: Path) -> None:
    """Make what can be completed."""
    half_made(venv)
    (venv / "bin/uv").touch()


def of_another_build(venv: Path) -> None:
    """Let it have torch for CPUs."""
    good(venv)
    next(venv.glob("lib/python3*/site-packages")).joinpath("torch-2.14.1+cpu.dist-info").mkdir()


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (dangling, "its Python is gone"),
        (of_another_python, "its Python is 3.10.2, not"),
        (moved, "it was moved or copied"),
        (half_made, "it is half-made, without pip"),
        (of_another_build, "it has torch without CUDA"),
        (good, ""),
        (lambda venv: None, ""),
        (lambda venv: venv.symlink_to("nowhere"), "its Python is gone"),
    ],
)  # fmt: skip
def test_what_cannot_be_completed_is_made_again(empty, fill, reason):
    """Each of these ended every later `make` until somebody thought of `make clean`."""
    fill(empty)

    found = environment.why_unusable(empty, f"{empty.parent}\n1 2 lock", Build.CUDA)

    assert found.startswith(reason)
    assert bool(found) is bool(reason)
    if found:
        environment.remove(empty)
    assert os.path.lexists(empty) is (fill is good)


def test_a_python_without_ensurepip_or_uv_names_the_package(empty, monkeypatch):
    """Debian and Ubuntu have it in a package of its own; nothing half-made stays behind."""
    monkeypatch.setattr(environment, "output_of", lambda _: None)
    monkeypatch.setattr(environment, "find_uv", lambda: None)

    with pytest.raises(MnistError, match=r"apt install python3\.\d+-venv") as raised:
        environment.make_venv(empty)

    assert raised.value.remedy.endswith("then: make setup")
    assert not empty.exists()


def test_another_users_environment_names_the_command(empty, monkeypatch):
    """Such as root's, after `sudo make`."""
    empty.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: path != empty)

    with pytest.raises(MnistError, match=r"belongs to user \d+; to own it: sudo chown -R"):
        environment.check_owner(empty)


@pytest.mark.parametrize("writable", [True, False])
def test_a_home_that_cannot_be_written_to_moves_uvs_cache(empty, monkeypatch, writable):
    """The packages are then linked from a cache inside .venv."""
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.setattr(os, "access", lambda *_: writable)

    environment.use_a_writable_cache(UV, empty)

    assert ("UV_CACHE_DIR" in os.environ) is not writable
    monkeypatch.setenv("UV_CACHE_DIR", "")  # so that it is removed again


@pytest.mark.parametrize(
    ("system", "refused"),
    [
        (("Linux", "x86_64", ""), None),
        (("Linux", "aarch64", ""), None),
        (("Darwin", "arm64", "14.0"), None),
        (("Darwin", "arm64", "26.1"), None),
        (("Darwin", "arm64", "13.7.8"), "macOS 14 or newer"),
        (("Darwin", "x86_64", "14.0"), "Intel Macs"),
    ],
)
def test_a_system_without_wheels_is_refused_at_once(system, refused):
    """What `make lock-check` resolves is what is let in."""
    if refused is None:
        environment.check_system(*system)
        return
    with pytest.raises(MnistError, match=refused):
        environment.check_system(*system)


@pytest.mark.parametrize("terminal", [True, False])
def test_uvs_progress_is_shown_on_a_terminal(empty, monkeypatch, terminal):
    """A log file gets the lines that say how much is downloaded, and no bars."""
    ran = []
    monkeypatch.setattr(environment, "run", lambda command, *_, **__: ran.append(command))
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal))

    environment.install(UV, empty, Build.CUDA, fall_back=False)

    assert len(ran) == 2
    assert all(("--quiet" in command) is not terminal for command in ran)
