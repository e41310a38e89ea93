"""Nights, versions, predictions and champions of one place, as create-only objects of a store.

objects/<sha256>                                   files of all versions, content-addressed
<server>/<competition>/<data digest>/              a place: nothing mixes across it
    versions/<version>.json                        a trained version; its files lie in objects/
    predictions/<version>.json                     its 28,000 labels; the first ones hold for ever
    submissions/<version>.json, scores/<version>.json
    champions/000001.json                          numbered list: the highest holds
    attempts/<work>/000001.json                    numbered list: which attempt a night is at
    trained/<work>/000001.json                     which version that attempt trained
    nights/<work>/000001/000001.json               numbered list: how that attempt ended
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.store import Store, append, get_json, get_object, latest, put_json, put_object


@dataclass(frozen=True)
class Work:
    """What one night does: the same work again adopts what is finished, other work is done anew.

    Attributes:
        night: the night id, a UTC date as `2026-11-23`.
        model, preset: what is trained, and how long.
        epochs: passes over the rows where they were given by hand; None: the preset's.
        seed: the seed where one was given; None: it follows from night and attempt.
        attempt: 1, and one more with each `--fresh`.
    """

    night: str
    model: str
    preset: str
    epochs: int | None = None
    seed: int | None = None
    attempt: int = 1

    @property
    def name(self) -> str:
        """The work without its attempt, as a key: `2026-11-23/convnet-fast`."""
        given = [f"e{self.epochs}"] if self.epochs is not None else []
        given += [f"s{self.seed}"] if self.seed is not None else []
        return f"{self.night}/{'-'.join([self.model, self.preset, *given])}"

    @property
    def key(self) -> str:
        """The work with its attempt: `2026-11-23/convnet-fast/000001`."""
        return f"{self.name}/{self.attempt:06d}"


class Registry:
    """What a place remembers.

    Args:
        store: where it is kept.
        place: `<server>/<competition>/<data digest>`.
    """

    def __init__(self, store: Store, place: str) -> None:
        self.store = store
        self.place = place

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
        return Work(work.night, work.model, work.preset, work.epochs, work.seed, number)

    def night(self, work: Work) -> dict[str, Any] | None:
        """How this work ended; None while it has not."""
        return latest(self.store, f"{self.place}/nights/{work.key}/")[1]

    def end_night(self, work: Work, result: dict[str, Any]) -> None:
        """Remember how this work ended; where two end at once, the first one holds."""
        prefix = f"{self.place}/nights/{work.key}/"
        append(self.store, prefix, latest(self.store, prefix)[0], result)

    def nights(self) -> list[dict[str, Any]]:
        """How all nights ended that did, the oldest first: as `end_night` was told, with `work`."""
        prefix = f"{self.place}/nights/"
        ends = {}
        for key in self.store.keys(prefix):  # of one attempt the last entry holds
            ends[key.removeprefix(prefix).rpartition("/")[0]] = key
        return [{"work": work, **(get_json(self.store, key) or {})} for work, key in ends.items()]

    # Versions

    def publish(self, work: Work, manifest: dict[str, Any], folder: Path) -> str:
        """Make a trained bundle a version: its files first, its manifest create-only and last.

        Args:
            work: whose version it is.
            manifest: the bundle's manifest; `files` says which files of `folder` belong to it.
            folder: where the bundle was exported to.

        Returns:
            The version's name, `<night>-<model>-<first 8 digits of the weights' sha256>`.
        """
        files = {path.name: put_object(self.store, path.read_bytes()) for path in sorted(folder.iterdir())}
        version = f"{work.night}-{work.model}-{files['weights.safetensors'][:8]}"
        self._put_first(
            "versions", version, {"version": version, "work": work.key, "objects": files, **manifest}
        )
        return str(self._put_first("trained", work.key, {"version": version})["version"])

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

    def put_submission(self, version: str, ref: int, message: str) -> None:
        """Remember a version's submission."""
        self._put_first("submissions", version, {"version": version, "ref": ref, "message": message})

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
        """All champions, the first one first: `version`, `reason`, and `alarm` where one was rolled back."""
        entries = (get_json(self.store, key) for key in self.store.keys(f"{self.place}/champions/"))
        return [entry for entry in entries if entry is not None]

    def was_champion(self, version: str) -> bool:
        """Whether a version is or was champion."""
        return any(entry["version"] == version for entry in self.champions())

    def promote(self, version: str, after: int, reason: str, **facts: Any) -> bool:
        """Make a version champion after the champion numbered `after`.

        Returns:
            False where another writer came first: look again, and decide anew.
        """
        entry = {"version": version, "reason": reason, **facts}
        return append(self.store, f"{self.place}/champions/", after, entry)
