"""What mnist_core may know, what it imports and when, and what it exports."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import mnist_core
from mnist_core import export
from mnist_core.models.convnet.net import ConvNet

ROOT = Path(mnist_core.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MODULES = sorted(".".join(file.relative_to(ROOT.parent).with_suffix("").parts) for file in FILES)
OUTSIDE = {
    "boto3",
    "botocore",
    "dotenv",
    "flows",
    "infra",
    "kaggle",
    "kagglesdk",
    "prefect",
    "pydantic_settings",
}
NETWORK = {"http", "httpx", "requests", "socket", "urllib", "urllib3"}
ENVIRONMENT_AND_CLOCK = {
    "os.environ",
    "os.getenv",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "time.gmtime",
    "time.localtime",
    "time.time",
    "time.time_ns",
}
HEAVY = {"fastai", "fastcore", "torchvision"}

# What only mnist_core/spec.py (names) and mnist_core/competitions (numbers) may say about a competition.
NUMBERS = {28, 784, 28_000, 42_000}
STRINGS = {"label", "Label", "train.csv", "test.csv", "sample_submission.csv", "0123456789"}
PARTS = ("digit-recognizer", "ImageId")
EXCEPTIONS = {
    ("infra/practice/server.py", "range(10)"): "tries to take a lock",
    ("mnist_core/predict_commands.py", "label"): "a key of `predict --json`",
    ("mnist_core/shards.py", "label"): "a column of the parts",
    ("mnist_core/guess_spec.py", "label"): "a key of the specification, and a usual name",
    ("mnist_core/_spec_keys.py", "label"): "a key of a specification",
}


def imports(tree):
    """Yield the full names of everything that a file imports, at any level."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def uses(tree):
    """Yield the dotted names that a file uses, with its `from … import …` spelt out."""
    homes = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, *rest = ast.unparse(node).split(".")
            yield ".".join([homes.get(first, first), *rest])


def at_import(tree):
    """Yield the parts of a file that run on import: all but functions and what only type checkers read."""
    for node in tree.body:
        checked_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not checked_only and not isinstance(node, ast.FunctionDef):
            yield node


@pytest.mark.parametrize("file", FILES, ids=MODULES)
def test_the_library_knows_nothing_of_its_host(file):
    """No file imports Prefect, Kaggle, S3, the flows or a network, or reads the environment or the date."""
    tree = ast.parse(file.read_text())
    names = {*imports(tree), *uses(tree)}

    assert not {name for name in imports(tree) if name.partition(".")[0] in OUTSIDE | NETWORK}
    assert not names & ENVIRONMENT_AND_CLOCK


def test_the_check_finds_each_kind_of_import():
    """The check above would notice each of the ways to write it."""
    tree = ast.parse(
        "import os, time\nfrom datetime import datetime as d\nfrom os import getenv\n"
        "def f():\n    import prefect.flows\n    return os.environ['A'], d.now(), time.time()"
    )

    assert {"prefect.flows", "os.getenv"} <= set(imports(tree))
    assert {"os.environ", "datetime.datetime.now", "time.time"} <= set(uses(tree))


def competition_literals(tree):
    """Yield the literals of a file that define a competition: rows, shape, names, number of classes."""
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose:
                yield from {text} & STRINGS
                yield from (part for part in PARTS if part in text)
            case ast.Constant(value=bytes(text)):
                yield from (part for part in PARTS if part.encode() in text)
            case ast.Constant(value=int(number)) if number in NUMBERS:
                yield str(number)
            case ast.Call(func=ast.Name("range"), args=[ast.Constant(10)]):
                yield "range(10)"
            case ast.keyword("minlength", ast.Constant(10)):
                yield "minlength=10"
            case ast.Tuple([*_, ast.Constant(10)]):  # the shape of an array with a column for each class
                yield "(…, 10)"


def test_a_competition_is_defined_in_one_place():
    """Rows, picture shape, classes, columns and names stand in specifications; spec.py has their defaults."""
    top = ROOT.parent
    found = {
        (file.relative_to(top).as_posix(), literal)
        for folder in ("mnist_core", "flows", "infra")
        for file in (top / folder).rglob("*.py")
        for literal in competition_literals(ast.parse(file.read_text()))
        if file != ROOT / "spec.py" or literal.isdecimal()
    }

    assert found - EXCEPTIONS.keys() == set()
    assert EXCEPTIONS.keys() <= found, "this exception is no longer needed"


def test_the_search_for_literals_finds_each_kind():
    """The check above would notice each of the ways to write it, and ignores docstrings."""
    tree = ast.parse(
        '"""28 and train.csv."""\n'
        "shape = (2, 28)\npixels = 784\nname = f'{x}/digit-recognizer.zip'\nheader = b'ImageId,Label'\n"
        "for i in range(10): np.bincount(x, minlength=10); np.zeros((n, 10)); open('train.csv')"
    )

    assert sorted(competition_literals(tree)) == [
        *("(…, 10)", "28", "784", "ImageId", "digit-recognizer", "minlength=10", "range(10)", "train.csv"),
    ]


@pytest.mark.parametrize("file", FILES, ids=MODULES)
def test_fastai_is_imported_only_where_it_is_used(file):
    """fastai takes seconds to import and is optional, so functions import it, and modules do not."""
    names = [name for node in at_import(ast.parse(file.read_text())) for name in imports(node)]

    assert not {name for name in names if name.partition(".")[0] in HEAVY}


def run(script):
    """Run Python in a process of its own, and return the JSON that it prints."""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_importing_the_package_imports_nothing_heavy():
    """`import mnist_core` is instant; the first use of a name imports what that name needs."""
    script = "import json, sys, mnist_core; print(json.dumps([*sys.modules]))"

    assert not {"torch", "numpy", "PIL", "pandas", *HEAVY} & set(run(script))


def test_reading_digits_does_not_import_torch():
    """Digits, CSV files and evaluation need only numpy."""
    script = (
        "import json, sys\n"
        "from mnist_core import Digits, assign_folds, compare, evaluate, read_train, to_csv, to_pil\n"
        "print(json.dumps([*sys.modules]))"
    )

    assert not {"torch", *HEAVY} & set(run(script))


def test_inference_with_a_graph_does_not_import_torch(tmp_path):
    """A bundle with a graph is opened in ONNX Runtime and predicts without torch."""
    export(ConvNet((2, 2, 2, 2)), tmp_path, {}, learner=False)
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from mnist_core import open_model\n"
        f"model = open_model(Path({str(tmp_path)!r}))\n"
        "assert model.predict(np.zeros((3, 28, 28), np.uint8)).shape == (3, 10)\n"
        "print(json.dumps([*sys.modules]))"
    )

    assert not {"torch", "onnx", *HEAVY} & set(run(script))


def test_every_module_imports_without_fastai():
    """Each module can be imported without fastai and torchvision, as in the CPU image."""
    script = f"""
import json, sys
from importlib import import_module
for name in {sorted(HEAVY | OUTSIDE)}:
    sys.modules[name] = None  # importing it raises ImportError
for name in {[name.removesuffix(".__init__") for name in MODULES]}:
    import_module(name)
print(json.dumps([]))
"""
    assert run(script) == []


def test_every_exported_name_can_be_imported():
    """`__all__` lists the public names once; each is an attribute of the module that is named for it."""
    assert len(set(mnist_core.__all__)) == len(mnist_core.__all__)
    assert set(mnist_core.__all__) <= set(dir(mnist_core))
    for name, module in mnist_core._MODULE_OF.items():
        assert getattr(mnist_core, name) is getattr(import_module(f"mnist_core.{module}"), name)


def test_no_exported_name_is_a_module():
    """Importing a module sets an attribute of its package, which would replace a function of that name."""
    assert not {name for name in mnist_core.__all__ if f"mnist_core.{name}" in MODULES}


def test_an_unknown_name_is_an_attribute_error():
    """A misspelt name fails as with any module."""
    with pytest.raises(AttributeError, match="'mnist_core' has no attribute 'trian'"):
        mnist_core.trian  # noqa: B018, as reading it is the test


def test_the_checkers_see_the_same_names():
    """The imports for type checkers are the names that are imported lazily, marked as exported."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))

    assert set(imports(checked)) == {
        f"mnist_core.{module}.{name}" for name, module in mnist_core._MODULE_OF.items()
    }
    assert all(
        alias.asname == alias.name
        for node in ast.walk(checked)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )


@pytest.mark.parametrize("package", ["mnist_core", "flows", "infra"])
def test_a_package_ships_its_types(package):
    """Type checkers read the annotations of a package only if it has this file."""
    assert (ROOT.parent / package / "py.typed").is_file()


def test_the_version_stands_in_one_place():
    """The build reads the version of the distribution from the package."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())

    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "mnist_core/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", mnist_core.__version__)
