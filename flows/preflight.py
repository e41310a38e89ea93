"""Refuse in a second what a run would refuse after its servers have started, and say what the run will do.

Neither Prefect nor torch is imported here.
"""

import contextlib
from datetime import UTC, date, datetime

from flows.grid import read_grid, training_of
from flows.kaggle.address import LIVE, PRACTICE, server_name
from flows.parameters import (
    NightlyParameters,
    Parameters,
    PredictParameters,
    RunParameters,
    SubmitParameters,
    SweepParameters,
    TrainParameters,
    check_member,
    check_night,
    find_version,
)
from flows.settings import Settings
from flows.store.base import StoreError


def preflight(parameters: Parameters, settings: Settings) -> str:
    """Check what a command was given, and return the line that says what it will do.

    Raises:
        SettingsError: the night is in the future, there is no such version or member, the competition's
            server is given no credentials, or a setting of an engine is missing.
    """
    today = datetime.now(UTC).date()
    if isinstance(parameters, RunParameters):
        check_night(parameters.night, today)
    if isinstance(parameters, TrainParameters) and parameters.member is not None:
        check_member(parameters.member, settings)
    if isinstance(parameters, SweepParameters):
        for point in read_grid(parameters.set):
            training_of(parameters, point)
    if isinstance(parameters, SubmitParameters) and parameters.version is not None:
        _check_version(parameters.version, settings)
    if isinstance(parameters, PredictParameters):
        from flows.scale.engines import engine_of

        engine_of(settings, parameters)
        return f"predicting {parameters.need('input')} into {parameters.need('output')}; {settings.place}"
    if settings.kaggle != PRACTICE:
        from flows.kaggle.credentials import credentials_for

        credentials_for(settings)
    return announcement(parameters, settings, today)


def announcement(parameters: Parameters, settings: Settings, today: date) -> str:
    """Return the line that says what a run will do: night, model, competition, home, `.env`.

    Args:
        parameters: of the run.
        settings: with these parameters on top.
        today: the UTC date.
    """
    if isinstance(parameters, SweepParameters):
        what = f"a sweep of {len(read_grid(parameters.set)):,} trainings, which promotes nothing"
    elif isinstance(parameters, RunParameters):
        what = f"night {parameters.night or today.isoformat()}: {settings.model} {settings.preset}"
        what += "" if isinstance(parameters, NightlyParameters) else ", training alone"
    else:
        version = parameters.version if isinstance(parameters, SubmitParameters) else None
        what = f"submitting {version or 'the champion'}"
    if isinstance(parameters, NightlyParameters) and parameters.dry_run:
        what += ", a dry run"
    return f"{what}; {settings.competition} on {_server(settings)}; {settings.place}"


def _server(settings: Settings) -> str:
    if settings.kaggle == PRACTICE:
        unset = "" if settings.kaggle_is_set else " (MNIST_KAGGLE is not set)"
        return f"the practice server, not on kaggle.com{unset}"
    return "kaggle.com" if settings.kaggle == LIVE else server_name(settings.kaggle)


def _check_version(version: str, settings: Settings) -> None:
    from flows.ops.status import open_registry

    with contextlib.suppress(StoreError):  # the run tries again
        find_version(open_registry(settings), version)
