"""What breaks under a deployed run: it ends well or is Crashed, and the next run finishes the night once."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.ops.automations import DEAD_S
from mnist_core.spec import DIGIT_RECOGNIZER
from tests.e2e.conftest import WAIT_S

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def competition() -> str:
    """The large competition: a training of one epoch takes seconds, and one of 900 does not end."""
    return DIGIT_RECOGNIZER.name


@pytest.fixture(scope="module", autouse=True)
def short_trainings(installed):
    """Trainings of one epoch, unless a test asks for long ones."""
    long_training(installed, "1")


def long_training(installed, epochs="900"):
    """Restart the workers with this number of epochs, which by default do not end."""
    installed.environment["MNIST_EPOCHS"] = epochs
    installed.down()
    installed.up()


def wait_for_progress(installed, run):
    """Wait until a run has trained for some seconds, when its progress bar appears."""
    deadline = time.monotonic() + WAIT_S
    while not any(found["data"] for found in installed.artifacts(run).values()):
        assert time.monotonic() < deadline, installed.logs(run)
        time.sleep(0.3)


def count(installed, version):
    """Return the number of submissions of a version."""
    return sum(version in submission["description"] for submission in installed.practice.submissions())


def test_a_cancelled_night_stops_its_training(installed):
    """If it is cancelled in training, run and child end, no version is published, and the next run works."""
    long_training(installed)
    run = installed.trigger("nightly/nightly", night="2026-10-01", model="convnet", preset="fast")
    child = installed.child(run, "train")["id"]
    wait_for_progress(installed, child)

    done = installed.command("prefect", "flow-run", "cancel", run)

    assert done.returncode == 0, done.stdout
    asked = time.monotonic()
    assert installed.wait(run)["state_type"] == "CANCELLED"
    assert installed.wait(child)["state_type"] == "CANCELLED"
    took = time.monotonic() - asked
    print(f"cancelled: run and child ended {took:.1f} s after the command returned")
    assert took < 90  # 2 s, unless the machine is busy
    assert installed.stored("versions") == []
    long_training(installed, "1")
    again = installed.trigger("nightly/nightly", night="2026-10-01", model="convnet", preset="fast")
    assert installed.wait(again)["state_type"] == "COMPLETED"


def test_a_training_that_is_cancelled_fails_the_night_with_its_cause(installed):
    """If only the child is cancelled, the nightly run is Failed, and its message says why."""
    long_training(installed)
    run = installed.trigger("nightly/nightly", night="2026-10-02", model="convnet", preset="fast")
    child = installed.child(run, "train")["id"]
    installed.wait_for_log(child, "training convnet")

    installed.command("prefect", "flow-run", "cancel", child)

    night = installed.wait(run)
    assert night["state_type"] == "FAILED"
    assert "Cancelled on train/gpu" in night["state"]["message"]
    long_training(installed, "1")


def test_a_worker_killed_in_training_is_crashed_and_a_retry_finishes(installed):
    """If run and worker of the GPU pool die, the run is Crashed within 2 minutes, and the night Failed.

    With the worker up again, `prefect flow-run retry` finishes the same run with one submission.
    """
    long_training(installed)
    run = installed.trigger("nightly/nightly", night="2026-10-03", model="convnet", preset="fast")
    child = installed.child(run, "train")["id"]
    installed.wait_for_log(child, "training convnet")
    killed = time.monotonic()

    installed.kill_worker("gpu", child)
    installed.up()  # as a person would at once; the server must not forget the dead run by it

    assert installed.wait(child)["state_type"] == "CRASHED"
    print(f"the child is Crashed after {time.monotonic() - killed:.0f} s")
    night = installed.wait(run)
    assert night["state_type"] == "FAILED"
    assert "Crashed on train/gpu: no heartbeat" in night["state"]["message"]
    long_training(installed, "1")
    assert installed.command("prefect", "flow-run", "retry", run).returncode == 0
    assert installed.wait(run, ("COMPLETED",))["run_count"] == 2
    [version] = [name for name in installed.stored("versions") if name.startswith("2026-10-03")]
    assert count(installed, version) == 1


def test_a_worker_killed_in_submission_leaves_one_submission(installed):
    """Killed while the competition answers, it is Crashed within 2 minutes; the next run reuses the post."""
    installed.practice.fault("slow", seconds=20.0, rpc="CreateSubmission")
    run = installed.trigger("nightly/nightly", night="2026-10-04", model="convnet", preset="fast")
    deadline = time.monotonic() + WAIT_S
    before = len(installed.practice.submissions())
    while len(installed.practice.submissions()) == before:
        assert time.monotonic() < deadline, installed.logs(run)
        time.sleep(0.2)
    killed = time.monotonic()

    installed.kill_worker("cpu", run)

    assert installed.wait(run)["state_type"] == "CRASHED"
    print(f"the night is Crashed after {time.monotonic() - killed:.0f} s")
    installed.practice.clear_faults()
    installed.up()
    again = installed.trigger("nightly/nightly", night="2026-10-04", model="convnet", preset="fast")
    assert installed.wait(again)["state_type"] == "COMPLETED", installed.logs(again)
    [version] = [name for name in installed.stored("versions") if name.startswith("2026-10-04")]
    assert count(installed, version) == 1
    assert len(installed.practice.submissions()) == before + 1


def test_a_server_that_is_gone_for_a_minute_does_not_fail_the_night(installed):
    """If the API is gone while the child trains, and comes back restarted, the run ends well.

    If it is gone for longer than a run may be silent, the run may be Crashed; the next one ends well. In both
    cases workers and training have waited, and there is one submission.
    """
    long_training(installed, "2")
    run = installed.trigger("nightly/nightly", night="2026-10-05", model="convnet", preset="fast")
    child = installed.child(run, "train")["id"]
    installed.wait_for_log(child, "training convnet")

    before = installed.processes()
    gone = time.monotonic()
    os.killpg(before.pop("server"), signal.SIGKILL)
    time.sleep(45)
    installed.up()
    away_s = time.monotonic() - gone

    night = installed.wait(run)
    print(f"the API was gone for {away_s:.0f} s at most, and the night is {night['state_type']}")
    assert before.items() <= installed.processes().items()
    if night["state_type"] != "COMPLETED":
        assert away_s > DEAD_S - 2 * 30  # the last heartbeat before it, and the first one after it
        assert "no heartbeat" in night["state"]["message"]
        run = installed.trigger("nightly/nightly", night="2026-10-05", model="convnet", preset="fast")
        night = installed.wait(run)
    assert night["state_type"] == "COMPLETED", installed.logs(run)
    [version] = [name for name in installed.stored("versions") if name.startswith("2026-10-05")]
    assert count(installed, version) == 1


@pytest.fixture
def webhook():
    """A webhook on loopback: its address, and the notifications that it received."""
    received = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append(body | {"at": time.time()})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", received
    server.shutdown()


def wait_for(received, words):
    """Wait until a notification has these words in its subject; return it."""
    deadline = time.monotonic() + WAIT_S
    while not any(words in notification["subject"] for notification in received):
        assert time.monotonic() < deadline, received
        time.sleep(0.3)
    return next(notification for notification in received if words in notification["subject"])


def test_failures_champions_and_silence_are_notified(installed, webhook):
    """One setting names a Prefect block; it reports failed runs, new champions, and a lack of successes."""
    url, received = webhook
    make = (
        "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block;"
        f"Block(name='ops', url='{url}', json_data={{'subject': '{{{{subject}}}}', 'body': '{{{{body}}}}'}})"
        ".save('ops', overwrite=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", make],
        env=installed.variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    installed.environment |= {"MNIST_NOTIFY": "custom-webhook/ops", "MNIST_SILENCE_S": "75"}
    installed.up()

    good = installed.trigger("nightly/nightly", night="2026-10-06", model="convnet", preset="fast")
    assert installed.wait(good)["state_type"] == "COMPLETED"
    champion = wait_for(received, "Champion 2026-10-06-convnet-")
    assert "errors" in champion["body"] or "no champion" in champion["body"]
    received.clear()  # also a silence from the schedule's start, should the night have taken so long
    installed.practice.fault("rules", count=-1)
    bad = installed.trigger("nightly/nightly", night="2026-10-07", model="convnet", preset="fast")
    assert installed.wait(bad)["state_type"] == "FAILED"
    assert "accept the rules" in wait_for(received, "Nightly run 2026-10-07 convnet fast: Failed")["body"]
    installed.practice.clear_faults()
    os.killpg(installed.processes()["server"], signal.SIGKILL)
    restarted = time.time()
    installed.up()
    silent = wait_for(received, "has ended well for")
    nights = installed.ask("/events/filter", filter={"event": {"name": ["mnist.night.ended"]}})["events"]
    ended = max(datetime.fromisoformat(event["occurred"]).timestamp() for event in nights)
    assert "Check that the schedule is active" in silent["body"]
    # The restart does not begin a new silence; the server evaluates as late as its events come.
    assert ended + 75 <= silent["at"] < max(ended + 30, restarted) + 75


def test_a_training_alone_publishes_and_submits_nothing(installed):
    """`train/gpu` as a person runs it adds a version, but no submission and no champion."""
    before = installed.practice.submissions(), installed.stored("champions")

    run = installed.trigger("train/gpu", model="convnet", preset="fast", night="2026-10-08", seed=7)

    assert installed.wait(run)["state_type"] == "COMPLETED", installed.logs(run)
    assert [name for name in installed.stored("versions") if name.startswith("2026-10-08-convnet-")]
    assert (installed.practice.submissions(), installed.stored("champions")) == before


def test_the_members_of_a_night_are_runs_of_their_own(installed):
    """The run of an ensemble starts a `train/gpu` run for each member, and assembles them itself."""
    run = installed.trigger("nightly/nightly", night="2026-10-09", model="ensemble", preset="fast")

    assert installed.wait(run)["state_type"] == "COMPLETED", installed.logs(run)
    children = installed.ask(
        "/flow_runs/filter",
        flow_runs={"parent_flow_run_id": {"any_": [run]}},
        flows={"name": {"any_": ["train"]}},
    )
    assert [child["state_type"] for child in children] == ["COMPLETED"] * 2
    assert {child["work_pool_name"] for child in children} == {"gpu"}
    assert sorted(child["parameters"]["member"] for child in children) == [1, 2]
    made = [name for name in installed.stored("versions") if name.startswith("2026-10-09-")]
    assert sorted(name.split("-")[3] for name in made) == ["convnet", "convnet", "ensemble"]
