"""The error of the practice competition."""

from mnist_core.errors import MnistError


class PracticeError(MnistError):
    """The practice competition can not be started or used; the text names the file, port or setting."""
