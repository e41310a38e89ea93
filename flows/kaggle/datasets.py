"""Data sets on Kaggle: the file of labelled rows that the practice server deals as a competition."""

import fcntl
import shutil
import tempfile
from pathlib import Path

from flows.kaggle.address import LIVE, LIVE_URL, server_name
from flows.kaggle.client import Client
from flows.kaggle.credentials import log_ins
from flows.kaggle.download import disk_explained, unzip
from flows.kaggle.errors import CompetitionError
from flows.kaggle.session import Session
from flows.report.progress import progress
from flows.settings import DATASET, Settings

MOST_BYTES = 8_000_000_000
"""Size of an unpacked file above which it is refused: no file of small pictures is larger."""


def labelled_file(settings: Settings) -> Path:
    """Return the labelled file of the data set that is the competition's source, downloaded if need be.

    Raises:
        SettingsError: there are no credentials for kaggle.com.
        CompetitionError: Kaggle failed, or the data set has no such file.
    """
    spec = settings.competition_spec
    dataset = spec.source.removeprefix(DATASET)
    folder = settings.home / "data" / "datasets" / dataset.replace("/", "_")
    kept = folder / spec.train_file
    if kept.exists():
        return kept
    with disk_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one download at a time; the next process finds its file
            if not kept.exists():
                _download(_client(settings), dataset, kept)
    return kept


def _client(settings: Settings) -> Client:
    first, *others = log_ins(settings.model_copy(update={"kaggle": LIVE}))
    name = settings.competition_spec.source.removeprefix(DATASET)
    return Client(Session(LIVE_URL, server_name(LIVE), name, first, settings.timeout_s, others=others))


def _download(client: Client, dataset: str, wanted: Path) -> None:
    for leftover in wanted.parent.glob("unpack-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with progress(f"download {dataset}") as advance:
        archive = client.download_dataset(dataset, wanted.parent / "partial", advance)
    unpacked = Path(tempfile.mkdtemp(dir=wanted.parent, prefix="unpack-"))
    try:
        unzip(archive, unpacked, {wanted.name: MOST_BYTES})
        (unpacked / wanted.name).rename(wanted)
    except CompetitionError as error:
        archive.unlink(missing_ok=True)  # the next try must not find the same bad zip
        remedy = f"set [files] train to a file of https://www.kaggle.com/datasets/{dataset}"
        raise CompetitionError(error.problem, remedy, retryable=error.retryable) from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    archive.unlink()
