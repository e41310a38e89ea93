"""Look at a page of Prefect's UI behind its login, in headless Chromium, for `make compose-check`."""

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import requests
import websockets

from infra.cloud_check import say
from infra.compose_installation import Installation

SEEN_S = 180


async def see(made: Installation, page: str, words: str, screenshot: Path | None) -> None:
    """Log in to the UI in headless Chromium and wait until a page shows words.

    Raises:
        SystemExit: it does not show them.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        say("Chromium is not installed: the page is not checked")
        return
    origin = f"http://127.0.0.1:{made.port}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
            "--window-size=1280,1000",
        ]
        browser = subprocess.Popen(
            [chromium, *flags, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(SEEN_S):
                await _see(Path(profile) / "DevToolsActivePort", origin, page, words, made.login, screenshot)
        except TimeoutError:
            raise SystemExit(f"{page}: Chromium does not show {words} within {SEEN_S} s") from None
        finally:
            browser.kill()
            browser.wait()


async def _see(record: Path, origin: str, page: str, words: str, login: str, screenshot: Path | None) -> None:
    """Talk to a browser by Chrome's DevTools protocol."""
    while not record.exists() or not record.read_text().strip():
        await asyncio.sleep(0.2)
    port = record.read_text().split()[0]
    tabs = requests.get(f"http://127.0.0.1:{port}/json/list", timeout=20).json()
    address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
    async with websockets.connect(address, max_size=None, proxy=None) as socket_:
        number = 0

        async def call(method: str, **parameters: Any) -> dict[str, Any]:
            nonlocal number
            number += 1
            await socket_.send(json.dumps({"id": number, "method": method, "params": parameters}))
            while (answer := json.loads(await socket_.recv())).get("id") != number:
                pass
            return dict(answer.get("result", {}))

        async def evaluate(code: str) -> Any:
            return (await call("Runtime.evaluate", expression=code))["result"].get("value")

        await call("Page.navigate", url=f"{origin}/api/health")
        secret = base64.b64encode(login.encode()).decode()
        while await evaluate("location.origin") != origin:
            await asyncio.sleep(0.2)
        await evaluate(f"localStorage.setItem('prefect-password', '{secret}')")
        await call("Page.navigate", url=origin + page)
        while words not in str(await evaluate("document.body && document.body.innerText")):
            await asyncio.sleep(0.5)
        if screenshot is not None:
            shot = await call("Page.captureScreenshot")
            screenshot.write_bytes(base64.b64decode(shot["data"]))
