"""The records that runs exchange and the store keeps: typed, to and from JSON.

A stored record may have more fields than are read here (`format` and `writer`, which the store adds); a wrong
or missing field is an error that names the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnist_core.errors import MnistError
from mnist_core.manifest import BundleFile
from mnist_core.metric import Metric
from mnist_core.recipes import Value

VERSION = r"[0-9]{4}-[0-9]{2}-[0-9]{2}-[a-z0-9-]+-[0-9a-f]{8}"
"""A version's name, `<night>-<model>-<first 8 digits of the weights' sha256>`, as a pattern."""


class RecordError(MnistError):
    """A record, from the store or from another run, with a wrong or missing field."""


class Record(BaseModel):
    """Base of all records: immutable, compared by value."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> Self:
        """Return the record that a JSON object holds.

        Args:
            value: the object, as `json.loads` gives it.
            where: names the object in the error, such as its location in the store.

        Raises:
            RecordError: a field is missing or wrong; the message names the object and the field.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise RecordError(
                f"{where}: {cls.__name__} with a wrong field {field!r}: {first['msg']}",
                "it was changed from outside, or written by another version of this program",
            ) from None

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return self.model_dump(mode="json")


class Decision(StrEnum):
    """What a nightly run decided about its version."""

    PROMOTED = "promoted"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    """Champion, but no submission was left that day."""
    DRY_RUN = "dry-run"
    FAILED = "failed"


class Status(StrEnum):
    """The state of a submission on the competition's server."""

    PENDING = "PENDING"
    COMPLETE = "COMPLETE"
    ERROR = "ERROR"
    UNKNOWN = "UNKNOWN"
    """The request was sent, and neither its answer nor the server's list shows whether it arrived."""


class Demotion(StrEnum):
    """Why a version lost champion status permanently."""

    ALARM = "alarm"
    ROLLBACK = "rollback"
    PRUNED = "pruned"


class RunKey(Record):
    """Identifies a run's work: the same key resumes, another key starts from scratch.

    Attributes:
        night: UTC date as `2026-11-23`.
        model, preset: what is trained, and how long.
        epochs: passes over the rows; None: the preset's.
        seed: the given seed; None: derived from night and attempt.
        attempt: 1, and one more for each `--fresh`.
        member: the night's member of an ensemble, from 1; None: the whole.
        recipe: the name of a recipe that was tried; None: the night's.
    """

    night: str
    model: str
    preset: str
    epochs: int | None = None
    seed: int | None = None
    attempt: int = 1
    member: int | None = None
    recipe: str | None = None

    def with_attempt(self, attempt: int) -> RunKey:
        """Return the key of another attempt."""
        return self.model_copy(update={"attempt": attempt})

    def with_member(self, member: int) -> RunKey:
        """Return the key of one member of an ensemble's night, from 1."""
        return self.model_copy(update={"member": member})

    @property
    def name(self) -> str:
        """The key without its attempt: `2026-11-23/convnet-fast`."""
        given = [f"e{self.epochs}"] if self.epochs is not None else []
        given += [f"s{self.seed}"] if self.seed is not None else []
        given += [self.recipe] if self.recipe is not None else []
        return f"{self.night}/{'-'.join([self.model, self.preset, *given])}"

    @property
    def key(self) -> str:
        """The name with its attempt, `2026-11-23/convnet-fast/000001`, and a member's number."""
        member = [] if self.member is None else [f"{self.member:02d}"]
        return "/".join([self.name, f"{self.attempt:06d}", *member])


FileName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
"""Name of a file, and no path: a changed record cannot have a file written outside of a reader's folder."""


class VersionEntry(Record):
    """What the store knows of a version: the facts of its bundle's manifest that flows read.

    The manifest's other facts (confusion, libraries, …) are kept beside these.

    Attributes:
        version: its name, `<night>-<model>-<first 8 digits of the weights' sha256>`.
        run: the run that trained it.
        objects: sha256 in hex of each of its files, by name.
        files: the files that the manifest vouches for, by name.
        seed: the one that it was trained with.
        valid_rows, valid_accuracy, valid_interval: held-out rows, share of them that are right, and the 95 %
            interval of that share.
        fold, number: of a member of an ensemble, and the fold of any single network.
        members: the versions that an ensemble is made of; empty for a single network.
        base: of an ensemble, the champion that it grew from.
        agreement: of an ensemble, the share of rows held out by several members on which these agree.
        metric: by which the competition scores.
        valid_score: by that metric, on the held-out rows; None if it is the accuracy.
        seconds: what reading, training and publishing took.
        recipe: the fields in which a single network's recipe differs from its preset's.
    """

    model_config = ConfigDict(extra="allow")

    version: str
    run: RunKey
    objects: dict[FileName, str]
    model: str
    files: dict[str, BundleFile] = {}
    night: str
    preset: str
    seed: int
    valid_rows: int
    valid_accuracy: float
    valid_interval: tuple[float, float]
    fold: int | None = None
    number: int | None = None
    members: tuple[str, ...] = ()
    base: str | None = None
    agreement: float | None = None
    metric: Metric = Metric.ACCURACY
    valid_score: float | None = None
    seconds: dict[str, float] = {}
    recipe: dict[str, Value] = {}


class AttemptEntry(Record):
    """An entry of the list of a run's attempts.

    Attributes:
        run: the run key without its attempt, as `RunKey.name`.
    """

    run: str


class VersionRef(Record):
    """An entry that names the version a run trained, or the ensemble that its members made."""

    version: str


class PredictionsEntry(Record):
    """A version's predictions for the test file.

    Attributes:
        submission: sha256 in hex of the submission file.
    """

    version: str
    submission: str


class Submission(Record):
    """A submission as the competition's server lists it.

    Attributes:
        ref: the server's number of it.
        message: its description, which carries the content's token.
        public_score: by the competition's metric, such as the share of right rows; None while unknown.
        error: why the server refused the file.
        at: when it was posted by the server's clock, UTC, ISO 8601; empty if it does not say so.
        posted: whether this call made it, rather than finding it.
        team: the name of the team that made it; empty if the server does not say.
    """

    ref: int
    message: str
    status: Status
    public_score: float | None = None
    error: str = ""
    at: str = ""
    posted: bool = False
    team: str = ""

    @property
    def counts(self) -> bool:
        """Whether it has a score. A status of COMPLETE alone does not say so: the score may follow later."""
        return self.status is Status.COMPLETE and self.public_score is not None

    @property
    def is_final(self) -> bool:
        """Whether its end is known."""
        return self.counts or self.status is Status.ERROR


class SubmissionEntry(Record):
    """The submission of a version, or of a content, as the store keeps it."""

    version: str
    ref: int
    message: str


class Score(Record):
    """How a version's submission ended."""

    version: str
    status: Status
    public_score: float | None
    error: str = ""


class ChampionEntry(Record):
    """An entry of the list of champions; the last one says all that a run asks about the list.

    Attributes:
        version: the champion from here on; None if there is none until the next promotion.
        reason: why, for people.
        at: when, UTC, ISO 8601.
        demoted: the version that lost champion status with this entry, permanently.
        cause: why it did.
        before: the champions before it, the latest first, without demoted ones.
        demotions: the number of the entry that demoted each demoted version.
        unchecked: champions before it whose public score was not compared yet.
        chosen: the last version that a person made champion, against or without the gate.
    """

    version: str | None
    reason: str
    at: str
    demoted: str | None = None
    cause: Demotion | None = None
    before: tuple[str, ...] = ()
    demotions: dict[str, int] = {}
    unchecked: tuple[str, ...] = ()
    chosen: str | None = None


class ProcessId(Record):
    """Identifies a process on this machine since it was booted; see `flows/process.py`.

    Attributes:
        boot: random id of the boot.
        namespace: of process numbers; each container has its own.
        pid: the process number.
        started: clock ticks from the boot to the start of the process.
    """

    boot: str
    namespace: int
    pid: int
    started: int


class LeaseState(StrEnum):
    """How far the run that holds the lease has come."""

    OPEN = "open"
    SENT = "sent"
    """Written right before the request that posts, so that it may have arrived."""
    CLOSED = "closed"


class LeaseEntry(Record):
    """An entry of the list of leases: the right to submit, one run of a namespace at a time.

    Attributes:
        owner: the run's own random id.
        version: whose predictions are posted.
        content: the token that marks their submission.
        holder: the run's process; None if the system does not say.
        newest: of a sent entry: the submission that was listed first before; None if there was none.
        posted: of a closed entry that another run wrote: whether the submission had arrived.
    """

    owner: str
    version: str
    content: str
    state: LeaseState
    holder: ProcessId | None = None
    newest: int | None = None
    posted: bool | None = None


class NightEntry(Record):
    """How one attempt of a night ended.

    Attributes:
        run: the attempt's key.
        version: the version that it trained.
        model, valid_accuracy, valid_interval: the version's; it may be pruned since.
        submitted: the version whose predictions were posted, or would have been.
        alarm: whether the decision is `failed` because of an alarm.
        seconds: by step.
        at: when it ended, UTC, ISO 8601.
        numbers: at which numbers the lists of its namespace were then.
        rejections: nights in a row that were rejected, this one included.
        rank: the team's place on the leaderboard when it ended; None if it had none, or it was not known.
    """

    run: RunKey
    version: str
    model: str | None = None
    valid_accuracy: float | None = None
    valid_interval: tuple[float, float] | None = None
    decision: Decision
    reason: str
    submitted: str | None = None
    alarm: bool = False
    seconds: dict[str, float] = {}
    at: str | None = None
    numbers: dict[str, int] = {}
    rejections: int = 0
    rank: int | None = None


class History(Record):
    """The last nights, and what is still to be known of the submissions.

    Attributes:
        nights: how they ended, the oldest night first and those of a night as they ended.
        scores: public score by version, of those of these nights; None if it ended without one.
        unscored: submissions whose end is not known yet, by version.
    """

    nights: tuple[NightEntry, ...] = ()
    scores: dict[str, float | None] = {}
    unscored: tuple[SubmissionEntry, ...] = ()


class PruneResult(Record):
    """How many versions, and objects that no version names, were deleted."""

    versions: int
    objects: int


class SubmissionResult(Record):
    """The submission of a run's result."""

    ref: int | None
    status: Status
    public_score: float | None
    posted: bool


class ChampionResult(Record):
    """The champion of a run's result."""

    version: str
    valid_accuracy: float | None
    public_score: float | None


class RunResult(Record):
    """What a command ends with: the object that `--json` prints.

    Attributes:
        decision: None of `train` and `submit`, which decide nothing.
        seconds: by step; `train` is the fit alone, `total` the whole command.
    """

    night: str | None = None
    model: str | None = None
    version: str | None = None
    valid_accuracy: float | None = None
    decision: Decision | None = None
    reason: str = ""
    submission: SubmissionResult | None = None
    champion: ChampionResult | None = None
    seconds: dict[str, float] = {}


class PredictResult(Record):
    """What `predict` ends with.

    Attributes:
        input, output: addresses.
        version: that predicted.
        rows: digits with a prediction.
        skipped: broken rows that were left out.
        labels: digits by label.
        seconds: by step, `total` the whole command.
    """

    input: str | None = None
    output: str | None = None
    version: str | None = None
    rows: int = 0
    skipped: int = 0
    labels: dict[str, int] = {}
    reason: str = ""
    seconds: dict[str, float] = {}
