"""The scorecard of a run: its rows, and as markdown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from flows.policy.cost import in_words
from flows.records import RunResult, VersionEntry
from flows.report.ending import score_name
from mnist_core.metric import Metric
from mnist_core.recipes import in_line, recipe_name

PICTURES = {
    "hardest.png": "The hardest held-out digits: label → prediction, probability of the label (0 to 1)",
    "confusion.png": "Confusion: number of held-out digits by label (row) and prediction (column)",
}
"""Files of a version that a scorecard shows, with their captions."""
STEPS = {
    "start": "wait for machines of the GPU pool",
    "download": "fetch the competition's files, unless they are here",
    "read": "read the pictures",
    "train": "fit the network or the members",
    "explore": "try other recipes",
    "publish": "export and store the version",
    "predict": "predict the test file",
    "submit": "post the predictions and wait for the score",
}
"""What the steps of a run do."""


@dataclass(frozen=True)
class Link:
    """Where a person finds something.

    Attributes:
        text: path or address.
        url: of a web page that shows it; None if there is none.
    """

    text: str
    url: str | None = None

    @property
    def markdown(self) -> str:
        """The link as markdown."""
        return self.text if self.url is None else f"[{self.text}]({self.url})"


@dataclass(frozen=True)
class Scorecard:
    """What a scorecard shows.

    Attributes:
        result: of the command.
        version: the version that the result is about.
        namespace: of the registry; it names the server that gave the score.
        manifest: where its entry is stored.
        submission: where its submission is listed; None if that is not a web page.
        rank: the team's place on the leaderboard; None if it is not known.
        cost: of the command in US dollars; None if no price is known.
        tried: how many other recipes were tried, and the best of them; None if none was tonight.
    """

    result: RunResult
    version: VersionEntry
    namespace: str
    manifest: Link
    submission: Link | None = None
    cost: float | None = None
    rank: int | None = None
    tried: str | None = None

    @property
    def title(self) -> str:
        """`Night 2026-11-23`."""
        return f"Night {self.result.night}"

    def rows(self) -> list[tuple[str, str]]:
        """Return name and value of each fact."""
        version = self.version
        low, high = version.valid_interval
        rows = [
            ("version", version.version),
            ("model", f"{version.model} {version.preset}, seed {version.seed}"),
        ]
        if version.recipe:
            rows.append(("recipe", f"{recipe_name(version.recipe)}: {in_line(version.recipe)}"))
        if self.tried is not None:
            rows.append(("recipes tried", self.tried))
        if version.members:
            rows.append(("members", f"{len(version.members)}: {', '.join(version.members)}"))
        if version.agreement is not None:
            share = f"{version.agreement:.2%} of the rows that several members held out"
            rows.append(("members agree on", share))
        accuracy = f"{version.valid_accuracy:.4f}, 95 % interval {low:.4f} to {high:.4f}"
        rows.append(("validation accuracy", f"{accuracy} ({version.valid_rows:,} held-out rows)"))
        if version.valid_score is not None:
            rows.append((f"held-out {version.metric.words}", self._compared(version.valid_score)))
        rows.append((score_name(self.namespace), self._score()))
        if self.rank is not None:
            rows.append(("leaderboard", f"place {self.rank:,}"))
        if self.result.decision:
            rows.append(("decision", f"{self.result.decision}: {self.result.reason}"))
        if self.result.champion:
            rows.append(("champion", self._champion()))
        steps = ", ".join(f"{step} {spent:,.1f}" for step, spent in self.result.seconds.items())
        rows.append(("seconds", f"{self.seconds:,.1f} in all steps: {steps}"))
        if self.cost is not None:
            rows.append(("cost", in_words(self.cost)))
        return rows

    @property
    def seconds(self) -> float:
        """What all steps took together."""
        return sum(self.result.seconds.values())

    def commands(self, python: str = "python") -> list[str]:
        """Return the commands that export the version and use it, with this Python."""
        version = self.version.version
        is_champion = self.result.champion is not None and self.result.champion.version == version
        folder, argument = ("champion", "") if is_champion else (version, f" {version}")
        return [
            f"{python} -m flows export{argument}",
            f"{python} -m mnist_core predict {folder} my-digit.png",
        ]

    def _score(self) -> str:
        made = self.result.submission
        if made is None:  # why not is its decision's reason, if it has one
            return "not submitted" if self.result.decision else f"not submitted: {self.result.reason}"
        score = "not known yet" if made.public_score is None else f"{made.public_score:.5f}"
        score += _of(self.version.metric)
        if not self.namespace.startswith("kaggle/"):
            score += "; not submitted to kaggle.com"
        return f"{score} (submission {made.ref}, {'posted now' if made.posted else 'posted before'})"

    def _compared(self, score: float) -> str:
        alarms = "no alarm compares it with the public score, as it would an accuracy"
        return f"{score:.5f}{_of(self.version.metric)}; the gate compares accuracies, {alarms}"

    def _champion(self) -> str:
        champion = self.result.champion
        if champion is None:
            return "none"
        facts = [
            "no validation accuracy"
            if champion.valid_accuracy is None
            else f"validation accuracy {champion.valid_accuracy:.4f}",
            f"no {score_name(self.namespace)}"
            if champion.public_score is None
            else f"{score_name(self.namespace)} {champion.public_score:.5f}{_of(self.version.metric)}",
        ]
        return f"{champion.version} ({', '.join(facts)})"

    def markdown(self, pictures: Mapping[str, str]) -> str:
        """Return the scorecard as a page.

        Args:
            pictures: by name as in `PICTURES`, where each is: a file, or a data URI.
        """
        rows = [f"| {name} | {_escaped(value)} |" for name, value in self.rows() if name != "seconds"]
        if self.submission is not None:
            rows.append(f"| on Kaggle | {self.submission.markdown} |")
        rows.append(
            f"| manifest | {replace(self.manifest, text=self.manifest.text.split('/')[-1]).markdown} |"
        )
        steps = [
            f"| {step} | {STEPS.get(step, '')} | {spent:,.1f} |"
            for step, spent in self.result.seconds.items()
        ]
        steps.append(f"| all steps | | {self.seconds:,.1f} |")
        shown = [
            f"**{title}**\n\n![{title}]({pictures[name]})\n"
            for name, title in PICTURES.items()
            if name in pictures
        ]
        return "\n".join(
            [
                f"# {self.title}: {self.result.decision}", "",
                "| | |", "|---|---|", *rows, "",
                "| step | what it does | seconds |", "|---|---|---:|", *steps, "",
                *shown,
                "To use this version:", "", "```", *self.commands(), "```", "",
            ]
        )  # fmt: skip


def _of(metric: Metric) -> str:
    """Return what is said of a score that is not an accuracy."""
    if metric is Metric.ACCURACY:
        return ""
    return f" ({metric.words}{'' if metric.higher_is_better else ', lower is better'})"


def _escaped(value: str) -> str:
    """Return a text as it stands in a table of a page: a server's words may look like markup."""
    return re.sub(r"([\\|<\[\]`])", r"\\\1", value)
