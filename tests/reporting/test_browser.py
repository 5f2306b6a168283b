"""Pages in a real browser: on a wide and a narrow screen and on paper no column is lost.

They are drawn from a stored summary and from a page made by hand; nothing is trained. Screenshots
and PDFs go to the folder SUBLIMINAL_JAX_SCREENSHOTS, where that is set.
"""

import os
import shutil
from pathlib import Path

import pytest

from subliminal_jax.evaluation.claims import VERDICTS, Claim
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.experiments.log_linearity.experiment import EXPERIMENT as STORED
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text, publish
from subliminal_jax.reporting.tables import Column, Table
from subliminal_jax.runs.summaries import read_summary
from subliminal_jax.serialization import from_json

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PAGES = ("by-hand", STORED.name)
PAPER = 688  # pixels between the margins of A4, the narrower of A4 and Letter
EVIL = "<img src=x onerror=alert(1)>"
LONG = "a" * 90  # a name without a place to break it

# The boxes of the cells that a reader should see: (text, left, right, whether it is cut off).
CELLS = """() => [...document.querySelectorAll("table")]
  .filter(table => !table.closest("details"))
  .flatMap(table => [...table.querySelectorAll("td")].map(cell => {
    const box = cell.getBoundingClientRect()
    const cut = box.width > 0 && cell.scrollWidth > cell.clientWidth + 1
    return [cell.innerText, box.left, box.right, cut]
  }))"""
# Texts of the heads of columns that are visible, as heads or before the cells of cards.
HEADS = """() => [...document.querySelectorAll("table")]
  .filter(table => !table.closest("details"))
  .map(table => {
    const heads = [...table.querySelectorAll("th")]
    if (heads[0].getBoundingClientRect().width > 0) return heads.map(head => head.textContent)
    return [...table.querySelector("tbody tr").children].map(cell =>
      getComputedStyle(cell, "::before").content === "none" ? "" : cell.dataset.title)
  })"""
SCROLLING = """() => [...document.querySelectorAll(".table")]
  .filter(box => box.scrollWidth > box.clientWidth + 1)
  .map(box => [box.clientWidth, box.scrollWidth, getComputedStyle(box).overflowX])"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def make_page() -> tuple[Page, list[Claim]]:
    """Every kind of block, the columns of the widest table of an experiment (that of
    optimizer-transmission), and names that nobody should have."""
    effect = Interval(-0.1234, -0.2345, 0.5678, 8, 0.95, "t")
    columns = [
        Column("name", "optimizer"),
        Column("rate", "best rate", "learning_rate"),
        Column("inside", "inside its grid"),
        Column("effect", "gain", "number", 3),
        Column("effect", "EAS", "number"),
        Column("effect.mean", "EAS, controls", "number"),
        *(Column("effect", f"metric {i}, student - control", "number") for i in range(3)),
        *(Column("effect", f"adamw's lead, metric {i}", "number") for i in range(3)),
        Column("unstable", "unstable"),
    ]
    names = ("adamw", "rmsprop:decay=0.99", "my_module:my_lion", EVIL)
    rows = [
        {"name": n, "rate": 3e-4, "effect": effect, "inside": True, "unstable": ("a", "b")}
        for n in names
    ]
    lines = [{"label": n, "group": n, "interval": effect, "values": [0.1, 0.2]} for n in names]
    texts = [{"who": "control", "text": f"{LONG}\n{EVIL} " + "several words " * 20}]
    claim = Claim(f"hand/{EVIL}", EVIL, "Sec. 1", LONG, "0.5 [0.4, 0.6]", 3, VERDICTS[0])
    blocks = [
        Table("Thirteen columns", columns, rows, EVIL),
        Picture("forest", EVIL, f"A picture of {EVIL}.", plots.forest(lines, x_label=EVIL)),
        Table("Texts", [Column("who", "who"), Column("text", "text")], texts),
        Text(f"{LONG}\n\n{EVIL}", LONG),
    ]
    return Page(f"Made by hand {EVIL}", f"{LONG}\n\n{EVIL}", blocks), [claim]


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    """The addresses of the pages, by name."""
    folder = tmp_path_factory.mktemp("pages")
    summary = read_summary(EXPERIMENTS / "log_linearity" / "results" / f"{STORED.name}.json")
    results = from_json(STORED.Results, summary.results, STORED.name)
    content = {"by-hand": make_page(), STORED.name: (STORED.page(results), list(summary.claims))}
    facts = {"Experiment": EVIL, "Version": "0.1.0, commit 0123456", "Devices": LONG}
    return {
        name: publish(
            page,
            folder / name,
            command=f"subliminal-jax {name} {EVIL} --out {LONG}",
            config={"name": EVIL, "long": LONG},
            claims=claims,
            facts=facts,
        ).as_uri()
        for name, (page, claims) in content.items()
    }


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no Chromium on PATH: none of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, pages):
    """Opens a page at a width and keeps a picture of it; fails at an error of the page, at what the
    browser says on its console and at any request but that for the page."""
    opened, complaints = [], []

    def open_page(name, width, media="screen", scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(page)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("dialog", lambda dialog: complaints.append("a dialog"))
        page.on("request", lambda request: complaints.append(request.url))
        page.emulate_media(media=media, color_scheme=scheme)
        page.goto(pages[name])
        assert complaints.pop(0) == pages[name]
        if folder := os.environ.get("SUBLIMINAL_JAX_SCREENSHOTS"):
            place = Path(folder) / f"{name}-{'paper' if media == 'print' else width}-{scheme}"
            page.screenshot(path=f"{place}.png", full_page=True)
            if media == "print":
                page.pdf(path=f"{place}.pdf", format="A4")
        return page

    yield open_page
    for page in opened:
        page.close()
    assert complaints == []


@pytest.mark.parametrize("width", [1280, 768, 400])
@pytest.mark.parametrize("name", PAGES)
def test_no_column_is_cut_off_on_a_screen(visit, name, width):
    page = visit(name, width)
    assert page.evaluate(OVERFLOW) == 0
    boxes = page.evaluate(SCROLLING)
    assert all(overflow == "auto" for _, _, overflow in boxes)  # else its columns are out of reach
    if width == 1280:
        assert boxes == []  # all columns at once
    assert not [cell for cell in page.evaluate(CELLS) if cell[3]]


@pytest.mark.parametrize("name", PAGES)
def test_no_column_is_cut_off_on_paper(visit, name):
    on_screen = visit(name, 1280)
    page = visit(name, PAPER, media="print")
    assert page.evaluate(OVERFLOW) == 0
    assert page.evaluate(HEADS) == on_screen.evaluate(HEADS)
    cells = page.evaluate(CELLS)
    assert len(cells) == len(on_screen.evaluate(CELLS)) > 0
    outside = [c for c in cells if not 0 <= c[1] < c[2] <= PAPER + 1 or c[3]]
    assert outside == []


def test_a_table_wider_than_paper_is_one_of_cards_there_and_on_a_phone(visit):
    for width, media in ((PAPER, "print"), (400, "screen")):
        page = visit("by-hand", width, media)
        row = page.locator(".wide tbody tr").nth(1)
        assert row.evaluate("row => getComputedStyle(row).display") == "block"
        assert page.locator("th", has_text="lead, metric 2").is_hidden()
    assert visit("by-hand", 1280).locator("th", has_text="lead, metric 2").is_visible()


def test_a_point_of_a_picture_says_its_values(visit):
    page = visit("by-hand", 1280)
    points = page.locator(".points rect")
    assert points.count() == 4 * 5  # a mean, two ends and two seeds each
    said = points.first.evaluate(
        """point => {
          point.scrollIntoView({block: "center"})
          const box = point.getBoundingClientRect()
          const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)
          return hit.querySelector("title")?.textContent
        }"""
    )
    assert said == f"adamw\n{EVIL}: 0.1\nadamw"
    page.locator("summary", has_text="Values").click()
    assert page.locator(".values td", has_text="0.2").first.is_visible()


def test_what_is_written_makes_no_element(visit):
    page = visit("by-hand", 1280)
    assert page.locator("img, script, iframe, object, link").count() == 0
    assert page.locator("main").inner_text().count(EVIL) > 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_the_background(visit, scheme):
    """WCAG asks for a contrast of 4.5."""
    page = visit(STORED.name, 1280, scheme=scheme)
    colors = page.evaluate(
        """() => ["body", ".note", "td", "a", ".verdict", "figure svg text", ".ends"].map(name => {
          const style = getComputedStyle(document.querySelector(name))
          return name.startsWith("figure") ? style.fill : style.color
        })"""
    )
    background = luminance(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
    assert (background > 0.5) == (scheme == "light")
    for color in colors:
        light, dark = sorted((luminance(color), background), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, color


def luminance(color: str) -> float:
    """The relative luminance of "rgb(r, g, b)" (WCAG 2)."""
    channels = [int(x) / 255 for x in color.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_header_stays_and_contents_lead_to_sections(visit):
    page = visit(STORED.name, 400)
    links = page.locator("nav a")
    targets = links.evaluate_all("links => links.map(a => document.querySelector(a.hash)?.id)")
    assert len(targets) == links.count() > 3 and None not in targets
    links.last.click()
    assert page.evaluate("() => window.scrollY") > 500
    header = page.locator("header").bounding_box()
    assert header["y"] == 0
    assert page.locator("#run h2").bounding_box()["y"] >= header["height"]
