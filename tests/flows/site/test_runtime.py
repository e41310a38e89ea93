"""The browser's ONNX Runtime: downloaded once, checked by its digest, and needed by one page alone."""

import base64
import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.records import VersionEntry
from flows.site import drawing, runtime
from flows.site.build import write_site
from mnist_core.manifest import ONNX


def package():
    """A package like npm's."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in runtime.FILES:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    return packed.getvalue()


@pytest.fixture
def npm(monkeypatch):
    """A registry on loopback that answers with `content`; `asked` counts how often."""

    class Registry:
        content, asked = package(), 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            Registry.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(Registry.content)))
            self.end_headers()
            self.wfile.write(Registry.content)

        def log_message(self, *_):
            """Leave the terminal alone."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(runtime, "ADDRESS", f"http://127.0.0.1:{server.server_port}/package.tgz")
    digest = base64.b64encode(hashlib.sha512(Registry.content).digest()).decode()
    monkeypatch.setattr(runtime, "SHA512", digest)
    yield Registry
    server.shutdown()
    server.server_close()


def test_the_package_is_downloaded_once(npm, tmp_path):
    """The second site takes it from the home; one that changed there is downloaded again."""
    first, second = runtime.runtime_files(tmp_path), runtime.runtime_files(tmp_path)
    runtime.package_file(tmp_path).write_bytes(b"damaged")

    assert first == second == runtime.runtime_files(tmp_path)
    assert first == {name: name.encode() for name in runtime.FILES} | {
        "LICENSE.txt": runtime.LICENCE.encode()
    }
    assert npm.asked == 2


def test_a_package_with_another_digest_is_not_used(npm, tmp_path, caplog):
    """What is not byte for byte the pinned package is neither kept nor published."""
    npm.content += b"more"

    assert runtime.runtime_files(tmp_path) is None
    assert not runtime.package_file(tmp_path).exists()
    assert "does not have its digest" in caplog.text


def test_without_the_package_the_site_says_so(
    registry, put_night, settings, tmp_path, caplog, npm, monkeypatch
):
    """The other pages are written, and the drawing page says what is missing until the files are there."""
    put_night(1, files={ONNX: b"a graph"})
    address = runtime.ADDRESS
    monkeypatch.setattr(runtime, "ADDRESS", "http://127.0.0.1:9/package.tgz")
    folder = tmp_path / "out"

    assert write_site(registry, folder, settings).drawing is None

    assert "were not available" in (folder / "draw.html").read_text()
    assert (folder / "index.html").exists()
    assert str(runtime.package_file(settings.home)) in caplog.text
    monkeypatch.setattr(runtime, "ADDRESS", address)
    result = write_site(registry, folder, settings)
    assert result.drawing == result.champion
    assert (folder / "runtime" / "champion.onnx").read_bytes() == b"a graph"
    assert {path.name for path in (folder / "runtime").iterdir()} == {
        "champion.onnx", "LICENSE.txt", *runtime.FILES,
    }  # fmt: skip


def test_a_large_ensemble_is_drawn_for_by_its_best_member(registry, put_night, monkeypatch):
    """Above the limit a page gets one member's graph; the single network is published whatever its size."""
    members = [put_night(day, errors=day, files={ONNX: b"member %d" % day}) for day in (3, 1, 2)]
    whole = put_night(4, files={ONNX: b"whole"}, facts={"members": members})
    large = registry.version(whole).model_dump() | {"files": {ONNX: {"sha256": "", "bytes": 6_000_000}}}
    monkeypatch.setattr(registry, "version", lambda name, get=registry.version: (
        VersionEntry(**large) if name == whole else get(name)
    ))  # fmt: skip

    entry, graph = drawing.choose_graph(registry)
    assert (entry.version, graph) == (members[1], b"member 1")

    monkeypatch.setattr(drawing, "LARGEST", 10_000_000)
    entry, graph = drawing.choose_graph(registry)
    assert (entry.version, graph) == (whole, b"whole")
