"""The tree of errors. Each one says what is wrong and where, and what to do about it.

MnistError
├── DataError                   a CSV file, a picture or an array that does not hold digits
│   ├── DamagedPictureError     a picture file that cannot be decoded
│   ├── RowError                a row of a CSV file that is not as the specification says
│   └── ChangedInputError       a file that is not the one that a job of shards was planned for
├── ModelError                  an unknown model, preset or device; weights that cannot be fetched
│   └── DivergedError           a training whose loss is no longer finite
├── BundleError                 an exported learner that is incomplete or changed
├── SubmissionError             labels, or a file, that the competition would refuse
│   in flows
├── SettingsError               a setting that is unknown, misspelled or out of range
├── RecordError                 a stored object with a wrong or missing field
├── StoreError                  the store cannot be read or written
│   └── DamagedObjectError      an object is missing or has changed
├── CompetitionError            the competition's server refused, failed or could not be reached
│   ├── NotFoundError           the server has no such submission, file or competition
│   ├── QuotaSpentError         no submission is left today
│   ├── SubmissionRefusedError  the server did not accept the file
│   └── SubmissionUnknownError  the answer to a submission was lost
├── LeaseLostError              another run took the right to submit
├── MissingVersionError         a version that does not exist, or is not complete
├── MissingMemberError          a network of an ensemble that is not in the store
├── AlarmError                  a public score that contradicts the held-out accuracy
├── OverdueError                a step that took longer than its limit
├── ChildError                  a child run that failed or did not end
├── TemporaryServerError        Prefect's server for one command does not start
├── ClusterError                a Dask cluster that cannot be reached, or has no workers or other versions
│   └── SchedulerLostError      the connection to its scheduler is lost
├── ShardError                  shards of a prediction that failed; the finished ones are kept
├── DeploymentError             Prefect's server, a pool or a schedule cannot be set up
│   in infra
├── ActionsCheckError           a step of the nightly workflow that did not do what it must
├── ForwardError                another server than the deployment's answers on its port
├── PoolError                   a value of a work pool's template is missing or unknown
├── PlanError                   a tag would change more than the images in the cloud
└── PracticeError               the practice server cannot be started
"""

from __future__ import annotations


class MnistError(Exception):
    """Base of all errors of this project.

    Args:
        problem: what is wrong: the file, row, setting or server, and the value if it is not a secret.
        remedy: what to do about it; empty if the problem says it.
        retryable: whether the same command can succeed later with nothing changed (a server that was down).

    `str(error)` is the problem, and the remedy after "; ". Code reads the attributes, never the text.
    """

    retryable: bool = False

    def __init__(self, problem: str, remedy: str = "", *, retryable: bool | None = None) -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
        if retryable is not None:
            self.retryable = retryable


class DataError(MnistError):
    """Input that is not a digit, or not the digits that were promised."""


class ModelError(MnistError):
    """A model, preset or device that does not exist here."""


class DivergedError(ModelError):
    """A training whose loss is no longer finite."""


class BundleError(MnistError):
    """An exported learner that cannot be trusted: a file is missing, or its digest differs."""


class SubmissionError(MnistError):
    """Predictions that are not a valid submission."""
