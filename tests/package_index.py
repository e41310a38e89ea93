"""A simple package index on loopback, and small wheels for it."""

import base64
import functools
import hashlib
import inspect
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def write_wheel(folder, name, version, needs=(), extras=(), files=None, tag="py3-none-any"):
    """Write a wheel with one empty module, and return its file name."""
    contents = {f"{name}/__init__.py": "", **(files or {})}
    info = f"{name}-{version}.dist-info"
    about = [f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}"]
    about += [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {need}" for need in needs]
    contents[f"{info}/METADATA"] = "\n".join(about) + "\n"
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
    lines = [f"{info}/RECORD,,"]
    for path, text in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text)}")
    contents[f"{info}/RECORD"] = "\n".join(lines) + "\n"
    wheel = Path(folder) / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in contents.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, text)
    return wheel.name


WHEEL_CODE = "import base64, hashlib, zipfile\nfrom pathlib import Path\n" + inspect.getsource(write_wheel)


class Index:
    """A simple index on loopback: `wheels` has a folder for each project, `asked` what it was asked for."""

    def __init__(self, wheels: Path) -> None:
        self.wheels = wheels
        self.asked: list[str] = []
        wheels.mkdir()
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                super().do_GET()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(wheels)))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server.server_port}"

    def add(self, name: str, version: str, needs=(), **more) -> None:
        """Put a wheel into it."""
        folder = self.wheels / name.replace("_", "-")
        folder.mkdir()
        write_wheel(folder, name, version, needs, **more)
