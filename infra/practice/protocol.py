"""Kaggle's wire protocol: what each call answers, and the app around the calls.

Kaggle's errors come in two shapes. Its own answers (400, 401, 403, 404) are `{"code", "message"}`; what
stands before it (429, 5xx, here only as faults) answers `{"error": {"code", "message", "status"}}`.

Handlers are coroutines on one event loop and await nothing while they look and store: a quota can not be
overdrawn by two requests at once.

Source: what kaggle 2.2.4 with kagglesdk 0.1.37 sends and takes.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import math
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.practice import data, ledger
from infra.practice.errors import PracticeError
from infra.practice.faults import Fault, Outcome, flat_error, make_fault, spoil, with_faults
from infra.practice.ledger import Submission, Upload
from infra.practice.scoring import cut_score, grade

COMPETITION = "digit-recognizer"
TITLE = "Digit Recognizer"
TEAM = "practice"
CREATED = "2019-12-11T02:01:33.123Z"
OTHER_TEAMS = (("Nearest Neighbours", "0.96800"), ("Random Forest", "0.93928"), ("All Zeros", "0.09857"))
UPLOAD_BYTES = 20_000_000
PAGE_ROWS = 20
MOST_PAGE_ROWS = 200


@dataclass(frozen=True)
class Credentials:
    """The one account. Made once for a home, in `credentials.json`, readable by its owner only."""

    username: str
    key: str = field(repr=False)
    token: str = field(repr=False)


@dataclass
class Competition:
    """All that the handlers know."""

    folder: Path
    credentials: Credentials
    solution: NDArray[np.uint8]
    submissions: sqlite3.Connection
    split_seed: int
    daily_limit: int
    day_seconds: float
    score_seconds: float
    faults: list[Fault] = field(default_factory=list)
    instance: str = field(default_factory=lambda: secrets.token_hex(8))


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """An answer in Kaggle's own shape."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


# The RPCs: fields of the request in, the JSON or the response out.

Fields = dict[str, Any]
Rpc = Callable[[Competition, Fields, str], Fields | Response]


def introspect_token(at: Competition, asked: Fields, base: str) -> Fields:
    active = _same(str(asked.get("token", "")), at.credentials.token)
    return {"active": active, "username": at.credentials.username if active else "", "userId": 1}


def get_competition(at: Competition, asked: Fields, base: str) -> Fields:
    return {
        "id": 3004,
        "ref": f"{base}/competitions/{COMPETITION}",
        "title": TITLE,
        "description": "The practice competition on loopback",
        "category": "Getting Started",
        "maxDailySubmissions": at.daily_limit,
        "userHasEntered": not any(fault.name == "rules" for fault in at.faults),
        "evaluationMetric": "Categorization Accuracy",
        "deadline": "2030-01-01T00:00:00.000Z",
    }


def list_data_files(at: Competition, asked: Fields, base: str) -> Fields:
    files = [
        {"name": name, "totalBytes": size, "creationDate": CREATED}
        for name, size in data.sizes(at.folder / data.ZIP_NAME).items()
    ]
    return _page("files", files, asked)


def download_data_files(at: Competition, asked: Fields, base: str) -> Response:
    return _redirect(at, data.ZIP_NAME, base)


def download_data_file(at: Competition, asked: Fields, base: str) -> Response:
    name = asked.get("fileName")
    if name not in data.CSV_NAMES:
        raise Refusal(404, f"The competition has no file {name!r}")
    return _redirect(at, name, base)


def start_submission_upload(at: Competition, asked: Fields, base: str) -> Fields:
    length = _integer(asked, "contentLength", 0)
    if not 0 <= length <= UPLOAD_BYTES:
        raise Refusal(400, f"A submission may have up to {UPLOAD_BYTES} bytes")
    token = secrets.token_urlsafe(24)
    upload = Upload(token, str(asked.get("fileName", "")), length, None)
    ledger.announce_upload(at.submissions, upload, _now_ms())
    return {"token": token, "createUrl": f"{base}/upload/{token}"}


def create_submission(at: Competition, asked: Fields, base: str) -> Fields:
    upload = ledger.find_upload(at.submissions, str(asked.get("blobFileTokens", "")))
    if upload is None or upload.body is None:
        raise Refusal(400, "Submission not allowed: the uploaded file was not found")
    now_ms = _now_ms()
    if _used(at, now_ms)[0] >= at.daily_limit:
        day_ms = at.day_seconds * 1000
        hours = math.ceil((day_ms - now_ms % day_ms) / 3_600_000)
        raise Refusal(
            400,
            f"Submission not allowed: Your team has used its daily Submission allowance ({at.daily_limit}) "
            f"today, please try again tomorrow UTC ({hours} hours from now).",
        )
    graded = grade(upload.body, at.solution)
    outcome = spoil(at.faults, Outcome(graded, now_ms + round(at.score_seconds * 1000), now_ms))
    submission = Submission(
        ref=0,
        file_name=upload.file_name,
        description=str(asked.get("submissionDescription") or ""),
        posted_ms=now_ms,
        length=len(upload.body),
        score="" if outcome.grade.error else cut_score(outcome.grade.correct, len(at.solution)),
        error=outcome.grade.error,
        ready_ms=outcome.ready_ms,
        listed_ms=outcome.listed_ms,
    )
    ref = ledger.store_submission(at.submissions, upload, submission)
    return {"message": f"Successfully submitted to {TITLE}", "ref": ref}


def list_submissions(at: Competition, asked: Fields, base: str) -> Fields:
    now_ms = _now_ms()
    listed = [found for found in ledger.list_submissions(at.submissions) if found.listed_ms <= now_ms]
    return _page("submissions", [_show(found, now_ms) for found in listed], asked, key="ref")


def get_submission(at: Competition, asked: Fields, base: str) -> Fields:
    ref = asked.get("ref")
    for found in ledger.list_submissions(at.submissions):
        if found.ref == ref:
            return _show(found, _now_ms())
    raise Refusal(404, f"Submission not found: {ref}")


def get_submission_limits(at: Competition, asked: Fields, base: str) -> Fields:
    today, total = _used(at, _now_ms())
    allowed = max(0, at.daily_limit - today)
    return {"numToday": today, "numTotal": total, "numAllowedNow": allowed, "limitedByTotal": False}


def get_leaderboard(at: Competition, asked: Fields, base: str) -> Fields:
    now_ms = _now_ms()
    scored = [s for s in ledger.list_submissions(at.submissions) if s.status(now_ms) == "COMPLETE"]
    best = max(scored, key=lambda found: found.score, default=None)
    rows = [
        {"teamId": number, "teamName": name, "submissionDate": CREATED, "score": score}
        for number, (name, score) in enumerate(OTHER_TEAMS, 2)
    ]
    if best:
        own = {"teamId": 1, "teamName": TEAM, "submissionDate": _date(best.posted_ms), "score": best.score}
        rows = sorted([own, *rows], key=lambda row: str(row["score"]), reverse=True)
    return _page("submissions", rows, asked)


RPCS: dict[str, Rpc] = {
    "IntrospectToken": introspect_token,
    "GetCompetition": get_competition,
    "ListDataFiles": list_data_files,
    "DownloadDataFiles": download_data_files,
    "DownloadDataFile": download_data_file,
    "StartSubmissionUpload": start_submission_upload,
    "CreateSubmission": create_submission,
    "ListSubmissions": list_submissions,
    "GetSubmission": get_submission,
    "GetSubmissionLimits": get_submission_limits,
    "GetLeaderboard": get_leaderboard,
}
NAMELESS = ("IntrospectToken", "GetSubmission")
"""RPCs whose request does not name a competition."""


# The app: routes around the RPCs.


def build_app(at: Competition) -> ASGIApp:
    """The competition as an ASGI app: credentials are asked first, then faults strike, then it answers."""

    async def call(request: Request) -> Response:
        try:
            rpc = RPCS.get(request.path_params["rpc"])
            if rpc is None:
                raise Refusal(404, f"No such call: {request.url.path}")
            asked = await _read_json(request)
            name = asked.get("competitionName")
            if request.path_params["rpc"] not in NAMELESS and name != COMPETITION:
                raise Refusal(404, f"Competition not found: {name}")
            answer = rpc(at, asked, str(request.base_url).rstrip("/"))
        except Refusal as refusal:
            return flat_error(refusal.code, refusal.message)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    async def upload(request: Request) -> Response:
        announced = ledger.find_upload(at.submissions, request.path_params["token"])
        body = await _read_body(request, announced.length if announced else 0)
        if announced is None:
            return Response("no such upload", status_code=404)
        if len(body) != announced.length:
            return Response("not the length that was announced", status_code=400)
        ledger.store_upload(at.submissions, announced.token, body)
        return Response(status_code=200)

    async def download(request: Request) -> Response:
        name = request.path_params["name"]
        if not _same(request.query_params.get("sig", ""), _sign(at, name)):
            return Response("the signature of this address does not hold", status_code=403)
        path = at.folder / data.ZIP_NAME
        if name != data.ZIP_NAME:
            path = await asyncio.to_thread(data.unpack, path, name)
        return FileResponse(path)

    async def describe(request: Request) -> Response:
        return JSONResponse(
            {
                "competition": COMPETITION,
                "instance": at.instance,
                "pid": os.getpid(),
                "splitSeed": at.split_seed,
                "dailyLimit": at.daily_limit,
                "daySeconds": at.day_seconds,
            }
        )

    async def show_faults(request: Request) -> Response:
        return JSONResponse([asdict(fault) for fault in at.faults])

    async def add_fault(request: Request) -> Response:
        try:
            at.faults.append(make_fault(await _read_json(request)))
        except (Refusal, PracticeError) as error:
            return flat_error(400, str(error))
        return await show_faults(request)

    async def clear_faults(request: Request) -> Response:
        at.faults.clear()
        return await show_faults(request)

    routes = [
        Route("/v1/competitions.CompetitionApiService/{rpc}", call, methods=["POST"]),
        Route("/v1/security.OAuthService/{rpc}", call, methods=["POST"]),
        Route("/upload/{token}", upload, methods=["PUT"]),
        Route(f"/files/{COMPETITION}/{{name}}", download, methods=["GET", "HEAD"]),
        Route("/practice", describe, methods=["GET"]),
        Route("/practice/faults", show_faults, methods=["GET"]),
        Route("/practice/faults", add_fault, methods=["POST"]),
        Route("/practice/faults", clear_faults, methods=["DELETE"]),
    ]
    return with_credentials(with_faults(Starlette(routes=routes), at.faults), at.credentials)


def with_credentials(app: ASGIApp, credentials: Credentials) -> ASGIApp:
    """The app, with 401 for calls and faults that bring neither username and key nor the token."""
    basic = base64.b64encode(f"{credentials.username}:{credentials.key}".encode()).decode()
    accepted = (f"Basic {basic}", f"Bearer {credentials.token}")

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(("/v1/", "/practice/")):
            brought = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            if not any(_same(brought, good) for good in accepted):
                await flat_error(401, "Unauthenticated")(scope, receive, send)
                return
        await app(scope, receive, send)

    return serve


async def _read_json(request: Request) -> Fields:
    try:
        asked = json.loads(await request.body() or b"{}")
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise Refusal(400, "The request is no JSON object")
    return asked


async def _read_body(request: Request, most: int) -> bytes:
    """The request to its end, of which at most one byte more than `most` is kept."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk[: most + 1 - len(body)]
    return bytes(body)


def _redirect(at: Competition, name: str, base: str) -> Response:
    return RedirectResponse(f"{base}/files/{COMPETITION}/{name}?sig={_sign(at, name)}", status_code=302)


def _sign(at: Competition, name: str) -> str:
    """Holds over a restart, so that a download can be resumed."""
    text = f"{at.split_seed}/{name}".encode()
    return hmac.new(at.credentials.key.encode(), text, hashlib.sha256).hexdigest()


def _same(brought: str, good: str) -> bool:
    return hmac.compare_digest(brought.encode(), good.encode())


def _page(name: str, rows: list[Fields], asked: Fields, key: str | None = None) -> Fields:
    """One page of rows.

    Kaggle's client sends `page` 1 beside an empty token for the first page. A token continues after the row
    with that key, so that rows which come in between shift nothing; without a key, at that position.
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


def _used(at: Competition, now_ms: int) -> tuple[int, int]:
    """Submissions that count, today and in all; as on Kaggle, those that ended in ERROR do not."""
    day_ms = at.day_seconds * 1000
    counted = [s for s in ledger.list_submissions(at.submissions) if s.status(now_ms) != "ERROR"]
    return sum(s.posted_ms // day_ms == now_ms // day_ms for s in counted), len(counted)


def _show(found: Submission, now_ms: int) -> Fields:
    status = found.status(now_ms)
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


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
