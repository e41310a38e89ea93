"""The night on a real Prefect API, a real store and the practice competition: each decision, each bad end."""

import json
import logging
import resource
import signal
import threading
import time

import numpy as np
import pytest

from flows import lease
from flows import submit as submit_module
from flows.kaggle.errors import CompetitionError, SubmissionRefusedError, SubmissionUnknownError
from flows.nightly import AlarmError, nightly
from flows.prune import prune
from flows.publish import seed_of
from flows.records import Demotion, RunKey
from flows.settings import SettingsError
from flows.store.base import StoreError
from flows.submit import submit
from flows.train import train
from mnist_core.errors import BundleError
from mnist_core.models.resnet import fit as resnet
from mnist_core.spec import DIGITS_MINI
from mnist_core.submission import read_csv, to_csv

NIGHT = "2026-11-23"
pytestmark = pytest.mark.usefixtures("prefect_api")


def test_a_night_trains_promotes_submits_and_reports(job, monkeypatch):
    """On the large competition: data, an epoch, version, champion, one submission, its score, told twice."""
    started = job(competition="digit-recognizer")
    monkeypatch.setenv("MNIST_EPOCHS", "1")

    result = nightly(NIGHT)

    registry = started.registry
    assert result.decision == "promoted"
    assert registry.champion() == (1, result.version)
    assert result.champion.version == result.version
    assert result.submission.posted
    assert result.submission.status == "COMPLETE"
    assert abs(result.submission.public_score - result.valid_accuracy) < 0.02
    assert result.valid_accuracy > 0.97
    assert list(result.seconds) == ["download", "read", "train", "publish", "predict", "submit"]
    [listed] = started.server.submissions()
    assert listed["ref"] == result.submission.ref
    assert result.version in listed["description"]
    report = started.home / "home" / "reports" / NIGHT / "convnet-fast-e1" / "000001"
    assert {path.name for path in report.iterdir()} == {
        "scorecard.md", "hardest.png", "confusion.png", "submission.csv",
    }  # fmt: skip
    assert result.version in (report / "scorecard.md").read_text()
    json.dumps(result.to_json())
    assert list(nightly(NIGHT).seconds) == list(result.seconds)


def test_a_finished_night_run_again_does_nothing_and_tells_the_first_result(job):
    """The same night again adopts everything, posts nothing, and gives its first decision."""
    started = job()
    started.publish()
    first = nightly(NIGHT)

    again = nightly(NIGHT)

    assert first.submission.posted
    assert not again.submission.posted
    for key in ("decision", "version", "reason", "champion", "seconds"):
        assert getattr(again, key) == getattr(first, key)
    assert again.submission.public_score == first.submission.public_score
    assert len(started.server.submissions()) == 1


def test_a_night_keeps_all_it_knows_in_s3(job, s3, monkeypatch):
    """With a bucket as store the night, run again after faults too, ends as it does with a folder."""
    started = job()
    monkeypatch.setenv("MNIST_STORE", f"s3://{s3.bucket}/jobs")
    started.publish()
    s3.faults += ["503", "reset"]

    first = nightly(NIGHT)
    again = nightly(NIGHT)

    assert first.decision == again.decision == "promoted"
    assert first.submission.posted
    assert not again.submission.posted
    assert len(started.server.submissions()) == 1
    assert started.registry.champion() == (1, first.version)
    assert not (started.home / "home" / "store").exists()


def test_below_the_floor_nothing_is_promoted_and_nothing_posted(job, monkeypatch):
    """A version below its floor is rejected, the night is done, and the competition hears nothing."""
    started = job()
    monkeypatch.setenv("MNIST_FLOOR", "0.999")
    started.publish()

    result = nightly(NIGHT)

    assert result.decision == "rejected"
    assert "below the floor 0.9990" in result.reason
    assert result.submission is None
    assert result.champion is None
    assert started.server.submissions() == []


def test_force_passes_the_gate(job, monkeypatch):
    """With --force a version below its floor is promoted and submitted, and the reason says so."""
    started = job()
    monkeypatch.setenv("MNIST_FLOOR", "0.999")
    started.publish()

    result = nightly(NIGHT, force=True)

    assert result.decision == "promoted"
    assert result.reason.startswith("forced: ")
    assert len(started.server.submissions()) == 1


def test_force_after_a_rejection_goes_on_with_the_same_version(job, monkeypatch):
    """A rejected night run again with --force promotes and submits what it trained; that end then holds."""
    started = job()
    monkeypatch.setenv("MNIST_FLOOR", "0.999")
    version = started.publish()
    assert nightly(NIGHT).decision == "rejected"

    forced = nightly(NIGHT, force=True)

    assert (forced.decision, forced.version) == ("promoted", version)
    assert nightly(NIGHT).decision == "promoted"
    assert len(started.server.submissions()) == 1


def predict_wrongly(started, version, like, every):
    """Give a version the predictions of another one, each `every`-th row changed."""
    labels = read_csv(started.registry.predictions(like), DIGITS_MINI)
    labels[::every] = (labels[::every] + 1) % 10
    started.registry.put_predictions(version, to_csv(labels, DIGITS_MINI))


def test_a_score_far_below_the_champions_rolls_it_back(job, monkeypatch):
    """The alarm fails the night each time it is run; the old champion holds again, the next night runs."""
    started = job()
    monkeypatch.setenv("MNIST_AGREEMENT", "0.8")
    started.publish()
    good = nightly(NIGHT)
    bad = started.publish(night="2026-11-24")
    predict_wrongly(started, bad, good.version, every=10)

    for posted in (True, False):
        with pytest.raises(AlarmError, match=f"alarm: public score .* of {bad} .*50 rows") as caught:
            nightly("2026-11-24")
        assert caught.value.result.decision == "failed"
        assert caught.value.result.submission.posted is posted
        assert caught.value.result.champion.version == good.version
        assert not caught.value.retryable

    champions = started.registry.champions()
    assert [entry.version for entry in champions] == [good.version, bad, good.version]
    assert (champions[2].demoted, champions[2].cause) == (bad, Demotion.ALARM)
    assert len(started.server.submissions()) == 2
    started.publish(night="2026-11-25")
    assert nightly("2026-11-25").decision == "promoted"


def test_a_score_that_comes_late_rolls_back_in_the_next_night(job, monkeypatch):
    """The next night reads the score, takes the title back, and goes on with its own version."""
    started = job(score_seconds=2.0)
    monkeypatch.setenv("MNIST_AGREEMENT", "0.8")
    started.publish()
    good = nightly(NIGHT).version
    bad = started.publish(night="2026-11-24")
    predict_wrongly(started, bad, good, every=10)
    monkeypatch.setenv("MNIST_SCORE_WAIT_S", "0")
    started.server.scored(nightly("2026-11-24").submission.ref)

    next_one = started.publish(night="2026-11-25")
    with pytest.raises(AlarmError) as caught:  # it is told once, after the night has done its own work
        nightly("2026-11-25")
    assert caught.value.result.decision == "promoted"
    assert nightly("2026-11-25").decision == "promoted"

    champions = [entry.version for entry in started.registry.champions()]
    assert champions == [good, bad, good, next_one]
    with pytest.raises(AlarmError):
        nightly("2026-11-24")


def test_a_score_a_little_lower_is_no_alarm(job):
    """A champion that lost a few rows of those on which the two differ stays champion."""
    started = job()
    started.publish()
    good = nightly(NIGHT).version
    other = started.publish(night="2026-11-24")
    predict_wrongly(started, other, good, every=100)

    assert nightly("2026-11-24").decision == "promoted"
    assert started.registry.champion() == (2, other)


def test_predictions_far_from_the_champions_are_rejected(job):
    """A version that is good on its held-out rows and differs on a tenth of the test rows is not posted."""
    started = job()
    started.publish()
    good = nightly(NIGHT).version
    other = started.publish(night="2026-11-24")
    predict_wrongly(started, other, good, every=10)

    result = nightly("2026-11-24")

    assert result.decision == "rejected"
    assert "90.00% of the test rows" in result.reason
    assert len(started.server.submissions()) == 1


def test_predictions_that_lack_a_digit_are_rejected(job):
    """A version whose predictions hardly have some digit is not posted, without a champion too."""
    started = job()
    version = started.publish()
    labels = np.arange(DIGITS_MINI.test_rows) % 10
    labels[labels == 7] = 1
    started.registry.put_predictions(version, to_csv(labels, DIGITS_MINI))

    result = nightly(NIGHT)

    assert result.decision == "rejected"
    assert "the digit 7 is 0.0% of its predictions" in result.reason
    assert started.server.submissions() == []


def test_an_old_night_gone_on_with_does_not_take_the_title_back(job):
    """A held night finished after a newer one posts its predictions and leaves the newer champion."""
    started = job()
    old = started.publish()
    registry = started.registry
    assert registry.promote(old, 0, "held: no submission was left")
    new = started.publish(night="2026-11-24")
    assert registry.promote(new, 1, "a later night")

    result = nightly(NIGHT)

    assert result.submission.posted
    assert registry.champion() == (2, new)


@pytest.mark.parametrize(("errors", "decision"), [(8, "promoted"), (60, "rejected")])
def test_the_champion_yields_only_to_what_is_not_clearly_worse(job, errors, decision):
    """Eight more errors on the same rows are within the margin; sixty are not, and the champion stays."""
    started = job()
    champion = started.publish()
    nightly(NIGHT)
    registry = started.registry
    challenger = started.publish(night="2026-11-24", errors=errors)

    result = nightly("2026-11-24")

    assert result.decision == decision
    assert f"{errors} errors more than champion {champion} on 300 rows" in result.reason
    assert registry.champion()[1] == (challenger if decision == "promoted" else champion)


def test_scratch_has_its_night_where_no_champion_is_better(job, monkeypatch):
    """In an empty store the plain tensors of scratch pass their own floor, are submitted and scored."""
    started = job(competition="digit-recognizer")
    monkeypatch.delenv("MNIST_FLOOR")

    result = nightly(NIGHT, model="scratch")

    assert result.decision == "promoted"
    assert "above the floor 0.9500" in result.reason
    assert started.registry.champion() == (1, result.version)
    assert result.submission.public_score > 0.975


def test_scratch_is_rejected_beside_a_convnet_champion(job, monkeypatch):
    """A convnet is far better, so scratch changes nothing and is not submitted."""
    started = job()
    for name in ("AGREEMENT", "MARGIN_ROWS", "MARGIN_ERRORS"):
        monkeypatch.setenv(f"MNIST_{name}", "0")
    champion = started.publish()
    nightly(NIGHT)

    result = nightly(NIGHT, model="scratch")

    assert result.decision == "rejected"
    assert f"more than champion {champion}" in result.reason
    assert result.submission is None
    assert started.registry.champion() == (1, champion)
    assert len(started.server.submissions()) == 1


def test_resnet18_has_its_night(job, monkeypatch):
    """From train.csv to a score with fastai's network, here trained on the first 512 of its rows."""
    started = job()
    monkeypatch.setenv("MNIST_FLOOR", "0")
    fit = resnet.fit
    monkeypatch.setattr(
        resnet, "fit", lambda pixels, labels, *rest, **named: fit(pixels[:512], labels[:512], *rest, **named)
    )

    result = nightly(NIGHT, model="resnet18")

    assert (result.model, result.decision) == ("resnet18", "promoted")
    assert abs(result.submission.public_score - result.valid_accuracy) < 0.05
    assert len(started.server.submissions()) == 1


def test_a_dry_run_stops_after_the_gate(job):
    """A dry run leaves champion and competition as they were, and the night goes on later."""
    started = job()
    started.publish()

    result = nightly(NIGHT, dry_run=True)

    assert result.decision == "dry-run"
    assert started.registry.champion() == (0, None)
    assert started.server.submissions() == []
    assert nightly(NIGHT).decision == "promoted"


def test_without_quota_the_night_is_held_and_keeps_its_version(job, start_practice, monkeypatch):
    """Quota 0 is no error: nothing is posted, the version is champion, and the same night posts it later."""
    started = job(daily_limit=0)
    version = started.publish()

    result = nightly(NIGHT)

    assert result.decision == "deferred"
    assert "00:00 UTC" in result.reason
    assert result.submission is None
    assert started.registry.champion() == (1, version)
    assert started.server.submissions() == []

    port = started.server.url.rpartition(":")[2]
    started.server.stop()
    again = start_practice(
        started.server.home, competition=started.server.spec.name, port=int(port), daily_limit=1
    )
    later = nightly(NIGHT)
    assert later.decision == "promoted"
    assert later.submission.posted
    assert started.registry.champion() == (1, version)
    assert len(again.submissions()) == 1


def test_a_submission_that_ends_as_error_fails_the_night_and_is_not_repeated(job):
    """The server's description is the night's error; the same night again repeats it and posts nothing."""
    started = job()
    started.publish()
    started.server.fault("score-error")

    for _ in range(2):
        with pytest.raises(SubmissionRefusedError, match=r"ended as ERROR.*not posted again") as caught:
            nightly(NIGHT)
        assert caught.value.submission.status == "ERROR"

    assert len(started.server.submissions()) == 1


def test_a_score_that_is_not_out_is_pending_and_read_by_the_next_run(job, monkeypatch):
    """The night does not wait for ever; the next run of any night reads the score."""
    started = job(score_seconds=2.0)
    monkeypatch.setenv("MNIST_SCORE_WAIT_S", "0")
    started.publish()

    first = nightly(NIGHT)
    assert first.decision == "promoted"
    assert (first.submission.status, first.submission.public_score) == ("PENDING", None)

    started.server.scored(first.submission.ref)
    again = nightly(NIGHT)
    assert again.submission.status == "COMPLETE"
    assert again.champion.public_score == again.submission.public_score > 0.5


def test_an_answer_that_stays_out_fails_the_night_and_the_next_run_settles_it(job, monkeypatch):
    """A lost reply and a late list end as unknown; run again, the night finds its one submission."""
    monkeypatch.setattr("flows.kaggle.competition.Competition.look_again_s", (0.1,))
    started = job()
    started.publish()
    started.server.fault("late-list", seconds=4)
    started.server.fault("lost-reply")

    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[0.1, 0.1]")  # which another post would be, not another look
    with pytest.raises(SubmissionUnknownError) as caught:
        nightly(NIGHT)
    assert caught.value.submission.status == "UNKNOWN"

    while not started.server.submissions():
        pass
    result = nightly(NIGHT)
    assert result.decision == "promoted"
    assert not result.submission.posted
    assert len(started.server.submissions()) == 1


def test_a_passing_fault_is_waited_out_between_tries(job, monkeypatch):
    """A download that fails as a whole is tried again after the set wait."""
    started = job()
    started.publish()
    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[0.1, 0.1, 0.1]")
    started.server.fault("web-page", count=2)

    assert nightly(NIGHT).decision == "promoted"


def test_a_score_that_can_not_be_read_is_pending(job, monkeypatch):
    """A server that fails after the post does not fail the night: the next run reads the score."""
    started = job()
    monkeypatch.setenv("MNIST_SCORE_WAIT_S", "0.1")
    started.publish()
    started.server.fault("web-page", count=-1, rpc="GetSubmission")

    result = nightly(NIGHT)

    assert result.decision == "promoted"
    assert result.submission.status == "PENDING"
    started.server.clear_faults()
    assert nightly(NIGHT).submission.status == "COMPLETE"


def test_a_full_disk_fails_the_night_by_name_and_it_goes_on_later(job):
    """Where nothing can be written, nothing is promoted or posted; with room the night ends well."""
    started = job()
    started.publish()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises((StoreError, OSError), match="too large"):
            nightly(NIGHT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert started.registry.champion() == (0, None)
    assert started.server.submissions() == []
    assert nightly(NIGHT).decision == "promoted"


def test_wrong_credentials_fail_at_once(job, monkeypatch):
    """What a person must mend is not tried again."""
    started = job()
    monkeypatch.setenv("KAGGLE_KEY", "wrong")
    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[60, 60]")

    with pytest.raises(CompetitionError, match="does not accept these credentials"):
        nightly(NIGHT)

    assert not (started.home / "home" / "store").exists()


def test_a_bundle_with_a_changed_byte_is_not_used(job):
    """A changed graph fails the night by its name; nothing is predicted, promoted or posted."""
    started = job()
    version = started.publish()
    registry = started.registry
    digest = registry.version(version).objects["model.onnx"]
    path = registry.store.root / "objects" / digest
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    with pytest.raises((StoreError, BundleError), match=digest):
        nightly(NIGHT)

    assert registry.predictions(version) is None
    assert registry.champion() == (0, None)
    assert started.server.submissions() == []


def test_predictions_that_are_no_submission_are_not_posted(job, monkeypatch):
    """The format is checked before anything is sent, whoever made the file."""
    started = job()
    version = started.publish()
    started.registry.put_predictions(version, b"ImageId,Label\n1,10\n")

    with pytest.raises(submit_module.submission.SubmissionError, match="line 2, column Label"):
        nightly(NIGHT, force=True)

    assert started.server.submissions() == []


def test_submit_takes_the_champion_or_a_named_version(job):
    """`submit` posts a version without the gate, leaves the champion, and adopts what is there."""
    started = job()
    with pytest.raises(SettingsError, match="no champion"):
        submit()
    version = started.publish()
    with pytest.raises(SettingsError, match="no such version"):
        submit("2026-01-01-convnet-00000000")

    result = submit(version)

    assert result.submission.posted
    assert result.submission.public_score > 0.5
    assert result.champion is None
    again = submit(version)
    assert not again.submission.posted
    assert again.reason == "the competition has these predictions already"


def test_train_adopts_what_it_published_and_fresh_opens_the_next_attempt(job, monkeypatch):
    """The same command trains once; `fresh` trains again with another seed."""
    started = job()
    monkeypatch.setenv("MNIST_EPOCHS", "1")
    first = train(NIGHT, seed=None)

    assert train(NIGHT).version == first.version
    assert "train" not in train(NIGHT).seconds
    other = train(NIGHT, fresh=True)
    assert other.version != first.version
    assert len(started.registry.versions()) == 2


def test_the_seed_follows_from_night_and_attempt():
    """Each night and each attempt has a seed of its own, the same one on any machine; a given one wins."""
    works = [RunKey(night=NIGHT, model="convnet", preset="fast", attempt=n) for n in (1, 2)] + [
        RunKey(night="2026-11-24", model="convnet", preset="fast")
    ]

    assert len({seed_of(work) for work in works}) == 3
    assert seed_of(works[0]) == seed_of(RunKey(night=NIGHT, model="resnet18", preset="best"))
    assert seed_of(RunKey(night=NIGHT, model="convnet", preset="fast", seed=7)) == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "convent"}, "--model, MNIST_MODEL"),
        ({"preset": "slow"}, "--preset, MNIST_PRESET"),
        ({"seed": -1}, "--seed -1 is out of range"),
        ({"night": "yesterday"}, "--night yesterday is no date"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_starts(job, arguments, words):
    """A wrong model, preset, seed or date is a settings error; nothing is downloaded."""
    started = job()

    with pytest.raises(SettingsError, match=words):
        nightly(**arguments)

    assert not (started.home / "home" / "data").exists()


def with_quota(started, start_practice, daily_limit):
    """The same competition with another number of submissions a day."""
    port = int(started.server.url.rpartition(":")[2])
    started.server.stop()
    started.server = start_practice(
        started.server.home, competition=started.server.spec.name, port=port, daily_limit=daily_limit
    )


def test_a_held_champion_is_posted_by_a_night_that_is_rejected(job, start_practice, monkeypatch):
    """Of held versions the champion has its turn when tonight's is rejected; older ones have none."""
    started = job(daily_limit=0)
    started.publish()
    older = nightly(NIGHT).version
    champion = started.publish(night="2026-11-24", attempt=1)
    predict_wrongly(started, champion, older, every=100)
    assert nightly("2026-11-24").decision == "deferred"
    started.publish(night="2026-11-25", errors=60)
    assert nightly("2026-11-25").decision == "rejected"
    assert started.server.submissions() == []
    with_quota(started, start_practice, 10)
    started.publish(night="2026-11-26", errors=60)

    result = nightly("2026-11-26")

    assert (result.decision, result.submission) == ("rejected", None)
    assert result.reason.endswith(f"champion {champion}, deferred until now, was submitted")
    assert result.champion.version == champion
    assert result.champion.public_score > 0.9
    [listed] = started.server.submissions()
    assert listed["description"].startswith(champion)
    again = nightly("2026-11-26")
    assert (again.decision, again.reason) == (result.decision, result.reason)
    assert len(started.server.submissions()) == 1


def test_a_held_champion_that_scores_too_low_is_an_alarm_of_the_night_that_posts_it(
    job, start_practice, monkeypatch
):
    """The title goes back, the night ends with the alarm, and so does the same night again."""
    started = job()
    monkeypatch.setenv("MNIST_AGREEMENT", "0.8")
    started.publish()
    good = nightly(NIGHT).version
    with_quota(started, start_practice, 0)
    bad = started.publish(night="2026-11-24")
    predict_wrongly(started, bad, good, every=10)
    assert nightly("2026-11-24").decision == "deferred"
    with_quota(started, start_practice, 10)
    started.publish(night="2026-11-25", errors=60)

    for _ in range(2):
        with pytest.raises(AlarmError, match=f"of {bad} is more than"):
            nightly("2026-11-25")

    assert [entry.version for entry in started.registry.champions()] == [good, bad, good]
    assert len(started.server.submissions()) == 2


def test_an_alarm_is_reported_again_by_force_too(job, monkeypatch):
    """`--force` passes the gate, and does not promote again what the alarm took back."""
    started = job()
    monkeypatch.setenv("MNIST_AGREEMENT", "0.8")
    started.publish()
    good = nightly(NIGHT).version
    bad = started.publish(night="2026-11-24")
    predict_wrongly(started, bad, good, every=10)

    for force in (False, True):
        with pytest.raises(AlarmError):
            nightly("2026-11-24", force=force)

    assert started.registry.champion()[1] == good


def test_a_night_that_was_not_answered_is_settled_by_any_next_night(job, monkeypatch):
    """The next night, another one, first finds the lost submission on the list, and reads its score."""
    monkeypatch.setattr("flows.kaggle.competition.Competition.look_again_s", (0.1,))
    started = job()
    version = started.publish()
    started.server.fault("late-list", seconds=2)
    started.server.fault("lost-reply")
    with pytest.raises(SubmissionUnknownError):
        nightly(NIGHT)
    registry = started.registry
    assert lease.current(registry)[1].state == "sent"
    assert registry.submission(version) is None
    assert registry.nights()[-1].decision == "failed"
    other = started.publish(night="2026-11-24")
    predict_wrongly(started, other, version, every=100)

    assert nightly("2026-11-24").decision == "promoted"

    assert registry.submission(version) is not None
    assert registry.score(version).public_score > 0.9
    assert {entry["description"].split()[0] for entry in started.server.submissions()} == {version, other}
    assert lease.current(registry)[1].state == "closed"


def test_what_the_list_does_not_have_when_its_intent_has_expired_was_not_posted(job, monkeypatch):
    """A request that never arrived is unknown first; the same night again finds that out, and posts."""
    monkeypatch.setattr("flows.kaggle.competition.Competition.look_again_s", (0.1,))
    monkeypatch.setattr("flows.lease.LEASE_S", 2.0)
    started = job()
    started.publish()
    started.server.fault("reset", rpc="CreateSubmission")
    with pytest.raises(SubmissionUnknownError):
        nightly(NIGHT)

    result = nightly(NIGHT)

    assert result.submission.posted
    assert len(started.server.submissions()) == 1


def test_a_night_waits_while_another_run_posts(job, caplog):
    """An open intent is no failure: the night waits until it is closed, says so, and goes on."""
    started = job()
    started.publish()
    registry = started.registry
    other = lease.acquire(registry, "another", "its token")
    caplog.set_level(logging.INFO, "mnist")

    def close_once_it_waits():
        while "waiting for another run" not in caplog.text:
            time.sleep(0.1)
        posted_while_open.append(len(started.server.submissions()))
        other.release()

    posted_while_open: list[int] = []
    threading.Thread(target=close_once_it_waits, daemon=True).start()
    result = nightly(NIGHT)

    assert result.submission.posted
    assert posted_while_open == [0]


def test_a_rate_limit_on_the_post_is_no_unknown_submission(job, monkeypatch):
    """A 429 says that nothing was done: the post is tried again in the same night."""
    started = job()
    started.publish()
    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[0.1]")
    started.server.fault("rate-limit", rpc="CreateSubmission")

    assert nightly(NIGHT).submission.posted
    assert len(started.server.submissions()) == 1


def test_a_low_score_of_an_earlier_champion_is_told_and_nothing_goes_back_to_it(job, monkeypatch):
    """It comes when a later champion holds: that one stays, and the bad one is no bar and no way back."""
    started = job(score_seconds=2.0)
    monkeypatch.setenv("MNIST_AGREEMENT", "0.8")
    started.publish()
    good = nightly(NIGHT).version
    bad = started.publish(night="2026-11-24")
    predict_wrongly(started, bad, good, every=10)
    monkeypatch.setenv("MNIST_SCORE_WAIT_S", "0")
    ref = nightly("2026-11-24").submission.ref
    later = started.publish(night="2026-11-25")
    registry = started.registry
    assert registry.promote(later, 2, "while the score was not out")
    started.server.scored(ref)

    with pytest.raises(AlarmError, match=f"of {bad}"):
        nightly("2026-11-25")

    registry = started.registry
    assert registry.champion()[1] == later
    assert bad in registry.demotions()
    assert registry.fallback() == good


def test_a_night_whose_version_was_pruned_still_tells_its_end(job, monkeypatch):
    """What a night came to is kept in its own entry, and a finished night is not trained again."""
    started = job()
    started.publish()
    first = nightly(NIGHT)
    other = started.publish(night="2026-11-24")
    predict_wrongly(started, other, first.version, every=100)
    nightly("2026-11-24")
    assert prune(started.registry, 1, keep_champions=1, min_age_s=0.0).versions == 1

    again = nightly(NIGHT)

    assert again.champion.version == other
    for key in ("night", "model", "version", "valid_accuracy", "decision", "reason", "seconds"):
        assert getattr(again, key) == getattr(first, key)
    assert again.submission.public_score == first.submission.public_score


def test_a_submission_that_the_server_forgot_does_not_stop_the_nights(job):
    """A pending score that can not be read is a warning each night, and no failure."""
    started = job()
    version = started.publish()
    started.registry.put_submission("2026-11-01-convnet-00000000", "token", 1, "forgotten")

    assert nightly(NIGHT).decision == "promoted"
    assert [made.version for made in started.registry.unscored()] == ["2026-11-01-convnet-00000000"]
    assert started.registry.score(version).public_score > 0.9
