"""Checks of this machine: GPU, home and clock."""

import shutil
import time
from email.utils import parsedate_to_datetime

from flows.kaggle.address import is_loopback, server_name
from flows.kaggle.competition import connect
from flows.ops.doctor.finding import Finding, Findings, State
from flows.ops.prefect_home import create_writable
from flows.settings import Settings
from flows.store.folder import free_bytes
from flows.store.open import open_store
from mnist_core._atomic import what_helps

CALL_S = 8.0
"""Longest time that a server may be silent, in seconds."""
DISK_NEEDED, DISK_WANTED = 500_000_000, 2_000_000_000
"""Free bytes for one run with its download, and for many runs."""
CLOCK_FINE_S, CLOCK_FAILED_S = 30.0, 600.0
"""How far the clock may be off: nights are named by the date, and S3 refuses 15 minutes."""


def check_gpu(settings: Settings) -> Findings:
    """Check what a training on this machine would run on."""
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 1e9
        found = f"{torch.cuda.get_device_name(0)}, {memory:.0f} GB, torch {torch.__version__}"
        yield Finding.ok("GPU", found)
        return
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
    remedy = (
        "run `make setup` (without TORCH=cpu) and install a recent driver; `nvidia-smi` must show the GPU"
    )
    if settings.device == "cuda":
        found = f"none, but MNIST_DEVICE=cuda needs one (torch is built for {built})"
        yield Finding.failed("GPU", found, f"{remedy}; or set MNIST_DEVICE=auto")
    elif shutil.which("nvidia-smi"):
        yield Finding.warning("GPU", f"nvidia-smi exists, but torch (built for {built}) sees no GPU", remedy)
    else:
        yield Finding.ok("GPU", "none: a training on this machine runs on its CPU")


def check_home(settings: Settings) -> Findings:
    """Check that the home can be written and has free space."""
    home = settings.home.absolute()
    remedy = "free disk space, or set MNIST_HOME to a folder on another disk"
    try:
        create_writable(home)
        free = free_bytes(home)
    except OSError as error:
        found = f"{home}: {error.strerror}"
        yield Finding.failed("home", found, what_helps(error, "MNIST_HOME"))
        return
    found = f"{home}: {free / 1e9:.1f} GB free"
    if free < DISK_NEEDED:
        yield Finding.failed("home", f"{found}, but a run needs {DISK_NEEDED / 1e9:.1f} GB", remedy)
    elif free < DISK_WANTED:
        yield Finding.warning("home", f"{found}, enough for a few runs only", remedy)
    else:
        yield Finding.ok("home", found)


def check_clock(settings: Settings) -> Findings:
    """Compare this machine's clock with that of the competition's server."""
    if settings.kaggle == "practice":
        yield Finding.ok("clock", "the practice server uses this machine's clock")
    else:
        yield _compare_clock("clock", server_name(settings.kaggle), connect(settings).url)


def check_s3_clock(settings: Settings) -> Findings:
    """Compare it with that of S3, which refuses requests signed 15 minutes off."""
    if url := open_store(settings.store).clock_url:
        yield _compare_clock("clock, S3", "S3", url)


def _compare_clock(name: str, server: str, url: str) -> Finding:
    import requests

    try:
        with requests.Session() as session:
            session.trust_env = not is_loopback(url)  # loopback is never reached through a proxy
            before = _now()
            answer = session.head(url, timeout=(CALL_S, CALL_S), allow_redirects=False)
            after = _now()
        # The header has whole seconds, rounded down.
        theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5
    except (requests.RequestException, KeyError, ValueError) as error:
        found = f"{server} states no time ({type(error).__name__})"
        return Finding.warning(
            name, found, "check that the server is up; `timedatectl` shows whether NTP is active"
        )
    ahead_s = (before + after) / 2 - theirs
    if abs(ahead_s) <= CLOCK_FINE_S + (after - before) / 2:
        return Finding.ok(name, f"within {max(1.0, abs(ahead_s)):.0f} s of {server}'s")
    found = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} {server}'s"
    state = State.FAILED if abs(ahead_s) > CLOCK_FAILED_S else State.WARNING
    return Finding(name, state, found, "let NTP set it: `timedatectl set-ntp true`")


def _now() -> float:
    return time.time()
