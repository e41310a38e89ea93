"""How a run ends on Prefect's server: the message of its state, and a tag with the decision."""

import httpx
import pytest
from prefect import flow, tags
from prefect.client.orchestration import get_client

from flows.records import Decision, RunResult, Status, SubmissionResult
from flows.report.artifacts import tag_with
from flows.report.ending import call_flow, describe, end_state

PRACTICE, KAGGLE = "practice/digit-recognizer/0123", "kaggle/digit-recognizer/0123"


def result(decision, score=None, status=Status.COMPLETE, submitted=True):
    """The result of a run."""
    made = SubmissionResult(ref=5, status=status, public_score=score, posted=True) if submitted else None
    return RunResult(version="v", valid_accuracy=0.9912, decision=decision, reason="why", submission=made)


@pytest.mark.parametrize(
    ("given", "namespace", "words"),
    [
        (result(Decision.PROMOTED, 0.99503), PRACTICE, "promoted, practice score 0.99503: why"),
        (result(Decision.PROMOTED, 0.99503), "127.0.0.1_9/x/0", "promoted, practice score 0.99503: why"),
        (result(Decision.PROMOTED, 0.99503), KAGGLE, "promoted, public score 0.99503: why"),
        (result(Decision.PROMOTED), KAGGLE, "promoted, public score not known yet: why"),
        (result(Decision.REJECTED, submitted=False), KAGGLE, "rejected, validation accuracy 0.9912: why"),
        (result(Decision.DRY_RUN, submitted=False), KAGGLE, "dry-run, validation accuracy 0.9912: why"),
        (result(None, 0.99503), PRACTICE, "v, practice score 0.99503: why"),
        (RunResult(decision=Decision.REJECTED, reason="why"), KAGGLE, "rejected, not submitted: why"),
    ],
)
def test_a_runs_state_says_decision_and_score(given, namespace, words):
    """The score is called what it is; the name stays, since the UI hides runs whose state has another one."""
    state = end_state(given, namespace)

    assert describe(given, namespace) == state.message == words
    assert state.is_completed()
    assert state.name == "Completed"
    assert state.data == given


@pytest.mark.usefixtures("prefect_api")
def test_a_run_has_the_tag_of_its_last_decision():
    """Beside its other tags: a night that was deferred and is promoted later is not both."""

    @flow
    def night():
        from prefect.runtime import flow_run

        tag_with(Decision.DEFERRED)
        tag_with(Decision.PROMOTED)
        return flow_run.id

    with tags("mnist"):
        run = night()

    with get_client(sync_client=True) as client:
        assert set(client.read_flow_run(run).tags) == {"mnist", "promoted"}


@pytest.mark.usefixtures("prefect_api")
def test_a_lost_answer_to_the_last_request_costs_no_result(monkeypatch):
    """Prefect sends the end of a run again and is refused; the flow's result is returned all the same."""
    send, refused = httpx.Client.send, []

    def send_twice(client, request, **options):
        answer = send(client, request, **options)
        if request.url.path.endswith("set_state") and b"COMPLETED" in request.content:
            answer = send(client, request, **options)  # the first answer was lost
            refused.append(answer.json()["status"])
        return answer

    monkeypatch.setattr(httpx.Client, "send", send_twice)
    done = RunResult(version="2026-11-23-convnet-0123abcd", reason="trained")

    @flow
    def inner():
        return end_state(done, "practice/digits-mini/0123")

    @flow
    def outer():
        return end_state(call_flow(inner), "practice/digits-mini/0123")

    assert call_flow(outer) == done
    assert refused == ["REJECT", "REJECT"]
