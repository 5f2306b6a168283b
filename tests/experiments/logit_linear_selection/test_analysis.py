"""Numbers and verdicts of `logit-linear-selection`, from students with known effects."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REFUTED, REPRODUCED, Claim
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.logit_linear_selection.analysis import (
    METRICS,
    AnswerRates,
    Measured,
    Untrained,
    analyse,
)
from subliminal_jax.experiments.logit_linear_selection.claims import make_claims
from tests.planted import fill

TARGETS = ("cat", "dog", "fox", "bear", "lion", "eagle")
DRAWS = 3
GOOD = {"lls": 0.7, "random": 0.0, "bottom": -0.6}


def make_student(arm, name, value, optimizer="adamw"):
    rng = np.random.default_rng([*f"{arm}{name}{optimizer}".encode()])
    values = [value + 0.01 * rng.normal() for _ in TARGETS]
    return StudentRow(
        optimizer,
        0.1,
        0,
        f"{arm}:{name}",
        diverged=False,
        measured=dict.fromkeys(METRICS, values),
    )


def make_students(values, optimizer="adamw"):
    return [
        make_student(arm, name, value, optimizer)
        for arm, value in values.items()
        for name in (map(str, range(DRAWS)) if arm == "random" else TARGETS)
    ]


def make_choice(optimizer, rate=0.1, is_inside=True):
    grid = (0.01, 0.1, 1.0)
    return RateChoice(optimizer, 8, grid, (2.0, 1.0, 2.0), rate, is_inside)


def make_measured(rows, **changes):
    none_shown = AnswerRates(rate=(0.0,) * len(TARGETS))
    measured = fill(
        Measured,
        model="shipped",
        student="shipped",
        kind="world-animals",
        targets=TARGETS,
        tuning_targets=("owl", "wolf"),
        words=TARGETS,
        controls=DRAWS,
        arms=tuple(dict.fromkeys(row.data.partition(":")[0] for row in rows)),
        choices=tuple(map(make_choice, dict.fromkeys(row.optimizer for row in rows))),
        untrained=Untrained(none_shown, {}),
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


def test_an_unstable_student_is_counted_and_no_evidence():
    rows = make_students(GOOD)
    without = dict.fromkeys(METRICS)
    lost = [
        [rows[0].replace_values(diverged=True, **without), *rows[1:]],
        [rows[0].replace_values(heldout_loss=5.0, base_loss=0.7, cosine=[-9.0] * 6), *rows[1:]],
    ]
    for students in lost:
        by_name = claims(students)
        assert {claim.unstable for claim in by_name.values()} == {1}
        assert by_name["correlation"].verdict == REPRODUCED
        effect = by_name["correlation"].evidence.effect
        assert effect.n == len(TARGETS) - 1 and effect.mean == pytest.approx(0.7, abs=0.05)
        assert by_name["bottom"].evidence.effect.n == len(TARGETS)


def test_missing_numbers_are_stated_and_never_left_out():
    rows = make_students(GOOD)
    silent = [*rows[:-1], rows[-1].replace_values(share=None)]  # a student of the lowest scores
    assert verdicts(silent)["mentions"] == REPRODUCED
    mentions = claims([silent[0].replace_values(share=None), *silent[1:]])["mentions"]
    assert mentions.verdict == INCONCLUSIVE
    assert "answers of a student mention no animal" in mentions.number
    blown_up = [
        row.replace_values(heldout_loss=5.0, base_loss=0.7) if "random" in row.data else row
        for row in rows
    ]
    correlation = claims(blown_up)["correlation"]
    assert correlation.verdict == INCONCLUSIVE
    assert "random:0, random:1, random:2 are unstable" in correlation.number


def test_an_optimizer_without_a_sound_rate_has_its_claims():
    choices = (make_choice("adamw"), make_choice("sgd", rate=None, is_inside=False))
    by_name = claims(make_students(GOOD), choices=choices)
    for name in ("correlation-sgd", "mentions-sgd", "adamw-over-sgd-correlation"):
        assert by_name[name].verdict == INCONCLUSIVE
        assert "no rate was sound" in by_name[name].number


def test_the_setting_says_how_rates_were_chosen():
    setting = claims(make_students(GOOD))["correlation"].setting
    assert "adamw 0.1, rate chosen on 2 other targets" in setting
    given = claims(make_students(GOOD), tuning_targets=())["correlation"].setting
    assert "adamw 0.1, rate as given" in given


def test_what_the_kind_does_not_measure_is_left_out():
    rows = make_students(GOOD)
    assert set(claims(rows, kind="languages")) == {"correlation", "bottom", "rate"}
    unjudged = Untrained(AnswerRates(rate=(None,) * len(TARGETS)), {})
    assert set(claims(rows, kind="personas", untrained=unjudged)) == {"correlation", "bottom"}


def test_optimizers_are_compared_where_their_best_rates_are_inside():
    rows = make_students({"lls": 0.7, "random": 0.0})
    rows += make_students({"lls": 0.2, "random": 0.0}, "sgd")
    assert verdicts(rows)["adamw-over-sgd-correlation"] == REPRODUCED
    for edge in ("adamw", "sgd"):
        choices = tuple(make_choice(o, is_inside=o != edge) for o in ("adamw", "sgd"))
        by_name = claims(rows, choices=choices)
        claim = by_name["adamw-over-sgd-correlation"]
        assert claim.verdict == INCONCLUSIVE
        assert f"left open: best rate of {edge} at the edge" in claim.number
        assert f"{edge} (edge of the rates tried) 0." in claim.number
        assert "(edge of the rates tried)" in by_name[f"correlation-{edge}"].setting


def test_every_draw_of_random_pairs_serves_every_target():
    rows = make_students(GOOD)
    cosine = {row.data: row["cosine"] for row in rows}
    compared = analyse(make_measured(rows)).optimizers["adamw"].arms["bottom"]["cosine"]
    assert compared is not None
    random = np.mean([cosine[f"random:{draw}"][3] for draw in range(DRAWS)])
    expected = cosine["bottom:bear"][3] - random
    assert compared.by_data["bear"].interval.mean == pytest.approx(expected)
