"""The store on a branch: restored by one runner, saved by it, and merged with what another one pushed."""

import os
import subprocess
from pathlib import Path

import pytest

from flows.store.base import StoreError
from infra.actions.store_branch import FILE_BYTES, Entry, merge, restore, save

LEASES = "kaggle/digits-mini/0123456789abcdef/leases"
VERSIONS = "kaggle/digits-mini/0123456789abcdef/versions"
OLD = 1_700_000_000.25


def git(where: Path, *arguments: str) -> str:
    """Return the output of a git command."""
    done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Runner:
    """A clean clone of the repository, and the store's folder in it."""

    def __init__(self, origin: Path, name: str) -> None:
        self.clone = origin.parent / name
        git(origin.parent, "clone", "--quiet", "--depth", "1", f"file://{origin}", name)
        self.store = self.clone / ".mnist/store"
        restore(self.clone, self.store)

    def write(self, *keys: str, text: str | None = None) -> None:
        """Write objects; by default each says its own key and whose it is."""
        for key in keys:
            path = self.store / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{key} of {self.clone.name}" if text is None else text)

    def save(self) -> int:
        """Save the store."""
        return save(self.clone, self.store)

    @property
    def objects(self) -> dict[str, str]:
        """What the folder holds, by key."""
        files = (path for path in self.store.rglob("*") if path.is_file())
        return {path.relative_to(self.store).as_posix(): path.read_text() for path in files}


@pytest.fixture
def origin(tmp_path):
    """A bare repository with one commit on main."""
    bare = tmp_path / "origin.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", str(bare))
    tree = subprocess.run(["git", "-C", bare, "mktree"], input=b"", capture_output=True, check=True)
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    first = git(bare, *identity, "commit-tree", tree.stdout.decode().strip(), "-m", "Begin")
    git(bare, "update-ref", "refs/heads/main", first)
    return bare


def test_what_one_runner_saves_the_next_one_restores(origin):
    """The objects come back byte for byte, with the times at which they were written."""
    first = Runner(origin, "first")
    first.write(f"{VERSIONS}/a.json", "mnist-nightly.json")
    first.write(f"{VERSIONS}/b.json", text="a\r\nb\r\n")
    os.utime(first.store / VERSIONS / "a.json", (OLD, OLD))

    assert first.save() == 3
    second = Runner(origin, "second")

    assert (second.store / VERSIONS / "b.json").read_bytes() == b"a\r\nb\r\n"
    assert second.objects.keys() == first.objects.keys()
    assert (second.store / VERSIONS / "a.json").stat().st_mtime == OLD


def test_the_branch_has_one_commit_and_forgets_what_was_pruned(origin):
    """Each save replaces the branch's only commit, so that pruned objects leave the repository."""
    for night, pruned in (("one", None), ("two", "one"), ("three", "two")):
        runner = Runner(origin, night)
        runner.write(f"objects/{night}")
        if pruned:
            (runner.store / "objects" / pruned).unlink()
        runner.save()

    assert git(origin, "rev-list", "--count", "store") == "1"
    assert (
        git(origin, "ls-tree", "-r", "--name-only", "store") == "README.md\nstore/objects/three\ntimes.json"
    )


def test_a_file_that_was_left_incomplete_is_not_saved(origin):
    """What a killed process was writing does not reach the branch."""
    runner = Runner(origin, "runner")
    runner.write("objects/whole", "objects/.broken.0123abcd.part")

    assert runner.save() == 1


def test_a_first_night_that_did_not_begin_makes_no_branch(origin):
    """Nothing is pushed if there is nothing to save, so that the next night begins as the first one."""
    assert Runner(origin, "runner").save() == 0
    assert "store" not in git(origin, "branch", "--list")


def test_a_competing_push_is_merged(origin):
    """If another run pushed since the restore, both runs' new objects are in the branch."""
    ours, theirs = Runner(origin, "ours"), Runner(origin, "theirs")
    theirs.write(f"{VERSIONS}/theirs.json")
    theirs.save()
    ours.write(f"{VERSIONS}/ours.json", f"{LEASES}/000001.json")

    assert ours.save() == 3
    assert Runner(origin, "next").objects == theirs.objects | ours.objects


def test_a_number_that_another_run_took_fails_the_run_and_loses_no_version(origin):
    """The other run's entry holds, later ones of ours are dropped, and our version is saved all the same."""
    before = Runner(origin, "before")
    before.write(f"{LEASES}/000001.json")
    before.save()
    ours, theirs = Runner(origin, "ours"), Runner(origin, "theirs")
    theirs.write(f"{LEASES}/000002.json")
    theirs.save()
    ours.write(f"{LEASES}/000002.json", f"{LEASES}/000003.json", f"{VERSIONS}/ours.json")

    with pytest.raises(StoreError, match=r"another run took .*leases/000002\.json") as refused:
        ours.save()

    assert "one run at a time" in refused.value.remedy
    found = Runner(origin, "next").objects
    assert found.keys() == {f"{LEASES}/000001.json", f"{LEASES}/000002.json", f"{VERSIONS}/ours.json"}
    assert found[f"{LEASES}/000002.json"].endswith("of theirs")


def test_a_push_that_the_remote_refuses_is_an_error_with_its_words(origin):
    """A push that fails without another run's is not repeated: git's own message is shown."""
    hook = origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho the branch is protected >&2\nexit 1\n")
    hook.chmod(0o755)
    runner = Runner(origin, "runner")
    runner.write("objects/a")

    with pytest.raises(StoreError, match="the branch is protected"):
        runner.save()


def test_nothing_is_saved_that_was_not_restored(origin):
    """Without a restore the branch may hold what the folder does not, so it is not replaced."""
    runner = Runner(origin, "runner")
    runner.write("objects/a")
    git(runner.clone, "update-ref", "-d", "refs/mnist/restored")

    with pytest.raises(StoreError, match="was not restored"):
        runner.save()


def test_a_store_is_restored_to_an_empty_folder_alone(origin):
    """Objects that lie there already are neither overwritten nor mixed with the branch's."""
    runner = Runner(origin, "runner")
    runner.write("objects/a")

    with pytest.raises(StoreError, match="is not empty"):
        restore(runner.clone, runner.store)


def test_a_file_that_github_would_refuse_is_named(origin):
    """A file above GitHub's limit is an error that names the file and the way out."""
    runner = Runner(origin, "runner")
    runner.write("objects/large")
    os.truncate(runner.store / "objects/large", FILE_BYTES + 1)

    with pytest.raises(StoreError, match=r"objects/large .*set MNIST_STORE to a bucket"):
        runner.save()


def test_the_token_reaches_git_by_the_environment_alone(origin, monkeypatch, tmp_path):
    """The workflow's token is a header for GitHub, and no argument that other processes can see."""
    runner = Runner(origin, "runner")
    seen = tmp_path / "seen"
    played = tmp_path / "bin" / "git"
    played.parent.mkdir()
    played.write_text(f'#!/bin/sh\necho "$*|$GIT_CONFIG_KEY_0|$GIT_CONFIG_VALUE_0" >> {seen}\nexit 1\n')
    played.chmod(0o755)
    monkeypatch.setenv("PATH", f"{played.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GITHUB_TOKEN", "ghs_secret")

    with pytest.raises(StoreError):
        runner.save()

    arguments, key, value = seen.read_text().splitlines()[0].split("|")
    assert "ghs" not in arguments
    assert key == "http.https://github.com/.extraheader"
    assert value == "AUTHORIZATION: basic eC1hY2Nlc3MtdG9rZW46Z2hzX3NlY3JldA=="


A, B = Entry("a", 1), Entry("b", 1)


@pytest.mark.parametrize(
    ("restored", "ours", "theirs", "merged", "taken"),
    [
        ({}, {"objects/x": A}, {"objects/y": B}, {"objects/x": A, "objects/y": B}, []),
        ({"objects/x": A}, {}, {"objects/x": A}, {"objects/x": A}, []),
        ({"objects/x": A}, {"objects/x": Entry("a", 5)}, {"objects/x": A}, {"objects/x": Entry("a", 5)}, []),
        ({}, {"v/x.json": A}, {"v/x.json": B}, {"v/x.json": B}, []),
        ({}, {"l/000001.json": A}, {"l/000001.json": B}, {"l/000001.json": B}, ["l/000001.json"]),
        (
            {"l/000001.json": A, "m/000001.json": A},
            {"l/000001.json": A, "l/000002.json": A, "m/000001.json": A, "m/000002.json": A, "v/x.json": A},
            {"l/000002.json": B},
            {"l/000001.json": A, "l/000002.json": B, "m/000001.json": A, "v/x.json": A},
            ["l/000002.json"],
        ),
        ({}, {"t/r/01.json": A}, {"t/r/01.json": B}, {"t/r/01.json": B}, ["t/r/01.json"]),
    ],
    ids=["union", "pruned by us", "renewed", "named twice", "numbered twice", "rest on it", "member"],
)
def test_two_runs_of_one_store_are_merged(restored, ours, theirs, merged, taken):
    """New objects add up, the later time of an object counts, and of a number that both took theirs holds."""
    found = merge(restored, ours, theirs)

    assert found.objects == merged
    assert found.taken == taken
