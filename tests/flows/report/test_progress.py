"""The progress of long work on a real Prefect API."""

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter

from flows.report import progress as progress_module
from flows.report.progress import progress


def artifacts(key):
    """The artifacts with this key."""
    wanted = ArtifactFilter.model_validate({"key": {"any_": [key]}})
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=wanted)


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("fails", [False, True])
def test_progress_is_an_artifact_while_the_work_lasts(monkeypatch, fails):
    """Finished bars do not stand between the scorecards, nor do those of a run that failed."""
    monkeypatch.setattr(progress_module, "QUIET_S", 0.0)
    key = f"working-{fails}".lower()
    seen = []

    @flow
    def work():
        with progress(f"{key} on something") as advance:
            advance(1, 4)
            advance(2, 4)
            seen.extend(artifacts(key))
            if fails:
                raise ValueError("stopped")

    if fails:
        with pytest.raises(ValueError, match="stopped"):
            work()
    else:
        work()

    assert [(entry.type, entry.data, entry.description) for entry in seen] == [
        ("progress", 50.0, f"{key} on something")
    ]
    assert artifacts(key) == []


@pytest.mark.usefixtures("prefect_api")
def test_short_work_leaves_no_artifact_at_all():
    """What takes less than a few seconds asks the server for nothing."""

    @flow
    def work():
        with progress("short work") as advance:
            advance(1, 1)
            assert artifacts("short") == []

    work()
