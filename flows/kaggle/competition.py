"""The competition behind a few calls: download, quota, submit_once, wait_for_score.

kaggle.com and the practice server are called in the same way; they differ by address and credentials alone.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from pydantic import SecretStr

from flows.kaggle import leaderboard, submissions
from flows.kaggle.address import LIVE, LIVE_URL, PRACTICE, server_name
from flows.kaggle.client import Client
from flows.kaggle.credentials import Credentials, log_ins
from flows.kaggle.download import NAME_DIGITS, Data, Downloads
from flows.kaggle.practice import find_practice_server
from flows.kaggle.session import Session
from flows.kaggle.submissions import Turn
from flows.records import Submission
from flows.settings import SERVER, Settings, SettingsError
from mnist_core.progress import Progress
from mnist_core.spec import CompetitionSpec


class Competition:
    """One competition on one server.

    Args:
        client: of that server and competition.
        spec: what the competition's files hold.
        home: downloads are kept below it.

    Attributes:
        look_again_s: waits before the list of submissions is asked again after an unclear answer.
    """

    look_again_s: Sequence[float] = submissions.LOOK_AGAIN_S

    def __init__(self, client: Client, spec: CompetitionSpec, home: Path) -> None:
        self.client = client
        self.spec = spec
        self.downloads = Downloads(client, spec, home / "data" / _as_key(client.server) / spec.name)

    @property
    def name(self) -> str:
        """The competition's name, as in its URL."""
        return self.spec.name

    @property
    def server(self) -> str:
        """The server's name: `kaggle`, `practice`, or host and port."""
        return self.client.server

    @property
    def url(self) -> str:
        """Where the server answers."""
        return self.client.url

    def namespace(self, data: Data) -> str:
        """Return `<server>/<competition>/<data digest>`, under which all that is made of these data lives."""
        return f"{_as_key(self.server)}/{self.name}/{data.digest[:NAME_DIGITS]}"

    def has_entered(self) -> bool:
        """Return whether the account takes part, which means that it has accepted the rules."""
        return self.client.has_entered()

    def takes_files(self) -> bool:
        """Return whether files may be submitted, and not notebooks only."""
        return self.client.takes_files()

    def check_log_in(self) -> Credentials:
        """Return the credentials that the server accepts, with the end of their token if it states one."""
        return self.client.check_log_in()

    def quota(self) -> int:
        """Return how many submissions the server accepts now."""
        return self.client.quota()

    def download(self, progress: Progress | None = None) -> Data:
        """Return the competition's files, downloaded unless they are here already; see `Downloads.get`."""
        return self.downloads.get(progress)

    def find(self, token: str, until: int | None = None) -> Submission | None:
        """Return the submission that carries a token, None if there is none; see `submissions.find`."""
        return submissions.find(self.client, token, until)

    def rank(self) -> int | None:
        """Return the team's place on the leaderboard, 1 for the first; None if it has none."""
        return leaderboard.rank(self.client)

    def newest_counting(self) -> Submission | None:
        """Return the team's newest submission that has a score; None if there is none."""
        return submissions.newest_counting(self.client)

    def submit_once(
        self, csv: Path, title: str, turn: Turn | None = None, day: date | None = None
    ) -> Submission:
        """Post a submission, or return the one of the same content; see `submissions.submit_once`."""
        return submissions.submit_once(self.client, csv, title, turn, self.look_again_s, day)

    def wait_for_score(self, ref: int, timeout_s: float) -> Submission:
        """Return a submission once it is scored; see `submissions.wait_for_score`."""
        return submissions.wait_for_score(self.client, ref, timeout_s)


def connect(settings: Settings) -> Competition:
    """Return the competition that the settings name, with credentials; no call is made yet.

    `practice` finds the practice server of this home, or starts it.

    Raises:
        SettingsError: credentials are missing, or there is no practice server.
    """
    spec = settings.competition_spec
    if settings.kaggle == LIVE and spec.source != SERVER:
        raise SettingsError(
            f"{spec.name} is not a competition on kaggle.com: its specification says that its source is "
            f"{spec.source}",
            "set MNIST_KAGGLE to practice",
        )
    if settings.kaggle == PRACTICE:
        practice = find_practice_server(settings)
        url = practice.url
        credentials = [Credentials("practice", practice.username, SecretStr(practice.key))]
    else:
        url = LIVE_URL if settings.kaggle == LIVE else settings.kaggle
        credentials = log_ins(settings)
    first, *others = credentials
    name = server_name(settings.kaggle)
    session = Session(url, name, spec.name, first, settings.timeout_s, others=others)
    return Competition(Client(session, spec.metric), spec, settings.home)


def namespace_prefix(settings: Settings) -> str:
    """Return `<server>/<competition>/`, with which the namespaces of all data of a competition begin."""
    return f"{_as_key(server_name(settings.kaggle))}/{settings.competition}/"


def _as_key(server: str) -> str:
    """Return a server's name as it can stand in a key of the store and in a path."""
    return server.replace(":", "_").strip("[]").replace("]", "")
