"""The README.md of an exported version: what it is, how good it is, and how to load it."""

from flows.records import Score, VersionEntry
from mnist_core.manifest import LEARNER, MANIFEST, ONNX, WEIGHTS
from mnist_core.models.base import find
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec

MARKER = "<!-- Written by `python -m flows export`, which replaces this folder's files. -->"
"""First line of the page, by which a folder is recognised as an earlier export."""

USE = """\
## Use it

Run these in this folder, with the Python that has this project installed. `my-digit.png` is any picture of
one digit: a photograph, a scan or a drawing.

On the command line:

```console
$ python -m mnist_core predict . my-digit.png
```

In ONNX Runtime; the graph itself needs neither this project nor torch:

```python
from pathlib import Path

import onnxruntime

from mnist_core import read_image, read_manifest

spec = read_manifest(Path(".")).spec  # the competition: its shape and classes
digit = read_image(Path("my-digit.png"), spec)  # uint8 {shape}{ink}
session = onnxruntime.InferenceSession("{onnx}")
(logits,) = session.run(None, {{"pixels": digit[None]}})  # uint8 {batch} to float32 (N, {classes})
print(spec.classes[logits.argmax()])
```

In plain torch:

```python
import torch

from mnist_core import load

net, manifest = load(Path("."))  # an nn.Module, from {manifest} and {weights}
print(net(torch.from_numpy(digit[None])).softmax(1))
```

In fastai:

```python
from mnist_core import {names}

learner = {learner}
print(learner.predict(to_fastai(digit, spec)))
```
"""

PICKLE = f"""
`{LEARNER}` is a pickle, and loading a pickle can run any code: load it only if you trust everybody who can
write to the store that it came from, and to this folder.
"""


def model_card(
    version: VersionEntry, spec: CompetitionSpec, server: str, score: Score | None, role: str
) -> str:
    """Return the README.md of an exported version.

    Args:
        version: what was exported.
        spec: the competition that it was trained for.
        server: name of the competition's server: `kaggle`, `practice`, or host and port.
        score: how its submission ended; None if that is not known.
        role: what it is in its store, such as `champion`; may be empty.
    """
    has_learner = LEARNER in version.objects
    use = USE.format(
        onnx=ONNX, manifest=MANIFEST, weights=WEIGHTS,
        names="load_learner, to_fastai" if has_learner else "to_fastai, to_learner",
        learner='load_learner(Path("."))' if has_learner else "to_learner(net, spec.classes)",
        shape=spec.picture_shape, batch=f"(N, {', '.join(map(str, spec.picture_shape))})",
        classes=spec.class_count, ink=": 0 background, 255 full ink" if spec.channels == 1 else ": RGB",
    )  # fmt: skip
    rows = "".join(f"| {name} | {value} |\n" for name, value in _facts(version, spec, server, score))
    called = f", {role}" if role else ""
    subject = "handwritten digits" if spec.is_like(DIGIT_RECOGNIZER) else f"the pictures of {spec.name}"
    return "\n".join(
        [
            MARKER,
            f"# {version.version}\n",
            f"A classifier of {subject} ({version.model}{called}): a picture of {spec.size} pixels",
            f"in, the logits of the classes {spec.class_range} out. Preprocessing is part of the network.\n",
            f"| | |\n|---|---|\n{rows}",
            use + (PICKLE if has_learner else ""),
        ]
    )


def _facts(
    version: VersionEntry, spec: CompetitionSpec, server: str, score: Score | None
) -> list[tuple[str, str]]:
    """Return name and value of what is known: data, recipe and scores."""
    facts = version.model_extra or {}
    low, high = version.valid_interval
    accuracy = (
        f"{version.valid_accuracy:.4f} on {version.valid_rows:,} rows of {spec.train_file} that it was not"
    )
    rows = [
        ("held-out accuracy", f"{accuracy} trained on; 95 % interval {low:.4f} to {high:.4f}"),
        ("public score", public_score(server, score)),
        ("data", _data(spec, facts)),
        ("recipe", _recipe(version, facts)),
    ]
    if version.members:
        rows.append(("members", ", ".join(version.members)))
    for name, fact in {"created": "created", "made by": "code_version"}.items():
        if fact in facts:
            rows.append((name, str(facts[fact])))
    if isinstance(libraries := facts.get("libraries"), dict):
        rows.append(("libraries", ", ".join(f"{name} {number}" for name, number in libraries.items())))
    return rows


def public_score(server: str, score: Score | None) -> str:
    """Return a public score with the server that gave it: only that of kaggle.com is Kaggle's."""
    if score is None or score.public_score is None:
        return "none known"
    if server == "kaggle":
        return f"{score.public_score:.5f} on kaggle.com"
    where = "the practice server" if server == "practice" else server
    return f"practice score {score.public_score:.5f}, given by {where}; not submitted to kaggle.com"


def _data(spec: CompetitionSpec, facts: dict[str, object]) -> str:
    rows = facts.get("rows")
    trained = f"trained on {rows:,} rows of " if isinstance(rows, int) else ""
    digest = f" (data digest {str(facts['data_digest'])[:12]})" if facts.get("data_digest") else ""
    return f"{trained}{spec.train_file} of the competition {spec.name}{digest}"


def _recipe(version: VersionEntry, facts: dict[str, object]) -> str:
    recipe = find(version.model).presets.get(version.preset)
    epochs = facts.get("epochs") or getattr(recipe, "epochs", None)
    note = f", {epochs} epochs" if epochs else ""
    return f"{version.model} {version.preset}{note}, seed {version.seed}; `{MANIFEST}` has the sizes"
