"""The nightly run on a real Prefect API, a real store and the practice server: from nothing to a score."""

import json
import resource
import signal

import pytest

from flows.caps import OverdueError
from flows.kaggle.errors import CompetitionError
from flows.nightly import nightly
from flows.ownership import MARKER, claim_home
from flows.settings import SettingsError
from flows.store.base import StoreError
from mnist_core.errors import BundleError
from mnist_core.models.resnet import fit as resnet
from mnist_core.spec import DIGIT_RECOGNIZER

NIGHT = "2026-11-23"
pytestmark = pytest.mark.usefixtures("prefect_api")


def test_a_night_trains_promotes_submits_and_reports(job, monkeypatch, caplog):
    """On the large competition: data, an epoch, version, champion, one submission, its score, the report."""
    caplog.set_level("INFO", "mnist")
    started = job(competition=DIGIT_RECOGNIZER.name)
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
        "scorecard.md", "report.html", "hardest.png", "confusion.png", "submission.csv",
    }  # fmt: skip
    assert caplog.text.count("store: ") == 1  # not again by the flows within it
    assert result.version in (report / "scorecard.md").read_text()
    assert list(json.loads(json.dumps(result.to_json()))) == [
        "night", "model", "version", "valid_accuracy", "decision", "reason", "submission", "champion",
        "seconds",
    ]  # fmt: skip
    assert list(nightly(NIGHT).seconds) == list(result.seconds)
    assert claim_home(started.home / "home")  # where old reports are deleted: all that a night leaves is ours


def test_a_night_whose_prune_takes_too_long_has_its_report(job, monkeypatch):
    """The cap ends the prune, which comes last: the night is reported and recorded by then."""
    started = job()
    version = started.publish()

    def prune(*_):
        raise OverdueError("the night took longer than 1 s")

    monkeypatch.setattr("flows.prune.prune", prune)
    with pytest.raises(OverdueError):
        nightly(NIGHT)

    [card] = (started.home / "home" / "reports" / NIGHT).rglob("scorecard.md")
    assert version in card.read_text()
    assert [night.decision for night in started.registry.nights()] == ["promoted"]


@pytest.mark.slow
def test_scratch_has_its_night_if_no_champion_is_better(job, monkeypatch):
    """In an empty store the plain tensors of scratch reach their own floor, are submitted and scored."""
    started = job(competition=DIGIT_RECOGNIZER.name)
    monkeypatch.delenv("MNIST_FLOOR")

    result = nightly(NIGHT, model="scratch")

    assert result.decision == "promoted"
    assert "reaches the floor 0.9500" in result.reason
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
    assert started.registry.store.exists(MARKER)  # a night ends with a prune
    assert len(started.server.submissions()) == 1


@pytest.mark.slow
def test_resnet18_has_its_night(job, monkeypatch):
    """From the training file to a score with fastai's network, here trained on the first 512 of its rows."""
    started = job()
    monkeypatch.setenv("MNIST_FLOOR", "0")
    monkeypatch.setenv("MNIST_SHARE_MIN", "0")
    monkeypatch.setenv("MNIST_EPOCHS", "2")
    fit = resnet.fit
    monkeypatch.setattr(
        resnet, "fit", lambda pixels, labels, *rest, **named: fit(pixels[:512], labels[:512], *rest, **named)
    )

    result = nightly(NIGHT, model="resnet18")

    assert (result.model, result.decision) == ("resnet18", "promoted")
    assert abs(result.submission.public_score - result.valid_accuracy) < 0.1
    assert len(started.server.submissions()) == 1


@pytest.mark.parametrize("server", ["moto", "seaweedfs"])
def test_a_night_keeps_everything_in_s3(job, start_s3, server, monkeypatch):
    """With a bucket as store the night, run again after faults too, ends as it does with a folder."""
    started, s3 = job(), start_s3(server)
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


def test_a_dry_run_stops_after_the_gate(job):
    """A dry run leaves champion and competition as they were, and the night is resumed later."""
    started = job()
    started.publish()

    result = nightly(NIGHT, dry_run=True)

    assert result.decision == "dry-run"
    assert started.registry.champion() == (0, None)
    assert started.server.submissions() == []
    assert nightly(NIGHT).decision == "promoted"


def test_a_passing_fault_is_waited_out_between_tries(job, monkeypatch):
    """A download that fails as a whole is tried again after the set wait."""
    started = job()
    started.publish()
    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[0.1, 0.1, 0.1]")
    started.server.fault("web-page", count=2)

    assert nightly(NIGHT).decision == "promoted"


def test_wrong_credentials_fail_at_once(job, monkeypatch):
    """What a person must fix is not tried again."""
    started = job()
    monkeypatch.setenv("MNIST_KAGGLE_TOKEN", "wrong")
    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[60, 60]")

    with pytest.raises(CompetitionError, match="does not accept these credentials"):
        nightly(NIGHT)

    assert not (started.home / "home" / "store").exists()


def test_a_full_disk_fails_the_night_by_name_and_it_is_resumed_later(job):
    """If nothing can be written, nothing is promoted or posted; with room the night ends well."""
    started = job()
    started.publish()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises((StoreError, OSError), match="too large"):
            nightly(NIGHT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert started.registry.champion() == (0, None)
    assert started.server.submissions() == []
    assert nightly(NIGHT).decision == "promoted"


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "convent"}, "--model, MNIST_MODEL"),
        ({"preset": "slow"}, "--preset, MNIST_PRESET"),
        ({"seed": -1}, "--seed -1: "),
        ({"night": "yesterday"}, "--night yesterday: must be a date"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_starts(job, arguments, words):
    """A wrong model, preset, seed or date is a settings error; nothing is downloaded."""
    started = job()

    with pytest.raises(SettingsError, match=words):
        nightly(**arguments)

    assert not (started.home / "home" / "data").exists()
