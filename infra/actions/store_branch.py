"""The store on a branch of the repository: restored before a night on GitHub Actions, and saved after it.

    python -m infra.actions.store_branch restore .mnist/store
    python -m infra.actions.store_branch save .mnist/store

The branch has one commit without a parent, so that what `prune` deletes leaves the repository too:

    README.md     what the branch is
    times.json    when each object was written, by key: git keeps no times, and `prune` and leases need them
    store/…       the objects
"""

import base64
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from flows.store.base import StoreError
from flows.store.folder import PARTIAL
from mnist_core.errors import MnistError

log = logging.getLogger("mnist")
REMOTE = "origin"
BRANCH = "refs/heads/store"
RESTORED = "refs/mnist/restored"
"""In the clone: the commit that `restore` wrote to the folder, or that `save` pushed."""
OBJECTS, TIMES = "store/", "times.json"
README = """# The nightly job's store

Versions, champions and submissions of the nights that ran on GitHub Actions. After each night,
`.github/workflows/nightly.yml` replaces the only commit of this branch; do not edit it.
`docs/github-actions.md` on the default branch explains it.
"""
NUMBERED = re.compile(r"(\d{2}|\d{6})\.json")
"""The name of an entry of a list. What has another name is a fact that no other run contradicts."""
FILE_BYTES = 100 << 20
"""GitHub refuses a push with a larger file."""
PUSHES = 5


class Entry(NamedTuple):
    """An object of the store: git's name for its bytes, and when it was written, in seconds since 1970."""

    blob: str
    at: float


Objects = Mapping[str, Entry]
"""The objects of a store, by key."""


class Merged(NamedTuple):
    """What two runs made of one store, and the entries of lists that both of them took."""

    objects: dict[str, Entry]
    taken: list[str]


def merge(restored: Objects, ours: Objects, theirs: Objects) -> Merged:
    """Return the objects of two runs that began with the same store.

    Objects are written once, so each run's new ones are added to the other's; what only one run pruned
    stays. If both took a number of a list, theirs holds, since it was pushed first. Then none of our new
    entries of lists is kept, because they may rest on the one that was taken, but our versions and
    submissions are.

    Args:
        restored: what both began with.
        ours: what this run has now.
        theirs: what the other run pushed.
    """
    taken = sorted(
        key
        for key, entry in ours.items()
        if key in theirs and theirs[key].blob != entry.blob and _is_numbered(key)
    )
    merged = dict(theirs)
    for key, entry in ours.items():
        if key not in theirs:
            if not (taken and _is_numbered(key) and key not in restored):
                merged[key] = entry
        elif theirs[key].blob == entry.blob:
            merged[key] = max(entry, theirs[key], key=lambda found: found.at)
    return Merged(dict(sorted(merged.items())), taken)


def _is_numbered(key: str) -> bool:
    return NUMBERED.fullmatch(key.rpartition("/")[2]) is not None


def restore(repository: Path, folder: Path) -> int:
    """Write the branch's objects to a folder, with their times.

    Args:
        repository: a clone whose remote `origin` has the branch, or does not have it yet.
        folder: an empty one, or one that does not exist.

    Returns:
        The number of objects.

    Raises:
        StoreError: the folder is not empty, or git failed.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty", "restore the store to a new folder")
    commit = _fetch(repository)
    objects = _read_commit(repository, commit)
    _remember(repository, commit)
    if not objects:
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": f"{scratch}/index"}
        _git(repository, "read-tree", f"{commit}:{OBJECTS.rstrip('/')}", **index)
        prefix = f"--prefix={folder.absolute()}/"
        _git(repository, "-c", "core.autocrlf=false", "checkout-index", "--all", prefix, **index)
    for key, entry in objects.items():
        os.utime(folder / key, (entry.at, entry.at))
    return len(objects)


def save(repository: Path, folder: Path) -> int:
    """Replace the branch's commit by one with a folder's objects, merged with what others pushed meanwhile.

    Args:
        repository: the clone that `restore` was called with.
        folder: the store.

    Returns:
        The number of objects.

    Raises:
        StoreError: a file is too large for GitHub; or the push failed; or another run took a number of a list
            that this one took too, and all but such entries was saved.
    """
    tip = _restored_commit(repository)
    restored = _read_commit(repository, tip)
    ours = _read_folder(repository, folder)
    if not ours and tip is None:
        return 0  # a first night that did not begin
    merged = Merged(dict(ours), [])
    for _ in range(PUSHES):
        commit = _write_commit(repository, merged.objects)
        refusal = _push(repository, commit, tip)
        if refusal is None:
            break
        found = _fetch(repository)
        if found == commit:  # it arrived, and the answer was lost
            break
        if found == tip:
            raise StoreError(
                f"the branch store was not pushed: {refusal}", "run the workflow again", retryable=True
            )
        tip = found
        log.info("another run pushed the branch store meanwhile: merging")
        merged = merge(restored, ours, _read_commit(repository, tip))
    else:
        raise StoreError(
            f"the branch store was pushed by other runs {PUSHES} times meanwhile",
            "run the workflow again",
            retryable=True,
        )
    _remember(repository, commit)
    if merged.taken:
        raise StoreError(
            f"another run took {merged.taken[0]} ({len(merged.taken)} entries in all); versions and "
            "submissions of this run were saved, its decisions were not",
            "run the workflow again, one run at a time: it goes on from the other run's store, and asks the "
            "competition what was submitted",
        )
    return len(merged.objects)


def _read_folder(repository: Path, folder: Path) -> dict[str, Entry]:
    """Return the objects in a folder, their bytes put into the clone; incomplete files are not among them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not PARTIAL.fullmatch(path.name))
    for path in files:
        if path.stat().st_size > FILE_BYTES:
            raise StoreError(
                f"{path} has more than the {FILE_BYTES >> 20} MiB that GitHub accepts",
                "set MNIST_STORE to a bucket; docs/github-actions.md says how",
            )
    names = "".join(f"{path.absolute()}\n" for path in files)
    blobs = _git(repository, "hash-object", "-w", "--no-filters", "--stdin-paths", given=names).split()
    return {
        path.relative_to(folder).as_posix(): Entry(blob, path.stat().st_mtime)
        for path, blob in zip(files, blobs, strict=True)
    }


def _read_commit(repository: Path, commit: str | None) -> dict[str, Entry]:
    """Return the objects that a commit of the branch holds; none if there is no commit."""
    if commit is None:
        return {}
    listed = _git(repository, "ls-tree", "-r", "-z", commit, OBJECTS).split("\0")
    try:
        times = json.loads(_git(repository, "show", f"{commit}:{TIMES}"))
        found = (line.split("\t") for line in listed if line)
        return {
            (key := path.removeprefix(OBJECTS)): Entry(about.split()[2], float(times[key]))
            for about, path in found
        }
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"{TIMES} of the branch store does not name the times of all objects",
            "the branch was changed manually: restore it, or delete it to begin with an empty store",
        ) from None


def _write_commit(repository: Path, objects: Objects) -> str:
    """Return a commit without a parent that holds these objects, their times, and a README."""
    times = json.dumps({key: entry.at for key, entry in objects.items()}, indent=0, sort_keys=True)
    files = {OBJECTS + key: entry.blob for key, entry in objects.items()}
    for name, text in ((TIMES, times + "\n"), ("README.md", README)):
        files[name] = _git(repository, "hash-object", "-w", "--stdin", given=text).strip()
    lines = "".join(f"100644 {blob}\t{path}\n" for path, blob in files.items())
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": f"{scratch}/index"}
        _git(repository, "update-index", "--add", "--index-info", given=lines, **index)
        tree = _git(repository, "write-tree", **index).strip()
    identity = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", "mnist-nightly"), ("EMAIL", "mnist-nightly@users.noreply.github.com"))
    }
    return _git(repository, "commit-tree", tree, "-m", "Save the store", **identity).strip()


def _fetch(repository: Path) -> str | None:
    """Fetch the branch; return its commit, or None if the remote has no such branch."""
    if not _git(repository, "ls-remote", REMOTE, BRANCH).strip():
        return None
    _git(repository, "fetch", "--quiet", "--no-tags", REMOTE, f"+{BRANCH}:refs/mnist/fetched")
    return _git(repository, "rev-parse", "refs/mnist/fetched").strip()


def _push(repository: Path, commit: str, tip: str | None) -> str | None:
    """Push a commit if the branch is at `tip` (None: there is none); return git's message if refused."""
    lease = f"--force-with-lease={BRANCH}:{tip or ''}"
    try:
        _git(repository, "push", "--quiet", lease, REMOTE, f"{commit}:{BRANCH}")
    except StoreError as error:
        return error.problem
    return None


def _remember(repository: Path, commit: str | None) -> None:
    """Note which commit the folder was restored from; of none, the empty store is noted."""
    if commit is None:
        commit = _write_commit(repository, {})
    _git(repository, "update-ref", RESTORED, commit)


def _restored_commit(repository: Path) -> str | None:
    """Return the commit that the folder was restored from; None if there was none.

    Raises:
        StoreError: nothing was restored, so what the branch holds is not in the folder.
    """
    listed = _git(repository, "for-each-ref", "--format=%(objectname)", RESTORED).strip()
    if not listed:
        raise StoreError("the store was not restored from the branch", "restore it before the night")
    return listed if _read_commit(repository, listed) else None


def _git(repository: Path, *arguments: str, given: str | None = None, **variables: str) -> str:
    """Return the output of a git command in a clone; GITHUB_TOKEN, if it is set, is the server's password."""
    environment = {**os.environ, **variables, "GIT_TERMINAL_PROMPT": "0"}
    if token := os.environ.get("GITHUB_TOKEN"):
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        login = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        environment |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{server}/.extraheader",
            "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {login}",
        }
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments],
        input=given, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().replace("\n", " ") or f"exit {done.returncode}"
        raise StoreError(f"git {arguments[0]}: {said}", "see the log above", retryable=True)
    return done.stdout


def main(arguments: list[str]) -> None:
    """Run the command; an error is one line and exit 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    steps = {"restore": restore, "save": save}
    if len(arguments) != 2 or arguments[0] not in steps:
        raise SystemExit("usage: python -m infra.actions.store_branch restore|save FOLDER")
    try:
        count = steps[arguments[0]](Path(), Path(arguments[1]))
    except MnistError as error:
        raise SystemExit(f"store branch: {error}") from None
    log.info("%s: %d objects of the branch store", arguments[0], count)


if __name__ == "__main__":
    main(sys.argv[1:])
