"""What a nightly run leaves behind has no secret in any byte, and nothing is unpickled on the way."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_core.spec import DIGITS_MINI

ROOT = Path(__file__).parents[2]
NIGHT = "2026-11-23"
AWS_SECRET = "AwsSecretThatNobodyMayRead0123456789abcd"


@pytest.fixture
def left_behind(start_practice, s3, tmp_path):
    """A server, an environment with a home and a bucket, and a function that returns all that a run left."""
    server = start_practice(competition=DIGITS_MINI.name)
    env = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    env |= {
        "HOME": str(tmp_path), "MNIST_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT),
        "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1",
        "MNIST_KAGGLE": server.url, "MNIST_RETRY_WAITS_S": "[]", "MNIST_EPOCHS": "40", "MNIST_FLOOR": "0.5",
        "MNIST_SHARE_MIN": "0.01",
        "MNIST_COMPETITION": DIGITS_MINI.name, "MNIST_STORE": f"s3://{s3.bucket}/jobs",
        "AWS_ENDPOINT_URL": s3.url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
    }  # fmt: skip

    def traces(said: str) -> dict[str, bytes]:
        """Return every byte: what the run printed, its files and databases, the bucket, the submissions."""
        found = {str(path): path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()}
        for entry in s3.client.list_objects_v2(Bucket=s3.bucket).get("Contents", ()):
            found[entry["Key"]] = s3.client.get_object(Bucket=s3.bucket, Key=entry["Key"])["Body"].read()
        found["submissions"] = json.dumps(server.submissions()).encode()
        return found | {"output": said.encode()}

    return server, env, traces


def run(*arguments: str, env: dict[str, str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run Python with both output streams in one."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=env, cwd=cwd, text=True, check=False, timeout=280,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("how", "fails"),
    [
        ("key", ""),
        ("token", "web-page"),
        pytest.param("key", "server-error", marks=pytest.mark.slow),
        pytest.param("key", "web-page", marks=pytest.mark.slow),
        pytest.param("token", "", marks=pytest.mark.slow),
        pytest.param("token", "server-error", marks=pytest.mark.slow),
    ],
)
def test_no_secret_is_in_any_byte_that_a_night_leaves(left_behind, tmp_path, how, fails):
    """Of a run that ends well, and of one that fails: keys are in no log, file, database or object."""
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


AUDIT = """
import sys, traceback

def audit(event, args):
    if event == "pickle.find_class":
        frames = traceback.extract_stack()
        print("UNPICKLED", args, frames[-2].filename, file=sys.stderr)

sys.addaudithook(audit)
"""


def test_no_night_unpickles_anything(left_behind, tmp_path):
    """Python's audit event of each unpickled class: from data to score there is none.

    Prefect, torch and fastai may copy objects in memory; nothing is unpickled from a file. The same hook sees
    a class that is unpickled on purpose.
    """
    server, env, _ = left_behind
    env |= {"KAGGLE_USERNAME": server.username, "KAGGLE_KEY": server.key}
    (tmp_path / "night.py").write_text(
        f"{AUDIT}\nsys.argv = ['flows', 'nightly', '--night', '{NIGHT}']\n"
        "from flows.__main__ import main\nmain()\n"
    )
    (tmp_path / "control.py").write_text(
        f"{AUDIT}\nimport pickle\nfrom mnist_core.spec import DIGITS_MINI\n"
        "pickle.loads(pickle.dumps(DIGITS_MINI))\n"
    )

    done = run("night.py", env=env, cwd=tmp_path)
    control = run("control.py", env=env, cwd=tmp_path)

    assert done.returncode == 0, done.stdout
    assert "promoted" in done.stdout
    assert "UNPICKLED" not in done.stdout
    assert "UNPICKLED ('mnist_core.spec', 'CompetitionSpec')" in control.stdout
