"""What can go wrong between the job and the competition's server."""

from typing import Any

from mnist_core.errors import MnistError


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
