"""Checks of Prefect: the API, pools with their workers, deployments and the schedule."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.ops.deployments import deployments_of
from flows.ops.doctor.finding import Finding, Findings, State
from flows.ops.prefect_home import running_server
from flows.ops.server_settings import GIVEN, offer_login
from flows.ops.status import NIGHTS, open_registry
from flows.policy.night import seconds_since_the_last
from flows.settings import Settings, SettingsError
from mnist_core.errors import MnistError

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

STUCK_S = 600.0
"""Seconds after which a run that is Pending or Cancelling is stuck; on the GPU pool MNIST_GPU_START_S."""
CALL_S, BUSY_WAIT_S = 8.0, 0.3
"""Seconds that the API may be silent or busy, and the wait before a busy one is asked again."""
_WEBSOCKETS = "let the proxy pass WebSockets (nginx: the headers Upgrade and Connection), or set NO_PROXY"
_SOCKS = (
    "set HTTPS_PROXY to an http:// proxy, or name the API's host in NO_PROXY: Prefect's client opens no "
    "WebSocket through a SOCKS proxy"
)


def check_api(settings: Settings) -> Findings:
    """Check that the API answers, and that its version matches the client's."""
    url = _api_url(settings)
    if url is None:
        remedy = "run `make ui`, or set PREFECT_API_URL, for the schedule"
        yield Finding.note("Prefect API", "not set: a run starts a temporary one", remedy)
    else:
        yield _answered(_check_version, url)


def check_events(settings: Settings) -> Findings:
    """Check that events, heartbeats among them, reach the server over a WebSocket."""
    url = _api_url(settings)
    if url is None:
        return
    from prefect.settings import temporary_settings

    from flows.ops.heartbeat import events_fault

    with temporary_settings(_address(url)):
        fault = events_fault()
    if fault is None:
        yield Finding.ok("Prefect events", "a WebSocket opens")
        return
    yield Finding.warning(
        "Prefect events",
        f"blocked, so that heartbeats are sent over HTTP, and notifications may be missed: {fault}",
        _SOCKS if _is_behind_socks(url) else _WEBSOCKETS,
    )


def _is_behind_socks(url: str) -> bool:
    """Return whether the environment names a SOCKS proxy for an API."""
    from requests.utils import get_environ_proxies, select_proxy

    return (select_proxy(url, get_environ_proxies(url)) or "").lower().startswith("socks")


def check_pool(pool: str, settings: Settings) -> Findings:
    """Check that the pool exists and has an online worker."""
    if url := _api_url(settings):
        yield _answered(_check_pool, url, pool)


def check_deployments(settings: Settings) -> Findings:
    """Check that the deployments exist."""
    if url := _api_url(settings):
        yield _answered(_check_deployments, url, deployments_of(settings.competition))


def check_schedule(settings: Settings) -> Findings:
    """Check that the schedule of the nightly run is active."""
    if url := _api_url(settings):
        yield _answered(_check_schedule, url, deployments_of(settings.competition)[0])


def check_runs(settings: Settings) -> Findings:
    """Check that no run keeps the place of others without starting or ending."""
    if url := _api_url(settings):
        yield _answered(_check_runs, url, settings)


def check_last_night(settings: Settings) -> Findings:
    """Check in the store, which needs no server, that a scheduled night has ended well lately."""
    check = "last night"
    try:
        silent_s = seconds_since_the_last(open_registry(settings).nights(NIGHTS), datetime.now(UTC))
    except SettingsError:
        silent_s = None
    if silent_s is None:
        yield Finding.ok(check, "none has ended yet")
        return
    if silent_s <= settings.silence_s:
        yield Finding.ok(check, f"the last one that ended well did so {silent_s / 3600:.1f} hours ago")
        return
    found = f"none has ended well for {silent_s / 3600:.1f} hours"
    if not _is_scheduled(_api_url(settings), settings.competition):
        yield Finding.ok(check, f"{found}; no schedule is active")
        return
    remedy = "check schedule, pools and workers above, and in the UI how the last run ended"
    yield Finding.failed(check, f"{found} (MNIST_SILENCE_S={settings.silence_s:.0f})", remedy)


def _is_scheduled(url: str | None, competition: str) -> bool:
    """Return whether nights start by themselves; they should, if there is an API that cannot say."""
    if url is None:
        return False
    try:
        return asyncio.run(_has_schedule(url, deployments_of(competition)[0]))
    except MnistError:
        return True


async def _has_schedule(url: str, name: str) -> bool:
    from prefect.exceptions import ObjectNotFound

    async with _connect(url) as client:
        try:
            deployment = await client.read_deployment_by_name(name)
        except ObjectNotFound:
            return False
    return not deployment.paused and any(schedule.active for schedule in deployment.schedules)


def _api_url(settings: Settings) -> str | None:
    """Return the API that a run would use: the one set, or the server of `make ui`; None: a temporary one."""
    home = settings.home.absolute() / "prefect"
    if url := running_server(home):
        offer_login(home, url)
    if url := os.environ.get("PREFECT_API_URL") or url:
        return url
    if "PREFECT_HOME" not in os.environ:
        return None
    from prefect.settings import PREFECT_API_URL  # of a profile in that home

    return PREFECT_API_URL.value()


def _answered(check: Callable[..., Coroutine[Any, Any, Finding]], *arguments: Any) -> Finding:
    """Return what a check finds; while the API is too busy for it, it is repeated.

    SQLite locks the whole database while somebody writes, and the API answers 503 to whoever comes then.
    """
    deadline = time.monotonic() + CALL_S
    while True:
        try:
            return asyncio.run(check(*arguments))
        except MnistError as error:
            if not error.retryable or time.monotonic() > deadline:
                raise
        time.sleep(BUSY_WAIT_S)


@asynccontextmanager
async def _connect(url: str) -> "AsyncIterator[PrefectClient]":
    """Give Prefect's client, which tries once and waits for `CALL_S`.

    Raises:
        MnistError: the API does not answer, or refuses; retryable if it is only busy.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    once = _address(url) | {PREFECT_API_REQUEST_TIMEOUT: CALL_S, PREFECT_CLIENT_MAX_RETRIES: 0}
    where = _without_user(url)
    try:
        with temporary_settings(once):
            async with get_client() as client:
                yield client
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        busy = status in (429, 502, 503)
        remedy = "check PREFECT_API_URL, which ends in /api or in /workspaces/ID"
        if busy:
            remedy = "try again later: the API is too busy to answer"
        elif status in (401, 403):
            remedy = "check PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
        raise MnistError(f"{where}: HTTP {status}", remedy, retryable=busy) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise MnistError(
            f"{where}: no answer ({type(error).__name__})",
            "start its server (`make ui`, or in the cloud the service `server`), or check PREFECT_API_URL",
        ) from None


def _address(url: str) -> dict[Any, Any]:
    """Return Prefect's settings for an API; its login may be newer than what Prefect has read."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

    login = os.environ.get(GIVEN)
    return {PREFECT_API_URL: url} | ({} if login is None else {PREFECT_API_AUTH_STRING: login})


def _without_user(url: str) -> str:
    """Return a URL without user, password and query, which may be secret."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


async def _check_version(url: str) -> Finding:
    from prefect.client.base import ServerType

    name = "Prefect API"
    async with _connect(url) as client:
        ours = client.client_version()
        if client.server_type == ServerType.CLOUD:
            await client.read_work_pools(limit=1)  # it states no version, and is always recent enough
            return Finding.ok(name, f"Prefect Cloud, client {ours}")
        theirs = await client.api_version()
    found = f"{_without_user(url)}, version {theirs}"
    if theirs == ours:
        return Finding.ok(name, found)
    same_major = theirs.split(".")[0] == ours.split(".")[0]
    state = State.WARNING if same_major else State.FAILED
    return Finding(name, state, f"{found}; the client is {ours}", "install the same version on both sides")


async def _check_pool(url: str, pool: str) -> Finding:
    from prefect.exceptions import ObjectNotFound

    name = f"pool {pool}"
    async with _connect(url) as client:
        try:
            found = await client.read_work_pool(pool)
        except ObjectNotFound:
            return Finding.failed(name, "does not exist", "create it with `make deployments`")
        workers = await client.read_workers_for_work_pool(pool)
    if found.is_paused:
        return Finding.failed(name, "paused", f"`prefect work-pool resume {pool}`")
    online = sum(worker.status == "ONLINE" for worker in workers)
    if online:
        return Finding.ok(name, f"{found.type}, {online} worker{'s' if online > 1 else ''} online")
    offline = f" ({len(workers)} offline)" if workers else ""
    remedy = (
        f"start one with `prefect worker start --pool {pool}` or `make ui`, "
        "or in the cloud the service `worker`"
    )
    return Finding.failed(name, f"no worker is online{offline}", remedy)


async def _check_deployments(url: str, names: Sequence[str]) -> Finding:
    from prefect.exceptions import ObjectNotFound

    missing = []
    async with _connect(url) as client:
        for name in names:
            try:
                await client.read_deployment_by_name(name)
            except ObjectNotFound:
                missing.append(name)
    if missing:
        found = f"missing: {', '.join(missing)}"
        return Finding.failed("deployments", found, "create them with `make deployments`")
    return Finding.ok("deployments", ", ".join(names))


async def _check_schedule(url: str, name: str) -> Finding:
    from prefect.exceptions import ObjectNotFound

    check = "schedule"
    async with _connect(url) as client:
        try:
            deployment = await client.read_deployment_by_name(name)
        except ObjectNotFound:
            return Finding.skipped(check, "deployments")
    if deployment.paused:
        return Finding.warning(check, f"{name} is paused: no run starts by itself", "resume it in the UI")
    active = [_when(schedule.schedule) for schedule in deployment.schedules if schedule.active]
    if active:
        return Finding.ok(check, ", ".join(active))
    if not deployment.schedules:
        return Finding.warning(check, "missing: no run starts by itself", "create it with `make deployments`")
    resume = f"`prefect deployment schedule resume {name} {deployment.schedules[0].id}`"
    return Finding.warning(check, "paused: no run starts by itself", resume)


def _when(schedule: Any) -> str:
    cron = getattr(schedule, "cron", None)
    return f"active: {cron} {schedule.timezone or 'UTC'}" if cron else "active"


async def _check_runs(url: str, settings: Settings) -> Finding:
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.exceptions import ObjectNotFound

    check, running = "runs", 0
    async with _connect(url) as client:
        for name in deployments_of(settings.competition):
            try:
                deployment = await client.read_deployment_by_name(name)
            except ObjectNotFound:
                continue
            active = {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}
            wanted = {"deployment_id": {"any_": [deployment.id]}, "state": active}
            runs = await client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))
            patience_s = settings.gpu_start_s if deployment.work_pool_name == "gpu" else STUCK_S
            for run in runs:
                state, stuck_s = _stuck(run)
                if stuck_s > patience_s:
                    found = f"{run.name} of {name} is {state} for {stuck_s / 60:.0f} minutes"
                    return Finding.failed(
                        check,
                        f"{found}: its process or machine is gone",
                        f"`prefect flow-run delete {run.id}` frees its place at once",
                    )
            limit = deployment.global_concurrency_limit
            if limit is not None and limit.active_slots > len(runs):
                free = f"prefect global-concurrency-limit update {limit.name} --active-slots {len(runs)}"
                found = f"{name} has {limit.active_slots} of {limit.limit} places taken, by {len(runs)} runs"
                return Finding.warning(check, found, f"wait five minutes, until they are freed; or `{free}`")
            running += len(runs)
    return Finding.ok(check, f"{running} under way, and none that is stuck")


def _stuck(run: Any) -> tuple[str, float]:
    """Return a run's state, and for how many seconds it has neither started nor ended; 0 if it runs."""
    if run.state is None or run.state.is_running():
        return "", 0.0
    return run.state.name, float((datetime.now(UTC) - run.state.timestamp).total_seconds())
