"""Numbers and verdicts of `logit-linear-selection`, from students with known effects."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REFUTED, REPRODUCED, Claim
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.logit_linear_selection.analysis import (
    METRICS,
    AnswerRates,
    Measured,
    PoolCounts,
    Untrained,
    analyse,
)
from subliminal_jax.experiments.logit_linear_selection.claims import make_claims

TARGETS = ("owl", "cat")
SEEDS = 3
GOOD = {"lls": 0.7, "random": 0.0, "bottom": -0.6}


def make_student(arm, name, seed, value, optimizer="adamw"):
    rng = np.random.default_rng([seed, len(arm), len(name), len(optimizer)])
    values = [value + 0.01 * rng.normal() for _ in TARGETS]
    return StudentRow(
        optimizer,
        0.1,
        seed,
        f"{arm}:{name}",
        diverged=False,
        measured=dict.fromkeys(METRICS, values),
    )


def make_students(values, optimizer="adamw"):
    return [
        make_student(arm, name, seed, value, optimizer)
        for seed in range(SEEDS)
        for arm, value in values.items()
        for name in ((str(seed),) if arm == "random" else TARGETS)
    ]


def make_measured(rows, **changes):
    optimizers = list(dict.fromkeys(row.optimizer for row in rows))
    none_shown = AnswerRates(rate=(0.0, 0.0))
    measured = Measured(
        model="shipped",
        student="shipped",
        adapter="lora",
        steps=8,
        kind="world-animals",
        targets=TARGETS,
        words=TARGETS,
        seeds=SEEDS,
        pairs="world",
        arms=tuple(dict.fromkeys(row.data.partition(":")[0] for row in rows)),
        heldout=4,
        beta=0.1,
        grids=dict.fromkeys(optimizers, (0.01, 0.1, 1.0)),
        best=dict.fromkeys(optimizers, 0.1),
        pool=PoolCounts(10, {}, 2, 8),
        speed=None,
        selected={},
        untrained=Untrained(none_shown, dict.fromkeys(TARGETS, none_shown)),
        searched=(),
        students=tuple(rows),
    )
    return replace(measured, **changes)


def claims(rows, **changes) -> dict[str, Claim]:
    results = analyse(make_measured(rows, **changes))
    return {c.id.removeprefix("logit-linear-selection/"): c for c in make_claims(results)}


def verdicts(rows, **changes):
    return {name: claim.verdict for name, claim in claims(rows, **changes).items()}


def test_all_is_reproduced_where_all_holds():
    assert verdicts(make_students(GOOD)) == dict.fromkeys(
        ("correlation", "bottom", "mentions", "rate", "favorite"), REPRODUCED
    )


@pytest.mark.parametrize(
    ("bottom", "random", "verdict"),
    [
        (-0.6, 0.0, REPRODUCED),
        (0.0, 0.0, REFUTED),  # far below the selected pairs' students, but no opposite
        (0.2, 0.3, INCONCLUSIVE),  # below random pairs' students, but above zero
        (-0.3, -0.3, REFUTED),  # below zero, but so are random pairs' students
        (0.4, 0.1, CONTRADICTED),
    ],
)
def test_the_lowest_scores_have_to_be_below_zero_and_below_random_pairs(bottom, random, verdict):
    claim = claims(make_students({"lls": 0.9, "random": random, "bottom": bottom}))["bottom"]
    assert claim.verdict == verdict
    stated = float(claim.number.rpartition("random - lowest ")[2].split()[0])
    assert stated == pytest.approx(random - bottom, abs=0.05)  # of the students' noise


def test_selected_pairs_must_correlate_and_not_only_more_than_random_ones():
    negative, positive = ({"lls": -0.1, "random": -0.5}, {"lls": 0.3, "random": 0.0})
    assert verdicts(make_students(negative))["correlation"] == INCONCLUSIVE
    assert verdicts(make_students(positive))["correlation"] == REPRODUCED


def test_missing_numbers_are_stated_and_never_left_out():
    rows = make_students(GOOD)
    without = dict.fromkeys(("cosine", "share", "rate", "word_rate"))
    diverged = claims([rows[0].replace_values(diverged=True, **without), *rows[1:]])
    assert {name: claim.verdict for name, claim in diverged.items()} == {
        **dict.fromkeys(("correlation", "mentions", "rate", "favorite"), INCONCLUSIVE),
        "bottom": REPRODUCED,  # its students are sound
    }
    assert "no number: diverged or unstable, lls:owl (seed 0)" in diverged["correlation"].number
    blown_up = claims([rows[0].replace_values(heldout_loss=5.0, base_loss=0.7), *rows[1:]])
    assert {name: c.verdict for name, c in blown_up.items()} == {
        name: c.verdict for name, c in diverged.items()
    }
    silent = [*rows[:-1], rows[-1].replace_values(share=None)]  # a student of the lowest scores
    assert verdicts(silent)["mentions"] == REPRODUCED
    mentions = claims([silent[0].replace_values(share=None), *silent[1:]])["mentions"]
    assert mentions.verdict == INCONCLUSIVE
    assert "answers of 2 of 15 students mention no animal" in mentions.number


def test_an_optimizer_that_diverged_at_every_rate_has_its_claims():
    grids = {"adamw": (0.01, 0.1, 1.0), "sgd": (1.0, 9.0)}
    by_name = claims(make_students(GOOD), grids=grids, best={"adamw": 0.1, "sgd": None})
    for name in ("correlation-sgd", "mentions-sgd", "adamw-over-sgd-correlation"):
        assert by_name[name].verdict == INCONCLUSIVE
        assert "diverged at every rate" in by_name[name].number


def test_what_the_kind_does_not_measure_is_left_out():
    rows = make_students(GOOD)
    assert set(claims(rows, kind="languages")) == {"correlation", "bottom", "rate"}
    unjudged = Untrained(AnswerRates(rate=(None, None)), {})
    assert set(claims(rows, kind="personas", untrained=unjudged)) == {"correlation", "bottom"}


def test_optimizers_are_compared_within_their_grids_only():
    rows = make_students({"lls": 0.7, "random": 0.0})
    rows += make_students({"lls": 0.2, "random": 0.0}, "sgd")
    assert verdicts(rows)["adamw-over-sgd-correlation"] == REPRODUCED
    for edge in ("adamw", "sgd"):
        grids = {"adamw": (0.01, 0.1, 1.0), "sgd": (0.01, 0.1, 1.0), edge: (0.01, 0.1)}
        by_name = claims(rows, grids=grids)
        claim = by_name["adamw-over-sgd-correlation"]
        assert claim.verdict == INCONCLUSIVE
        assert f"left open: best rate of {edge} at its grid's edge" in claim.number
        assert f"{edge} (edge of its grid) 0." in claim.number
        assert "(edge of its grid)" in by_name[f"correlation-{edge}"].setting


def test_random_minus_lowest_is_paired_by_seed():
    rows = make_students(GOOD)
    cosine = {(row.data, row.seed): row["cosine"] for row in rows}
    differences = analyse(make_measured(rows)).optimizers["adamw"].differences
    difference = differences["random - bottom"]["cosine"]
    assert difference is not None
    expected = [cosine[f"random:{s}", s][1] - cosine["bottom:cat", s][1] for s in range(SEEDS)]
    assert difference.by_target["cat"].values == pytest.approx(expected)
