"""Which engine a command names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.environment import SettingsError
from flows.scale.engine import Engine, LocalEngine
from mnist_core.cores import cores

if TYPE_CHECKING:
    from flows.parameters import PredictParameters
    from flows.settings import Settings


def engine_of(settings: Settings, parameters: PredictParameters) -> Engine:
    """Return the engine that was asked for; nothing is contacted yet.

    Raises:
        SettingsError: it needs a setting that is missing.
    """
    if parameters.engine == "dask":
        from flows.scale.dask_engine import DaskEngine

        if settings.scheduler is None:
            raise SettingsError("--engine dask: needs --scheduler", "name one, or set MNIST_SCHEDULER")
        return DaskEngine(settings.scheduler, settings.scheduler_certificates)
    if parameters.engine == "pool":
        from flows.ops.deployments import own_name
        from flows.scale.pool_engine import RUNS, PoolEngine

        deployment = own_name("predict/cpu", settings.competition)
        runs = parameters.workers or RUNS
        return PoolEngine(deployment, runs, settings.gpu_start_s, settings.night_cap_s)
    return LocalEngine(parameters.workers or cores())
