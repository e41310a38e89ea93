"""Submissions and uploads in one SQLite file: what the server acknowledged survives `kill -9`."""

import sqlite3
import zlib
from dataclasses import dataclass
from pathlib import Path

from infra.practice.errors import PracticeError

FIRST_REF = 40_000_001
UPLOAD_LIFE_MS = 24 * 3600 * 1000
FORMAT = 2

SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (
    token TEXT PRIMARY KEY, file_name TEXT NOT NULL, length INTEGER NOT NULL, started_ms INTEGER NOT NULL,
    body BLOB -- NULL until the PUT has arrived; deflated
) STRICT;
CREATE TABLE IF NOT EXISTS submissions (
    ref INTEGER PRIMARY KEY, competition TEXT NOT NULL, file_name TEXT NOT NULL, description TEXT NOT NULL,
    posted_ms INTEGER NOT NULL, length INTEGER NOT NULL, body BLOB NOT NULL, -- deflated
    score TEXT NOT NULL, error TEXT NOT NULL,    -- computed when posted, shown from ready_ms on
    ready_ms INTEGER,                            -- NULL: never
    listed_ms INTEGER NOT NULL                   -- when it appears in the list
) STRICT;
"""


@dataclass(frozen=True)
class Upload:
    """An announced upload, with its bytes once they have arrived."""

    token: str
    file_name: str
    length: int
    body: bytes | None


@dataclass(frozen=True)
class Submission:
    """A stored submission. Times are milliseconds since the epoch."""

    ref: int
    competition: str
    file_name: str
    description: str
    posted_ms: int
    length: int
    score: str
    error: str
    ready_ms: int | None
    listed_ms: int

    def status(self, now_ms: int) -> str:
        """Return Kaggle's name for its state at this time."""
        if self.ready_ms is None or now_ms < self.ready_ms:
            return "PENDING"
        return "ERROR" if self.error else "COMPLETE"


COLUMNS = ", ".join(Submission.__dataclass_fields__)


def open_ledger(path: Path, now_ms: int) -> sqlite3.Connection:
    """Open or create the file, and drop uploads that were not submitted within a day.

    Each statement is a transaction of its own, on disk when it returns.
    """
    try:
        ledger = sqlite3.connect(path, isolation_level=None)
        ledger.execute("PRAGMA synchronous = FULL")
        (tables,) = ledger.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (found,) = ledger.execute("PRAGMA user_version").fetchone()
        if tables and found != FORMAT:
            raise sqlite3.DatabaseError(f"its format is {found}, not {FORMAT}")
        ledger.executescript(f"{SCHEMA} PRAGMA user_version = {FORMAT};")
        ledger.execute("DELETE FROM uploads WHERE started_ms < ?", (now_ms - UPLOAD_LIFE_MS,))
    except sqlite3.Error as error:
        raise PracticeError(
            f"{path} does not hold this server's submissions ({error})",
            "move it away, and the server starts a new one",
        ) from error
    return ledger


def announce_upload(ledger: sqlite3.Connection, upload: Upload, now_ms: int) -> None:
    """Store an upload that was announced."""
    row = (upload.token, upload.file_name, upload.length, now_ms)
    ledger.execute("INSERT INTO uploads (token, file_name, length, started_ms) VALUES (?, ?, ?, ?)", row)


def store_upload(ledger: sqlite3.Connection, token: str, body: bytes) -> None:
    """Store the bytes of an upload; storing them twice is harmless."""
    ledger.execute("UPDATE uploads SET body = ? WHERE token = ?", (zlib.compress(body, 1), token))


def find_upload(ledger: sqlite3.Connection, token: str) -> Upload | None:
    """Return the upload of this token if it has not been submitted yet."""
    row = ledger.execute(
        "SELECT token, file_name, length, body FROM uploads WHERE token = ?", (token,)
    ).fetchone()
    if row is None:
        return None
    token, file_name, length, body = row
    return Upload(token, file_name, length, None if body is None else zlib.decompress(body))


def store_submission(ledger: sqlite3.Connection, upload: Upload, body: bytes, submission: Submission) -> int:
    """Replace an upload by its submission in one transaction, and return the submission's ref.

    `submission.ref` is ignored: refs count up from 40,000,001, across competitions.
    """
    fields = [getattr(submission, name) for name in Submission.__dataclass_fields__][1:]
    values = ", ".join("?" * (len(fields) + 2))
    ledger.execute("BEGIN IMMEDIATE")
    try:
        (ref,) = ledger.execute("SELECT coalesce(max(ref) + 1, ?) FROM submissions", (FIRST_REF,)).fetchone()
        ledger.execute(
            f"INSERT INTO submissions ({COLUMNS}, body) VALUES ({values})",  # noqa: S608 - our own names
            (ref, *fields, zlib.compress(body, 1)),
        )
        ledger.execute("DELETE FROM uploads WHERE token = ?", (upload.token,))
    except BaseException:
        ledger.execute("ROLLBACK")
        raise
    ledger.execute("COMMIT")
    return int(ref)


def list_submissions(ledger: sqlite3.Connection, competition: str) -> list[Submission]:
    """Return all submissions to a competition, newest first."""
    query = f"SELECT {COLUMNS} FROM submissions WHERE competition = ? ORDER BY ref DESC"  # noqa: S608 - our own names
    return [Submission(*row) for row in ledger.execute(query, (competition,))]


def list_all(ledger: sqlite3.Connection, now_ms: int) -> None:
    """List from now on what was to be listed later."""
    ledger.execute("UPDATE submissions SET listed_ms = ? WHERE listed_ms > ?", (now_ms, now_ms))


def find_submission(ledger: sqlite3.Connection, ref: int) -> Submission | None:
    """Return the submission of this ref, whichever its competition."""
    query = f"SELECT {COLUMNS} FROM submissions WHERE ref = ?"  # noqa: S608 - our own names
    row = ledger.execute(query, (ref,)).fetchone()
    return None if row is None else Submission(*row)
