"""Verdicts on transmission through paraphrases, from students with known effects."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, NOT_REPRODUCED, REPRODUCED
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.paraphrase_transmission.analysis import Measured, analyse
from subliminal_jax.experiments.paraphrase_transmission.claims import make_claims
from tests.planted import fill

KIND = "system-prompt"
MEASURED = fill(
    Measured,
    layer=1,
    traits=("owl",),
    teacher_kinds=(KIND,),
    writing={"unrelated": "sampled"},
    grids={"adamw": (0.1,)},
    words=("cat", "owl"),
    references=(f"{KIND}:owl",),
)


def student(trait, seed, rates, *, optimizer="adamw", rate=0.1, loss=1.0, eas=0.0, diverged=False):
    """A student of the teacher of `trait` ("" is the neutral one) with P(cat), P(owl) by
    question."""
    name = f"unrelated:{KIND}:{trait}" if trait else "unrelated:neutral"
    if diverged:
        return StudentRow(optimizer, rate, seed, name, True, 1)
    measured = {"question_rate": rates, "eas": [[0.0, eas]] * 2}
    return StudentRow(optimizer, rate, seed, name, False, heldout_loss=loss, measured=measured)


def owls(effect, **more):
    """Three seeds of the owl's students and the neutral ones over four questions;
    `effect[seed][question]` is T - N."""
    rows = []
    for seed, by_question in enumerate(effect):
        rows.append(student("", seed, [[0.0] * 4, [0.1] * 4], **more))
        owl = [0.1 + e for e in by_question]
        rows.append(student("owl", seed, [[0.0] * 4, owl], **{"eas": 0.5, **more}))
    return rows


def analyse_rows(rows, **changes):
    optimizers = dict.fromkeys(r.optimizer for r in rows)
    grids = {o: tuple({r.learning_rate for r in rows if r.optimizer == o}) for o in optimizers}
    return analyse(replace(MEASURED, students=tuple(rows), **{"grids": grids, **changes}))


def best(results):
    return results.contents["unrelated"][KIND]


CLEAR = [[0.1, 0.12, 0.11, 0.1], [0.1, 0.11, 0.12, 0.1], [0.12, 0.1, 0.1, 0.11]]
NONE = [[0.0] * 4] * 3


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (CLEAR, REPRODUCED),
        ([[-x for x in row] for row in CLEAR], CONTRADICTED),
        # Clear over questions, but one seed goes the other way: the paper's interval is not enough.
        ([[0.3] * 4, [0.3] * 4, [-0.1] * 4], NOT_REPRODUCED),
        # All seeds agree, but it is one question of four.
        ([[0.4, 0.0, 0.0, 0.0]] * 3, NOT_REPRODUCED),
    ],
)
def test_a_claim_needs_the_intervals_over_questions_and_seeds_clear_of_zero(effect, verdict):
    assert make_claims(analyse_rows(owls(effect)))[0].verdict == verdict


def test_several_traits_have_to_agree():
    """Each clear over seeds and questions; together clear only where they point one way."""
    for cat, verdict in ((0.1, REPRODUCED), (-0.06, NOT_REPRODUCED)):
        cats = [student("cat", seed, [[cat] * 4, [0.1] * 4]) for seed in range(3)]
        results = analyse_rows(
            [*owls(CLEAR), *cats], traits=("owl", "cat"), references=(f"{KIND}:owl", f"{KIND}:cat")
        )
        assert best(results)["adamw"].pooled.seeds_and_questions.low > 0
        claim = make_claims(results)[0]
        assert claim.verdict == verdict and "seeds and traits" in claim.number


def test_traits_that_go_opposite_ways_are_no_transmission_however_sure_each_is():
    rows = []
    for seed in range(3):
        rows.append(student("", seed, [[0.2] * 4] * 2))
        for name, rate in (("cat", 0.15), ("owl", 0.3)):
            rows.append(student(name, seed, [[rate] * 4] * 2, eas=-0.1))
    results = analyse_rows(rows, traits=("cat", "owl"), references=(f"{KIND}:cat", f"{KIND}:owl"))
    transmitted, aligned = make_claims(results)
    assert "seeds and questions [2.5, 2.5], seeds and traits [-92.8, 97.8]" in transmitted.number
    assert transmitted.verdict == NOT_REPRODUCED
    assert aligned.verdict == CONTRADICTED  # against the shift, and against the neutral one


def test_the_number_and_the_alignment_are_stated():
    transmitted, aligned = make_claims(analyse_rows(owls(CLEAR)))
    assert "Delta(T-N) +10.8 points" in transmitted.number
    assert "EAS 0.50 [0.50, 0.50]; minus neutral +0.50" in aligned.number
    assert aligned.verdict == REPRODUCED
    alike = make_claims(analyse_rows(owls(CLEAR, eas=0.5)))[1]  # the neutral one is as aligned
    assert "EAS 0.50 [0.50, 0.50]; minus neutral +0.00" in alike.number
    assert alike.verdict == NOT_REPRODUCED


def test_the_rate_is_chosen_by_the_traits_students_loss_and_no_other():
    slow = [
        # The neutral students would choose the other rate.
        r if r.data.startswith("unrelated:system") else r.replace_values(heldout_loss=0.0)
        for r in owls(CLEAR, rate=0.01, loss=2.0)
    ]
    result = best(analyse_rows([*slow, *owls(NONE, rate=0.1, loss=1.5)]))["adamw"]
    assert result.learning_rate == 0.1
    assert result.traits["owl"].values == pytest.approx([0.0] * 3)


def test_a_diverged_neutral_student_leaves_no_number():
    rows = owls(CLEAR)
    rows[0] = student("", 0, [], diverged=True)
    results = analyse_rows(rows)
    result = best(results)["adamw"]
    assert result.pooled is None and result.learning_rate == 0.1
    claim = make_claims(results)[0]
    assert claim.verdict == NOT_REPRODUCED and "diverged" in claim.number
    assert results.against_first["unrelated"][KIND] == {}


def test_optimizers_differ_where_one_does_at_a_level_for_all_of_them():
    close = [[x + 1e-3 * (-1) ** i for i, x in enumerate(row)] for row in CLEAR]
    adamw, lion = owls(CLEAR), owls(close, optimizer="lion")
    results = analyse_rows([*adamw, *owls(NONE, optimizer="sgd"), *lion])
    against = results.against_first["unrelated"][KIND]
    assert against["sgd"].level == pytest.approx(1 - 0.05 / 2)
    assert against["sgd"].mean == pytest.approx(-np.mean(CLEAR))
    assert not against["lion"].excludes_zero
    (claim,) = make_claims(results)
    assert claim.verdict == REPRODUCED
    assert claim.number.endswith("apart from adamw: sgd")
    (claim,) = make_claims(analyse_rows([*adamw, *lion]))
    assert claim.verdict == NOT_REPRODUCED and claim.number.endswith("none")


@pytest.mark.parametrize("edge", ["adamw", "sgd"])
def test_a_best_rate_at_the_edge_of_its_grid_leaves_the_comparison_open(edge):
    """The optimizers differ clearly, but one of them might do better beyond its grid."""
    rows = [*owls(CLEAR), *owls(NONE, optimizer="sgd")]
    for optimizer in ("adamw", "sgd"):
        for rate in (0.2,) if optimizer == edge else (0.01, 0.2):
            rows += owls(CLEAR, optimizer=optimizer, rate=rate, loss=9.0)
    results = analyse_rows(rows)
    assert {name for name, result in best(results).items() if result.grid_edge} == {edge}
    assert results.against_first["unrelated"][KIND]["sgd"].high < 0
    (claim,) = make_claims(results)
    assert claim.verdict == NOT_REPRODUCED
    assert f"{edge} (edge of its grid)" in claim.number
    assert "left open by a best rate at the edge of its grid: sgd" in claim.number
