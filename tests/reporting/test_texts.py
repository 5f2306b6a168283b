"""A run that finished can be reported whatever its names and texts hold, in every medium."""

import html
import io
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from subliminal_jax.evaluation.claims import REPRODUCED, Claim
from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.reporting import panels, plots, style
from subliminal_jax.reporting.page import Page, Picture, Text, png, publish
from subliminal_jax.reporting.tables import Column, Table, print_table
from subliminal_jax.reporting.texts import (
    file_name,
    markdown_code,
    markdown_text,
    picture_text,
    terminal_text,
)
from subliminal_jax.runs.progress import track

HOSTILE = {
    "markup": "[bold red]x[/] [/nothing] [link=http://a.b]l[/link] :smile: \\[x]",
    "mathematics": "$x_1^2$ cost $5 and $\\frac{1} \\alpha",
    "one dollar": "$",
    "escaped dollars": "\\$x\\$ $$ \\",
    "broken mathematics": "$\\undefined{$ _a_ ^b^",
    "terminal": "\x1b[31mred\x1b]0;title\x07\x1b[2J\x9b1m\x00\x08\r",
    "lines": "a\n\nb\r\nc\u2028d\u2029e\x85f\x0bg",
    "direction": "abc\u202egpj.exe\u2066x\u200f",
    "hebrew": "\u05d0\u05d1\u05d2 (1) [2]",
    "long": "x" * 20_000,
    "long words": "word " * 3000,
    "emoji": "\U0001f989 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "chinese": "\u732b\u5934\u9e70",
    "combining": "a\u0301\u0323" + "\u0300" * 50,
    "half a pair": "\ud83d x \udcff",
    "html": "</td></pre><script>alert(1)</script><img src=x onerror=alert(1)>&amp;<!--",
    "attribute": "\" onload='alert(1)' style=\"x",
    "data": "</style>{{ 7 * 7 }}{% raise %}{# #}",
    "javascript": "javascript:alert(1)//\u2028;'\\",
    "format": "{0} {name} %s %d {",
    "path": "../../etc/passwd",
    "underscore": "_hidden",
    "markdown": "*a* __b__ _c_ `d` [e](http://f) | ![g](h) ~~i~~ # j ``k",
    "empty": "",
    "spaces": "   ",
    "none": "None",
    "number": "-0",
}
INTERVAL = mean_interval([0.1, 0.2, 0.3])
FIGURES = {
    "curves": lambda a, b: plots.curves(
        [{"optimizer": n, "x": [1, 2], "mean": [0.1, 0.2]} for n in (a, b)]
    ),
    "learning rates": lambda a, b: plots.learning_rate_curves(
        [{"optimizer": n, "learning_rate": r, "eas": r} for n in (a, b) for r in (0.1, 0.2)]
    ),
    "bars": lambda a, b: plots.paired_bars(
        [{"optimizer": n, "trait_rate": 0.1, "control_trait_rate": 0.2} for n in (a, b)],
        references={a: 0.3},
    ),
    "deciles": lambda a, b: plots.decile_bars(
        [
            {"optimizer": n, "gradient_mass": [0.1] * 10, "steering_component": [0.1] * 10}
            for n in (a, b)
        ]
    ),
    "cosines": lambda a, b: plots.cosine_against_n(
        [{"n": n, "cosine": 0.1, "stderr": 0.1, "data": d} for n in (1, 2) for d in (a, b)]
    ),
    "forest": lambda a, b: plots.forest(
        [{"label": n, "group": n, "interval": INTERVAL} for n in (a, b)],
        x_label="x",
    ),
    "scatter": lambda a, b: plots.scatter(
        [{"label": n, "group": n, "x": INTERVAL, "y": i} for i, n in enumerate((a, b))],
        x_label="x",
        y_label="y",
    ),
    "panels": lambda a, b: panels.line_panels(
        [
            {"panel": p, "line": n, "x": [a, b], "y": [0.1, 0.2]}
            for p in ("p", a)
            for n in ("l", a, b)
        ],
        y_label="y",
    ),
    "phases": lambda a, b: panels.phase_diagram(
        [{"group": n, "setting": a, "optimizer": b, "value": INTERVAL} for n in (a, b)],
        level=0.5,
    ),
}


TABLE_TAGS = ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]


@pytest.fixture(params=HOSTILE)
def hostile(request):
    return HOSTILE[request.param]


class Reader(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        # Cells have titles of their own where a table is wider than paper.
        self.attributes += [(tag, name) for name, _ in attributes if name != "data-title"]

    def handle_data(self, data):
        self.text.append(data)


def make_page(text):
    columns = [Column("name", text), Column("x", "x", "number")]
    rows = [{"name": text, "x": 1.0}, {"name": [text, text], "x": None}]
    table = Table(text, columns, rows, text)
    figure = Figure(figsize=(0.2, 0.2))
    blocks = [table, Text(text, text), Picture(text, text, text, figure)]
    return Page(text, text, blocks, printed=(table,))


def publish_page(text, folder):
    claim = Claim("a/b", text, text, text, text, 3, REPRODUCED)
    return publish(make_page(text), folder, command=text, config={text: [text]}, claims=[claim])


@pytest.fixture(scope="module")
def plain_page(tmp_path_factory):
    reader = Reader()
    page = publish_page("plain", tmp_path_factory.mktemp("plain"))
    reader.feed(page.read_text(encoding="utf-8"))
    return reader


def test_a_page_holds_texts_as_texts(hostile, plain_page, tmp_path, capsys):
    page = publish_page(hostile, tmp_path / "run").read_text(encoding="utf-8")
    found = Reader()
    found.feed(page)
    if hostile.strip() and "\n\n" not in hostile:  # else there are more or fewer paragraphs
        assert (found.tags, found.attributes) == (plain_page.tags, plain_page.attributes)
    assert set(found.tags) <= set(plain_page.tags)
    assert all(c.isprintable() or c in "\n\t\u200d" for c in "".join(found.text))
    if hostile.isprintable():
        assert f' class="text">{hostile}</td>' in html.unescape(page)
    [picture] = (tmp_path / "run").glob("*.png")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"report.html", picture.name}
    assert all(c.isprintable() or c in "\n\u200d" for c in capsys.readouterr().out)


def test_a_terminal_gets_no_command_and_loses_no_text(hostile):
    for is_terminal in (False, True):
        out = io.StringIO()
        console = Console(file=out, force_terminal=is_terminal, width=100, color_system=None)
        print_table(make_page(hostile).printed[0], console)
        printed = out.getvalue()
        assert "\x1b" not in printed and "\x07" not in printed
    out = io.StringIO()
    Console(file=out, width=10**6).print(terminal_text(hostile))
    if hostile.isprintable():
        assert out.getvalue().rstrip("\n") == hostile
    else:
        assert all(c.isprintable() or c in "\n\u200d" for c in out.getvalue())


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_names_what_it_counts(hostile, is_terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=10**5, color_system=None)
    with track(hostile, 2, console=console) as progress:
        progress.advance(2, note=hostile)
    printed = out.getvalue()
    for command in ("\x1b[31m", "\x1b]0;", "\x07", "\x1b[2J", "\x9b", "\u202e"):
        assert command not in printed
    if hostile.isprintable() and len(hostile) < 1000:
        assert hostile in printed


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_are_drawn_with_any_name(name):
    """Without a warning, such as of a glyph that is missing or a label that is left out."""
    pairs = [("markup", "long"), ("broken mathematics", "lines"), ("underscore", "emoji")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pair in pairs:
            figure = FIGURES[name](*(HOSTILE[key] for key in pair))
            FigureCanvasAgg(figure).draw()


def test_any_text_is_a_label():
    figure = Figure(figsize=(2, 2))
    for text in HOSTILE.values():
        label = picture_text(text)
        assert len(label) <= 40 + label.count("$")
        figure.text(0.1, 0.5, label)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FigureCanvasAgg(figure).draw()


def test_a_picture_shows_what_is_written():
    def draw(text):
        figure, axes = style.new_axes(3, 1)
        axes.set_title(text, parse_math=False)
        return png(figure)

    def draw_label(text):
        figure, axes = style.new_axes(3, 1)
        axes.set_title(picture_text(text))
        return png(figure)

    for text in ("$x_1$ and $5", "\\alpha $ \\", "a_b^c {d} %e", "\\$", "[b]x[/b]"):
        assert draw_label(text) == draw(text)
    assert picture_text("\u732b\x1b[1m\n\U0001f989") == "\\u732b\\x1b[1m \\U0001f989"
    assert picture_text("x" * 50 + "y" * 50) == "x" * 27 + "\N{HORIZONTAL ELLIPSIS}" + "y" * 12


def test_the_legend_keeps_every_name():
    names = ["_hidden", "", "plain", "$x$", "__"]
    rows = [{"optimizer": n, "x": [1, 2], "mean": [0.1, 0.2]} for n in names]
    [legend] = plots.curves(rows).legends
    assert {text.get_text() for text in legend.get_texts()} == {picture_text(n) for n in names}
    handles = dict(
        zip([t.get_text() for t in legend.get_texts()], legend.legend_handles, strict=True)
    )
    styles = style.assign_styles(names)
    assert all(handles[picture_text(n)].get_color() == styles[n].color for n in names)


def test_markdown_holds_texts_as_texts(hostile):
    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    cell, code = markdown_text(hostile), markdown_code(hostile)
    found = Reader()
    found.feed(markdown.render(f"## {cell}\n\n{code}\n\n| a | b |\n|---|---|\n| {cell} | b |\n"))
    line = ["p", "code"] if hostile.strip() else []
    assert found.tags == ["h2", *line, *TABLE_TAGS]
    if hostile.isprintable():
        shown = " ".join("".join(found.text).split())
        assert shown.count(" ".join(hostile.split())) >= 3


def test_files_are_named_within_their_folder(hostile):
    name = file_name(hostile)
    assert name.isascii() and len(name) < 110 and "/" not in name and not name.startswith(".")
    assert file_name("angles-a.b_c-1") == "angles-a.b_c-1"
    assert file_name("a/b") != file_name("a-b") != file_name("a b")


def test_numbers_of_the_table_stay(tmp_path):
    """Escaping changes no number."""
    out = io.StringIO()
    values = np.array([-0.5, 1e6])
    table = Table("t", [Column("x", "x", "number")], [{"x": float(v)} for v in values])
    print_table(table, Console(file=out, width=80))
    assert "\N{MINUS SIGN}0.50" in out.getvalue() and "1000000.00" in out.getvalue()
