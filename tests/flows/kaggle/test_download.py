"""The competition's files: complete, checked, kept, and never half-written."""

import errno
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from flows.kaggle import download
from flows.kaggle.client import Client
from flows.kaggle.download import data_digest
from flows.kaggle.errors import CompetitionError


def test_the_files_arrive_complete_and_are_kept(job):
    """The first download brings the three files; the second asks for the list and keeps what is there."""
    competition = job().competition
    reported = []

    data = competition.download(lambda done, total, note="": reported.append((done, total)))
    stamp = data.train_csv.stat().st_mtime_ns
    again = competition.download(lambda *_: pytest.fail("it was downloaded again"))

    assert again == data
    assert data.train_csv.stat().st_mtime_ns == stamp
    assert {path.name for path in data.folder.iterdir()} == set(competition.spec.files)
    assert reported[-1][0] == reported[-1][1] > 100_000


def test_a_kept_file_that_changed_is_downloaded_again(job):
    """A byte that changed on the disk is found by its digest, and the good file comes back."""
    competition = job().competition
    data = competition.download()
    good = data.test_csv.read_bytes()
    data.test_csv.write_bytes(good.replace(b",255", b",254", 1))

    again = competition.download()

    assert again == data
    assert again.test_csv.read_bytes() == good


@pytest.mark.parametrize("content", ["", "{}", '{"digest": "0", "listed": "none"}'])
def test_an_unreadable_note_of_the_last_download_is_not_an_error(job, content):
    """Whatever current.json holds, the files are downloaded again."""
    competition = job().competition
    data = competition.download()
    (data.folder.parent / "current.json").write_text(content)

    assert competition.download() == data


def test_data_that_were_replaced_long_ago_are_removed_by_the_next_download(job):
    """Files of other data stay for a week, in which a job may still read them."""
    competition = job().competition
    folder = competition.download().folder
    young, old = folder.parent / "0123456789abcdef", folder.parent / "fedcba9876543210"
    for other in (young, old):
        other.mkdir()
    os.utime(old, (0, 0))
    (folder / "test.csv").unlink()

    competition.download()

    assert (folder.exists(), young.exists(), old.exists()) == (True, True, False)


def test_data_that_a_run_began_with_stay_though_they_were_downloaded_long_ago(job, monkeypatch):
    """If the competition replaces its files, a night that is under way still reads the old ones."""
    competition = job().competition
    read = competition.download()
    os.utime(read.folder, (0, 0))
    assert competition.download() == read
    (read.folder.parent / "current.json").unlink()
    monkeypatch.setattr(download, "data_digest", lambda *_: "0" * 64)  # as if the files were others

    replaced = competition.download()

    assert replaced.folder != read.folder
    assert read.train_csv.exists()


def test_a_home_without_file_locks_is_refused_in_the_right_words(job, monkeypatch):
    """On a network file system without flock the error names the setting, not the free space."""
    competition = job().competition

    def no_locks(*_args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(download.fcntl, "flock", no_locks)

    with pytest.raises(CompetitionError, match="No locks available") as caught:
        competition.download()

    assert caught.value.remedy.startswith("set MNIST_HOME to a folder on a local disk")


def test_a_download_that_is_cut_is_resumed(job):
    """A connection that breaks in the middle of the zip ends in the same files."""
    started = job()
    whole = started.competition.download()
    whole.train_csv.unlink()
    started.server.fault("cut-download")

    assert started.competition.download() == whole


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("../train.csv", "leaves the folder"),
        ("missing", "train.csv is missing"),
        ("cut", "zip"),
        ("crc", "CRC"),
        ("bomb", "train.csv unpacks to 300,000,000 bytes instead of the"),
        ("encrypted", "train.csv is encrypted"),
        ("bzip2", "train.csv is compressed by method 12"),
        ("method 99", "train.csv is compressed by method 99"),
        ("offset", "it was removed, run again"),
    ],
)
def test_a_bad_zip_is_refused(job, monkeypatch, fault, words):
    """A zip that leaves its folder, misses a file, is cut, is a bomb or cannot be read gives no data."""
    competition = job().competition
    files = competition.spec.files

    def bad_download(_client, folder, _progress):
        archive = folder / "bad.zip"
        archive.parent.mkdir(parents=True)
        method = {"bomb": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2}.get(fault, zipfile.ZIP_STORED)
        with zipfile.ZipFile(archive, "w", method) as bundle:
            for file in files[1:] if fault == "missing" else files:
                bomb = fault == "bomb" and file == "train.csv"
                bundle.writestr(file, bytes(300_000_000) if bomb else f"content of {file}\n" * 50)
            if fault == "../train.csv":
                bundle.writestr("../train.csv", "evil")
        data = archive.read_bytes()
        if fault == "cut":
            archive.write_bytes(data[:-30])
        if fault in ("encrypted", "method 99"):  # in the entry of the table at the end, and before the file
            offset, value = {"encrypted": (8, 1), "method 99": (10, 99)}[fault]
            entry, data = data.index(b"PK\1\2"), bytearray(data)
            for at in (entry + offset, offset - 2):
                data[at] = value
            archive.write_bytes(data)
        if fault == "offset":  # of the table, in the last record: before the start of the file
            data = bytearray(data)
            data[-4] += 1
            archive.write_bytes(data)
        if fault == "crc":
            archive.write_bytes(data.replace(b"content of test.csv", b"content of TEST.csv", 1))
        return archive

    monkeypatch.setattr(Client, "download", bad_download)

    with pytest.raises(CompetitionError, match=words):
        competition.download()

    folder = competition.downloads.folder
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["lock"]


def test_files_of_another_user_are_used_as_they_are(job, monkeypatch):
    """Their folder's time cannot be set then, nor on a read-only disk: that is no reason to fail."""
    competition = job().competition
    data = competition.download()

    def refuse(path, *_):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr("os.utime", refuse)

    assert competition.download() == data


def test_a_list_without_the_files_is_refused(job, monkeypatch):
    """A competition with other files is an error that names what is missing."""
    competition = job().competition
    complete = Client.files
    monkeypatch.setattr(Client, "files", lambda client: complete(client)[:1])

    with pytest.raises(CompetitionError, match=r"has no \w+\.csv and no \w+\.csv; check MNIST_COMPETITION"):
        competition.download()


def test_a_full_disk_is_reported_before_the_download(job, monkeypatch):
    """If the zip and its files do not fit, nothing is downloaded and the folder is named."""
    monkeypatch.setattr(download, "free_bytes", lambda _folder: 1_000_000)
    monkeypatch.setattr(Client, "download", lambda *_: pytest.fail("it was downloaded"))

    with pytest.raises(CompetitionError, match=r"home.*less than \d+ MB free.*MNIST_HOME"):
        job().competition.download()


def test_a_disk_that_fills_up_is_one_clear_error(job, monkeypatch):
    """A write that fails says which path and which setting."""

    def full(_client, folder, _progress):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(Client, "download", full)

    with pytest.raises(CompetitionError, match=r"partial: No space left on device; .*MNIST_HOME"):
        job().competition.download()


def test_two_downloads_at_once_do_not_disturb_each_other(job):
    """Of two that start together on an empty home one downloads, and both get the same complete files."""
    started = job()
    started.server.fault("slow", seconds=1, rpc="DownloadDataFiles")
    folder = started.competition.downloads.folder
    (folder / "unpack-of-a-killed-process").mkdir(parents=True)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: started.competition.download(), range(2))

    assert first == second
    assert data_digest(first.folder, first.spec) == first.digest
    names = {path.name for path in folder.iterdir()}
    assert names == {first.folder.name, "partial", "current.json", "lock"}


def test_a_competition_of_notebooks_is_recognised_before_anything_is_downloaded(job):
    """Hours of training would end in a refusal: the page of the competition says it first."""
    started = job()
    started.server.fault("notebooks", -1)

    with pytest.raises(
        CompetitionError, match=r"digits-mini takes submissions from notebooks only.*MNIST_PRAC"
    ):
        started.competition.download()

    started.server.clear_faults()
    assert started.competition.download()
