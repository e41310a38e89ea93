"""Kaggle's own client, pointed at a server, with timeouts and retries on every call."""

import contextlib
import importlib.metadata
import importlib.util
import io
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.kaggle.credentials import Credentials
from flows.kaggle.errors import CompetitionError, QuotaSpentError
from flows.kaggle.submissions import quota_returns
from flows.settings import Settings

CONNECT_TIMEOUT_S = 5.0

Progress = Callable[[int, int, str], None]


def client(url: str, credentials: Credentials, settings: Settings) -> Any:
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
        # Not `import … as`: once the package itself was imported, its `api` is an object, not the module.
        return importlib.import_module("kaggle.api.kaggle_api_extended")


def refused(where: str, competition: str, error: Any) -> CompetitionError:
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
