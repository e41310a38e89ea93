"""A log-in at a server: credentials, time limits, retries, and errors that say what to do."""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from flows.environment import TRUST, certificate_fault
from flows.kaggle.address import is_loopback
from flows.kaggle.credentials import Credentials
from flows.kaggle.errors import CompetitionError, NotFoundError, QuotaSpentError
from mnist_core.spec import DIGITS_MINI

CONNECT_TIMEOUT_S = 5.0
SUBMITS = "v1/competitions.CompetitionApiService/CreateSubmission"
"""The path of the only request that must not be repeated."""
UNKNOWN_TOKEN = (400, 401, 403, 404)
"""Answers of Kaggle to a question about a token that has expired or was revoked."""
TOKEN_LASTS = timedelta(hours=12)
"""For how long a log-in of `kaggle auth login` is given a token; as Kaggle's client asks."""
RENEWED_BEFORE = timedelta(minutes=30)
"""How long before its end such a token is replaced."""
log = logging.getLogger("mnist")


class Session:
    """How one competition on one server is reached.

    Args:
        url: where the server answers.
        server: its name in messages.
        competition: the competition's name, as in its URL.
        credentials: what to log in with.
        timeout_s: how long the server may be silent.
        connect_timeout_s: how long it may take to accept a connection.
        others: credentials that are tried one after the other if the server does not know the token before.
    """

    def __init__(
        self,
        url: str,
        server: str,
        competition: str,
        credentials: Credentials,
        timeout_s: float,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        others: Sequence[Credentials] = (),
    ) -> None:
        self.url = url
        self.server = server
        self.competition = competition
        self._credentials = credentials
        self._others = list(others)
        self.timeout_s = timeout_s
        self._timeouts = (connect_timeout_s, timeout_s)

    @contextlib.contextmanager
    def log_in(self, action: str, check: Callable[[], None] = lambda: None) -> Iterator[Any]:
        """Log in for one call; what goes wrong in it becomes a `CompetitionError`.

        Args:
            action: what the call does, to go after "cannot".
            check: called before a request that creates a submission is sent, when its connection is ready;
                it raises an error if that is too late.

        Yields:
            Kaggle's client.
        """
        where = f"{self.server}: cannot {action}"
        try:
            with self._logged_in(check) as sdk:
                yield sdk
        except requests.HTTPError as error:
            raise self._refusal(where, error) from None  # the cause would show a signed URL
        except json.JSONDecodeError:  # requests' own error derives from it, and from RequestException
            raise CompetitionError(
                f"{where}: the answer is not JSON (a web page, or a reply that was cut off)",
                "check MNIST_KAGGLE, or try again later",
                retryable=True,
            ) from None
        except requests.exceptions.SSLError as error:
            raise _tls_fault(where, error) from None
        except requests.RequestException as error:
            cause = getattr(error.args[0] if error.args else None, "reason", None) or error
            raise CompetitionError(
                f"{where}: no answer ({type(cause).__name__})",
                "check that the server is up, the network, and HTTPS_PROXY if it is set; then try again",
                retryable=True,
            ) from None
        except (ValueError, KeyError) as error:
            raise CompetitionError(
                f"{where}: unexpected answer ({type(error).__name__}: {self._clean(str(error))})",
                "try again later, or update the package `kaggle`",
                retryable=True,
            ) from None

    def put(self, url: str, data: bytes) -> bool:
        """Upload bytes to a signed URL, without a log-in; return whether they were accepted."""
        with contextlib.suppress(requests.RequestException), requests.Session() as session:
            _bypass_proxy(session, self.url)
            answer = session.put(url, data=data, timeout=self._timeouts)
            return answer.status_code in (200, 201)
        return False

    def check_log_in(self) -> Credentials:
        """Return the credentials in use, with the end of their token as far as the server states it."""
        with self.log_in("check the log-in") as sdk:
            chosen = self._credentials
            if chosen.token is not None and chosen.expires is None:
                answer = _introspect(sdk, chosen.token)
                if answer is not None and answer.exp:
                    return replace(chosen, expires=datetime.fromtimestamp(answer.exp, UTC))
        return chosen

    def _logged_in(self, check: Callable[[], None]) -> Any:
        """Return Kaggle's client with the credentials that the server knows, timeouts and retries."""
        while self._others and self._credentials.token is not None and self._credentials.refresh is None:
            with self._client(self._credentials) as sdk:
                if _introspect(sdk, self._credentials.token) is not None:
                    break
            passed, self._credentials = self._credentials, self._others.pop(0)
            log.warning(
                "%s does not accept the token of %s: %s is used",
                self.server, passed.source, self._credentials.source,
            )  # fmt: skip
        self._others = []
        if self._credentials.refresh is not None and _ends_soon(self._credentials):
            self._credentials = self._renew(self._credentials, self._credentials.refresh)
        return self._client(self._credentials, check)

    def _renew(self, log_in: Credentials, refresh: SecretStr) -> Credentials:
        """Return a log-in of `kaggle auth login` with a new token. Its file is left to Kaggle's client."""
        from kagglesdk.users.types.account_service import ApiVersion, GenerateAccessTokenRequest

        request = GenerateAccessTokenRequest()
        request.refresh_token = refresh.get_secret_value()
        request.api_version = ApiVersion.API_VERSION_V1
        request.expiration_duration = TOKEN_LASTS
        try:
            with self._client(Credentials(log_in.source)) as sdk:
                answer = sdk.users.account_client.generate_access_token(request)
        except requests.HTTPError as error:
            if error.response is None or error.response.status_code not in UNKNOWN_TOKEN:
                raise
            raise CompetitionError(
                f"{self.server}: the log-in of {log_in.source} has ended",
                "log in again with `kaggle auth login`, or set KAGGLE_API_TOKEN",
                answered=True,
            ) from None
        expires = datetime.now(UTC) + timedelta(seconds=answer.expires_in)
        return replace(log_in, token=SecretStr(answer.token), expires=expires)

    def _client(self, credentials: Credentials, check: Callable[[], None] = lambda: None) -> Any:
        """Return Kaggle's client with credentials, timeouts and retries."""
        from kagglesdk.kaggle_client import KaggleClient
        from kagglesdk.kaggle_env import KaggleEnv

        username = credentials.username
        key = credentials.key and credentials.key.get_secret_value()
        token = credentials.token and credentials.token.get_secret_value()
        sdk = KaggleClient(env=KaggleEnv.PROD, username=username, password=key, api_token=token)
        http = sdk.http_client()
        http._endpoint = self.url
        if token is None:
            http._signed_in = True  # otherwise a token in the environment would win over username and key
        http._init_session()
        session = http._session
        if key is not None:
            session.auth = (username, key)
        _bypass_proxy(session, self.url)
        for prefix in (self.url, "https://", "http://"):
            session.mount(prefix, _Adapter(self._timeouts, max_retries=_retries()))
        session.mount(f"{self.url}/{SUBMITS}", _SubmitAdapter(self._timeouts, check))
        return sdk

    def _refusal(self, where: str, error: requests.HTTPError) -> CompetitionError:
        """Return what an HTTP error means, in the server's words and with a remedy."""
        response = error.response
        status = response.status_code if response is not None else 0
        words = self._clean(_server_words(response) or str(getattr(response, "reason", "")))
        if status == 400 and "daily submission" in words.lower():  # Kaggle gives no code for it
            remedy = f"the quota returns at {quota_returns()}"
            return QuotaSpentError(f"{where}: {words}", remedy, answered=True)
        problem = f"{where}: HTTP {status} {words}"
        if 300 <= status < 400:
            remedy = "check MNIST_KAGGLE: the server sends this request to another address"
            return CompetitionError(problem, remedy, retryable=True)
        if status in (408, 429) or not 400 <= status < 500:  # an error within a 200 proves nothing
            return CompetitionError(problem, "try again later", retryable=True, answered=status == 429)
        kind = NotFoundError if status == 404 else CompetitionError
        return kind(problem, self._remedy(status), answered=True)

    def _clean(self, words: str) -> str:
        """Return words of the server or of the client on one line, shortened, and without our credentials."""
        return one_line(self._credentials.redact(words))

    def _remedy(self, status: int) -> str:
        if status == 401:
            return f"check {self._credentials.source}: the server does not accept these credentials"
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


class _SubmitAdapter(_Adapter):
    """Sends the request that creates a submission once, and follows no redirect: that would send it again.

    Calls a check when a connection is ready, after which only the request's own bytes remain to be sent.

    Until then the host's name is looked up, which has no time limit, and TLS is negotiated.
    """

    def __init__(self, timeouts: tuple[float, float], check: Callable[[], None]) -> None:
        self._check = check
        self._is_checked = False
        super().__init__(timeouts)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = _checking(pool.ConnectionCls, self._check)
        self._is_checked = True
        return pool

    def add_headers(self, *args: Any, **options: Any) -> None:
        """Refuse to send without the check: requests calls this last, after it has chosen a connection."""
        if not self._is_checked:
            raise CompetitionError(
                "nothing was sent: this version of the package requests does not let the lease be checked "
                "right before a submission",
                "install the versions of a lock file, such as requirements/predict.lock",
                answered=True,
            )
        super().add_headers(*args, **options)

    def send(self, *args: Any, **options: Any) -> requests.Response:
        response = super().send(*args, **options)
        if response.is_redirect:
            raise requests.HTTPError(response=response)
        return response


def _checking(connection: Any, check: Callable[[], None]) -> Any:
    """Return a class of connections that call a check between being opened and sending a request."""

    class Checking(connection):
        def request(self, *args: Any, **options: Any) -> None:
            if self.sock is None:
                self.connect()
            check()
            super().request(*args, **options)

    return Checking


def _tls_fault(where: str, error: requests.exceptions.SSLError) -> CompetitionError:
    """Return what an error of TLS means: a certificate that is not trusted now will not be so in a minute."""
    found = certificate_fault(error)
    if found is None:
        remedy = "check the network, and HTTPS_PROXY if it is set; then try again"
        return CompetitionError(f"{where}: the TLS connection broke", remedy, retryable=True)
    problem = f"{where}: its certificate is not trusted ({found})"
    return CompetitionError(problem, TRUST, answered=True)


def _bypass_proxy(session: requests.Session, url: str) -> None:
    """Let a session reach a server on this machine without a proxy, with the certificates that are set."""
    if is_loopback(url):
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True


def _introspect(sdk: Any, token: SecretStr) -> Any:
    """Return what the server says of a token; None if it does not know it, or not any more."""
    from kagglesdk.security.types.oauth_service import IntrospectTokenRequest

    request = IntrospectTokenRequest()
    request.token = token.get_secret_value()
    try:
        answer = sdk.security.oauth_client.introspect_token(request)
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code in UNKNOWN_TOKEN:
            return None
        raise
    return answer if answer.active and answer.username else None


def _ends_soon(log_in: Credentials) -> bool:
    """Return whether a new token is needed."""
    if log_in.token is None or log_in.expires is None:
        return True
    return log_in.expires - datetime.now(UTC) < RENEWED_BEFORE


class _Retry(Retry):
    """Gives up at once if a certificate is not trusted."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        *others: Any,
        **options: Any,
    ) -> Self:
        untrusted = error is not None and certificate_fault(error) is not None
        left = self.new(total=0) if untrusted else self
        return super(_Retry, left).increment(method, url, response, error, *others, **options)


def _retries() -> Retry:
    """Return how a request is repeated; the server's Retry-After is honoured."""
    return _Retry(
        total=3,
        read=1,
        backoff_factor=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        raise_on_status=False,
        retry_after_max=120,
    )


def quota_returns(now: datetime | None = None) -> str:
    """Return when Kaggle's daily quota returns: its days are UTC."""
    now = now or datetime.now(UTC)
    return f"{(now + timedelta(days=1)).date().isoformat()} 00:00 UTC"


def one_line(words: str) -> str:
    """Return up to 300 characters of a server's words, on one line and without control characters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in words)
    return " ".join(printable.split())[:300]


def _server_words(response: requests.Response | None) -> str:
    """Return the message in either shape of Kaggle's errors."""
    if response is None:
        return ""
    try:
        body = response.json()
        words = body.get("message") or body.get("error", {}).get("message") or ""
    except (ValueError, AttributeError):
        words = ""
    return str(words)
