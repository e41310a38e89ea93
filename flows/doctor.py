"""`python -m flows doctor`: what a night needs, looked at one by one, each with its remedy.

Nothing is submitted, trained or deployed. What is written is removed again: a file in the home, an object
below `doctor/` in the store. No line shows a credential.
"""

import asyncio
import contextvars
import os
import shutil
import threading
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from flows.deployment import DEPLOYMENTS, POOLS
from flows.kaggle.competition import connect, server_name
from flows.kaggle.credentials import find_credentials
from flows.kaggle.submissions import quota_returns
from flows.prefect_home import running_server
from flows.settings import PREFIX, Settings, SettingsError, read_settings
from flows.store.base import StoreError
from flows.store.folder import Folder, free_bytes
from flows.store.open import open_store
from flows.store.s3 import Bucket
from mnist_core.errors import MnistError

CHECK_S = 30.0
"""Longest that one check may take; the practice competition's first start is among them."""
CALL_S = 8.0
"""Longest that one server may be silent."""
DISK_NEEDED, DISK_WANTED = 500_000_000, 2_000_000_000
"""Bytes: a download and its night; many nights."""
CLOCK_FINE_S, CLOCK_FAILED_S = 5.0, 30.0
"""How far the clock may be off: two runs take turns to post by entries that hold for three minutes."""
PROBES = "doctor/"

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it stands, and what to do where it is not well."""

    check: str
    state: State
    found: str
    remedy: str = ""


Findings = Iterable[Finding]


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Attributes:
        name: of its line; where it has several, of the one that tells why there are no more.
        look: what looks, given the settings.
        settings: fields that it rests on.
        needs: the line that must not have failed, or there is nothing to look at.
    """

    name: str
    look: Callable[[Settings], Findings]
    settings: tuple[str, ...] = ()
    needs: str = ""


def examine() -> Iterator[Finding]:
    """All findings, one after another; a check that fails or hangs takes no other one along."""
    settings, faulty, finding = _settings()
    yield finding
    failed: set[str] = set()
    for check in CHECKS:
        if unset := faulty & set(check.settings):
            names = " and ".join(PREFIX + name.upper() for name in sorted(unset))
            findings: Findings = [Finding(check.name, "warning", "not looked at", f"first mend {names}")]
            failed.add(check.name)
        elif check.needs in failed:
            findings = [Finding(check.name, "warning", "not looked at", f"first mend: {check.needs}")]
            failed.add(check.name)
        else:
            findings = _in_time(check, settings)
        for finding in findings:
            if finding.state == "failed":
                failed.add(finding.check)
            yield finding


def _in_time(check: Check, settings: Settings) -> list[Finding]:
    """A check's findings, its error among them; after `CHECK_S` it is left to itself."""
    found: list[Finding] = []

    def look() -> None:
        try:
            found.extend(check.look(settings))
        except MnistError as error:
            found.append(_explained(check.name, error))
        except Exception as error:  # its text may hold an address with a password: the place tells enough
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
            found.append(Finding(check.name, "failed", where, "nobody foresaw this: please report it"))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(look,), daemon=True)
    thread.start()
    thread.join(CHECK_S)
    if thread.is_alive():
        late = Finding(
            check.name, "failed", f"no answer in {CHECK_S:.0f} s", "is the network there? Try again"
        )
        return [*found, late]
    return found


def _explained(name: str, error: MnistError) -> Finding:
    """An error of ours as a finding: its text ends with what to do."""
    text = str(error)
    found, _, remedy = text.rpartition("; ") if "; " in text else text.partition(": ")
    return Finding(name, "failed", found, remedy)


# Settings


def _settings() -> tuple[Settings, set[str], Finding]:
    """The settings, with defaults for those that are faulty, and the names of these."""
    fields = Settings.model_fields
    defaults: dict[str, Any] = {}
    try:
        settings = read_settings()
    except SettingsError as error:
        finding = Finding("settings", "failed", str(error), "mend it in the environment or in `.env`")
        try:
            Settings(**defaults)
        except ValidationError as fault:
            faulty = {str(entry["loc"][0]) for entry in fault.errors()} & fields.keys()
            defaults = {name: fields[name].default for name in faulty}
        except ValueError:  # a list that is no JSON hides the others
            return Settings.model_construct(), set(fields), finding
        return Settings(**defaults), set(defaults), finding
    told = f"{PREFIX}KAGGLE={settings.kaggle}, model {settings.model}, preset {settings.preset}"
    if settings.kaggle_is_set:
        return settings, set(), Finding("settings", "ok", told)
    remedy = f"set {PREFIX}KAGGLE to `live` or `practice`: without it a scheduled night refuses to start"
    return settings, set(), Finding("settings", "warning", told, remedy)


# The competition


def _patient(settings: Settings) -> Settings:
    """The same settings with a competition that may not be silent for long."""
    return settings.model_copy(update={"timeout_s": min(CALL_S, settings.timeout_s)})


def look_at_credentials(settings: Settings) -> Findings:
    """The server takes what it is given."""
    source = "the account of this home" if settings.kaggle == "practice" else find_credentials().source
    connect(_patient(settings)).has_entered()
    yield Finding("credentials", "ok", f"{server_name(settings)} takes {source}")


def look_at_rules(settings: Settings) -> Findings:
    """The account takes part in the competition."""
    if connect(_patient(settings)).has_entered():
        yield Finding("rules", "ok", f"accepted: {settings.competition}")
    else:
        rules = f"https://www.kaggle.com/competitions/{settings.competition}/rules"
        yield Finding("rules", "failed", "not accepted", f"accept them at {rules}")


def look_at_quota(settings: Settings) -> Findings:
    """Submissions that are left today."""
    left = connect(_patient(settings)).quota()
    if left:
        yield Finding("quota", "ok", f"{left} submissions left today")
    else:
        remedy = f"nothing to do: it returns at {quota_returns()}, and a later night posts its champion"
        yield Finding("quota", "warning", "no submission is left today", remedy)


# The store


def look_at_store(settings: Settings) -> Findings:
    """Write, read, create-only, list and delete, with an object of our own that is removed again."""
    store = open_store(str(settings.store))
    key = f"{PROBES}{uuid.uuid4().hex}"
    ours, others = b"written by `flows doctor`", b"a second writer's"

    def read() -> Finding:
        if store.get(key) == ours:
            return Finding("store: read", "ok", "what was written comes back")
        remedy = "check the server behind MNIST_STORE: it answered without an error"
        return Finding("store: read", "failed", "what was written does not come back", remedy)

    def create_only() -> Finding:
        if not store.put(key, others):
            return Finding("store: create-only", "ok", "a second writer is refused")
        remedy = (
            "use a store that honours `If-None-Match: *` (S3 does): without it two runs could both post, "
            "and a version could be overwritten"
        )
        return Finding("store: create-only", "failed", "a second writer is not refused", remedy)

    def list_keys() -> Finding:
        if key in store.keys(PROBES) or written.state != "ok":
            return Finding("store: list", "ok", "keys are listed")
        remedy = "use a store that lists what was written at once (S3 does)"
        return Finding("store: list", "failed", "what was written is not listed", remedy)

    def write() -> Finding:
        if store.put(key, ours):
            return Finding("store: write", "ok", str(settings.store))
        return Finding("store: write", "failed", "a new key is refused as taken", "use another store")

    written = _attempt("store: write", write)
    yield written
    if written.state == "ok":
        yield _attempt("store: read", read)
        yield _attempt("store: create-only", create_only)
    yield _attempt("store: list", list_keys)
    try:
        store.delete(key)
        if isinstance(store, Folder):
            with suppress(OSError):  # another doctor is here
                (store.root / PROBES).rmdir()
    except StoreError as error:
        if written.state == "ok":
            found = f"{_explained('', error).found}; this look stays there"
            remedy = "nights delete nothing: give s3:DeleteObject to whoever runs `prune`"
            yield Finding("store: delete", "warning", found, remedy)
    else:
        if written.state == "ok":
            yield Finding("store: delete", "ok", "nothing of this look is left")


def _attempt(name: str, step: Callable[[], Finding]) -> Finding:
    try:
        return step()
    except StoreError as error:
        return _explained(name, error)


# Prefect


def _prefect_url(settings: Settings) -> str | None:
    """Prefect's API as a night finds it: what is set, or the server of `make ui`; None: there is none."""
    home = settings.home.absolute() / "prefect"
    if url := os.environ.get("PREFECT_API_URL") or running_server(home):
        return url
    if "PREFECT_HOME" not in os.environ:
        return None
    from prefect.settings import PREFECT_API_URL  # of a profile in that home

    return PREFECT_API_URL.value()


@asynccontextmanager
async def _prefect(url: str) -> AsyncIterator[Any]:
    """Prefect's client, which tries once and waits for `CALL_S`; its errors are ours."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import (
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        temporary_settings,
    )

    once = {PREFECT_API_URL: url, PREFECT_API_REQUEST_TIMEOUT: CALL_S, PREFECT_CLIENT_MAX_RETRIES: 0}
    where = _without_user(url)
    try:
        with temporary_settings(once):
            async with get_client() as client:
                yield client
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        remedy = (
            "check PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
            if status in (401, 403)
            else "check PREFECT_API_URL, which ends in /api or in /workspaces/ID"
        )
        raise MnistError(f"{where}: HTTP {status}; {remedy}") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise MnistError(
            f"{where}: no answer ({type(error).__name__}); start its server (`make ui`, or in the cloud the "
            "service `server`), or check PREFECT_API_URL"
        ) from None


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def look_at_prefect(settings: Settings) -> Findings:
    """The API answers, and its version goes with ours."""
    url = _prefect_url(settings)
    if url is None:
        remedy = "nights by hand need none; for the schedule: `make ui`, or set PREFECT_API_URL"
        yield Finding("Prefect API", "warning", "none: a night starts one of its own", remedy)
    else:
        yield Finding("Prefect API", *asyncio.run(_version(url)))


def look_at_pool(pool: str, settings: Settings) -> Findings:
    """The pool is there, and a worker looks after it."""
    if url := _prefect_url(settings):
        yield Finding(f"pool {pool}", *asyncio.run(_pool(url, pool)))


def look_at_deployments(settings: Settings) -> Findings:
    """The deployments are there."""
    if url := _prefect_url(settings):
        yield Finding("deployments", *asyncio.run(_deployments(url)))


def look_at_schedule(settings: Settings) -> Findings:
    """The night's schedule is active."""
    if url := _prefect_url(settings):
        yield Finding("schedule", *asyncio.run(_schedule(url)))


Told = tuple[State, str, str]


async def _version(url: str) -> Told:
    from prefect.client.base import ServerType

    async with _prefect(url) as client:
        ours = client.client_version()
        if client.server_type == ServerType.CLOUD:
            await client.read_work_pools(limit=1)  # it has no version, and is always new enough
            return "ok", f"Prefect Cloud, client {ours}", ""
        theirs = await client.api_version()
    told = f"{_without_user(url)}, version {theirs}"
    if theirs == ours:
        return "ok", told, ""
    state: State = "warning" if theirs.split(".")[0] == ours.split(".")[0] else "failed"
    return state, f"{told}; the client is {ours}", "install the same version on both sides"


async def _pool(url: str, pool: str) -> Told:
    from prefect.exceptions import ObjectNotFound

    async with _prefect(url) as client:
        try:
            found = await client.read_work_pool(pool)
        except ObjectNotFound:
            return "failed", "not there", "`make deployments` makes it"
        workers = await client.read_workers_for_work_pool(pool)
    if found.is_paused:
        return "failed", "paused", f"`prefect work-pool resume {pool}`"
    online = sum(worker.status == "ONLINE" for worker in workers)
    if online:
        return "ok", f"{found.type}, {online} worker{'s' if online > 1 else ''} online", ""
    offline = f" ({len(workers)} offline)" if workers else ""
    remedy = f"`prefect worker start --pool {pool}`, `make ui`, or in the cloud its service `worker`"
    return "failed", f"no worker is online{offline}", remedy


async def _deployments(url: str) -> Told:
    from prefect.exceptions import ObjectNotFound

    missing = []
    async with _prefect(url) as client:
        for name in DEPLOYMENTS:
            try:
                await client.read_deployment_by_name(name)
            except ObjectNotFound:
                missing.append(name)
    if missing:
        return "failed", f"not there: {', '.join(missing)}", "`make deployments` makes them"
    return "ok", ", ".join(DEPLOYMENTS), ""


async def _schedule(url: str) -> Told:
    from prefect.exceptions import ObjectNotFound

    name = DEPLOYMENTS[0]
    async with _prefect(url) as client:
        try:
            deployment = await client.read_deployment_by_name(name)
        except ObjectNotFound:
            return "warning", "not looked at", "first mend: deployments"
    if deployment.paused:
        return "warning", f"{name} is paused: no night starts by itself", "resume it in Prefect's UI"
    active = [_when(schedule.schedule) for schedule in deployment.schedules if schedule.active]
    if active:
        return "ok", ", ".join(active), ""
    if not deployment.schedules:
        return "warning", "none: no night starts by itself", "`make deployments` makes it"
    resume = f"`prefect deployment schedule resume {name} {deployment.schedules[0].id}`"
    return "warning", "paused: no night starts by itself", resume


def _when(schedule: Any) -> str:
    cron = getattr(schedule, "cron", None)
    return f"active: {cron} {schedule.timezone or 'UTC'}" if cron else "active"


# This machine


def look_at_gpu(settings: Settings) -> Findings:
    """What a training on this machine would run on."""
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 1e9
        yield Finding(
            "GPU", "ok", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GB, torch {torch.__version__}"
        )
        return
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
    remedy = (
        "`make setup` (without TORCH=cpu) and a driver that is new enough; `nvidia-smi` must show the GPU"
    )
    if settings.device == "cuda":
        found = f"none, and {PREFIX}DEVICE=cuda asks for one (torch is built for {built})"
        yield Finding("GPU", "failed", found, f"{remedy}; or set {PREFIX}DEVICE=auto")
    elif shutil.which("nvidia-smi"):
        yield Finding("GPU", "warning", f"nvidia-smi is here, torch (built for {built}) sees none", remedy)
    else:
        yield Finding("GPU", "ok", "none here: what trains on this machine trains on its CPU")


def look_at_home(settings: Settings) -> Findings:
    """The home can be written and has room."""
    home = settings.home.absolute()
    probe = home / f".write-{os.getpid()}"
    remedy = f"make room there, or set {PREFIX}HOME to a folder on another disk"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
        free = free_bytes(home)
    except OSError as error:
        found = f"{home}: {error.strerror}"
        yield Finding("home", "failed", found, f"set {PREFIX}HOME to a folder that you can write")
        return
    told = f"{home}: {free / 1e9:.1f} GB free"
    if free < DISK_NEEDED:
        yield Finding("home", "failed", f"{told}, a night needs {DISK_NEEDED / 1e9:.1f}", remedy)
    elif free < DISK_WANTED:
        yield Finding("home", "warning", f"{told}, which many nights fill", remedy)
    else:
        yield Finding("home", "ok", told)


def look_at_clock(settings: Settings) -> Findings:
    """This machine's clock against that of the competition's server."""
    if settings.kaggle == "practice":
        yield Finding("clock", "ok", "the practice competition has this machine's clock")
    else:
        yield _clock("clock", server_name(settings), connect(settings).url)


def look_at_s3_clock(settings: Settings) -> Findings:
    """The same against S3's, which refuses what is signed 15 minutes off."""
    store = open_store(str(settings.store))
    if isinstance(store, Bucket):
        yield _clock("clock, S3", "S3", store.url)


def _clock(name: str, server: str, url: str) -> Finding:
    import requests

    loopback = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    try:
        with requests.Session() as session:
            session.trust_env = not loopback  # loopback is never reached through a proxy
            asked = _now()
            answer = session.head(url, timeout=(CALL_S, CALL_S), allow_redirects=False)
            answered = _now()
        # The header has whole seconds, cut.
        theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5
    except (requests.RequestException, KeyError, ValueError) as error:
        found = f"{server} tells no time ({type(error).__name__})"
        return Finding(name, "warning", found, "is the server up? `timedatectl` shows whether NTP runs")
    off = (asked + answered) / 2 - theirs
    told = f"within {max(1.0, abs(off)):.0f} s of {server}'s"
    if abs(off) <= CLOCK_FINE_S + (answered - asked) / 2:
        return Finding(name, "ok", told)
    told = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} {server}'s"
    state: State = "failed" if abs(off) > CLOCK_FAILED_S else "warning"
    return Finding(name, state, told, "let NTP set it: `timedatectl set-ntp true`")


def _now() -> float:
    return time.time()


KAGGLE = ("kaggle", "competition", "home")
CHECKS = (
    Check("credentials", look_at_credentials, KAGGLE),
    Check("rules", look_at_rules, KAGGLE, needs="credentials"),
    Check("quota", look_at_quota, KAGGLE, needs="rules"),
    Check("store", look_at_store, ("store", "home")),
    Check("Prefect API", look_at_prefect, ("home",)),
    *(Check(f"pool {pool}", partial(look_at_pool, pool), ("home",), needs="Prefect API") for pool in POOLS),
    Check("deployments", look_at_deployments, ("home",), needs="Prefect API"),
    Check("schedule", look_at_schedule, ("home",), needs="Prefect API"),
    Check("GPU", look_at_gpu, ("device",)),
    Check("home", look_at_home, ("home",)),
    Check("clock", look_at_clock, KAGGLE),
    Check("clock, S3", look_at_s3_clock, ("store",)),
)
"""In the order in which they are told, and mended."""


# Told


def row(finding: Finding) -> Table:
    """A finding as a person reads it; its remedy stands below it."""
    words, style = {
        "ok": ("OK", "green"),
        "warning": ("warning", "yellow"),
        "failed": ("failed", "bold red"),
    }[finding.state]
    table = Table.grid(padding=(0, 2))
    table.add_column(width=7)
    table.add_column(width=18)
    table.add_column(overflow="fold")
    told = Text(finding.found)
    if finding.remedy:
        told.append(f"\n→ {finding.remedy}", style="bold" if finding.state == "failed" else "")
    table.add_row(Text(words, style=style), finding.check, told)
    return table


def summary(findings: list[Finding]) -> dict[str, Any]:
    """What `--json` prints: each finding, and how many there are of each state."""
    counts = {state: sum(f.state == state for f in findings) for state in ("ok", "warning", "failed")}
    return {"checks": [vars(finding) for finding in findings], **counts}
