"""What can go wrong on purpose: one table of faults, and one middleware that looks them up.

A fault strikes the next `count` requests to its target (-1: until it is cleared) and then is spent. A target
is the name of an RPC, `upload` (the PUT) or `file` (the download behind the redirect). Without a target it
strikes those of its kind; `IntrospectToken` must be named, because every client that starts with a token
calls it. A request with wrong credentials gets a 401 and spends no fault.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.practice.errors import PracticeError
from infra.practice.scoring import Grade

READS = ("ListDataFiles", "ListSubmissions", "GetSubmission", "GetSubmissionLimits")
DOWNLOADS = ("DownloadDataFiles", "DownloadDataFile")
WRITES = ("StartSubmissionUpload", "CreateSubmission")
BEHIND_RULES = (*READS, *DOWNLOADS, *WRITES)
RPC_NAMES = (*BEHIND_RULES, "GetCompetition", "GetLeaderboard")
TARGETS = (*RPC_NAMES, "IntrospectToken", "upload", "file")

Params = dict[str, Any]
Act = Callable[[ASGIApp, Scope, Receive, Send, Params], Awaitable[None]]


@dataclass(frozen=True)
class Outcome:
    """What a submission is stored with; a fault may change it. Times in ms since the epoch.

    Attributes:
        scored: whether it has a score once it is complete.
    """

    description: str
    grade: Grade
    ready_ms: int | None
    listed_ms: int
    scored: bool = True


Spoil = Callable[[Outcome, Params], Outcome]


@dataclass
class Fault:
    """A fault that waits for requests."""

    name: str
    count: int = 1
    rpc: str | None = None
    params: Params = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """What a named fault changes: an answer (`act`) or the submission that is stored (`spoil`)."""

    targets: tuple[str, ...] = RPC_NAMES
    params: Params = field(default_factory=dict)
    act: Act | None = None
    spoil: Spoil | None = None


def flat_error(code: int, message: str) -> Response:
    """Return an error in Kaggle's own shape, `{"code", "message"}`; its client raises with the message."""
    return JSONResponse({"code": code, "message": message}, status_code=code)


def nested_error(code: int, message: str, status: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error in the gateway's shape, `{"error": {…}}`; the client raises with the status line."""
    error = {"code": code, "message": message, "status": status}
    return JSONResponse({"error": error}, status_code=code, headers=headers)


def make_fault(asked: Params) -> Fault:
    """Return the fault that `{"name", "count": 1, "rpc": null, …params}` describes.

    Raises:
        PracticeError: no such fault, or a count, target or parameter that it does not take.
    """
    params = dict(asked)
    name, count, rpc = params.pop("name", None), params.pop("count", 1), params.pop("rpc", None)
    if name not in KINDS:
        raise PracticeError(f"no fault is named {name!r}", f"choose one of {', '.join(KINDS)}")
    kind = KINDS[name]
    if isinstance(count, bool) or not isinstance(count, int) or (count < 1 and count != -1):
        raise PracticeError(
            f"count of fault {name} must be a positive integer, or -1 for no limit, not {count!r}"
        )
    if rpc is not None and (rpc not in TARGETS or kind.act is None):
        raise PracticeError(f"fault {name} cannot strike {rpc!r}", f"choose one of {', '.join(TARGETS)}")
    for key, value in params.items():
        if key not in kind.params or not isinstance(value, type(kind.params[key])):
            # 2 stands for 2.0 seconds
            if key in kind.params and isinstance(kind.params[key], float) and isinstance(value, int):
                continue
            raise PracticeError(f"fault {name} takes {kind.params or 'no params'}, not {key}={value!r}")
    return Fault(name, count, rpc, {**kind.params, **params})


def take(faults: list[Fault], target: str) -> Fault | None:
    """Return the first fault of an answer that waits for this target, and spend one of its strikes."""
    for fault in faults:
        kind = KINDS[fault.name]
        if kind.act and (target == fault.rpc if fault.rpc else target in kind.targets):
            _spend(faults, fault)
            return fault
    return None


def spoil(faults: list[Fault], outcome: Outcome) -> Outcome:
    """Return the outcome as all waiting faults of submissions change it, and spend one strike of each."""
    for fault in list(faults):
        change = KINDS[fault.name].spoil
        if change:
            _spend(faults, fault)
            outcome = change(outcome, fault.params)
    return outcome


def with_faults(app: ASGIApp, faults: list[Fault]) -> ASGIApp:
    """Return the app with its faults in front of it."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        target = _target(scope) if scope["type"] == "http" else None
        fault = take(faults, target) if target else None
        act = KINDS[fault.name].act if fault else None
        if fault and act:
            await act(app, scope, receive, send, fault.params)
        else:
            await app(scope, receive, send)

    return serve


def _spend(faults: list[Fault], fault: Fault) -> None:
    if fault.count > 0:
        fault.count -= 1
    if fault.count == 0:
        faults.remove(fault)


def _target(scope: Scope) -> str | None:
    folder, _, rest = scope["path"].strip("/").partition("/")
    names = {"v1": rest.rpartition("/")[2], "upload": "upload", "files": "file"}
    return names.get(folder)


def _answer(make: Callable[[Params], Response]) -> Act:
    """Return a fault that reads the request and answers instead of the app."""

    async def act(app: ASGIApp, scope: Scope, receive: Receive, send: Send, params: Params) -> None:
        await _drain(receive)
        await make(params)(scope, receive, send)

    return act


def _rate_limit(params: Params) -> Response:
    headers = {"Retry-After": f"{params['seconds']:g}"}
    return nested_error(429, "Too many requests, try again later", "RESOURCE_EXHAUSTED", headers)


def _server_error(params: Params) -> Response:
    status = {500: "INTERNAL", 502: "BAD_GATEWAY", 503: "UNAVAILABLE"}.get(params["code"], "UNKNOWN")
    return nested_error(params["code"], "The service is currently unavailable", status)


def _rules(params: Params) -> Response:
    return flat_error(403, "You must accept this competition's rules before you can continue")


def _notebooks(params: Params) -> Response:
    return flat_error(
        400, "Submission not allowed: This competition only accepts Submissions from Notebooks."
    )


def _web_page(params: Params) -> Response:
    return HTMLResponse("<!doctype html><html><head><title>Just a moment…</title></head></html>")


def _failed_upload(params: Params) -> Response:
    return Response("upload failed", status_code=500)


async def _slow(app: ASGIApp, scope: Scope, receive: Receive, send: Send, params: Params) -> None:
    await asyncio.sleep(params["seconds"])
    await app(scope, receive, send)


async def _silent(app: ASGIApp, scope: Scope, receive: Receive, send: Send, params: Params) -> None:
    try:
        await _until_disconnect(receive)
    finally:
        # Cancelled when the server ends: uvicorn would still answer 500.
        scope["state"]["transport"].abort()


async def _reset(app: ASGIApp, scope: Scope, receive: Receive, send: Send, params: Params) -> None:
    transport: asyncio.Transport = scope["state"]["transport"]
    # A client that is still sending would often see a broken pipe instead of the reset.
    while (await receive()).get("more_body"):
        pass
    # Lingering for zero seconds makes the kernel send RST instead of FIN.
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    await _until_disconnect(receive)


async def _lost_reply(app: ASGIApp, scope: Scope, receive: Receive, send: Send, params: Params) -> None:
    async def lose(message: Message) -> None:
        pass

    await app(scope, receive, lose)
    scope["state"]["transport"].close()
    await _until_disconnect(receive)


async def _cut_download(app: ASGIApp, scope: Scope, receive: Receive, send: Send, params: Params) -> None:
    left = 0

    async def send_half(message: Message) -> None:
        nonlocal left
        if message["type"] == "http.response.start":
            left = int(dict(message["headers"])[b"content-length"]) // 2
            await send(message)
        elif left:
            part = message["body"][:left]
            left -= len(part)
            await send({"type": "http.response.body", "body": part, "more_body": True})

    await app(scope, receive, send_half)
    scope["state"]["transport"].close()
    await _until_disconnect(receive)


async def _cut_json(app: ASGIApp, scope: Scope, receive: Receive, send: Send, params: Params) -> None:
    body = bytearray()

    async def keep(message: Message) -> None:
        body.extend(message.get("body", b""))

    await app(scope, receive, keep)
    half = bytes(body[: len(body) // 2]) or b"{"
    await Response(half, media_type="application/json")(scope, receive, send)


async def _redirect(app: ASGIApp, scope: Scope, receive: Receive, send: Send, params: Params) -> None:
    await _drain(receive)
    await RedirectResponse(f"{scope['path']}?moved", status_code=params["code"])(scope, receive, send)


async def _forgotten(app: ASGIApp, scope: Scope, receive: Receive, send: Send, params: Params) -> None:
    await _drain(receive)
    answer = flat_error(404, "Submission not found")
    if _target(scope) == "ListSubmissions":
        answer = JSONResponse({"submissions": [], "nextPageToken": ""})
    await answer(scope, receive, send)


def _changed(change: Callable[[Params], None]) -> Act:
    """Return a fault that changes the JSON of the app's answer."""

    async def act(app: ASGIApp, scope: Scope, receive: Receive, send: Send, params: Params) -> None:
        body = bytearray()

        async def keep(message: Message) -> None:
            body.extend(message.get("body", b""))

        await app(scope, receive, keep)
        answer = json.loads(body)
        change(answer)
        await JSONResponse(answer)(scope, receive, send)

    return act


def _same_page(answer: Params) -> None:
    answer["nextPageToken"] = str(2**53)  # newer than all: the first page follows again


def _new_status(answer: Params) -> None:
    for submission in answer["submissions"]:
        submission["status"] = "RESCORING"


async def _drain(receive: Receive) -> None:
    """Read the whole request: the client would see an answer before its end as a broken connection."""
    while (await receive()).get("more_body"):
        pass


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _score_error(outcome: Outcome, params: Params) -> Outcome:
    return replace(outcome, grade=Grade(error=params["text"]))


def _score_never(outcome: Outcome, params: Params) -> Outcome:
    return replace(outcome, ready_ms=None)


def _late_list(outcome: Outcome, params: Params) -> Outcome:
    return replace(outcome, listed_ms=outcome.listed_ms + int(params["seconds"] * 1000))


def _no_score(outcome: Outcome, params: Params) -> Outcome:
    return replace(outcome, scored=False)


def _cut_description(outcome: Outcome, params: Params) -> Outcome:
    return replace(outcome, description=outcome.description[: params["length"]])


def _low_score(outcome: Outcome, params: Params) -> Outcome:
    grade = replace(outcome.grade, wrong=params["wrong"])
    return replace(outcome, grade=grade)


KINDS: dict[str, Kind] = {
    # answered instead of Kaggle; nothing is done
    "rate-limit": Kind(params={"seconds": 1.0}, act=_answer(_rate_limit)),
    "server-error": Kind(params={"code": 503}, act=_answer(_server_error)),
    "rules": Kind(targets=BEHIND_RULES, act=_answer(_rules)),
    "notebooks": Kind(targets=("CreateSubmission",), act=_answer(_notebooks)),
    "web-page": Kind(act=_answer(_web_page)),
    "failed-upload": Kind(targets=("upload",), act=_answer(_failed_upload)),
    "reset": Kind(act=_reset),
    "silent": Kind(act=_silent),
    "redirect": Kind(targets=("CreateSubmission",), params={"code": 307}, act=_redirect),
    "forgotten": Kind(targets=("GetSubmission", "ListSubmissions"), act=_forgotten),
    # done, but the answer is late, lost or cut
    "slow": Kind(params={"seconds": 3.0}, act=_slow),
    "lost-reply": Kind(targets=("CreateSubmission",), act=_lost_reply),
    "cut-json": Kind(act=_cut_json),
    "cut-download": Kind(targets=("file",), act=_cut_download),
    # done, and the list says it oddly
    "same-page": Kind(targets=("ListSubmissions",), act=_changed(_same_page)),
    "new-status": Kind(targets=("ListSubmissions",), act=_changed(_new_status)),
    # change the next submission that is stored
    "score-error": Kind(params={"text": "Internal error while scoring"}, spoil=_score_error),
    "score-never": Kind(spoil=_score_never),
    "no-score": Kind(spoil=_no_score),
    "cut-description": Kind(params={"length": 60}, spoil=_cut_description),
    "late-list": Kind(params={"seconds": 5.0}, spoil=_late_list),
    "low-score": Kind(params={"wrong": 1000}, spoil=_low_score),
}
