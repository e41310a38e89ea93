"""The competition behind a few calls: download, quota, submit_once, wait_for_score.

Kaggle's own client does the talking, to kaggle.com and to the practice competition alike; the two
differ by address and credentials only. What this module adds: timeouts on every call, retries where
a call can be repeated, credentials that are looked up before the client is imported (its package
logs in when it is imported), and errors that say what to do.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import shutil
import sys
import tempfile
import time
import types
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from flows.settings import Settings, SettingsError
from flows.store import free_bytes
from mnist_core.errors import MnistError

LIVE_URL = "https://api.kaggle.com"
FILES = ("train.csv", "test.csv", "sample_submission.csv")
TRAIN_ROWS, TEST_ROWS = 42_000, 28_000
CONNECT_TIMEOUT_S = 5.0
PLACE_DIGITS = 16
"""Hex digits of the data digest that name a place."""
KEEP_DATA_S = 7 * 86400
"""Seconds for which files stay that the competition has replaced."""
LOOK_AGAIN_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Waits before the list of submissions is asked again after an unclear answer."""

Progress = Callable[[int, int, str], None]


class CompetitionError(MnistError):
    """The competition's server refused, failed or could not be reached.

    Attributes:
        answered: whether the server itself said no, so that it did nothing.
        submission: `ref`, `status`, `public_score`, `posted` of the submission it is about, where it is one.
    """

    def __init__(
        self,
        problem: str,
        remedy: str = "",
        *,
        retryable: bool = False,
        answered: bool = False,
        submission: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(problem, remedy, retryable=retryable)
        self.answered = answered
        self.submission = submission


class QuotaSpentError(CompetitionError):
    """Today's submissions are used up; nothing was posted."""


class SubmissionUnknownError(CompetitionError):
    """A submission was sent, and neither an answer nor the list tells whether it arrived."""


class SubmissionRefusedError(CompetitionError):
    """The competition took the file and ended its submission as ERROR."""


@dataclass(frozen=True)
class Credentials:
    """What the client logs in with: a token, or a name and a key."""

    source: str
    username: str | None = None
    key: SecretStr | None = None
    token: SecretStr | None = None


@dataclass(frozen=True)
class Data:
    """The competition's files on this machine.

    Attributes:
        folder: holds train.csv, test.csv and sample_submission.csv.
        digest: sha256, in hex, over the sha256 of train.csv and test.csv.
    """

    folder: Path
    digest: str

    @property
    def train_csv(self) -> Path:
        """The 42,000 labelled rows."""
        return self.folder / "train.csv"

    @property
    def test_csv(self) -> Path:
        """The 28,000 rows without labels."""
        return self.folder / "test.csv"


@dataclass(frozen=True)
class Submission:
    """A submission as the server lists it.

    Attributes:
        status: `PENDING`, `COMPLETE` or `ERROR`.
        public_score: share of rows that are right, 0..1, cut to five decimals; None while unknown.
        posted: whether this call made it, rather than finding it.
    """

    ref: int
    message: str
    status: str
    public_score: float | None
    error: str
    posted: bool = False


class Competition:
    """One competition on one server.

    Args:
        api: Kaggle's client, made by `connect`.
        name: the competition, as in its URL.
        server: `kaggle`, `practice`, or host and port of a URL.
        home: downloads lie below it.
        url: where the server answers.
    """

    def __init__(self, api: Any, name: str, server: str, home: Path, url: str) -> None:
        self._api = api
        self.name = name
        self.server = server
        self.url = url
        self._folder = home / "data" / server.replace(":", "_") / name

    def place(self, data: Data) -> str:
        """`<server>/<competition>/<data digest>`, under which versions of these data live."""
        return f"{self.server.replace(':', '_')}/{self.name}/{data.digest[:PLACE_DIGITS]}"

    # The account

    def has_entered(self) -> bool:
        """Whether the account takes part, which means that it has accepted the rules."""
        with self._explained("read the page"):
            return bool(self._api.get_competition(self.name).user_has_entered)

    # Data

    def download(self, progress: Progress | None = None) -> Data:
        """The competition's files, downloaded unless the server's list of files is the one of last time.

        Raises:
            CompetitionError: the server failed, or its zip is cut, unsafe or incomplete.
        """
        with self._explained("list the files"):
            files = self._api.competition_list_files(self.name, page_size=100).files
        listed = {file.name: [file.total_bytes, str(file.creation_date)] for file in files}
        missing = [name for name in FILES if name not in listed]
        if missing:
            raise CompetitionError(
                f"competition {self.name} has no {' and no '.join(missing)}; "
                "MNIST_COMPETITION must name digit-recognizer or one with the same files"
            )
        kept = self._kept(listed)
        if kept is not None:
            return kept
        with _disk_explained(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # one download at a time; the next finds what it brought
                return self._kept(listed) or self._download_anew(listed, progress)

    def _kept(self, listed: dict[str, list[Any]]) -> Data | None:
        """The files of last time, where the server still lists the same ones and no byte has changed."""
        try:
            record = json.loads((self._folder / "current.json").read_text())
            folder = self._folder / record["digest"][:PLACE_DIGITS]
            same = record["listed"] == listed and data_digest(folder) == record["digest"]
        except (OSError, ValueError, KeyError):
            return None
        return Data(folder, record["digest"]) if same else None

    def _download_anew(self, listed: dict[str, list[Any]], progress: Progress | None) -> Data:
        for leftover in self._folder.glob("unpack-*"):  # of a process that was killed
            shutil.rmtree(leftover)
        needed = 2 * sum(size for size, _ in listed.values())
        if free_bytes(self._folder) < needed:
            raise CompetitionError(
                f"{self._folder}: less than {needed // 1_000_000} MB free; make room, or set MNIST_HOME"
            )
        partial = self._folder / "partial"  # kept between tries: the client resumes a download that was cut
        with self._explained(f"download {self.name}.zip"):
            self._api.download_progress = progress
            self._api.competition_download_files(self.name, path=str(partial), force=False, quiet=True)
        archive = partial / f"{self.name}.zip"
        unpacked = Path(tempfile.mkdtemp(dir=self._folder, prefix="unpack-"))
        try:
            _unpack(archive, unpacked)
            digest = data_digest(unpacked)
            folder = self._folder / digest[:PLACE_DIGITS]
            shutil.rmtree(folder, ignore_errors=True)  # files that were changed, else they would be kept
            unpacked.rename(folder)
        except CompetitionError:
            archive.unlink(missing_ok=True)  # a later try must not find the same bad file
            raise
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
        record = self._folder / "current.json.new"
        record.write_text(json.dumps({"digest": digest, "listed": listed}))
        record.replace(self._folder / "current.json")
        archive.unlink(missing_ok=True)
        for other in self._folder.glob(
            "?" * PLACE_DIGITS
        ):  # earlier data, which no running job reads any more
            if other != folder and other.stat().st_mtime < time.time() - KEEP_DATA_S:
                shutil.rmtree(other, ignore_errors=True)
        return Data(folder, digest)

    # Submissions

    def quota(self) -> int:
        """How many submissions the server takes now."""
        with self._explained("read the quota"):
            return int(self._api.competition_get_submission_limits(self.name).num_allowed_now)

    def submissions(self) -> Iterator[Submission]:
        """All submissions of the team, page by page, the newest first."""
        token = ""
        while True:
            with self._explained("list the submissions"):
                page, token = self._api.list_page(self.name, token)
            yield from map(_submission, page)
            if not token:
                return

    def find(self, token: str) -> Submission | None:
        """The submission whose description carries a token; None where the server has none."""
        return next((s for s in self.submissions() if token in s.message), None)

    def submission(self, ref: int) -> Submission:
        """One submission, as the server has it now."""
        with self._explained(f"read submission {ref}"):
            return _submission(self._api.get_submission(ref))

    def submit_once(self, csv: Path, title: str, hold: Callable[[], None] = lambda: None) -> Submission:
        """Post a submission, unless the server has one of the same content: then that one is adopted.

        The description carries a token of competition and content. The server's whole list is asked
        before posting, and again after an answer that leaves open whether it was stored.

        Args:
            csv: the checked submission.csv.
            title: how the description begins, such as the version's name.
            hold: called right before the request that makes the submission, after the upload, and while a
                lost answer is looked for; what it raises before the request keeps that from being sent.

        Raises:
            QuotaSpentError: today's submissions are used up.
            SubmissionUnknownError: the answer was lost and the list does not show the submission.
            CompetitionError: it was refused, or the upload failed; nothing was created.
        """
        token = submission_token(self.name, csv.read_bytes())
        found = self.find(token)
        if found is not None:
            return found
        if self.quota() < 1:
            raise QuotaSpentError(f"no submission is left today; the quota returns at {quota_returns()}")
        message = f"{title} {token}"
        self._api.post_reached = False
        self._api.hold = hold
        try:
            with self._explained("submit"):
                answer = self._api.competition_submit(str(csv), message, self.name, quiet=True)
        except CompetitionError as error:
            if error.answered or not self._api.post_reached:
                raise
            return self._settle(token, error, hold)
        if not answer.ref:
            cause = CompetitionError(f"{self.name}: the upload failed, nothing was submitted", retryable=True)
            if not self._api.post_reached:
                raise cause
            return self._settle(token, CompetitionError(f"{self.name}: an answer without a ref"), hold)
        return Submission(int(answer.ref), message, "PENDING", None, "", posted=True)

    def _settle(self, token: str, cause: CompetitionError, hold: Callable[[], None]) -> Submission:
        for wait in LOOK_AGAIN_S:
            time.sleep(wait)
            with contextlib.suppress(MnistError):  # another run may have found it, and closed the intent
                hold()
            try:
                found = self.find(token)
            except CompetitionError:
                continue
            if found is not None:
                return Submission(**{**vars(found), "posted": True})
        raise SubmissionUnknownError(
            f"the submission was sent, and its answer was lost ({cause}); the list of submissions does not "
            "show it. The next run looks for it before it posts anything",
            retryable=True,
            submission={"ref": None, "status": "UNKNOWN", "public_score": None, "posted": True},
        ) from cause

    def wait_for_score(self, ref: int, timeout_s: float, poll_s: float = 0.25) -> Submission:
        """A submission once it is scored or refused; still `PENDING` where that takes too long.

        Raises:
            CompetitionError: the server does not answer until the time is up, or refuses.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                submission = self.submission(ref)
            except CompetitionError as error:
                if not error.retryable or time.monotonic() >= deadline:
                    raise
            else:
                if submission.status != "PENDING" or time.monotonic() >= deadline:
                    return submission
            time.sleep(poll_s)
            poll_s = min(poll_s * 1.5, 15.0)

    @contextlib.contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        import requests

        where = f"{self.server}: can not {action} of {self.name}"
        try:
            yield
        except requests.HTTPError as error:
            raise _refused(where, self.name, error) from None
        except json.JSONDecodeError:  # requests' own derives from it
            raise CompetitionError(
                f"{where}: it answered with something else than JSON (a web page, or a cut reply); "
                "check MNIST_KAGGLE, or try again later",
                retryable=True,
            ) from None
        except requests.RequestException as error:
            cause = getattr(error.args[0] if error.args else None, "reason", None) or error
            raise CompetitionError(
                f"{where}: no answer ({type(cause).__name__}); is the server up and the network there? "
                "try again later",
                retryable=True,
            ) from None
        except (ValueError, KeyError) as error:
            raise CompetitionError(
                f"{where}: an answer that Kaggle's client does not understand "
                f"({type(error).__name__}: {error}); try again later, or update `kaggle`",
                retryable=True,
            ) from None


def submission_token(competition: str, csv: bytes) -> str:
    """What marks a submission's description: 24 hex digits of sha256 over competition and content."""
    return "mnist-nightly:" + hashlib.sha256(competition.encode() + b"\0" + csv).hexdigest()[:24]


def quota_returns(now: datetime | None = None) -> str:
    """When Kaggle's daily quota returns: its days are UTC."""
    now = now or datetime.now(UTC)
    return f"{(now + timedelta(days=1)).date().isoformat()} 00:00 UTC"


def data_digest(folder: Path) -> str:
    """sha256, in hex, over the sha256 of train.csv and test.csv in a folder."""
    total = hashlib.sha256()
    for name in ("train.csv", "test.csv"):
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def connect(settings: Settings) -> Competition:
    """The competition that the settings name, with credentials; no call is made yet.

    `practice` finds or starts the practice competition of this home.

    Raises:
        SettingsError: credentials are missing; the message names their variables.
    """
    server = server_name(settings)
    if settings.kaggle == "practice":
        from infra.practice import find_or_start

        practice = find_or_start(
            settings.home / "practice", split_seed=settings.split_seed, daily_limit=settings.daily_limit
        )
        url = practice.url
        credentials = Credentials("practice", practice.username, SecretStr(practice.key))
    else:
        url = LIVE_URL if settings.kaggle == "live" else settings.kaggle
        credentials = find_credentials()
    return Competition(_client(url, credentials, settings), settings.competition, server, settings.home, url)


def server_name(settings: Settings) -> str:
    """The server that MNIST_KAGGLE means: `kaggle`, `practice`, or host and port of a URL."""
    names = {"live": "kaggle", "practice": "practice"}
    return names.get(settings.kaggle) or urlsplit(settings.kaggle).netloc


def find_credentials() -> Credentials:
    """Kaggle's credentials, in the order in which its own client looks for them.

    Raises:
        SettingsError: there are none, or one is empty.
    """
    config = Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle")
    token = os.environ.get("KAGGLE_API_TOKEN", "").strip()
    if token and Path(token).is_file():
        token = Path(token).read_text().strip()
    if token:
        return Credentials("KAGGLE_API_TOKEN", token=SecretStr(token))
    for name in ("access_token", "access_token.txt"):
        path = Path.home() / ".kaggle" / name
        if path.is_file() and (token := path.read_text().strip()):
            return Credentials(str(path), token=SecretStr(token))
    username = os.environ.get("KAGGLE_USERNAME", "").strip()
    key = os.environ.get("KAGGLE_KEY", "").strip()
    if username and key:
        return Credentials("KAGGLE_USERNAME and KAGGLE_KEY", username, SecretStr(key))
    if username or key:
        given, lacking = ("KAGGLE_USERNAME", "KAGGLE_KEY") if username else ("KAGGLE_KEY", "KAGGLE_USERNAME")
        raise SettingsError(f"{given} is set and {lacking} is not; set both, or KAGGLE_API_TOKEN")
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
        entry = json.loads((config / "kaggle.json").read_text())
        username, key = entry["username"].strip(), entry["key"].strip()
        if username and key:
            return Credentials(str(config / "kaggle.json"), username, SecretStr(key))
    raise SettingsError(
        "no Kaggle credentials: set KAGGLE_API_TOKEN (kaggle.com → Settings → API → create a token), or "
        f"KAGGLE_USERNAME and KAGGLE_KEY, or put kaggle.json into {config}"
    )


def _client(url: str, credentials: Credentials, settings: Settings) -> Any:
    """Kaggle's client, pointed at a server, with our credentials and timeouts."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    extended = _import_kaggle()
    from kagglesdk.competitions.types.competition_api_service import (
        ApiGetCompetitionRequest,
        ApiGetSubmissionRequest,
        ApiListSubmissionsRequest,
    )
    from kagglesdk.kaggle_client import KaggleClient
    from kagglesdk.kaggle_env import KaggleEnv

    key = credentials.key and credentials.key.get_secret_value()
    token = credentials.token and credentials.token.get_secret_value()
    timeout = (CONNECT_TIMEOUT_S, settings.timeout_s)
    # Loopback is never reached through a proxy.
    trust_environment = urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")

    class Adapter(HTTPAdapter):
        def send(self, *args: Any, **options: Any) -> requests.Response:
            options["timeout"] = timeout
            return super().send(*args, **options)

    # Every call may be repeated but the one that makes a submission; Retry-After is honoured.
    repeat = Retry(
        total=3,
        read=1,
        backoff_factor=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        raise_on_status=False,
        retry_after_max=120,
    )

    class Api(extended.KaggleApi):  # type: ignore[name-defined]
        download_progress: Progress | None = None
        hold: Callable[[], None] | None = None
        post_reached = False
        """Whether the call that makes a submission was begun; before it nothing is created."""

        def build_kaggle_client(self) -> Any:
            client = KaggleClient(
                env=KaggleEnv.PROD,
                username=credentials.username,
                password=key,
                api_token=token,
            )
            http = client.http_client()
            http._endpoint = url
            if token is None:
                http._signed_in = True  # else a token in the environment would win over name and key
            http._init_session()
            session = http._session
            if token is None:
                session.auth = (credentials.username, key)
            session.trust_env = trust_environment
            session.mount(url, Adapter(max_retries=repeat))
            session.mount("https://", Adapter(max_retries=repeat))
            session.mount("http://", Adapter(max_retries=repeat))
            session.mount(f"{url}/v1/competitions.CompetitionApiService/CreateSubmission", Adapter())
            return client

        def download_file(
            self, response: Any, outfile: str, http_client: Any, *args: Any, **options: Any
        ) -> None:
            total = int(response.headers.get("Content-Length") or 0)
            chunks = response.iter_content

            def counted(size: int) -> Iterator[bytes]:
                done = 0
                for chunk in chunks(size):
                    done += len(chunk)
                    if self.download_progress is not None:
                        self.download_progress(done, total, "")
                    yield chunk

            response.iter_content = counted
            super().download_file(
                response, outfile, http_client, *args, **options, timeout=settings.timeout_s
            )

        def upload_complete(self, path: str, url: str, quiet: bool, resume: bool = False) -> Any:
            # The client's own has no timeout and prints its errors; an upload alone creates nothing.
            for wait in (1.0, 3.0, 0.0):
                if self._put(path, url):
                    if self.hold is not None:
                        self.hold()  # the request that makes the submission comes next
                    self.post_reached = True
                    return extended.ResumableUploadResult.COMPLETE
                time.sleep(wait)
            return extended.ResumableUploadResult.FAILED

        def _put(self, path: str, url: str) -> bool:
            with contextlib.suppress(requests.RequestException), requests.Session() as session:
                session.trust_env = trust_environment
                answer = session.put(url, data=Path(path).read_bytes(), timeout=timeout)
                return answer.status_code in (200, 201)
            return False

        def list_page(self, competition: str, page_token: str) -> tuple[list[Any], str]:
            request = ApiListSubmissionsRequest()
            request.competition_name = competition
            request.page_size = 100
            request.page_token = page_token
            with self.build_kaggle_client() as kaggle:
                answer = kaggle.competitions.competition_api_client.list_submissions(request)
            return list(answer.submissions or []), answer.next_page_token or ""

        def get_competition(self, competition: str) -> Any:
            request = ApiGetCompetitionRequest()
            request.competition_name = competition
            with self.build_kaggle_client() as kaggle:
                return kaggle.competitions.competition_api_client.get_competition(request)

        def get_submission(self, ref: int) -> Any:
            request = ApiGetSubmissionRequest()
            request.ref = ref
            with self.build_kaggle_client() as kaggle:
                return kaggle.competitions.competition_api_client.get_submission(request)

    return Api()


def _import_kaggle() -> Any:
    """`kaggle.api.kaggle_api_extended`, without what importing the package `kaggle` does by itself.

    The package logs in when it is imported: it may call kaggle.com, without a timeout and with
    whatever credentials lie about, print help and close standard input. A module that stands in for
    the package, with the package's path, lets its parts be imported alone.
    """
    if "kaggle" not in sys.modules:
        spec = importlib.util.find_spec("kaggle")
        assert spec is not None
        stand_in = types.ModuleType("kaggle")
        stand_in.__path__ = list(spec.submodule_search_locations or [])
        vars(stand_in)["__version__"] = importlib.metadata.version("kaggle")
        sys.modules["kaggle"] = stand_in
    with contextlib.redirect_stdout(io.StringIO()):
        import kaggle.api.kaggle_api_extended as extended
    return extended


def _refused(where: str, competition: str, error: Any) -> CompetitionError:
    """What an HTTP error means, in the server's words and with the remedy."""
    response = error.response
    status = response.status_code if response is not None else 0
    words = _server_words(response) or str(getattr(response, "reason", ""))  # the error has a signed URL
    if status == 401:
        remedy = (
            "it does not take these credentials; check KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY"
        )
    elif status == 403:
        remedy = (
            f"accept the rules at https://www.kaggle.com/competitions/{competition}/rules, "
            "and check the spelling of MNIST_COMPETITION"
        )
    elif status == 404:
        remedy = "no such competition or file; check the spelling of MNIST_COMPETITION"
    elif status == 400 and "daily submission" in words.lower():
        return QuotaSpentError(f"{where}: {words}; the quota returns at {quota_returns()}", answered=True)
    elif status in (408, 429) or not 400 <= status < 500:  # an error within a 200 tells nothing for sure
        return CompetitionError(
            f"{where}: HTTP {status} {words}; try again later", retryable=True, answered=status == 429
        )
    else:
        remedy = "this request will not succeed as it is"
    return CompetitionError(f"{where}: HTTP {status} {words}; {remedy}", answered=True)


def _server_words(response: Any) -> str:
    """The message in either shape of Kaggle's errors, on one line and not too long."""
    if response is None:
        return ""
    try:
        body = response.json()
        words = body.get("message") or body.get("error", {}).get("message") or ""
    except (ValueError, AttributeError):
        words = ""
    return " ".join(str(words).split())[:300]


def _submission(raw: Any) -> Submission:
    score = raw.public_score
    return Submission(
        ref=int(raw.ref),
        message=raw.description or "",
        status=str(getattr(raw.status, "name", raw.status)).upper().rsplit(".", 1)[-1],
        public_score=float(score) if score not in (None, "") else None,
        error=raw.error_description or "",
    )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the three files of a zip that holds them, whole, and nothing that leaves its folder."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            names = bundle.namelist()
            unsafe = [
                n for n in names if n.startswith(("/", "\\")) or ".." in Path(n.replace("\\", "/")).parts
            ]
            missing = [name for name in FILES if name not in names]
            if unsafe or missing:
                fault = f"the path {unsafe[0]!r} leaves it" if unsafe else f"{missing[0]} is missing"
                raise CompetitionError(f"{archive}: {fault}; nothing was unpacked, check MNIST_COMPETITION")
            for name in FILES:
                with bundle.open(name) as source, (folder / name).open("xb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)  # reading to the end checks the CRC
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise CompetitionError(f"{archive}: {error}; it is removed, run again", retryable=True) from None


@contextlib.contextmanager
def _disk_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CompetitionError(
            f"{error.filename or folder}: {error.strerror or error}; make room there, or set MNIST_HOME to a "
            "folder you can write"
        ) from error
