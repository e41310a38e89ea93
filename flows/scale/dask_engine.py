"""The engine of a Dask cluster that exists: an address of its scheduler, and workers with this package.

A task is the name of a function, the address of the output and the number of a shard: no data, no settings
and no credentials travel, and no worker keeps a result. What is finished is in the output, whatever becomes
of the cluster.
"""

from __future__ import annotations

import itertools
import logging
import queue
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.environment import SettingsError
from flows.scale.worker import Failure, Outcome, run_on_dask
from mnist_core.errors import MnistError

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger("mnist")
IN_FLIGHT = 256
"""Shards that the scheduler has at once: it needs no memory for the others."""
CA, CERT, KEY = "ca.pem", "cert.pem", "key.pem"
"""Of a client of `tls://`: the authority's certificate, its own, and the key of its own."""
CONNECT_S = 30.0
"""Seconds within which the scheduler must answer."""
WORKERS_S = 300.0
"""Seconds that a cluster may be without a worker: its machines may have to be booted."""
LOOK_S = 5.0
"""Seconds without an outcome after which the cluster is looked at."""
LOSSES = 5
"""Times in a row that the scheduler may be lost before a shard is finished."""
ON_SCHEDULER = ("python", "dask", "distributed", "cloudpickle", "msgpack", "tornado")
"""Packages whose versions must be equal on scheduler, workers and client."""
ON_WORKERS = (*ON_SCHEDULER, "mnist-nightly", "numpy", "onnxruntime", "pyarrow")
"""And on workers and client."""


class ClusterError(MnistError):
    """A Dask cluster that cannot be reached, has no workers, or has other versions."""

    retryable = True


class SchedulerLostError(ClusterError):
    """The connection to the scheduler is lost."""


class DaskEngine:
    """The workers of a Dask cluster.

    Args:
        address: of the scheduler, as `tcp://host:8786` or `tls://host:8786`.
        certificates: folder with `CA`, `CERT` and `KEY`, for `tls://`.
        workers_s: seconds that the cluster may be without a worker.

    Raises:
        SettingsError: a file is missing.
    """

    def __init__(self, address: str, certificates: Path | None = None, workers_s: float = WORKERS_S) -> None:
        self.address = address
        self.files = None if not address.startswith("tls://") else _files(certificates)
        self.workers_s = workers_s

    def __call__(self, output: str, numbers: Sequence[int]) -> Iterator[Outcome]:
        """Do shards; if the scheduler is started again, those that it had are given to it again.

        Raises:
            ClusterError: the scheduler does not answer, has no workers, or versions differ.
        """
        todo = dict.fromkeys(numbers)
        losses = 0
        while todo:
            try:
                with self._connect() as client:
                    self._check(client)
                    for outcome in _Run(client, self, output, list(todo)):
                        del todo[outcome.number]
                        losses = 0
                        yield outcome
            except SchedulerLostError as error:
                losses += 1
                if losses >= LOSSES:
                    raise
                log.warning("%s (connecting again)", error.problem)

    def _connect(self) -> Client:
        from distributed import Client, Security
        from distributed.versions import VersionMismatchWarning

        warnings.simplefilter("ignore", VersionMismatchWarning)  # they are compared below
        security = None
        if self.files is not None:
            ca, cert, key = map(str, self.files)
            security = Security(
                require_encryption=True, tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key
            )
        try:
            return Client(
                self.address, timeout=CONNECT_S, security=security, set_as_default=False, name="predict"
            )
        except (OSError, ValueError, TypeError) as error:
            raise ClusterError(
                f"the Dask scheduler {self.address} does not answer within {CONNECT_S:.0f} s ({error})",
                "start it with `dask scheduler`, or correct --scheduler; finished shards are kept, so run "
                "the same command again",
            ) from error

    def _check(self, client: Client) -> None:
        """Wait for a worker, and compare the versions of client, scheduler and workers."""
        try:
            if not client.scheduler_info(n_workers=0)["n_workers"]:
                log.info("waiting for workers of the Dask scheduler %s", self.address)
                client.wait_for_workers(1, timeout=self.workers_s)
            versions: Any = client.get_versions(packages=list(ON_WORKERS))
            wrong = differences(versions)
        except TimeoutError:
            raise _no_workers(self.address, self.workers_s) from None
        except OSError as error:
            raise _lost(self.address) from error
        if wrong:
            more = f" (and {len(wrong) - 1} more differences)" if len(wrong) > 1 else ""
            raise ClusterError(
                f"the Dask cluster {self.address} has other versions: {wrong[0]}{more}",
                "run scheduler, workers and this command from the same image",
                retryable=False,
            )


def _files(folder: Path | None) -> list[Path]:
    files = [(folder or Path()) / name for name in (CA, CERT, KEY)]
    missing = [path.name for path in files if not path.is_file()]
    if folder is None or missing:
        raise SettingsError(
            f"MNIST_SCHEDULER_CERTIFICATES: {folder or 'is not set'}: has no {', '.join(missing)}",
            f"a scheduler of tls:// needs a folder with {CA}, {CERT} and {KEY}",
        )
    return files


class _Run:
    """The shards of one connection."""

    def __init__(self, client: Client, engine: DaskEngine, output: str, numbers: Sequence[int]) -> None:
        self._client, self._engine, self._output = client, engine, output
        self._waiting = iter(numbers)
        self._ended: queue.Queue[Future] = queue.Queue()
        self._numbers: dict[str, int] = {}
        self._id = uuid.uuid4().hex[:8]
        self._empty_since: float | None = None

    def __iter__(self) -> Iterator[Outcome]:
        """Yield the outcomes of all shards, with some hundreds of them in flight.

        Raises:
            SchedulerLostError: the scheduler is gone.
            ClusterError: there are no workers.
        """
        self._submit(IN_FLIGHT)
        while self._numbers:
            try:
                future = self._ended.get(timeout=LOOK_S)
            except queue.Empty:
                self._look()
                continue
            self._empty_since = None
            outcome = self._outcome(future)
            del self._numbers[str(future.key)]
            future.release()
            self._submit(1)
            yield outcome

    def _submit(self, count: int) -> None:
        for number in itertools.islice(self._waiting, count):
            key = f"shard-{self._id}-{number}"
            self._numbers[key] = number
            future = self._client.submit(run_on_dask, self._output, number, key=key, pure=False)
            future.add_done_callback(self._ended.put)

    def _outcome(self, future: Future) -> Outcome:
        """Return how a shard ended.

        Raises:
            SchedulerLostError: that is unknown, because the scheduler is gone.
        """
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        number = self._numbers[str(future.key)]
        try:
            return Outcome.from_json(future.result())
        except KilledWorker as error:
            failure = Failure(
                f"shard {number}: {error.allowed_failures + 1} workers that had it died, the last one "
                f"was {error.last_worker.address}",
                "look for the cause in the workers' logs; if they were short of memory, give them more",
                again=True,  # the deaths count for all shards that a worker had, and machines are reclaimed
            )
        except (CancelledError, OSError) as error:
            raise _lost(self._engine.address) from error
        except Exception as error:
            failure = Failure(
                f"shard {number}: a worker cannot do it: {type(error).__name__}: {error}",
                "run scheduler, workers and this command from the same image",
            )
        return Outcome(number, failure=failure)

    def _look(self) -> None:
        """Look whether the cluster still has workers."""
        if self._client.status != "running":
            raise _lost(self._engine.address)
        try:
            count = self._client.scheduler_info(n_workers=0)["n_workers"]
        except Exception as error:  # whatever it is, the scheduler did not answer
            raise _lost(self._engine.address) from error
        now = time.monotonic()
        if count:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
            log.warning("the Dask scheduler %s has no workers left; waiting for some", self._engine.address)
        elif now - self._empty_since > self._engine.workers_s:
            raise _no_workers(self._engine.address, self._engine.workers_s)


def _lost(address: str) -> SchedulerLostError:
    return SchedulerLostError(
        f"the connection to the Dask scheduler {address} is lost",
        "when it runs again, run the same command again: finished shards are kept",
    )


def _no_workers(address: str, seconds: float) -> ClusterError:
    return ClusterError(
        f"the Dask scheduler {address} has had no workers for {seconds:.0f} s",
        f"start some with `dask worker {address}`, then run the same command again: finished shards are kept",
    )


def differences(versions: Mapping[str, Any]) -> list[str]:
    """Return how scheduler and workers differ from this process, the most important first.

    Args:
        versions: as Dask's client returns them: `client`, `scheduler`, and `workers` by address, each with
            `packages`.
    """
    here = versions["client"]["packages"]
    hosts: list[tuple[str, tuple[str, ...], Mapping[str, str | None]]] = [
        ("the scheduler", ON_SCHEDULER, versions["scheduler"]["packages"])
    ]
    hosts += [
        (f"worker {name}", ON_WORKERS, found["packages"])
        for name, found in sorted(versions["workers"].items())
    ]
    own, missing = {package: here.get(package) or "missing" for package in ON_WORKERS}, "missing"
    return [
        f"{package} is {own[package]} here and {packages.get(package) or missing} on {host}"
        for package in ON_WORKERS
        for host, compared, packages in hosts
        if package in compared and here.get(package) != packages.get(package)
    ]
