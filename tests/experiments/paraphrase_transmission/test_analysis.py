"""Verdicts on transmission through paraphrases, from students with known effects."""

import numpy as np
import pytest

from subliminal_jax.experiments.paraphrase_transmission.analysis import (
    Comparison,
    against_first,
    compared,
    optimizer_claim,
    transmission_claims,
)

AXES = {"words": ("cat", "owl"), "references": ("system-prompt:owl",), "layer": 1}
OWL = [Comparison("owl", "u:sp:owl", "u:neutral", "system-prompt:owl")]


def student(data, seed, rates, *, optimizer="adamw", rate=0.1, loss=1.0, eas=0.0, diverged=False):
    return {
        "data": data, "seed": seed, "optimizer": optimizer, "learning_rate": rate,
        "diverged": diverged, "heldout_loss": None if diverged else loss,
        "question_rate": None if diverged else [[0.0] * len(rates), rates],
        "eas": None if diverged else [[0.0, eas]],
    }  # fmt: skip


def rows(effect, **more):
    """Three seeds of both arms over four questions; `effect[seed][question]` is T - N."""
    out = []
    for seed, by_question in enumerate(effect):
        out.append(student("u:neutral", seed, [0.1] * 4, **more))
        told = [0.1 + e for e in by_question]
        out.append(student("u:sp:owl", seed, told, **{"eas": 0.5, **more}))
    return out


def claims_of(effect, **more):
    made = compared(rows(effect, **more), OWL, **AXES)
    return transmission_claims("unrelated", "system-prompt", "a prompt", made, "here", 3)


CLEAR = [[0.1, 0.12, 0.11, 0.1], [0.1, 0.11, 0.12, 0.1], [0.12, 0.1, 0.1, 0.11]]


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (CLEAR, "reproduced at toy scale"),
        ([[-x for x in row] for row in CLEAR], "contradicted"),
        # Clear over questions, but one seed goes the other way: the paper's interval is not enough.
        ([[0.3] * 4, [0.3] * 4, [-0.1] * 4], "not reproduced"),
        # All seeds agree, but it is one question of four.
        ([[0.4, 0.0, 0.0, 0.0]] * 3, "not reproduced"),
    ],
)
def test_a_claim_needs_the_intervals_over_questions_and_seeds_clear_of_zero(effect, verdict):
    assert claims_of(effect)[0]["verdict"] == verdict


def test_several_traits_have_to_agree():
    """Each clear over seeds and questions; together clear only where they point one way."""
    both = [*OWL, Comparison("cat", "u:sp:cat", "u:neutral", "system-prompt:owl")]
    for other, verdict in ((0.1, "reproduced at toy scale"), (-0.06, "not reproduced")):
        cats = [
            {**student("u:sp:cat", seed, []), "question_rate": [[other] * 4, [0.1] * 4]}
            for seed in range(3)
        ]
        made = compared([*rows(CLEAR), *cats], both, **AXES)
        of = made["adamw"]["pooled"]["seeds_and_questions"]
        assert of["low"] > 0
        said = transmission_claims("unrelated", "system-prompt", "a prompt", made, "here", 3)[0]
        assert said["verdict"] == verdict and "seeds and traits" in said["number"]


def test_traits_that_go_opposite_ways_are_no_transmission_however_sure_each_is():
    both = [Comparison(t, f"u:sp:{t}", "u:neutral", "system-prompt:owl") for t in ("cat", "owl")]
    some = []
    for seed in range(3):
        some.append({**student("u:neutral", seed, [0.2] * 4), "question_rate": [[0.2] * 4] * 2})
        for name, rate in (("cat", 0.15), ("owl", 0.3)):
            row = student(f"u:sp:{name}", seed, [0.0] * 4, eas=-0.1)
            some.append({**row, "question_rate": [[rate] * 4] * 2})
    made = compared(some, both, **AXES)
    transmitted, aligned = transmission_claims("unrelated", "sp", "a prompt", made, "here", 3)
    assert "seeds and questions [2.5, 2.5], seeds and traits [-92.8, 97.8]" in transmitted["number"]
    assert transmitted["verdict"] == "not reproduced"
    assert aligned["verdict"] == "contradicted"  # against the shift, and against the neutral one


def test_the_number_and_the_alignment_are_stated():
    transmitted, aligned = claims_of(CLEAR)
    assert "Delta(T-N) +10.8 points" in transmitted["number"]
    assert "EAS 0.50 [0.50, 0.50]; minus neutral +0.50" in aligned["number"]
    assert aligned["verdict"] == "reproduced at toy scale"
    alike = claims_of(CLEAR, eas=0.5)[1]  # the neutral student is as aligned
    assert "EAS 0.50 [0.50, 0.50]; minus neutral +0.00" in alike["number"]
    assert alike["verdict"] == "not reproduced"


def test_the_rate_is_chosen_by_the_traits_students_loss_and_no_other():
    slow = rows(CLEAR, rate=0.01, loss=2.0)
    fast = rows([[0.0] * 4] * 3, rate=0.1, loss=1.5)
    for row in slow:
        if row["data"] == "u:neutral":
            row["heldout_loss"] = 0.0  # the neutral students would choose the other rate
    made = compared([*slow, *fast], OWL, **AXES)["adamw"]
    assert made["learning_rate"] == 0.1
    assert made["traits"]["owl"]["values"] == pytest.approx([0.0] * 3)


def test_a_diverged_neutral_student_leaves_no_number():
    some = rows(CLEAR)
    some[0] = student("u:neutral", 0, [], diverged=True)
    made = compared(some, OWL, **AXES)
    assert made["adamw"]["pooled"] is None and made["adamw"]["learning_rate"] == 0.1
    claim = transmission_claims("unrelated", "system-prompt", "a prompt", made, "here", 3)[0]
    assert claim["verdict"] == "not reproduced" and "diverged" in claim["number"]
    assert against_first(made) == {}


def test_optimizers_differ_where_one_does_at_a_level_for_all_of_them():
    same = rows(CLEAR)
    none = rows([[0.0] * 4] * 3, optimizer="sgd")
    close = rows([[x + 1e-3 * (-1) ** i for i, x in enumerate(row)] for row in CLEAR],
                 optimizer="lion")  # fmt: skip
    made = compared([*same, *none, *close], OWL, **AXES)
    against = against_first(made)
    assert against["sgd"]["level"] == pytest.approx(1 - 0.05 / 2)
    assert against["sgd"]["mean"] == pytest.approx(-np.mean(CLEAR))
    assert against["lion"]["low"] < 0 < against["lion"]["high"]
    claim = optimizer_claim("unrelated", "system-prompt", made, against, "here", 3)
    assert claim["verdict"] == "reproduced at toy scale"
    assert claim["number"].endswith("apart from adamw: sgd")
    alike = {name: against[name] for name in ("lion",)}
    claim = optimizer_claim("unrelated", "system-prompt", made, alike, "here", 3)
    assert claim["verdict"] == "not reproduced" and claim["number"].endswith("none")


@pytest.mark.parametrize("edge", ["adamw", "sgd"])
def test_a_best_rate_at_the_edge_of_its_grid_leaves_the_comparison_open(edge):
    """The optimizers differ clearly, but one of them might do better beyond its grid."""
    some = [*rows(CLEAR), *rows([[0.0] * 4] * 3, optimizer="sgd")]
    for optimizer in ("adamw", "sgd"):
        others = (0.2,) if optimizer == edge else (0.01, 0.2)
        for rate in others:
            some += rows(CLEAR, optimizer=optimizer, rate=rate, loss=9.0)
    made = compared(some, OWL, **AXES)
    assert {name for name, of in made.items() if of["grid_edge"]} == {edge}
    against = against_first(made)
    assert against["sgd"]["high"] < 0
    claim = optimizer_claim("unrelated", "system-prompt", made, against, "here", 3)
    assert claim["verdict"] == "not reproduced"
    assert f"{edge} (edge of its grid)" in claim["number"]
    assert "left open by a best rate at the edge of its grid: sgd" in claim["number"]
