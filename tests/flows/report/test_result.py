"""Results and the history as the registry knows them."""

import pytest

from flows.records import Decision, Demotion, NightEntry, RunKey, Score, Status
from flows.registry import Registry
from flows.report.result import read_history, summarise_pruned
from flows.store.folder import Folder


def test_the_history_is_read_from_the_registry(tmp_path):
    """Nights, scores and champions as they were put: with intervals, the alarm's version demoted."""
    registry = Registry(Folder(tmp_path), "practice/digit-recognizer/abc")
    for night, score in (("2026-11-23", 0.99), ("2026-11-24", 0.9)):
        version = f"{night}-convnet-00000001"
        run = RunKey(night=night, model="convnet", preset="fast")
        facts = {"valid_accuracy": 0.98, "valid_interval": (0.97, 0.985)}
        registry.put_submission(version, f"mnist-nightly:{night}", 7, "")
        registry.end_night(
            NightEntry(run=run, version=version, decision=Decision.PROMOTED, reason="", **facts)
        )
        registry.put_score(Score(version=version, status=Status.COMPLETE, public_score=score))
        registry.promote(version, registry.champion()[0], "")
    first, second = (f"{night}-convnet-00000001" for night in ("2026-11-23", "2026-11-24"))
    registry.promote(first, 2, "", demoted=second, cause=Demotion.ALARM)

    first, second = read_history(registry)

    assert first.valid == (0.98, 0.97, 0.985)
    value, low, high = first.public
    assert low < value == 0.99 < high
    assert high - low == pytest.approx(2 * 1.96 * (0.99 * 0.01 / 28_000) ** 0.5, rel=0.02)
    assert (first.champion, first.demoted) == (True, False)
    assert (second.champion, second.demoted) == (True, True)


def test_the_result_of_a_pruned_version_is_what_its_night_says(registry):
    """Model, accuracy and seconds come from the night's entry, in the order of the steps."""
    run = RunKey(night="2026-11-23", model="convnet", preset="fast")
    ended = NightEntry(
        run=run, version="gone", model="convnet", valid_accuracy=0.99, decision=Decision.PROMOTED,
        reason="better", seconds={"submit": 2.0, "train": 1.0},
    )  # fmt: skip

    result = summarise_pruned(registry, ended, reason=ended.reason, decision=ended.decision)

    assert (result.night, result.model, result.version) == ("2026-11-23", "convnet", "gone")
    assert list(result.seconds) == ["train", "submit"]
    assert (result.submission, result.champion) == (None, None)
