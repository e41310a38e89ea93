"""The event that a night leaves on Prefect's server, which notifications rest on."""

from uuid import uuid4

import prefect.events
import pytest

from flows.events import NEWS
from flows.kaggle.errors import SubmissionRefusedError
from flows.nightly import nightly
from flows.ops.automations import Name, automations
from flows.settings import Settings

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
    assert resource["prefect.resource.id"] == "mnist.nightly"
    assert resource["mnist.namespace"] == started.registry.namespace
    assert resource["mnist.decision"] == "promoted"
    [ended] = started.registry.nights()
    assert ended.at is not None


def test_a_scheduled_night_that_a_person_ran_before_emits_its_decision_again(job, events, monkeypatch):
    """The next one is due a day after it: the hours of silence do not count from the earlier run."""
    started = job()
    started.publish()
    nightly(NIGHT)
    monkeypatch.setattr("flows.nightly.is_scheduled", lambda: True)

    nightly(NIGHT)
    looked = nightly(NIGHT, dry_run=True)

    assert looked.reason.endswith("(decided before: this dry run changed nothing)")
    first, second = ends(events)
    assert first == second


def test_a_night_whose_submission_is_refused_ends_as_failed(job, events):
    """Its decision is `failed`, so that it does not count as a good night."""
    started = job()
    started.publish()
    started.server.fault("score-error")

    with pytest.raises(SubmissionRefusedError):
        nightly(NIGHT)

    assert [payload["decision"] for payload in ends(events)] == ["failed"]


def unbeaten(events):
    """The reasons for which a person must look at the champion."""
    return [payload["reason"] for name, _, payload in events if name == "mnist.champion.unbeaten"]


def test_rejections_in_a_row_are_notified(job, events, monkeypatch):
    """At the second one here, and not at the first; each night's entry has the count."""
    monkeypatch.setenv("MNIST_REJECTIONS", "2")
    started = job()
    assert started.registry.promote(started.publish(), 0, "")
    notified = []
    for night in ("2026-11-24", "2026-11-25"):
        started.publish(night=night, errors=60)
        nightly(night)
        notified.append(len(unbeaten(events)))

    assert notified == [0, 1]
    assert unbeaten(events)[0].startswith("2 nights in a row were rejected: 60 errors more")


def test_a_champion_that_only_the_agreement_keeps_is_notified_at_once(job, events):
    """The challenger is as good on the held-out rows: one of the two predicts wrongly."""
    started = job()
    started.publish()
    good = nightly(NIGHT).version
    other = started.publish(night="2026-11-24")
    started.change_predictions(other, good, rows=started.server.spec.test_rows // 10)

    assert nightly("2026-11-24").decision == "rejected"

    [reason] = unbeaten(events)
    assert "it or the champion predicts wrongly" in reason


def test_news_of_the_champion_is_notified():
    """A promotion, a demotion, and a champion that a person must look at."""
    [champion] = [entry for entry in automations(Settings(), uuid4(), []) if entry.name == Name.CHAMPION]

    news = ("promoted", "rolled-back", "unbeaten")
    assert champion.trigger.expect == {f"mnist.champion.{event}" for event in news}
    assert len({NEWS[event] for event in news}) == len(news)
    assert champion.actions[0].subject.startswith("{{ event.payload.news }} {{ event.payload.version }}")
