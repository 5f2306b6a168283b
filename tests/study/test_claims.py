"""The table of claims: nothing is written that no run says, and nothing half-written."""

import json

import pytest

from subliminal_jax.study import claims


def stored(folder, name="a", verdict="not reproduced", **config):
    folder.mkdir(parents=True)
    row = claims.claim(f"{name}/x", "A | claim", "Sec. 1", "here", "0.1 [0, 0.2]", 3, verdict)
    (folder / "results.json").write_text(json.dumps({"claims": [row]}))
    (folder / "config.json").write_text(json.dumps({"preset": "toy", "model": "shipped", **config}))
    return folder


@pytest.mark.parametrize(
    ("low", "high", "claimed", "expected"),
    [
        (0.1, 0.2, 1, "reproduced at toy scale"),
        (-0.2, -0.1, 1, "contradicted"),
        (-0.2, -0.1, -1, "reproduced at toy scale"),
        (0.1, 0.2, -1, "contradicted"),
        (-0.1, 0.1, 1, "not reproduced"),
        (0.0, 0.1, 1, "not reproduced"),
        (None, None, 1, "not reproduced"),
        (float("nan"), float("nan"), 1, "not reproduced"),
    ],
)
def test_a_verdict_needs_an_interval_clear_of_zero(low, high, claimed, expected):
    assert claims.verdict(low, high, claimed) == expected


def test_the_page_and_the_readme_hold_every_claim_with_its_command(tmp_path):
    runs = [
        stored(tmp_path / "one", "trait-transmission"),
        stored(tmp_path / "two", "scaling", model="shipped-small", preset="full"),
    ]
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{claims.START}\nold\n{claims.END}\nafter\n")
    out = tmp_path / "CLAIMS.md"
    claims.main([*map(str, runs), "--out", str(out), "--readme", str(readme)])
    text = out.read_text()
    assert "`subliminal-jax trait-transmission --preset toy --model shipped`" in text
    assert "`subliminal-jax scaling --preset full --model shipped-small`" in text
    assert text.count("A \\| claim") == 2  # a bar would end the cell
    table = readme.read_text()
    assert table.startswith("before\n")
    assert table.endswith("after\n")
    assert "old" not in table
    assert table.count("A \\| claim") == 2
    claims.main([*map(str, runs), "--out", str(out), "--readme", str(readme)])
    assert readme.read_text() == table


def test_stored_results_give_the_same_table(tmp_path):
    run = stored(tmp_path / "run")
    claims.main([str(run), "--store", str(tmp_path / "shelf")])
    kept = tmp_path / "shelf" / "run"
    assert claims.read_run(kept) == claims.read_run(run)
    assert (kept / "results.json").stat().st_size <= (run / "results.json").stat().st_size


@pytest.mark.parametrize("broken", ["missing", "no claims", "half a claim", "no markers"])
def test_what_cannot_be_read_is_refused_and_nothing_is_written(broken, tmp_path, capsys):
    run = stored(tmp_path / "run")
    readme = tmp_path / "README.md"
    readme.write_text("nothing here" if broken == "no markers" else claims.START + claims.END)
    if broken == "missing":
        (run / "results.json").unlink()
    elif broken == "no claims":
        (run / "results.json").write_text("{}")
    elif broken == "half a claim":
        (run / "results.json").write_text(json.dumps({"claims": [{"id": "a/x", "verdict": "?"}]}))
    before = readme.read_text()
    with pytest.raises(SystemExit) as exit:
        claims.main([str(run), "--out", str(tmp_path / "C.md"), "--readme", str(readme)])
    assert exit.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "C.md").exists()
    assert readme.read_text() == before
