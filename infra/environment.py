"""Make `.venv` with what requirements/dev.lock names; `infra/setup.sh` calls it.

uv installs the packages. It runs on a Python that has nothing but the standard library.
"""

import contextlib
import enum
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.indexes import (
    CPU_INDEX_S,
    answers,
    cpu_index,
    has_system_certificates,
    host,
    read_pip_settings,
    uv_knows_its_index,
    uv_variables,
)
from mnist_core.errors import MnistError

UV = "uv==0.13.9"
"""The version that is installed, in the images too."""
AGAIN = "then: make setup"
NETWORK = "where the network needs it, set HTTPS_PROXY, SSL_CERT_FILE or PIP_INDEX_URL"


class Build(enum.StrEnum):
    """Where torch and torchvision come from; never one from here and one from there."""

    CPU = "cpu"
    """The index of CPU builds."""
    CUDA = "cuda"
    """The lock, whose wheels for Linux need CUDA's libraries."""
    MACOS = "macos"
    """The lock, whose wheels for macOS need none."""


SIZES = {
    Build.CPU: "about 0.6 GB to download, 2.5 GB on disk, one to two minutes",
    Build.CUDA: "about 3.4 GB to download, 7 GB on disk, three to six minutes",
    Build.MACOS: "about 0.5 GB to download, 2 GB on disk, one to two minutes",
}
"""What a first set-up takes on a fast network."""


def main(facts: str) -> None:
    """Make or complete `.venv` in the working directory.

    Args:
        facts: what `infra/setup.sh` compares to tell whether `.venv` is up to date.
    """
    check_system(platform.system(), platform.machine(), platform.mac_ver()[0])
    venv = Path(".venv")
    check_owner(venv)
    asked, installed = read_build(os.environ.get("TORCH", "")), installed_build(venv)
    if reason := why_unusable(venv, facts, asked):
        log(f".venv is made again: {reason}")
        remove(venv)
    (venv / "ready").unlink(missing_ok=True)
    make_venv(venv)
    pip = read_pip_settings([venv / "bin/python", Path(sys.executable)])
    os.environ.update(uv_variables(pip, os.environ, uv_knows_its_index(), has_system_certificates()))
    build = asked or installed or default_build()
    uv = install_uv(venv)
    use_a_writable_cache(uv, venv)
    log(f"packages for .venv, {describe(build)}: {SIZES[build]} (less if uv has them already)")
    build = install(uv, venv, build, fall_back=asked is None)
    make_prefect_database(venv)
    (venv / "ready").write_text(f"{build}\n{facts}\n")


# The machine


def check_system(system: str, machine: str, macos: str) -> None:
    """Refuse a system for which torch or onnxruntime has no wheels.

    Args:
        system: such as `Linux` or `Darwin`.
        machine: such as `x86_64` or `arm64`.
        macos: its version; empty elsewhere.

    Raises:
        MnistError: with what to use instead.
    """
    if system == "Darwin" and machine == "x86_64":
        raise MnistError(
            "torch and onnxruntime have no wheels for Intel Macs",
            "use Linux, in a virtual machine or a container",
        )
    if system == "Darwin" and int(macos.split(".")[0] or 0) < 14:
        raise MnistError(f"onnxruntime has no wheels for macOS {macos}", "update to macOS 14 or newer")


def check_owner(venv: Path) -> None:
    """Refuse to write where another user's set-up was, such as root's.

    Raises:
        MnistError: with the command that gives it to this user.
    """
    folder = Path.cwd()
    for path in (folder, venv, venv / "bin", *venv.glob("lib/python3*/site-packages")):
        if path.exists() and not os.access(path, os.W_OK):
            raise MnistError(
                f"{path.absolute()} cannot be written to, it belongs to user {path.stat().st_uid}",
                f'to own it: sudo chown -R "$(id -u)" {shlex.quote(str(folder))}, {AGAIN}',
            )


def has_gpu() -> bool:
    """Return whether the machine has a GPU of NVIDIA with its driver."""
    if Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists():
        return True
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return (
            subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False, timeout=10).returncode == 0
        )
    return False


# The build of torch


def read_build(asked: str) -> Build | None:
    """Return the build that TORCH asks for; None if it is empty.

    Raises:
        MnistError: it names none.
    """
    if not asked:
        return None
    if asked not in {Build.CPU, Build.CUDA}:
        raise MnistError(f"TORCH={asked} is not a build of torch", "TORCH=cpu or TORCH=cuda")
    return Build.MACOS if platform.system() == "Darwin" else Build(asked)


def default_build() -> Build:
    """Return the build for a new `.venv`, and say why if it is the large one."""
    if platform.system() == "Darwin":
        return Build.MACOS
    gpu = has_gpu()
    build = choose_build(gpu, lambda: answers(cpu_index(), CPU_INDEX_S))
    if build is Build.CUDA and not gpu:
        log(f"no GPU is found, but {host(cpu_index())}, which has torch without CUDA, does not answer")
    return build


def choose_build(gpu: bool, cpu_index_answers: Callable[[], bool]) -> Build:
    """Return the build for Linux: the one for CPUs if there is no GPU, and its index can be reached."""
    return Build.CPU if not gpu and cpu_index_answers() else Build.CUDA


def installed_build(venv: Path) -> Build | None:
    """Return the build of torch in an environment; None if there is none."""
    found = [path.name for path in venv.glob("lib/python3*/site-packages/torch-*.dist-info")]
    if not found:
        return None
    if platform.system() == "Darwin":
        return Build.MACOS
    return Build.CPU if any("+cpu" in name for name in found) else Build.CUDA


def describe(build: Build) -> str:
    """Return a build in words."""
    return {Build.CPU: "torch without CUDA", Build.CUDA: "torch with CUDA", Build.MACOS: "torch"}[build]


# The environment


def use_a_writable_cache(uv: Path, venv: Path) -> None:
    """Give uv a cache in `.venv` if its own, which is in the user's home, cannot be written to."""
    done = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=False)
    cache = Path(done.stdout.strip() or "/nowhere")
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if done.returncode or not os.access(existing, os.W_OK | os.X_OK):
        os.environ["UV_CACHE_DIR"] = str((venv / "cache").absolute())


def why_unusable(venv: Path, facts: str, asked: Build | None) -> str:
    """Return why an existing environment cannot be completed but must be made again; empty if it can."""
    if not os.path.lexists(venv):
        return ""
    version = output_of([venv / "bin/python", "-c", "import sys; print(sys.version)"])
    if version is None:
        return "its Python is gone"
    if version != sys.version.strip():
        return f"its Python is {version.split()[0]}, not {platform.python_version()}"
    stamp = venv / "ready"
    if stamp.exists() and stamp.read_text().splitlines()[1:2] != facts.splitlines()[:1]:
        return "it was moved or copied, and its programs name the folder in which they were"
    if not (venv / "bin/uv").exists() and output_of([venv / "bin/python", "-c", "import pip"]) is None:
        return "it is half-made, without pip"
    installed = installed_build(venv)
    if asked and installed and asked is not installed:
        return f"it has {describe(installed)}"
    return ""


def remove(venv: Path) -> None:
    """Remove an environment, or a link to one."""
    if venv.is_symlink() or not venv.is_dir():
        venv.unlink()
    else:
        shutil.rmtree(venv)


def find_uv() -> str | None:
    """Return the user's own uv, on the path or where its installer puts it."""
    return shutil.which("uv") or shutil.which(Path(os.environ.get("HOME") or "/") / ".local/bin/uv")


def make_venv(venv: Path) -> None:
    """Make an environment if there is none, with pip if Python can, else with uv.

    Raises:
        MnistError: neither can make one.
    """
    if venv.exists():
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    log(f"making {venv.absolute()} with Python {version}")
    if output_of([sys.executable, "-c", "import ensurepip, venv"]) is not None:
        run([sys.executable, "-m", "venv", str(venv)], "Python cannot make .venv")
    elif uv := find_uv():
        run([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], "uv cannot make .venv")
    else:
        package = f"{'' if os.geteuid() == 0 else 'sudo '}apt install python{version}-venv"
        raise MnistError(
            f"Python {version} has no modules venv and ensurepip here",
            f"on Debian and Ubuntu: {package}; elsewhere install uv (docs.astral.sh/uv); {AGAIN}",
        )


def install_uv(venv: Path) -> Path:
    """Install uv into an environment that does not have it, and return it.

    Raises:
        MnistError: it cannot be installed.
    """
    python, uv = venv / "bin/python", venv / "bin/uv"
    if not uv.exists():
        if output_of([python, "-c", "import pip"]) is not None:
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV]
            run(pip, "pip cannot install uv", f"its message is above; {NETWORK}")
        elif own := find_uv():
            command = [own, "pip", "install", "--quiet", "--python", str(python), UV]
            run(command, "uv cannot install uv", f"its message is above; {NETWORK}")
    return uv.absolute()


def install(uv: Path, venv: Path, build: Build, fall_back: bool) -> Build:
    """Install the packages and this project, and return the build of torch that was installed.

    Args:
        uv: the program.
        venv: the environment.
        build: of torch and torchvision.
        fall_back: take the lock's if the index of CPU builds does not have them.
    """
    lock, python = Path("requirements/dev.lock"), ["--python", str(venv / "bin/python")]
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    add = [str(uv), "pip", "install", *quiet, *python, "--compile-bytecode"]
    remedy = f"its message is above; {NETWORK}"
    if build is Build.CPU:
        torch = re.findall(r"^torch(?:vision)?==[^ ;\n]+", lock.read_text(), re.M)
        command = [*add, "--no-deps", "--default-index", cpu_index(), *torch]
        try:
            run(
                command,
                f"{host(cpu_index())} does not give torch",
                remedy,
                leave_out=("UV_INDEX", "UV_EXTRA_INDEX_URL"),
            )
        except MnistError as error:
            if not fall_back:
                raise
            log(f"{error.problem}, so it is installed with CUDA: {SIZES[Build.CUDA]}")
            build = Build.CUDA
    if build is Build.CPU:
        # The lock constrains, so that the CUDA libraries it lists are not installed; torch is there already.
        run(
            [*add, "--constraint", str(lock), "--editable", ".[dev]"],
            "uv cannot install the packages",
            remedy,
        )
    else:
        run([*add, "--requirement", str(lock)], "uv cannot install the packages", remedy)
        run([*add, "--no-deps", "--editable", "."], "uv cannot install this project", remedy)
    return build


def make_prefect_database(venv: Path) -> None:
    """Make an empty database of the installed Prefect, from which the first run of a home starts.

    Without it that run makes its own, which takes eight seconds; so a failure is not one of the setup.
    """
    with tempfile.TemporaryDirectory(dir=venv) as folder:
        made = Path(folder).absolute() / "prefect.db"
        variables = {
            "PREFECT_HOME": folder,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{made}",
        }
        command = [str(venv / "bin/python"), "-m", "prefect", "server", "database", "upgrade", "-y"]
        done = subprocess.run(command, env=os.environ | variables, capture_output=True, check=False)
        if done.returncode == 0 and made.exists():
            made.replace(venv / "prefect.db")


def run(command: Sequence[str], problem: str, remedy: str = "", leave_out: Sequence[str] = ()) -> None:
    """Run a program whose output the user sees.

    Raises:
        MnistError: it failed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in leave_out}
    if subprocess.run(command, check=False, stdout=sys.stderr, env=environment).returncode:
        raise MnistError(problem, f"{remedy or 'its message is above'}; {AGAIN}")


def output_of(command: Sequence[str | Path]) -> str | None:
    """Return what a program prints; None if it fails or is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()


def log(line: str) -> None:
    """Print a line for the user."""
    print(f"setup: {line}", file=sys.stderr, flush=True)  # noqa: T201 (a command's output)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except MnistError as error:
        sys.exit(f"setup: {error}")
    except OSError as error:
        sys.exit(
            f"setup: {error.filename}: {error.strerror}; free disk space or fix the permissions, {AGAIN}"
        )
    except KeyboardInterrupt:
        sys.exit(130)
