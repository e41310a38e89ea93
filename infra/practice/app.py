"""The practice server as an ASGI app: credentials are checked first, then faults strike, then it answers."""

import asyncio
import base64
import json
import os
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.practice import catalog, data, datasets, ledger
from infra.practice.competition import Credentials, Server, now_ms
from infra.practice.errors import PracticeError
from infra.practice.faults import flat_error, make_fault, with_faults
from infra.practice.protocol import Fields, Refusal, answer, same, sign


def build_app(server: Server) -> ASGIApp:
    """Return the app of a server."""
    routes = [
        Route("/v1/competitions.CompetitionApiService/{rpc}", call, methods=["POST"]),
        Route("/v1/datasets.DatasetApiService/DownloadDataset", download_dataset, methods=["POST"]),
        Route("/datasets/{owner}/{slug}", send_dataset, methods=["GET", "HEAD"]),
        Route("/v1/security.OAuthService/{rpc}", call, methods=["POST"]),
        Route("/upload/{token}", upload, methods=["PUT"]),
        Route("/files/{competition}/{name}", download, methods=["GET", "HEAD"]),
        Route("/practice", describe, methods=["GET"]),
        Route("/practice/faults", show_faults, methods=["GET"]),
        Route("/practice/faults", add_fault, methods=["POST"]),
        Route("/practice/faults", clear_faults, methods=["DELETE"]),
    ]
    app = Starlette(routes=routes)
    app.state.server = server
    return with_credentials(with_faults(app, server.faults), server.credentials)


def with_credentials(app: ASGIApp, credentials: Credentials) -> ASGIApp:
    """Return the app with 401 for calls and faults that bring neither username and key nor the token."""
    basic = base64.b64encode(f"{credentials.username}:{credentials.key}".encode()).decode()
    accepted = (f"Basic {basic}", f"Bearer {credentials.token}")

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(("/v1/", "/practice/")):
            given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            if not any(same(given, expected) for expected in accepted):
                await flat_error(401, "Unauthenticated")(scope, receive, send)
                return
        await app(scope, receive, send)

    return serve


async def call(request: Request) -> Response:
    """Answer one of Kaggle's calls."""
    try:
        asked = await _read_json(request)
        base = str(request.base_url).rstrip("/")
        answered = await answer(_server(request), request.path_params["rpc"], asked, base)
    except Refusal as refusal:
        return flat_error(refusal.code, refusal.message)
    except (PracticeError, OSError) as error:  # a competition's first call, if it cannot be opened
        return flat_error(500, str(error))
    return answered if isinstance(answered, Response) else JSONResponse(answered)


async def upload(request: Request) -> Response:
    """Take the bytes of an upload that was announced."""
    server = _server(request)
    announced = ledger.find_upload(server.ledger, request.path_params["token"])
    body = await _read_body(request, announced.length if announced else 0)
    if announced is None:
        return Response("no such upload", status_code=404)
    if len(body) != announced.length:
        return Response("not the length that was announced", status_code=400)
    ledger.store_upload(server.ledger, announced.token, body)
    return Response(status_code=200)


async def download(request: Request) -> Response:
    """Send the zip or one of its files, to whoever has the signed address."""
    server, name = _server(request), request.path_params["name"]
    at = await server.find(request.path_params["competition"])
    if at is None or not same(request.query_params.get("sig", ""), sign(server, f"{at.spec.name}/{name}")):
        return Response("the signature of this address is wrong", status_code=403)
    if name == at.archive.name:
        return FileResponse(at.archive)
    return FileResponse(await asyncio.to_thread(data.unpack, at.archive, name))


async def download_dataset(request: Request) -> Response:
    """Redirect to the zip of a data set."""
    try:
        asked = await _read_json(request)
        owner, slug = str(asked.get("ownerSlug")), str(asked.get("datasetSlug"))
        if datasets.find(_server(request).home, owner, slug) is None:
            raise Refusal(404, f"Dataset not found: {owner}/{slug}")
    except Refusal as refusal:
        return flat_error(refusal.code, refusal.message)
    signature = sign(_server(request), f"{owner}/{slug}")
    return RedirectResponse(f"/datasets/{owner}/{slug}?sig={signature}", status_code=302)


async def send_dataset(request: Request) -> Response:
    """Send the zip of a data set, to whoever has the signed address."""
    server, owner, slug = _server(request), request.path_params["owner"], request.path_params["slug"]
    folder = datasets.find(server.home, owner, slug)
    if folder is None or not same(request.query_params.get("sig", ""), sign(server, f"{owner}/{slug}")):
        return Response("the signature of this address is wrong", status_code=403)
    return FileResponse(await asyncio.to_thread(datasets.pack, folder))


async def describe(request: Request) -> Response:
    """Say which server this is."""
    server = _server(request)
    return JSONResponse(
        {
            "competitions": catalog.names(server.home),
            "instance": server.instance,
            "pid": os.getpid(),
            "options": server.options.to_json(),
        }
    )


async def show_faults(request: Request) -> Response:
    """List the faults that wait."""
    return JSONResponse([asdict(fault) for fault in _server(request).faults])


async def add_fault(request: Request) -> Response:
    """Add a fault."""
    try:
        _server(request).faults.append(make_fault(await _read_json(request)))
    except (Refusal, PracticeError) as error:
        return flat_error(400, str(error))
    return await show_faults(request)


async def clear_faults(request: Request) -> Response:
    """Remove all faults; what a late list does not show yet is listed."""
    server = _server(request)
    server.faults.clear()
    ledger.list_all(server.ledger, now_ms())
    return await show_faults(request)


def _server(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


async def _read_json(request: Request) -> Fields:
    try:
        asked = json.loads(await request.body() or b"{}")
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise Refusal(400, "The request is not a JSON object")
    return asked


async def _read_body(request: Request, most: int) -> bytes:
    """Read the request to its end, and return at most one byte more than `most` of it."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk[: most + 1 - len(body)]
    return bytes(body)
