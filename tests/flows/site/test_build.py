"""`site`: the folder that is written, what may be in it, and who calls it."""

import json

import pytest

from flows.nightly import nightly
from flows.records import Decision
from flows.registry import Registry
from flows.settings import SettingsError
from flows.site.build import MARKER, site, write_after_night, write_site
from flows.store.open import open_store
from mnist_core.spec import DIGITS_MINI

from .conftest import PICTURE

SECRETS = (
    "/srv/secret-home/store", "files.example.internal", "s3://secret-bucket", "jane@example.com", "jane-doe",
    "arn:aws:iam::123456789012:role/x", "KGAT_0123456789abcdef",
)  # fmt: skip


def pages(folder):
    """The files of a site, by path in it."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_the_site_is_public(tmp_path, put_night, settings):
    """No path, host, account or bucket of the job is in any file, whatever the store says about them."""
    words = " ".join(SECRETS)
    namespace = f"files.example.internal_8080/{DIGITS_MINI.name}/0123456789abcdef"
    private = Registry(open_store(str(tmp_path / "secret-store")), namespace)
    facts = {
        "created_by": words,
        "libraries": {"torch": "/srv/secret-home/store", "numpy": "2.1", "jane-doe": "1"},
    }
    for day, decision in enumerate((*Decision, Decision.FAILED), start=1):
        ended = {"reason": words, "alarm": day == len(Decision) + 1}
        put_night(day, decision, score=0.9, into=private, facts=facts, ended=ended)
    folder = tmp_path / "out"

    write_site(private, folder, settings)

    written = pages(folder)
    assert len([name for name in written if name.startswith("nights/")]) == len(Decision) + 1
    for name, path in written.items():
        content = name.encode() + path.read_bytes()
        for secret in (*SECRETS, "secret", str(tmp_path), "internal", "a reason"):
            assert secret.encode() not in content, f"{secret} in {name}"


def test_pictures_of_competition_rows_need_a_permission(tmp_path, registry, put_night, settings):
    """By default no picture is published, and one that was is deleted when the permission ends."""
    put_night(1)
    folder = tmp_path / "out"

    write_site(registry, folder, settings.model_copy(update={"site_pictures": True}))
    shown = [path.read_bytes() for name, path in pages(folder).items() if name.endswith(".png")]
    assert b'<img src="2026-11-01-convnet-fast-e40-1.png"' in b"".join(
        path.read_bytes() for path in (folder / "nights").glob("*.html")
    )
    write_site(registry, folder, settings)

    assert shown == [PICTURE]
    assert not [name for name in pages(folder) if name.endswith(".png")]
    assert b"<img" not in b"".join(path.read_bytes() for path in (folder / "nights").glob("*.html"))


def test_a_second_site_changes_only_what_is_new(tmp_path, registry, put_night, settings):
    """The same store gives the same bytes; a night that is not shown any more loses its page."""
    put_night(1)
    folder = tmp_path / "out"
    (folder / "nights").mkdir(parents=True)
    (folder / MARKER).touch()
    (folder / "nights" / "2026-08-01-convnet-fast-1.html").touch()
    (folder / "CNAME").write_text("digits.example.org")

    write_site(registry, folder, settings)
    first = {name: path.stat().st_mtime_ns for name, path in pages(folder).items()}
    write_site(registry, folder, settings)

    assert {name: path.stat().st_mtime_ns for name, path in pages(folder).items()} == first | {
        ".nojekyll": (folder / ".nojekyll").stat().st_mtime_ns
    }
    assert [path.name for path in (folder / "nights").iterdir()] == ["2026-11-01-convnet-fast-e40-1.html"]
    assert (folder / "CNAME").exists()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_folder_with_other_files_is_refused(tmp_path, registry, put_night, settings, kind):
    """`site ~` does not spread pages among somebody's files, nor delete any."""
    put_night(1)
    folder = tmp_path / "mine"
    if kind == "folder":
        (folder / "nights").mkdir(parents=True)
        (folder / "nights" / "diary.txt").write_text("dear diary")
    else:
        folder.write_text("dear diary")
    before = pages(tmp_path)

    with pytest.raises(SettingsError, match=r"mine .*for the site"):
        write_site(registry, folder, settings)

    assert pages(tmp_path) == before


def test_a_night_writes_the_site_and_the_command_writes_the_same(job, monkeypatch, tmp_path, prefect_api):
    """With MNIST_SITE each night leaves the site, with its own page, as `site DIR` would write it."""
    started = job()
    version = started.publish()
    monkeypatch.setenv("MNIST_SITE", str(tmp_path / "by-night"))

    nightly("2026-11-23")
    result = site(started.settings, tmp_path / "by-hand")

    assert (result.nights, result.champion) == (1, version)
    by_night = {name: path.read_bytes() for name, path in pages(tmp_path / "by-night").items()}
    assert by_night == {name: path.read_bytes() for name, path in pages(tmp_path / "by-hand").items()}
    assert version.encode() in by_night["nights/2026-11-23-convnet-fast-1.html"]
    json.dumps(result.to_json())


@pytest.mark.parametrize("obstacle", ["full of others", "file"])
def test_a_site_that_cannot_be_written_leaves_the_night_alone(job, monkeypatch, tmp_path, caplog, obstacle):
    """What is wrong is logged with the setting or what to do; nothing is raised."""
    started = job()
    folder = tmp_path / "site"
    if obstacle == "file":
        (tmp_path / "taken").touch()
        folder = tmp_path / "taken" / "site"
    else:
        folder.mkdir()
        (folder / "diary.txt").touch()
    monkeypatch.setenv("MNIST_SITE", str(folder))

    write_after_night(started.registry, started.settings)

    [line] = [record.getMessage() for record in caplog.records if record.name == "mnist"]
    assert line.startswith("no site: ")
    assert "site" in line.removeprefix("no site: ")
