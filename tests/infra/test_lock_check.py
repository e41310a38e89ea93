"""`make lock-check` with a stand-in for the package index."""

import os

import pytest

from infra import lock_check
from tests.package_index import Index


def test_a_lock_without_a_wheel_for_a_system_is_reported(tmp_path, monkeypatch):
    """Or without a package that is needed there alone; no source is built in its place; macOS means 14."""
    index = Index(tmp_path / "index")
    index.add("fast", "1", tag="cp313-cp313-manylinux_2_28_x86_64")
    index.add("apple", "1", tag="cp313-cp313-macosx_14_0_arm64")
    index.add("more", "1")
    index.add("needy", "1", needs=["more ; platform_machine == 'aarch64'"])
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    lock = tmp_path / "some.lock"
    lock.write_text("fast==1 ; sys_platform == 'linux'\napple==1 ; sys_platform == 'darwin'\n")

    def why(python: str, system: str) -> str:
        return lock_check.missing(python, lock_check.SYSTEMS[system], str(lock))

    assert why("3.13", "Linux x86-64") == ""
    assert why("3.13", "macOS 14 arm64") == ""
    assert "has no wheels" in why("3.13", "Linux aarch64")
    assert "has no wheels" in why("3.14", "Linux x86-64")
    lock.write_text("needy==1\n")
    assert why("3.13", "Linux x86-64") == ""
    assert why("3.13", "Linux aarch64") == "missing from the lock: more"
    index.server.shutdown()


def test_all_supported_pythons_are_resolved(pytestconfig):
    """Those that pyproject.toml names."""
    named = (pytestconfig.rootpath / "pyproject.toml").read_text()

    assert all(f"Programming Language :: Python :: {python}" in named for python in lock_check.PYTHONS)
    assert named.count("Programming Language :: Python :: 3.") == len(lock_check.PYTHONS)


def test_an_images_lock_without_a_wheel_for_arm_is_reported(monkeypatch, capsys):
    """Images are built for both architectures of Linux, from the same locks."""
    arm = lock_check.SYSTEMS["Linux aarch64"]

    def missing(python: str, platform: str, lock: str) -> str:
        return "no wheels" if (platform, lock) == (arm, "requirements/train.lock") else ""

    monkeypatch.setattr(lock_check, "missing", missing)
    with pytest.raises(SystemExit, match="True"):
        lock_check.main()

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.endswith(": ok")] == [
        "requirements/train.lock   Linux aarch64   Python 3.11: no wheels"
    ]
    assert len(lines) == len(lock_check.PYTHONS) * len(lock_check.SYSTEMS) + 4
