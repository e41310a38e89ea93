"""The errors of the competition's server.

CompetitionError
├── NotFoundError           the server does not have what was asked for
├── QuotaSpentError         today's submissions are used up
├── SubmissionUnknownError  sent, but neither an answer nor the list shows whether it arrived
└── SubmissionRefusedError  accepted, and then scored as ERROR
"""

from flows.records import SubmissionResult
from mnist_core.errors import MnistError


class CompetitionError(MnistError):
    """The competition's server refused, failed or could not be reached.

    Attributes:
        answered: whether the server itself refused the request, so that it did nothing.
        submission: the submission that the error is about, if there is one.
    """

    def __init__(
        self,
        problem: str,
        remedy: str = "",
        *,
        retryable: bool = False,
        answered: bool = False,
        submission: SubmissionResult | None = None,
    ) -> None:
        super().__init__(problem, remedy, retryable=retryable)
        self.answered = answered
        self.submission = submission


class NotFoundError(CompetitionError):
    """The server does not have what was asked for: the competition, a file, or a submission."""


class QuotaSpentError(CompetitionError):
    """Today's submissions are used up; nothing was posted."""


class SubmissionUnknownError(CompetitionError):
    """A submission was sent, and neither an answer nor the server's list shows whether it arrived."""


class SubmissionRefusedError(CompetitionError):
    """The server accepted the file, and its scoring ended as ERROR."""
