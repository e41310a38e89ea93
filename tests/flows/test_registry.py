"""Versions, predictions, champions and attempts of one namespace: the first writer wins."""

import json
import os

import pytest

from flows.records import (
    Decision,
    Demotion,
    NightEntry,
    Record,
    RecordError,
    RunKey,
    Score,
    Status,
    VersionEntry,
)
from flows.registry import MissingVersionError, Registry
from flows.store.base import StoreError
from flows.store.lists import put_record
from flows.store.open import open_store

VERSIONS = "2026-11-21-convnet-00000001", "2026-11-22-convnet-00000002"
RUN = RunKey(night="2026-11-23", model="convnet", preset="fast")


class NotAScore(Record):
    """A record with other fields than a `Score`."""

    version: str
    status: str


@pytest.fixture
def folder(tmp_path):
    """Something that looks like an exported bundle."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"weights")
    (folder / "manifest.json").write_text(json.dumps({"model": "convnet"}))
    return folder


def ended(run, decision=Decision.PROMOTED):
    """The end of a run."""
    return NightEntry(run=run, version="v", decision=decision, reason="")


def test_a_run_key_differs_by_everything_that_was_asked_for():
    """Another model, preset, seed, epochs, night, attempt or member is another key."""
    others = [
        {"night": "2026-11-24"}, {"model": "resnet18"}, {"preset": "best"}, {"epochs": 1}, {"seed": 0},
        {"attempt": 2}, {"member": 1},
    ]  # fmt: skip

    assert len({RUN.model_copy(update=facts).key for facts in [{}, *others]}) == 8


@pytest.mark.parametrize("path", ["../weights.safetensors", "/etc/passwd", "..", ".ssh", "a/b", "a\\b", ""])
def test_a_record_that_names_a_file_elsewhere_is_refused(registry, folder, manifest, path):
    """Whoever can write to the store cannot make a reader write outside its folder."""
    entry = registry.need_version(registry.publish(RUN, manifest(seed=1), folder))
    changed = entry.to_json() | {"objects": {path: entry.objects["weights.safetensors"]}}

    with pytest.raises(RecordError, match="objects"):
        VersionEntry.from_json(changed, "versions/v.json")


def test_an_attempt_is_kept_until_a_fresh_one_is_requested(registry):
    """The same command stays in its attempt; `fresh` opens the next, which is then the current one."""
    attempts = [registry.open_attempt(RUN, fresh).attempt for fresh in (False, False, True, False)]

    assert attempts == [1, 1, 2, 2]


def test_a_version_is_found_by_its_run_and_published_once(registry, folder, manifest):
    """Publishing the same weights again is the same version, and the first entry is kept."""
    name = registry.publish(RUN, manifest(seed=1), folder)
    again = registry.publish(RUN, manifest(seed=2), folder)

    assert name == again
    assert name.startswith("2026-11-23-convnet-")
    assert registry.version(name).seed == 1
    assert registry.version(name).run == RUN
    assert registry.version_of(RUN) == name
    assert registry.version_of(RUN.model_copy(update={"preset": "best"})) is None
    assert registry.versions() == [name]


def test_a_versions_entry_keeps_the_facts_that_are_not_read(registry, folder, manifest):
    """Whatever else the manifest says (confusion, libraries, …) is stored with the version."""
    name = registry.publish(RUN, manifest(confusion=[[1, 0], [0, 1]]), folder)

    assert registry.version(name).to_json()["confusion"] == [[1, 0], [0, 1]]


def test_a_manifest_without_a_fact_that_flows_need_is_refused_by_name(registry, folder, manifest):
    """The error names the object and the field, and nothing is published."""
    with pytest.raises(RecordError, match=r"2026-11-23-convnet-\w+\.json: VersionEntry .*'valid_accuracy'"):
        registry.publish(RUN, manifest(valid_accuracy=None), folder)

    assert registry.versions() == []


def test_the_same_weights_of_another_attempt_are_found_by_it(registry, folder, manifest):
    """A fresh attempt that ends with the same weights is the same version, and is not trained again."""
    fresh = RUN.with_attempt(2)
    name = registry.publish(RUN, manifest(), folder)

    assert registry.publish(fresh, manifest(), folder) == name
    assert registry.version_of(fresh) == name


def test_how_a_night_ended_can_be_followed_by_another_end(registry):
    """The last end counts: a rejected night that was forced later is a promoted one."""
    assert registry.night(RUN) is None
    registry.end_night(ended(RUN, Decision.REJECTED))
    registry.end_night(ended(RUN))

    assert registry.night(RUN).decision == ended(RUN).decision
    assert registry.night(RUN).numbers["history"] == 1


def test_nights_are_listed_by_date_and_within_one_as_they_ended(registry):
    """Neither a name nor an attempt decides the order, nor does a night that was repeated later."""
    runs = [RUN.model_copy(update=facts) for facts in ({"night": "2026-11-24"}, {}, {"preset": "best"})]
    for seconds, run in enumerate(runs):
        registry.end_night(ended(run))
        [end] = (registry.store.root / registry.namespace / "nights" / run.key).iterdir()
        os.utime(end, (1000 + seconds, 1000 + seconds))

    assert [night.run for night in registry.nights()] == [runs[n] for n in (1, 2, 0)]
    assert [night.run for night in registry.nights(1)] == [runs[0]]


def test_a_run_begins_its_search_of_a_list_where_the_last_night_left_it(registry, s3):
    """The lists that grow with every night are not searched from their beginning."""
    address = f"s3://{s3.bucket}/store"
    first = Registry(open_store(address), registry.namespace)
    for number in range(5):
        first.promote(f"v{number}", number, "")
    first.end_night(ended(RUN))
    later = Registry(open_store(address), registry.namespace)

    later.open_attempt(RUN.model_copy(update={"night": "2026-11-24"}), fresh=False)

    assert later.store.seen[f"{registry.namespace}/champions/"] == 5
    assert later.champion() == (5, "v4")


def test_the_history_begins_with_what_an_older_store_has(registry):
    """Nights, scores and submissions that were recorded before there was a history are in the first one."""
    registry.put_submission(VERSIONS[0], "content", 7, "")
    registry.end_night(ended(RUN).model_copy(update={"version": VERSIONS[0]}))
    for path in (registry.store.root / registry.namespace / "history").iterdir():
        path.unlink()

    again = Registry(open_store(registry.store.location("")), registry.namespace)

    assert [night.run for night in again.nights(1)] == [RUN]
    assert [made.version for made in again.unscored()] == [VERSIONS[0]]
    again.put_score(Score(version=VERSIONS[0], status=Status.COMPLETE, public_score=0.5))
    assert again.recent_scores() == {VERSIONS[0]: 0.5}
    assert again.unscored() == []


def test_a_version_exists_only_once_its_entry_is_there(registry, folder, manifest, monkeypatch):
    """A publisher that dies before the entry leaves no version behind."""
    monkeypatch.setattr(registry, "put_version", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        registry.publish(RUN, manifest(), folder)

    assert registry.versions() == []
    assert registry.version_of(RUN) is None


def test_objects_that_were_pruned_before_their_version_was_there_are_put_again(
    registry, folder, manifest, monkeypatch, tmp_path
):
    """On a machine whose clock was set ahead, a prune took the files of a running night for old ones."""
    put_first = registry._put_first

    def prune_and_put(kind, *entry):
        for key in registry.store.keys("objects/") if kind in ("versions", "predictions") else ():
            registry.store.delete(key)
        return put_first(kind, *entry)

    monkeypatch.setattr(registry, "_put_first", prune_and_put)

    name = registry.publish(RUN, manifest(), folder)
    registry.fetch(name, tmp_path)
    registry.put_predictions(name, b"labels")
    assert Registry(open_store(str(registry.store.root)), registry.namespace).predictions(name) == b"labels"


def test_fetched_files_are_the_published_ones(registry, folder, manifest, tmp_path):
    """What comes out of the registry is what went in, all of it or the named files."""
    name = registry.publish(RUN, manifest(), folder)
    target = tmp_path / "fetched"
    target.mkdir()

    registry.fetch(name, target, "weights.safetensors")
    assert [path.name for path in target.iterdir()] == ["weights.safetensors"]
    registry.fetch(name, target)
    assert (target / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    "ask",
    [
        lambda registry, folder: registry.fetch("gone", folder),
        lambda registry, folder: registry.held_out("gone"),
        lambda registry, folder: registry.need_predictions("gone"),
        lambda registry, folder: registry.need_version_of(RUN),
    ],
)
def test_a_version_that_is_gone_is_an_error_with_a_remedy(registry, tmp_path, ask):
    """What another record names and the store no longer has is reported with its location."""
    with pytest.raises(MissingVersionError, match=str(registry.store.root)) as caught:
        ask(registry, tmp_path)

    assert caught.value.remedy


def test_an_object_of_an_older_store_is_refused(registry):
    """An entry of format 1 is not misread: the error names it and says what to do."""
    registry.promote("a", 0, "first")
    path = registry.store.root / registry.namespace / "champions" / "000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))

    with pytest.raises(StoreError, match=r"000001\.json is not a JSON object of format 2.*MNIST_STORE"):
        Registry(open_store(registry.store.location("")), registry.namespace).champion()


def test_an_entry_with_a_wrong_field_is_refused_by_name(registry):
    """The error names the object and the field."""
    wrong = NotAScore(version="v", status="done")
    put_record(registry.store, f"{registry.namespace}/scores/v.json", wrong)

    with pytest.raises(RecordError, match=r"scores/v\.json: Score with a wrong field 'status'"):
        registry.score("v")


def test_the_first_predictions_are_kept(registry):
    """Whoever comes second posts the first one's labels."""
    assert registry.predictions("v") is None
    assert registry.put_predictions("v", b"first") == b"first"
    assert registry.put_predictions("v", b"second") == b"first"
    assert registry.predictions("v") == b"first"


def test_of_two_promotions_the_second_fails(registry):
    """Both saw champion 0; one becomes champion 1, the other decides again."""
    assert registry.champion() == (0, None)
    assert registry.promote("a", 0, "first")
    assert not registry.promote("b", 0, "second")
    assert registry.champion() == (1, "a")
    assert registry.promote("b", 1, "after reading the list again")
    assert registry.champion() == (2, "b")


def test_namespaces_do_not_mix(registry):
    """What one namespace knows, another does not."""
    registry.promote("a", 0, "first")

    assert Registry(registry.store, "kaggle/digit-recognizer/0123456789abcdef").champion() == (0, None)


def test_a_content_has_one_submission_whichever_version_it_was_made_for(registry):
    """The same labels of another version are found by their token, as the list may show them late."""
    assert registry.submission_of("mnist-nightly:0123") is None
    registry.put_submission("a", "mnist-nightly:0123", 7, "a mnist-nightly:0123")
    registry.put_submission("b", "mnist-nightly:0123", 8, "b mnist-nightly:0123")

    assert registry.submission_of("mnist-nightly:0123").ref == 7


@pytest.mark.parametrize("name", ["../../x", "2026-11-23-convnet-0123456/", "/etc/passwd", "x", ""])
def test_a_path_is_not_a_versions_name(registry, name):
    """Nothing outside of the versions is read by the name of one."""
    versions = registry.store.root / registry.namespace / "versions"
    versions.mkdir(parents=True)
    for folder in (versions, versions.parents[1]):
        (folder / "x.json").write_text("{}")

    assert registry.version(name) is None


def test_submissions_without_a_score_are_listed(registry):
    """A submission is listed until its end is recorded."""
    for version in VERSIONS:
        registry.put_submission(version, version, 7, "")
    registry.put_score(Score(version=VERSIONS[0], status=Status.COMPLETE, public_score=0.99))

    assert [made.version for made in registry.unscored()] == [VERSIONS[1]]


def test_a_rollback_goes_back_to_a_champion_that_is_still_there(registry, folder, manifest):
    """A champion that was demoted, or whose version was pruned, is passed over."""
    name = registry.publish(RUN, manifest(), folder)
    for number, version in enumerate(("gone", name, "b", "c")):
        registry.promote(version, number, "")
    registry.promote("c", 4, "", demoted="b", cause=Demotion.ALARM)

    assert registry.fallback() == name
    registry.delete_version(name)
    assert registry.fallback() is None


def test_what_a_run_asks_about_the_champions_reads_a_bounded_number_of_entries(registry, monkeypatch):
    """After hundreds of promotions the last entry answers; a demotion's reason is one more."""
    for number in range(300):
        registry.promote(f"v{number}", number, "better")
    registry.promote("v299", 300, "too low", demoted="v250", cause=Demotion.ALARM)
    again = Registry(open_store(registry.store.location("")), registry.namespace)
    read, get = [], again.store.get
    monkeypatch.setattr(again.store, "get", lambda key: read.append(key) or get(key))

    assert again.champion() == (301, "v299")
    assert [again.was_champion(name) for name in ("v298", "never", "v0")] == [True, False, False]
    assert again.demotion("v250").reason == "too low"
    assert again.demotion("v249") is None
    assert again.promote("v300", 301, "better")
    assert again.demotion("v250").reason == "too low"

    assert len([key for key in read if "/champions/" in key]) <= 2


def test_the_store_is_opened_again_with_the_same_content(registry, tmp_path):
    """Nothing that was recorded lives in the process alone."""
    registry.promote("a", 0, "first")

    again = Registry(open_store(str(tmp_path / "store")), registry.namespace)
    assert [entry.version for entry in again.champions()] == ["a"]
