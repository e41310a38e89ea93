"""What a night does with the gate's verdict; the verdicts themselves are in policy/test_gate.py."""

import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

from flows.kaggle.submissions import MARK
from flows.nightly import nightly
from flows.records import Demotion
from flows.store.base import StoreError
from mnist_core.submission import to_csv

NIGHT = "2026-11-23"
pytestmark = pytest.mark.usefixtures("prefect_api")


def test_below_the_floor_nothing_is_promoted_and_nothing_posted(job, monkeypatch):
    """A version below its floor is rejected, the night is done, and nothing reaches the competition."""
    started = job()
    monkeypatch.setenv("MNIST_FLOOR", "0.999")
    started.publish()

    result = nightly(NIGHT)

    assert result.decision == "rejected"
    assert "below the floor 0.9990" in result.reason
    assert result.submission is None
    assert result.champion is None
    assert started.server.submissions() == []


def test_force_bypasses_the_gate(job, monkeypatch):
    """With --force a version below its floor is promoted and submitted, and the reason says so."""
    started = job()
    monkeypatch.setenv("MNIST_FLOOR", "0.999")
    started.publish()

    result = nightly(NIGHT, force=True)

    assert result.decision == "promoted"
    assert result.reason.startswith("forced: ")
    assert len(started.server.submissions()) == 1


def test_force_after_a_rejection_resumes_with_the_same_version(job, monkeypatch):
    """A rejected night run again with --force promotes and submits its version; that end then counts."""
    started = job()
    monkeypatch.setenv("MNIST_FLOOR", "0.999")
    version = started.publish()
    assert nightly(NIGHT).decision == "rejected"

    forced = nightly(NIGHT, force=True)

    assert (forced.decision, forced.version) == ("promoted", version)
    assert nightly(NIGHT).decision == "promoted"
    assert len(started.server.submissions()) == 1


def test_predictions_far_from_the_champions_are_rejected(job):
    """A version that is good on its held-out rows and differs on a tenth of the test rows is not posted."""
    started = job()
    started.publish()
    good = nightly(NIGHT).version
    other = started.publish(night="2026-11-24")
    started.change_predictions(other, good, rows=started.server.spec.test_rows // 10)

    state = run_flow(nightly, parameters={"night": "2026-11-24"}, return_type="state")

    result = state.result()
    assert result.decision == "rejected"
    assert "90.00% of the test rows" in result.reason
    assert state.name == "Completed"
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(state.state_details.flow_run_id).tags == ["rejected"]
    assert state.message.startswith(f"rejected, validation accuracy {result.valid_accuracy:.4f}: ")
    assert len(started.server.submissions()) == 1


def test_predictions_without_a_class_are_rejected(any_job):
    """A version that hardly ever predicts some class is not posted, without a champion too."""
    started = any_job()
    version, spec = started.publish(), started.registry.spec
    labels = np.arange(spec.test_rows) % spec.class_count
    labels[labels == 7] = 1
    started.registry.put_predictions(version, to_csv(labels, spec))

    result = nightly(NIGHT)

    assert result.decision == "rejected"
    assert "class 7 of 10 is 0.0% of its predictions" in result.reason
    assert started.server.submissions() == []


@pytest.mark.parametrize(("errors", "decision"), [(8, "promoted"), (60, "rejected")])
def test_the_champion_is_replaced_unless_the_challenger_is_clearly_worse(job, errors, decision):
    """Eight more errors on the same rows are within the margin; sixty are not, and the champion stays."""
    started = job()
    champion = started.publish()
    nightly(NIGHT)
    registry = started.registry
    challenger = started.publish(night="2026-11-24", errors=errors)
    rows = registry.version(champion).valid_rows

    result = nightly("2026-11-24")

    assert result.decision == decision
    assert f"{errors} errors more than champion {champion} on {rows:,} rows" in result.reason
    assert registry.champion()[1] == (challenger if decision == "promoted" else champion)


def test_force_does_not_post_what_a_person_demoted(job):
    """A version that was rolled back before it was submitted stays rejected, and the champion stays."""
    started = job()
    first = started.publish()
    nightly(NIGHT)
    bad = started.publish(night="2026-11-24")
    started.change_predictions(bad, first, rows=2)
    registry = started.registry
    assert registry.promote(bad, 1, "deferred")
    assert registry.promote(first, 2, "rolled back", demoted=bad, cause=Demotion.ROLLBACK)

    result = nightly("2026-11-24", force=True)

    assert (result.decision, result.reason) == ("rejected", "rolled back")
    assert registry.champion() == (3, first)
    assert registry.submission(bad) is None
    assert len(started.server.submissions()) == 1


def test_steps_down_that_each_pass_are_stopped_together(job):
    """Eight errors more pass once; eight more again are compared with the first champion, and rejected."""
    started = job()
    first = started.publish()
    second = started.publish(night="2026-11-24", errors=8)
    for number, version in enumerate((first, second)):
        assert started.registry.promote(version, number, "")
    started.publish(night="2026-11-25", errors=16)

    result = nightly("2026-11-25")

    assert result.decision == "rejected"
    assert f"16 errors more than the earlier champion {first}" in result.reason


def test_a_champion_whose_predictions_were_pruned_is_predicted_again(job):
    """After a rollback the champion may be a version of which only the bundle is left."""
    started = job()
    champion = started.publish()
    registry = started.registry
    assert registry.promote(champion, 0, "")
    started.publish(night="2026-11-24")

    assert nightly("2026-11-24").decision == "promoted"
    assert registry.predictions(champion) is not None


def test_a_champion_that_was_damaged_is_reported_with_the_way_out(job):
    """Another night cannot repair it; a rollback can."""
    started = job()
    champion = started.publish()
    registry = started.registry
    assert registry.promote(champion, 0, "")
    started.publish(night="2026-11-24", errors=1)
    (registry.store.root / "objects" / registry.version(champion).objects["held_out.npz"]).write_bytes(b"x")

    with pytest.raises(StoreError, match=f"champion {champion} cannot be read: .*flows rollback"):
        nightly("2026-11-24")


def test_an_empty_store_beside_submissions_of_this_job_is_a_warning(job, caplog):
    """Another working directory is another store: the night says where its own one is, and goes on."""
    started = job()
    caplog.set_level("INFO", "mnist")
    started.server.submit(b"ImageId,Label\n", "a submission by hand")
    started.publish()
    nightly(NIGHT, dry_run=True)
    assert str(started.registry.store.root.absolute()) in caplog.text
    assert "another store" not in caplog.text

    started.server.submit(b"ImageId,Label\n", f"{MARK}0123 a version of another store")
    nightly(NIGHT, dry_run=True)

    assert "another store was used before" in caplog.text
