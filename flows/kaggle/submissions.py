"""What marks a submission, and when the quota returns."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from flows.records import Status, Submission

LOOK_AGAIN_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Waits before the list of submissions is asked again after an unclear answer."""


def submission_token(competition: str, csv: bytes) -> str:
    """What marks a submission's description: 24 hex digits of sha256 over competition and content."""
    return "mnist-nightly:" + hashlib.sha256(competition.encode() + b"\0" + csv).hexdigest()[:24]


def quota_returns(now: datetime | None = None) -> str:
    """When Kaggle's daily quota returns: its days are UTC."""
    now = now or datetime.now(UTC)
    return f"{(now + timedelta(days=1)).date().isoformat()} 00:00 UTC"


def submission_of(raw: Any) -> Submission:
    score = raw.public_score
    return Submission(
        ref=int(raw.ref),
        message=raw.description or "",
        status=Status(str(getattr(raw.status, "name", raw.status)).upper().rsplit(".", 1)[-1]),
        public_score=float(score) if score not in (None, "") else None,
        error=raw.error_description or "",
    )
