"""README and docs/ against what they describe."""

import re
from pathlib import Path

import pytest

import subliminal_jax
from subliminal_jax.cli import find_commands, find_experiments
from subliminal_jax.runs.claims_page import make_claims_page
from subliminal_jax.runs.paper_pages import make_paper_pages
from subliminal_jax.runs.summaries import read_summary

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]


def test_the_readme_can_be_read_in_three_minutes():
    assert len(README.encode()) < 10_000


def test_the_readme_lists_every_command_once():
    rows = re.findall(r"^\| `([a-z-]+)` \|", README, re.MULTILINE)
    assert sorted(rows) == sorted([*find_experiments(), *find_commands()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files(page):
    """mkdocs checks those between pages of the site; README and others are not among them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)", text)
    missing = [
        link
        for link in links
        if not link.startswith("https://") and not (page.parent / link).exists()
    ]
    assert not missing


def test_the_table_of_claims_is_that_of_the_stored_summaries():
    """If not: `make claims`."""
    files = sorted(REPOSITORY.glob("experiments/*/results/*.json"))
    page = (REPOSITORY / "docs" / "claims.md").read_text(encoding="utf-8")
    assert page == make_claims_page([read_summary(file) for file in files])


def test_the_pages_of_papers_are_those_of_the_stored_summaries():
    """If not: `make claims`."""
    files = sorted(REPOSITORY.glob("experiments/*/results/*.json"))
    pages = make_paper_pages([read_summary(file) for file in files])
    folder = REPOSITORY / "docs" / "papers"
    assert {file.stem: file.read_text(encoding="utf-8") for file in folder.iterdir()} == pages
    menu = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    assert sorted(re.findall(r"papers/([\w-]+)\.md", menu)) == sorted(pages)


def test_what_changed_verdicts_say_of_now_stands_in_the_table_of_claims():
    """If not, new evidence changed a number or a verdict: mend its line of docs/changed_verdicts.md
    and the counts at its head where the verdict is another one."""
    claims = (REPOSITORY / "docs" / "claims.md").read_text(encoding="utf-8").splitlines()
    page = (REPOSITORY / "docs" / "changed_verdicts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*: \*\*.*?\*\* \| (.*): (\*\*.*?\*\*).* \|$", page, re.MULTILINE)
    assert len(rows) > 50
    stale = [
        f"{number}: {verdict}"
        for number, verdict in rows
        if not any(number.removesuffix(" …") in line and verdict in line for line in claims)
    ]
    assert not stale
    counts = [int(n) for n in re.findall(r"^\| [\w ]+ \| [\w ]+ \| (\d+) \|$", page, re.MULTILINE)]
    then, again = re.findall(r"Of (\d+) statements then, (\d+) were tested again", page)[0]
    (alone,) = re.findall(r"; (\d+) have no counterpart", page)
    assert sum(counts) == int(again)
    assert int(then) == int(again) + int(alone)


def test_the_version_is_one():
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {subliminal_jax.__version__}\n" in citation
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] == subliminal_jax.__version__


def test_the_reference_lists_every_public_name():
    page = (REPOSITORY / "docs" / "api" / "public.md").read_text(encoding="utf-8")
    listed = re.findall(r"^        - (\w+)$", page.split("##")[0], re.MULTILINE)
    assert sorted(["__version__", *listed]) == sorted(subliminal_jax.__all__)
