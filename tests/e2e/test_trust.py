"""What a nightly run leaves behind has no secret in any byte, and nothing is unpickled on the way."""

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mnist_core.spec import DIGITS_MINI

ROOT = Path(__file__).parents[2]
NIGHT = "2026-11-23"
AWS_SECRET = "AwsSecretThatNobodyMayRead0123456789abcd"
LONG = "eyJhbGciOi" + "LongSecretThatNobodyMayRead" * 20
DECOYS = {
    "KAGGLE_API_TOKEN": LONG.swapcase(),
    "KAGGLE_USERNAME": "/decoy/path/that/nobody/may/read",
    "KAGGLE_KEY": "DecoyKeyThatNobodyMayRead\nof two lines: “é”",
}
"""Kaggle's own credentials, which are for kaggle.com alone."""


AUDIT = """
import sys, traceback

def audit(event, args):
    if event == "pickle.find_class":
        frames = traceback.extract_stack()
        print("UNPICKLED", args, frames[-2].filename, file=sys.stderr)

sys.addaudithook(audit)
"""
"""A module that Python imports when it starts: it reports each class that is unpickled."""


@pytest.fixture
def audit(tmp_path_factory) -> Path:
    """A folder for PYTHONPATH, with which every process reports what it unpickles."""
    folder = tmp_path_factory.mktemp("audit")
    (folder / "sitecustomize.py").write_text(AUDIT)
    return folder


@pytest.fixture
def left_behind(start_practice, s3, seed_prefect_home, audit, tmp_path, tmp_path_factory):
    """A server, an environment with a home and a bucket, and a function that returns all that a run left."""
    home = tmp_path_factory.mktemp("practice")
    account = {"username": "practice", "key": "0123456789abcdef" * 2, "token": LONG}
    (home / "credentials.json").write_text(json.dumps(account))
    server = start_practice(home, competition=DIGITS_MINI.name)
    seed_prefect_home(tmp_path / "home" / "prefect")
    env = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    env |= {
        "HOME": str(tmp_path), "MNIST_HOME": str(tmp_path / "home"), "PYTHONPATH": f"{ROOT}:{audit}",
        "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1",
        "MNIST_KAGGLE": server.url, "MNIST_KAGGLE_TOKEN": server.token, "MNIST_RETRY_WAITS_S": "[]",
        "MNIST_EPOCHS": "40", "MNIST_FLOOR": "0.5", "MNIST_SHARE_MIN": "0.01",
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
        command, env=env, cwd=cwd, text=True, check=False, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


class Watch:
    """What the processes of a home show to others on the machine: their arguments, and their variables.

    Attributes:
        arguments: of each process that was seen, by its number.
        variables: of each process that the run started, by its number, as it had them last.
    """

    def __init__(self, home: str) -> None:
        self.arguments: dict[int, bytes] = {}
        self.variables: dict[int, bytes] = {}
        self._home = f"MNIST_HOME={home}".encode()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    variables = (process / "environ").read_bytes()
                    if self._home not in variables.split(b"\0"):
                        continue
                    arguments = (process / "cmdline").read_bytes()
                    self.arguments[int(process.name)] = arguments
                    # A child that has not begun its program yet still shows what its parent has.
                    # Importing Prefect asks file(1) about Python, and importing matplotlib fc-list about
                    # fonts, once in a home; each ends after some milliseconds.
                    program = arguments.partition(b"\0")[0]
                    if b"flows\0nightly" not in arguments and program not in (b"file", b"fc-list"):
                        self.variables[int(process.name)] = variables


@pytest.mark.parametrize(
    "fails",
    [
        "",
        pytest.param("rules", marks=pytest.mark.slow),
        pytest.param("server-error", marks=pytest.mark.slow),
        pytest.param("web-page", marks=pytest.mark.slow),
    ],
)
def test_a_night_leaves_no_secret_in_any_byte_and_unpickles_nothing(left_behind, tmp_path, fails):
    """Of a run that ends well, and of one that fails: secrets are in no log, file, database or object.

    Nor are they in the arguments of any process, nor in the variables of one that does not submit. Nothing is
    unpickled from data to score: Prefect, torch and fastai may copy objects in memory.
    """
    server, env, traces = left_behind
    env |= DECOYS | {"PREFECT_LOGGING_LEVEL": "DEBUG", "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG"}
    if fails:
        server.fault(fails, count=-1, rpc="StartSubmissionUpload")

    with Watch(env["MNIST_HOME"]) as watch:
        done = run("-m", "flows", "nightly", "--night", NIGHT, "--json", env=env, cwd=tmp_path)

    assert done.returncode == (1 if fails else 0), done.stdout
    assert "UNPICKLED" not in done.stdout
    left = traces(done.stdout)
    assert any("prefect.db" in name for name in left)
    assert any("manifest" in name or "versions" in name for name in left)
    left |= {f"arguments of {pid}": data for pid, data in watch.arguments.items()}
    left |= {f"variables of {watch.arguments[pid]!r}": data for pid, data in watch.variables.items()}
    assert any(b"uvicorn" in watch.arguments[pid] for pid in watch.variables)  # Prefect's server was seen
    assert_no_secret(left, server.key, server.token, AWS_SECRET, *DECOYS.values())


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("KAGGLE_API_TOKEN", LONG),
        pytest.param("KAGGLE_API_TOKEN", "/a/SecretPath" * 30, marks=pytest.mark.slow),
        pytest.param("KAGGLE_API_TOKEN", "TwoSecretLines\nThatNobodyMayRead", marks=pytest.mark.slow),
        pytest.param("KAGGLE_API_TOKEN", "“ForeignSécretThatNobodyMayRead”", marks=pytest.mark.slow),
        pytest.param("MNIST_KAGGLE_TOKEN", "“ForeignSécretThatNobodyMayRead”", marks=pytest.mark.slow),
        pytest.param("AWS_SESSION_TOKEN", "TwoSecretLines\nThatNobodyMayRead", marks=pytest.mark.slow),
    ],
)
def test_a_credential_of_any_shape_is_in_no_byte_of_a_night_that_fails(left_behind, tmp_path, name, secret):
    """Too long for a file's name, of several lines, or like a path: no state message and no log has it."""
    _, env, traces = left_behind
    env |= {"MNIST_KAGGLE": "live", name: secret}

    done = run("-m", "flows", "nightly", "--night", NIGHT, "--json", env=env, cwd=tmp_path)

    assert done.returncode in (1, 2), done.stdout
    assert "bug" not in done.stdout
    assert_no_secret(traces(done.stdout), secret)


def assert_no_secret(left: dict[str, bytes], *secrets: str) -> None:
    """Search all bytes for each secret, for its lines, and for other spellings of it."""
    for secret in secrets:
        spelled = {secret, *secret.splitlines(), repr(secret)[1:-1], json.dumps(secret)[1:-1]}
        encoded = base64.b64encode(secret.encode()).rstrip(b"=")[:-1]
        for name, data in left.items():
            assert all(text.encode() not in data for text in spelled), name
            assert encoded not in data, name


def test_the_hook_sees_what_is_unpickled_on_purpose(audit, tmp_path):
    """A class that is unpickled is reported, so that a night without a report has unpickled none."""
    code = "import pickle\nfrom mnist_core.spec import DIGITS_MINI\npickle.loads(pickle.dumps(DIGITS_MINI))\n"

    done = run("-c", code, env=os.environ | {"PYTHONPATH": f"{ROOT}:{audit}"}, cwd=tmp_path)

    assert "UNPICKLED ('mnist_core.spec', 'CompetitionSpec')" in done.stdout
