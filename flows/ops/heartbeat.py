"""Heartbeats of a deployed run whose events cannot travel as Prefect sends them, over a WebSocket.

A proxy that passes HTTP but no WebSocket would otherwise make the server count a healthy run as dead.
"""

import asyncio
import contextvars
import logging
import threading

import httpx
from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event, RelatedResource, Resource
from prefect.events.clients import get_events_client
from prefect.exceptions import ObjectNotFound

log = logging.getLogger("mnist")
EVERY_S = 30.0
"""Seconds between heartbeats, as PREFECT_FLOWS_HEARTBEAT_FREQUENCY of prefect.yaml."""
CONNECT_S = 20.0
"""Seconds within which the WebSocket must open."""


def keep_alive(run: FlowRun, every_s: float = EVERY_S) -> threading.Thread:
    """Send heartbeats over HTTP in the background until this run ends, if its WebSocket is blocked.

    Returns:
        The thread; it ends at once if the WebSocket opens, and never keeps the process.
    """
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(_keep_alive, run, every_s), daemon=True)
    thread.start()
    return thread


def events_fault() -> str | None:
    """Return why no event can be sent over the WebSocket of PREFECT_API_URL; None if one can."""

    async def connect() -> None:
        async with asyncio.timeout(CONNECT_S), get_events_client(reconnection_attempts=0):  # with its login
            pass

    logger = logging.getLogger("prefect.events.clients")
    logger.addFilter(_silent)  # it would warn as well
    try:
        asyncio.run(connect())
    except Exception as error:  # of the network, the proxy, TLS or the handshake
        return f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        logger.removeFilter(_silent)
    return None


def _silent(_record: logging.LogRecord) -> bool:
    return False


def _keep_alive(run: FlowRun, every_s: float) -> None:
    with get_client(sync_client=True) as client:
        if client.server_type == ServerType.CLOUD or (fault := events_fault()) is None:
            return
        log.warning("Prefect's events are blocked (%s); heartbeats are sent over HTTP instead", fault)
        wait = threading.Event()
        while _beat(client, run):
            wait.wait(every_s)


def _beat(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Send a heartbeat; return whether the run still needs the next one."""
    event = Event(
        event="prefect.flow-run.heartbeat",
        resource=Resource({"prefect.resource.id": f"prefect.flow-run.{run.id}"}),
        related=[
            RelatedResource(
                {
                    "prefect.resource.id": f"prefect.deployment.{run.deployment_id}",
                    "prefect.resource.role": "deployment",
                }
            )
        ],
    )
    try:
        state = client.read_flow_run(run.id).state
        if state is not None and state.is_final():
            return False
        client.request("POST", "/events", json=[event.model_dump(mode="json")])
    except ObjectNotFound:
        return False
    except httpx.HTTPError as error:
        log.debug("no heartbeat: %s", error)
    return True
