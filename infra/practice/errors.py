"""The error of the practice server."""

from mnist_core.errors import MnistError


class PracticeError(MnistError):
    """The practice server cannot be started or used; the text names the file, port or setting."""
