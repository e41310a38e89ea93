"""The flow that predicts any number of digits: shards of files in, Parquet files out."""

import base64
import logging
import time
from collections.abc import Mapping
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.caps import capped
from flows.ops.status import open_registry
from flows.parameters import PredictParameters, find_version, takes
from flows.records import PredictResult
from flows.report.artifacts import best_effort
from flows.report.progress import progress
from flows.run import clocked, is_child, start_flow
from flows.scale.coordinate import do_shards, finish, open_job
from flows.scale.engine import Engine, LocalEngine
from flows.scale.engines import engine_of
from flows.scale.int8 import with_int8
from flows.scale.job import PICTURE, Job, Output, bundle_files, plan_job
from flows.scale.pool_engine import of_ranges
from flows.settings import Settings, SettingsError
from mnist_core.cores import cores
from mnist_core.shard_files import need_pyarrow

log = logging.getLogger("mnist")


def run_name() -> str:
    """Return the name of a Prefect run, as `predict s3://bucket/scans` or `predict shards 0-49`."""
    from prefect.runtime import flow_run

    given = flow_run.parameters
    return f"predict shards {given['shards']}" if given.get("shards") else f"predict {given.get('input')}"


@flow(name="predict", flow_run_name=run_name)
@takes(PredictParameters)
def predict(parameters: PredictParameters) -> PredictResult:
    """Predict the labels of all pictures of the input, into Parquet files; finished shards are kept."""
    settings = start_flow(parameters)
    with capped(settings.night_cap_s, "the prediction", "MNIST_NIGHT_CAP_S"):
        if parameters.shards is not None:
            return predict_range(Output(parameters.need("output")), parameters.shards, parameters.workers)
        return predict_all(settings, parameters)


def predict_all(settings: Settings, parameters: PredictParameters) -> PredictResult:
    """Do the job of an output, planned now if there is none, and end it."""
    seconds: dict[str, float] = {}
    with clocked(seconds, "plan"):
        engine = engine_of(settings, parameters)
        output, job = open_output(settings, parameters)
    with clocked(seconds, "predict"):
        index = predict_shards(engine, output, job)
    result = PredictResult(
        input=job.input,
        output=output.address,
        version=job.version,
        rows=index["rows"],
        skipped=index["skipped"],
        labels=index["counts"],
        seconds=seconds,
    )
    if not is_child():
        _show(result, output)
    return result


def predict_range(output: Output, shards: str, workers: int | None) -> PredictResult:
    """Do some shards of the job of an output, for a run that waits for them and ends the job.

    Raises:
        SettingsError: the job has no such shards.
        StoreError: the output has no job.
    """
    seconds: dict[str, float] = {}
    job = output.need_job()
    numbers = of_ranges(shards, len(job.pieces))
    with clocked(seconds, "predict"), progress(f"predict shards {shards}") as advance:
        made = do_shards(output, job, LocalEngine(workers or cores()), numbers, progress=advance)
    return PredictResult(
        input=job.input,
        output=output.address,
        version=job.version,
        rows=sum(finished.rows for finished in made.finished.values()),
        skipped=sum(finished.skipped for finished in made.finished.values()),
        seconds=seconds,
    )


def open_output(settings: Settings, parameters: PredictParameters) -> tuple[Output, Job]:
    """Return the job of the output: the one that is there, else the one that is planned now.

    Raises:
        SettingsError: there is no champion, no such version, or no input; or the output has another job.
    """
    need_pyarrow()
    output = Output(parameters.need("output"))

    def make() -> tuple[Job, Mapping[str, bytes]]:
        registry = open_registry(settings)
        name = parameters.version or registry.champion()[1]
        if name is None:
            raise SettingsError(
                "there is no champion yet", "run `python -m flows nightly` first, or give --version"
            )
        version = find_version(registry, name)
        job = plan_job(
            parameters.need("input"),
            version.version,
            registry.spec,
            bad_rows=parameters.bad_rows,
            probabilities=parameters.probabilities,
            int8=parameters.int8,
            shard_rows=parameters.shard_rows,
        )
        files = {file: registry.read(version, file) for file in bundle_files(version.objects)}
        return with_int8(job, files) if job.int8 else (job, files)

    given = {
        "input": parameters.need("input"),
        "version": parameters.version,
        "bad_rows": parameters.bad_rows,
        "probabilities": parameters.probabilities,
        "int8": parameters.int8,
        "shard_rows": parameters.shard_rows,
    }
    return output, open_job(output, make, given)


@task(name="predict shards", cache_policy=NO_CACHE, persist_result=False)
def predict_shards(engine: Engine, output: Output, job: Job) -> dict[str, Any]:
    """Do all shards that are not finished, and return the index. One task, however many shards there are."""
    started = time.monotonic()
    index = output.index()
    if index is not None:
        log.info("the job was finished before: %s", output.store.location("index.json"))
        return index
    with progress("predict") as advance:
        made = do_shards(output, job, engine, progress=advance)
    index = finish(output, job, made)
    rows = sum(finished.rows for finished in made.finished.values())
    log.info("%s digits in %.1f s", f"{rows:,}", time.monotonic() - started)
    return index


def _show(result: PredictResult, output: Output) -> None:
    """Log the summary by class, and leave it on Prefect's server with the least certain digits."""
    from prefect.artifacts import create_markdown_artifact

    rows = [
        f"| {label} | {count:,} | {count / max(result.rows, 1):.2%} |"
        for label, count in result.labels.items()
    ]
    log.info(
        "%s digits, %s rows skipped: %s",
        f"{result.rows:,}", f"{result.skipped:,}", output.store.location("index.json"),
    )  # fmt: skip
    for label, count in result.labels.items():
        log.info("%s: %s", label, f"{count:,}")
    picture = output.store.get(PICTURE)
    text = [
        f"`{result.output}` by {result.version}",
        "",
        "| label | digits | share |",
        "| --- | ---: | ---: |",
        *rows,
    ]
    if picture is not None:
        encoded = base64.b64encode(picture).decode()
        text += ["", "The least certain digits:", "", f"![least certain](data:image/png;base64,{encoded})"]
    with best_effort("summary"):
        create_markdown_artifact("\n".join(text), key="predictions", description=f"{result.rows:,} digits")
