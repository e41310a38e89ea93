"""What a web page, another host name or another user can do to the Prefect server of `make ui`: nothing."""

import asyncio
import base64
import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import websockets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EVIL = "https://evil.example"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def automation(installed: Any) -> dict[str, Any]:
    """An automation that runs a shell command on the worker's machine as soon as any run is cancelled."""
    deployment = installed.ask("/deployments/name/submit/cpu")["id"]
    action = {
        "type": "run-deployment", "source": "selected", "deployment_id": deployment,
        "job_variables": {"command": f"touch {installed.home / 'attacked'}"},
    }  # fmt: skip
    trigger = {
        "type": "event", "posture": "Reactive", "expect": ["prefect.flow-run.Cancelled"],
        "threshold": 1, "within": 0,
    }  # fmt: skip
    return {"name": "attack", "trigger": trigger, "actions": [action]}


def names(installed: Any) -> set[str]:
    """The automations on the server."""
    return {found["name"] for found in installed.ask("/automations/filter", automations=None, limit=100)}


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    """A client that uses no proxy, no `.netrc` and no login."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.parametrize("path", ["/deployments/filter", "/automations/", "/flow_runs/"])
def test_a_browser_is_not_allowed_to_send_another_pages_request(installed, http, path):
    """The preflight of a page on another origin is refused, that of the UI is answered."""
    headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}

    evil = http.options(installed.url + path, headers=headers | {"Origin": EVIL})
    own = http.options(
        installed.url + path, headers=headers | {"Origin": f"http://127.0.0.1:{installed.port}"}
    )

    assert evil.status_code == 400
    assert evil.headers.get("Access-Control-Allow-Origin") in (None, "")
    assert own.status_code == 200


@pytest.mark.parametrize("login", [False, True], ids=["stranger", "logged in"])
def test_a_request_without_a_preflight_creates_nothing(installed, http, login):
    """A page can POST blindly, without a content type; even a logged-in browser sends no CSRF token."""
    auth = tuple(installed.login.split(":")) if login else None
    prepared = http.prepare_request(
        requests.Request("POST", f"{installed.url}/automations/", headers={"Origin": EVIL}, auth=auth)
    )
    prepared.body = json.dumps(automation(installed)).encode()
    prepared.headers["Content-Length"] = str(len(prepared.body))
    prepared.headers.pop("Content-Type", None)

    answer = http.send(prepared)

    assert answer.status_code in (401, 403), answer.text
    assert "attack" not in names(installed)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1"])
def test_without_the_login_nothing_is_answered_but_health(installed, http, host):
    """A host name that resolves to loopback (DNS rebinding), and another user of the machine."""
    headers = {"Host": f"{host}:{installed.port}"}

    assert http.get(f"{installed.url}/health", headers=headers).status_code == 200
    for path in ("/admin/version", "/admin/settings", "/csrf-token?client=evil", "/automations/count"):
        assert http.get(installed.url + path, headers=headers).status_code == 401, path
    token = base64.b64encode(b"mnist:wrong").decode()
    wrong = http.get(f"{installed.url}/admin/version", headers={"Authorization": f"Basic {token}"})
    assert wrong.status_code == 401


@pytest.mark.parametrize("path", ["/events/in", "/events/out", "/logs/out"])
def test_a_web_socket_needs_the_login(installed, path):
    """Browsers send no preflight for a WebSocket: neither can events be made up, nor read."""

    async def talk() -> str:
        url = installed.url.replace("http", "ws") + path
        options = {"subprotocols": ["prefect"], "origin": EVIL, "proxy": None}
        async with websockets.connect(url, **options) as socket:
            await socket.send(json.dumps({"type": "auth", "token": "wrong"}))
            return str(await asyncio.wait_for(socket.recv(), 20))

    with pytest.raises((websockets.ConnectionClosed, websockets.InvalidHandshake)):
        print(asyncio.run(talk()))


@pytest.fixture
def evil_page(tmp_path: Path) -> Iterator[Any]:
    """Serve a page on loopback as evil.example; return its address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Leave the terminal alone."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def serve(script: str) -> str:
        (tmp_path / "page.html").write_text(f"<body>running</body><script type=module>{script}</script>")
        return f"http://evil.example:{server.server_port}/page.html"

    yield serve
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; the requests that it sends are tested above")
def test_a_hostile_page_in_a_real_browser_reads_and_changes_nothing(installed, evil_page, tmp_path):
    """Both attacks in Chromium: a request that asks first, and one that does not."""
    page = evil_page(f"""
        const api = "{installed.url}", body = JSON.stringify({json.dumps(automation(installed))});
        const json = {{method: "POST", headers: {{"content-type": "application/json"}}, body}};
        const blind = {{method: "POST", mode: "no-cors", body: new Blob([body])}};
        const tried = {{}};
        for (const [name, send] of Object.entries({{
            read: () => fetch(api + "/deployments/filter", {{...json, body: "{{}}"}}),
            create: () => fetch(api + "/automations/", json),
            blind: () => fetch(api + "/automations/", blind),
        }})) {{
            try {{ const answer = await send(); tried[name] = answer.type + " " + answer.status; }}
            catch (error) {{ tried[name] = "blocked"; }}
        }}
        document.body.textContent = JSON.stringify(tried);
    """)

    done = subprocess.run(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-proxy-server",
            f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP evil.example 127.0.0.1",
            "--virtual-time-budget=15000", "--dump-dom", page,
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    tried = json.loads(done.stdout.split("<body>")[1].split("</body>")[0].split("<script")[0])
    assert tried["read"] == tried["create"] == "blocked"
    assert tried["blind"] == "opaque 0"  # it was sent, and the page cannot see that it was refused
    assert "attack" not in names(installed)


def test_the_login_is_in_its_file_alone(installed):
    """Neither the database, nor a log, nor the arguments of a process have it; the file is its owner's."""
    run = installed.trigger("submit/cpu")
    installed.wait(run)
    secret = installed.login.encode()
    encoded = base64.b64encode(secret)

    holding = {
        path.name
        for path in (installed.home / "prefect").rglob("*")
        if path.is_file() and (secret in (content := path.read_bytes()) or encoded in content)
    }
    arguments = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())

    assert holding == {"login"}
    assert secret not in arguments
    assert (installed.home / "prefect" / "login").stat().st_mode & 0o077 == 0
