"""Verdicts of `log-linearity` on matrices whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REFUTED, REPRODUCED
from subliminal_jax.experiments.log_linearity.analysis import (
    Measured,
    analyse,
    analyse_ranks,
    random_twin,
    summarise_toy,
)
from subliminal_jax.experiments.log_linearity.claims import make_claims, toy_claim
from subliminal_jax.selection.log_linear_model import ARMS, ToyResult

RNG = np.random.default_rng(0)
M, N, K, DRAWS = 24, 40, 4, 3
NAMES = ("a", "b", random_twin("a"), random_twin("b"))


def orthonormal(n: int, k: int) -> np.ndarray:
    return np.linalg.qr(RNG.normal(size=(n, k)))[0]


def power_law(slope: float) -> np.ndarray:
    return orthonormal(M, M) * np.arange(1, M + 1) ** slope @ orthonormal(N, M).T


def low_rank(phi: np.ndarray) -> np.ndarray:
    return RNG.normal(size=(M, phi.shape[0])) @ phi + 1e-3 * RNG.normal(size=(M, N))


def toys(selected: float, random: float, bottom: float) -> list[list[ToyResult]]:
    values = dict(zip(ARMS, (selected, random, bottom, 0.7, 0.0), strict=True))
    return [
        [ToyResult(arm, values[arm] + 1e-4 * i, 0.02, 5.0, 100) for arm in ARMS] for i in (0, 1)
    ]


def verdicts(matrices, toy) -> dict[str, str]:
    measured = Measured(("a", "b"), (M, N), DRAWS, K, {}, matrices, toy, (2, 12), (1, K), 5)
    claims = make_claims(analyse(measured))
    return {c.id.removeprefix("log-linearity/"): c.verdict for c in claims}


def one_row_space(twins_rank: int = M) -> dict[str, list[np.ndarray]]:
    """Two models of rank K with one row space, and their random weights of another rank."""
    matrices: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    for _ in range(DRAWS):
        phi = RNG.normal(size=(K, N))
        for name, draws in matrices.items():
            random = RNG.normal(size=(twins_rank, N))
            draws.append(low_rank(random if "random" in name else phi))
    return matrices


def test_models_of_one_low_dimension_and_one_row_space_hold_what_is_claimed():
    verdict = verdicts(one_row_space(), toys(0.995, 0.1, -0.99))
    for name in ("low-rank-a", "low-rank-b", "theorem"):
        assert verdict[name] == REPRODUCED
    for kind in ("raw", "centred"):
        assert verdict[f"row-space-b-{kind}-gaussian"] == REPRODUCED
        assert verdict[f"row-space-b-{kind}-random"] == REPRODUCED
    assert verdict["power-law-a"] == CONTRADICTED  # a cliff behind the rank


def test_a_low_rank_that_random_weights_have_as_well_is_no_finding():
    """Both are predicted to the last percent: it says nothing of what was learned."""
    matrices = one_row_space(twins_rank=K)
    for errors in analyse_ranks(matrices, (K,)):
        assert errors.held_out_r_squared.low > 0.99
    assert verdicts(matrices, toys(0.995, 0.1, -0.99))["low-rank-a"] == REFUTED


def test_more_variance_is_paired_by_draw():
    errors = {e.model: e for e in analyse_ranks(one_row_space(), (K,))}
    model, twin = errors["b"], errors[random_twin("b")]
    difference = model.held_out_r_squared.mean - twin.held_out_r_squared.mean
    assert model.over_random is not None and twin.over_random is None
    assert model.over_random.mean == pytest.approx(difference)


def test_random_pairs_of_the_toy_may_not_leave_zero_in_any_seed():
    """Two seeds far from zero on either side: their mean would be at zero."""
    arms = summarise_toy(toys(0.995, 0.0, -0.99))
    assert toy_claim(arms).verdict == REPRODUCED
    apart = [replace(a, values=(0.5, -0.5)) if a.arm == "random" else a for a in arms]
    assert toy_claim(apart).verdict == CONTRADICTED


def test_noise_holds_nothing_of_it():
    matrices = {name: [RNG.normal(size=(M, N)) for _ in range(DRAWS)] for name in NAMES}
    verdict = verdicts(matrices, toys(0.995, 0.3, -0.99))
    assert REPRODUCED not in {v for name, v in verdict.items() if not name.startswith("power-law")}
    # Noise predicts worse than the mean, though no worse than other noise.
    assert verdict["low-rank-a"] == INCONCLUSIVE


@pytest.mark.parametrize(("slope", "expected"), [(-0.6, REPRODUCED), (-1.0, CONTRADICTED)])
def test_a_power_law_counts_where_its_slope_is_the_papers(slope, expected):
    matrices = {name: [power_law(slope) for _ in range(DRAWS)] for name in NAMES}
    verdict = verdicts(matrices, toys(0.98, 0.0, -0.99))
    assert verdict["power-law-a"] == expected
    assert verdict["theorem"] == CONTRADICTED  # 0.98 is below 0.99
