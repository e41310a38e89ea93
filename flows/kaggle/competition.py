"""The competition behind a few calls: download, quota, submit_once, wait_for_score.

Kaggle's own client does the talking, to kaggle.com and to the practice competition alike; the two
differ by address and credentials only. What this module adds: timeouts on every call, retries where
a call can be repeated, credentials that are looked up before the client is imported (its package
logs in when it is imported), and errors that say what to do.
"""

import contextlib
import fcntl
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from flows.kaggle.client import Progress, client, refused
from flows.kaggle.credentials import Credentials, find_credentials
from flows.kaggle.download import KEEP_DATA_S, PLACE_DIGITS, Data, data_digest, disk_explained, unpack
from flows.kaggle.errors import CompetitionError, QuotaSpentError, SubmissionUnknownError
from flows.kaggle.submissions import LOOK_AGAIN_S, quota_returns, submission_of, submission_token
from flows.records import Status, Submission
from flows.settings import Settings
from flows.store.folder import free_bytes
from mnist_core.errors import MnistError
from mnist_core.spec import DIGIT_RECOGNIZER, SPECS

LIVE_URL = "https://api.kaggle.com"


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
        self.spec = SPECS.get(name, DIGIT_RECOGNIZER)  # a competition of another name with the same files
        self.server = server
        self.url = url
        self._folder = home / "data" / server.replace(":", "_") / name

    def namespace(self, data: Data) -> str:
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
        missing = [name for name in self.spec.files if name not in listed]
        if missing:
            raise CompetitionError(
                f"competition {self.name} has no {' and no '.join(missing)}; "
                "MNIST_COMPETITION must name digit-recognizer or one with the same files"
            )
        kept = self._kept(listed)
        if kept is not None:
            return kept
        with disk_explained(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # one download at a time; the next finds what it brought
                return self._kept(listed) or self._download_anew(listed, progress)

    def _kept(self, listed: dict[str, list[Any]]) -> Data | None:
        """The files of last time, where the server still lists the same ones and no byte has changed."""
        try:
            record = json.loads((self._folder / "current.json").read_text())
            folder = self._folder / record["digest"][:PLACE_DIGITS]
            same = record["listed"] == listed and data_digest(folder, self.spec) == record["digest"]
        except (OSError, ValueError, KeyError):
            return None
        return Data(folder, record["digest"], self.spec) if same else None

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
            unpack(archive, unpacked, self.spec)
            digest = data_digest(unpacked, self.spec)
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
        return Data(folder, digest, self.spec)

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
            yield from map(submission_of, page)
            if not token:
                return

    def find(self, token: str) -> Submission | None:
        """The submission whose description carries a token; None where the server has none."""
        return next((s for s in self.submissions() if token in s.message), None)

    def submission(self, ref: int) -> Submission:
        """One submission, as the server has it now."""
        with self._explained(f"read submission {ref}"):
            return submission_of(self._api.get_submission(ref))

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
        return Submission(ref=int(answer.ref), message=message, status=Status.PENDING, posted=True)

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
                return found.model_copy(update={"posted": True})
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
            raise refused(where, self.name, error) from None
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


def connect(settings: Settings) -> Competition:
    """The competition that the settings name, with credentials; no call is made yet.

    `practice` finds or starts the practice competition of this home.

    Raises:
        SettingsError: credentials are missing; the message names their variables.
    """
    server = server_name(settings)
    if settings.kaggle == "practice":
        from infra.practice import PracticeOptions, find_or_start

        practice = find_or_start(
            settings.home / "practice",
            PracticeOptions(split_seed=settings.split_seed, daily_limit=settings.daily_limit),
            competition=settings.competition,
        )
        url = practice.url
        credentials = Credentials("practice", practice.username, SecretStr(practice.key))
    else:
        url = LIVE_URL if settings.kaggle == "live" else settings.kaggle
        credentials = find_credentials()
    return Competition(client(url, credentials, settings), settings.competition, server, settings.home, url)


def server_name(settings: Settings) -> str:
    """The server that MNIST_KAGGLE means: `kaggle`, `practice`, or host and port of a URL."""
    names = {"live": "kaggle", "practice": "practice"}
    return names.get(settings.kaggle) or urlsplit(settings.kaggle).netloc
