"""The documents say what the code does: a wrong command, option, setting, file or test name fails here."""

import ast
import json
import re
import shlex
import subprocess
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import typer
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from flows.__main__ import app as flows_app
from flows.parameters import NightlyParameters
from flows.preflight import announcement
from flows.records import (
    ChampionResult,
    Decision,
    LeaseState,
    RunKey,
    RunResult,
    Status,
    SubmissionResult,
    VersionEntry,
)
from flows.report.scorecard import Link, Scorecard
from flows.settings import PREFIX, Settings
from infra.practice.__main__ import app as practice_app
from infra.practice.examples.__main__ import app as examples_app
from infra.practice.faults import KINDS
from mnist_core.__main__ import app as core_app
from mnist_core.digits import Digits, write_csv

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        ROOT / "infra/README.md",
        ROOT / "mnist_core/README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
}
PROGRAMS = {
    "flows": typer.main.get_command(flows_app),
    "mnist_core": typer.main.get_command(core_app),
    "infra.practice": typer.main.get_command(practice_app),
    "infra.practice.examples": typer.main.get_command(examples_app),
}


def found(pattern, flags=0):
    """Yield (document, match) for each match of a pattern in the documents."""
    for name, text in DOCS.items():
        for match in re.finditer(pattern, text, flags):
            yield name, match


# README


def test_the_readme_is_short():
    """A newcomer reads it in minutes: at most 150 lines of at most 120 characters."""
    lines = README.splitlines()

    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 120] == []


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    """The library's example works as it stands, from train.csv to a submission."""
    (block,) = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    pixels = np.zeros((28_000, 28, 28), np.uint8)
    pixels[:, 6:22, 10:18] = np.random.default_rng(0).integers(0, 256, (28_000, 16, 8))
    write_csv(Digits(pixels[:60], np.arange(60) % 10), tmp_path / "train.csv")
    write_csv(Digits(pixels), tmp_path / "test.csv")
    monkeypatch.chdir(tmp_path)

    exec(compile(block, "README.md", "exec"), {})

    assert (tmp_path / "submission.csv").read_text().count("\n") == 28_001
    assert (tmp_path / "bundle" / "manifest.json").exists()


NIGHT = RunKey(night="2026-11-28", model="convnet", preset="fast")
VERSION = "2026-11-28-convnet-b8da5f94"


@pytest.mark.parametrize("document", ["README.md", "docs/quickstart.md"])
def test_the_night_that_a_newcomer_sees_is_what_is_printed(document):
    """The first line, and the scorecard, are those that the code makes of the same facts."""
    seconds = {"download": 3.36, "read": 0.3, "train": 10.16, "publish": 2.4, "predict": 1.0, "submit": 2.2}
    reason = "validation accuracy 0.9937 reaches the floor 0.9900, and there is no champion"
    card = Scorecard(
        result=RunResult(
            night=NIGHT.night, version=VERSION, decision=Decision.PROMOTED, reason=reason, seconds=seconds,
            submission=SubmissionResult(
                ref=40000001, status=Status.COMPLETE, public_score=0.9945, posted=True
            ),
            champion=ChampionResult(version=VERSION, valid_accuracy=0.9937, public_score=0.9945),
        ),
        version=VersionEntry(
            version=VERSION, run=NIGHT, objects={}, model="convnet", night=NIGHT.night, preset="fast",
            seed=319918801, valid_rows=8400, valid_accuracy=0.9937, valid_interval=(0.9918, 0.9952),
        ),
        namespace="practice/digit-recognizer/5170f6847170799c",
        manifest=Link(""),
        rank=1,
    )  # fmt: skip
    shown = DOCS[document].splitlines()

    rows = [f" {name:19}  {value}" for name, value in card.rows()]
    assert [row for row in rows if row not in shown] == []
    first = announcement(NightlyParameters(night=NIGHT.night), Settings(), date(2026, 11, 28))
    (line,) = (line for line in shown if line.startswith("06:49:45 "))
    assert first.startswith(line.removeprefix("06:49:45 ").removesuffix(" …"))


# Commands


def test_every_make_target_exists():
    """No document names a target that `make help` does not list."""
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^  make ([a-z0-9-]+)", listed, re.M))

    named = {match[1]: name for name, match in found(r"(?:^|`|=live )make ([a-z0-9][a-z0-9-]*)", re.M)}
    assert len(named) > 10
    assert {target: name for target, name in named.items() if target not in targets} == {}


def wrong_words(program, line):
    """Return the words of a command line that are not a command or option of ours."""
    command, words = PROGRAMS[program], shlex.split(line)
    if hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return words[:1]
        command = command.commands[words.pop(0)]
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    return sorted({word.split("=")[0] for word in words if re.match(r"--\w", word)} - known - {"--help"})


def test_every_command_exists_with_its_options():
    """Each command line of ours in a document has a command, and options that this command takes."""
    usage = r"(?<!Usage: )"  # of the generated reference
    programs = r"(?:python -m (flows|mnist_core|infra\.practice(?:\.examples)?)|(mnist-core))"
    lines = list(found(usage + programs + r"\b([^`|#\n]*)"))

    assert len(lines) > 30
    wrong = {match[0]: wrong_words(match[1] or "mnist_core", match[3]) for _, match in lines}
    assert {line: words for line, words in wrong.items() if words} == {}


def test_a_wrong_command_or_option_is_noticed():
    """The check above finds a command that does not exist, and an option of another command."""
    assert wrong_words("flows", "fly --night 2026-11-23") == ["fly"]
    assert wrong_words("flows", "status --preset best --json") == ["--preset"]
    assert wrong_words("infra.practice", "--port 1 --colour") == ["--colour"]


# Names


def test_every_setting_exists():
    """No document names a setting that the class does not have."""
    named = {match[0]: name for name, match in found(rf"\b{PREFIX}[A-Z_]+[A-Z]\b")}
    known = {PREFIX + name.upper() for name in Settings.model_fields}

    assert {setting: name for setting, name in named.items() if setting not in known} == {}


def test_every_path_exists():
    """A file or folder of ours that a document names is there; NAME stands for a new one."""
    paths = found(r"(?<![\w./-])(?:flows|mnist_core|infra|tests|docs)/[\w./-]*\w")
    missing = {match[0]: name for name, match in paths if not (ROOT / match[0]).exists()}

    assert {path for path in missing if "NAME" not in path and not path.endswith(".tfvars")} == set()


def test_the_json_example_has_the_fields_of_a_result():
    """The object in the quickstart is what `--json` prints."""
    (example,) = re.findall(r'^\{"night".*?\}\}$', DOCS["docs/quickstart.md"], re.M | re.S)

    assert set(json.loads(example)) == set(RunResult.model_fields)


def test_decisions_and_states_are_explained():
    """Each decision and state of a submission is in the quickstart, each state of a lease in its design."""
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.+) \|$", DOCS["docs/quickstart.md"], re.M))

    assert set(re.findall(r"`([\w-]+)`", rows["decision"])) == {str(decision) for decision in Decision}
    assert set(re.findall(r"`(\w+)`", rows["submission.status"])) == {str(status) for status in Status}
    for state in {LeaseState.OPEN, LeaseState.SENT}:
        assert f"`{state}`" in DOCS["docs/design/submit-once.md"]


def test_the_practice_servers_faults_are_listed():
    """Each fault that can be asked for has its row with its parameters, and no row is without a fault."""
    table = DOCS["docs/practice-server.md"].split("\n| fault |")[1].split("\n\n")[0]
    rows = {
        row[0]: set(re.findall(r"`(\w+)`", row[1]))
        for row in re.findall(r"^\| `([\w-]+)` \| .* \| (.*) ?\|$", table, re.M)
    }

    assert rows == {name: set(kind.params) for name, kind in KINDS.items()}


def test_the_practice_servers_options_are_listed():
    """Each option of `python -m infra.practice` has its row with its default, and there are no other rows."""
    table = DOCS["docs/practice-server.md"].split("\n| option |")[1].split("\n\n")[0]
    rows = dict(re.findall(r"^\| `--([\w-]+)` \| `?([^|`]+?)`? \|", table, re.M))
    params = [p for p in PROGRAMS["infra.practice"].params if p.opts[0].startswith("--") and not p.hidden]

    assert rows == {
        p.opts[0].removeprefix("--"): "none" if p.default is None else str(p.default) for p in params
    }


def test_the_tree_is_the_tree():
    """Every file that the architecture's tree names is in that folder, and every module of ours is in it."""
    tree = DOCS["docs/architecture.md"].split("```")[1]
    named, folder = set(), ""
    for line in tree.splitlines():
        top = re.match(r"([\w/]+)/\s", line)
        if top:
            folder = top[1]
        elif entry := re.match(r"  ([\w/]+(?:\.py|/))(?:\s|$)", line):
            named.add(f"{folder}/{entry[1].rstrip('/')}")

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    for package in ("flows", "mnist_core"):
        for module in (ROOT / package).rglob("*.py"):
            path = module.relative_to(ROOT)
            parts = {path.as_posix(), *(parent.as_posix() for parent in path.parents)}
            if path.name not in ("__init__.py", "errors.py"):
                assert parts & named, f"{path} is missing in docs/architecture.md"


HEADS = ("| what goes wrong |", "|---")


def test_the_failure_table_names_tests_that_exist():
    """Each row of the tables of failures names its tests, and each of them is defined."""
    section = DOCS["docs/operations.md"].split("\n## What can go wrong\n")[1]
    rows = [row for row in section.splitlines() if row.startswith("|") and not row.startswith(HEADS)]
    tests = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }

    assert len(rows) >= 70
    assert [row for row in rows if "`test_" not in row] == []
    assert set(re.findall(r"`(test_\w+)`", section)) - tests == set()


TERMS = """run, night, run key, attempt, namespace, version, member, fold, held-out rows, gate, champion,
challenger, promote, demote, decision, lease, reconcile, resume, alarm, notify, practice server,
original notebooks"""


def test_the_glossary_defines_the_projects_terms():
    """Each term of the project's vocabulary has its row, in alphabetical order."""
    terms = re.findall(r"^\| \*\*(.+?)\*\* \|", DOCS["docs/glossary.md"], re.M)

    assert set(re.split(r",\s+", TERMS)) <= {term for row in terms for term in row.split(", ")}
    assert terms == sorted(terms)


DIALECT = r"\b(anew|can not|for ever|mend(s|ed|ing)?|lacking|taken back|by hand|go(es)? on with|the origin)\b"


def test_the_documents_speak_plain_english():
    """Words that the project once used in a sense of its own do not come back."""
    assert re.search(DIALECT, "what can not be mended")
    words = {(name, match[0]) for name, match in found(DIALECT, re.I)}

    assert words == set()


# Links


def slug(heading):
    """Return the anchor of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("link", re.findall(r"\]\(([^):\s]+)\)", README))
def test_a_link_of_the_readme_leads_somewhere(link):
    """README is not a page of the site, so its links are checked here: the file, and the heading in it."""
    path, _, anchor = link.partition("#")

    assert (ROOT / path).exists()
    if anchor:
        assert anchor in map(slug, re.findall(r"^#+ (.+)$", (ROOT / (path or "README.md")).read_text(), re.M))


@pytest.mark.parametrize(
    "broken", ["[x](nowhere.md)", "[x](glossary.md#nowhere)", "[x](../flows/nowhere.py)", "![x](nowhere.png)"]
)
def test_a_broken_link_fails_the_build(broken, tmp_path, monkeypatch):
    """`make docs` is strict: a link, anchor, file or picture that does not exist ends it."""
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    (tmp_path / "docs").mkdir()
    for name, text in DOCS.items():
        if name.startswith("docs/"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
    (tmp_path / "docs/quickstart.md").write_text(f"# Quickstart\n\n{broken}\n")
    config = load_config(
        str(ROOT / "mkdocs.yml"),
        docs_dir=str(tmp_path / "docs"),
        site_dir=str(tmp_path / "site"),
        strict=True,
    )

    with pytest.raises(Abort):
        build(config)
