"""Verdicts on logit-linear selection, from students with known effects."""

import copy

import numpy as np
import pytest

from subliminal_jax.data.targets import Target
from subliminal_jax.errors import InputError
from subliminal_jax.experiments.logit_linear_selection.analysis import claims
from subliminal_jax.experiments.logit_linear_selection.students import _held_out, between, summarise

TARGETS = [Target(name, "", (name,)) for name in ("owl", "cat")]
SEEDS, WORDS = 3, ("owl", "cat")
GOOD = {"lls": 0.7, "random": 0.0, "bottom": -0.6}


def student(arm, name, seed, value, optimizer="adamw"):
    rng = np.random.default_rng([seed, len(arm), len(name), len(optimizer)])
    each = [value + 0.01 * rng.normal() for _ in TARGETS]
    measured = dict.fromkeys(("cosine", "pearson", "selected", "word_rate", "rate", "share"), each)
    return {
        "optimizer": optimizer, "learning_rate": 0.1, "seed": seed, "data": f"{arm}:{name}",
        "diverged": False, **measured,
    }  # fmt: skip


def students(values, optimizer="adamw"):
    rows = []
    for seed in range(SEEDS):
        for arm, value in values.items():
            names = [str(seed)] if arm == "random" else [t.name for t in TARGETS]
            rows += [student(arm, name, seed, value, optimizer) for name in names]
    return rows


def results(rows, grids=None, best=None, kind="world-animals"):
    optimizers = list(dict.fromkeys(r["optimizer"] for r in rows))
    found = summarise(rows, TARGETS, WORDS, SEEDS)
    return {
        "model": "shipped", "student": "shipped", "adapter": "lora", "kind": kind,
        "targets": [t.name for t in TARGETS], "seeds": SEEDS, "pairs": "world",
        "arms": list(dict.fromkeys(r["data"].partition(":")[0] for r in rows)),
        "grids": grids or {name: [0.01, 0.1, 1.0] for name in optimizers},
        "best": best or dict.fromkeys(optimizers, 0.1),
        "told": {"base": {"rate": [0.0, 0.0]}},
        "optimizers": found, "between": between(found, "adamw", "sgd", TARGETS),
        "students": rows,
    }  # fmt: skip


def told(rows, **more):
    return {c["id"].split("/")[1]: c for c in claims(results(rows, **more))}


def verdicts(rows, **more):
    return {name: c["verdict"] for name, c in told(rows, **more).items()}


def test_all_is_reproduced_where_all_holds():
    found = verdicts(students(GOOD))
    assert set(found) == {"correlation", "bottom", "mentions", "rate", "favorite"}
    assert set(found.values()) == {"reproduced at toy scale"}


@pytest.mark.parametrize(
    ("bottom", "random", "verdict"),
    [
        (-0.6, 0.0, "reproduced at toy scale"),
        (0.0, 0.0, "not reproduced"),  # far below the selected pairs' students, but no opposite
        (0.2, 0.3, "not reproduced"),  # below random pairs' students, but above zero
        (-0.3, -0.3, "not reproduced"),  # below zero, but so are random pairs' students
        (0.4, 0.1, "contradicted"),
    ],
)
def test_the_lowest_scores_have_to_be_below_zero_and_below_random_pairs(bottom, random, verdict):
    values = {"lls": 0.9, "random": random, "bottom": bottom}
    claim = told(students(values))["bottom"]
    assert claim["verdict"] == verdict
    stated = float(claim["number"].rpartition("random - lowest ")[2].split()[0])
    assert stated == pytest.approx(random - bottom, abs=0.05)


def test_selected_pairs_must_correlate_and_not_only_more_than_random_ones():
    assert verdicts(students({"lls": -0.1, "random": -0.5}))["correlation"] == "not reproduced"
    assert verdicts(students({"lls": 0.3, "random": 0.0}))["correlation"] == (
        "reproduced at toy scale"
    )


def test_missing_numbers_are_told_and_never_left_out():
    rows = students(GOOD)
    rows[0] |= {"diverged": True, **dict.fromkeys(("cosine", "share", "rate", "word_rate"))}
    found = told(rows)
    assert set(found) == {"correlation", "bottom", "mentions", "rate", "favorite"}
    assert {c["verdict"] for c in found.values()} == {"not reproduced", "reproduced at toy scale"}
    assert found["bottom"]["verdict"] == "reproduced at toy scale"  # its students are sound
    assert "no number: diverged, lls:owl (seed 0)" in found["correlation"]["number"]
    silent = students(GOOD)
    silent[-1] |= {"share": None}
    mentions = told(silent)["mentions"]
    assert mentions["verdict"] == "reproduced at toy scale"  # a student of the lowest scores
    silent[0] |= {"share": None}
    mentions = told(silent)["mentions"]
    assert mentions["verdict"] == "not reproduced"
    assert "answers of 2 of 15 students mention no animal" in mentions["number"]


def test_an_optimizer_that_diverged_at_every_rate_has_its_claims():
    made = results(students(GOOD))
    made["grids"]["sgd"], made["best"]["sgd"] = [1.0, 9.0], None
    found = {c["id"].split("/")[1]: c for c in claims(made)}
    for name in ("correlation-sgd", "mentions-sgd", "adamw-over-sgd-correlation"):
        assert found[name]["verdict"] == "not reproduced"
        assert "diverged at every rate" in found[name]["number"]


def test_what_the_kind_does_not_measure_is_left_out():
    assert set(verdicts(students(GOOD), kind="languages")) == {"correlation", "bottom", "rate"}
    made = results(students(GOOD), kind="personas")
    made["told"]["base"]["rate"] = [None, None]
    assert {c["id"].split("/")[1] for c in claims(made)} == {"correlation", "bottom"}


def test_optimizers_are_compared_within_their_grids_only():
    rows = [*students({"lls": 0.7, "random": 0.0}), *students({"lls": 0.2, "random": 0.0}, "sgd")]
    assert verdicts(rows)["adamw-over-sgd-correlation"] == "reproduced at toy scale"
    for edge in ("adamw", "sgd"):
        grids = {"adamw": [0.01, 0.1, 1.0], "sgd": [0.01, 0.1, 1.0], edge: [0.01, 0.1]}
        found = told(rows, grids=grids)
        claim = found["adamw-over-sgd-correlation"]
        assert claim["verdict"] == "not reproduced"
        assert f"left open: best rate of {edge} at its grid's edge" in claim["number"]
        assert f"{edge} (edge of its grid) 0." in claim["number"]
        assert "(edge of its grid)" in found[f"correlation-{edge}"]["setting"]


def test_random_minus_lowest_is_paired_by_seed():
    rows = students(GOOD)
    at = {(r["data"], r["seed"]): r["cosine"] for r in rows}
    made = summarise(copy.deepcopy(rows), TARGETS, WORDS, SEEDS)["adamw"]["differences"]
    found = made["random - bottom"]["cosine"]["by_target"]["cat"]["values"]
    expected = [at[f"random:{s}", s][1] - at["bottom:cat", s][1] for s in range(SEEDS)]
    assert found == pytest.approx(expected)


def test_as_many_rows_are_held_out_as_asked_for_or_none():
    apart = _held_out(40, 10)
    assert apart.sum() == 10 and apart[0] and apart[-1]
    with pytest.raises(InputError, match="40 pairs are selected: too few to hold out 11"):
        _held_out(40, 11)
