"""The claims of `log-linearity` on what Aden-Ali et al. (2026) state."""

from collections.abc import Sequence

import numpy as np

from subliminal_jax.evaluation.claims import (
    CONTRADICTED,
    OWN_QUESTION,
    REPRODUCED,
    Claim,
    Evidence,
    Margin,
    Presupposition,
)
from subliminal_jax.evaluation.margins import COSINE

from .analysis import RankErrors, Results, RowSpaceAngles, Spectrum, ToyArm

PAPER_SLOPE, LEAST_FIT = -0.6, 0.95
SLOPE_WITHIN = Margin(0.15, "a quarter of the slope that is reported")
R_SQUARED = Margin(0.05, "a twentieth of the variance")
PAPER = "Aden-Ali et al. 2026"


def make_claims(results: Results) -> list[Claim]:
    """What the paper states, and what came out here by the rules that the claims name."""
    systems, pairs = results.shape
    setting = (
        f"no steering; log-probabilities of {pairs} pairs under {systems} system prompts, "
        f"{results.draws} draws; no students"
    )
    claims = [power_law_claim(s, setting, results.draws) for s in results.model_spectra()]
    claims += [low_rank_claim(e, setting, results.draws) for e in results.claimed_errors()]
    for angles in results.angles:
        claims += row_space_claims(angles, setting, results.draws)
    return [*claims, toy_claim(results.toy)]


def power_law_claim(spectrum: Spectrum, setting: str, draws: int) -> Claim:
    slope = spectrum.slope
    fits = spectrum.lowest_r_squared >= LEAST_FIT
    return Claim(
        id=f"log-linearity/power-law-{spectrum.model}",
        claim="The singular values of the log-probability matrix follow a power law of slope "
        f"{PAPER_SLOPE} (R2 at least {LEAST_FIT} in each draw, interval within "
        f"{SLOPE_WITHIN.size} of it)",
        section=f"{PAPER}, section 2",
        setting=f"{spectrum.model}, {setting}",
        number=f"slope {slope:.2f}, R2 {spectrum.lowest_r_squared:.2f} or more, ranks "
        f"{spectrum.first} to {spectrum.last}",
        seeds=draws,
        evidence=Evidence(
            slope,
            "same",
            PAPER_SLOPE,
            SLOPE_WITHIN,
            (Presupposition(f"R2 at least {LEAST_FIT} in each draw", holds=fits),),
        ),
        model=spectrum.model,
    )


def low_rank_claim(errors: RankErrors, setting: str, draws: int) -> Claim:
    r_squared, over_random = errors.held_out_r_squared, errors.over_random
    assert over_random is not None  # every model has a random twin
    return Claim(
        id=f"log-linearity/low-rank-{errors.model}",
        claim=f"Factors of rank {errors.rank} predict log-probabilities of new system prompts for "
        "new pairs better than each pair's mean, and more of their variance than with random "
        "weights (low-rank prediction; Def. 2.1 bounds the largest error, which is beside it)",
        section=f"{PAPER}, definition 2.1",
        setting=f"{errors.model}, {setting}",
        number=f"R2 {r_squared:.2f}, over random weights {over_random:+.2f}; error "
        f"{errors.held_out_rmse.mean:.2f} nats, the largest {errors.held_out_largest.mean:.1f}",
        seeds=draws,
        evidence=Evidence(
            over_random,
            margin=R_SQUARED,
            presupposes=(
                Presupposition("better than each pair's mean", r_squared, to_refute=None),
            ),
        ),
        model=errors.model,
    )


def row_space_claims(angles: RowSpaceAngles, setting: str, draws: int) -> list[Claim]:
    """One against each baseline."""
    return [
        Claim(
            id=f"log-linearity/row-space-{angles.other}-{angles.kind}-{name}",
            claim=f"Two models share their top-{angles.k} row space: the mean cosine of the "
            f"principal angles is above {baseline}"
            + (", each pair's mean removed" if angles.kind == "centred" else ""),
            section=section,
            setting=f"{angles.first} and {angles.other}, {setting}",
            number=f"{angles.models.mean:.2f}; over the baseline {over:.2f}",
            seeds=draws,
            evidence=Evidence(over, margin=COSINE),
            model=f"{angles.first} and {angles.other}",
        )
        for name, baseline, section, over in (
            (
                "gaussian",
                "a Gaussian matrix's",
                f"{PAPER}, section 2",
                angles.over_gaussian,
            ),
            ("random", "random weights'", OWN_QUESTION, angles.over_random),
        )
    ]


def toy_claim(arms: Sequence[ToyArm]) -> Claim:
    """The case of the theorem, where it must hold."""
    by_arm = {arm.arm: arm for arm in arms}
    selected, bottom = by_arm["LLS"], by_arm["bottom"]
    farthest = max(by_arm["random"].values, key=abs)
    holds = min(selected.values) >= max(0.99, selected.bound)
    holds = holds and max(bottom.values) <= -0.9 and abs(farthest) <= 0.2
    rotated_45, rotated_90 = (by_arm[f"rotated {angle}"].correlation.mean for angle in (45, 90))
    return Claim(
        id="log-linearity/theorem",
        claim="On an exactly log-linear model the student of selected pairs shifts like the system "
        "prompt: correlation at least 0.99, bottom at most -0.9, random within 0.2 of zero",
        section=f"{PAPER}, theorem 2.2, and C.1",
        setting=f"exact toy, {selected.pairs} of the pairs selected, held-out pairs",
        number=f"LLS {np.mean(selected.values):.3f} (bound {selected.bound:.3f}), random "
        f"{farthest:+.2f} (the farthest from zero), bottom {np.mean(bottom.values):.3f}, teacher "
        f"turned by 45 and 90 degrees {rotated_45:.2f} and {rotated_90:+.2f}",
        seeds=len(selected.values),
        verdict=REPRODUCED if holds else CONTRADICTED,
        rule="every student by itself: the theorem is exact",
        model="exact toy",
    )
