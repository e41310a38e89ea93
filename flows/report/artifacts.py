"""What a run leaves on Prefect's server: artifacts and a tag. None of it may fail the run."""

import base64
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from flows.ops.deployments import competition_of, own_name
from flows.records import Decision
from flows.report import history
from flows.report.history import Entry
from flows.report.scorecard import Scorecard

log = logging.getLogger("mnist")


@contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Log that something could not be put on Prefect's server, and go on."""
    import httpx

    try:
        yield
    except httpx.HTTPError as error:
        log.warning("no %s on Prefect's server: %s", what, type(error).__name__)


def put_scorecard(card: Scorecard, pictures: Mapping[str, bytes]) -> str | None:
    """Leave a scorecard as an artifact of this run.

    Args:
        card: the scorecard.
        pictures: PNG files by name, shown in it.

    Returns:
        Its page in Prefect's UI; None without one: a command's temporary server has no UI.
    """
    from prefect.artifacts import create_markdown_artifact
    from prefect.runtime import deployment
    from prefect.settings import PREFECT_UI_URL

    embedded = {
        name: "data:image/png;base64," + base64.b64encode(content).decode()
        for name, content in pictures.items()
    }
    with best_effort("scorecard"):
        made = create_markdown_artifact(
            card.markdown(embedded),
            key=own_name("scorecard", competition_of(card.namespace)),
            description=f"{card.result.night}: {card.result.decision}",
        )
        ui = PREFECT_UI_URL.value()
        if deployment.id is not None and ui:
            return f"{ui.rstrip('/')}/artifacts/artifact/{made}"  # `url_for` knows no artifacts
    return None


def put_history(entries: list[Entry], namespace: str) -> None:
    """Leave the history of all nights as an artifact of this run; nothing before the first night."""
    from prefect.artifacts import create_markdown_artifact

    if not entries:
        return
    with best_effort("history"):
        create_markdown_artifact(
            history.markdown(entries, namespace),
            key=own_name("history", competition_of(namespace)),
            description=f"{history.count_of(entries)}, the last {entries[-1].night} {entries[-1].decision}",
        )


def tag_with(decision: Decision) -> None:
    """Tag this run with its decision, which the lists of Prefect's UI show; an earlier one is removed."""
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with best_effort("tag"), get_client(sync_client=True) as client:
        known = set(client.read_flow_run(context.flow_run.id).tags) - {other.value for other in Decision}
        client.update_flow_run(context.flow_run.id, tags=sorted({*known, decision.value}))
