"""Nights, versions, predictions and champions of one namespace, as create-only objects of a store.

objects/<sha256>                                   files of all versions, content-addressed
<server>/<competition>/<data digest>/              a namespace: nothing mixes across it
    versions/<version>.json                        a trained version; its files lie in objects/
    predictions/<version>.json                     its labels for the test file; the first ones are kept
    submissions/<version>.json, scores/<version>.json
    contents/<token>.json, contents/<token>/<date>.json   the submission of a content, and its repetitions
    champions/000001.json                          numbered list: the highest number is current
    attempts/<run>/000001.json                     numbered list: which attempt a run is at
    trained/<run>/000001.json                      which version that attempt trained
    trained/<run>/000001/01.json                   and which its first member of an ensemble
    assembled/<run>/000001/000001.json             numbered list: which ensemble its members made
    history/000001.json                            numbered list: the last nights (flows/nights.py)
    nights/<run>/000001/000001.json                numbered list: how that attempt ended
    leases/000001.json                             numbered list: who submits (flows/lease.py)
"""

import logging
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from flows import held_out
from flows.held_out import HeldOut
from flows.nights import ENTRY, MOMENT_S, Nights
from flows.policy import champions
from flows.records import (
    VERSION,
    AttemptEntry,
    ChampionEntry,
    Demotion,
    NightEntry,
    PredictionsEntry,
    Record,
    RunKey,
    Score,
    SubmissionEntry,
    VersionEntry,
    VersionRef,
)
from flows.store.base import Store, StoreError
from flows.store.lists import (
    append,
    delete_record,
    get_object,
    get_record,
    last_number,
    latest,
    names_of,
    place_object,
    put_object,
    put_record,
)
from mnist_core.errors import MnistError
from mnist_core.manifest import WEIGHTS, Manifest
from mnist_core.progress import Progress
from mnist_core.spec import CompetitionSpec, find_spec

log = logging.getLogger("mnist")
R = TypeVar("R", bound=Record)


class MissingVersionError(MnistError):
    """A version that another record names is not in the store any more."""


class Registry:
    """What is known in a namespace.

    Args:
        store: where it is kept.
        namespace: `<server>/<competition>/<data digest>`.
        spec: the competition's; None: a built-in one's.
    """

    def __init__(self, store: Store, namespace: str, spec: CompetitionSpec | None = None) -> None:
        self.store = store
        self.namespace = namespace
        self._spec = spec
        self._nights = Nights(store, namespace)
        self._champion_until = 0.0  # by the monotonic clock
        self._champions: dict[int, ChampionEntry] = {}  # by number

    @property
    def spec(self) -> CompetitionSpec:
        """The specification of the competition that the namespace belongs to."""
        return find_spec(self.namespace.split("/")[1]) if self._spec is None else self._spec

    def location(self, kind: str, name: str) -> str:
        """Return where a person finds an entry, such as `versions` and a version's name."""
        return self.store.location(self._key(kind, name))

    def console_url(self, kind: str, name: str) -> str | None:
        """Return the address at which a browser shows an entry; None if there is none."""
        return self.store.console_url(self._key(kind, name))

    def _key(self, kind: str, name: str) -> str:
        return f"{self.namespace}/{kind}/{name}.json"

    def _get(self, record: type[R], kind: str, name: str) -> R | None:
        return get_record(self.store, self._key(kind, name), record)

    def _put_first(self, kind: str, name: str, entry: R) -> R:
        """Put an entry unless there is one, and return the one that is kept."""
        put_record(self.store, self._key(kind, name), entry)
        kept = self._get(type(entry), kind, name)
        if kept is None:
            raise StoreError(
                f"{self.location(kind, name)} was written and is gone",
                "stop whatever else deletes from this store, then run this again",
                retryable=True,
            )
        return kept

    def _latest(self, record: type[R], kind: str, name: str = "") -> tuple[int, R | None]:
        """Return number and entry of the last one of a numbered list; (0, None) if it is empty."""
        prefix = f"{kind}/{name}" if name else kind
        return latest(self.store, f"{self.namespace}/{prefix}/", record)

    # Runs and how they ended

    def open_attempt(self, run: RunKey, fresh: bool) -> RunKey:
        """Return the key with the attempt that this run is at; with `fresh` the next one is opened."""
        self._nights.recall(run.night)
        prefix = f"{self.namespace}/attempts/{run.name}/"
        while True:
            number = last_number(self.store, prefix)
            if number and not fresh:
                break
            if append(self.store, prefix, number, AttemptEntry(run=run.name)):
                number += 1
                break
        return run.with_attempt(number)

    def night(self, run: RunKey) -> NightEntry | None:
        """Return how this run ended; None while it has not."""
        return self._nights.ended(run)

    def end_night(self, entry: NightEntry) -> None:
        """Record how a run ended; the last entry counts, and of two at once the first is kept."""
        self._nights.end(entry)

    def nights(self, last: int | None = None) -> list[NightEntry]:
        """Return how the last runs ended (default: all), the oldest night first."""
        return self._nights.last(last)

    def recent_scores(self) -> dict[str, float | None]:
        """Return the public scores of the last nights' versions."""
        return self._nights.scores()

    # Versions

    def publish(
        self,
        run: RunKey,
        manifest: Manifest,
        folder: Path,
        progress: Progress | None = None,
    ) -> str:
        """Make a trained bundle a version: its files first, its entry create-only and last.

        An ensemble may be assembled again by the same run, on another champion; everything else is trained
        once.

        Args:
            run: whose version it is.
            manifest: the bundle's manifest.
            folder: the exported bundle; all its files are uploaded.
            progress: called with bytes written, bytes in all, and a note.

        Returns:
            The version's name, `<night>-<model>-<first 8 digits of the weights' sha256>`.
        """
        paths = sorted(folder.iterdir())
        done, total = 0, sum(path.stat().st_size for path in paths)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total, "")

        placed = {path: place_object(self.store, path, advance) for path in paths}
        files = {path.name: digest for path, (digest, _) in placed.items()}
        # The manifest's model: a member of an ensemble is a convnet.
        version = f"{run.night}-{manifest.model}-{files[WEIGHTS][:8]}"
        facts = {**manifest.to_json(), "version": version, "run": run.to_json(), "objects": files}
        entry = self.put_version(VersionEntry.from_json(facts, self.location("versions", version)))
        for path, (digest, is_new) in placed.items():
            self._put_again_if_pruned(path, digest, is_new)
        if not entry.members:
            return self.put_trained(run, version)
        prefix = f"{self.namespace}/assembled/{run.key}/"
        while not append(self.store, prefix, last_number(self.store, prefix), VersionRef(version=version)):
            pass
        return version

    def _put_again_if_pruned(self, source: Path | bytes, digest: str, is_new: bool) -> None:
        """Put an object again that a prune took for old before the entry that names it was there."""
        if not is_new and not self.store.exists(f"objects/{digest}"):
            put_object(self.store, source)

    def put_version(self, entry: VersionEntry) -> VersionEntry:
        """Keep a version's entry; the first one is kept and returned."""
        return self._put_first("versions", entry.version, entry)

    def put_trained(self, run: RunKey, version: str) -> str:
        """Record which version a run trained; the first one is kept and returned."""
        return self._put_first("trained", run.key, VersionRef(version=version)).version

    def version(self, name: str) -> VersionEntry | None:
        """Return what is known of a version; None if there is none of that name."""
        if not re.fullmatch(VERSION, name):  # a path, perhaps
            return None
        return self._get(VersionEntry, "versions", name)

    def need_version(self, name: str) -> VersionEntry:
        """Return what is known of a version that another record names.

        Raises:
            MissingVersionError: it is not in the store any more.
        """
        entry = self.version(name)
        if entry is None:
            raise MissingVersionError(
                f"version {name} is not in the store any more: {self.location('versions', name)}",
                "if it is the champion, `python -m flows rollback` makes the one before it champion; "
                "else train it again with --fresh",
            )
        return entry

    def versions(self) -> list[str]:
        """Return the names of all versions, the oldest night first."""
        return list(self.versions_written())

    def version_of(self, run: RunKey) -> str | None:
        """Return the version that this run trained; None while there is none."""
        entry = self._get(VersionRef, "trained", run.key)
        return None if entry is None else entry.version

    def need_version_of(self, run: RunKey) -> str:
        """Return the version that this run trained.

        Raises:
            MissingVersionError: there is none, or it was pruned meanwhile.
        """
        version = self.version_of(run)
        if version is None:
            raise MissingVersionError(
                f"what {run.key} trained is not in the store: {self.location('trained', run.key)}",
                "run this again",
                retryable=True,
            )
        return version

    def assembled(self, run: RunKey) -> str | None:
        """Return the ensemble that this run assembled last; None while there is none."""
        entry = self._latest(VersionRef, "assembled", run.key)[1]
        return None if entry is None else entry.version

    def members_of(self, version: str | None) -> tuple[str, ...]:
        """Return the members of an ensemble; none of a single network, or if there is no such version."""
        entry = None if version is None else self.version(version)
        return () if entry is None else entry.members

    def fetch(self, version: str, folder: Path, *names: str) -> None:
        """Copy files of a version (without `names`, all) into a folder, each checked against its digest."""
        objects = self.need_version(version).objects
        for name in names or tuple(objects):
            (folder / name).write_bytes(get_object(self.store, objects[name]))

    def read(self, version: VersionEntry, name: str) -> bytes:
        """Return a file of a version, checked against its digest."""
        return get_object(self.store, version.objects[name])

    def file(self, version: VersionEntry, name: str) -> bytes | None:
        """Return a file of a version, unchecked; None if it is not in the store."""
        digest = version.objects[name]
        return self.store.objects.get(digest) or self.store.get(f"objects/{digest}")

    def held_out(self, version: str) -> HeldOut:
        """Return a version's held-out predictions, checked against their digest."""
        return HeldOut.from_bytes(self.read(self.need_version(version), held_out.FILE))

    # Predictions, submissions, scores

    def predictions(self, version: str) -> bytes | None:
        """Return the submission file of a version, checked by digest; None while it is not predicted."""
        entry = self._get(PredictionsEntry, "predictions", version)
        return None if entry is None else get_object(self.store, entry.submission)

    def need_predictions(self, version: str) -> bytes:
        """Return the submission file of a version that was predicted before.

        Raises:
            MissingVersionError: it is not in the store any more.
        """
        csv = self.predictions(version)
        if csv is None:
            raise MissingVersionError(
                f"version {version} has no predictions: {self.location('predictions', version)}",
                f"`python -m flows submit --version {version}` makes them",
            )
        return csv

    def put_predictions(self, version: str, csv: bytes) -> bytes:
        """Keep a version's submission file; the first one is kept and returned."""
        digest, is_new = place_object(self.store, csv)
        entry = PredictionsEntry(version=version, submission=digest)
        kept = self._put_first("predictions", version, entry)
        self._put_again_if_pruned(csv, digest, is_new)
        return get_object(self.store, kept.submission)

    def submission(self, version: str) -> SubmissionEntry | None:
        """Return the submission of a version; None if none is known."""
        return self._get(SubmissionEntry, "submissions", version)

    def put_submission(self, version: str, content: str, ref: int, message: str) -> None:
        """Record a version's submission, and that its content, by its token, has one."""
        entry = SubmissionEntry(version=version, ref=ref, message=message)
        self._put_first("contents", content.rpartition(":")[2].replace("-", "/", 1), entry)
        self._nights.add_submission(entry)
        self._put_first("submissions", version, entry)

    def submission_of(self, content: str) -> SubmissionEntry | None:
        """Return the submission of a content, by its token, whichever version it was made for."""
        return self._get(SubmissionEntry, "contents", content.rpartition(":")[2].replace("-", "/", 1))

    def unscored(self) -> list[SubmissionEntry]:
        """Return the submissions whose end is not known yet, by version."""
        return self._nights.unscored()

    def score(self, version: str) -> Score | None:
        """Return how a version's submission ended; None while that is not known."""
        return self._get(Score, "scores", version)

    def put_score(self, score: Score) -> None:
        """Record how a version's submission ended."""
        self._put_first("scores", score.version, score)

    # Champions

    def champion(self) -> tuple[int, str | None]:
        """Return number and version of the champion; no version if there is none."""
        number, entry = self.champion_entry()
        return number, None if entry is None else entry.version

    def champion_entry(self, *, fresh: bool = False) -> tuple[int, ChampionEntry | None]:
        """Return number and entry of the list's last one; (0, None) if it is empty.

        A step of a run asks several times: what was read a moment ago is not read again, unless it must be
        `fresh`.
        """
        prefix = f"{self.namespace}/champions/"
        if fresh or time.monotonic() >= self._champion_until:
            last_number(self.store, prefix)
            self._champion_until = time.monotonic() + MOMENT_S
        number = self.store.seen.get(prefix, 0)
        return number, self._champion_at(number)

    def _champion_at(self, number: int) -> ChampionEntry | None:
        """Return an entry of the list of champions; it never changes, so it is read once."""
        if number not in self._champions:
            entry = self._get(ChampionEntry, "champions", f"{number:06d}") if number else None
            if entry is None:
                return None
            self._champions[number] = entry
        return self._champions[number]

    def champions(self) -> list[ChampionEntry]:
        """Return all entries of the list of champions, the first one first.

        Their number grows with the age of the job: a run reads the last entry alone.
        """
        last = last_number(self.store, f"{self.namespace}/champions/")
        entries = [self._champion_at(number) for number in range(1, last + 1)]
        return [entry for entry in entries if entry is not None]

    def was_champion(self, version: str) -> bool:
        """Return whether a version is champion, or was among the last ones."""
        return champions.was_champion(self.champion_entry()[1], version)

    def demotion(self, version: str) -> ChampionEntry | None:
        """Return the entry that demoted a version; None if it is not demoted."""
        _, last = self.champion_entry()
        return None if last is None else self._champion_at(last.demotions.get(version, 0))

    def promote(
        self,
        version: str | None,
        after: int,
        reason: str,
        *,
        demoted: str | None = None,
        cause: Demotion | None = None,
        chosen: bool = False,
        checked: Iterable[str] = (),
    ) -> bool:
        """Make a version champion after the champion numbered `after`.

        Args:
            version: the champion from here on; None: there is none until the next promotion.
            after: the number that `champion` gave; 0 if there was none.
            reason: why, for people.
            demoted: the version that loses champion status with it, permanently.
            cause: why it does.
            chosen: whether a person chose the version, against or without the gate.
            checked: the versions whose public score was compared already.

        Returns:
            False if another writer came first: read the champion again, and decide again.
        """
        entry = champions.following_entry(
            self._champion_at(after),
            after + 1,
            version=version,
            reason=reason,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            demoted=demoted,
            cause=cause,
            chosen=chosen,
            checked=checked,
        )
        self._champion_until = 0.0
        return append(self.store, f"{self.namespace}/champions/", after, entry)

    def fallback(self) -> str | None:
        """Return the champion that a rollback goes back to; None if there is none."""
        return champions.fallback(self.champion_entry()[1], lambda name: self.version(name) is not None)

    # What `prune` needs

    def versions_written(self) -> dict[str, float]:
        """Return when each version was published, by name."""
        names = names_of(self.store, f"{self.namespace}/versions/", ENTRY)
        return {name.removesuffix(".json"): written for name, written in names.items()}

    def delete_version(self, name: str) -> None:
        """Delete a version and its predictions, so that its run could train it again."""
        entry = self.version(name)
        if entry is not None and self.version_of(entry.run) == name:
            delete_record(self.store, self._key("trained", entry.run.key))
        for kind in ("predictions", "versions"):
            delete_record(self.store, self._key(kind, name))
