"""`python -m flows` as a person or a machine runs it: whole processes, their output and exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.ops.practice import read_record
from mnist_core import __version__
from mnist_core.spec import DIGIT_RECOGNIZER, DIGITS_MINI

ROOT = Path(__file__).parents[2]
NIGHT = "2026-11-23"
LENIENT = {"MNIST_FLOOR": "0.5", "MNIST_SHARE_MIN": "0.01"}
"""A gate that a short training on few rows passes."""
UNFRIENDLY = {
    **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "MNIST_PORT": "tcp://10.0.0.1:4200",
    "MNIST_SERVICE_HOST": "10.0.0.1",
    "PYTHONIOENCODING": "ascii",
    "PATH": "",
}
"""An environment that has ended nights before."""
FIELDS = [
    "night",
    "model",
    "version",
    "valid_accuracy",
    "decision",
    "reason",
    "submission",
    "champion",
    "seconds",
]


@pytest.fixture
def newcomer(tmp_path: Path) -> dict[str, str]:
    """The environment of a newcomer: no account, no settings but a home."""
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    (tmp_path / ".env").touch()  # so that the one of the clone that the tests are in is not read
    return keep | {"HOME": str(tmp_path), "MNIST_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def environment(
    newcomer: dict[str, str],
    tmp_path: Path,
    seed_practice_home: Callable[..., Path],
    seed_prefect_home: Callable[..., Path],
) -> dict[str, str]:
    """The same on the small competition, whose nights take seconds."""
    seed_practice_home(tmp_path / "home" / "practice", DIGITS_MINI.name)
    seed_prefect_home(tmp_path / "home" / "prefect")
    return newcomer | {"MNIST_COMPETITION": DIGITS_MINI.name, "MNIST_EPOCHS": "40", **LENIENT}


@pytest.fixture
def on_standing_server(environment: dict[str, str], prefect_api: str) -> dict[str, str]:
    """The same with a Prefect server that is up already, which saves each command its start."""
    return environment | {"PREFECT_API_URL": prefect_api}


def flows(
    *arguments: str, env: dict[str, str], cwd: Path, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `python -m flows` to its end."""
    command = [sys.executable, "-m", "flows", *arguments]
    return subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, timeout=280, check=False, **options
    )


def processes_of(home: Path) -> list[str]:
    """Return the processes whose Prefect home is in a home: runs, and the temporary servers they started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"PREFECT_HOME={home}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it has ended, or is not ours
    return found


def processes_left(home: Path) -> list[str]:
    """Return the processes of a home that have not ended after 60 seconds; a server notices by itself."""
    deadline = time.monotonic() + 60
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    return processes_of(home)


def practice_ended(home: Path) -> bool:
    """Return whether the practice server of a home ends soon."""
    record = read_record(home / "practice")
    deadline = time.monotonic() + 60
    while record and Path(f"/proc/{record.pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not record or not Path(f"/proc/{record.pid}").exists()


@pytest.mark.parametrize("spec", [DIGITS_MINI, pytest.param(DIGIT_RECOGNIZER, marks=pytest.mark.slow)])
def test_a_whole_night_from_nothing(newcomer, tmp_path, seed_practice_home, spec):
    """Without account and server one command ends with a scored submission, and prints it as JSON.

    The practice server and the temporary Prefect server that it started end with it. Dead proxies, a service
    of Kubernetes, a terminal that knows ASCII alone and a PATH without any program do not matter.
    """
    seed_practice_home(tmp_path / "home" / "practice", spec.name)
    env = newcomer | UNFRIENDLY | {"MNIST_EPOCHS": "1", "MNIST_FLOOR": "0.9"}
    if spec == DIGITS_MINI:
        env |= {"MNIST_COMPETITION": spec.name, "MNIST_EPOCHS": "40"} | LENIENT

    done = flows("nightly", "--json", "--night", NIGHT, env=env, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert list(result) == FIELDS
    assert (result["night"], result["decision"]) == (NIGHT, "promoted")
    assert result["submission"]["status"] == "COMPLETE"
    assert result["submission"]["public_score"] > (0.9 if spec == DIGITS_MINI else 0.95)
    steps = {"download", "read", "train", "publish", "predict", "submit", "total"}
    assert set(result["seconds"]) == steps
    assert result["seconds"]["total"] > sum(result["seconds"][step] for step in steps - {"total"})
    assert "Traceback" not in done.stderr
    assert re.search(r"^ practice score +0\.\d{5}; not submitted to kaggle.com", done.stderr, re.MULTILINE)
    place = f"home {tmp_path / 'home'}; settings of {tmp_path / '.env'}"
    assert done.stderr.splitlines()[0].endswith(place)
    assert list((tmp_path / "home").glob("reports/*/*/*/report.html"))
    report = r"^The report is home/reports/\S+/000001\. To see it in a browser:$"
    assert re.search(report, done.stderr, re.MULTILINE)
    assert processes_left(tmp_path / "home") == []
    assert practice_ended(tmp_path / "home")


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["nightly", "--model", "convent"], {}, "MNIST_MODEL"),
        (["nightly", "--seed", "-1"], {}, "--seed -1: must be"),
        (["train", "--night", "23.11.2026"], {}, "--night 23.11.2026: must be a date"),
        (["nightly", "--modle", "convnet"], {}, "No such option"),
        (["nigthly"], {}, "No such command"),
        (
            ["nightly"],
            {"MNIST_PRESETS": "fast"},
            "MNIST_PRESETS is not a setting (did you mean MNIST_PRESET?)",
        ),
        (["nightly"], {"MNIST_HOME": "/proc/mnist"}, "MNIST_HOME=/proc/mnist"),
        (["nightly"], {"MNIST_STORE": "gs://bucket"}, "MNIST_STORE"),
    ],
)
def test_wrong_usage_and_settings_end_with_2_and_one_line(
    on_standing_server, tmp_path, arguments, variables, words
):
    """A mistake in a command or a setting is one line, exit code 2, and nothing is started."""
    done = flows(*arguments, env=on_standing_server | variables, cwd=tmp_path)

    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home" / "store").exists()


def test_a_failure_ends_with_1_its_remedy_and_json(on_standing_server, tmp_path):
    """If the server is down, one line says how to resume, with exit code 1 and a result that is `failed`."""
    env = on_standing_server | {
        "MNIST_KAGGLE": "http://127.0.0.1:9", "MNIST_KAGGLE_TOKEN": "t-secret", "MNIST_RETRY_WAITS_S": "[]",
    }  # fmt: skip

    done = flows("nightly", "--fresh", "--json", env=env, cwd=tmp_path)

    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "cannot list the files of digits-mini" in last
    assert "To resume: MNIST_HOME=" in last
    assert "python -m flows nightly --json --night 20" in last
    result = json.loads(done.stdout)
    assert result["decision"] == "failed"
    assert set(result) == set(FIELDS)
    assert "Traceback" not in done.stderr
    assert "t-secret" not in done.stderr + done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_night_ends_at_once_and_says_how_to_resume(environment, tmp_path, number):
    """Ctrl-C, as a terminal sends it to all processes of the job, or SIGTERM, while it trains.

    Exit code 1, the command that resumes, no version, and neither of the two servers that the run started.
    """
    env = environment | {"MNIST_EPOCHS": "1000", "MNIST_PRESET": "best"}
    command = [sys.executable, "-m", "flows", "nightly", "--night", NIGHT]
    with (tmp_path / "log").open("w+") as log:
        night = subprocess.Popen(
            command, env=env, cwd=tmp_path, stderr=log, stdout=subprocess.PIPE, start_new_session=True
        )
        deadline = time.monotonic() + 240
        while "training convnet" not in (tmp_path / "log").read_text():
            assert night.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(2)
        stopped = time.monotonic()
        os.killpg(night.pid, number)
        code = night.wait(120)
        took = time.monotonic() - stopped

    text = (tmp_path / "log").read_text()
    assert code == 1, text
    assert took < 60  # 1 s, unless the machine is busy
    last = text.strip().splitlines()[-1]
    assert last.startswith(f"stopped. To resume: MNIST_HOME={tmp_path / 'home'} ")
    assert last.endswith(f"python -m flows nightly --night {NIGHT}")
    assert "Traceback" not in text
    assert list((tmp_path / "home" / "store").rglob("versions/*")) == []
    assert processes_left(tmp_path / "home") == []
    assert practice_ended(tmp_path / "home")


def test_a_night_killed_with_9_leaves_no_process(environment, tmp_path):
    """After kill -9 in training neither of the servers that it started stays."""
    env = environment | {"MNIST_EPOCHS": "1000"}
    command = [sys.executable, "-m", "flows", "nightly", "--night", NIGHT]
    with (tmp_path / "log").open("w+") as log:
        night = subprocess.Popen(command, env=env, cwd=tmp_path, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 240
        while "training convnet" not in (tmp_path / "log").read_text():
            assert night.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        night.kill()  # only it: the servers that it started have to notice by themselves
        night.wait()

    assert processes_left(tmp_path / "home") == []
    assert practice_ended(tmp_path / "home")


@pytest.mark.slow
def test_a_damaged_prefect_database_is_renamed_and_replaced(environment, tmp_path):
    """The run warns, creates a new one and ends well: the store is the source of truth."""
    database = tmp_path / "home" / "prefect" / "prefect.db"
    database.write_bytes(b"SQLite format 3\0" + b"damaged" * 1000)

    done = flows("nightly", env=environment, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "prefect.db cannot be opened" in " ".join(done.stderr.split())
    [aside] = database.parent.glob("prefect.db.*.damaged")
    assert aside.read_bytes().endswith(b"damaged")
    assert database.read_bytes().startswith(b"SQLite format 3\0")


def test_the_commands_on_call_print_json_and_need_no_prefect(on_standing_server, tmp_path):
    """`status`, `versions`, `rollback` and `prune` print one line of JSON, or the error as JSON."""
    done = flows("status", "--json", env=on_standing_server, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "flows nightly" in json.loads(done.stdout)["error"]
    env = on_standing_server
    assert flows("nightly", env=env, cwd=tmp_path).returncode == 0

    code = (
        "import sys; sys.argv = ['flows', 'status', '--json']\nfrom flows.__main__ import main\n"
        "try: main()\nexcept SystemExit as end: assert 'prefect' not in sys.modules; raise"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["champion"]["public_score"] > 0.5
    assert "practice" in flows("versions", env=env, cwd=tmp_path).stdout
    assert json.loads(flows("prune", "--yes", "--json", env=env, cwd=tmp_path).stdout)["versions"] == 0
    refused = flows("prune", "--json", env=env, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert refused.returncode == 2
    assert "--yes" in json.loads(refused.stdout)["error"]
    assert flows("rollback", env=env, cwd=tmp_path).returncode == 2


def test_help_lists_the_commands_and_version_is_printed():
    """Neither starts anything."""
    done = subprocess.run(
        [sys.executable, "-m", "flows", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    for command in ("nightly", "train", "submit", "status", "versions", "rollback", "promote", "prune"):
        assert command in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "flows", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"mnist-nightly {__version__}\n"
