"""How a run ends on Prefect's server: the name and the message of its state."""

import pytest

from flows.ops.automations import ENDS
from flows.records import Decision, RunResult, Status, SubmissionResult
from flows.report.ending import STATE_NAMES, describe, end_state

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
    """Its message, and in its name the decision alone; the score is called what it is."""
    state = end_state(given, namespace)

    assert describe(given, namespace) == state.message == words
    assert state.is_completed()
    assert state.name == ("Completed" if given.decision is None else STATE_NAMES[given.decision])
    assert state.data == given


def test_what_waits_for_the_end_of_a_run_knows_these_names():
    """The event of a state has its name: a promoted night would otherwise count as dead after two minutes."""
    assert set(STATE_NAMES) == set(Decision) - {Decision.FAILED}
    assert set(STATE_NAMES.values()) < set(ENDS)
