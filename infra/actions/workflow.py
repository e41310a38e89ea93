"""Read a workflow of GitHub Actions, evaluate its expressions, and run its `run:` steps on this machine.

The kinds of expressions that `.github/workflows/nightly.yml` uses are evaluated by GitHub's rules.
"""

import ast
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
STATUS = re.compile(r"\b(always|success|failure|cancelled)\(\)")
Context = Mapping[str, Any]
"""What names mean: `{"vars": {"MNIST_KAGGLE": "live"}, …}`. A name that is not there is empty."""


def read_workflow(file: Path) -> dict[str, Any]:
    """Return a workflow; its triggers stand under `on`."""
    found = yaml.safe_load(file.read_text())
    found["on"] = found.pop(True)  # YAML 1.1 reads `on` as true
    return dict(found)


def evaluate(expression: str, context: Context) -> Any:
    """Return the value of an expression, without the braces around it."""
    python = re.sub(r"!(?!=)", " not ", expression.replace("&&", " and ").replace("||", " or "))
    return _value(ast.parse(python.strip(), mode="eval").body, context)


def _value(node: ast.expr, context: Context) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name(id=name):
            return context.get(name, "")
        case ast.Attribute():
            found = _value(node.value, context)
            return found.get(node.attr, "") if isinstance(found, Mapping) else ""
        case ast.UnaryOp(op=ast.Not()):
            return not _value(node.operand, context)
        case ast.BoolOp():
            return _first_decisive(node, context)
        case ast.Compare(ops=[ast.Eq() | ast.NotEq() as operator]):
            same = _value(node.left, context) == _value(node.comparators[0], context)
            return same == isinstance(operator, ast.Eq)
        case ast.Call(func=ast.Name(id=name)):
            function: Callable[..., Any] = context[name]
            return function(*(_value(argument, context) for argument in node.args))
    raise ValueError(f"an expression that is not known here: {ast.unparse(node)}")


def _first_decisive(node: ast.BoolOp, context: Context) -> Any:
    """Return what `and` or `or` gives: one of its operands, not a truth value."""
    found: Any = None
    for operand in node.values:
        found = _value(operand, context)
        if bool(found) == isinstance(node.op, ast.Or):
            break
    return found


def fill(text: object, context: Context) -> str:
    """Return a text with its expressions replaced by their values."""

    def value(match: re.Match[str]) -> str:
        found = evaluate(match[1], context)
        return str(found).lower() if isinstance(found, bool) else str(found)

    return EXPRESSION.sub(value, str(text))


def is_due(condition: str | None, context: Context, *, failed: bool) -> bool:
    """Return whether a job or step runs, by its `if:` and by whether one before it has failed."""
    status = {"always": lambda: True, "success": lambda: not failed, "failure": lambda: failed}
    text = condition or "success()"
    due = bool(evaluate(text, {**context, **status, "cancelled": lambda: False}))
    return due and (bool(STATUS.search(text)) or not failed)


@dataclass
class Step:
    """A step that was run, or was not.

    Attributes:
        name: its name, or its command.
        outcome: `success`, `failure` or `skipped`.
        printed: its output.
        seconds: how long it took.
    """

    name: str
    outcome: str
    printed: str = ""
    seconds: float = 0.0


@dataclass
class JobRun:
    """A job's steps, run one after another in a checkout.

    Args:
        workflow: the workflow.
        job: the name of the job.
        checkout: the folder in which its steps run.
        context: `vars`, `secrets`, `inputs`, `github`.
        environment: variables of the runner, besides those of the workflow.
        temp: a folder for the files that the runner gives each step.
    """

    workflow: Mapping[str, Any]
    job: str
    checkout: Path
    context: dict[str, Any]
    environment: Mapping[str, str]
    temp: Path
    steps: list[Step] = field(default_factory=list)
    failed: bool = False

    @property
    def summary(self) -> str:
        """What the run's page shows."""
        file = self.temp / "summary.md"
        return file.read_text() if file.exists() else ""

    def variables(self, own: Mapping[str, object] | None) -> dict[str, str]:
        """Return the environment of a step: the workflow's, with its own on top."""
        shared = {name: fill(text, self.context) for name, text in self.workflow.get("env", {}).items()}
        self.context["env"] = {**self.environment, **shared}
        mine = {name: fill(text, self.context) for name, text in (own or {}).items()}
        runner = {
            "GITHUB_OUTPUT": str(self.temp / "output"),
            "GITHUB_STEP_SUMMARY": str(self.temp / "summary.md"),
            "RUNNER_TEMP": str(self.temp),
        }
        return {**os.environ, **shared, **self.environment, **runner, **mine}

    def start(self, step: Mapping[str, Any]) -> subprocess.Popen[str]:
        """Start a `run:` step as GitHub does, in a process group of its own."""
        return subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", fill(step["run"], self.context)],
            cwd=self.checkout, env=self.variables(step.get("env")), text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def is_due(self, step: Mapping[str, Any]) -> bool:
        """Return whether a step runs now."""
        self.variables(None)
        return is_due(step.get("if"), self.context, failed=self.failed)

    def end(self, step: Mapping[str, Any], done: Step) -> None:
        """Note how a step ended."""
        self.steps.append(done)
        outcomes = self.context.setdefault("steps", {})
        if "id" in step:
            outcomes[step["id"]] = {"outcome": done.outcome, "outputs": self._outputs()}
        if done.outcome == "failure" and not step.get("continue-on-error"):
            self.failed = True

    def _outputs(self) -> dict[str, str]:
        file = self.temp / "output"
        lines = file.read_text().splitlines() if file.exists() else []
        return dict(line.split("=", 1) for line in lines if "=" in line)
