"""A Dask scheduler and its workers as processes on loopback, which tests kill and start again."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parents[3]


class Cluster:
    """A scheduler and two workers, each as a user starts it."""

    def __init__(self, folder: Path, protocol: str = "tcp", *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"{protocol}://127.0.0.1:{self.port}"
        self.folder, self.options = folder, options
        self.workers: list[subprocess.Popen[str]] = []
        self.start()

    def start(self) -> None:
        """Start the scheduler, at the same address as before, and the workers."""
        self.scheduler = self._run(
            "scheduler", "--host", self.address.rpartition(":")[0], "--port", str(self.port), "--no-show",
            "--no-dashboard",
        )  # fmt: skip
        _wait(self.scheduler, "Scheduler at")
        self.workers = [self._start_worker() for _ in range(2)]
        for worker in self.workers:
            _wait(worker, "Registered to")

    def kill_worker(self, number: int) -> None:
        """Kill a worker in the middle of its work, and start another one in its place."""
        self.workers[number].kill()
        self.workers[number].wait()
        self.workers[number] = self._start_worker()
        _wait(self.workers[number], "Registered to")

    def stop(self) -> None:
        """Kill the scheduler and the workers."""
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()

    def _start_worker(self) -> subprocess.Popen[str]:
        return self._run(
            "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--local-directory", str(self.folder), "--death-timeout", "30",
        )  # fmt: skip

    def _run(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, *self.options],
            env={name: value for name, value in os.environ.items() if not name.startswith("MNIST_")}
            | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


def _wait(process: subprocess.Popen[str], words: str) -> None:
    """Wait until a process logs words; what follows is read and dropped, so that its pipe never is full."""
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(line)
        if words in line:
            threading.Thread(target=_drain, args=(process.stderr,), daemon=True).start()
            return
    raise AssertionError("".join(log[-20:]))


def _drain(pipe) -> None:
    with contextlib.suppress(ValueError):
        for _ in pipe:
            pass


class Recorder:
    """A relay in front of an address, which keeps all bytes that pass."""

    def __init__(self, address: str) -> None:
        self.target = address
        self.bytes = bytearray()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        host, _, port = self.target.rpartition("/")[2].rpartition(":")
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection((host, int(port)))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 16):
                self.bytes += part
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)


def certificates(folder: Path) -> Path:
    """Make an authority and a certificate for scheduler, workers and client; return the folder."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir()
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "cert")}
    ca, own = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("ca", "dask"))
    now = datetime.now(UTC)
    for name, subject in (("ca", ca), ("cert", own)):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca)
            .public_key(keys[name].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .sign(keys["ca"], hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        keys["cert"].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder
