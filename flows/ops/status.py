"""How the job stands: champion, last nights, submissions that are pending or unknown, and the quota.

Needs no Prefect: it reads the store, which is the source of truth, and is safe while a run is under way.
"""

from datetime import UTC, datetime
from re import fullmatch

from flows import lease
from flows.kaggle.competition import Competition, connect, namespace_prefix
from flows.kaggle.download import NAME_DIGITS
from flows.kaggle.errors import CompetitionError
from flows.kaggle.submissions import LOST_D, WARN_D, age_of
from flows.policy.night import seconds_since_the_last
from flows.records import Decision, LeaseState, NightEntry, Record
from flows.registry import Registry
from flows.settings import Settings, SettingsError
from flows.store.base import Store
from flows.store.open import open_store

NIGHTS = 7
"""Number of nights that are shown, the latest ones."""


class VersionSummary(Record):
    """A version with its scores; None for what is not known, or was pruned."""

    version: str
    model: str | None = None
    preset: str | None = None
    valid_accuracy: float | None = None
    public_score: float | None = None


class ChampionSummary(VersionSummary):
    """The champion.

    Attributes:
        since: when it was promoted, UTC, ISO 8601.
    """

    since: str


class NightSummary(Record):
    """How an attempt of a night ended.

    Attributes:
        reason: why it was decided so, or why the version was demoted later.
    """

    night: str
    run: str
    version: str
    valid_accuracy: float | None
    decision: Decision
    reason: str
    public_score: float | None


class PendingSubmission(Record):
    """A submission that has no score yet."""

    version: str
    ref: int


class CountingSubmission(Record):
    """The team's newest submission that has a score, as the competition lists it.

    Attributes:
        days: since it was posted, by this machine's clock; None if the competition does not say.
        remedy: what to do if it is about to be forgotten.
    """

    ref: int
    public_score: float
    days: int | None
    remedy: str | None = None


class JobStatus(Record):
    """How the job stands.

    Attributes:
        champion: None before the first one, and after the alarm of a first one.
        counting: None if there is none, or if the competition could not be asked.
        nights: the last `NIGHTS` that ended, the latest first.
        silent_h: hours since a night last ended well, if they are more than MNIST_SILENCE_S.
        pending: submissions without a score.
        unknown: the version of which it is unknown whether it was submitted; the next run finds out.
        submitting: the version that a run submits right now.
        rank: the team's place on the leaderboard; None if it has none, or could not be read.
        quota: submissions left today; None if the competition could not be asked, for `quota_error`.
    """

    namespace: str
    champion: ChampionSummary | None
    nights: list[NightSummary]
    silent_h: float | None = None
    pending: list[PendingSubmission]
    unknown: str | None
    submitting: str | None
    counting: CountingSubmission | None = None
    rank: int | None = None
    quota: int | None = None
    quota_error: str | None = None


def status(settings: Settings) -> JobStatus:
    """Return how the job stands."""
    registry = open_registry(settings)
    _, champion = registry.champion_entry()
    last = lease.Watch().look(registry)
    over = last.age_s >= lease.LEASE_S or last.holder_has_ended
    state = None if last.entry is None else last.entry.state
    version = None if last.entry is None else last.entry.version
    counting, rank, quota, quota_error = None, None, None, None
    try:
        competition = connect(settings)
        quota = competition.quota()
        counting = newest_counting(competition)
        rank = _rank(competition)
    except (CompetitionError, SettingsError) as error:
        quota_error = str(error)
    nights = registry.nights(NIGHTS)[::-1]
    silent_s = seconds_since_the_last(nights, datetime.now(UTC))
    return JobStatus(
        namespace=registry.namespace,
        champion=None
        if champion is None or champion.version is None
        else ChampionSummary(**dict(summarise(registry, champion.version)), since=champion.at),
        nights=[_night(registry, entry) for entry in nights],
        silent_h=None if silent_s is None or silent_s <= settings.silence_s else round(silent_s / 3600, 1),
        pending=[PendingSubmission(version=made.version, ref=made.ref) for made in registry.unscored()],
        unknown=version if over and state is LeaseState.SENT else None,
        submitting=version if not over and state in (LeaseState.OPEN, LeaseState.SENT) else None,
        counting=counting,
        rank=rank,
        quota=quota,
        quota_error=quota_error,
    )


def _rank(competition: Competition) -> int | None:
    """Return the team's place on the leaderboard; None if it cannot be read."""
    try:
        return competition.rank()
    except CompetitionError:
        return None


def newest_counting(competition: Competition) -> CountingSubmission | None:
    """Return the team's newest submission that has a score; None if there is none."""
    newest = competition.newest_counting()
    if newest is None or newest.public_score is None:
        return None
    age = age_of(newest)
    days = None if age is None else max(0, age.days)
    remedy = None
    if days is not None and days >= WARN_D:
        remedy = (
            f"Kaggle stops counting submissions after {LOST_D} days: `python -m flows submit --again` "
            "submits the champion once more, or let nights do so with MNIST_REPOST_DAYS"
        )
    return CountingSubmission(ref=newest.ref, public_score=newest.public_score, days=days, remedy=remedy)


def open_registry(settings: Settings) -> Registry:
    """Return the registry of the namespace that was written to last, on the server in use.

    Raises:
        SettingsError: there is none.
    """
    store = open_store(settings.store)
    return Registry(store, _last_namespace(store, settings), settings.competition_spec)


def summarise(registry: Registry, version: str) -> VersionSummary:
    """Return a version with its scores."""
    entry, score = registry.version(version), registry.score(version)
    return VersionSummary(
        version=version,
        model=entry.model if entry else None,
        preset=entry.preset if entry else None,
        valid_accuracy=entry.valid_accuracy if entry else None,
        public_score=score.public_score if score else None,
    )


def _last_namespace(store: Store, settings: Settings) -> str:
    prefix = namespace_prefix(settings)
    written: dict[str, float] = {}
    for key, at in store.keys(prefix).items():
        name = key.removeprefix(prefix).partition("/")[0]
        if fullmatch("[0-9a-f]" * NAME_DIGITS, name):  # other programs leave files here, too
            written[prefix + name] = max(at, written.get(prefix + name, 0.0))
    if not written:
        raise SettingsError(
            f"{store.location(prefix)} is empty",
            "run `python -m flows nightly` first, or correct MNIST_STORE or MNIST_KAGGLE",
        )
    return max(written, key=lambda namespace: written[namespace])


def _night(registry: Registry, entry: NightEntry) -> NightSummary:
    demotion, score = registry.demotion(entry.version), registry.score(entry.version)
    return NightSummary(
        night=entry.run.night,
        run=entry.run.key,
        version=entry.version,
        valid_accuracy=entry.valid_accuracy,
        decision=entry.decision,
        reason=f"demoted later: {demotion.reason}" if demotion else entry.reason,
        public_score=score.public_score if score else None,
    )
