"""The calls of a competition's server that the job needs, made by Kaggle's own client."""

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flows.kaggle.credentials import Credentials
from flows.kaggle.errors import CompetitionError
from flows.kaggle.session import Session, one_line
from flows.records import Record, Status, Submission
from mnist_core.metric import Metric
from mnist_core.progress import Progress

log = logging.getLogger("mnist")
UPLOAD_WAITS_S = (1.0, 3.0)
"""Waits before an upload that failed is tried again."""
PAGE_SIZE = 100
"""Entries of one page of a list; the most that Kaggle gives."""


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
        session: how that is reached.
        metric: by which the competition scores.
    """

    def __init__(self, session: Session, metric: Metric = Metric.ACCURACY) -> None:
        self._session = session
        self._metric = metric

    @property
    def url(self) -> str:
        """Where the server answers."""
        return self._session.url

    @property
    def server(self) -> str:
        """The server's name: `kaggle`, `practice`, or host and port."""
        return self._session.server

    @property
    def competition(self) -> str:
        """The competition's name, as in its URL."""
        return self._session.competition

    def check_log_in(self) -> Credentials:
        """Return the credentials that the server accepts, with the end of their token if it states one."""
        return self._session.check_log_in()

    def has_entered(self) -> bool:
        """Return whether the account takes part, which means that it has accepted the rules."""
        request = self._named(_kaggle_types().ApiGetCompetitionRequest())
        with self._session.log_in(f"read the page of {self.competition}") as sdk:
            return bool(_calls(sdk).get_competition(request).user_has_entered)

    def takes_files(self) -> bool:
        """Return whether files may be submitted; some competitions take submissions from notebooks only."""
        request = self._named(_kaggle_types().ApiGetCompetitionRequest())
        with self._session.log_in(f"read the page of {self.competition}") as sdk:
            return not _calls(sdk).get_competition(request).is_kernels_submissions_only

    def quota(self) -> int:
        """Return how many submissions the server accepts now."""
        request = self._named(_kaggle_types().ApiGetSubmissionLimitsRequest())
        with self._session.log_in(f"read the quota of {self.competition}") as sdk:
            return int(_calls(sdk).get_submission_limits(request).num_allowed_now)

    # Data

    def files(self) -> list[ListedFile]:
        """Return the competition's files as the server lists them now."""
        request = self._named(_kaggle_types().ApiListDataFilesRequest())
        request.page_size = PAGE_SIZE
        with self._session.log_in(f"list the files of {self.competition}") as sdk:
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
        request = self._named(_kaggle_types().ApiDownloadDataFilesRequest())
        archive = folder / f"{self.competition}.zip"
        return self._fetch(lambda sdk: _calls(sdk).download_data_files(request), archive, progress)

    def download_dataset(self, dataset: str, folder: Path, progress: Progress | None = None) -> Path:
        """Download the zip of a data set, `owner/slug`, in the same way as the competition's."""
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

        request = ApiDownloadDatasetRequest()
        request.owner_slug, request.dataset_slug = dataset.split("/")
        archive = folder / f"{request.dataset_slug}.zip"
        return self._fetch(
            lambda sdk: sdk.datasets.dataset_api_client.download_dataset(request), archive, progress
        )

    def _fetch(self, ask: Callable[[Any], Any], archive: Path, progress: Progress | None) -> Path:
        kaggle = _import_kaggle().KaggleApi()
        with self._session.log_in(f"download {archive.name}") as sdk:
            response = ask(sdk)
            if kaggle.download_needed(response, str(archive)):
                if progress is not None:
                    _report_progress(response, progress)
                kaggle.download_file(
                    response, str(archive), sdk.http_client(), resume=True, timeout=self._session.timeout_s
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
        with self._session.log_in(f"list the submissions of {self.competition}") as sdk:
            # Not the client's own call: it reads all entries or none, and one may have a status of tomorrow.
            service, name = "competitions.CompetitionApiService", "ListSubmissions"
            answer = sdk.http_client().call(service, name, request, _Json)
            entries = [_listed_submission(entry, self._metric) for entry in answer.get("submissions") or ()]
            if None in entries:
                log.warning("%s lists a submission without number and description: ignored", self.server)
            return [entry for entry in entries if entry], str(answer.get("nextPageToken") or "")

    def submission(self, ref: int) -> Submission:
        """Return one submission as the server has it now.

        Raises:
            NotFoundError: it does not have it, or not any more.
        """
        request = _kaggle_types().ApiGetSubmissionRequest()
        request.ref = ref
        with self._session.log_in(f"read submission {ref} of {self.competition}") as sdk:
            return _submission(_calls(sdk).get_submission(request), self._metric)

    def leaderboard_page(self, token: str) -> tuple[list[tuple[str, float | None]], str]:
        """Return one page of the leaderboard, team and score, the best first, and the token of the next page.

        Args:
            token: of the page; empty for the first. An empty one is returned with the last page.
        """
        request = self._named(_kaggle_types().ApiGetLeaderboardRequest())
        request.override_public = True
        request.page_size = PAGE_SIZE
        request.page_token = token
        with self._session.log_in(f"read the leaderboard of {self.competition}") as sdk:
            answer = _calls(sdk).get_leaderboard(request)
            entries = [entry for entry in answer.submissions or () if entry is not None]
            page = [(str(entry.team_name or ""), _score(entry.score, self._metric)) for entry in entries]
            return page, str(answer.next_page_token or "")

    def upload(self, csv: Path) -> str:
        """Upload a file for a submission. An upload alone creates nothing, and is repeated if it fails.

        Returns:
            The token by which `create_submission` names the file.
        """
        facts = csv.stat()
        request = self._named(_kaggle_types().ApiStartSubmissionUploadRequest())
        request.file_name = csv.name
        request.content_length = facts.st_size
        request.last_modified_epoch_seconds = int(facts.st_mtime)
        with self._session.log_in(f"start an upload to {self.competition}") as sdk:
            started = _calls(sdk).start_submission_upload(request)
        for wait_s in (*UPLOAD_WAITS_S, None):
            if self._session.put(started.create_url, csv.read_bytes()):
                return str(started.token)
            if wait_s is not None:
                time.sleep(wait_s)
        problem = f"{self.server}: the upload failed, nothing was submitted to {self.competition}"
        raise CompetitionError(problem, "try again later", retryable=True)

    def create_submission(self, upload: str, message: str, check: Callable[[], None] = lambda: None) -> int:
        """Create a submission of an uploaded file: the only request that is never repeated.

        Args:
            upload: what `upload` returned.
            message: its description.
            check: called when the connection is ready; what it raises keeps the request from being sent.

        Returns:
            The server's number of the submission.

        Raises:
            CompetitionError: if `answered`, nothing was created; otherwise the submission may exist.
        """
        request = self._named(_kaggle_types().ApiCreateSubmissionRequest())
        request.blob_file_tokens = upload
        request.submission_description = message
        with self._session.log_in(f"submit to {self.competition}", check) as sdk:
            answer = _calls(sdk).create_submission(request)
            if not answer.ref:
                raise ValueError("no number of the submission")
            return int(answer.ref)

    def _named(self, request: Any) -> Any:
        request.competition_name = self.competition
        return request


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
    with contextlib.redirect_stdout(io.StringIO()), _existing_config_folder():
        # Not `import … as`: once the package itself was imported, its `api` is an object, not the module.
        return importlib.import_module("kaggle.api.kaggle_api_extended")


@contextlib.contextmanager
def _existing_config_folder() -> Iterator[None]:
    """Name a folder that exists as Kaggle's, whose module creates one in the user's home on import."""
    if os.environ.get("KAGGLE_CONFIG_DIR"):
        yield
        return
    os.environ["KAGGLE_CONFIG_DIR"] = tempfile.gettempdir()
    try:
        yield
    finally:
        del os.environ["KAGGLE_CONFIG_DIR"]


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


class _Json:
    """What Kaggle's client makes of an answer that is to stay plain JSON."""

    @staticmethod
    def prepare_from(response: Any) -> dict[str, Any]:
        """Return the JSON object that a response holds."""
        answer = response.json()
        if not isinstance(answer, dict):
            raise ValueError("not an object")
        return answer


def _listed_submission(entry: Any, metric: Metric) -> Submission | None:
    """Return an entry of the list; of one that cannot be read whole, its number and its description.

    Returns:
        None for an entry that has neither.

    Raises:
        ValueError: it has a description alone: it may be the submission that is looked for.
    """
    fields = entry if isinstance(entry, dict) else {}
    message = str(fields.get("description") or "")
    try:
        ref = int(fields.get("ref") or 0)
    except (ValueError, TypeError):
        ref = 0
    if not ref and message:
        raise ValueError("a submission without a number")
    if not ref:
        return None
    try:
        return _submission(_kaggle_types().ApiSubmission.from_dict(entry), metric)
    except (KeyError, ValueError, TypeError, AttributeError):
        return Submission(ref=ref, message=message, status=Status.UNKNOWN)


def _score(raw: Any, metric: Metric) -> float | None:
    """Return a public score; None for what cannot be one, such as NaN: a score is stored for good."""
    try:
        score = float(raw)
    except (ValueError, TypeError):
        return None
    return score if metric.is_possible(score) else None


def _submission(raw: Any, metric: Metric) -> Submission:
    return Submission(
        ref=int(raw.ref),
        message=raw.description or "",
        status=Status(str(getattr(raw.status, "name", raw.status)).upper().rpartition(".")[2]),
        public_score=_score(raw.public_score, metric),
        error=one_line(raw.error_description or ""),
        at=raw.date.isoformat() if raw.date else "",
        team=raw.team_name or "",
    )
