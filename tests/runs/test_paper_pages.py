"""Pages of papers hold every row of the table of claims, each with the paper that it is of."""

import pytest

from subliminal_jax.cli import main
from subliminal_jax.evaluation.claims import CONTRADICTED, REPRODUCED, Claim
from subliminal_jax.runs.claims_page import make_claims_page
from subliminal_jax.runs.paper_pages import INDEX, PAPERS, find_paper, make_paper_pages
from subliminal_jax.runs.summaries import Summary, write_summary


def make_summary(name, sections, verdict):
    claims = [
        Claim(f"{name}/{i}", f"claim {name} {i}", section, "here", f"{i} [0, 9]", 3, verdict)
        for i, section in enumerate(sections)
    ]
    return Summary(name, name, f"subliminal-jax {name}", {}, tuple(claims))


SUMMARIES = [
    make_summary("one", ["Cloud et al. 2025, section 3", "Sec. 2", "Blank et al."], REPRODUCED),
    make_summary("two", ["Blank et al. 2026, figure 7"], CONTRADICTED),
]


def test_a_row_stands_on_the_page_of_its_paper_under_its_command():
    pages = make_paper_pages(SUMMARIES)
    assert set(pages) == {INDEX, "cloud-2025", "blank-2026", "others"}
    assert "claim one 0" in pages["cloud-2025"] and "subliminal-jax two" not in pages["cloud-2025"]
    blank = pages["blank-2026"]
    assert blank.index("`subliminal-jax one`") < blank.index("claim one 2")
    assert blank.index("`subliminal-jax two`") < blank.index("claim two 0")
    assert "| 2 | 1 | 1 | 0 | 0 |" in pages[INDEX]  # rows, reproduced, contradicted ...
    listed = "".join(pages[name] for name in pages if name != INDEX)
    rows = [line for line in make_claims_page(SUMMARIES).splitlines() if "| claim " in line]
    assert rows and all(row in listed for row in rows)


def test_every_source_has_one_paper_and_the_last_takes_the_rest():
    assert find_paper("Tan et al. 2024, section 4").name == "tan-2024"
    assert find_paper("our own question") is find_paper("section 3") is PAPERS[-1]


def test_a_page_of_somebody_else_is_left_and_nothing_is_written(tmp_path, capsys):
    files = [str(write_summary(summary, tmp_path)) for summary in SUMMARIES]
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "blank-2026.md").write_text("mine")
    command = ["claims", *files, "--out", str(tmp_path / "claims.md"), "--papers"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, str(tmp_path / "papers")])
    assert stopped.value.code == 2 and "page of a paper" in capsys.readouterr().err
    assert not (tmp_path / "claims.md").exists()
    assert (tmp_path / "papers" / "blank-2026.md").read_text() == "mine"
    for _ in range(2):  # its own pages are replaced
        main([*command, str(tmp_path / "new")])
    assert sorted(file.stem for file in (tmp_path / "new").iterdir()) == sorted(
        make_paper_pages(SUMMARIES)
    )
