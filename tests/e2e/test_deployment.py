"""A nightly run as a deployment over two pools, by the commands that a person types."""

import json
import re
from datetime import datetime
from pathlib import Path

import pytest

from mnist_core.spec import DIGITS_MINI

NIGHT = "2026-11-23"
pytestmark = pytest.mark.timeout(900)


def test_a_night_over_two_pools(installed):
    """It trains as a child on the GPU pool, submits as a subflow, and leaves its artifacts.

    A second run at the same time waits. Orchestration costs less than 30 s, or some more on a busy machine.
    """
    assert f"http://127.0.0.1:{installed.port} " in installed.printed
    assert "paused" in installed.printed
    run = installed.trigger("nightly/nightly", night=NIGHT, model="convnet", preset="fast")
    installed.wait(run, ("RUNNING",))
    second = installed.trigger("nightly/nightly", night="2026-11-24", model="convnet", preset="fast")

    night = installed.wait(run)

    assert night["state_type"] == "COMPLETED", installed.logs(run)
    assert night["name"] == f"{NIGHT} convnet fast"
    waiting = installed.run(second)
    assert waiting["start_time"] is None or waiting["start_time"] >= night["end_time"], waiting
    installed.end_runs()  # the second one may have begun, and a worker waits for its runs
    child, submitted = installed.child(run, "train"), installed.child(run, "submit")
    assert (child["work_pool_name"], child["state_type"]) == ("gpu", "COMPLETED")
    assert child["name"] == f"train {night['name']}"
    assert (submitted["state_type"], submitted["name"]) == (
        "COMPLETED",
        f"submit {installed.stored('versions')[0]}",
    )
    artifacts = installed.artifacts(run)
    assert set(artifacts) == {"scorecard", "history"}  # no finished progress bars
    assert installed.artifacts(child["id"]) == {}
    [version] = installed.stored("versions")
    [listed] = installed.practice.submissions()
    score = f"{float(listed['publicScore']):.5f}"
    scorecard, history = artifacts["scorecard"]["data"], artifacts["history"]["data"]
    assert f"# Night {NIGHT}: promoted" in scorecard
    [start] = re.findall(r"\| start \| .+ \| ([\d.]+) \|", scorecard)
    began = datetime.fromisoformat(night["start_time"]) - datetime.fromisoformat(night["created"])
    assert began.total_seconds() + float(start) < 90
    assert score in scorecard
    assert set(night["tags"]) == {"mnist", "night", "promoted"}
    assert night["state"]["message"].startswith(f"promoted, practice score {score}")
    page = f"http://127.0.0.1:{installed.port}/v2/artifacts/artifact/{artifacts['scorecard']['id']}"
    installed.wait_for_log(run, f"{night['state']['message']}; scorecard: {page}")
    told = "\n".join(installed.logs(run))
    assert f"waiting for a machine of train/gpu: {child['name']}\n" in told
    assert re.search(rf"\n{child['name']} is running, after \d+ s of waiting\n", told)
    assert scorecard.count("data:image/png;base64,") == 2
    assert f"| {version} |" in history
    assert score in history
    assert "data:image/svg+xml;base64," in history
    assert len(installed.logs(run)) + len(installed.logs(child["id"])) < 80
    assert installed.practice.key not in str(artifacts) + str(installed.logs(run))
    server = Path(f"/proc/{installed.processes()['server']}/environ").read_bytes()
    assert b"NobodyMayRead" not in server


def test_the_form_refuses_wrong_values(installed):
    """Unknown models and seeds out of range are refused when the run is created; no machine is started."""
    for given, words in {
        "model=convent": "'convent' is not one of ['convnet'",
        "seed=-1": "-1 is less than the minimum of 0",
        "night=tomorrow": "'tomorrow' does not match",
    }.items():
        done = installed.command("prefect", "deployment", "run", "train/gpu", f"--param={given}")

        assert done.returncode != 0
        assert words in " ".join(done.stdout.split())


def test_the_deployments_are_described(installed):
    """Each has a description, tags and its pool; `nightly` has a paused schedule and one run at a time."""
    for name, pool in {"train/gpu": "gpu", "submit/cpu": "cpu", "nightly/nightly": "cpu"}.items():
        found = installed.ask(f"/deployments/name/{name}")
        properties = found["parameter_openapi_schema"]["properties"].values()

        assert found["work_pool_name"] == pool
        assert found["description"]
        assert "mnist" in found["tags"]
        assert all(field["title"][0].isupper() and field["description"] for field in properties)
    [schedule] = found["schedules"]
    assert schedule["schedule"]["timezone"] == "Etc/UTC"
    assert not schedule["active"]
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"


@pytest.mark.slow
def test_digits_are_predicted_by_runs_of_the_pool(installed, unpack, tmp_path):
    """`predict/cpu` with the engine `pool` starts a run for each range of shards, and ends the job."""
    if not installed.stored("versions"):
        installed.wait(installed.trigger("train/gpu", night=NIGHT, model="convnet", preset="fast"))
    source = unpack(DIGITS_MINI) / DIGITS_MINI.test_file
    output = tmp_path / "labels"

    run = installed.trigger(
        "predict/cpu", input=source, output=output, version=installed.stored("versions")[0], engine="pool",
        workers=2, shard_rows=100,
    )  # fmt: skip
    ended = installed.wait(run)

    assert ended["state_type"] == "COMPLETED", installed.logs(run)
    children = installed.ask("/flow_runs/filter", flow_runs={"parent_flow_run_id": {"any_": [run]}})
    assert {child["name"] for child in children} == {"predict shards 0-1", "predict shards 2-4"}
    assert all(child["state_type"] == "COMPLETED" for child in children)
    index = json.loads((output / "index.json").read_text())
    assert (index["rows"], len(index["parts"])) == (500, 5)
    assert "predictions" in installed.artifacts(run)


@pytest.mark.slow
def test_a_sweep_trains_its_grid_by_runs_of_the_pool(installed):
    """`sweep/cpu` starts a run of `train/gpu` for each point, compares them, and promotes nothing."""
    champion = installed.stored("champions")

    run = installed.trigger("sweep/cpu", set='["seed=1,2"]', night=NIGHT, model="scratch", preset="fast")
    ended = installed.wait(run)

    assert ended["state_type"] == "COMPLETED", installed.logs(run)
    children = installed.ask("/flow_runs/filter", flow_runs={"parent_flow_run_id": {"any_": [run]}})
    assert sorted(child["parameters"]["seed"] for child in children) == [1, 2]
    assert all(child["state_type"] == "COMPLETED" for child in children)
    assert "sweep" in installed.artifacts(run)
    assert installed.stored("champions") == champion


@pytest.mark.slow
def test_the_schedule_is_resumed_once_a_server_is_chosen_and_a_users_pause_stays(installed, monkeypatch):
    """`make ui` resumes the schedule that it paused once MNIST_KAGGLE is set; it reports a user's pause."""
    monkeypatch.setitem(installed.environment, "MNIST_KAGGLE", "practice")

    assert "paused" not in installed.up()
    assert schedule(installed)["active"]

    number = schedule(installed)["id"]
    done = installed.command("prefect", "deployment", "schedule", "pause", "nightly/nightly", number)
    assert done.returncode == 0, done.stderr
    assert "paused: resume it" in installed.up()
    monkeypatch.delitem(installed.environment, "MNIST_KAGGLE")
    installed.up()
    monkeypatch.setitem(installed.environment, "MNIST_KAGGLE", "practice")
    assert "paused: resume it" in installed.up()
    assert not schedule(installed)["active"]


def schedule(installed):
    """Return the schedule of the nightly run, as the server has it."""
    [found] = installed.ask("/deployments/name/nightly/nightly")["schedules"]
    return found


@pytest.mark.slow
def test_start_is_repeatable_and_stop_ends_what_it_started(installed):
    """`make ui` again starts nothing twice; `make ui-stop` ends server and workers by their numbers."""
    before, automations = installed.processes(), installed.ask("/automations/filter", limit=10)
    installed.up()
    assert installed.processes() == before
    assert installed.ask("/automations/filter", limit=10) == automations

    said = installed.down()

    assert said == "Stopped the Prefect server and 2 workers; runs and history stay.\n"
    assert set(before) == {"server", "gpu", "cpu"}
    assert not any(lives(pid) for pid in before.values())


def lives(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
