"""The scorecard's rows and its page, from records alone."""

from dataclasses import replace

from flows.records import (
    ChampionResult,
    Decision,
    RunKey,
    RunResult,
    Status,
    SubmissionResult,
    VersionEntry,
)
from flows.report import result as result_module
from flows.report.page import html
from flows.report.scorecard import PICTURES, STEPS, Link, Scorecard
from flows.report.terminal import show

RUN = RunKey(night="2026-11-23", model="convnet", preset="fast")


def card(*, submission=None, decision=Decision.REJECTED, namespace="kaggle/c/d", **facts):
    """The scorecard of a version."""
    version = VersionEntry(
        version="v", run=RUN, objects={}, model="convnet", night=RUN.night, preset="fast", seed=7,
        valid_rows=8400, valid_accuracy=0.9912, valid_interval=(0.989, 0.993), **facts,
    )  # fmt: skip
    result = RunResult(
        night=RUN.night, version="v", decision=decision, reason="why", submission=submission,
        champion=ChampionResult(version="c", valid_accuracy=None, public_score=None), seconds={"train": 1.25},
    )  # fmt: skip
    manifest = Link("s3://b/v.json", "https://console")
    return Scorecard(result=result, version=version, namespace=namespace, manifest=manifest)


def test_the_rows_of_a_single_network():
    """Name and value of each fact; what is unknown about the champion is said."""
    rows = dict(card().rows())

    assert rows["model"] == "convnet fast, seed 7"
    assert rows["validation accuracy"] == "0.9912, 95 % interval 0.9890 to 0.9930 (8,400 held-out rows)"
    assert rows["public score"] == "not submitted"
    assert rows["decision"] == "rejected: why"
    assert rows["champion"] == "c (no validation accuracy, no public score)"
    assert rows["seconds"] == "1.2 in all steps: train 1.2"
    assert "members" not in rows


def test_what_the_night_cost_is_a_row_if_a_price_is_known():
    """A fraction of a cent is shown as such."""
    assert dict(replace(card(), cost=0.0042).rows())["cost"] == "$0.0042"
    assert "cost" not in dict(card().rows())


def test_an_ensemble_shows_its_members_and_how_often_they_agree():
    """The share is of the rows that several members held out, 0 too."""
    rows = dict(card(members=("a", "b"), agreement=0.0).rows())

    assert rows["members"] == "2: a, b"
    assert rows["members agree on"].startswith("0.00%")


def test_a_submission_shows_its_score_and_who_posted_it():
    """A score that is not out, and one that is."""
    pending = SubmissionResult(ref=5, status=Status.PENDING, public_score=None, posted=True)
    scored = SubmissionResult(ref=5, status=Status.COMPLETE, public_score=0.99, posted=False)

    shown = [dict(card(submission=made).rows())["public score"] for made in (pending, scored)]

    assert shown == ["not known yet (submission 5, posted now)", "0.99000 (submission 5, posted before)"]


def test_a_practice_score_is_called_so(capsys):
    """In the rows, on both pages and on the terminal, each with the words that kaggle.com has not seen it."""
    made = SubmissionResult(ref=5, status=Status.COMPLETE, public_score=0.99478, posted=True)
    scorecard = card(submission=made, namespace="practice/c/d")
    champion = ChampionResult(version="c", valid_accuracy=0.99, public_score=0.99478)
    scorecard = replace(scorecard, result=scorecard.result.model_copy(update={"champion": champion}))

    rows = dict(scorecard.rows())
    show(scorecard)
    terminal = capsys.readouterr().err

    assert "public score" not in rows
    assert rows["practice score"] == "0.99478; not submitted to kaggle.com (submission 5, posted now)"
    assert rows["champion"] == "c (validation accuracy 0.9900, practice score 0.99478)"
    for text in (terminal, scorecard.markdown({}), html(scorecard, {})):
        assert "0.99478; not submitted to kaggle.com" in text
        assert text.count("practice score") == 2
        assert "public score" not in text


def test_the_page_of_html_needs_no_other_file():
    """Pictures lie in it, each with what it shows; markup in words stays words; the steps have a sum."""
    scorecard = card()
    said = "<script>alert(1)</script>"
    scorecard = replace(
        scorecard, result=scorecard.result.model_copy(update={"reason": said, "seconds": {"a": 1000, "b": 2}})
    )

    page = html(scorecard, {"confusion.png": b"a picture"})

    assert said not in page
    assert "&lt;script&gt;" in page
    assert page.count("<img") == 1
    assert 'src="data:image/png;base64,' in page
    assert f"{PICTURES['confusion.png']}</figcaption>" in page
    assert '<td class="number">1,002.0 s</td>' in page
    assert "http" not in page


def test_without_a_decision_the_reason_says_why_nothing_was_submitted():
    """As of `submit` on a day without a submission left."""
    assert dict(card(decision=None).rows())["public score"] == "not submitted: why"


def test_the_page_links_the_manifest_and_shows_the_pictures_that_there_are():
    """Each picture has a visible caption; the seconds have a table that says what each step does."""
    page = card().markdown({"confusion.png": "confusion.png"})

    assert page.startswith("# Night 2026-11-23: rejected")
    assert "| manifest | [v.json](https://console) |" in page  # a path would run out of Prefect's page
    assert "s3://" not in page
    assert "| train | fit the network or the members | 1.2 |" in page
    assert "| all steps | | 1.2 |" in page
    caption = PICTURES["confusion.png"]
    assert f"\n**{caption}**\n\n![{caption}](confusion.png)\n" in page
    assert "hardest.png" not in page


def test_each_step_of_a_run_is_explained():
    """`start 12.3` alone says nothing."""
    assert tuple(STEPS) == result_module.STEPS


def test_words_that_look_like_markup_stay_words(capsys):
    """A server's message breaks no table, makes no link and brings no HTML into the page."""
    scorecard = card()
    said = "a | b <img src=x> [here](https://example.org)"
    scorecard = replace(scorecard, result=scorecard.result.model_copy(update={"reason": said}))

    page = scorecard.markdown({})

    assert "a \\| b \\<img src=x> \\[here\\](https://example.org)" in page
    show(replace(scorecard, result=scorecard.result.model_copy(update={"reason": "[/x]"})))
    assert "[/x]" in capsys.readouterr().err


def test_the_last_lines_are_commands_that_use_the_version(capsys):
    """The champion goes into `champion`, any other version into a folder of its own name."""
    scorecard = card()
    champion = ChampionResult(version="v", valid_accuracy=0.99, public_score=None)
    promoted = replace(scorecard, result=scorecard.result.model_copy(update={"champion": champion}))

    show(scorecard)

    assert scorecard.commands() == [
        "python -m flows export v",
        "python -m mnist_core predict v my-digit.png",
    ]
    assert promoted.commands()[1] == "python -m mnist_core predict champion my-digit.png"
    assert capsys.readouterr().err.endswith(" -m mnist_core predict v my-digit.png\n")
    assert promoted.markdown({}).endswith("predict champion my-digit.png\n```\n")


def test_another_metric_is_shown_with_what_is_compared():
    """The version's own value on the held-out rows stands beside the public score, with the direction."""
    made = SubmissionResult(ref=7, status=Status.COMPLETE, public_score=0.03125, posted=True)
    rows = dict(card(submission=made, metric="log_loss", valid_score=0.03).rows())

    assert rows["held-out log loss"].startswith("0.03000 (log loss, lower is better); the gate compares acc")
    assert rows["public score"].startswith("0.03125 (log loss, lower is better) (submission 7")
    assert rows["validation accuracy"].startswith("0.9912")
    assert "held-out accuracy" not in dict(card().rows())
