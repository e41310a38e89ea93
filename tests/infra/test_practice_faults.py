"""Each fault does what its name says, as often as asked."""

import functools
import time

import pytest
import requests

from infra.practice import data
from infra.practice.faults import KINDS


@functools.cache
def good():
    """Return a submission that is right in every row."""
    rows = (b"%d,%d\n" % (row, label) for row, label in enumerate(data.solve(0).labels, 1))
    return b"ImageId,Label\n" + b"".join(rows)


@pytest.fixture
def server(shared_practice):
    """The shared server, without faults before and after."""
    shared_practice.clear_faults()
    yield shared_practice
    shared_practice.clear_faults()


def newest(server):
    """Return the description of the newest listed submission."""
    found = server.submissions()
    return found[0]["description"] if found else None


def test_rate_limit(server):
    """429 in the nested shape with Retry-After, twice, then the answer."""
    server.fault("rate-limit", 2, seconds=7)

    for _ in range(2):
        answer = server.call("ListDataFiles")
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
        assert answer.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
        assert answer.json()["error"]["code"] == 429
    assert server.call("ListDataFiles").status_code == 200


def test_notebooks(server):
    """A competition that takes notebooks alone says so on its page, and refuses a file in its own words."""
    server.fault("notebooks", -1)

    refused = server.submit(good())

    assert server.call("GetCompetition").json()["isKernelsSubmissionsOnly"] is True
    assert (refused.status_code, "only accepts Submissions from Notebooks" in refused.text) == (400, True)
    server.clear_faults()
    assert server.call("GetCompetition").json()["isKernelsSubmissionsOnly"] is False


@pytest.mark.parametrize("code", [500, 502, 503])
def test_server_error(server, code):
    """A 5xx in the nested shape; nothing happened behind it."""
    server.fault("server-error", code=code, rpc="CreateSubmission")

    answer = server.submit(good(), f"server error {code}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (code, code)
    assert newest(server) != f"server error {code}"


def test_rules(server):
    """403 in the flat shape, and the competition says so."""
    server.fault("rules")

    assert server.call("GetCompetition").json()["userHasEntered"] is False
    answer = server.call("ListDataFiles")
    assert (answer.status_code, answer.json()["code"]) == (403, 403)
    assert "must accept this competition's rules" in answer.json()["message"]
    assert server.call("GetCompetition").json()["userHasEntered"] is True


def test_web_page(server):
    """200 with a page instead of JSON."""
    server.fault("web-page")

    answer = server.call("ListSubmissions")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_cut_json(server):
    """200 with half of the JSON; what was asked for is done."""
    server.fault("cut-json", rpc="CreateSubmission")

    answer = server.submit(good(), "cut json")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert newest(server) == "cut json"


def test_failed_upload(server):
    """The PUT answers 500 after it was read, and its bytes are not there."""
    server.fault("failed-upload")
    started = server.call("StartSubmissionUpload", contentLength=len(good()), fileName="s.csv").json()
    path = started["createUrl"].removeprefix(server.url)

    assert server.request("PUT", path, data=good(), auth=None).status_code == 500
    assert server.call("CreateSubmission", blobFileTokens=started["token"]).status_code == 400


def test_lost_reply(server):
    """The submission is stored and the connection ends without an answer."""
    server.fault("lost-reply")

    with pytest.raises(requests.ConnectionError, match="without response"):
        server.submit(good(), "lost reply")

    assert newest(server) == "lost reply"


def test_reset(server):
    """The connection is reset and nothing is stored."""
    server.fault("reset", rpc="CreateSubmission")

    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        server.submit(good(), "reset")

    assert newest(server) != "reset"


def test_silent(server):
    """No answer until the client gives up; others are served meanwhile."""
    server.fault("silent")

    with pytest.raises(requests.ReadTimeout):
        server.request(
            "POST",
            "/v1/competitions.CompetitionApiService/ListSubmissions",
            json={"competitionName": "digit-recognizer"},
            timeout=0.5,
        )

    assert server.call("ListSubmissions").status_code == 200


def test_slow(server):
    """The answer comes, late."""
    server.fault("slow", seconds=0.6)
    started = time.monotonic()

    assert server.call("ListDataFiles").status_code == 200

    assert time.monotonic() - started >= 0.6


def test_cut_download(server):
    """Half of the body, then the connection is closed; the same for a resumed download."""
    server.fault("cut-download", 2)

    for headers in ({}, {"Range": "bytes=10000000-"}):
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
            server.request(
                "POST",
                "/v1/competitions.CompetitionApiService/DownloadDataFiles",
                json={"competitionName": "digit-recognizer"},
                headers=headers,
            )
    assert server.call("DownloadDataFiles").status_code == 200


def test_score_error(server):
    """A valid file ends in ERROR, with the requested text."""
    server.fault("score-error", text="Something broke")

    found = server.scored(server.submit(good()).json()["ref"])

    assert (found["status"], found["errorDescription"], found["publicScore"]) == (
        "ERROR",
        "Something broke",
        "",
    )
    assert server.scored(server.submit(good()).json()["ref"])["publicScore"] == "1.00000"


def test_score_never(server):
    """The submission stays PENDING."""
    server.fault("score-never")
    ref = server.submit(good()).json()["ref"]
    after = server.submit(good()).json()["ref"]

    server.scored(after)

    assert server.call("GetSubmission", ref=ref).json()["status"] == "PENDING"


def test_late_list(server):
    """The list does not have the newest submission for a while, or until faults are cleared."""
    server.fault("late-list", seconds=600)
    ref = server.submit(good(), "very late").json()["ref"]

    assert newest(server) != "very late"
    assert server.call("GetSubmission", ref=ref).json()["description"] == "very late"
    server.clear_faults()
    assert newest(server) == "very late"

    server.fault("late-list", seconds=0.5)
    server.submit(good(), "late")
    deadline = time.monotonic() + 60
    while newest(server) != "late":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_low_score(server):
    """The score is lower by this number of rows."""
    server.fault("low-score", wrong=156)

    assert server.scored(server.submit(good()).json()["ref"])["publicScore"] == "0.99442"


@pytest.mark.parametrize("code", [302, 307, 308])
def test_redirect(server, code):
    """Another address for the request that submits; nothing is stored until it is sent there."""
    server.fault("redirect", code=code)

    answer = server.submit(good(), f"moved {code}")

    assert (answer.history[0].status_code, newest(server) == f"moved {code}") == (code, code != 302)


def test_forgotten(server):
    """What the server had is not found by its number, and not listed."""
    ref = server.submit(good(), "an old one").json()["ref"]
    server.fault("forgotten", count=2)

    assert server.call("GetSubmission", ref=ref).status_code == 404
    assert server.submissions() == []
    assert server.call("GetSubmission", ref=ref).json()["description"] == "an old one"


def test_same_page(server):
    """The page that follows is the same one again."""
    server.submit(good(), "the newest")
    server.fault("same-page", count=2)

    first = server.call("ListSubmissions", pageSize=1).json()
    second = server.call("ListSubmissions", pageSize=1, pageToken=first["nextPageToken"]).json()

    assert [one["ref"] for one in first["submissions"]] == [one["ref"] for one in second["submissions"]] != []
    assert first["nextPageToken"] == second["nextPageToken"]


def test_new_status(server):
    """The list has a word for a state that its clients do not know."""
    server.submit(good())
    server.fault("new-status")

    assert server.call("ListSubmissions").json()["submissions"][0]["status"] == "RESCORING"
    assert server.call("ListSubmissions").json()["submissions"][0]["status"] in ("PENDING", "COMPLETE")


def test_no_score(server):
    """It is complete, its score is empty, and the leaderboard ranks the others."""
    server.fault("no-score")

    assert server.scored(server.submit(good()).json()["ref"])["publicScore"] == ""
    assert server.call("GetLeaderboard").status_code == 200


def test_cut_description(server):
    """Only the beginning of the description is kept."""
    server.fault("cut-description", length=5)

    server.submit(good(), "a long description")

    assert newest(server) == "a lon"


def test_a_refused_submission_spends_no_fault(server):
    """A fault of scoring waits for a submission that is stored."""
    server.fault("low-score")

    assert server.call("CreateSubmission", blobFileTokens="none").status_code == 400

    assert [fault["name"] for fault in server.request("GET", "/practice/faults").json()] == ["low-score"]


def test_a_wrong_account_spends_no_fault(server):
    """Credentials are checked before faults strike."""
    server.fault("server-error")

    path = "/v1/competitions.CompetitionApiService/ListDataFiles"
    assert server.request("POST", path, json={}, auth=None).status_code == 401
    assert server.call("ListDataFiles").status_code == 503


def test_faults_queue_up_and_can_be_listed_and_cleared(server):
    """Each strikes its own target; -1 strikes until it is cleared."""
    server.fault("server-error", -1, rpc="GetSubmissionLimits")
    server.fault("rate-limit", rpc="ListDataFiles")

    listed = server.request("GET", "/practice/faults").json()
    assert [(fault["name"], fault["count"], fault["rpc"]) for fault in listed] == [
        ("server-error", -1, "GetSubmissionLimits"),
        ("rate-limit", 1, "ListDataFiles"),
    ]
    codes = [server.call(rpc).status_code for rpc in ("ListDataFiles", "ListDataFiles", "ListSubmissions")]
    assert codes == [429, 200, 200]
    assert [server.call("GetSubmissionLimits").status_code for _ in range(3)] == [503, 503, 503]
    server.clear_faults()
    assert server.call("GetSubmissionLimits").status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        {"name": "no-such"},
        {"name": "slow", "count": 0},
        {"name": "slow", "count": "2"},
        {"name": "slow", "rpc": "NoSuchCall"},
        {"name": "slow", "seconds": "long"},
        {"name": "slow", "wrong": 3},
        {"name": "late-list", "rpc": "ListSubmissions"},
        {},
    ],
)
def test_an_invalid_fault_is_refused(server, fault):
    """400, and the message says what is allowed."""
    answer = server.request("POST", "/practice/faults", json=fault)

    assert answer.status_code == 400
    assert "fault" in answer.json()["message"]


def test_every_fault_has_its_test():
    """A new fault comes with a test of the same name."""
    assert [name for name in KINDS if f"test_{name.replace('-', '_')}" not in globals()] == []
