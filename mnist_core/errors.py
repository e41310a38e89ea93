"""The tree of errors: every one that a person can meet says what is wrong, where, and what to do.

    MnistError
    ├── DataError         a CSV, a PNG or an array that holds no digits
    ├── ModelError        an unknown model, preset or device; weights that can not be fetched
    ├── BundleError       an exported learner that is incomplete or changed
    └── SubmissionError   labels or a file that the competition would refuse

`flows` adds SettingsError, StoreError and CompetitionError beside the code that raises them.
"""


class MnistError(Exception):
    """Base of all errors of this project; its text names file, row or setting, and the remedy."""

    again = False
    """Whether the same command can succeed later with nothing changed (a server that was down)."""


class DataError(MnistError):
    """Input that is no digit, or not the digits that were promised."""


class ModelError(MnistError):
    """A model, preset or device that does not exist here."""


class BundleError(MnistError):
    """An exported learner that can not be trusted: a file is missing, or its digest differs."""


class SubmissionError(MnistError):
    """Predictions that are no valid submission."""
