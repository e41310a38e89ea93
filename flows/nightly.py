"""The night: train → predict → gate → promote → submit → report. Only `train` may run elsewhere."""

import logging
import math
from typing import Any

from prefect import flow

from flows import report
from flows.ensemble import assemble, parts
from flows.kaggle.competition import connect
from flows.kaggle.errors import CompetitionError, SubmissionRefusedError, SubmissionUnknownError
from flows.ops.children import Limits, run_children
from flows.parameters import NightlyParameters, RunParameters, TrainParameters, takes
from flows.policy.champions import champions_before, demotions, was_champion
from flows.records import Decision, Demotion, NightEntry, RunKey, RunResult
from flows.registry import Registry
from flows.settings import Settings
from flows.store.open import open_store
from flows.submit import predict_version, read_scores, reconcile, submit
from flows.train import (
    capped,
    clocked,
    download,
    night_id,
    refuse_an_unset_server,
    run_name,
    train,
)
from mnist_core import submission
from mnist_core.errors import MnistError

log = logging.getLogger("mnist")


class AlarmError(MnistError):
    """A submission scored far below an earlier champion's; the champion was rolled back.

    Attributes:
        result: the night's.
    """

    def __init__(self, alarm: str, result: RunResult) -> None:
        super().__init__(f"alarm: {alarm}", "check that version, then train another one with --fresh")
        self.result = result


@flow(name="nightly", flow_run_name=run_name)
@takes(NightlyParameters)
def nightly(parameters: NightlyParameters) -> RunResult:
    """Train a version, and if it passes the gate make it champion and submit it once.

    Returns:
        The result that `--json` prints; docs/cli.md describes it.
    """
    report.log_to_prefect()
    settings = parameters.read_settings()
    refuse_an_unset_server(settings)
    with capped(settings.night_cap_s, "the night", "MNIST_NIGHT_CAP_S"):
        return _night(settings, parameters)


def _night(settings: Settings, parameters: NightlyParameters) -> RunResult:
    run = RunKey(
        night=night_id(parameters.night),
        model=settings.model,
        preset=settings.preset,
        epochs=settings.epochs,
        seed=parameters.seed,
    )
    seconds: dict[str, float] = {}
    with clocked(seconds, "download"):
        competition = connect(settings)
        data = download(competition, settings)
    registry = Registry(open_store(settings.store), competition.namespace(data))
    run = registry.open_attempt(run, parameters.fresh)

    def finish(version: str, decision: Decision, reason: str, posted: bool = False) -> RunResult:
        result = report.summarise(registry, run.night, version, decision, reason, seconds, posted)
        try:
            folder = report.write(registry, run, result, settings.home)
            report.forget(settings.home, settings.keep_reports)
        except OSError as error:  # what was done stays done without its report
            log.warning("no report: %s: %s; make room there", error.filename, error.strerror)
            folder = None
        report.publish(registry, result)
        report.show(registry, result, folder)
        return result

    def end(
        version: str, decision: Decision, reason: str, submitted: str | None, alarm: bool = False
    ) -> None:
        entry = registry.version(version)
        registry.end_night(
            NightEntry(
                run=run,
                version=version,
                model=entry.model if entry else None,
                valid_accuracy=entry.valid_accuracy if entry else None,
                valid_interval=entry.valid_interval if entry else None,
                decision=decision,
                reason=reason,
                submitted=submitted,
                alarm=alarm,
                seconds=seconds,
            )
        )

    reconcile(competition, registry)
    alarms = [roll_back(registry, version) for version in read_scores(competition, registry)]
    ended = registry.night(run)
    if ended is not None and _is_over(ended, parameters.force):
        version, reason, seconds = ended.version, ended.reason, ended.seconds
        log.info("night %s is finished already: %s", run.key, ended.decision)
        alarm = roll_back(registry, ended.submitted) if ended.submitted else None
        decision = Decision.FAILED if alarm else ended.decision
        if registry.version(version) is None:
            log.info("%s was pruned; this is what is known of its night", version)
            result = report.summarise(
                registry, run.night, version, decision, alarm or reason, seconds, pruned=ended
            )
        else:
            result = finish(version, decision, alarm or reason)
        return _raise_alarm(result, alarm)
    _, before = registry.champion()
    if before is not None:
        alarms.append(roll_back(registry, before))
    late = next(filter(None, alarms), None)  # of an earlier night: this one goes on, and then tells
    if late:
        log.warning("%s", late)

    seconds |= run_training(run, parameters, settings, registry)

    while True:
        number, champion = registry.champion()
        if run.model == "ensemble":
            with clocked(seconds, "publish"):
                version = assemble(run, champion, data, registry, settings.members)
        else:
            version = registry.need_version_of(run)
        with clocked(seconds, "predict"):
            predict_version(version, data, registry)
        passed, reason = gate(registry, version, champion, settings)
        if parameters.force and not passed:
            passed, reason = True, f"forced: {reason}"
        log.info("gate: %s", reason)
        if parameters.dry_run or not passed or registry.was_champion(version):
            break
        if registry.promote(version, number, reason):
            log.info("champion %d: %s", number + 1, version)
            if registry.version(version) is None and champion is not None:
                registry.promote(
                    champion,
                    number + 1,
                    f"{version} was pruned meanwhile",
                    demoted=version,
                    cause=Demotion.PRUNED,
                )
                raise CompetitionError(
                    f"{version} was pruned while the night ran; run it again", retryable=True
                )
            report.announce(registry, "promoted", version, reason)
            break
    if parameters.dry_run:
        return _raise_alarm(finish(version, Decision.DRY_RUN, reason), late)

    decision = Decision.PROMOTED if passed else Decision.REJECTED
    # Where tonight's is rejected, a champion that was held for want of quota has its turn.
    submitted = version if passed else champion if champion and not registry.submission(champion) else None
    posted = False
    if submitted is not None:
        with clocked(seconds, "submit"):
            try:
                made = submit(submitted)
            except (SubmissionUnknownError, SubmissionRefusedError) as error:
                end(version, Decision.FAILED, str(error), submitted)
                raise
        if made.submission is None:  # no submission is left today
            if passed:
                decision, reason = Decision.DEFERRED, made.reason
            else:
                log.info("champion %s is not submitted yet: %s", submitted, made.reason)
            submitted = None
        else:
            posted = made.submission.posted
            if not passed:
                reason += f"; champion {submitted}, deferred until now, was submitted"
    if submitted is not None and (alarm := roll_back(registry, submitted)):
        end(version, Decision.FAILED, alarm, submitted, alarm=True)
        return _raise_alarm(finish(version, Decision.FAILED, alarm, posted and passed), alarm)
    end(version, decision, reason, submitted)
    return _raise_alarm(finish(version, decision, reason, posted and passed), late)


def _raise_alarm(result: RunResult, alarm: str | None) -> RunResult:
    """Return the result of a night without an alarm.

    Raises:
        AlarmError: there is one; the error has the result.
    """
    if alarm:
        raise AlarmError(alarm, result)
    return result


def run_training(
    run: RunKey, parameters: RunParameters, settings: Settings, registry: Registry
) -> dict[str, float]:
    """Train what is not trained yet where this night runs: in its process, or, as a deployment's run, on the
    GPU pool, a run for each member of an ensemble.

    Returns:
        The seconds of `read`, `train`, `publish`; on the GPU pool of `start`, `read`, `train`, where `start`
        is what the other machine cost: the seconds in which nothing was running there. Nothing where all was
        trained before.
    """
    from prefect.runtime import deployment

    todo = [part for part in parts(run) if registry.version_of(part) is None]
    if not todo:
        return {}
    given = TrainParameters(
        night=run.night,
        model=run.model,
        preset=run.preset,
        seed=parameters.seed,
        device=parameters.device,
        attempt=run.attempt,
    )
    if deployment.id is None:
        spent = train(**given.to_json()).seconds
        return {step: took for step, took in spent.items() if step != "download"}
    asked = [given.model_copy(update={"member": part.member}) for part in todo]
    fallback = {"capacity_provider": settings.gpu_fallback} if settings.gpu_fallback else None
    limits = Limits(start_s=settings.gpu_start_s, cap_s=settings.train_cap_s)
    start = run_children("train/gpu", asked, limits, fallback)
    spent = {"start": start}
    for part in todo:
        entry = registry.version(registry.version_of(part) or "")
        if entry is None:
            raise CompetitionError(
                "what was trained is not in this night's namespace: the competition's data changed while it "
                "ran, or the GPU pool has other MNIST_ settings",
                "run this again",
                retryable=True,
            )
        for step in ("read", "train"):
            spent[step] = round(spent.get(step, 0.0) + entry.seconds[step], 3)
    return spent


def _is_over(ended: NightEntry, force: bool) -> bool:
    """Return whether a night has nothing left to do; deferred and failed nights are resumed."""
    rejected = ended.decision is Decision.REJECTED and not force
    return rejected or ended.decision is Decision.PROMOTED or ended.alarm


def gate(registry: Registry, version: str, champion: str | None, settings: Settings) -> tuple[bool, str]:
    """Whether a version may become champion, and why.

    It passes at or above its floor, unless its predictions for test.csv lack a digit or are far from the
    champion's, or it is worse than the champion on the rows that both left out by more than `margin_errors`
    standard errors of the paired difference and more than `margin_rows` rows. The gate keeps bad models out;
    8,400 rows can not pick the best.
    """
    if version in (demotions := registry.demotions()):
        return False, demotions[version].reason
    if registry.was_champion(version):
        return True, "it is the champion" if champion == version else "it was champion; a later one holds"
    entry = registry.need_version(version)
    accuracy, floor = entry.valid_accuracy, settings.floor_of(entry.model)
    if accuracy < floor:
        return False, f"validation accuracy {accuracy:.4f} is below the floor {floor:.4f}"
    import numpy as np

    from mnist_core import compare

    labels = _labels(registry, version)
    shares = np.bincount(labels, minlength=10) / len(labels)
    if shares.min() < settings.share_min:
        return False, (
            f"the digit {shares.argmin()} is {shares.min():.1%} of its predictions, below "
            f"{settings.share_min:.1%} (MNIST_SHARE_MIN): the network or test.csv is broken"
        )
    if champion is None:
        return (
            True,
            f"validation accuracy {accuracy:.4f} is above the floor {floor:.4f}, and there is no champion",
        )
    if entry.members and entry.members == registry.members_of(champion):
        return False, "none of tonight's members takes the place of one of the champion's"
    mine, theirs = registry.held_out(version), registry.held_out(champion)
    rows, here, there = np.intersect1d(mine.rows, theirs.rows, return_indices=True)
    if not len(rows):
        return False, f"champion {champion} left out none of the rows that it did; train anew with --fresh"
    both = compare(
        mine.probabilities[here].argmax(1), theirs.probabilities[there].argmax(1), mine.labels[here]
    )
    worse = both.only_b - both.only_a
    error = both.standard_error * both.n
    margin = max(settings.margin_errors * error, settings.margin_rows)
    count = f"{abs(worse)} errors {'fewer' if worse < 0 else 'more'}"
    reason = (
        f"{count} than champion {champion} on {len(rows)} rows that both left out "
        f"(standard error {error:.1f}; up to {margin:.1f} more pass)"
    )
    if worse > margin:
        return False, reason
    agreement = float((labels == _labels(registry, champion)).mean())
    if agreement < settings.agreement:
        return False, (
            f"it agrees with champion {champion} on {agreement:.2%} of the test rows, below "
            f"{settings.agreement:.2%} (MNIST_AGREEMENT); where the champion is the bad one, --force"
        )
    return True, reason


def roll_back(registry: Registry, version: str) -> str | None:
    """Take the title from a champion whose public score is too low; it is never promoted again.

    A champion before the one that holds loses its place in the line: nothing goes back to it, and no score is
    compared with its own.

    Too low is more than 4 √d / 28,000 below that of the last champion before it that has a score, d being
    the number of test rows on which the two differ: of d rows that one of two equal networks has right, the
    difference of their counts has a standard deviation of at most √d.

    Returns:
        What the alarm is about; None where there is none. The same at each call.
    """
    entries, score = registry.champions(), registry.score(version)
    demoted = demotions(entries).get(version)
    if demoted is not None and demoted.cause is Demotion.ALARM:
        return demoted.reason
    if score is None or score.public_score is None or not was_champion(entries, version):
        return None
    if registry.predictions(version) is None:  # pruned
        return None
    for earlier in champions_before(entries, version):
        before = registry.score(earlier)
        if before is not None and before.public_score is not None and registry.predictions(earlier):
            break
    else:
        return None
    differ = int((_labels(registry, version) != _labels(registry, earlier)).sum())
    bound = 4 * math.sqrt(differ) / registry.spec.test_rows
    if score.public_score >= before.public_score - bound:
        return None
    alarm = (
        f"public score {score.public_score:.5f} of {version} is more than {bound:.5f} below "
        f"{before.public_score:.5f} of champion {earlier} (they differ on {differ} rows); "
        f"{version} is no longer champion and is not promoted again"
    )
    while True:
        number, champion = registry.champion()
        holds = earlier if champion == version else str(champion)
        if version in registry.demotions():
            return alarm
        if registry.promote(holds, number, alarm, demoted=version, cause=Demotion.ALARM):
            report.announce(registry, "rolled-back", holds, alarm)
            return alarm


def _labels(registry: Registry, version: str) -> Any:
    return submission.read_csv(registry.need_predictions(version), registry.spec)
