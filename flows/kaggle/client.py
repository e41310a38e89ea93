"""Kaggle's own client, pointed at one competition on one server.

It has what Kaggle's packages leave out: a timeout on every request, retries of every request that may be
repeated, credentials that we found ourselves, and errors that say what to do.
"""

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import sys
import time
import types
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from flows.kaggle.credentials import Credentials
from flows.kaggle.errors import CompetitionError, QuotaSpentError
from flows.records import Record, Status, Submission
from mnist_core.progress import Progress
from mnist_core.spec import DIGITS_MINI

CONNECT_TIMEOUT_S = 5.0
UPLOAD_WAITS_S = (1.0, 3.0)
"""Waits before an upload that failed is tried again."""
PAGE_SIZE = 100
"""Entries of one page of a list; the most that Kaggle gives."""
SERVICE = "v1/competitions.CompetitionApiService"


class ListedFile(Record):
    """A file of the competition as the server lists it.

    Attributes:
        size: in bytes.
        created: when the server got it.
    """

    name: str
    size: int
    created: str


class Client:
    """One competition on one server.

    Args:
        url: where the server answers.
        server: its name in messages and keys: `kaggle`, `practice`, or host and port.
        competition: the competition's name, as in its URL.
        credentials: what to log in with.
        timeout_s: how long the server may be silent.
        connect_timeout_s: how long it may take to accept a connection.
    """

    def __init__(
        self,
        url: str,
        server: str,
        competition: str,
        credentials: Credentials,
        timeout_s: float,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.url = url
        self.server = server
        self.competition = competition
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._timeouts = (connect_timeout_s, timeout_s)

    def has_entered(self) -> bool:
        """Return whether the account takes part, which means that it has accepted the rules."""
        request = self._named(_kaggle_types().ApiGetCompetitionRequest())
        with self._session(f"read the page of {self.competition}") as sdk:
            return bool(_calls(sdk).get_competition(request).user_has_entered)

    def quota(self) -> int:
        """Return how many submissions the server accepts now."""
        request = self._named(_kaggle_types().ApiGetSubmissionLimitsRequest())
        with self._session(f"read the quota of {self.competition}") as sdk:
            return int(_calls(sdk).get_submission_limits(request).num_allowed_now)

    # Data

    def files(self) -> list[ListedFile]:
        """Return the competition's files as the server lists them now."""
        request = self._named(_kaggle_types().ApiListDataFilesRequest())
        request.page_size = PAGE_SIZE
        with self._session(f"list the files of {self.competition}") as sdk:
            return [
                ListedFile(name=file.name, size=file.total_bytes, created=str(file.creation_date))
                for file in _calls(sdk).list_data_files(request).files
            ]

    def download(self, folder: Path, progress: Progress | None = None) -> Path:
        """Download the competition's zip into a folder, and resume what an earlier try left there.

        Args:
            progress: called with the bytes that have arrived, the bytes in all, and an empty note.

        Returns:
            The zip.
        """
        archive = folder / f"{self.competition}.zip"
        request = self._named(_kaggle_types().ApiDownloadDataFilesRequest())
        kaggle = _import_kaggle().KaggleApi()
        with self._session(f"download {archive.name}") as sdk:
            response = _calls(sdk).download_data_files(request)
            if kaggle.download_needed(response, str(archive)):
                if progress is not None:
                    _report_progress(response, progress)
                kaggle.download_file(
                    response, str(archive), sdk.http_client(), resume=True, timeout=self._timeout_s
                )
        return archive

    # Submissions

    def submission_page(self, token: str) -> tuple[list[Submission], str]:
        """Return one page of the team's submissions, newest first, and the token of the next page.

        Args:
            token: of the page; empty for the first. An empty one is returned with the last page.
        """
        request = self._named(_kaggle_types().ApiListSubmissionsRequest())
        request.page_size = PAGE_SIZE
        request.page_token = token
        with self._session(f"list the submissions of {self.competition}") as sdk:
            answer = _calls(sdk).list_submissions(request)
            return [_submission(raw) for raw in answer.submissions or []], answer.next_page_token or ""

    def submission(self, ref: int) -> Submission:
        """Return one submission as the server has it now."""
        request = _kaggle_types().ApiGetSubmissionRequest()
        request.ref = ref
        with self._session(f"read submission {ref} of {self.competition}") as sdk:
            return _submission(_calls(sdk).get_submission(request))

    def upload(self, csv: Path) -> str:
        """Upload a file for a submission. An upload alone creates nothing, and is repeated if it fails.

        Returns:
            The token by which `create_submission` names the file.
        """
        size = csv.stat()
        request = self._named(_kaggle_types().ApiStartSubmissionUploadRequest())
        request.file_name = csv.name
        request.content_length = size.st_size
        request.last_modified_epoch_seconds = int(size.st_mtime)
        with self._session(f"start an upload to {self.competition}") as sdk:
            started = _calls(sdk).start_submission_upload(request)
        for wait_s in (*UPLOAD_WAITS_S, None):
            if self._put(csv, started.create_url):
                return str(started.token)
            if wait_s is not None:
                time.sleep(wait_s)
        problem = f"{self.server}: the upload failed, nothing was submitted to {self.competition}"
        raise CompetitionError(problem, "try again later", retryable=True)

    def create_submission(self, upload: str, message: str) -> int:
        """Create a submission of an uploaded file: the only request that is never repeated.

        Args:
            upload: what `upload` returned.
            message: its description.

        Returns:
            The server's number of the submission.

        Raises:
            CompetitionError: if `answered`, nothing was created; otherwise the submission may exist.
        """
        request = self._named(_kaggle_types().ApiCreateSubmissionRequest())
        request.blob_file_tokens = upload
        request.submission_description = message
        with self._session(f"submit to {self.competition}") as sdk:
            answer = _calls(sdk).create_submission(request)
            if not answer.ref:
                raise ValueError("no number of the submission")
            return int(answer.ref)

    def _put(self, csv: Path, url: str) -> bool:
        with contextlib.suppress(requests.RequestException), requests.Session() as session:
            session.trust_env = not is_loopback(self.url)
            answer = session.put(url, data=csv.read_bytes(), timeout=self._timeouts)
            return answer.status_code in (200, 201)
        return False

    # Sessions and their errors

    def _named(self, request: Any) -> Any:
        request.competition_name = self.competition
        return request

    @contextlib.contextmanager
    def _session(self, action: str) -> Iterator[Any]:
        """Log in for one call, which does `action`; what goes wrong becomes a `CompetitionError`."""
        where = f"{self.server}: cannot {action}"
        try:
            with self._logged_in() as sdk:
                yield sdk
        except requests.HTTPError as error:
            raise self._refusal(where, error) from None  # the cause would show a signed URL
        except json.JSONDecodeError:  # requests' own error derives from it, and from RequestException
            raise CompetitionError(
                f"{where}: the answer is not JSON (a web page, or a reply that was cut off)",
                "check MNIST_KAGGLE, or try again later",
                retryable=True,
            ) from None
        except requests.RequestException as error:
            cause = getattr(error.args[0] if error.args else None, "reason", None) or error
            raise CompetitionError(
                f"{where}: no answer ({type(cause).__name__})",
                "check that the server is up and the network works, then try again",
                retryable=True,
            ) from None
        except (ValueError, KeyError) as error:
            raise CompetitionError(
                f"{where}: unexpected answer ({type(error).__name__}: {error})",
                "try again later, or update the package `kaggle`",
                retryable=True,
            ) from None

    def _logged_in(self) -> Any:
        """Return Kaggle's client with our credentials, timeouts and retries."""
        from kagglesdk.kaggle_client import KaggleClient
        from kagglesdk.kaggle_env import KaggleEnv

        username = self._credentials.username
        key = self._credentials.key and self._credentials.key.get_secret_value()
        token = self._credentials.token and self._credentials.token.get_secret_value()
        sdk = KaggleClient(env=KaggleEnv.PROD, username=username, password=key, api_token=token)
        http = sdk.http_client()
        http._endpoint = self.url
        if token is None:
            http._signed_in = True  # otherwise a token in the environment would win over username and key
        http._init_session()
        session = http._session
        if token is None:
            session.auth = (username, key)
        session.trust_env = not is_loopback(self.url)
        for prefix in (self.url, "https://", "http://"):
            session.mount(prefix, _Adapter(self._timeouts, max_retries=_retries()))
        session.mount(f"{self.url}/{SERVICE}/CreateSubmission", _Adapter(self._timeouts))
        return sdk

    def _refusal(self, where: str, error: requests.HTTPError) -> CompetitionError:
        """Return what an HTTP error means, in the server's words and with a remedy."""
        response = error.response
        status = response.status_code if response is not None else 0
        words = _server_words(response) or str(getattr(response, "reason", ""))
        if status == 400 and "daily submission" in words.lower():  # Kaggle gives no code for it
            remedy = f"the quota returns at {quota_returns()}"
            return QuotaSpentError(f"{where}: {words}", remedy, answered=True)
        problem = f"{where}: HTTP {status} {words}"
        if status in (408, 429) or not 400 <= status < 500:  # an error within a 200 proves nothing
            return CompetitionError(problem, "try again later", retryable=True, answered=status == 429)
        return CompetitionError(problem, self._remedy(status), answered=True)

    def _remedy(self, status: int) -> str:
        if status == 401:
            return (
                "check KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY: "
                "the server does not accept these credentials"
            )
        if status == 403:
            rules = f"https://www.kaggle.com/competitions/{self.competition}/rules"
            return f"accept the rules at {rules}, and check MNIST_COMPETITION"
        if status == 404 and self.competition == DIGITS_MINI.name:
            return f"unset MNIST_COMPETITION: {DIGITS_MINI.name} exists on the practice server only"
        if status == 404:
            return "check MNIST_COMPETITION: the server has no such competition or file"
        return "repeating it will not help: the server refuses this request"


class _Adapter(HTTPAdapter):
    """Gives every request a timeout, which Kaggle's client does not set."""

    def __init__(self, timeouts: tuple[float, float], **options: Any) -> None:
        super().__init__(**options)
        self._timeouts = timeouts

    def send(self, *args: Any, **options: Any) -> requests.Response:
        options["timeout"] = self._timeouts
        return super().send(*args, **options)


def _retries() -> Retry:
    """Return how a request is repeated; the server's Retry-After is honoured."""
    return Retry(
        total=3,
        read=1,
        backoff_factor=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        raise_on_status=False,
        retry_after_max=120,
    )


def is_loopback(url: str) -> bool:
    """Return whether a server is on this machine, so that no proxy stands before it."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def quota_returns(now: datetime | None = None) -> str:
    """Return when Kaggle's daily quota returns: its days are UTC."""
    now = now or datetime.now(UTC)
    return f"{(now + timedelta(days=1)).date().isoformat()} 00:00 UTC"


def _calls(sdk: Any) -> Any:
    return sdk.competitions.competition_api_client


def _kaggle_types() -> Any:
    """Return the module of Kaggle's requests and answers; importing it takes some tenths of a second."""
    from kagglesdk.competitions.types import competition_api_service

    return competition_api_service


def _import_kaggle() -> Any:
    """Return `kaggle.api.kaggle_api_extended` without what importing the package `kaggle` does by itself.

    The package logs in when it is imported: it may call kaggle.com, without a timeout and with whatever
    credentials it finds, print help and close standard input. A module that stands in for the package, with
    the package's path, lets its parts be imported alone.
    """
    if "kaggle" not in sys.modules:
        spec = importlib.util.find_spec("kaggle")
        assert spec is not None
        stand_in = types.ModuleType("kaggle")
        stand_in.__path__ = list(spec.submodule_search_locations or [])
        vars(stand_in)["__version__"] = importlib.metadata.version("kaggle")
        sys.modules["kaggle"] = stand_in
    with contextlib.redirect_stdout(io.StringIO()):
        # Not `import … as`: once the package itself was imported, its `api` is an object, not the module.
        return importlib.import_module("kaggle.api.kaggle_api_extended")


def _report_progress(response: Any, progress: Progress) -> None:
    """Make a response call `progress` as its bytes are read."""
    total = int(response.headers.get("Content-Length") or 0)
    chunks = response.iter_content

    def counted(size: int) -> Iterator[bytes]:
        done = 0
        for chunk in chunks(size):
            done += len(chunk)
            progress(done, total, "")
            yield chunk

    response.iter_content = counted


def _server_words(response: requests.Response | None) -> str:
    """Return the message in either shape of Kaggle's errors, on one line and at most 300 characters."""
    if response is None:
        return ""
    try:
        body = response.json()
        words = body.get("message") or body.get("error", {}).get("message") or ""
    except (ValueError, AttributeError):
        words = ""
    return " ".join(str(words).split())[:300]


def _submission(raw: Any) -> Submission:
    return Submission(
        ref=int(raw.ref),
        message=raw.description or "",
        status=Status(str(getattr(raw.status, "name", raw.status)).upper().rpartition(".")[2]),
        public_score=float(raw.public_score) if raw.public_score not in (None, "") else None,
        error=raw.error_description or "",
    )
