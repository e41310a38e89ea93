"""The flow `submit`: a version without the gate, at most once per content."""

import pytest

from flows.settings import SettingsError
from flows.submit import submit

pytestmark = pytest.mark.usefixtures("prefect_api")


def test_submit_takes_the_champion_or_a_named_version(job):
    """`submit` posts a version without the gate, leaves the champion, and reuses what is there."""
    started = job()
    with pytest.raises(SettingsError, match="no champion"):
        submit()
    version = started.publish()
    with pytest.raises(SettingsError, match="no such version"):
        submit("2026-01-01-convnet-00000000")

    result = submit(version)

    assert result.submission.posted
    assert result.submission.public_score > 0.5
    assert result.champion is None
    again = submit(version)
    assert not again.submission.posted
    assert again.reason == "the competition has these predictions already"


def test_submit_without_quota_posts_nothing(job):
    """The result says when the quota returns; it is not an error."""
    started = job(daily_limit=0)

    result = submit(started.publish())

    assert result.submission is None
    assert "00:00 UTC" in result.reason
    assert started.server.submissions() == []
