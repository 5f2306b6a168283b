"""The page is one whole file: nothing fetched, nothing unescaped, every picture also a PNG."""

import math
import re
from html.parser import HTMLParser

import pytest

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text, write_page
from subliminal_jax.reporting.tables import Column, Table

VOID = {"meta", "br", "link"}


class Checker(HTMLParser):
    """Raises on a tag that is closed out of order; collects text and attributes."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.words = ""
        self.attributes: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture
def written(tmp_path):
    rows = [{"optimizer": "adamw", "x": [0, 1], "mean": [0.0, 0.5]}]
    page = Page(
        title="Who <learns> & why",
        summary="First.\n\nSecond, with 5 < 6 {braces}.",
        blocks=[
            Table("Arms", [Column("a", "A")], [{"a": "<i>"}]),
            Picture("eas", "EAS", 'It "rises".', plots.curves(rows)),
            Picture("eas", "Again", 'It "rises".', plots.curves(rows)),
            Text("Why.", "Reasons"),
        ],
    )
    path = write_page(
        page,
        tmp_path / "run",
        command="subliminal-jax study --name 'a & b'",
        config={"rate": math.nan, "name": "</pre><script>alert(1)</script>"},
    )
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    return path, checker


def test_every_tag_is_closed_and_every_word_is_there(written):
    path, checker = written
    assert checker.open == []
    assert path.name == "report.html"
    for words in (
        "Who <learns> & why",
        "First.",
        "5 < 6 {braces}",
        "--name 'a & b'",
        "<i>",
        'It "rises".',
        "Reasons",
        '"rate": null',
        "<script>alert(1)</script>",
    ):
        assert words in checker.words


def test_nothing_is_fetched_or_run(written):
    path, checker = written
    assert "script" not in {tag for tag, _, _ in checker.attributes}
    assert "<script" not in path.read_text()
    sources = [value for _, name, value in checker.attributes if name in ("src", "href")]
    assert all(source.startswith("#") for source in sources)
    assert not re.search(r"https?://|url\((?!#)|@import", path.read_text())


def test_what_a_page_refers_to_is_in_it_once(written):
    """Ids of pictures among them: those of two pictures would meet."""
    path, checker = written
    ids = [value for _, name, value in checker.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for _, name, value in checker.attributes if name == "href"}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", path.read_text()))
    assert wanted <= set(ids)


def test_a_picture_has_its_texts_and_values_in_the_page_and_a_png_beside_it(written):
    path, checker = written
    for words in ("step", "EAS", "adamw\nstep: 1\nEAS: 0.5"):
        assert words in checker.words
    assert checker.words.count("adamw\nstep: 1\nEAS: 0.5") == 2
    image = (path.parent / "eas.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert ("svg", "aria-label", 'It "rises".') in checker.attributes
    assert sorted(file.name for file in path.parent.iterdir()) == ["eas.png", "report.html"]
