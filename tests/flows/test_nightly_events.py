"""The event that a night leaves on Prefect's server, which notifications rest on."""

import prefect.events
import pytest

from flows.kaggle.errors import SubmissionRefusedError
from flows.nightly import nightly

NIGHT = "2026-11-23"
pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def events(monkeypatch):
    """The events that were emitted, as `(name, resource, payload)`."""
    emitted = []
    emit = prefect.events.emit_event

    def listen(event, resource, payload):
        emitted.append((event, resource, payload))
        return emit(event, resource=resource, payload=payload)

    monkeypatch.setattr(prefect.events, "emit_event", listen)
    return emitted


def ends(events):
    """The payloads of the nights that ended."""
    return [payload for name, _, payload in events if name == "mnist.night.ended"]


def test_a_night_that_ends_emits_its_decision_once_and_a_dry_run_nothing(job, events):
    """Neither a dry run nor a finished night run again resets the silence timer; the store has the time."""
    started = job()
    version = started.publish()

    nightly(NIGHT, dry_run=True)
    assert ends(events) == []
    result = nightly(NIGHT)
    nightly(NIGHT)

    [payload] = ends(events)
    assert payload == {
        "night": NIGHT, "model": "convnet", "decision": "promoted", "version": version,
        "public_score": result.submission.public_score, "reason": result.reason,
    }  # fmt: skip
    [resource] = [resource for name, resource, _ in events if name == "mnist.night.ended"]
    assert resource["prefect.resource.id"] == f"mnist-nightly.{started.registry.namespace}"
    assert resource["mnist.decision"] == "promoted"
    [ended] = started.registry.nights()
    assert ended.at is not None


def test_a_night_whose_submission_is_refused_ends_as_failed(job, events):
    """Its decision is `failed`, so that it does not count as a good night."""
    started = job()
    started.publish()
    started.server.fault("score-error")

    with pytest.raises(SubmissionRefusedError):
        nightly(NIGHT)

    assert [payload["decision"] for payload in ends(events)] == ["failed"]
