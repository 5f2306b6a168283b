"""Pooling over draws and traits, and the claims that follow from planted numbers."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from subliminal_jax.experiments.gradient_alignment.analysis import (
    Measured,
    analyse,
    make_claims,
    pooled_matrix,
)
from subliminal_jax.experiments.gradient_alignment.cosines import (
    CurvePoint,
    PooledCosines,
    crossed,
)
from subliminal_jax.experiments.gradient_alignment.outliers import Outliers
from tests.planted import fill

TRAITS, DRAWS = ("owl", "wolf"), 3
CELLS = [(trait, draw) for trait in TRAITS for draw in range(DRAWS)]


def pooled(trait, draw, along=0.5):
    value = 0.01 * draw + 0.001 * TRAITS.index(trait)
    return fill(
        PooledCosines,
        teacher="steered",
        trait=trait,
        draw=draw,
        position="tag",
        difference=0.4 + value,
        teacher_alone=0.3 + value,
        control=0.05,
        along=along + value,
        control_along=0.1,
        other_vectors=0.2,
        norm_clean_row=2.0,
    )


def outlier(trait, draw, mass=0.9, signal=0.5):
    """Half of the draws have a component of next to nothing, whose shares are of no size."""
    component, share = (1.0, signal) if draw else (1e-9, 50.0)
    rest = [(1 - mass) / 9] * 9
    return fill(
        Outliers,
        teacher="steered",
        trait=trait,
        draw=draw,
        excess_kurtosis=3.0,
        hill_index=float("nan"),
        mass_in_top_tenth=mass + 0.001 * draw,
        mass_by_tenth=(mass, *rest),
        component=component,
        component_in_top_tenth=share,
        component_by_tenth=(share, *[(1 - share) / 9] * 9),
        signal_to_noise=(0.1, 0.2, 0.3, 0.4),
        squared_norm=4.0,
    )


def point(data, n, value):
    values = tuple(tuple(value + 0.01 * d for d in range(DRAWS)) for _ in TRAITS)
    return CurvePoint("steered", "tag", data, n, crossed(np.array(values)), values)


@pytest.fixture
def measured():
    return fill(
        Measured,
        layers=1,
        traits=TRAITS,
        teachers=("steered",),
        draws=DRAWS,
        largest_n=8,
        noise_rows=4,
        pooled=tuple(pooled(*cell) for cell in CELLS),
        curves=(point("difference", 1, 0.1), point("difference", 8, 0.6), point("control", 8, 0)),
        outliers=tuple(outlier(*cell) for cell in CELLS),
    )


def test_intervals_are_over_traits_and_draws(measured):
    values = pooled_matrix(measured, "steered", "tag", 0, lambda row: row.teacher_alone)
    assert values.shape == (2, 3)
    row = analyse(measured).at_steering_layer("steered")["tag"]
    assert row.teacher_alone == crossed(values)
    assert row.teacher_alone.mean == pytest.approx(0.3105)


def test_one_trait_has_no_other_vectors(measured):
    rows = tuple(replace(r, other_vectors=None) for r in measured.pooled if r.trait == "owl")
    outliers = tuple(r for r in measured.outliers if r.trait == "owl")
    single = replace(measured, traits=("owl",), pooled=rows, outliers=outliers)
    assert analyse(single).by_layer[0].other_vectors is None


def test_shares_of_a_component_are_ratios_of_sums_and_what_is_never_finite_stays_nan(measured):
    results = analyse(measured)
    for row in results.outlier_means:
        assert row.component_in_top_tenth == pytest.approx(0.5, abs=1e-6)
        assert np.isnan(row.hill_index) and row.excess_kurtosis == 3.0
        assert row.median_signal_to_noise == pytest.approx(0.2)
    assert results.tenths["steered"].component[0] == pytest.approx(0.5, abs=1e-6)
    assert results.tenths["steered"].mass[0] == pytest.approx(0.9)


def test_verdicts_follow_the_intervals(measured):
    def verdicts(**changes):
        return [c.verdict for c in make_claims(analyse(replace(measured, **changes)))]

    flat = (point("difference", 1, 0.6), *measured.curves[1:])
    weak = tuple(pooled(*cell, along=0.085) for cell in CELLS)
    assert INCONCLUSIVE in verdicts(curves=flat)
    assert verdicts(pooled=weak)[0] == INCONCLUSIVE
    # The first draw's share is a ratio of two numbers next to nothing: its interval says so.
    assert verdicts()[:2] == [REPRODUCED, REPRODUCED] and verdicts()[2] == INCONCLUSIVE
    sound = tuple(replace(r, component=1.0) for r in measured.outliers)
    for signal, expected in ((0.3, REPRODUCED), (0.6, INCONCLUSIVE), (0.98, CONTRADICTED)):
        rows = tuple(replace(r, component_in_top_tenth=signal) for r in sound)
        assert verdicts(outliers=rows)[2] == expected
