"""What the pages of the site say, and that everybody can read them."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from flows.policy.cost import Prices
from flows.records import Decision, Demotion
from flows.site.drawing import Drawing
from flows.site.facts import read_facts
from flows.site.pages import render

ATOM = "{http://www.w3.org/2005/Atom}"
VOID = {"meta", "link", "img", "br", "hr", "input", "rect", "line", "circle", "polyline"}


class Page(HTMLParser):
    """A page as a browser or a screen reader sees it: its elements, in their order, and its text."""

    def __init__(self, content):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(content.decode())
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        """Note an element, which stays open unless it is empty by its nature."""
        self.elements.append((tag, dict(attributes), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        """Note an element that closes itself."""
        self.elements.append((tag, dict(attributes), tuple(self.open)))

    def handle_endtag(self, tag):
        """Check that the last opened element is closed."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Note text."""
        self.words.append(data)

    @property
    def text(self):
        """The text, with one space between its words."""
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        """Return the attributes of each element of this name."""
        return [attributes for found, attributes, _ in self.elements if found == tag]


@pytest.fixture
def files(registry, put_night):
    """The files of a site with five nights: champions, one demoted, one rejected, one with an alarm."""
    put_night(1, errors=5, score=0.96)
    bad = put_night(2, errors=4, score=0.5)
    number, _ = registry.champion()
    assert registry.promote(registry.fallback(), number, "alarm", demoted=bad, cause=Demotion.ALARM)
    put_night(3, Decision.REJECTED, errors=9)
    put_night(4, errors=2, score=0.975, ended={"rank": 1234, "seconds": {"train": 70.0, "submit": 3600.0}})
    put_night(5, Decision.FAILED, errors=2, ended={"alarm": True})
    drawing = Drawing("2026-11-04-convnet-01234567", None, b"a graph", {"LICENSE.txt": b"MIT"})
    return render(read_facts(registry, pictures=True), drawing)


def html(files):
    """The HTML pages among the files, parsed."""
    return {name: Page(content) for name, content in files.items() if name.endswith(".html")}


def test_everybody_can_read_the_pages(files):
    """Language, headings without a gap, captions, names of pictures; no script, nothing from elsewhere."""
    for name, page in html(files).items():
        assert page.all("html") == [{"lang": "en"}], name
        assert any("width=device-width" in meta.get("content", "") for meta in page.all("meta")), name
        levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1, name
        assert levels.count(1) == 1, name
        assert all(after - before <= 1 for before, after in pairwise(levels)), name
        assert len(page.all("caption")) == len(page.all("table")), name
        assert all(cell.get("scope") for cell in page.all("th")), name
        assert all(picture.get("alt") for picture in page.all("img")), name
        drawn = [inside for tag, _, inside in page.elements if tag == "svg"]
        assert len(drawn) == sum(part.get("role") == "img" for part in page.all("div")), name
        assert all(part["aria-label"] for part in page.all("div") if part.get("role") == "img"), name
        ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
        assert len(set(ids)) == len(ids), name
        named = [value["aria-labelledby"] for _, value, _ in page.elements if "aria-labelledby" in value]
        assert set(named) <= set(ids), name
        assert all(drawn.get("aria-label") for drawn in page.all("canvas")), name
        scripts = ["draw.js"] if name == "draw.html" else []
        assert [script.get("src") for script in page.all("script")] == scripts, name
        assert {tag for tag, _, _ in page.elements} & {"style", "iframe"} == set(), name


def test_every_link_leads_somewhere(files):
    """Each link within the site names a file of it, or a place on its page."""
    for name, page in html(files).items():
        folder = name.rpartition("/")[0]
        ids = {attributes.get("id") for _, attributes, _ in page.elements}
        for target in [link["href"] for link in page.all("a") + page.all("link")] + [
            picture["src"] for picture in page.all("img")
        ]:
            if target.startswith("#"):
                assert target[1:] in ids
            elif not target.startswith(("http://yann.lecun.com", "https://creativecommons.org")):
                path = target.removeprefix("../") if target.startswith("../") else f"{folder}/{target}"
                assert path.lstrip("/") in files, f"{target} in {name}"


def test_the_index_has_champion_history_and_nights(files):
    """The champion with its figures, the drawn history, and a row for each night, the latest first."""
    page = html(files)["index.html"]

    assert "validation accuracy 0.9800 0.9000 to 0.9900 practice score 0.97500" in page.text
    assert len(page.all("svg")) == 2
    nights = [link["href"] for link in page.all("a") if link["href"].startswith("nights/")]
    assert nights == [f"nights/2026-11-0{day}-convnet-fast-e40-1.html" for day in (5, 4, 3, 2, 1)]
    assert "2026-11-03 0.9100 0.9000 to 0.9900 not submitted – rejected convnet fast" in page.text
    assert "promoted, demoted later" in page.text
    assert "★ promoted, champion" in page.text


def test_a_night_has_scorecard_errors_and_seconds(files):
    """Figures with intervals, what was decided, seconds by step, the confusion matrix, the hardest digits."""
    night = html(files)["nights/2026-11-04-convnet-fast-e40-1.html"].text
    alarm = html(files)["nights/2026-11-05-convnet-fast-e40-1.html"].text

    assert "It passed the gate and became champion." in night
    assert "2026-11-04-convnet-" in night
    assert "practice score 0.97500" in night
    assert "leaderboard place 1,234 after this night" in night
    assert "train 1 min 10 s submit 1 h 00 min all 1 h 01 min" in night
    assert "2 of 100 are wrong." in night
    assert "0 9 1 1 1 9 1 1 2 10 0" in night  # the confusion's first rows: nine right, one taken for the next
    assert "8 0 1 1.0% 9 1 2 1.0%" in night  # the hardest digits: rows of the file, true, predicted
    assert "contradicts its held-out accuracy" in alarm


def test_costs_are_shown_if_prices_are_known(registry, put_night):
    """With a price the index has a column, and a night's page the cost of each step and of all."""
    put_night(1, ended={"seconds": {"read": 36.0, "train": 360.0}})
    priced = html(render(read_facts(registry, prices=Prices(cpu=1.0))))
    free = html(render(read_facts(registry)))

    night = priced["nights/2026-11-01-convnet-fast-e40-1.html"].text
    assert "read 36.0 s $0.01 train 6 min 00 s $0.10 all 6 min 36 s $0.11" in night.replace(
        "$0.0100", "$0.01"
    )
    assert "6 min 36 s $0.11" in priced["index.html"].text
    assert "cost" not in "".join(page.text for page in free.values())


def test_the_model_card_has_recipe_figures_and_weaknesses(files):
    """Data, recipe, both figures, what it gets wrong most often, and the licence of the digits."""
    card = html(files)["model.html"].text

    assert "model convnet preset fast epochs 40 seed 1" in card
    assert "1,500 handwritten digits" in card
    assert "0 taken for 1 (1 time), 1 taken for 2 (1 time)." in card
    assert "Attribution-ShareAlike 3.0" in card


def test_the_feed_has_each_night_once(files):
    """Atom: the latest first, unique ids, times, links to the pages; the same night keeps its id."""
    feed = ElementTree.fromstring(files["feed.xml"])
    entries = feed.findall(f"{ATOM}entry")

    assert feed.findtext(f"{ATOM}updated") == "2026-11-05T03:10:00+00:00"
    assert [entry.findtext(f"{ATOM}title")[:10] for entry in entries] == [
        f"2026-11-0{day}" for day in (5, 4, 3, 2, 1)
    ]
    ids = [entry.findtext(f"{ATOM}id") for entry in entries]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", name) for name in ids)
    assert all(entry.find(f"{ATOM}link").get("href") in files for entry in entries)
    assert "2026-11-04: promoted, practice score 0.97500" in files["feed.xml"].decode()


def test_the_dark_changes_every_colour_of_the_drawing(files):
    """Each colour of the drawn history has a rule that follows the reader's colour scheme."""
    style = files["style.css"].decode()

    assert "prefers-color-scheme: dark" in style
    index = files["index.html"].decode()
    for kind, colour in set(re.findall(r'(fill|stroke)="([^"]+)"', index)) - {("fill", "none")}:
        assert f'[{kind}="{colour}"]' in style, colour


def test_before_the_first_night_and_after_a_prune_there_are_pages(registry, put_night):
    """An empty registry gives a site that says so; a pruned version leaves its night's figures."""
    assert "There is no champion yet" in html(render(read_facts(registry)))["index.html"].text
    version = put_night(1, Decision.REJECTED)
    registry.delete_version(version)

    page = html(render(read_facts(registry)))["nights/2026-11-01-convnet-fast-e40-1.html"].text

    assert "0.9700 0.9000 to 0.9900" in page
    assert "not in the store any more" in page


def test_pages_of_another_competition_speak_of_its_pictures(registry, put_night):
    """They say nothing of digits or MNIST, need no stated rows, and have no page to draw a digit."""
    put_night(1, errors=5, score=0.96)
    facts = read_facts(registry)
    pets = replace(facts.spec, name="pets", classes=tuple("abcdefghij"), train_rows=None, test_rows=None)

    files = render(replace(facts, spec=pets))

    pages = {name: Page(content).text for name, content in files.items() if name.endswith(".html")}
    assert len(pages) == 3
    assert not [name for name, text in pages.items() if re.search("[Dd]igit|MNIST", text)]
    assert "A classifier for pets" in pages["index.html"]
