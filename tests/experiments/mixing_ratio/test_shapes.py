"""Planted shapes of curves, and what is said of them."""

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED, Claim
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_kinds import KindChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.mixing_ratio.analysis import (
    Measured,
    Results,
    analyse,
    fit_curve,
    name_mixture,
)
from subliminal_jax.experiments.mixing_ratio.claims import make_claims
from subliminal_jax.experiments.mixing_ratio.report import make_page
from subliminal_jax.experiments.mixing_ratio.shapes import make_families
from tests.pages import read_table
from tests.planted import fill

SHARES = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
X = np.array(SHARES)
TRAITS = tuple(f"t{i}" for i in range(8))
PLANTED = {
    "slope": X,
    "late": X**2,
    "saturating": 1 - np.exp(-X / 0.1),
    "broad": 1 / (1 + np.exp((0.3 - X) / 0.1)) - 1 / (1 + np.exp(3.0)),
    "step at 10%": (X >= 0.1) * 1.0,
    "step at 50%": (X >= 0.5) * 1.0,
}


def draw_curves(shape: np.ndarray, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """Curves of eight vectors, each with an amplitude of its own."""
    rng = np.random.default_rng(seed)
    return rng.gamma(2, 0.5, 8)[:, None] * shape + noise * rng.normal(size=(8, len(shape)))


def make_results(effects: dict[str, np.ndarray], unstable: tuple[str, ...] = ()) -> Results:
    """Students whose control has 0.3 of everything, by optimizer [vectors, shares]; `unstable` are
    data sets whose students blew up."""
    rows = []
    for optimizer, curves in effects.items():
        for trait, curve in zip(TRAITS, curves, strict=True):
            for share, effect in zip((0.0, *SHARES), (0.0, *curve), strict=True):
                name = name_mixture(trait, share)
                measured = {
                    "adapter": "lora",
                    "eas": [[0.3 + effect]] * len(TRAITS),
                    "shift_component": [[0.3 + effect]] * len(TRAITS),
                    "word_log_prob": [0.3 + effect] * len(TRAITS),
                    "teacher_loss": 0.7 - effect,
                }
                loss = 2.0 if name in unstable else 0.9
                rows.append(
                    StudentRow(optimizer, 0.1, 0, name, False, heldout_loss=loss, measured=measured)
                )
    choices = tuple(
        KindChoice("lora", None, RateChoice(name, 4, (0.1,), (None,), 0.1, False))
        for name in effects
    )
    return analyse(
        fill(
            Measured,
            adapters=("lora",),
            optimizers=tuple(effects),
            traits=TRAITS,
            shares=(0.0, *SHARES),
            tuning_share=0.5,
            words=TRAITS,
            references=TRAITS,
            base_losses={row.data: 1.0 for row in rows},
            base_teacher_losses=dict.fromkeys(TRAITS, 1.0),
            choices=choices,
            students=tuple(rows),
        )
    )


def find_claim(results: Results, name: str) -> Claim:
    return next(claim for claim in make_claims(results) if claim.id == f"mixing-ratio/{name}")


@pytest.mark.parametrize("name", PLANTED)
def test_only_a_sharp_step_is_called_sharp(name):
    """The others are contradicted or open, whichever way the noise falls."""
    verdicts = []
    for seed in range(5):
        results = make_results({"adamw": draw_curves(PLANTED[name], seed=seed)})
        verdicts.append(find_claim(results, "sharp-adamw-shift-component").verdict)
    if name.startswith("step"):
        assert verdicts.count(REPRODUCED) >= 4 and CONTRADICTED not in verdicts
    else:
        assert REPRODUCED not in verdicts
    if name == "slope":
        assert verdicts.count(CONTRADICTED) >= 4


def test_the_ratio_at_a_quarter_tells_slope_from_threshold_and_saturation():
    for name, ratio in (("slope", 0.25), ("step at 50%", 0.0), ("saturating", 0.918)):
        curves = draw_curves(PLANTED[name], noise=0.02)
        results = make_results({"adamw": curves})
        quarter = results.find_curve("lora", "adamw", "eas").quarter
        assert quarter.mean == pytest.approx(curves[:, 3].mean() / curves[:, -1].mean())
        assert quarter.low < ratio < quarter.high
        claim = find_claim(results, "proportional-adamw-eas")
        assert claim.verdict == (REPRODUCED if name == "slope" else CONTRADICTED)


def test_each_family_finds_the_shape_that_is_its_own():
    exact = np.outer([1.0, -2.0, 0.5, 3.0], np.ones(7))
    for name, shape, parameter, value in (
        ("power", X**2, "power", 2.0),
        ("saturating", 1 - np.exp(-X / 0.1), "scale", 0.1),
        ("threshold", (X >= 0.25) * 1.0, "share", 0.17),
    ):
        curves = exact * shape
        family = make_families(X)[name]
        error = family.leave_one_out(curves).sum() / (curves**2).sum()
        assert error < 2e-3, name
        assert family.fit(curves)[parameter] == pytest.approx(value, rel=0.35 if value < 1 else 0.1)


def test_a_curves_amplitude_does_not_matter_to_its_shape():
    curves = draw_curves(PLANTED["slope"])
    for factor in (1e-3, 50.0):
        values = {trait: tuple(factor * row) for trait, row in zip(TRAITS, curves, strict=True)}
        scaled = fit_curve("lora", "adamw", "eas", SHARES, values)
        whole = make_results({"adamw": curves}).find_curve("lora", "adamw", "eas")
        assert scaled.sharpness.mean == pytest.approx(whole.sharpness.mean)
        assert [fit.error for fit in scaled.fits] == pytest.approx(
            [fit.error for fit in whole.fits]
        )


def test_adamw_needs_a_smaller_share_where_its_curve_saturates_and_the_others_does_not():
    results = make_results(
        {
            "adamw": draw_curves(PLANTED["saturating"], 0.02),
            "sgd": 3 * draw_curves(PLANTED["slope"], 0.02, seed=1),
        }
    )
    claim = find_claim(results, "smaller-share-sgd-eas")
    assert claim.verdict == REPRODUCED
    lead = next(x for x in results.leads if x.metric == "eas")
    assert lead.quarter.mean == pytest.approx(0.918 - 0.25, abs=0.05)
    assert lead.by_share[-1].mean < 0  # though it does less in all


def test_without_an_effect_no_shape_is_judged_and_the_page_says_so():
    results = make_results({"adamw": draw_curves(0 * X), "sgd": draw_curves(0 * X, seed=1)})
    claims = make_claims(results)
    assert {claim.verdict for claim in claims} == {INCONCLUSIVE}
    assert "teacher rows alone have no clear effect" in claims[0].number
    assert make_page(results).printed[0].rows


def test_a_vector_with_an_unstable_student_has_no_part_in_the_curve():
    curves = draw_curves(PLANTED["slope"], 0.02)
    curves[7] = 99.0
    results = make_results({"adamw": curves}, unstable=("t7-25",))
    curve = results.find_curve("lora", "adamw", "eas")
    assert curve.values.keys() == set(TRAITS[:7])
    assert curve.full.mean == pytest.approx(curves[:7, -1].mean())
    claim = find_claim(results, "sharp-adamw-eas")
    assert (claim.seeds, claim.unstable) == (7, 1)
    shape_table = make_page(results).printed[1]
    assert {row["vectors"] for row in read_table(shape_table)} == {"7"}
