"""`python -m flows predict` as a person runs it: a whole process, its output and exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_core.spec import DIGITS_MINI

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_the_command_predicts_a_folder_and_ends_at_once_when_it_is_done(
    job, tmp_path, unpacked, seed_prefect_home
):
    """The test file becomes labels by a published version; the same command finds the job finished."""
    started = job()
    version = started.publish()
    seed_prefect_home(started.home / "prefect")
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a.csv").write_bytes((unpacked / DIGITS_MINI.test_file).read_bytes())
    command = [sys.executable, "-m", "flows", "predict", "--input", "scans", "--output", "labels", "--json"]

    def run(*options):
        return subprocess.run(
            [*command, *options], env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path,
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    unknown = run()
    first = run("--version", version, "--shard-rows", "100", "--workers", "2")
    again = run("--version", version, "--shard-rows", "100")

    assert unknown.returncode == 2
    assert "there is no champion yet" in unknown.stderr
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout)
    assert (result["rows"], result["skipped"], result["version"]) == (500, 0, version)
    assert sum(result["labels"].values()) == 500
    assert {path.name for path in (tmp_path / "labels").glob("part-*")} == {
        f"part-{number:06d}.parquet" for number in range(5)
    }
    manifest = json.loads((tmp_path / "labels" / "_job" / "manifest.json").read_text())
    assert [entry[3] for entry in manifest["files"]] == [500]
    assert "the job was finished before" in again.stderr
    assert json.loads(again.stdout)["labels"] == result["labels"]
