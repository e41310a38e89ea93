"""Where trials take place: child processes that start quickly, and a competition that has a champion."""

import multiprocessing

import numpy as np
import pytest

from mnist_core import load, predict, read_test
from tests.flows.chaos.trials import OLD, OWN, Trials


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
def labels_of(make_bundle, unpack, tmp_path_factory):
    """Return the predictions of a competition's bundle for its test file, as a file that is made once."""
    made = {}

    def labels(spec):
        if spec.name not in made:
            net, _ = load(make_bundle(spec))
            digits = read_test(unpack(spec) / spec.test_file, spec)
            made[spec.name] = tmp_path_factory.mktemp("labels") / "labels.npy"
            np.save(made[spec.name], predict(net, digits.pixels).argmax(1))
        return made[spec.name]

    return labels


@pytest.fixture
def trials(request, job, processes, labels_of, eight_by_eight, prefect_api, monkeypatch):
    """A competition with one champion that has its score; trials copy its store, to a folder or to S3."""
    own = request.param == OWN
    kind = "folder" if own else request.param
    started = job(daily_limit=1_000_000, **({"spec": eight_by_eight} if own else {}))
    s3 = None if kind == "folder" else request.getfixturevalue("start_s3")(kind)
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    monkeypatch.setenv("MNIST_STORE", str(started.home / "template"))
    started.publish(night=OLD)
    from flows.nightly import nightly

    assert nightly(OLD).submission.public_score > 0.9
    store = started.registry.store
    keys = sorted(store.keys(""), key=lambda key: "/champions/" not in key)
    template = {key: store.get(key) for key in keys}
    return Trials(started, processes, labels_of(started.server.spec), kind, s3, template)
