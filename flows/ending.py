"""How a command ends: exit code, last line, the command that resumes it; and what it asks before."""

import logging
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, metadata

import typer

from flows.settings import SettingsError
from mnist_core.errors import MnistError


class DeclinedError(Exception):
    """A person was asked, and did not agree."""


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        code: the exit code: 0 done, 1 failed, 2 wrong usage or settings.
        last_line: what a person reads last, on stderr; empty if all is well.
        error: what ended it.
    """

    code: int = 0
    last_line: str = ""
    error: BaseException | None = None

    def print_last_line(self) -> None:
        """Print the last line, if there is one, on stderr."""
        if self.last_line:
            print(self.last_line, file=sys.stderr)  # noqa: T201  (the terminal is this module's job)


def end(run: Callable[[], None], command: str = "") -> Ending:
    """Run something to its end.

    Args:
        run: what is run.
        command: what a person types to resume it.
    """
    try:
        run()
    except SettingsError as error:
        return Ending(2, f"settings: {error}", error)
    except MnistError as error:
        resume = f". To resume: {command}" if error.retryable and command else ""
        return Ending(1, f"failed: {error}{resume}", error)
    except DeclinedError as error:
        return Ending(1, "stopped; nothing was changed", error)
    except KeyboardInterrupt as error:
        return Ending(1, stopped(command), error)
    except OSError as error:
        what = f"{error.filename or ''}: {error.strerror or error}"
        return Ending(1, f"failed: {what}; free disk space or fix the permissions", error)
    except Exception as error:
        logging.getLogger("mnist").exception("unexpected error")
        what = f"{type(error).__name__}: {error}"
        return Ending(1, f"failed: {what}; this is a bug, please report it{issues()}", error)
    return Ending()


def stopped(command: str) -> str:
    """Return the last line of a command that a person stopped."""
    return f"stopped. To resume: {command}" if command else "stopped"


def command_to_resume(started: datetime) -> str:
    """Return the command that resumes this run, as it can be typed in this folder."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--fresh"]
    if {"nightly", "train", "sweep"} & set(arguments) and not any(
        a.split("=")[0] == "--night" for a in arguments
    ):
        arguments += ["--night", started.date().isoformat()]
    home = [f"MNIST_HOME={os.environ['MNIST_HOME']}"] if "MNIST_HOME" in os.environ else []
    return shlex.join([*home, os.path.relpath(sys.executable), "-m", "flows", *arguments])


def issues() -> str:
    """Return where bugs are reported, as the package's metadata has it."""
    try:
        urls = metadata("mnist-nightly").get_all("Project-URL") or []
    except PackageNotFoundError:
        urls = []
    found = [url.split(", ")[1] for url in urls if url.split(", ")[0].lower() == "issues"]
    return f" at {found[0]}" if found else ""


# Asking


def has_terminal() -> bool:
    """Return whether a person can answer."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask() -> None:
    """Ask a person whether to go on.

    Raises:
        SettingsError: there is no terminal to ask at.
        DeclinedError: the answer is no.
    """
    if not has_terminal():
        raise SettingsError(
            "this command asks before it acts, and there is no terminal; nothing was changed",
            "give --yes to do it, or --dry-run to see what would be done",
        )
    try:
        agreed = typer.confirm("Do this?", err=True)
    except typer.Abort:
        agreed = False
    if not agreed:
        raise DeclinedError
