"""The list of checks, in order, and what runs them."""

import contextvars
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flows.ops.doctor.competition import check_counting, check_credentials, check_quota, check_rules
from flows.ops.doctor.finding import Finding, Findings, State
from flows.ops.doctor.machine import check_clock, check_gpu, check_home, check_s3_clock
from flows.ops.doctor.orchestration import (
    check_api,
    check_deployments,
    check_events,
    check_last_night,
    check_pool,
    check_runs,
    check_schedule,
)
from flows.ops.doctor.storage import check_store
from flows.ops.pools import POOLS
from flows.settings import PREFIX, Settings, SettingsError, read_settings
from mnist_core.errors import MnistError

CHECK_S = 30.0
"""Longest time that a check may take, in seconds; the first start of the practice server is one of them."""


@dataclass(frozen=True)
class Check:
    """Something to check.

    Attributes:
        name: of its finding; if it has several, of the one that says why there are no more.
        run: what checks it, given the settings.
        settings: the settings that it needs.
        needs: the finding that must not have failed before.
    """

    name: str
    run: Callable[[Settings], Findings]
    settings: tuple[str, ...] = ()
    needs: str = ""


KAGGLE = ("kaggle", "competition", "home")
CHECKS = (
    Check("credentials", check_credentials, KAGGLE),
    Check("rules", check_rules, KAGGLE, needs="credentials"),
    Check("quota", check_quota, KAGGLE, needs="rules"),
    Check("leaderboard", check_counting, KAGGLE, needs="rules"),
    Check("store", check_store, ("store", "home")),
    Check("Prefect API", check_api, ("home",)),
    Check("Prefect events", check_events, ("home",), needs="Prefect API"),
    *(Check(f"pool {pool}", partial(check_pool, pool), ("home",), needs="Prefect API") for pool in POOLS),
    Check("deployments", check_deployments, ("home",), needs="Prefect API"),
    Check("schedule", check_schedule, ("home",), needs="Prefect API"),
    Check("runs", check_runs, ("home", "gpu_start_s"), needs="Prefect API"),
    Check("last night", check_last_night, ("store", "home", "kaggle", "competition", "silence_s")),
    Check("GPU", check_gpu, ("device",)),
    Check("home", check_home, ("home",)),
    Check("clock", check_clock, KAGGLE),
    Check("clock, S3", check_s3_clock, ("store",)),
)
"""In the order in which they are reported, and should be fixed."""


def examine() -> Iterator[Finding]:
    """Yield all findings; a check that fails or hangs does not stop the others."""
    settings, faulty, finding = _check_settings()
    yield finding
    failed: set[str] = set()
    for check in CHECKS:
        findings: Findings
        if unset := faulty & set(check.settings):
            names = " and ".join(PREFIX + name.upper() for name in sorted(unset))
            findings = [Finding.skipped(check.name, names)]
            failed.add(check.name)
        elif check.needs in failed:
            findings = [Finding.skipped(check.name, check.needs)]
            failed.add(check.name)
        else:
            findings = _run(check, settings)
        for finding in findings:
            if finding.state is State.FAILED:
                failed.add(finding.check)
            yield finding


def _run(check: Check, settings: Settings) -> list[Finding]:
    """Return a check's findings, its error among them; after `CHECK_S` it is abandoned."""
    found: list[Finding] = []

    def work() -> None:
        try:
            found.extend(check.run(settings))
        except MnistError as error:
            found.append(Finding.of(check.name, error))
        except Exception as error:  # its text may hold an address with a password, so only its place is shown
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
            found.append(Finding.failed(check.name, where, "unexpected error; please file an issue"))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    thread.start()
    thread.join(CHECK_S)
    if thread.is_alive():
        remedy = "check the network, then try again"
        return [*found, Finding.failed(check.name, f"no answer within {CHECK_S:.0f} s", remedy)]
    return found


def _check_settings() -> tuple[Settings, set[str], Finding]:
    """Return the settings, with defaults for those that are faulty, and the names of these."""
    try:
        settings = read_settings()
    except SettingsError as error:
        settings = Settings(**Settings.defaults_for(error.names))
        remedy = error.remedy or "correct it in the environment or in `.env`"
        return settings, set(error.names), Finding.failed("settings", error.problem, remedy)
    chosen = f"{PREFIX}KAGGLE={settings.kaggle}, model {settings.model}, preset {settings.preset}"
    found = f"{chosen}; {settings.place}"
    if settings.kaggle_is_set:
        return settings, set(), Finding.ok("settings", found)
    remedy = f"set {PREFIX}KAGGLE to `live` or `practice` for the schedule: without it a scheduled run fails"
    return settings, set(), Finding.note("settings", found, remedy)
