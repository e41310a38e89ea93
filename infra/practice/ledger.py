"""Submissions and uploads in one SQLite file: what was answered survives `kill -9`."""

import sqlite3
import zlib
from dataclasses import dataclass
from pathlib import Path

from infra.practice.errors import PracticeError

FIRST_REF = 40_000_001
UPLOAD_LIFE_MS = 24 * 3600 * 1000

SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (
    token TEXT PRIMARY KEY, file_name TEXT NOT NULL, length INTEGER NOT NULL, started_ms INTEGER NOT NULL,
    body BLOB -- NULL until the PUT arrived, deflated after
) STRICT;
CREATE TABLE IF NOT EXISTS submissions (
    ref INTEGER PRIMARY KEY, file_name TEXT NOT NULL, description TEXT NOT NULL, posted_ms INTEGER NOT NULL,
    length INTEGER NOT NULL, body BLOB NOT NULL, -- deflated
    score TEXT NOT NULL, error TEXT NOT NULL,    -- found when posted, told from ready_ms on
    ready_ms INTEGER,                            -- NULL: never
    listed_ms INTEGER NOT NULL                   -- in the list from here on
) STRICT;
"""


@dataclass(frozen=True)
class Upload:
    """Bytes that were announced, and, once they arrived, put."""

    token: str
    file_name: str
    length: int
    body: bytes | None


@dataclass(frozen=True)
class Submission:
    """A stored submission. Times are milliseconds since the epoch."""

    ref: int
    file_name: str
    description: str
    posted_ms: int
    length: int
    score: str
    error: str
    ready_ms: int | None
    listed_ms: int

    def status(self, now_ms: int) -> str:
        """What Kaggle would call it now."""
        if self.ready_ms is None or now_ms < self.ready_ms:
            return "PENDING"
        return "ERROR" if self.error else "COMPLETE"


COLUMNS = ", ".join(Submission.__dataclass_fields__)


def open_ledger(path: Path, now_ms: int) -> sqlite3.Connection:
    """Open or make the file, and forget uploads that nobody submitted within a day.

    Each statement is a transaction of its own, on disk when it returns.
    """
    try:
        ledger = sqlite3.connect(path, isolation_level=None)
        ledger.execute("PRAGMA synchronous = FULL")
        ledger.executescript(SCHEMA)
        ledger.execute("DELETE FROM uploads WHERE started_ms < ?", (now_ms - UPLOAD_LIFE_MS,))
    except sqlite3.Error as error:
        raise PracticeError(
            f"{path} holds no submissions ({error}): move it away, and the server starts a new one"
        ) from error
    return ledger


def announce_upload(ledger: sqlite3.Connection, upload: Upload, now_ms: int) -> None:
    """Remember an upload that was started."""
    row = (upload.token, upload.file_name, upload.length, now_ms)
    ledger.execute("INSERT INTO uploads (token, file_name, length, started_ms) VALUES (?, ?, ?, ?)", row)


def store_upload(ledger: sqlite3.Connection, token: str, body: bytes) -> None:
    """Keep the bytes of an upload; again is harmless."""
    ledger.execute("UPDATE uploads SET body = ? WHERE token = ?", (zlib.compress(body, 1), token))


def find_upload(ledger: sqlite3.Connection, token: str) -> Upload | None:
    """The upload of this token, if it waits to be submitted."""
    row = ledger.execute(
        "SELECT token, file_name, length, body FROM uploads WHERE token = ?", (token,)
    ).fetchone()
    if row is None:
        return None
    token, file_name, length, body = row
    return Upload(token, file_name, length, None if body is None else zlib.decompress(body))


def store_submission(ledger: sqlite3.Connection, upload: Upload, submission: Submission) -> int:
    """Store a submission in place of its upload, in one transaction; the answer is its ref.

    `submission.ref` is ignored: refs count up from 40,000,001.
    """
    assert upload.body is not None
    body = zlib.compress(upload.body, 1)
    fields = [getattr(submission, name) for name in Submission.__dataclass_fields__][1:]
    ledger.execute("BEGIN IMMEDIATE")
    try:
        (ref,) = ledger.execute("SELECT coalesce(max(ref) + 1, ?) FROM submissions", (FIRST_REF,)).fetchone()
        ledger.execute(
            f"INSERT INTO submissions ({COLUMNS}, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own names
            (ref, *fields, body),
        )
        ledger.execute("DELETE FROM uploads WHERE token = ?", (upload.token,))
    except BaseException:
        ledger.execute("ROLLBACK")
        raise
    ledger.execute("COMMIT")
    return int(ref)


def list_submissions(ledger: sqlite3.Connection) -> list[Submission]:
    """All submissions, newest first."""
    rows = ledger.execute(f"SELECT {COLUMNS} FROM submissions ORDER BY ref DESC")  # noqa: S608 - our own names
    return [Submission(*row) for row in rows]


def read_body(ledger: sqlite3.Connection, ref: int) -> bytes | None:
    """The file that was submitted under this ref."""
    row = ledger.execute("SELECT body FROM submissions WHERE ref = ?", (ref,)).fetchone()
    return row and zlib.decompress(row[0])
