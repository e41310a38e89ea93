"""The server's wire protocol, quota and stored submissions, and how it starts and ends."""

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from starlette.testclient import TestClient

from infra.practice import data, labelled, ledger, protocol
from infra.practice.__main__ import main
from infra.practice.app import build_app
from infra.practice.catalog import Offer
from infra.practice.options import PracticeOptions
from infra.practice.scoring import cut_score
from infra.practice.server import open_server
from mnist_core.spec import DIGIT_RECOGNIZER, DIGITS_MINI, SPECS


def zeros(spec=DIGITS_MINI):
    """Return a valid submission in which every label is 0."""
    return b"ImageId,Label\n" + b"".join(b"%d,0\n" % row for row in range(1, spec.test_rows + 1))


GOOD = zeros()


def test_every_call_requires_credentials(shared_practice):
    """Calls and faults are refused without them; the upload and the signed download need none."""
    for rpc in ("ListDataFiles", "CreateSubmission", "GetCompetition", "NoSuchCall"):
        path = f"/v1/competitions.CompetitionApiService/{rpc}"
        for auth in (None, ("practice", "wrong"), ("someone", shared_practice.key)):
            answer = shared_practice.request("POST", path, json={}, auth=auth)
            assert (answer.status_code, answer.json()["code"]) == (401, 401)
    for method in ("GET", "POST", "DELETE"):
        assert shared_practice.request(method, "/practice/faults", auth=None).status_code == 401
    assert shared_practice.request("GET", "/practice", auth=None).json()["competitions"] == list(SPECS)


def test_malformed_requests_are_answered(shared_practice):
    """Bad JSON, wrong types, unknown calls, refs, files and uploads get a 4xx in Kaggle's shape."""
    service = "/v1/competitions.CompetitionApiService/"
    for path, body, code in (
        ("NoSuchCall", b"{}", 404),
        ("ListDataFiles", b"[1]", 400),
        ("ListDataFiles", b"{half", 400),
        ("ListDataFiles", b'{"competitionName":"digit-recognizer","pageSize":"many"}', 400),
        ("GetSubmission", b'{"ref":1}', 404),
        ("DownloadDataFile", b'{"competitionName":"digit-recognizer","fileName":"../credentials.json"}', 404),
        ("CreateSubmission", b'{"competitionName":"digit-recognizer","blobFileTokens":"none"}', 400),
        ("StartSubmissionUpload", b'{"competitionName":"digit-recognizer","contentLength":99999999}', 400),
    ):
        answer = shared_practice.request("POST", service + path, data=body)
        assert (answer.status_code, answer.json()["code"]) == (code, code), path
    assert shared_practice.request("PUT", "/upload/none", data=b"x").status_code == 404


def test_an_upload_has_the_length_that_was_announced(shared_practice):
    """Another length is refused and cannot be submitted; the right one can, once."""
    started = shared_practice.call("StartSubmissionUpload", contentLength=5, fileName="s.csv").json()
    path = started["createUrl"].removeprefix(shared_practice.url)

    assert shared_practice.request("PUT", path, data=b"1234", auth=None).status_code == 400
    assert shared_practice.request("PUT", path, data=b"123456", auth=None).status_code == 400
    assert shared_practice.call("CreateSubmission", blobFileTokens=started["token"]).status_code == 400
    assert shared_practice.request("PUT", path, data=b"12345", auth=None).status_code == 200
    assert shared_practice.call("CreateSubmission", blobFileTokens=started["token"]).status_code == 200
    assert shared_practice.call("CreateSubmission", blobFileTokens=started["token"]).status_code == 400


def test_a_download_is_signed_and_can_be_resumed(shared_practice):
    """302 to an address that needs no credentials, with all headers that a resuming client asks for."""
    whole = shared_practice.archive.read_bytes()
    redirect = shared_practice.request(
        "POST",
        "/v1/competitions.CompetitionApiService/DownloadDataFiles",
        json={"competitionName": "digit-recognizer"},
        allow_redirects=False,
    )
    assert redirect.status_code == 302
    path = redirect.headers["Location"].removeprefix(shared_practice.url)
    assert path.startswith("/files/digit-recognizer/digit-recognizer.zip?sig=")

    head = shared_practice.request("HEAD", path, auth=None).headers
    assert (int(head["Content-Length"]), head["Accept-Ranges"]) == (len(whole), "bytes")
    assert "Content-Encoding" not in head
    assert head["Last-Modified"].endswith("GMT")

    wanted = {"Range": "bytes=19000000-", "If-Range": head["ETag"]}
    rest = shared_practice.request("GET", path, auth=None, headers=wanted)
    assert (rest.status_code, rest.content) == (206, whole[19_000_000:])
    assert rest.headers["Content-Range"] == f"bytes 19000000-{len(whole) - 1}/{len(whole)}"

    changed = shared_practice.request("GET", path, auth=None, headers={**wanted, "If-Range": '"other"'})
    assert (changed.status_code, changed.content) == (200, whole)
    beyond = {"Range": f"bytes={len(whole)}-"}
    assert shared_practice.request("GET", path, auth=None, headers=beyond).status_code == 416
    forged = path.split("=")[0] + "=" + "0" * 64
    assert shared_practice.request("GET", forged, auth=None).status_code == 403
    assert (
        shared_practice.request("GET", path.replace("digit-recognizer.zip", "x"), auth=None).status_code
        == 403
    )


def test_the_solution_is_never_written_or_served(start_practice):
    """No file of the home, packed or unpacked, holds the labels of test.csv in order, in any plain form."""
    server = start_practice()
    for name in DIGITS_MINI.files:
        assert server.call("DownloadDataFile", fileName=name).status_code == 200
    server.scored(server.submit(GOOD).json()["ref"])
    labels = data.solve(0, DIGITS_MINI).labels[:300]
    needles = [
        labels.tobytes(),
        *(labels.astype(kind).tobytes() for kind in ("u1", "<i2", "<i4", "<i8", ">i4", "<f4", "<f8")),
        *(join.join(map(str, labels)).encode() for join in ("", ",", ", ", " ", "\n", "\r\n")),
        *(
            end.join(f"{row},{label}" for row, label in enumerate(labels, 1)).encode()
            for end in ("\n", "\r\n")
        ),
    ]
    texts = {path: path.read_bytes() for path in server.home.rglob("*") if path.is_file()}
    connection = ledger.open_ledger(server.home / "split-0" / "submissions.sqlite3", 0)
    texts |= {
        ref: zlib.decompress(body) for ref, body in connection.execute("SELECT ref, body FROM submissions")
    }
    connection.close()

    assert len(texts) > 10
    for where, text in texts.items():
        assert not any(needle in text for needle in needles), where


def test_the_daily_limit_holds(start_practice):
    """The third of two submissions is refused in Kaggle's words; one that ended in ERROR did not count."""
    server = start_practice(daily_limit=2, score_seconds=0)

    assert server.submit(b"bad").status_code == 200
    assert server.submit(GOOD, "one").status_code == 200
    limits = server.call("GetSubmissionLimits").json()
    assert limits == {"numToday": 1, "numTotal": 1, "numAllowedNow": 1, "limitedByTotal": False}
    assert server.submit(GOOD, "two").status_code == 200
    refused = server.submit(GOOD, "three")

    assert refused.status_code == 400
    message = refused.json()["message"]
    assert message.startswith(
        "Submission not allowed: Your team has used its daily Submission allowance (2) today, "
        "please try again tomorrow UTC ("
    )
    assert 1 <= int(message.split("(")[-1].split()[0]) <= 24
    assert [found["description"] for found in server.submissions()] == ["two", "one", ""]
    assert server.call("GetSubmissionLimits").json()["numAllowedNow"] == 0


def test_the_limit_returns_with_the_next_day(monkeypatch, seed_practice_home, tmp_path):
    """Days are windows since the epoch, as long as asked."""
    clock = [100 * 3_600_000 - 1]  # a millisecond before a new hour
    monkeypatch.setattr(protocol, "now_ms", lambda: clock[0])
    server = open_server(
        seed_practice_home(tmp_path), Offer(DIGITS_MINI), PracticeOptions(daily_limit=1, day_seconds=3600)
    )

    def call(rpc, **fields):
        asked = {"competitionName": DIGITS_MINI.name, **fields}
        return asyncio.run(protocol.answer(server, rpc, asked, "http://x"))

    def submit():
        started = call("StartSubmissionUpload", contentLength=len(GOOD))
        ledger.store_upload(server.ledger, started["token"], GOOD)
        return call("CreateSubmission", blobFileTokens=started["token"])

    submit()
    with pytest.raises(protocol.Refusal, match=r"used its daily .* \(1 hours from now\)"):
        submit()
    clock[0] += 1
    assert call("GetSubmissionLimits")["numAllowedNow"] == 1
    submit()
    assert call("GetSubmissionLimits") == {
        "numToday": 1, "numTotal": 2, "numAllowedNow": 0, "limitedByTotal": False,
    }  # fmt: skip


def test_what_was_acknowledged_survives_kill_9(start_practice):
    """A submission whose reply was lost, uploaded bytes and the account are there after the crash."""
    server = start_practice(score_seconds=2, faults=("lost-reply:1",))
    started = server.call("StartSubmissionUpload", contentLength=len(GOOD), fileName="s.csv").json()
    path = started["createUrl"].removeprefix(server.url)
    server.request("PUT", path, data=GOOD, auth=None).raise_for_status()
    with pytest.raises(requests.ConnectionError):
        server.submit(GOOD, "lost reply")
    server.kill()
    again = start_practice(server.home, port=int(server.url.rsplit(":", 1)[1]), score_seconds=0)

    (found,) = again.submissions()

    right = int(np.count_nonzero(data.solve(0, DIGITS_MINI).labels == 0))
    assert (again.url, again.key, again.token) == (server.url, server.key, server.token)
    assert found["description"] == "lost reply"
    scored = again.scored(found["ref"])
    assert (scored["status"], scored["publicScore"]) == ("COMPLETE", cut_score(right, DIGITS_MINI.test_rows))
    assert again.call("CreateSubmission", blobFileTokens=started["token"]).json()["ref"] == found["ref"] + 1


def test_competitions_of_one_server_are_kept_apart(start_practice, seed_practice_home, tmp_path):
    """Each has its files, its solution, its quota and its list; a ref belongs to one of them."""
    home = seed_practice_home(seed_practice_home(tmp_path), DIGIT_RECOGNIZER.name)
    server = start_practice(home, daily_limit=1, score_seconds=0)
    first = server.submit(GOOD, "small").json()["ref"]
    assert server.submit(GOOD, "small").status_code == 400

    server.spec = DIGIT_RECOGNIZER
    assert server.submissions() == []
    second = server.submit(zeros(DIGIT_RECOGNIZER), "large").json()["ref"]

    assert second == first + 1
    assert [found["ref"] for found in server.submissions()] == [second]
    for ref, spec in ((first, DIGITS_MINI), (second, DIGIT_RECOGNIZER)):
        right = int(np.count_nonzero(data.solve(0, spec).labels == 0))
        assert server.scored(ref)["publicScore"] == cut_score(right, spec.test_rows)
    sizes = {file["name"]: file["totalBytes"] for file in server.call("ListDataFiles").json()["files"]}
    assert sizes == data.sizes(home / "split-0" / "digit-recognizer.zip")


def test_a_competition_that_cannot_be_opened_is_reported(monkeypatch, seed_practice_home, tmp_path):
    """Its first call gets a 500 with the file's name and the remedy; the others are served."""
    server = open_server(seed_practice_home(tmp_path / "home"), Offer(DIGITS_MINI), PracticeOptions())
    client = TestClient(build_app(server))
    client.auth = (server.credentials.username, server.credentials.key)
    monkeypatch.setattr(labelled, "MNIST", tmp_path / "absent.npz")

    answers = {
        spec.name: client.post(
            "/v1/competitions.CompetitionApiService/ListDataFiles", json={"competitionName": spec.name}
        )
        for spec in (DIGIT_RECOGNIZER, DIGITS_MINI)
    }

    assert answers["digits-mini"].status_code == 200
    assert answers["digit-recognizer"].status_code == 500
    assert "absent.npz: cannot read" in answers["digit-recognizer"].json()["message"]


def test_submissions_at_once_do_not_overdraw_the_quota(start_practice):
    """Of many requests at once for the last submission of the day, one succeeds."""
    server = start_practice(daily_limit=1)
    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(lambda number: server.submit(GOOD, str(number)).status_code, range(6)))

    assert sorted(codes) == [200, 400, 400, 400, 400, 400]
    assert len(server.submissions()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once(start_practice, number):
    """Also while a client waits for an answer that never comes."""
    server = start_practice(faults=("silent:1:ListSubmissions",))
    body = b'{"competitionName":"digits-mini"}'
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as waiting:
        waiting.sendall(
            b"POST /v1/competitions.CompetitionApiService/ListSubmissions HTTP/1.1\r\nHost: x\r\n"
            b"Authorization: Bearer " + server.token.encode() + b"\r\n"
            b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
        )
        while server.request("GET", "/practice/faults").json():
            time.sleep(0.02)
        started = time.monotonic()
        os.kill(server.pid, number)
        server.process.wait(timeout=60)

    assert time.monotonic() - started < 30


def test_its_output_says_how_to_use_it(shared_practice):
    """It names the address and the account's files, not the account; only their owner may read them."""
    server = shared_practice
    said = (server.home / "test-server.log").read_text()

    assert f"MNIST_KAGGLE={server.url}" in said
    assert f'MNIST_KAGGLE_TOKEN="$(cat {server.home / "access_token"})"' in said
    assert server.key not in said
    assert server.token not in said
    assert (server.home / "access_token").read_text() == server.token
    assert repr(server).count(server.key) == 0
    for name in ("credentials.json", "access_token"):
        assert (server.home / name).stat().st_mode & 0o777 == 0o600


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Run `python -m infra.practice`, which fails before it serves: exit status and stderr."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["mnist-practice", *map(str, options)])
        with pytest.raises(SystemExit) as exit_status:
            main()
        return exit_status.value.code, capsys.readouterr().err

    return run


def test_a_port_or_home_in_use_is_reported(run_command, shared_practice, tmp_path):
    """One line that names the port or the home, and exit 1."""
    port = shared_practice.url.rsplit(":", 1)[1]
    file = tmp_path / "file"
    file.touch()

    for home, asked, says in (
        (tmp_path, port, f"port {port}"),
        (shared_practice.home, 0, "already runs in home"),
        (file / "home", 0, "cannot be written"),
    ):
        code, said = run_command("--home", home, "--port", asked)
        assert (code, said.count("\n")) == (1, 1)
        assert says in said


def test_damaged_data_stop_the_start(run_command, monkeypatch, tmp_path):
    """One line that names the file, and exit 1."""
    damaged = tmp_path / "mnist.npz"
    damaged.write_bytes(b"not the digits")
    monkeypatch.setattr(labelled, "MNIST", damaged)

    code, said = run_command("--home", tmp_path / "home", "--port", 0)

    assert code == 1
    assert said.startswith(f"mnist-practice: {damaged} is damaged")


def test_a_damaged_ledger_stops_the_start(run_command, seed_practice_home, tmp_path):
    """One line that names the file of the submissions, and exit 1; the file stays."""
    home = seed_practice_home(tmp_path / "home")
    file = home / "split-0" / "submissions.sqlite3"
    file.write_bytes(b"no database, but more than a page of it" * 200)

    code, said = run_command("--home", home, "--port", 0)

    assert code == 1
    assert f"{file} does not hold this server's submissions" in said
    assert file.exists()


@pytest.mark.parametrize(
    "fault", ["no-such", "slow:0", "slow:many", "slow:1:NoSuchCall", "late-list:1:upload"]
)
def test_an_unknown_fault_is_a_usage_error(run_command, tmp_path, fault):
    """Exit 2, and nothing is created."""
    code, said = run_command("--home", tmp_path / "home", "--fault", fault)

    assert code == 2
    assert "--fault" in said
    assert not (tmp_path / "home").exists()


def test_an_unknown_competition_is_a_usage_error(run_command, tmp_path):
    """Exit 2, and the message lists the competitions that exist."""
    code, said = run_command("--home", tmp_path / "home", "--competition", "titanic")

    assert code == 2
    assert "digit-recognizer" in said
    assert not (tmp_path / "home").exists()


def test_a_ledger_of_an_older_format_is_refused(run_command, seed_practice_home, tmp_path):
    """Submissions that an earlier version stored are not misread: the message names file and remedy."""
    home = seed_practice_home(tmp_path / "home")
    file = home / "split-0" / "submissions.sqlite3"
    with contextlib.closing(sqlite3.connect(file)) as old:
        old.execute("CREATE TABLE submissions (ref INTEGER PRIMARY KEY)")

    code, said = run_command("--home", home, "--port", 0)

    assert code == 1
    assert f"{file} does not hold this server's submissions (its format is 0, not 2)" in said
    assert "move it away" in said
