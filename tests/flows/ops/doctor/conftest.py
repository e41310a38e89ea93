"""What the doctor's checks are run on."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.ops.doctor.finding import Finding, State
from flows.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of whoever runs the tests, and a home of this test's own."""
    for name in list(os.environ):
        if name.startswith(("MNIST_", "KAGGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNIST_HOME", str(tmp_path / "home"))


@pytest.fixture
def run() -> Callable[..., dict[str, Finding]]:
    """Run one check with the settings of now: `run(check_home)`; its findings by their names."""

    def run(check: Callable[[Settings], Any]) -> dict[str, Finding]:
        findings = list(check(read_settings()))
        assert all(finding.remedy for finding in findings if finding.state is not State.OK)
        assert len({finding.check for finding in findings}) == len(findings)
        return {finding.check: finding for finding in findings}

    return run


@pytest.fixture
def bucket(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A bucket, as the store."""
    monkeypatch.setenv("MNIST_STORE", f"s3://{s3.bucket}/store")
    return s3


@pytest.fixture
def keys(bucket: Any) -> Callable[[], list[str]]:
    """Return the bucket's keys."""
    return lambda: [
        entry["Key"] for entry in bucket.client.list_objects_v2(Bucket=bucket.bucket).get("Contents", ())
    ]
