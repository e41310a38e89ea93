"""What a night leaves behind: no secret in any byte of it, and nothing that was unpickled."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NIGHT = "2026-11-23"
AWS_SECRET = "AwsSecretThatNobodyMayRead0123456789abcd"


@pytest.fixture
def left_behind(start_practice, s3, tmp_path):
    """A home, a server and a bucket for a night, and a function that finds a secret in all that it left."""
    server = start_practice(competition="digit-recognizer")
    env = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    env |= {
        "HOME": str(tmp_path), "MNIST_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT),
        "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1",
        "MNIST_KAGGLE": server.url, "MNIST_RETRY_WAITS_S": "[]", "MNIST_EPOCHS": "1", "MNIST_FLOOR": "0.9",
        "MNIST_STORE": f"s3://{s3.bucket}/jobs",
        "AWS_ENDPOINT_URL": s3.url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
    }  # fmt: skip

    def traces(said: str) -> dict[str, bytes]:
        """Every byte: what the night printed, its files and databases, the bucket, the submissions."""
        found = {str(path): path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()}
        for entry in s3.client.list_objects_v2(Bucket=s3.bucket).get("Contents", ()):
            found[entry["Key"]] = s3.client.get_object(Bucket=s3.bucket, Key=entry["Key"])["Body"].read()
        found["submissions"] = json.dumps(server.submissions()).encode()
        return found | {"output": said.encode()}

    return server, env, traces


def run(*arguments: str, env: dict[str, str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command of ours, both streams together."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=env, cwd=cwd, text=True, check=False, timeout=280,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.parametrize("fails", ["", "server-error", "web-page"])
@pytest.mark.parametrize("how", ["key", "token"])
def test_no_secret_is_in_any_byte_that_a_night_leaves(left_behind, tmp_path, how, fails):
    """A night that ends well, and one that fails: keys are in no log, file, database or object."""
    if fails and how == "token":
        fails = "rules"
    server, env, traces = left_behind
    env |= {"PREFECT_LOGGING_LEVEL": "DEBUG", "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG"}
    if how == "token":
        env["KAGGLE_API_TOKEN"] = server.token
    else:
        env |= {"KAGGLE_USERNAME": server.username, "KAGGLE_KEY": server.key}
    if fails:
        server.fault(fails, count=-1, rpc="StartSubmissionUpload")

    done = run("-m", "flows", "nightly", "--night", NIGHT, "--json", env=env, cwd=tmp_path)

    assert done.returncode == (1 if fails else 0), done.stdout
    secrets = [server.key, server.token, AWS_SECRET]
    secrets += [base64.b64encode(f"{server.username}:{server.key}".encode()).decode()]
    left = traces(done.stdout)
    assert any("prefect.db" in name for name in left)
    assert any("manifest" in name or "versions" in name for name in left)
    for name, data in left.items():
        for secret in secrets:
            assert secret.encode() not in data, name


def test_no_night_unpickles_anything(left_behind, tmp_path):
    """Python's own audit names every class that is unpickled: from data to score there is none of a bundle.

    Prefect, torch and fastai may copy things of their own in memory; nothing is unpickled from a file.
    """
    server, env, _ = left_behind
    env |= {"KAGGLE_USERNAME": server.username, "KAGGLE_KEY": server.key}
    (tmp_path / "audited.py").write_text(
        "import sys, traceback\n"
        "def audit(event, args):\n"
        "    if event == 'pickle.find_class':\n"
        "        frames = traceback.extract_stack()\n"
        "        print('UNPICKLED', args, frames[-2].filename, file=sys.stderr)\n"
        "sys.addaudithook(audit)\n"
        "sys.argv = ['flows', 'nightly', '--night', '" + NIGHT + "']\n"
        "from flows.__main__ import main\n"
        "main()\n"
    )

    done = run("audited.py", env=env, cwd=tmp_path)

    assert done.returncode == 0, done.stdout
    assert "UNPICKLED" not in done.stdout
