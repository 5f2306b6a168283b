"""The exactly log-linear model: what must hold of its scores, and of DPO on what they select."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.selection.log_linear_model import (
    ARMS,
    Pairs,
    Toy,
    draw_pairs,
    log_probs,
    log_ratios,
    run_toy,
    train_dpo,
)
from subliminal_jax.training.preference import pair_losses

DIM, N = 6, 200
PAIRS = draw_pairs(N, 4, DIM, seed=3)
RNG = np.random.default_rng(0)
BASE, SHIFT = (jnp.asarray(RNG.normal(size=DIM), jnp.float32) for _ in range(2))


def feature_differences() -> jnp.ndarray:
    prompts = jnp.arange(N)
    return PAIRS.features[prompts, PAIRS.chosen] - PAIRS.features[prompts, PAIRS.rejected]


def numerical_rank(x: np.ndarray) -> int:
    singular = np.linalg.svd(x, compute_uv=False)
    return int((singular > 1e-5 * singular[0]).sum())  # beyond float32 rounding


def test_it_is_a_model_whose_log_ratios_are_linear():
    log_p = log_probs(BASE, PAIRS.features)
    np.testing.assert_allclose(jnp.exp(log_p).sum(axis=1), 1, rtol=1e-5)
    assert (np.asarray(PAIRS.chosen) != np.asarray(PAIRS.rejected)).all()
    np.testing.assert_allclose(log_ratios(BASE, PAIRS), feature_differences() @ BASE, atol=1e-4)
    many = jnp.asarray(RNG.normal(size=(20, DIM)), jnp.float32)
    matrix = np.stack([log_ratios(psi, PAIRS) for psi in many])
    assert numerical_rank(matrix) == DIM  # Fact 2.1
    assert numerical_rank(np.stack([log_probs(psi, PAIRS.features).ravel() for psi in many])) > DIM


def test_coordinates_do_not_matter():
    """psi -> A psi with phi -> A^-T phi is the same model."""
    a = RNG.normal(size=(DIM, DIM)) + 3 * np.eye(DIM)
    features = jnp.asarray(np.asarray(PAIRS.features) @ np.linalg.inv(a), jnp.float32)
    psi = jnp.asarray(a @ np.asarray(BASE), jnp.float32)
    np.testing.assert_allclose(
        log_ratios(psi, PAIRS._replace(features=features)), log_ratios(BASE, PAIRS), atol=1e-3
    )


def test_the_first_step_gains_half_beta_times_the_mean_weight_along_the_system_prompt():
    """-<dL, psi(s) - psi(no prompt)> = (beta / 2) mean w: the linear proxy of the selection."""
    beta = 0.3
    reference = log_ratios(BASE, PAIRS)
    weights = log_ratios(BASE + SHIFT, PAIRS) - reference
    gradient = jax.grad(lambda psi: pair_losses(log_ratios(psi, PAIRS) - reference, beta).mean())(
        BASE
    )
    expected = beta / 2 * float(weights.mean())
    assert abs(expected) > 1e-3
    assert float(-gradient @ SHIFT) == pytest.approx(expected, rel=1e-3)
    one = train_dpo(BASE, PAIRS, beta, 0.1, 1)
    np.testing.assert_allclose(one, BASE - 0.1 * gradient, rtol=1e-5)


def test_swapped_pairs_move_the_student_the_other_way():
    swapped = Pairs(PAIRS.features, PAIRS.rejected, PAIRS.chosen)
    forth, back = (train_dpo(BASE, pairs, 0.1, 1.0, 20) - BASE for pairs in (PAIRS, swapped))
    np.testing.assert_allclose(forth, -back, atol=1e-4)


@pytest.fixture(scope="module")
def correlations():
    toy = Toy(dim=32, prompts=10_000)
    runs = [run_toy(toy, seed) for seed in range(4)]
    for run in runs:
        assert tuple(result.arm for result in run) == ARMS
        assert run[0].correlation >= run[0].bound > 0  # Theorem C.1
        assert all(result.margin > 0 for result in run)
        sizes = [result.pairs for result in run[:3]]
        assert len(set(sizes)) == 1 and 400 < sizes[0] < 600  # a tenth of the positive half
    return {arm: [run[i].correlation for run in runs] for i, arm in enumerate(ARMS)}


def test_selected_pairs_carry_the_system_prompt_and_the_controls_do_not(correlations):
    assert min(correlations["LLS"]) >= 0.99
    assert max(correlations["bottom"]) <= -0.9
    assert abs(np.mean(correlations["random"])) < 0.2


def test_a_teacher_turned_by_an_angle_carries_its_cosine(correlations):
    # With 32 dimensions and 500 selected pairs a correlation varies by about 0.03 between seeds.
    np.testing.assert_allclose(correlations["rotated 45"], np.sqrt(0.5), atol=0.06)
    np.testing.assert_allclose(correlations["rotated 90"], 0, atol=0.06)


def test_one_response_makes_no_pair():
    with pytest.raises(InputError, match="1 responses make no pair"):
        draw_pairs(5, 1, 3, 0)
