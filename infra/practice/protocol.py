"""Kaggle's wire protocol: what each call answers.

Kaggle's errors come in two shapes. Its own answers (400, 401, 403, 404) are `{"code", "message"}`; the
gateway before it (429, 5xx, here only as faults) answers `{"error": {"code", "message", "status"}}`.

A handler awaits nothing between looking and storing, so two requests at once cannot overdraw the quota.

Source: what kaggle 2.2.4 with kagglesdk 0.1.37 sends and expects.
"""

import hashlib
import hmac
import math
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.responses import RedirectResponse, Response

from infra.practice import data, ledger
from infra.practice.competition import Competition, Server, now_ms
from infra.practice.faults import Outcome, spoil
from infra.practice.ledger import Submission, Upload
from infra.practice.scoring import NAMES, grade, score

TEAM = "practice"
CREATED = "2019-12-11T02:01:33.123Z"
OTHER_TEAMS = (("Nearest Neighbours", "0.96800"), ("Random Forest", "0.93928"), ("All Zeros", "0.09857"))
UPLOAD_BYTES = 20_000_000
PAGE_ROWS = 20
MOST_PAGE_ROWS = 200

Fields = dict[str, Any]
"""The JSON of a request or an answer."""
AccountCall = Callable[[Server, Fields], Fields]
CompetitionCall = Callable[[Server, Competition, Fields, str], Fields | Response]
"""Server, competition, fields of the request, the server's own address → the answer."""


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """An answer in Kaggle's own shape."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


async def answer(server: Server, rpc: str, asked: Fields, base: str) -> Fields | Response:
    """Answer one call.

    Raises:
        Refusal: no such call, competition, file or submission, or a request that is wrong.
        PracticeError: the competition cannot be opened.
    """
    if rpc in ACCOUNT_CALLS:
        return ACCOUNT_CALLS[rpc](server, asked)
    if rpc not in COMPETITION_CALLS:
        raise Refusal(404, f"No such call: {rpc}")
    name = asked.get("competitionName")
    at = await server.find(name)
    if at is None:
        raise Refusal(404, f"Competition not found: {name}")
    return COMPETITION_CALLS[rpc](server, at, asked, base)


# Calls that name no competition


def introspect_token(server: Server, asked: Fields) -> Fields:
    """Say whether a token is the account's."""
    active = same(str(asked.get("token", "")), server.credentials.token)
    return {"active": active, "username": server.credentials.username if active else "", "userId": 1}


def get_submission(server: Server, asked: Fields) -> Fields:
    """Show one submission."""
    ref = asked.get("ref")
    found = ledger.find_submission(server.ledger, ref) if isinstance(ref, int) else None
    if found is None:
        raise Refusal(404, f"Submission not found: {ref}")
    return _show(found, now_ms())


# Calls of a competition


def get_competition(server: Server, at: Competition, asked: Fields, base: str) -> Fields:
    """Describe the competition."""
    return {
        "id": 3004,
        "ref": f"{base}/competitions/{at.spec.name}",
        "title": at.title,
        "description": "A practice competition on loopback",
        "category": "Getting Started",
        "maxDailySubmissions": server.options.daily_limit,
        "userHasEntered": not any(fault.name == "rules" for fault in server.faults),
        "evaluationMetric": NAMES[at.spec.metric],
        "isKernelsSubmissionsOnly": any(fault.name == "notebooks" for fault in server.faults),
        "deadline": "2030-01-01T00:00:00.000Z",
    }


def list_data_files(server: Server, at: Competition, asked: Fields, base: str) -> Fields:
    """List the files of the zip."""
    files = [
        {"name": name, "totalBytes": size, "creationDate": CREATED}
        for name, size in data.sizes(at.archive).items()
    ]
    return _page("files", files, asked)


def download_data_files(server: Server, at: Competition, asked: Fields, base: str) -> Response:
    """Redirect to the zip."""
    return _redirect(server, at, at.archive.name, base)


def download_data_file(server: Server, at: Competition, asked: Fields, base: str) -> Response:
    """Redirect to one file of the zip."""
    name = asked.get("fileName")
    if name not in at.spec.files:
        raise Refusal(404, f"The competition has no file {name!r}")
    return _redirect(server, at, name, base)


def start_submission_upload(server: Server, at: Competition, asked: Fields, base: str) -> Fields:
    """Announce an upload, and say where to put it."""
    length = _integer(asked, "contentLength", 0)
    if not 0 <= length <= UPLOAD_BYTES:
        raise Refusal(400, f"A submission may have up to {UPLOAD_BYTES} bytes")
    token = secrets.token_urlsafe(24)
    upload = Upload(token, str(asked.get("fileName", "")), length, None)
    ledger.announce_upload(server.ledger, upload, now_ms())
    return {"token": token, "createUrl": f"{base}/upload/{token}"}


def create_submission(server: Server, at: Competition, asked: Fields, base: str) -> Fields:
    """Submit an upload, if the quota allows it."""
    upload = ledger.find_upload(server.ledger, str(asked.get("blobFileTokens", "")))
    if upload is None or upload.body is None:
        raise Refusal(400, "Submission not allowed: the uploaded file was not found")
    now, options = now_ms(), server.options
    if at.used(now, options.day_seconds)[0] >= options.daily_limit:
        day_ms = options.day_seconds * 1000
        hours = math.ceil((day_ms - now % day_ms) / 3_600_000)
        raise Refusal(
            400,
            "Submission not allowed: Your team has used its daily Submission allowance "
            f"({options.daily_limit}) today, please try again tomorrow UTC ({hours} hours from now).",
        )
    graded = grade(upload.body, at.solution, at.spec)
    described = str(asked.get("submissionDescription") or "")
    ready = now + round(options.score_seconds * 1000)
    outcome = spoil(server.faults, Outcome(described, graded, ready, now))
    hidden = outcome.grade.error or not outcome.scored
    submission = Submission(
        ref=0,
        competition=at.spec.name,
        file_name=upload.file_name,
        description=outcome.description,
        posted_ms=now,
        length=len(upload.body),
        score="" if hidden else score(outcome.grade, at.solution, at.spec),
        error=outcome.grade.error,
        ready_ms=outcome.ready_ms,
        listed_ms=outcome.listed_ms,
    )
    ref = ledger.store_submission(server.ledger, upload, upload.body, submission)
    return {"message": f"Successfully submitted to {at.title}", "ref": ref}


def list_submissions(server: Server, at: Competition, asked: Fields, base: str) -> Fields:
    """List the submissions, newest first."""
    now = now_ms()
    listed = [found for found in at.submissions() if found.listed_ms <= now]
    return _page("submissions", [_show(found, now) for found in listed], asked, key="ref")


def get_submission_limits(server: Server, at: Competition, asked: Fields, base: str) -> Fields:
    """Say how many submissions were made and are left."""
    today, total = at.used(now_ms(), server.options.day_seconds)
    allowed = max(0, server.options.daily_limit - today)
    return {"numToday": today, "numTotal": total, "numAllowedNow": allowed, "limitedByTotal": False}


def get_leaderboard(server: Server, at: Competition, asked: Fields, base: str) -> Fields:
    """Rank the team's best score among three others."""
    now = now_ms()
    scored = [found for found in at.submissions() if found.status(now) == "COMPLETE" and found.score]
    sign = 1 if at.spec.metric.higher_is_better else -1
    best = max(scored, key=lambda found: sign * float(found.score), default=None)
    rows: list[Fields] = [
        {"teamId": number, "teamName": name, "submissionDate": CREATED, "score": score}
        for number, (name, score) in enumerate(OTHER_TEAMS, 2)
    ]
    if best:
        own = {"teamId": 1, "teamName": TEAM, "submissionDate": _date(best.posted_ms), "score": best.score}
        rows = sorted([own, *rows], key=lambda row: sign * float(row["score"]), reverse=True)
    return _page("submissions", rows, asked)


ACCOUNT_CALLS: dict[str, AccountCall] = {
    "IntrospectToken": introspect_token,
    "GetSubmission": get_submission,
}
COMPETITION_CALLS: dict[str, CompetitionCall] = {
    "GetCompetition": get_competition,
    "ListDataFiles": list_data_files,
    "DownloadDataFiles": download_data_files,
    "DownloadDataFile": download_data_file,
    "StartSubmissionUpload": start_submission_upload,
    "CreateSubmission": create_submission,
    "ListSubmissions": list_submissions,
    "GetSubmissionLimits": get_submission_limits,
    "GetLeaderboard": get_leaderboard,
}


def sign(server: Server, path: str) -> str:
    """Return the signature of a file's address; it holds after a restart, so a download can be resumed."""
    text = f"{server.options.split_seed}/{path}".encode()
    return hmac.new(server.credentials.key.encode(), text, hashlib.sha256).hexdigest()


def same(given: str, expected: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(given.encode(), expected.encode())


def _redirect(server: Server, at: Competition, name: str, base: str) -> Response:
    url = f"{base}/files/{at.spec.name}/{name}?sig={sign(server, f'{at.spec.name}/{name}')}"
    return RedirectResponse(url, status_code=302)


def _page(name: str, rows: list[Fields], asked: Fields, key: str | None = None) -> Fields:
    """Return one page of rows.

    Kaggle's client sends `page` 1 with an empty token for the first page. A token continues after the row
    with that key, so that rows which arrive in between shift nothing; without a key, at that position.
    """
    size = min(max(_integer(asked, "pageSize", PAGE_ROWS), 1), MOST_PAGE_ROWS)
    if asked.get("pageToken"):
        after = _integer(asked, "pageToken", 0)
        start = sum(row[key] >= after for row in rows) if key else after
    else:
        start = (max(_integer(asked, "page", 1), 1) - 1) * size
    shown = rows[start : start + size]
    more = start + size < len(rows)
    token = str(shown[-1][key] if key else start + size) if more else ""
    return {name: shown, "nextPageToken": token}


def _integer(asked: Fields, name: str, default: int) -> int:
    value = asked.get(name)
    try:
        return default if value is None else int(value)
    except (TypeError, ValueError):
        raise Refusal(400, f"{name} must be an integer, not {value!r}") from None


def _show(found: Submission, now: int) -> Fields:
    status = found.status(now)
    return {
        "ref": found.ref,
        "fileName": found.file_name,
        "date": _date(found.posted_ms),
        "description": found.description,
        "status": status,
        "publicScore": found.score if status == "COMPLETE" else "",
        "privateScore": "",
        "errorDescription": found.error if status == "ERROR" else "",
        "totalBytes": found.length,
        "submittedBy": TEAM,
        "teamName": TEAM,
    }


def _date(ms: int) -> str:
    when = datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None)
    return when.isoformat(timespec="milliseconds") + "Z"
