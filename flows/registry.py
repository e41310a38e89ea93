"""Nights, versions, predictions and champions of one place, as create-only objects of a store.

objects/<sha256>                                   files of all versions, content-addressed
<server>/<competition>/<data digest>/              a place: nothing mixes across it
    versions/<version>.json                        a trained version; its files lie in objects/
    predictions/<version>.json                     its 28,000 labels; the first ones hold for ever
    submissions/<version>.json, scores/<version>.json
    contents/<token>.json                          the submission of a content, whichever version it was
    champions/000001.json                          numbered list: the highest holds
    attempts/<work>/000001.json                    numbered list: which attempt a night is at
    trained/<work>/000001.json                     which version that attempt trained
    trained/<work>/000001/01.json                  and which its first member of an ensemble
    assembled/<work>/000001/000001.json            numbered list: which ensemble its members made
    nights/<work>/000001/000001.json               numbered list: how that attempt ended
    intents/000001.json                            numbered list: who posts, one run at a time
"""

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flows.store.base import Store, StoreError
from flows.store.lists import append, get_json, get_object, latest, put_json, put_object
from mnist_core.errors import MnistError
from mnist_core.spec import DIGIT_RECOGNIZER, SPECS, CompetitionSpec

log = logging.getLogger("mnist")
INTENT_S = 180.0
"""Seconds for which an intent to post holds; longer than any one request to the competition takes."""
KEEP_CHAMPIONS = 30
"""So many champions, the last ones, are never pruned."""
PRUNE_AGE_S = 24 * 3600.0
"""What is younger is never pruned: a night that is not finished may rest on it."""


class IntentLostError(MnistError):
    """Another run has taken over posting, because this one's intent had expired."""


@dataclass(frozen=True)
class Work:
    """What one night does: the same work again adopts what is finished, other work is done anew.

    Attributes:
        night: the night id, a UTC date as `2026-11-23`.
        model, preset: what is trained, and how long.
        epochs: passes over rows where they were given by hand; None: the preset's.
        seed: the seed where one was given; None: it follows from night and attempt.
        attempt: 1, and one more with each `--fresh`.
        member: which of tonight's members of an ensemble, from 1; None: the whole.
    """

    night: str
    model: str
    preset: str
    epochs: int | None = None
    seed: int | None = None
    attempt: int = 1
    member: int | None = None

    @property
    def name(self) -> str:
        """The work without its attempt, as a key: `2026-11-23/convnet-fast`."""
        given = [f"e{self.epochs}"] if self.epochs is not None else []
        given += [f"s{self.seed}"] if self.seed is not None else []
        return f"{self.night}/{'-'.join([self.model, self.preset, *given])}"

    @property
    def key(self) -> str:
        """The work with its attempt, `2026-11-23/convnet-fast/000001`; behind it a member's number."""
        member = [] if self.member is None else [f"{self.member:02d}"]
        return "/".join([self.name, f"{self.attempt:06d}", *member])


class Registry:
    """What a place remembers.

    Args:
        store: where it is kept.
        place: `<server>/<competition>/<data digest>`.
    """

    def __init__(self, store: Store, place: str) -> None:
        self.store = store
        self.place = place
        self._champions: dict[str, dict[str, Any]] = {}  # an entry never changes, so it is read once

    @property
    def spec(self) -> CompetitionSpec:
        """The specification of the competition that the place belongs to."""
        return SPECS.get(self.place.split("/")[1], DIGIT_RECOGNIZER)

    def location(self, kind: str, name: str) -> str:
        """Where a person finds an entry, such as `versions` and a version's name."""
        return self.store.location(f"{self.place}/{kind}/{name}.json")

    def _get(self, kind: str, name: str) -> dict[str, Any] | None:
        return get_json(self.store, f"{self.place}/{kind}/{name}.json")

    def _put_first(self, kind: str, name: str, entry: dict[str, Any]) -> dict[str, Any]:
        """Put an entry unless there is one, and return the one that holds."""
        key = f"{self.place}/{kind}/{name}.json"
        put_json(self.store, key, entry)
        holds = get_json(self.store, key)
        assert holds is not None
        return holds

    # Work and how it ended

    def open_attempt(self, work: Work, fresh: bool) -> Work:
        """The attempt that this work is at; with `fresh` the next one is opened."""
        prefix = f"{self.place}/attempts/{work.name}/"
        while True:
            number, _ = latest(self.store, prefix)
            if number and not fresh:
                break
            if append(self.store, prefix, number, {"work": work.name}):
                number += 1
                break
        return replace(work, attempt=number)

    def night(self, work: Work) -> dict[str, Any] | None:
        """How this work ended; None while it has not."""
        return latest(self.store, f"{self.place}/nights/{work.key}/")[1]

    def end_night(self, work: Work, result: dict[str, Any]) -> None:
        """Remember how this work ended; the last end holds, and of two at once the first is kept."""
        prefix = f"{self.place}/nights/{work.key}/"
        append(self.store, prefix, latest(self.store, prefix)[0], result)

    def nights(self, last: int | None = None) -> list[dict[str, Any]]:
        """How the nights ended that did, the oldest first, or the last ones of them; of a date as they ended.

        As `end_night` was told, with `work`.
        """
        prefix = f"{self.place}/nights/"
        ends = {}
        for key, written in self.store.keys(prefix).items():  # of one attempt the last entry holds
            work = key.removeprefix(prefix).rpartition("/")[0]
            ends[work] = (work.partition("/")[0], written, key)
        shown = sorted(ends.items(), key=lambda end: end[1])[-(last or 0) :]
        return [{"work": work, **(get_json(self.store, key) or {})} for work, (_, _, key) in shown]

    # Versions

    def publish(
        self,
        work: Work,
        manifest: dict[str, Any],
        folder: Path,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> str:
        """Make a trained bundle a version: its files first, its manifest create-only and last.

        An ensemble, whose manifest lists `members`, may be assembled again by the same work, on another
        champion; all else is trained once.

        Args:
            work: whose version it is.
            manifest: the bundle's manifest; `files` says which files of `folder` belong to it.
            folder: where the bundle was exported to.
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

        files = {path.name: put_object(self.store, path, advance) for path in paths}
        model = manifest.get("model", work.model)  # a member of an ensemble is a convnet
        version = f"{work.night}-{model}-{files['weights.safetensors'][:8]}"
        self._put_first(
            "versions", version, {"version": version, "work": work.key, "objects": files, **manifest}
        )
        there = self.store.keys("objects/")
        for path in paths:  # a prune may have met an old object of the same bytes just before it was renewed
            if f"objects/{files[path.name]}" not in there:
                put_object(self.store, path)
        if "members" not in manifest:
            return str(self._put_first("trained", work.key, {"version": version})["version"])
        prefix = f"{self.place}/assembled/{work.key}/"
        while not append(self.store, prefix, latest(self.store, prefix)[0], {"version": version}):
            pass
        return version

    def version(self, name: str) -> dict[str, Any] | None:
        """A version's manifest: the bundle's own, with `version`, `work` and `objects` (name → sha256)."""
        return self._get("versions", name)

    def versions(self) -> list[str]:
        """The names of all versions, oldest night first."""
        return [Path(key).stem for key in self.store.keys(f"{self.place}/versions/")]

    def version_of(self, work: Work) -> str | None:
        """The version that this work published; None while there is none."""
        entry = self._get("trained", work.key)
        return None if entry is None else entry["version"]

    def assembled(self, work: Work) -> str | None:
        """The ensemble that this work put together last; None while there is none."""
        entry = latest(self.store, f"{self.place}/assembled/{work.key}/")[1]
        return None if entry is None else entry["version"]

    def fetch(self, version: str, folder: Path, *names: str) -> None:
        """Copy files of a version into a folder, each checked against its digest."""
        manifest = self.version(version)
        assert manifest is not None
        for name in names or tuple(manifest["objects"]):
            (folder / name).write_bytes(get_object(self.store, manifest["objects"][name]))

    # Predictions, submissions, scores

    def predictions(self, version: str) -> bytes | None:
        """The submission.csv of a version, checked by digest; None while it is not made."""
        entry = self._get("predictions", version)
        return None if entry is None else get_object(self.store, entry["submission"])

    def put_predictions(self, version: str, csv: bytes) -> bytes:
        """Keep a version's submission.csv; the first one holds for ever and is returned."""
        entry = self._put_first(
            "predictions", version, {"version": version, "submission": put_object(self.store, csv)}
        )
        return get_object(self.store, entry["submission"])

    def submission(self, version: str) -> dict[str, Any] | None:
        """The submission of a version: `ref` and `message`; None where none is known."""
        return self._get("submissions", version)

    def put_submission(self, version: str, content: str, ref: int, message: str) -> None:
        """Remember a version's submission, and that its content, by its token, has one."""
        entry = {"version": version, "ref": ref, "message": message}
        self._put_first("contents", content.rpartition(":")[2], entry)
        self._put_first("submissions", version, entry)

    def submission_of(self, content: str) -> dict[str, Any] | None:
        """The submission of a content, by its token, whichever version it was made for."""
        return self._get("contents", content.rpartition(":")[2])

    def unscored(self) -> list[str]:
        """The versions that have a submission whose end is not known yet."""
        made, scored = (self.store.keys(f"{self.place}/{kind}/") for kind in ("submissions", "scores"))
        return sorted({Path(key).stem for key in made} - {Path(key).stem for key in scored})

    def score(self, version: str) -> dict[str, Any] | None:
        """The final state of a version's submission: `status`, `public_score`, `error`."""
        return self._get("scores", version)

    def put_score(self, version: str, status: str, public_score: float | None, error: str) -> None:
        """Remember how a version's submission ended."""
        entry = {"version": version, "status": status, "public_score": public_score, "error": error}
        self._put_first("scores", version, entry)

    # Champions

    def champion(self) -> tuple[int, str | None]:
        """Number and version of the champion that holds; (0, None) where there is none."""
        number, entry = latest(self.store, f"{self.place}/champions/")
        return number, entry["version"] if entry else None

    def champions(self) -> list[dict[str, Any]]:
        """All champions, the first one first: `version`, `reason`, and why one was taken back.

        That is `alarm`, the version whose score was too low, or `rollback`, the one a person took back.
        """
        for key in self.store.keys(f"{self.place}/champions/"):
            if key not in self._champions and (entry := get_json(self.store, key)) is not None:
                self._champions[key] = entry
        return [self._champions[key] for key in sorted(self._champions)]

    def was_champion(self, version: str) -> bool:
        """Whether a version is or was champion."""
        return any(entry["version"] == version for entry in self.champions())

    def promote(self, version: str, after: int, reason: str, **facts: Any) -> bool:
        """Make a version champion after the champion numbered `after`.

        Returns:
            False where another writer came first: look again, and decide anew.
        """
        entry = {"version": version, "reason": reason, "at": _now(), **facts}
        return append(self.store, f"{self.place}/champions/", after, entry)

    def before_champion(self) -> str | None:
        """The champion before the one that holds, passing over those taken back; None without one."""
        champions = self.champions()
        if not champions:
            return None
        versions = [entry["version"] for entry in champions]
        earlier = versions[: versions.index(versions[-1])]
        fit = (v for v in reversed(earlier) if v not in self.taken_back() and self.version(v) is not None)
        return next(fit, None)

    def taken_back(self) -> dict[str, str]:
        """The versions from which the title was taken, by an alarm or by hand, each with the reason."""
        whys = ("alarm", "rollback")
        return {entry[why]: entry["reason"] for entry in self.champions() for why in whys if why in entry}

    # Intents: one run posts at a time

    def intent(self) -> tuple[int, dict[str, Any] | None]:
        """Number and entry of the last intent to post; (0, None) where there was none.

        `state` is `open`; `sent`, written right before the request, so that it may have arrived; or `closed`.
        """
        return latest(self.store, f"{self.place}/intents/")

    def open_intent(self, version: str, content: str) -> "Intent | None":
        """Become the one that posts; None where another run is, or where what it sent is not settled yet.

        Args:
            version: whose predictions are posted.
            content: the token that marks their submission.
        """
        number, last = self.intent()
        if last is not None and (
            last["state"] == "sent" or (last["state"] == "open" and not has_expired(last))
        ):
            return None
        facts = {"owner": uuid.uuid4().hex, "version": version, "content": content}
        intent = Intent(self, facts, number)
        return intent if intent.append("open") else None

    def settle_intent(self, number: int, last: dict[str, Any], posted: bool) -> bool:
        """Close another run's intent after it was found out whether its submission arrived.

        Returns:
            False where it went on meanwhile: look again.
        """
        entry = {**last, "state": "closed", "posted": posted}
        return append(self.store, f"{self.place}/intents/", number, entry)

    # Room

    def prune(self, keep: int) -> dict[str, int]:
        """Delete old versions of this place, and objects that no version of the store names.

        Kept are the champion, the last `KEEP_CHAMPIONS` champions, the last `keep` versions, every member
        that one of these names, and whatever is younger than `PRUNE_AGE_S`. How nights ended, champions,
        submissions and scores stay. Safe while a night runs: what it makes or renews is young.

        Returns:
            How many `versions` and `objects` were deleted.
        """
        before = time.time() - PRUNE_AGE_S
        objects = self.store.keys("objects/")  # listed before the manifests: what comes later is not in it
        dated = self.store.keys(f"{self.place}/versions/")
        by_time = [Path(key).stem for key in sorted(dated, key=lambda key: (dated[key], key))]
        kept = {entry["version"] for entry in self.champions()[-KEEP_CHAMPIONS:]} | set(by_time[-keep:])
        kept |= {Path(key).stem for key, written in dated.items() if written >= before}
        for name in list(kept):
            kept.update((self.version(name) or {}).get("members", ()))
        old = [name for name in by_time if name not in kept]
        for name in list(old):
            if name in {entry["version"] for entry in self.champions()[-KEEP_CHAMPIONS:]}:
                old.remove(name)  # promoted since this began
                continue
            work = (self.version(name) or {}).get("work")
            if (self._get("trained", str(work)) or {}).get("version") == name:
                self.store.delete(f"{self.place}/trained/{work}.json")  # else its night could not train anew
            for kind in ("predictions", "versions"):
                self.store.delete(f"{self.place}/{kind}/{name}.json")
        named = self._objects_named()
        unnamed = [
            key for key, written in objects.items() if written < before and Path(key).name not in named
        ]
        deleted = [key for key in unnamed if self.store.delete(key, before)]
        self.store.delete_partials(before)
        return {"versions": len(old), "objects": len(deleted)}

    def _objects_named(self) -> set[str]:
        """The digests that a version or its predictions name, in any place of the store."""
        named: set[str] = set()
        for key in self.store.keys(""):
            kind = Path(key).parent.name
            if kind in ("versions", "predictions"):
                entry = get_json(self.store, key)
                if entry is not None:  # else another prune has deleted it
                    named.update(entry["objects"].values() if kind == "versions" else [entry["submission"]])
        return named


class Intent:
    """One run's right to post in a place, as entries of the numbered list `intents`.

    Opened by `Registry.open_intent`. Each step is the list's next entry, so it fails where another run took
    over in between: then that run posts.

    Attributes:
        sent: whether the request to post may have left.
    """

    def __init__(self, registry: Registry, facts: dict[str, Any], number: int) -> None:
        self._registry = registry
        self._facts = facts
        self._number = number
        self.sent = False

    def append(self, state: str) -> bool:
        """Go on to `open`, `sent` or `closed`; False where another run took over."""
        entry = {**self._facts, "state": state, "expires": _now(INTENT_S)}
        if not append(self._registry.store, f"{self._registry.place}/intents/", self._number, entry):
            return False
        self._number += 1
        return True

    def hold(self) -> None:
        """Renew it right before the request that posts, and while its answer is looked for.

        Raises:
            IntentLostError: another run took over; where nothing was sent, begin anew.
        """
        for _ in range(5):
            began = time.time()
            if not self.append("sent"):
                raise IntentLostError("another run has taken over posting; run this one again")
            if time.time() - began < INTENT_S / 6:  # else too little of it is left for the request
                self.sent = True
                return
        slow = StoreError(f"each write of {self._registry.location('intents', '…')} takes too long to post")
        slow.retryable = True
        raise slow

    def close(self) -> None:
        """Let the next run post. Where that can not be written, it waits until this intent has expired."""
        try:
            self.append("closed")
        except StoreError as error:
            log.warning("%s (the next run that posts waits up to %d s)", error, INTENT_S)


def has_expired(intent: dict[str, Any]) -> bool:
    """Whether an intent's time is over, by this machine's clock."""
    return datetime.fromisoformat(intent["expires"]) <= datetime.now(UTC)


def _now(later_s: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=later_s)).isoformat(timespec="milliseconds")
