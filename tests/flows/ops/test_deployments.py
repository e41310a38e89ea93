"""The deployments of a competition that is not built in, beside those of prefect.yaml."""

from pathlib import Path

import pytest
import yaml

from flows.ops.deployments import DEPLOYMENTS, definitions_of, deployments_of, own_name
from flows.settings import read_settings

PREFECT_YAML = yaml.safe_load((Path(__file__).parents[3] / "prefect.yaml").read_text())
SPEC = """
name = "letters"
source = "rows.csv"
classes = ["a", "b"]
shape = [8, 8, 1]

[columns]
label = "label"

[submission]
header = ["id", "label"]
"""


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """The settings with a specification that is a file here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters.toml").write_text(SPEC)
    monkeypatch.setenv("MNIST_SPEC", "letters.toml")
    return read_settings()


def test_a_competition_has_deployments_of_its_own(settings, tmp_path):
    """Their names and tags tell them apart, and they carry the specification's text, not its path."""
    made = definitions_of(PREFECT_YAML, settings)

    found = {
        f"{entry['entrypoint'].rpartition('.')[2]}/{entry['name']}": entry for entry in made["deployments"]
    }

    assert tuple(found) == deployments_of("letters") == tuple(f"{name}-letters" for name in DEPLOYMENTS)
    for entry in found.values():
        variables = entry["work_pool"]["job_variables"]["env"]
        assert entry["tags"][0] == "mnist"
        assert entry["tags"][-1] == "letters"
        assert (variables["MNIST_SPEC"], variables["MNIST_COMPETITION"]) == (SPEC, "letters")
        assert variables["MNIST_PRACTICE_DATA"] == str(tmp_path / "rows.csv")
        assert variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    nightly = found["nightly/nightly-letters"]
    assert "/artifacts/key/history-letters" in nightly["description"]
    assert "`train/gpu-letters`" in nightly["description"]
    assert nightly["concurrency_limit"] == PREFECT_YAML["deployments"][0]["concurrency_limit"]


def test_the_variables_of_a_deployment_are_settings_without_the_file(settings, monkeypatch, tmp_path):
    """In a container there is neither the file of the specification nor this machine's folder."""
    variables = definitions_of(PREFECT_YAML, settings)["deployments"][0]["work_pool"]["job_variables"]["env"]
    (tmp_path / "letters.toml").unlink()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    there = read_settings()

    assert there.spec.text == SPEC
    assert there.labelled == tmp_path / "rows.csv"


def test_built_in_competitions_have_the_deployments_of_the_file(monkeypatch, tmp_path):
    """Nothing is added to them, and the file itself is never changed."""
    monkeypatch.chdir(tmp_path)

    assert definitions_of(PREFECT_YAML, read_settings()) == PREFECT_YAML
    assert own_name("train/gpu", "digits-mini") == "train/gpu"
