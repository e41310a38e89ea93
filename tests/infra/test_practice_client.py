"""The real Kaggle client works with the practice server as with kaggle.com."""

import zipfile
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import requests

from infra.practice import data

NAME = "digit-recognizer"


@pytest.fixture
def client(shared_practice, tmp_path, monkeypatch):
    """Make a Kaggle client with username and key (`client("basic")`) or the token (`client("bearer")`)."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_API_ENVIRONMENT", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # a misconfigured client cannot leave the machine
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("KAGGLE_USERNAME", shared_practice.username)
    monkeypatch.setenv("KAGGLE_KEY", shared_practice.key)
    import kagglesdk.kaggle_env as environment

    monkeypatch.setitem(environment._env_to_endpoint, environment.KaggleEnv.PROD, shared_practice.url)

    def make(kind="basic", key=None):
        if kind == "bearer":
            monkeypatch.setenv("KAGGLE_API_TOKEN", key or shared_practice.token)
        elif key:
            monkeypatch.setenv("KAGGLE_KEY", key)
        from kaggle.api.kaggle_api_extended import KaggleApi

        api = KaggleApi()
        api.authenticate()
        return api

    yield make
    shared_practice.clear_faults()


def write_submission(path, wrong=0):
    """Write a submission with a number of wrong rows."""
    labels = data.solve(0).labels.copy()
    labels[:wrong] = (labels[:wrong] + 1) % 10
    rows = "".join(f"{row},{label}\n" for row, label in enumerate(labels, 1))
    path.write_text("ImageId,Label\n" + rows)
    return path


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_both_kinds_of_credentials_are_taken(client, kind):
    """Username and key, or the token, which the client first asks about."""
    files = client(kind).competition_list_files(NAME).files

    assert {file.name: file.total_bytes for file in files}["sample_submission.csv"] == 240_909
    assert files[0].creation_date.year == 2019


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_wrong_credentials_are_refused(client, kind):
    """401, which the client raises."""
    with pytest.raises(requests.HTTPError) as caught:
        client(kind, key="wrong").competition_list_files(NAME)

    assert caught.value.response.status_code == 401
    assert caught.value.response.json() == {"code": 401, "message": "Unauthenticated"}


def test_the_zip_arrives_whole_and_is_not_fetched_again(client, shared_practice, tmp_path):
    """The client gets the bytes that were made, and keeps them on the next call."""
    api = client()

    api.competition_download_files(NAME, path=str(tmp_path), quiet=True)

    got = tmp_path / shared_practice.archive.name
    assert got.read_bytes() == shared_practice.archive.read_bytes()
    before = got.stat().st_ino, got.stat().st_mtime_ns
    api.competition_download_files(NAME, path=str(tmp_path), quiet=True)
    assert (got.stat().st_ino, got.stat().st_mtime_ns) == before


def test_a_cut_download_is_resumed(client, shared_practice, tmp_path):
    """The client comes back with Range and If-Range and gets the rest."""
    shared_practice.fault("cut-download")

    client().competition_download_files(NAME, path=str(tmp_path), quiet=True)

    original = shared_practice.archive
    assert (tmp_path / shared_practice.archive.name).read_bytes() == original.read_bytes()
    assert shared_practice.request("GET", "/practice/faults").json() == []


def test_single_files_can_be_downloaded(client, shared_practice, tmp_path):
    """Each file alone, unpacked."""
    client().competition_download_file(NAME, "test.csv", path=str(tmp_path), quiet=True)

    with zipfile.ZipFile(shared_practice.archive) as archive:
        assert (tmp_path / "test.csv").read_bytes() == archive.read("test.csv")


def test_a_submission_is_pending_then_scored(client, tmp_path):
    """Ref, description, size and date come back, and the score is that of the rows, cut to five decimals."""
    api = client()
    path = write_submission(tmp_path / "submission.csv", wrong=156)

    posted = api.competition_submit(str(path), "night 1", NAME, quiet=True)

    assert posted.message == "Successfully submitted to Digit Recognizer"
    first = api.competition_submissions(NAME)[0]
    assert (first.ref, first.description, first.file_name) == (posted.ref, "night 1", "submission.csv")
    assert (first.status.name, first.public_score) in [("PENDING", ""), ("COMPLETE", "0.99442")]
    assert first.total_bytes == path.stat().st_size
    assert abs(first.date - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=1)
    while first.status.name == "PENDING":
        first = next(found for found in api.competition_submissions(NAME) if found.ref == posted.ref)
    assert (first.status.name, first.public_score, first.error_description) == ("COMPLETE", "0.99442", "")


def test_a_bad_file_is_taken_and_ends_in_error(client, shared_practice, tmp_path):
    """As on Kaggle, a bad file is accepted first; its error comes with the status."""
    path = tmp_path / "submission.csv"
    path.write_text("ImageId,Label\n1,1\n")

    ref = client().competition_submit(str(path), "bad", NAME, quiet=True).ref

    found = shared_practice.scored(ref)
    assert (found["status"], found["errorDescription"]) == ("ERROR", "Submission must have 28000 rows")
    assert found["publicScore"] == ""


def test_limits_competition_and_leaderboard_are_read(client, shared_practice, tmp_path):
    """Quota, competition page and leaderboard are read, the last with the own best score."""
    api = client()
    ref = api.competition_submit(str(write_submission(tmp_path / "s.csv")), "all", NAME, quiet=True).ref
    shared_practice.scored(ref)

    limits = api.competition_get_submission_limits(NAME)
    board = api.competition_leaderboard_view(NAME)

    assert limits.num_allowed_now + limits.num_today == 10_000
    assert limits.num_total >= limits.num_today >= 1
    assert not limits.limited_by_total
    assert (board[0].team_name, board[0].score) == ("practice", "1.00000")
    with api.build_kaggle_client() as kaggle:
        from kagglesdk.competitions.types.competition_api_service import ApiGetCompetitionRequest

        request = ApiGetCompetitionRequest()
        request.competition_name = NAME
        competition = kaggle.competitions.competition_api_client.get_competition(request)
    assert competition.user_has_entered
    assert competition.max_daily_submissions == 10_000


def test_pages_are_walked_to_the_last(client, shared_practice):
    """Small pages, by token and by number, give every submission once and newest first."""
    for number in range(5):
        shared_practice.submit(b"x", f"page {number}")
    api = client()
    whole = [found.ref for found in api.competition_submissions(NAME, page_size=200)]

    def walk():
        token = ""
        while True:
            page = shared_practice.call("ListSubmissions", pageSize=2, pageToken=token).json()
            yield from (found["ref"] for found in page["submissions"])
            token = page["nextPageToken"]
            if not token:
                return

    assert whole == sorted(whole, reverse=True)
    assert len(whole) >= 5
    assert list(walk()) == whole
    assert [found.ref for found in api.competition_submissions(NAME, page_number=2, page_size=2)] == whole[
        2:4
    ]
    assert api.competition_submissions(NAME, page_number=1000, page_size=2) == []
    files = api.competition_list_files(NAME, page_size=2)
    rest = api.competition_list_files(NAME, page_size=2, page_token=files.next_page_token)
    assert (len(files.files), len(rest.files), rest.next_page_token) == (2, 1, "")


def test_a_submission_that_comes_in_between_shifts_no_page(shared_practice):
    """A page token continues after its row, not at its position."""
    for number in range(4):
        shared_practice.submit(b"x", f"shift {number}")
    first = shared_practice.call("ListSubmissions", pageSize=2).json()
    shared_practice.submit(b"x", "in between")
    second = shared_practice.call("ListSubmissions", pageSize=2, pageToken=first["nextPageToken"]).json()

    refs = [found["ref"] for page in (first, second) for found in page["submissions"]]
    assert list(-np.diff(refs)) == [1, 1, 1]


def test_an_unknown_competition_is_not_found(client, tmp_path):
    """404 for every call that names one."""
    api = client()
    path = write_submission(tmp_path / "submission.csv")

    for ask in (
        lambda: api.competition_list_files("digit-recogniser"),
        lambda: api.competition_submissions("digit-recogniser"),
        lambda: api.competition_submit(str(path), "x", "digit-recogniser", quiet=True),
    ):
        with pytest.raises(requests.HTTPError, match="Competition not found") as caught:
            ask()
        assert caught.value.response.status_code == 404


def test_rules_that_are_not_accepted_are_said(client, shared_practice, tmp_path):
    """403 with Kaggle's words for data and submissions, and the competition says that nobody entered."""
    shared_practice.fault("rules", -1)
    api = client()
    path = write_submission(tmp_path / "submission.csv")

    for ask in (
        lambda: api.competition_download_files(NAME, path=str(tmp_path), quiet=True),
        lambda: api.competition_submissions(NAME),
        lambda: api.competition_submit(str(path), "x", NAME, quiet=True),
    ):
        with pytest.raises(requests.HTTPError, match="must accept this competition's rules") as caught:
            ask()
        assert caught.value.response.status_code == 403
    assert shared_practice.call("GetCompetition").json()["userHasEntered"] is False
