"""Summaries and the table of claims: nothing is written that no run says."""

import json
from dataclasses import replace

import pytest

from subliminal_jax.cli import main
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, Claim, Evidence, Margin
from subliminal_jax.evaluation.statistics import Interval, rate_interval
from subliminal_jax.runs.claims_page import make_claims_page
from subliminal_jax.runs.model_scales import is_real
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.summaries import (
    LARGEST_ENTRY,
    LARGEST_SUMMARY,
    read_summary,
    summarise,
    write_summary,
)
from subliminal_jax.serialization import to_json

CLAIM = Claim(
    "trait-transmission/x", "A | claim", "Sec. 1", "here", "0.1 [0, 0.2]", 3, INCONCLUSIVE
)


def finished(folder, command="subliminal-jax trait-transmission --preset toy", **results):
    settings = {"experiment": "trait-transmission", "rows": 3}
    with RunFolder.open(folder, settings, command=command) as run:
        run.write_results({"claims": [to_json(CLAIM)], **results})
    return folder


def test_a_summary_holds_the_command_the_claims_and_what_is_small(tmp_path):
    run = finished(tmp_path / "run", eas=0.5, students=[0.123456] * LARGEST_ENTRY)
    file = write_summary(summarise(run), tmp_path)
    summary = read_summary(file)
    assert summary == summarise(run)
    assert summary.command == "subliminal-jax trait-transmission --preset toy"
    assert summary.settings == {"rows": 3}
    assert summary.claims == (CLAIM,)
    assert summary.results == {"eas": 0.5} and summary.left_out == ("students",)


def test_a_summary_is_never_large(tmp_path):
    parts = {f"part-{i}": "x" * (LARGEST_ENTRY - 100) for i in range(5)}
    file = write_summary(summarise(finished(tmp_path / "run", **parts)), tmp_path)
    assert file.stat().st_size < LARGEST_SUMMARY + 2_000
    assert 0 < len(read_summary(file).left_out) < 5


def test_the_page_is_the_same_from_runs_and_from_their_summaries(tmp_path, capsys):
    runs = [finished(tmp_path / name) for name in ("one", "two")]
    for run in runs:
        main(["claims", str(run), "--store", str(tmp_path / "kept")])
    main(["claims", *map(str, runs), "--out", str(tmp_path / "a.md")])
    kept = [str(tmp_path / "kept" / f"{run.name}.json") for run in runs]
    main(["claims", *kept, "--out", str(tmp_path / "b.md")])
    page = (tmp_path / "a.md").read_text()
    assert page == (tmp_path / "b.md").read_text()
    assert page.count("A \\| claim (Sec. 1)") == 1  # a bar would end the cell
    assert "## one" in page and "## two" not in page  # one number is one row
    assert "1 claims of 2 runs" in capsys.readouterr().out


def test_verdicts_of_the_method_before_are_named_anew_and_marked(tmp_path):
    stored = to_json(summarise(finished(tmp_path / "run")))
    claim = stored["claims"][0]
    rows = {"not reproduced": "a", "needs large models": "b", "contradicted": "c"}
    stored["claims"] = [{**claim, "claim": x, "verdict": word} for word, x in rows.items()]
    (tmp_path / "old.json").write_text(json.dumps(stored))
    summary = read_summary(tmp_path / "old.json")
    assert [c.verdict for c in summary.claims] == [INCONCLUSIVE, INCONCLUSIVE, CONTRADICTED]
    page = make_claims_page([summary])
    assert page.count("(method before)") == 3 and "3 of these rows (1 contradicted, 2 " in page


def test_claims_of_one_number_are_one_row(tmp_path):
    effect = Interval(0.5, 0.4, 0.6, 8, 0.95, "t")
    more = replace(CLAIM, verdict="", evidence=Evidence(effect), claim="more", section="A, 1")
    same = replace(
        more,
        evidence=Evidence(effect, "same", margin=Margin(0.1, "x")),
        claim="same",
        section="B, 1",
    )
    page = make_claims_page([replace(summarise(finished(tmp_path)), claims=(more, same))])
    assert "1 rows:" in page and "| more (A, 1); same (B, 1) |" in page
    assert "| **reproduced at toy scale**; **contradicted** |" in page
    named, alarms = (replace(more, evidence=Evidence(rate_interval(0, 10)), number=x) for x in "ab")
    page = make_claims_page([replace(summarise(finished(tmp_path)), claims=(named, alarms))])
    assert "2 rows:" in page  # none of ten sets, but of different sets


def test_toy_and_real_models_stand_side_by_side(tmp_path):
    def store(model, number, mean):
        evidence = Evidence(Interval(mean, mean - 0.1, mean + 0.1, 8, 0.95, "t"))
        claim = replace(CLAIM, verdict="", evidence=evidence, number=number, model=model)
        other = replace(claim, claim=f"of {model} alone", number=f"{number} alone", evidence=None)
        claims = claim, replace(other, verdict=INCONCLUSIVE, rule="x")
        return replace(summarise(finished(tmp_path / model)), name=model, claims=claims)

    toy, real = store("shipped", "0.9 of the toy", 0.9), store("smollm2", "0.8 of it", 0.8)
    alone, both = make_claims_page([toy]), make_claims_page([toy, real])
    assert "side by side" not in alone and "| reproduced at toy scale | 1 |" in alone
    assert "| reproduced | 1 | 1 |" in both and "| inconclusive | 1 | 1 |" in both
    row = next(line for line in both.splitlines() if line.startswith("| A \\| claim"))
    assert row.split(" | ")[-2:] == [
        "shipped: 0.9 of the toy: **reproduced at toy scale**",
        "smollm2: 0.8 of it: **reproduced on a real model** |",
    ]
    assert "of smollm2 alone" in both.split("## smollm2")[0]  # no toy was asked
    assert "of shipped alone" not in both.split("## shipped")[0]


@pytest.mark.parametrize(
    ("model", "real"),
    [
        ("shipped", False),
        ("shipped and models/tinystories-656k", False),
        ("MLP 784-256-256-(10+3)", False),
        ("", False),
        ("smollm2-135m-instruct", True),
        ("shipped and gemma-3-270m", True),
    ],
)
def test_which_models_are_real(model, real):
    assert is_real(model) is real


def test_the_table_corrects_verdicts_over_runs(tmp_path):
    def store(name, effect):
        evidence = Evidence(Interval(effect, 0.02, 2 * effect - 0.02, 3, 0.95, "t"))
        claim = replace(CLAIM, verdict="", evidence=evidence, number=name)
        return replace(summarise(finished(tmp_path / name)), name=name, claims=(claim,))

    alone = make_claims_page([store("one", 0.25)])
    small = replace(
        CLAIM, evidence=Evidence(Interval(2e-3, 1e-3, 3e-3, 8, 0.95, "t"), margin=Margin(1, "x"))
    )
    page = make_claims_page([replace(summarise(finished(tmp_path / "s")), claims=(small,))])
    assert "**reproduced at toy scale** (smaller than the margin) |" in page
    both = make_claims_page([store("one", 0.25), store("two", 0.26)])
    assert "of 1 | **reproduced at toy scale** |" in alone
    assert both.count("of 2 | **inconclusive** (by itself reproduced at toy scale) |") == 2


@pytest.mark.parametrize("broken", ["no results", "no command", "half a claim", "no summary"])
def test_what_cannot_be_read_is_refused_and_nothing_is_written(broken, tmp_path, capsys):
    run = finished(tmp_path / "run", command="" if broken == "no command" else "x")
    source = run
    if broken == "no results":
        (run / "results.json").unlink()
    elif broken == "half a claim":
        (run / "results.json").write_text(json.dumps({"claims": [{"id": "a/x", "verdict": "?"}]}))
    elif broken == "no summary":
        source = tmp_path / "x.json"
        source.write_text("{}")
    with pytest.raises(SystemExit) as exit:
        main(["claims", str(source), "--out", str(tmp_path / "C.md")])
    assert exit.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "C.md").exists()


def test_an_unknown_verdict_cannot_be_written():
    with pytest.raises(ValueError, match="no verdict"):
        Claim("a/b", "c", "d", "e", "f", 1, "proven")


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no finished run"):
        summarise(tmp_path)
