"""Where trials take place: child processes that start quickly, and a competition that has a champion."""

import multiprocessing

import numpy as np
import pytest

from mnist_core import load, predict, read_test
from tests.flows.chaos.trials import OLD, SEAWEEDFS, Trials


@pytest.fixture(scope="session")
def processes(prefect_api):
    """Child processes of a server that has done the slow imports."""
    context = multiprocessing.get_context("forkserver")
    modules = [
        "torch", "boto3", "prefect.flow_engine", "prefect.task_engine", "prefect.artifacts",
        "kagglesdk.competitions.services.competition_api_service",
        "flows.nightly", "mnist_core.bundle", "mnist_core.evaluation", "tests.flows.chaos.killable",
    ]  # fmt: skip
    context.set_forkserver_preload(modules)
    return context


@pytest.fixture(scope="session")
def labels(bundle, unpacked, tmp_path_factory):
    """The predictions of the session's bundle for the test file, as a file."""
    net, _ = load(bundle)
    path = tmp_path_factory.mktemp("labels") / "labels.npy"
    np.save(path, predict(net, read_test(unpacked / "test.csv").pixels).argmax(1))
    return path


@pytest.fixture(params=["folder", "moto", SEAWEEDFS])
def trials(request, job, processes, labels, prefect_api, monkeypatch):
    """A competition with one champion that has its score; trials copy its store, to a folder or to S3."""
    started = job(daily_limit=1_000_000)
    s3 = None if request.param == "folder" else request.getfixturevalue("start_s3")(request.param)
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    monkeypatch.setenv("MNIST_STORE", str(started.home / "template"))
    started.publish(night=OLD)
    from flows.nightly import nightly

    assert nightly(OLD).submission.public_score > 0.9
    store = started.registry.store
    keys = sorted(store.keys(""), key=lambda key: "/champions/" not in key)
    template = {key: store.get(key) for key in keys}
    return Trials(started, processes, labels, request.param, s3, template)
