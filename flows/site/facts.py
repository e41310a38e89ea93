"""What the public pages say, read from the registry.

Nothing that was written as free text reaches a page: a reason or an error may name a path, a host or an
account. What is shown is numbers, dates, and names that this program gives.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.held_out import FILE, HeldOut
from flows.policy.cost import Prices, step_costs
from flows.records import Decision, NightEntry, RunKey, VersionEntry
from flows.registry import Registry
from flows.report.history import LAST, Entry, Interval
from flows.report.result import FREE, STEPS, history_of
from flows.store.lists import DamagedObjectError
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec

SERVERS = {"kaggle": "Kaggle", "practice": "a local practice server"}
"""Servers that a page names; any other one is a host."""
LIBRARIES = ("python", "torch", "torchvision", "fastai", "numpy", "onnx", "safetensors")
"""Libraries whose versions a page shows."""
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,40}")
"""A name or the version of a library, as it may stand on a page."""
HARDEST = 12
"""Held-out digits that a night's page lists."""
PICTURE = "hardest.png"
DECISIONS = {
    Decision.PROMOTED: "It passed the gate and became champion.",
    Decision.REJECTED: "It did not pass the gate; the champion stays.",
    Decision.DEFERRED: "It became champion, and is submitted on a later day.",
    Decision.DRY_RUN: "A dry run: nothing was promoted or submitted.",
    Decision.FAILED: "Its submission did not end well.",
}
ALARM = "Its public score contradicts its held-out accuracy; it is not champion any more."


@dataclass(frozen=True)
class Mistake:
    """A held-out digit that was hard.

    Attributes:
        row: of the training file, from 1.
        label, predicted: its class, and the one that was predicted.
        probability: of its class.
    """

    row: int
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Errors:
    """What a version got wrong on its held-out rows.

    Attributes:
        classes: the names of the classes.
        confusion: counts, [true class][predicted class].
        hardest: the digits whose class got the lowest probability, the hardest first.
    """

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    hardest: tuple[Mistake, ...]

    @property
    def most(self) -> int:
        """The largest count of an error."""
        return max((count for _, _, count in self.pairs), default=0)

    @property
    def total(self) -> int:
        """The number of errors."""
        return sum(count for _, _, count in self.pairs)

    @property
    def pairs(self) -> list[tuple[str, str, int]]:
        """Return true class, predicted class and count of each kind of error, the most frequent first."""
        found = [
            (self.classes[true], self.classes[predicted], count)
            for true, row in enumerate(self.confusion)
            for predicted, count in enumerate(row)
            if true != predicted and count
        ]
        return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))

    @property
    def recalls(self) -> list[tuple[str, int, int]]:
        """Return class, right rows and rows of each class, the one with the lowest share first."""
        found = [
            (name, row[number], sum(row))
            for number, (name, row) in enumerate(zip(self.classes, self.confusion, strict=True))
            if sum(row)
        ]
        return sorted(found, key=lambda recall: recall[1] / recall[2])


@dataclass(frozen=True)
class VersionFacts:
    """What a page says of a version.

    Attributes:
        epochs: passes over the rows; None: those of the preset.
        rows: that it was trained on; None of an ensemble, whose members see different ones.
        libraries: name and version.
        errors: None if its held-out predictions are not in the store.
        picture: the hardest digits as a PNG file; None if it may not be shown.
    """

    name: str
    model: str
    preset: str
    seed: int
    epochs: int | None
    rows: int | None
    valid: Interval
    valid_rows: int
    members: int
    agreement: float | None
    libraries: tuple[tuple[str, str], ...]
    errors: Errors | None
    picture: bytes | None


@dataclass(frozen=True)
class NightFacts:
    """What a night's page says.

    Attributes:
        page: name of its file, without a suffix.
        ended: UTC, ISO 8601.
        outcome: what was decided, in our own words.
        submitted: whether its own version was.
        seconds: step and seconds.
        costs: of each step in US dollars; empty if no price is known.
        version: None if it was pruned.
    """

    page: str
    entry: Entry
    run: RunKey
    ended: str | None
    outcome: str
    submitted: bool
    seconds: tuple[tuple[str, float], ...]
    costs: Mapping[str, float]
    version: VersionFacts | None

    @property
    def total_s(self) -> float:
        """Seconds of all steps."""
        return sum(spent for _, spent in self.seconds)


@dataclass(frozen=True)
class ChampionFacts:
    """The champion, for its card.

    Attributes:
        version: the champion.
        public: its public score with the interval; None while unknown.
        since: UTC date of its promotion.
    """

    version: VersionFacts
    public: Interval | None
    since: str


@dataclass(frozen=True)
class SiteFacts:
    """What the site says.

    Attributes:
        server: where the competition takes place.
        nights: the oldest first.
        champion: None if there is none, or if it was pruned.
    """

    spec: CompetitionSpec
    server: str
    nights: tuple[NightFacts, ...]
    champion: ChampionFacts | None

    @property
    def of_digits(self) -> bool:
        """Whether the pictures are MNIST's in form and classes, as far as a specification can tell."""
        return self.spec.is_like(DIGIT_RECOGNIZER)

    @property
    def has_costs(self) -> bool:
        """Whether a price is known."""
        return any(night.costs for night in self.nights)

    @property
    def score(self) -> str:
        """What the competition's figure is called."""
        return "public score" if self.server == SERVERS["kaggle"] else "practice score"

    @property
    def updated(self) -> str:
        """When the last night ended, UTC, ISO 8601."""
        return max((night.ended or night.run.night for night in self.nights), default="")


def read_facts(registry: Registry, *, pictures: bool = False, prices: Prices = FREE) -> SiteFacts:
    """Return what the site says.

    Args:
        registry: of the namespace.
        pictures: whether rows of the competition's files may be shown as pictures.
        prices: by which costs are shown.
    """
    nights = registry.nights(LAST)
    entries = history_of(registry, nights, prices)
    return SiteFacts(
        spec=registry.spec,
        server=SERVERS.get(registry.namespace.split("/")[0], "another server"),
        nights=tuple(
            _night(registry, night, entry, pictures, prices)
            for night, entry in zip(nights, entries, strict=True)
        ),
        champion=_champion(registry, pictures),
    )


def _night(registry: Registry, night: NightEntry, entry: Entry, pictures: bool, prices: Prices) -> NightFacts:
    version = registry.version(night.version)
    return NightFacts(
        page=f"{night.run.name.replace('/', '-')}-{night.run.attempt}",
        entry=entry,
        run=night.run,
        ended=night.at,
        outcome=ALARM if night.alarm else DECISIONS[night.decision],
        submitted=night.submitted == night.version and night.decision is not Decision.DRY_RUN,
        seconds=tuple((step, night.seconds[step]) for step in STEPS if step in night.seconds),
        costs=step_costs(night.seconds, prices),
        version=None if version is None else read_version(registry, version, pictures),
    )


def _champion(registry: Registry, pictures: bool) -> ChampionFacts | None:
    from mnist_core.evaluation import score_interval

    _, last = registry.champion_entry()
    version = None if last is None or last.version is None else registry.version(last.version)
    if last is None or version is None:
        return None
    score = registry.score(version.version)
    public = None if score is None else score.public_score
    return ChampionFacts(
        version=read_version(registry, version, pictures),
        public=None if public is None else (public, *score_interval(public, registry.spec)),
        since=last.at[:10],
    )


def read_version(registry: Registry, version: VersionEntry, pictures: bool) -> VersionFacts:
    """Return what a page says of a version."""
    more: dict[str, Any] = version.model_extra or {}
    rows = more.get("rows")
    versions = more.get("libraries") or {}
    shown = pictures and PICTURE in version.objects
    return VersionFacts(
        name=version.version,
        model=version.model,
        preset=version.preset,
        seed=version.seed,
        epochs=version.run.epochs,
        rows=rows if isinstance(rows, int) else None,
        valid=(version.valid_accuracy, *version.valid_interval),
        valid_rows=version.valid_rows,
        members=len(version.members),
        agreement=version.agreement,
        libraries=tuple((name, str(versions[name])) for name in LIBRARIES if _is_word(versions.get(name))),
        errors=_errors(registry, version),
        picture=registry.file(version, PICTURE) if shown else None,
    )


def _is_word(value: object) -> bool:
    return isinstance(value, str) and WORD.fullmatch(value) is not None


def _errors(registry: Registry, version: VersionEntry) -> Errors | None:
    from mnist_core.evaluation import evaluate

    if FILE not in version.objects:
        return None
    try:
        held_out = HeldOut.from_bytes(registry.read(version, FILE))
    except DamagedObjectError:
        return None
    found = evaluate(held_out.probabilities, held_out.labels, registry.spec)
    classes: Sequence[str] = registry.spec.classes
    return Errors(
        classes=tuple(classes),
        confusion=tuple(tuple(map(int, row)) for row in found.confusion),
        hardest=tuple(
            Mistake(
                row=int(held_out.rows[at]) + 1,
                label=classes[held_out.labels[at]],
                predicted=classes[held_out.predicted[at]],
                probability=float(held_out.probabilities[at, held_out.labels[at]]),
            )
            for at in found.hardest[:HARDEST]
        ),
    )
