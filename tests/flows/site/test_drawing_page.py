"""The drawing page: the network answers in a real browser as it does in Python."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.records import RunKey
from flows.site import runtime
from flows.site.build import write_site
from mnist_core import open_model, read_test
from mnist_core.errors import DataError
from mnist_core.images import from_image
from mnist_core.manifest import read_manifest
from mnist_core.spec import DIGITS_MINI

CANVAS, COUNT = 280, 200
ROOT = Path(__file__).parents[3]
PAGE = """<!doctype html><title>test</title><iframe src="draw.html" width="900" height="900"></iframe>
<script type="module">
import { centre, predict } from "./draw.js";
const frame = document.querySelector("iframe");
if (frame.contentDocument.readyState !== "complete") await new Promise((done) => (frame.onload = done));
const found = { digits: [], labels: [] };
try {
  const bytes = new Uint8Array(await (await fetch("pictures.bin")).arrayBuffer()), size = SIZE * SIZE;
  for (let at = 0; at < bytes.length; at += size) {
    const digit = centre(bytes.subarray(at, at + size), SIZE, SIZE);
    const [shares] = await predict(digit);
    found.digits.push(Array.from(digit));
    found.labels.push(shares.indexOf(Math.max(...shares)));
  }
  found.empty = centre(new Uint8Array(size), SIZE, SIZE);
  const page = frame.contentDocument, canvas = page.getElementById("drawing");
  for (let step = 0; step < 16; step++) {
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", shiftKey: true }));
  }
  const answer = page.getElementById("answer");
  const changed = new Promise((done) => new MutationObserver(done).observe(answer, { childList: true }));
  canvas.dispatchEvent(new KeyboardEvent("keyup", { key: "Shift" }));
  await changed;
  found.answer = answer.textContent;
} catch (error) {
  found.error = `${error} ${error.stack}`;
}
await fetch("found", { method: "POST", body: JSON.stringify(found) });
</script>""".replace("SIZE", str(CANVAS))


@pytest.fixture
def npm_package(make_once, settings):
    """Put npm's own package into the home, as the site would download it."""

    def pack(folder):
        command = ["npm", "pack", f"onnxruntime-web@{runtime.VERSION}", "--silent"]
        subprocess.run(command, cwd=folder, check=True, timeout=200, capture_output=True)

    try:
        [path] = make_once("npm", pack).iterdir()
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"needs npm and its registry: {error}")
    target = runtime.package_file(settings.home)
    target.parent.mkdir(parents=True)
    shutil.copy(path, target)


def drawings(pixels):
    """Digits as somebody draws them: of different sizes, anywhere, with smooth edges and no faint specks."""
    random = np.random.default_rng(0)
    for digit in pixels:
        edge = int(random.integers(140, 270))
        picture = Image.new("L", (CANVAS, CANVAS))
        place = tuple(map(int, random.integers(0, CANVAS - edge, 2)))
        digit = np.where(digit < 64, 0, digit).astype(np.uint8)
        picture.paste(Image.fromarray(digit).resize((edge, edge), Image.Resampling.BICUBIC), place)
        yield picture


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_browser_and_python_give_the_same_labels(
    registry, bundle, unpacked, settings, npm_package, in_browser, tmp_path
):
    """200 drawings are centred alike and get the same labels; one drawn with the keys is answered."""
    run = registry.open_attempt(RunKey(night="2026-11-23", model="convnet", preset="fast"), fresh=False)
    version = registry.publish(run, read_manifest(bundle), bundle)
    assert registry.promote(version, 0, "first")
    folder = tmp_path / "site"
    assert write_site(registry, folder, settings).drawing == version
    pictures, digits = [], []
    for picture in drawings(read_test(unpacked / "test.csv", DIGITS_MINI).pixels):
        try:
            digits.append(from_image(picture))
        except DataError:  # two strokes apart: it takes them for two digits
            continue
        pictures.append(np.array(picture))
    digits, pictures = digits[:COUNT], pictures[:COUNT]
    (folder / "pictures.bin").write_bytes(np.stack(pictures).tobytes())
    (folder / "test.html").write_text(PAGE)

    found = in_browser(folder, "test.html")

    assert "error" not in found, found["error"]
    expected = open_model(bundle).predict(np.stack(digits)).argmax(1)
    assert len(expected) == COUNT
    assert str(ROOT).encode() not in (folder / "runtime" / "champion.onnx").read_bytes()
    assert found["labels"] == expected.tolist()
    assert len(set(found["labels"])) == 10
    centred = np.array(found["digits"], np.int64).reshape(-1, 28, 28)
    differing = abs(centred - np.stack(digits)).max((1, 2))
    assert differing.max() <= 1, f"{(differing > 1).sum()} of {COUNT} differ by up to {differing.max()}"
    assert found["empty"] is None
    assert found["answer"].startswith("It is a 1, with ")
