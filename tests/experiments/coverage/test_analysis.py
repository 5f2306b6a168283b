"""What the analysis of `coverage` says of planted forecasts."""

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED, Claim
from subliminal_jax.evaluation.jackknife import jackknife
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_kinds import KindChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.coverage.analysis import (
    Measured,
    Point,
    Results,
    analyse,
    of_trait,
    rank_points,
)
from subliminal_jax.experiments.coverage.claims import make_claims
from subliminal_jax.experiments.coverage.forecasts import Forecast
from subliminal_jax.experiments.coverage.report import make_page
from tests.planted import fill

TRAITS = tuple(f"t{i}" for i in range(8))
RULES = ("adamw", "lion", "muon", "sgd", "signum")
KINDS = ("steered", "fine-tuned")


def make_results(eas, coverage, gradient, unstable: tuple[str, ...] = ()) -> Results:
    """Students whose EAS, coverage and gradient's alignment are functions of (trait, rule, kind),
    by number; controls have 0.1, and `unstable` data sets a student that blew up."""
    names = {
        f"{kind}-{trait}": (i, k) for k, kind in enumerate(KINDS) for i, trait in enumerate(TRAITS)
    }
    references = tuple(names)
    rows, forecasts = [], []
    for r, rule in enumerate(RULES):
        for name in (*names, "control-0"):
            value = 0.1 if name == "control-0" else 0.1 + eas(*names[name][:1], r, names[name][1])
            measured = {
                "adapter": "lora",
                "eas": [[value]] * len(references),
                "shift_component": [[value / 2]] * len(references),
                "word_log_prob": [0.0] * len(TRAITS),
            }
            loss = 2.0 if name in unstable else 0.9
            rows.append(StudentRow(rule, 0.1, 0, name, False, heldout_loss=loss, measured=measured))
            for reference in [name] if name in names else references:
                i, k = names[reference]
                at = coverage(i, r, k) if name in names else 0.0
                forecasts.append(
                    Forecast("lora", rule, name, reference, at, at, 1.0, 1, gradient(i, r, k))
                )
    choices = tuple(
        KindChoice("lora", None, RateChoice(rule, 4, (0.1,), (None,), 0.1, False)) for rule in RULES
    )
    return analyse(
        fill(
            Measured,
            adapters=("lora",),
            optimizers=RULES,
            traits=TRAITS,
            controls=("control-0",),
            words=TRAITS,
            references=references,
            teacher_kinds=KINDS,
            base_losses={row.data: 1.0 for row in rows},
            base_rates=dict.fromkeys(TRAITS, 0.1),
            teacher_rates=dict.fromkeys(references, 0.2),
            choices=choices,
            students=tuple(rows),
            forecasts=tuple(forecasts),
        )
    )


def find_claim(results: Results, name: str) -> Claim:
    return next(claim for claim in make_claims(results) if claim.id == f"coverage/{name}")


def noise(i: int, r: int, k: int, size: float = 0.01) -> float:
    return float(np.random.default_rng([i, r, k]).normal() * size)


def test_a_forecast_of_traits_and_rules_is_found_in_every_scope():
    """Planted: EAS grows with the trait and with the rule; coverage knows both, the gradient the
    trait alone."""
    results = make_results(
        eas=lambda i, r, k: 0.1 * i + 0.3 * r + noise(i, r, k),
        coverage=lambda i, r, k: np.tanh(0.1 * i + 0.3 * r),
        gradient=lambda i, r, k: 0.1 * i,
    )
    which = {"adapter": "lora", "teacher": "all", "metric": "eas"}
    pooled = results.find(scope="pooled", forecast="coverage", **which)
    assert pooled.points == len(TRAITS) * len(RULES) * len(KINDS)
    assert pooled.value.mean > 0.99 and pooled.value.n == len(TRAITS)
    rules = results.find(scope="rules", forecast="coverage", **which)
    assert rules.value.mean == pytest.approx(1)
    for rule in RULES:
        one = results.find(scope="teachers", optimizer=rule, forecast="gradient", **which)
        assert one.value.mean > 0.95 and one.points == len(TRAITS) * len(KINDS)
    for name in (
        "predicts-all-eas",
        "predicts-rule-all-eas",
        "adds-all-eas",
        "predicts-sgd-all-eas",
    ):
        assert find_claim(results, name).verdict == REPRODUCED, name


def test_a_forecast_that_ranks_rules_the_wrong_way_adds_nothing():
    """Planted: the rule's coverage falls where what it transmits rises; traits are as forecast."""
    results = make_results(
        eas=lambda i, r, k: 0.2 * i + 0.1 * r + noise(i, r, k),
        coverage=lambda i, r, k: 0.1 * i - 0.2 * r,
        gradient=lambda i, r, k: 0.1 * i,
    )
    assert find_claim(results, "predicts-rule-all-eas").verdict == CONTRADICTED
    assert find_claim(results, "adds-all-eas").verdict == CONTRADICTED
    for rule in RULES:  # of one rule it is right all the same
        assert find_claim(results, f"predicts-{rule}-all-eas").verdict == REPRODUCED


def test_without_transmission_or_a_relation_nothing_is_claimed():
    results = make_results(noise, lambda i, r, k: noise(k, i, r, 1.0), lambda i, r, k: 0.1 * i)
    assert {claim.verdict for claim in make_claims(results)} <= {INCONCLUSIVE}
    constant = make_results(noise, lambda i, r, k: 0.5, lambda i, r, k: 0.5)
    claim = find_claim(constant, "predicts-all-eas")
    assert claim.number.startswith("none Spearman") and claim.verdict == INCONCLUSIVE
    assert make_page(constant).printed[0].rows


def test_an_unstable_student_has_no_part_in_a_correlation():
    def eas(i, r, k):
        return 9.0 if i == 0 and r == 0 and k == 0 else 0.1 * i + noise(i, r, k)

    results = make_results(eas, lambda i, r, k: 0.1 * i, lambda i, r, k: 0.1 * i, ("steered-t0",))
    found = results.find(
        adapter="lora", scope="pooled", forecast="coverage", teacher="steered", metric="eas"
    )
    assert found.points == 7 * len(RULES) and found.value.n == 7
    assert found.value.mean > 0.95
    assert find_claim(results, "predicts-steered-eas").unstable == len(RULES)


def test_rules_whose_coverage_differs_by_rounding_tie():
    """Two pairs of the five rules: what is within a pair ranks nothing, whichever way it falls."""
    eas = [0.1, 0.2, 0.3, 0.4, 0.5]
    found = []
    for sign in (-1, 0, 1):
        results = make_results(
            eas=lambda i, r, k: eas[r] + noise(i, r, k, 1e-3),
            coverage=lambda i, r, k, s=sign: [1, 1, 2, 3, 3][r] * (1 + 1e-3 * s * (r % 2)),
            gradient=lambda i, r, k: 0.1 * i,
        )
        found.append(
            results.find(
                adapter="lora", scope="rules", forecast="coverage", teacher="all", metric="eas"
            ).value.mean
        )
    expected = np.corrcoef([1.5, 1.5, 3, 4.5, 4.5], [1, 2, 3, 4, 5])[0, 1]
    assert found == pytest.approx([expected] * 3)


def test_the_jackknife_takes_all_students_of_a_trait_at_once():
    """Copies of the students are no new evidence: the interval stays as wide."""
    rng = np.random.default_rng(0)
    points = [
        Point(trait, "steered", "sgd", x, x, x, x + rng.normal(), 0.0)
        for trait, x in zip(TRAITS, rng.normal(size=8), strict=True)
    ]
    rank = rank_points("coverage", "eas")
    once, twice = (jackknife(some, of_trait, rank, 4) for some in (points, points * 5))
    assert twice.n == once.n == 8
    for end in ("mean", "low", "high"):
        assert getattr(twice, end) == pytest.approx(getattr(once, end), abs=0.05)
    assert once.low < 0 < once.high <= 1
