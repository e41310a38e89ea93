"""`make compose-check`: run the installation of Docker Compose on an engine of its own, and break it.

    python -m infra.compose_check [--folder FOLDER] [--built] [--screenshot FILE]

Builds the images, starts everything, runs nights of the small competition, reads the score over the API and
in headless Chromium; kills the database, the server, each worker and the whole engine, and upgrades the
images, each during a night; takes it down, backs it up, removes it and restores it; runs a night with the
store in S3. Each night must end well, or be marked and be followed by one that does, and submit once. The
engine's files are in a temporary folder, or in FOLDER, which stays: `--built` uses the images that it has.
Needs root, and Debian's packages docker.io and iptables.
"""

import argparse
import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import websockets

from infra.cloud_check import say
from infra.compose_engine import COMPOSE, Engine, build_images, engine, output, relabel_images

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
NIGHT_S = 420
SEEN_S = 180
SETTINGS = {
    "MNIST_KAGGLE": "http://127.0.0.1:8765", "MNIST_COMPETITION": "digits-mini", "MNIST_EPOCHS": "20",
    "MNIST_FLOOR": "0.3", "MNIST_SHARE_MIN": "0", "MNIST_MARGIN_ROWS": "1000", "MNIST_AGREEMENT": "0",
    "MNIST_DAILY_LIMIT": "20",
}  # fmt: skip
S3 = {
    "MNIST_STORE": "s3://mnist/store",
    "AWS_ENDPOINT_URL": "http://s3:8333",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass
class Installation:
    """An installation of Compose, and requests to its Prefect API.

    Attributes:
        folder: of its `.env` and secrets.
        name: of the Compose project.
        port: of its UI.
    """

    folder: Path
    name: str
    port: int

    @classmethod
    def make(cls, folder: Path, name: str, profiles: str, settings: dict[str, str]) -> "Installation":
        """Write the `.env` of a new installation."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        made = {"COMPOSE_PROJECT_NAME": name, "COMPOSE_PROFILES": profiles, "PORT": str(port)} | settings
        folder.mkdir()
        (folder / ".env").write_text("".join(f"{key}={value}\n" for key, value in made.items()))
        return cls(folder, name, port)

    def script(self, *arguments: str) -> str:
        """Run infra/compose/compose.sh for it."""
        return output(COMPOSE / "compose.sh", *arguments, COMPOSE_FOLDER=str(self.folder))

    @property
    def login(self) -> str:
        """The login of its Prefect server."""
        return (self.folder / "secrets" / "prefect-login").read_text()

    def ask(self, path: str, **body: Any) -> Any:
        """Send a request, a POST if it has a body, and return the answer; repeated while the API is away."""
        url, deadline = f"http://127.0.0.1:{self.port}/api", time.monotonic() + 180
        while True:
            try:
                with requests.Session() as session:
                    session.trust_env = False
                    session.auth = tuple(self.login.split(":"))  # type: ignore[assignment]
                    if body:
                        token = session.get(f"{url}/csrf-token?client=check", timeout=20)
                        token.raise_for_status()
                        session.headers["Prefect-Csrf-Token"] = token.json()["token"]
                        session.headers["Prefect-Csrf-Client"] = "check"
                    answer = session.request(
                        "POST" if body else "GET", url + path, json=body or None, timeout=20
                    )
                answer.raise_for_status()
                return answer.json()
            except requests.RequestException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def trigger(self, night: str) -> str:
        """Start a night of the smallest model; return the id of the run."""
        deployment = self.ask("/deployments/name/nightly/nightly")["id"]
        given = {"model": "scratch", "preset": "fast", "night": night}
        return str(self.ask(f"/deployments/{deployment}/create_flow_run", parameters=given)["id"])

    def children(self, run: str) -> list[dict[str, Any]]:
        """Return the training runs of a night."""
        found = self.ask(
            "/flow_runs/filter",
            flow_runs={"parent_flow_run_id": {"any_": [run]}},
            flows={"name": {"any_": ["train"]}},
        )
        return list(found)

    def wait_for(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + NIGHT_S
        while not holds():
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name}: {what}: not within {NIGHT_S} s")
            time.sleep(1)

    def end_of(self, run: str) -> str:
        """Wait for the end of a run; return the type of its state."""
        self.wait_for(f"the end of {run}", lambda: self.ask(f"/flow_runs/{run}")["state_type"] in ENDED)
        return str(self.ask(f"/flow_runs/{run}")["state_type"])

    def train_of(self, run: str) -> None:
        """Wait until the training of a night runs: the middle of the night."""
        self.wait_for(
            "a training", lambda: any(child["state_type"] == "RUNNING" for child in self.children(run))
        )

    def kill(self, service: str) -> None:
        """Kill all processes of a container, whose restart is then the engine's."""
        pid = output("docker", "inspect", "--format", "{{.State.Pid}}", f"{self.name}-{service}-1")
        os.kill(int(pid), signal.SIGKILL)

    def scorecard(self, run: str) -> dict[str, Any]:
        """Return the scorecard of a night."""
        found = self.ask(
            "/artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}, "key": {"any_": ["scorecard"]}}
        )
        return dict(found[0])

    def submissions(self) -> list[str]:
        """Return the descriptions of all submissions that the practice server has: token and version."""
        code = (
            "import sqlite3; posted = sqlite3.connect('/data/split-0/submissions.sqlite3'); "
            "print(*(row[0] for row in posted.execute('SELECT description FROM submissions')), sep='\\n')"
        )
        return self.script("exec", "-T", "practice", "python", "-c", code).split("\n")[:-1]

    def count(self) -> int:
        """Return the number of runs in Prefect's history."""
        return int(self.ask("/flow_runs/count", flow_runs={}))


def step(what: str) -> Callable[[str], None]:
    """Return a function that reports the end of a step, with its seconds."""
    began = time.monotonic()
    return lambda result: say(f"{what}: {result}, {time.monotonic() - began:.0f} s")


def check_night(made: Installation, night: str, screenshot: Path | None) -> None:
    """Run a night; its score is in the API and in the UI behind its login, which nobody else gets."""
    done = step("a night")
    bare = requests.get(f"http://127.0.0.1:{made.port}/api/flow_runs/count", timeout=20)
    expect("the API without the login", bare.status_code, 401)
    run = made.trigger(night)
    expect("state", made.end_of(run), "COMPLETED")
    card = made.scorecard(run)
    text = str(card["data"])
    expect("promoted", f"# Night {night}: promoted" in text, True)
    status = made.script("run", "--rm", "-T", "worker", "python", "-m", "flows", "status", "--json")
    score = json.loads(status.splitlines()[-1])["champion"]["public_score"]
    expect("the scorecard has the score", f"{score:.5f}" in text, True)
    done(f"promoted, public score {score:.5f}, over the API")
    done = step("Chromium")
    asyncio.run(see(made, f"/v2/artifacts/artifact/{card['id']}", f"{score:.5f}", screenshot))
    done("the score is on the page behind the login")


def check_kills(made: Installation, docker: Engine) -> None:
    """Break each part during a night, which ends well, or is marked and followed by a night that does."""
    ended: dict[str, str] = {}

    def broken(number: int, what: str, kill: Callable[[], None]) -> None:
        done, night = step(f"{what} during a night"), f"2026-03-{2 * number - 1:02}"
        run = made.trigger(night)
        made.train_of(run)
        kill()
        ended[night] = made.end_of(run)
        if ended[night] == "COMPLETED":
            done("the night ended well")
            return
        expect("the night is marked", ended[night] in ("FAILED", "CRASHED"), True)
        following = f"2026-03-{2 * number:02}"
        ended[following] = made.end_of(made.trigger(following))
        expect("the next night", ended[following], "COMPLETED")
        done(f"the night was marked {ended[night]}, and the next one ended well")

    def power_failure() -> None:
        docker.kill()
        docker.start()

    def upgrade() -> None:
        relabel_images("upgraded")
        made.script("up")

    broken(1, "the database killed", lambda: made.kill("database"))
    broken(2, "the server killed", lambda: made.kill("server"))
    broken(3, "the trainer killed", lambda: made.kill("trainer"))
    broken(4, "the worker killed", lambda: made.kill("worker"))
    broken(5, "everything killed, with the engine,", power_failure)
    before = known(made)
    broken(6, "an upgrade", upgrade)
    after = known(made)
    kept = after[0] > before[0] and after[1] is not None and after[2] >= before[2]
    expect(f"history, champion and submissions {before} are kept by the upgrade: {after}", kept, True)
    check_submissions(made, ended)


def check_submissions(made: Installation, ended: dict[str, str]) -> None:
    """Check that a night that ended well has submitted once, and that a marked one has not done so twice."""
    posted = made.submissions()
    expect("submissions with the same content", len(posted) - len(set(posted)), 0)
    by_night = Counter(description.split()[-1][:10] for description in posted)
    for night, state in ended.items():
        allowed = (1,) if state == "COMPLETED" else (0, 1)
        expect(f"{by_night[night]} submissions of night {night}", by_night[night] in allowed, True)
    well = sum(state == "COMPLETED" for state in ended.values())
    say(f"{len(ended)} nights, {well} of which ended well: {len(posted)} submissions, one for each at most")


def known(made: Installation) -> tuple[int, str, int]:
    """Return the number of runs in the history, the champion, and the number of submissions."""
    status = made.script("run", "--rm", "-T", "worker", "python", "-m", "flows", "status", "--json")
    champion = json.loads(status.splitlines()[-1])["champion"]["version"]
    return made.count(), champion, len(made.submissions())


def check_data(made: Installation) -> None:
    """Take it down and up, back it up, remove it and restore it: nothing is lost."""
    before, done = known(made), step("down and up")
    made.script("down")
    made.script("up")
    expect("after down and up", known(made), before)
    done(f"{before[0]} runs, champion {before[1]} and {before[2]} submissions are still there")
    done = step("backup, removal and restore")
    made.script("backup", str(made.folder / "copy"))
    made.script("down", "--volumes")
    made.script("restore", str(made.folder / "copy"))
    made.script("up")
    expect("after the restore", known(made), before)
    done("the same")


def check_s3(folder: Path) -> None:
    """Run a night with the store in SeaweedFS."""
    done = step("a night with the store in S3")
    made = Installation.make(folder / "s3", "mnist-s3", "cpu,practice,s3", SETTINGS | S3)
    try:
        made.script("up")
        expect("state", made.end_of(made.trigger("2026-02-01")), "COMPLETED")
        status = made.script("run", "--rm", "-T", "worker", "python", "-m", "flows", "status", "--json")
        done(f"champion {json.loads(status.splitlines()[-1])['champion']['version']}")
    finally:
        with suppress(SystemExit):
            made.script("down", "--volumes")


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


def expect(what: str, found: object, wanted: object) -> None:
    """End the check unless something is as it must be."""
    if found != wanted:
        raise SystemExit(f"{what}: {found!r}, not {wanted!r}")


def main() -> None:
    """Run the whole check."""
    parser = argparse.ArgumentParser(prog="python -m infra.compose_check")
    parser.add_argument(
        "--folder", type=Path, help="Keep the engine's files here (default: a temporary folder)."
    )
    parser.add_argument("--built", action="store_true", help="Use the images that the folder has.")
    parser.add_argument("--screenshot", type=Path, help="Write a picture of the UI with the score.")
    asked = parser.parse_args()
    with engine(asked.folder) as docker, tempfile.TemporaryDirectory() as home:
        done = step("images")
        build_images(asked.built)
        done("there")
        made = Installation.make(Path(home) / "compose", "mnist-check", "cpu,practice", SETTINGS)
        try:
            done = step("up")
            made.script("up")
            done("everything is healthy")
            check_night(made, "2026-02-01", asked.screenshot)
            check_kills(made, docker)
            check_data(made)
        finally:
            with suppress(SystemExit):
                made.script("down", "--volumes")
        check_s3(Path(home))


if __name__ == "__main__":
    main()
