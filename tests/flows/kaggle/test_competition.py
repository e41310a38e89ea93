"""The real Kaggle client, over HTTP, against the practice competition: the good path and each bad one."""

import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.kaggle import competition as module
from flows.kaggle.competition import connect
from flows.kaggle.credentials import find_credentials
from flows.kaggle.download import data_digest
from flows.kaggle.errors import CompetitionError, QuotaSpentError, SubmissionUnknownError
from flows.kaggle.submissions import quota_returns
from flows.settings import SettingsError
from mnist_core import submission
from mnist_core.spec import DIGIT_RECOGNIZER

ALL_THREES = submission.to_csv([3] * 28_000)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """A valid submission.csv."""
    path = tmp_path / "submission.csv"
    path.write_bytes(ALL_THREES)
    return path


def test_the_files_arrive_whole_and_are_kept(job):
    """The first download brings the three files; the second asks for the list and takes what is there."""
    competition = job().competition
    told = []

    data = competition.download(lambda done, total, note="": told.append((done, total)))
    stamp = data.train_csv.stat().st_mtime_ns
    again = competition.download(lambda *_: pytest.fail("it was downloaded again"))

    assert again == data
    assert data.train_csv.stat().st_mtime_ns == stamp
    assert {path.name for path in data.folder.iterdir()} == {"train.csv", "test.csv", "sample_submission.csv"}
    assert told[-1][0] == told[-1][1] > 10_000_000
    assert competition.namespace(data).endswith(f"/digit-recognizer/{data.digest[:16]}")


def test_a_kept_file_that_changed_is_downloaded_again(job):
    """A byte that changed on the disk is found by its digest, and the good file comes back."""
    competition = job().competition
    data = competition.download()
    good = data.test_csv.read_bytes()
    data.test_csv.write_bytes(good.replace(b",255", b",254", 1))

    again = competition.download()

    assert again == data
    assert again.test_csv.read_bytes() == good


def test_data_that_were_replaced_long_ago_go_with_the_next_download(job):
    """Files of other data stay for a week, in which a job may still read them, and then go."""
    competition = job().competition
    folder = competition.download().folder
    young, old = folder.parent / "0123456789abcdef", folder.parent / "fedcba9876543210"
    for other in (young, old):
        other.mkdir()
    os.utime(old, (0, 0))
    (folder / "test.csv").unlink()

    competition.download()

    assert (folder.exists(), young.exists(), old.exists()) == (True, True, False)


def test_a_download_that_is_cut_is_resumed(job):
    """A connection that breaks in the middle of the zip ends in the same files."""
    started = job()
    started.server.fault("cut-download")

    assert started.competition.download().train_csv.stat().st_size > 70_000_000


@pytest.mark.parametrize("fault", ["../train.csv", "missing", "cut", "crc"])
def test_a_bad_zip_is_refused(job, monkeypatch, fault):
    """A zip that leaves its folder, lacks a file, is cut or has a wrong CRC gives no data and no trace."""
    competition = job().competition

    def download(_self, name, path, **_options):
        archive = Path(path) / f"{name}.zip"
        archive.parent.mkdir(parents=True)
        with zipfile.ZipFile(archive, "w") as bundle:
            for file in DIGIT_RECOGNIZER.files[fault == "missing" :]:
                bundle.writestr(file, f"content of {file}\n" * 50)
            if fault == "../train.csv":
                bundle.writestr("../train.csv", "evil")
        data = archive.read_bytes()
        if fault == "cut":
            archive.write_bytes(data[:-30])
        if fault == "crc":
            archive.write_bytes(data.replace(b"content of test.csv", b"content of TEST.csv", 1))

    monkeypatch.setattr(type(competition._api), "competition_download_files", download)

    words = {"../train.csv": "leaves it", "missing": "train.csv is missing"}.get(fault, "zip")
    with pytest.raises(CompetitionError, match=words):
        competition.download()

    assert [path.name for path in competition._folder.rglob("*") if path.is_file()] == ["lock"]


def test_a_full_disk_is_named_before_the_download(job, monkeypatch):
    """Where the zip and its files do not fit, nothing is downloaded and the folder is named."""
    monkeypatch.setattr(module, "free_bytes", lambda _folder: 1_000_000)

    with pytest.raises(CompetitionError, match=r"home.*less than 256 MB free.*MNIST_HOME"):
        job().competition.download()


def test_a_submission_is_posted_once(job, csv):
    """The same content posted three times is one submission, found again on the server's list."""
    started = job()
    competition = started.competition

    first = competition.submit_once(csv, "2026-11-23-convnet-0123abcd")
    second = competition.submit_once(csv, "another title")

    assert first.posted
    assert not second.posted
    assert second.ref == first.ref
    assert len(started.server.submissions()) == 1
    scored = competition.wait_for_score(first.ref, 20)
    assert scored.status == "COMPLETE"
    assert scored.public_score == pytest.approx(0.1, abs=0.02)


def test_an_old_submission_is_found_on_a_later_page(job, csv):
    """The whole list is asked: a match behind more than a page of other submissions is adopted."""
    started = job(daily_limit=1000)
    first = started.competition.submit_once(csv, "first")
    for i in range(105):
        started.server.submit(b"ImageId,Label\n", f"other {i}")

    again = started.competition.submit_once(csv, "again")

    assert again.ref == first.ref
    assert not again.posted


def test_a_lost_reply_is_settled_by_looking_again(job, csv):
    """A submission that was stored while its answer was lost is found, not posted a second time."""
    started = job()
    started.server.fault("lost-reply")

    made = started.competition.submit_once(csv, "lost")

    assert made.posted
    assert [s["ref"] for s in started.server.submissions()] == [made.ref]


def test_a_lost_reply_that_stays_out_is_unknown_and_not_repeated(job, csv, monkeypatch):
    """Where the list does not show the submission either, nothing is posted again and the error says so."""
    monkeypatch.setattr(module, "LOOK_AGAIN_S", (0.1, 0.1))
    started = job()
    started.server.fault("late-list", seconds=3)
    started.server.fault("lost-reply")

    with pytest.raises(SubmissionUnknownError, match="looks for it before it posts"):
        started.competition.submit_once(csv, "late")

    deadline = time.monotonic() + 30
    while not started.server.submissions():
        assert time.monotonic() < deadline
    assert not started.competition.submit_once(csv, "again").posted
    assert len(started.server.submissions()) == 1


def test_a_failure_before_the_post_is_no_unknown_submission(job, csv):
    """A fault of the upload's start can have created nothing, and is reported as what it is."""
    started = job()
    started.server.fault("web-page", rpc="StartSubmissionUpload")

    with pytest.raises(CompetitionError, match="can not submit") as caught:
        started.competition.submit_once(csv, "never sent")

    assert not isinstance(caught.value, SubmissionUnknownError)
    assert started.competition.submit_once(csv, "sent").posted


def test_two_downloads_at_once_do_not_disturb_each_other(job):
    """Of two that start together on an empty home one downloads, and both get the same whole files."""
    started = job()
    started.server.fault("slow", seconds=1, rpc="DownloadDataFiles")
    competition = started.competition
    (competition._folder / "unpack-of-a-killed-process").mkdir(parents=True)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: started.competition.download(), range(2))

    assert first == second
    assert data_digest(first.folder) == first.digest
    names = {path.name for path in competition._folder.iterdir()}
    assert names == {first.folder.name, "partial", "current.json", "lock"}


def test_a_signed_address_stays_out_of_the_error(job):
    """What the storage behind a redirect answers is told without the address that gives access."""
    started = job()
    competition = started.competition
    started.server.fault("server-error", count=-1, rpc="file")

    with pytest.raises(CompetitionError, match="HTTP 5") as caught:
        competition.download()

    assert "sig=" not in str(caught.value)


def test_a_failed_upload_is_tried_again_and_creates_nothing_by_itself(job, csv):
    """One failed upload is repeated; uploads that keep failing leave the list empty."""
    started = job()
    started.server.fault("failed-upload")
    assert started.competition.submit_once(csv, "second try").posted

    csv.write_bytes(submission.to_csv([4] * 28_000))
    started.server.fault("failed-upload", count=-1)
    with pytest.raises(CompetitionError, match="upload failed") as caught:
        started.competition.submit_once(csv, "never")

    assert caught.value.retryable
    assert len(started.server.submissions()) == 1


def test_a_spent_quota_posts_nothing(job, csv):
    """With no submission left today nothing is sent, and the error says when the quota returns."""
    started = job(daily_limit=0)

    with pytest.raises(QuotaSpentError, match="00:00 UTC"):
        started.competition.submit_once(csv, "too many")

    assert started.server.submissions() == []
    assert quota_returns().endswith("00:00 UTC")


def test_a_submission_that_ends_as_error_says_why(job, csv):
    """The server's description of the fault arrives with the state."""
    started = job()
    csv.write_bytes(b"ImageId,Label\n1,3\n")

    scored = started.competition.wait_for_score(started.competition.submit_once(csv, "short").ref, 20)

    assert scored.status == "ERROR"
    assert "28000" in scored.error.replace(",", "")


@pytest.mark.parametrize("name", ["rate-limit", "server-error", "reset"])
def test_a_passing_fault_of_a_read_is_passed_over(job, name):
    """A 429 with Retry-After, a 500 or a reset in a call that can be repeated is repeated."""
    started = job()
    competition = started.competition
    started.server.fault(name, count=1)

    assert competition.quota() == 10


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("server-error", "HTTP 5"),
        ("rate-limit", "HTTP 429"),
        ("web-page", "something else than JSON"),
        ("cut-json", "something else than JSON"),
        ("reset", "no answer"),
    ],
)
def test_a_lasting_fault_is_one_clear_error(job, name, words):
    """A server that keeps failing gives an error that says what it did, and that it may pass."""
    started = job()
    competition = started.competition
    started.server.fault(name, count=-1)

    with pytest.raises(
        CompetitionError, match=f"can not read the quota of digit-recognizer.*{words}"
    ) as caught:
        competition.quota()

    assert caught.value.retryable


def test_a_server_that_never_answers_times_out(job, monkeypatch):
    """A connection that is taken and never answered ends after the set seconds."""
    started = job()
    monkeypatch.setenv("MNIST_TIMEOUT_S", "0.5")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MNIST_KAGGLE", f"http://127.0.0.1:{silent.getsockname()[1]}")

        with pytest.raises(CompetitionError, match=r"no answer \(ReadTimeoutError\)") as caught:
            started.competition.quota()

    assert caught.value.retryable


def test_a_server_that_is_not_there_is_named(job, monkeypatch):
    """A refused connection names the server and says that it may pass."""
    started = job()
    monkeypatch.setenv("MNIST_KAGGLE", "http://127.0.0.1:9")

    with pytest.raises(CompetitionError, match=r"127\.0\.0\.1:9.*is the server up") as caught:
        started.competition.quota()

    assert caught.value.retryable


def test_wrong_credentials_are_named_and_not_shown(job, monkeypatch):
    """A wrong key is refused with the variables' names, and the key stays out of the error."""
    started = job()
    monkeypatch.setenv("KAGGLE_KEY", "wrong-and-secret")

    with pytest.raises(CompetitionError, match="KAGGLE_API_TOKEN, or KAGGLE_USERNAME") as caught:
        started.competition.quota()

    assert not caught.value.retryable
    assert "wrong-and-secret" not in str(caught.value)


def test_a_token_works_as_well_and_may_end_with_a_newline(job, monkeypatch, tmp_path):
    """KAGGLE_API_TOKEN as a value or a file logs in, whatever stands at its end."""
    started = job()
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text(f"{started.server.token}\n")

    for value in (f"{started.server.token}\n", str(tmp_path / "token")):
        monkeypatch.setenv("KAGGLE_API_TOKEN", value)
        assert started.competition.quota() == 10


def test_rules_that_are_not_accepted_are_named(job):
    """A 403 says where to accept the rules."""
    started = job()
    started.server.fault("rules", count=-1)

    with pytest.raises(CompetitionError, match=r"accept the rules at https://www\.kaggle\.com") as caught:
        started.competition.download()

    assert not caught.value.retryable


def test_a_competition_that_does_not_exist_is_named(job, monkeypatch):
    """A misspelled competition is an error that names the setting."""
    started = job()
    monkeypatch.setenv("MNIST_COMPETITION", "digit-recogniser")

    with pytest.raises(CompetitionError, match=r"digit-recogniser.*MNIST_COMPETITION"):
        started.competition.download()


def test_missing_credentials_are_named_by_their_variables(job, monkeypatch):
    """Without credentials, or with half of them, the error says which variables to set."""
    job()
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(SettingsError, match="KAGGLE_USERNAME is set and KAGGLE_KEY is not"):
        find_credentials()

    monkeypatch.delenv("KAGGLE_USERNAME")
    with pytest.raises(SettingsError, match="KAGGLE_API_TOKEN"):
        find_credentials()


def test_kaggle_json_is_found_and_never_shown(job, monkeypatch, tmp_path):
    """Kaggle's own file is read where no variable is set, and its key is not in the object's text."""
    job()
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.delenv("KAGGLE_USERNAME")
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text('{"username": "alice", "key": "k-secret\\n"}')

    found = find_credentials()

    assert (found.username, found.key.get_secret_value()) == ("alice", "k-secret")
    assert "k-secret" not in repr(found)


def test_importing_the_client_calls_nobody_and_leaves_the_terminal_alone(job):
    """Kaggle's package logs in when it is imported; ours does not let it, and standard input stays open."""
    started = job()
    asked = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def count() -> None:
            while True:
                try:
                    asked.append(listener.accept())
                except OSError:
                    return

        threading.Thread(target=count, daemon=True).start()
        code = (
            "import sys; from flows.kaggle.competition import connect;"
            "from flows.settings import read_settings;"
            "print(connect(read_settings()).quota(), sys.stdin.read())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            input="open",
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(started.home),
                "HTTPS_PROXY": proxy,
                "KAGGLE_API_TOKEN": started.server.token,
                "MNIST_KAGGLE": started.server.url,
                "PYTHONPATH": str(Path(__file__).parents[3]),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        listener.close()

    assert (done.stdout, done.stderr) == ("10 open\n", "")
    assert asked == []


def test_connect_makes_no_call(job):
    """Nothing is asked of the server until a call needs it."""
    started = job()
    started.server.stop()

    connect(started.settings)
