"""What the registry says about a run: its result, the facts of its scorecard, the history of the nights."""

from collections.abc import Mapping, Sequence

from flows.policy.champions import was_champion
from flows.policy.cost import Prices, night_cost
from flows.records import (
    ChampionResult,
    Decision,
    NightEntry,
    RunResult,
    Status,
    SubmissionResult,
    VersionEntry,
)
from flows.registry import Registry
from flows.report.history import LAST, Entry
from flows.report.scorecard import Link, Scorecard
from flows.trials import describe, read_log

FREE = Prices()
STEPS = ("start", "download", "read", "train", "explore", "publish", "predict", "submit")
"""Steps of a run, in their order."""


def summarise(
    registry: Registry,
    version: VersionEntry,
    *,
    reason: str,
    seconds: Mapping[str, float],
    night: str | None = None,
    decision: Decision | None = None,
    posted: bool = False,
    ref: int | None = None,
) -> RunResult:
    """Return the result of a command, for people and for machines.

    Args:
        registry: of the namespace.
        version: the one that the result is about.
        reason: why, for people.
        seconds: by step.
        night: the run's; the version's if it is not given.
        decision: None of `train` and `submit`.
        posted: whether this command posted the version's submission.
        ref: of the submission that it made or found; else the version's first one.
    """
    submission = _submission(registry, version.version, posted)
    if submission is not None and ref is not None:
        submission = submission.model_copy(update={"ref": ref})
    return RunResult(
        night=night or version.night,
        model=version.model,
        version=version.version,
        valid_accuracy=version.valid_accuracy,
        decision=decision,
        reason=reason,
        submission=submission,
        champion=_champion(registry),
        seconds={step: seconds[step] for step in STEPS if step in seconds},
    )


def summarise_pruned(registry: Registry, ended: NightEntry, *, reason: str, decision: Decision) -> RunResult:
    """Return the result of a night whose version was pruned since, from what its own entry says."""
    return RunResult(
        night=ended.run.night,
        model=ended.model,
        version=ended.version,
        valid_accuracy=ended.valid_accuracy,
        decision=decision,
        reason=reason,
        submission=_submission(registry, ended.version, posted=False),
        champion=_champion(registry),
        seconds={step: ended.seconds[step] for step in STEPS if step in ended.seconds},
    )


def _submission(registry: Registry, version: str, posted: bool) -> SubmissionResult | None:
    made, scored = registry.submission(version), registry.score(version)
    if made is None:
        return None
    return SubmissionResult(
        ref=made.ref,
        status=Status.PENDING if scored is None else scored.status,
        public_score=None if scored is None else scored.public_score,
        posted=posted,
    )


def _champion(registry: Registry) -> ChampionResult | None:
    _, name = registry.champion()
    if name is None:
        return None
    version, scored = registry.version(name), registry.score(name)
    return ChampionResult(
        version=name,
        valid_accuracy=None if version is None else version.valid_accuracy,
        public_score=None if scored is None else scored.public_score,
    )


def read_scorecard(
    registry: Registry,
    result: RunResult,
    version: VersionEntry,
    prices: Prices = FREE,
    rank: int | None = None,
) -> Scorecard:
    """Return the facts of a result's scorecard.

    Args:
        registry: of the namespace.
        result: of the command.
        version: the one that the result is about.
        prices: by which the cost is shown.
        rank: the team's place on the leaderboard; None if it is not known.
    """
    server, competition, _ = registry.namespace.split("/")
    submission = None
    if server == "kaggle" and result.submission is not None:
        url = f"https://www.kaggle.com/competitions/{competition}/submissions"
        submission = Link(f"submission {result.submission.ref}", url)
    return Scorecard(
        result=result,
        version=version,
        namespace=registry.namespace,
        manifest=Link(
            registry.location("versions", version.version), registry.console_url("versions", version.version)
        ),
        submission=submission,
        cost=night_cost(result.seconds, prices),
        rank=rank,
        tried=describe(read_log(registry), version.run) if result.seconds.get("explore") else None,
    )


def read_history(registry: Registry, prices: Prices = FREE) -> list[Entry]:
    """Return the last nights that ended, the oldest first, with what they cost at these prices."""
    return history_of(registry, registry.nights(LAST), prices)


def history_of(registry: Registry, nights: Sequence[NightEntry], prices: Prices = FREE) -> list[Entry]:
    """Return the entries of these nights, with what is known of their scores and champions now."""
    from mnist_core.evaluation import score_interval

    _, champion = registry.champion_entry()
    entries = []
    scores = registry.recent_scores()
    for night in nights:
        score = scores.get(night.version)
        valid, interval = night.valid_accuracy, night.valid_interval
        entries.append(
            Entry(
                night=night.run.night,
                version=night.version,
                decision=night.decision,
                valid=None if valid is None or interval is None else (valid, *interval),
                public=None if score is None else (score, *score_interval(score, registry.spec)),
                champion=night.decision in (Decision.PROMOTED, Decision.DEFERRED)
                or was_champion(champion, night.version),
                demoted=champion is not None and night.version in champion.demotions,
                cost=night_cost(night.seconds, prices),
                rank=night.rank,
                metric=registry.spec.metric,
            )
        )
    return entries
