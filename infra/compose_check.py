"""`make compose-check`: run the installation of Docker Compose on an engine of its own, and break it.

    python -m infra.compose_check [--folder FOLDER] [--built] [--screenshot FILE]

Builds the images and starts an installation, runs nights of the small competition in it, and reads the
score over the API and in headless Chromium; kills the trainer, the database, the worker, the server and the
whole engine, each during a night; takes it down, backs it up, removes it and restores it. A second
installation, with its store in S3, runs beside it while the first one waits until a killed run's last
heartbeat is old: its images are upgraded during a night, and its backup fails on a full disk. Each night
must end well, or be marked and be followed by one that does, and submit once. The engine's files are in a
temporary folder, or in FOLDER, which stays: `--built` uses the images that it has. Needs root, and Debian's
packages docker.io and iptables.
"""

import argparse
import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import requests

from infra.cloud_check import say
from infra.compose_engine import Engine, build_images, engine, output, relabel_images
from infra.compose_installation import S3, SETTINGS, Installation, expect, step
from infra.compose_page import see

Kill = Callable[[], None]


class Nights:
    """Nights of an installation that are broken, and what became of them."""

    def __init__(self, made: Installation) -> None:
        self.made = made
        self.ended: dict[str, str] = {}

    def run(self, kill: Kill | None = None) -> str:
        """Run the next night, break something while it trains, and return the type of its last state."""
        night = f"2026-03-{len(self.ended) + 1:02}"
        run = self.made.trigger(night)
        if kill is not None:
            self.made.train_of(run)
            kill()
        self.ended[night] = self.made.end_of(run)
        return self.ended[night]

    def check(self, what: str, kill: Kill, following: str = "", kill_following: Kill | None = None) -> None:
        """Break something during a night: it ends well, or is marked and followed by one that does.

        Args:
            what: is broken.
            kill: breaks it.
            following: is broken during the night after a marked one, instead of during a night of its own.
            kill_following: breaks that.
        """
        done = step(f"{self.made.name}: {what} during a night")
        state = self.run(kill)
        if state == "COMPLETED":
            done("the night ended well")
        else:
            expect("the night is marked", state in ("FAILED", "CRASHED"), True)
            done(f"the night was marked {state}")
            if kill_following is None:
                done = step(f"{self.made.name}: the next night")
                expect("the next night", self.run(), "COMPLETED")
                done("it ended well")
        if kill_following is not None:
            self.check(following, kill_following)


def check_night(made: Installation, night: str, screenshot: Path | None) -> None:
    """Run a night; its score is in the API and in the UI behind its login, which nobody else gets."""
    done = step(f"{made.name}: a night")
    bare = requests.get(f"http://127.0.0.1:{made.port}/api/flow_runs/count", timeout=20)
    expect("the API without the login", bare.status_code, 401)
    run = made.trigger(night)
    expect("state", made.end_of(run), "COMPLETED")
    card = made.scorecard(run)
    text = str(card["data"])
    expect("promoted", f"# Night {night}: promoted" in text, True)
    score = made.champion()["public_score"]
    expect("the scorecard has the score", f"{score:.5f}" in text, True)
    done(f"promoted, public score {score:.5f}, over the API")
    done = step(f"{made.name}: Chromium")
    asyncio.run(see(made, f"/v2/artifacts/artifact/{card['id']}", f"{score:.5f}", screenshot))
    done("the score is on the page behind the login")


def check_kills(nights: Nights) -> None:
    """Kill each part during a night; what a night survives is killed in the one after a marked night."""
    made = nights.made
    for lost, outage in (("trainer", "database"), ("worker", "server")):
        nights.check(
            f"the {lost} killed", partial(made.kill, lost), f"the {outage} killed", partial(made.kill, outage)
        )


def check_power_failure(nights: Nights, docker: Engine) -> None:
    """Kill everything at once during a night, with the engine; then nothing has been submitted twice."""

    def kill() -> None:
        docker.kill()
        docker.start()

    nights.check("everything killed, with the engine,", kill)
    check_submissions(nights)


def check_s3(folder: Path) -> None:
    """Run nights with the store in SeaweedFS, upgrade the images during one, and fail to back up."""
    made = Installation.make(folder / "s3", "mnist-s3", "cpu,practice,s3", SETTINGS | S3)
    with started(made):
        done = step(f"{made.name}: a night with the store in S3")
        expect("state", made.end_of(made.trigger("2026-02-01")), "COMPLETED")
        before = made.known()
        done(f"champion {before[1]}")

        def upgrade() -> None:
            relabel_images("upgraded")
            made.script("up")

        nights = Nights(made)
        nights.check("an upgrade", upgrade)
        after = made.known()
        kept = after[0] > before[0] and bool(after[1]) and after[2] > before[2]
        expect(f"history, champion and submissions {before} are kept by the upgrade: {after}", kept, True)
        check_submissions(nights)
        check_full_disk(made, folder / "full")


def check_full_disk(made: Installation, disk: Path) -> None:
    """Back up to a disk that is too small: the error is shown, nothing is left, the services run again."""
    done = step(f"{made.name}: a backup on a full disk")
    disk.mkdir()
    output("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk)
    try:
        said = made.refusal("backup", str(disk / "copy"))
        expect("what a full disk leaves", list(disk.iterdir()), [])
    finally:
        output("umount", disk)
    expect(f"the backup says what to do: {said}", "nothing is kept of this backup" in said, True)
    expect("champion and submissions afterwards", made.known()[1:] != ("", 0), True)
    done("it failed, left nothing, and everything runs again")


def check_submissions(nights: Nights) -> None:
    """Check that a night that ended well has submitted once, and a marked one not twice."""
    posted, ended = nights.made.submissions(), nights.ended
    expect("submissions with the same content", len(posted) - len(set(posted)), 0)
    by_night = Counter(description.split()[-1][:10] for description in posted)
    for night, state in ended.items():
        allowed = (1,) if state == "COMPLETED" else (0, 1)
        expect(f"{by_night[night]} submissions of night {night}", by_night[night] in allowed, True)
    well = sum(state == "COMPLETED" for state in ended.values())
    say(
        f"{nights.made.name}: {len(ended)} nights, {well} of which ended well, and one before: "
        f"{len(posted)} submissions, none twice"
    )


def check_data(made: Installation, folder: Path) -> None:
    """Take it down and up, back it up, remove it, restore it: nothing is lost; damaged copies are refused."""
    before, done = made.known(), step(f"{made.name}: down and up")
    made.script("down")
    made.script("up")
    expect("after down and up", made.known(), before)
    done(f"{before[0]} runs, champion {before[1]} and {before[2]} submissions are still there")
    done = step(f"{made.name}: backup")
    copy = folder / "copy"
    made.script("backup", str(copy))
    done("there")
    done = step(f"{made.name}: removal and restore")
    whole = (copy / "home.tar").read_bytes()
    (copy / "home.tar").write_bytes(whole[:-1] + b"x")
    said = made.refusal("restore", str(copy))
    expect(f"a damaged copy is refused: {said}", "is damaged" in said, True)
    (copy / "home.tar").write_bytes(whole)
    said = made.refusal("restore", str(copy))
    expect(f"nothing is overwritten: {said}", "there is an installation already" in said, True)
    made.script("down", "--volumes")
    made.script("restore", str(copy))
    made.script("up")
    expect("after the restore", made.known(), before)
    done("the same runs, champion and submissions; a damaged copy was refused before")


@contextmanager
def started(made: Installation) -> Iterator[None]:
    """Start an installation; remove it with its volumes after the block."""
    done = step(f"{made.name}: up")
    try:
        made.script("up")
        done("everything is healthy")
        yield
    finally:
        with suppress(SystemExit):
            made.script("down", "--volumes")


def main() -> None:
    """Run the whole check."""
    parser = argparse.ArgumentParser(prog="python -m infra.compose_check")
    parser.add_argument(
        "--folder", type=Path, help="Keep the engine's files here (default: a temporary folder)."
    )
    parser.add_argument("--built", action="store_true", help="Use the images that the folder has.")
    parser.add_argument("--screenshot", type=Path, help="Write a picture of the UI with the score.")
    asked = parser.parse_args()
    total = step("all")
    with engine(asked.folder) as docker, tempfile.TemporaryDirectory() as home:
        done = step("images")
        build_images(asked.built)
        done("there")
        made = Installation.make(Path(home) / "compose", "mnist-check", "cpu,practice", SETTINGS)
        nights = Nights(made)
        with started(made):
            check_night(made, "2026-02-01", asked.screenshot)
            with ThreadPoolExecutor() as pool:
                beside = [pool.submit(check_kills, nights), pool.submit(check_s3, Path(home))]
                for part in as_completed(beside):
                    part.result()
            check_power_failure(nights, docker)
            check_data(made, Path(home))
    total("every check passed")


if __name__ == "__main__":
    main()
