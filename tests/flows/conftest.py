"""A job's surroundings: a home, a practice server, and a trained bundle."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows import held_out as held_out_module
from flows.held_out import HeldOut
from flows.kaggle.competition import Competition, connect
from flows.kaggle.download import Data, data_digest
from flows.records import RunKey
from flows.registry import Registry
from flows.settings import Settings, read_settings
from flows.store.open import open_store
from mnist_core.manifest import Manifest, read_manifest
from mnist_core.spec import DIGITS_MINI, CompetitionSpec
from mnist_core.submission import read_csv, to_csv

NIGHT = "2026-11-23"


@pytest.fixture(scope="session")
def unpacked(unpack: Callable[..., Path]) -> Path:
    """The small competition's CSV files of split 0, for tests that need digits and no server."""
    return unpack(DIGITS_MINI)


@pytest.fixture(scope="session")
def templates(make_once: Callable[..., Path]) -> Callable[[CompetitionSpec], Path]:
    """Return what fastai wrote for a competition's networks, which all homes of the session share.

    Without it each test that trains would import fastai, which takes seconds.
    """

    def folder_of(spec: CompetitionSpec) -> Path:
        return make_once(f"templates-{spec.name}", lambda folder: None)

    return folder_of


@pytest.fixture(scope="session")
def make_bundle(
    make_once: Callable[..., Path],
    unpack: Callable[..., Path],
    templates: Callable[[CompetitionSpec], Path],
) -> Callable[..., Path]:
    """Return a bundle trained on a competition's rows for a few seconds, with all that a version has."""

    def bundle_of(spec: CompetitionSpec) -> Path:
        def fill(folder: Path) -> None:
            _train(folder, unpack(spec), spec, templates(spec))

        return make_once(f"bundle-{spec.name}", fill)

    return bundle_of


def _train(folder: Path, unpacked: Path, spec: CompetitionSpec, templates: Path) -> None:
    from mnist_core import assign_folds, evaluate, export, fit, predict, read_train

    digits = read_train(unpacked / spec.train_file, spec)
    fold = assign_folds(digits.true_labels, data_digest(unpacked, spec))
    held_out = np.flatnonzero(fold == 0)
    epochs = {DIGITS_MINI.name: 16, "eight-by-eight": 60}.get(spec.name, 1)
    net = fit(digits, "convnet", "fast", rows=np.flatnonzero(fold != 0), seed=1, epochs=epochs)
    probabilities = predict(net, digits.pixels[held_out])
    evaluation = evaluate(probabilities, digits.true_labels[held_out], spec)
    HeldOut(held_out, digits.true_labels[held_out], probabilities).save(folder)
    for name in ("hardest.png", "confusion.png"):
        (folder / name).write_bytes(b"a picture")
    export(
        net,
        folder,
        {
            "night": NIGHT, "seed": 1, "preset": "fast", "valid_rows": evaluation.n,
            "valid_accuracy": evaluation.accuracy, "valid_interval": list(evaluation.interval), "seconds": {},
        },
        templates=templates,
        spec=spec,
    )  # fmt: skip


@pytest.fixture(scope="session")
def bundle(make_bundle: Callable[..., Path]) -> Path:
    """A bundle of the small competition, with everything that a version has."""
    return make_bundle(DIGITS_MINI)


def predict_wrongly(folder: Path, count: int) -> None:
    """Change a bundle's held-out predictions: this number of further rows is wrong, with certainty."""
    held_out = HeldOut.from_bytes((folder / held_out_module.FILE).read_bytes())
    right = np.flatnonzero(held_out.predicted == held_out.labels)[:count]
    held_out.probabilities[right] = 0.0
    held_out.probabilities[right, (held_out.labels[right] + 1) % 10] = 1.0
    held_out.save(folder)


@dataclass
class Job:
    """A home that talks to a practice server, and what lies behind its settings."""

    home: Path
    server: Any  # tests/practice_server.py: PracticeServer
    request: pytest.FixtureRequest

    @property
    def settings(self) -> Settings:
        """The settings as a flow would read them now."""
        return read_settings()

    @property
    def competition(self) -> Competition:
        """The competition through Kaggle's client."""
        return connect(self.settings)

    @property
    def registry(self) -> Registry:
        """The registry of this job's namespace; its data are downloaded for it."""
        competition = self.competition
        data = competition.download()
        return Registry(open_store(self.settings.store), competition.namespace(data), data.spec)

    @property
    def bundle(self) -> Path:
        """The session's bundle of this job's competition."""
        return self.request.getfixturevalue("make_bundle")(self.server.spec)  # type: ignore[no-any-return]

    def publish(self, *, night: str = NIGHT, attempt: int = 1, errors: int = 0, **facts: Any) -> str:
        """Publish the session's bundle as this night's version, so that the night need not train.

        Args:
            night, attempt: whose version it is.
            errors: number of further held-out rows that are predicted wrongly.
            facts: what the manifest says instead.
        """
        registry = self.registry
        folder = self.home / f"bundle-{night}-{attempt}"
        folder.mkdir()
        for path in self.bundle.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        if errors:
            predict_wrongly(folder, errors)
        manifest = read_manifest(folder)
        manifest = replace(manifest, facts=manifest.facts | {"night": night} | facts)
        run = RunKey(night=night, model="convnet", preset="fast")
        return registry.publish(registry.open_attempt(run, fresh=attempt > 1), manifest, folder)

    def change_predictions(self, version: str, like: str, rows: int) -> None:
        """Give a version the test predictions of another one, with this number of rows changed."""
        registry = self.registry
        spec = registry.spec
        labels = read_csv(registry.need_predictions(like), spec)
        changed = np.linspace(0, len(labels) - 1, rows).astype(int)
        labels[changed] = (labels[changed] + 1) % spec.class_count
        registry.put_predictions(version, to_csv(labels, spec))

    def restart_server(self, **options: Any) -> None:
        """End the competition's server and start it with other options, as `daily_limit=10`."""
        port = int(self.server.url.rpartition(":")[2])
        self.server.stop()
        self.server = self.request.getfixturevalue("start_practice")(
            self.server.home,
            port=port,
            competition=self.server.spec.name,
            spec=self.server.spec_file,
            **options,
        )

    def publish_member(self, run: RunKey, fold: int, *, seed: int, errors: int) -> str:
        """Publish a member that need not be trained: the session's network, a little different.

        Args:
            run: whose member it is.
            fold: the one that it says to have left out.
            seed: makes its weights, and which rows it predicts wrongly, its own.
            errors: number of its held-out rows that are wrong.
        """
        from mnist_core import assign_folds, export, load, read_train

        random = np.random.default_rng(seed)
        data = self.competition.download()
        labels = read_train(data.train_csv, data.spec).true_labels
        rows = np.flatnonzero(assign_folds(labels, data.digest) == fold)
        probabilities = np.full((len(rows), 10), 0.01, np.float32)
        predicted = labels[rows]
        wrong = random.choice(len(rows), errors, replace=False)
        predicted[wrong] = (predicted[wrong] + 1) % 10
        probabilities[np.arange(len(rows)), predicted] = 0.91
        folder = self.home / f"member-{seed}"
        folder.mkdir()
        net, _ = load(self.bundle)
        net.layers[-1].weight.mul_(1 + seed / 1e4)
        HeldOut(rows, labels[rows], probabilities).save(folder)
        for name in ("hardest.png", "confusion.png"):
            (folder / name).write_bytes(b"a picture")
        facts = {
            "fold": fold, "night": run.night, "seed": seed, "preset": "fast", "valid_rows": len(rows),
            "valid_accuracy": 1 - errors / len(rows), "valid_interval": [0.9, 1.0],
            "seconds": {"read": 0.0, "train": 0.0},
        }  # fmt: skip
        return self.registry.publish(run, export(net, folder, facts, learner=False, spec=data.spec), folder)


@pytest.fixture
def job(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    start_practice: Callable[..., Any],
    templates: Callable[[CompetitionSpec], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Job]:
    """Start a practice server with these options and point the settings at it: `job(daily_limit=0)`.

    It is about the small competition, unless another one is named: `job(competition="digit-recognizer")`, or
    one that is not built in, by the file of its specification: `job(spec=PATH)`.
    """
    for name in list(os.environ):
        if name.startswith(("MNIST_", "KAGGLE_")):
            monkeypatch.delenv(name)

    def start(**options: Any) -> Job:
        server = start_practice(**options)
        monkeypatch.chdir(tmp_path)
        home = tmp_path / "home"
        if not home.exists():
            home.mkdir()
            (home / "templates").symlink_to(templates(server.spec))
        for name, value in {
            "HOME": str(tmp_path),  # no ~/.kaggle of whoever runs the tests
            "HTTPS_PROXY": "http://127.0.0.1:9",  # a miswired client does not leave the machine
            "NO_PROXY": "127.0.0.1",  # Prefect's event stream would try the proxy
            "MNIST_HOME": str(home),
            "MNIST_KAGGLE": server.url,
            "MNIST_COMPETITION": server.spec.name,
            "MNIST_SPEC": str(server.spec_file or ""),
            "MNIST_KAGGLE_TOKEN": server.token,
            "MNIST_FLOOR": "0.5",
            "MNIST_RETRY_WAITS_S": "[]",
            "MNIST_TIMEOUT_S": "5",
        }.items():
            monkeypatch.setenv(name, value)
        return Job(tmp_path, server, request)

    return start


@pytest.fixture(params=[DIGITS_MINI.name, "eight-by-eight"])
def any_job(
    request: pytest.FixtureRequest, job: Callable[..., Job], eight_by_eight: Path
) -> Callable[..., Job]:
    """Start a job as `job` does: of the small competition, and of one that a specification describes."""
    chosen = {"spec": eight_by_eight} if request.param == "eight-by-eight" else {}
    return functools.partial(job, **chosen)


@pytest.fixture
def data(unpacked: Path) -> Data:
    """The small competition's files of split 0, without a download."""
    return Data(unpacked, data_digest(unpacked, DIGITS_MINI), DIGITS_MINI)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty registry in a folder."""
    return Registry(open_store(str(tmp_path / "store")), f"practice/{DIGITS_MINI.name}/0123456789abcdef")


@pytest.fixture
def manifest() -> Callable[..., Manifest]:
    """Make the manifest of a bundle with everything that a version's entry needs: `manifest(seed=2)`."""

    def manifest(**facts: Any) -> Manifest:
        needed = {
            "night": NIGHT, "preset": "fast", "seed": 1, "valid_rows": 100,
            "valid_accuracy": 0.99, "valid_interval": [0.98, 1.0],
        }  # fmt: skip
        facts = {name: value for name, value in (needed | facts).items() if value is not None}
        return Manifest("convnet", sizes={}, classes=[], files={}, libraries={}, facts=facts)

    return manifest
