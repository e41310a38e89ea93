"""Prefect's home and database on this machine, before Prefect is imported."""

import contextlib
import json
import os
import sqlite3
from dataclasses import asdict
from pathlib import Path

import pytest

from flows.ops.prefect_home import (
    create_writable,
    place_empty_database,
    replace_unusable_database,
    running_server,
)
from flows.ops.processes import Process


def write_revision(path: Path, revision: str) -> None:
    """Write a database as Prefect's migrations leave it."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))


@pytest.mark.parametrize(
    ("revision", "kept"), [("a1b2c3d4e5f7", True), ("ffffffffffff", False)], ids=["known", "unknown"]
)
def test_a_database_of_a_newer_prefect_is_replaced_and_a_good_one_kept(tmp_path, capsys, revision, kept):
    """A migration that the installed Prefect does not know means that it cannot open the database."""
    path = tmp_path / "prefect.db"
    write_revision(path, revision)

    replace_unusable_database(path)

    assert path.exists() is kept
    assert ("another version of Prefect" in capsys.readouterr().err) is not kept


def test_a_damaged_database_is_renamed_with_its_companions(tmp_path, capsys):
    """Its write-ahead log goes with it, so that Prefect starts from scratch."""
    path = tmp_path / "prefect.db"
    path.write_bytes(b"SQLite format 3\0" + b"damaged" * 1000)
    (tmp_path / "prefect.db-wal").write_bytes(b"its log")

    replace_unusable_database(path)

    assert not path.exists()
    assert {"damaged", "damaged-wal"} <= {file.name.split(".")[-1] for file in tmp_path.iterdir()}
    assert not (tmp_path / "prefect.db-wal").exists()
    assert "versions and champions are in the store" in capsys.readouterr().err


def test_a_database_in_use_is_kept(tmp_path, monkeypatch):
    """A run that holds the database locked proves that it can be opened."""
    path = tmp_path / "prefect.db"
    write_revision(path, "ffffffffffff")
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **options: connect(*args, **{**options, "timeout": 0})
    )
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        replace_unusable_database(path)

    assert path.exists()


def test_a_missing_database_is_not_created(tmp_path):
    """Before the first run there is nothing to check."""
    replace_unusable_database(tmp_path / "prefect.db")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("revision", "placed"), [("a1b2c3d4e5f7", True), ("ffffffffffff", False)], ids=["known", "unknown"]
)
def test_a_new_home_starts_from_an_empty_database_that_the_installed_prefect_knows(
    tmp_path, revision, placed
):
    """Its tables are there, so that the first night does not wait for them; another version's is not used."""
    empty, path = tmp_path / "empty.db", tmp_path / "prefect.db"
    write_revision(empty, revision)

    place_empty_database(path, empty)

    assert path.exists() is placed
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty.db", *["prefect.db"] * placed]


def test_a_database_with_runs_is_never_replaced_by_an_empty_one(tmp_path):
    """Nor is one missing where `make setup` made none."""
    empty, path = tmp_path / "empty.db", tmp_path / "prefect.db"
    place_empty_database(path, empty)
    assert not path.exists()
    write_revision(empty, "a1b2c3d4e5f7")
    path.write_bytes(b"runs")

    place_empty_database(path, empty)

    assert path.read_bytes() == b"runs"


def record_server(prefect_home: Path, url: str, process: Process) -> None:
    """Write what `make ui` leaves in a home."""
    (prefect_home / "ui-url").write_text(url)
    (prefect_home / "processes.json").write_text(json.dumps({"server": asdict(process)}))


def test_a_server_that_does_not_answer_is_not_used(tmp_path):
    """An address at which nothing answers, and a file that holds no address, count as none."""
    for content in ("http://127.0.0.1:9/api", "not an address"):
        record_server(tmp_path, content, Process.find(os.getpid()))

        assert running_server(tmp_path) is None


def test_what_answers_at_the_address_of_an_ended_server_is_not_used(tmp_path, serve):
    """After a reboot it may be the port-forward to the cloud's server, which answers its health check."""
    url = serve(lambda _login: 200)
    record_server(tmp_path, url, Process(os.getpid(), "another-boot 1"))
    assert running_server(tmp_path) is None

    record_server(tmp_path, url, Process.find(os.getpid()))
    assert running_server(tmp_path) == url


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    """A file in place of the folder, or a folder without permission, is an error of the file system."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        create_writable(tmp_path / "file" / "home")

    create_writable(tmp_path / "new" / "home")
    assert list((tmp_path / "new" / "home").iterdir()) == []
