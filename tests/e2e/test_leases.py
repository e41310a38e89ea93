"""The night's one place: a server that restarts does not take it away, and a dead run does not keep it."""

import os
import signal
import time

import pytest

from mnist_core.spec import DIGIT_RECOGNIZER

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.slow, pytest.mark.timeout(1800)]
NIGHT = "/deployments/name/nightly/nightly"


@pytest.fixture(scope="module")
def competition() -> str:
    """The large competition: a training of 900 epochs does not end."""
    return DIGIT_RECOGNIZER.name


@pytest.fixture(scope="module", autouse=True)
def short_leases(installed):
    """A server whose leases expire after 30 s, unless the run renews them for another 300 s."""
    installed.environment |= {
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "30",
        "MNIST_EPOCHS": "900",
    }
    installed.down()
    installed.up()


def restart(installed):
    """Kill the server, and start it again beside the workers."""
    os.killpg(installed.processes()["server"], signal.SIGKILL)
    installed.up()


def taken(installed):
    """The places of the night that are taken."""
    return installed.ask(NIGHT)["global_concurrency_limit"]["active_slots"]


def test_a_run_that_died_gives_its_place_to_the_next_one(installed):
    """It is Pending, the server restarts, and no process renews its lease: the next night runs."""
    os.killpg(installed.processes()["cpu"], signal.SIGKILL)  # before it takes the run
    dead = installed.trigger("nightly/nightly", night="2026-10-01", model="convnet", preset="fast")
    installed.ask(f"/flow_runs/{dead}/set_state", state={"type": "PENDING"})
    assert taken(installed) == 1

    restart(installed)
    following = installed.trigger("nightly/nightly", night="2026-10-02", model="convnet", preset="fast")

    installed.wait(following, ("RUNNING",))
    assert installed.run(dead)["state_type"] == "PENDING"
    installed.command("prefect", "flow-run", "cancel", following)
    installed.wait(following)


def test_a_night_survives_a_server_that_restarts(installed):
    """Its lease is known to the next server, so it can be renewed: with leases in memory it was Crashed."""
    run = installed.trigger("nightly/nightly", night="2026-10-03", model="convnet", preset="fast")
    child = installed.child(run, "train")["id"]
    installed.wait_for_log(child, "training convnet")
    restart(installed)
    renewed = time.monotonic() + 300 * 0.75 + 30

    while time.monotonic() < renewed:
        found = installed.run(run)
        assert found["state_type"] == "RUNNING", found["state"]["message"]
        assert installed.run(child)["state_type"] == "RUNNING"
        time.sleep(2)
    assert taken(installed) == 1
    installed.command("prefect", "flow-run", "cancel", run)
    installed.wait(run)
