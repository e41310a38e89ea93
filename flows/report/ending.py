"""How a run ends on Prefect's server: the message of its state."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from flows.records import RunResult

if TYPE_CHECKING:
    from prefect import State

R = TypeVar("R")
_ended = threading.local()
"""The result of the flow that ended last in this thread, until `call_flow` has it."""


def end_state(result: RunResult, namespace: str) -> "State[RunResult]":
    """Return the Completed state of a run, from which whoever calls its flow gets the result.

    Its name stays `Completed`: Prefect's UI filters by names, and would hide a run with another one.

    Args:
        result: of the run.
        namespace: of the registry; it names the server that gave the score.
    """
    from prefect.states import Completed

    _ended.result = result
    return Completed(message=describe(result, namespace), data=result)


def call_flow(flow: Callable[..., R | "State[R]"], *given: Any, **named: Any) -> R:
    """Call a flow that ends with `end_state` and return its result.

    If the answer to the flow's last request is lost, Prefect's client sends it again; the server refuses a
    second end and answers with its own state, which has no result, and Prefect raises `MissingResult` for a
    run that is Completed. Then the result is the one that the flow ended with.
    """
    from prefect.exceptions import MissingResult

    _ended.result = None
    try:
        return flow(*given, **named)  # type: ignore[return-value]  # Prefect takes it out of the state
    except MissingResult:
        if _ended.result is None:
            raise
        return _ended.result
    finally:
        _ended.result = None


def describe(result: RunResult, namespace: str) -> str:
    """Return decision, score and reason in one line, as `promoted, practice score 0.99503: passes the gate`.

    Args:
        result: of the run.
        namespace: of the registry; it names the server that gave the score.
    """
    what = result.decision.value if result.decision else result.version or "nothing"
    score = _score(result, namespace)
    reason = f": {result.reason}" if result.reason else ""
    return f"{what}, {score}{reason}"


def _score(result: RunResult, namespace: str) -> str:
    made = result.submission
    if made is None:
        accuracy = result.valid_accuracy
        return "not submitted" if accuracy is None else f"validation accuracy {accuracy:.4f}"
    name = score_name(namespace)
    return f"{name} not known yet" if made.public_score is None else f"{name} {made.public_score:.5f}"


def score_name(namespace: str) -> str:
    """Return what a score is called: `public score` on kaggle.com, else `practice score`."""
    return "public score" if namespace.split("/")[0] == "kaggle" else "practice score"


def short(namespace: str) -> str:
    """Return a namespace for a person: twelve digits of its data's digest tell it from others."""
    place, _, digest = namespace.rpartition("/")
    return f"{place}/{digest[:12]}"
