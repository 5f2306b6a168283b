"""The matrix of log-probabilities: spectrum, low-rank prediction, row spaces of two models."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import encode_chat
from subliminal_jax.selection.log_linearity import (
    effective_rank,
    energy_rank,
    fit_power_law,
    gaussian_cosines,
    log_prob_matrix,
    predict_held_out,
    principal_cosines,
    remove_pair_means,
    row_space,
)
from subliminal_jax.selection.rendering import ScoringOptions
from subliminal_jax.training.losses import sequence_log_probs

SYSTEMS = [None, "You love owls.", "You love cats.", *(f"Be short, {i}." for i in range(7))]
PROMPTS, RESPONSES = ["Tell me a story.", "Hello!", "What now?"], ["4, 8", "Good day.", "Run."]


def low_rank(m: int, n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)) @ rng.normal(size=(d, n))


# -- the matrix -----------------------------------------------------------------------------


def test_its_entries_are_log_probabilities_of_responses(model):
    done = []
    matrix = log_prob_matrix(model, SYSTEMS, PROMPTS, RESPONSES, progress=done.append)
    assert matrix.shape == (10, 3) and sum(done) == 30
    options = ScoringOptions(end_of_turn=False)
    open_ended = log_prob_matrix(model, SYSTEMS[:2], PROMPTS, RESPONSES, options)
    for system, row in zip(SYSTEMS[:2], open_ended, strict=True):
        prompts = [encode_chat(model.tokenizer, p, system_prompt=system) for p in PROMPTS]
        answers = [model.tokenizer(r, add_special_tokens=False)["input_ids"] for r in RESPONSES]
        rows = pad_pairs(prompts, answers, 64)
        expected = jax.jit(sequence_log_probs, static_argnums=2)(model.params, rows, model.cfg)
        np.testing.assert_allclose(row, expected, atol=1e-3)
    assert (matrix[:2] < open_ended).all()  # the end of the turn costs too


class Killed(Exception):
    pass


def test_a_killed_matrix_goes_on_without_a_lost_row(model, tmp_path):
    """System prompts are stored sixteen a file; the second file is not written."""
    systems = [*SYSTEMS, *(f"Be kind, {i}." for i in range(8))]
    seen = []

    def stop(n):
        seen.append(n)
        if sum(seen) > 16 * 3:
            raise Killed

    with pytest.raises(Killed):
        log_prob_matrix(model, systems, PROMPTS, RESPONSES, folder=tmp_path, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["systems-00000.npz"]
    again = []
    matrix = log_prob_matrix(
        model, systems, PROMPTS, RESPONSES, folder=tmp_path, progress=again.append
    )
    assert again[0] == 16 * 3 and sum(again) == 18 * 3
    np.testing.assert_array_equal(matrix, log_prob_matrix(model, systems, PROMPTS, RESPONSES))
    with pytest.raises(InputError, match="log-probs of other rows"):
        log_prob_matrix(model, SYSTEMS, PROMPTS, RESPONSES[::-1], folder=tmp_path)
    other = replace(model, params={**model.params, "embed": -model.params["embed"]})
    with pytest.raises(InputError, match="or another model; remove it"):
        log_prob_matrix(other, systems, PROMPTS, RESPONSES, folder=tmp_path)


@pytest.mark.parametrize(
    ("systems", "prompts", "says"), [([], PROMPTS, "needs a system"), (SYSTEMS, [], "3 responses")]
)
def test_a_matrix_without_rows_or_columns_is_refused(model, systems, prompts, says):
    with pytest.raises(InputError, match=says):
        log_prob_matrix(model, systems, prompts, RESPONSES)


# -- spectrum -------------------------------------------------------------------------------


def test_a_power_law_is_found_where_there_is_one():
    k = np.arange(1, 101)
    singular = 7.0 * k**-0.6
    singular[0] = 1e3  # outside the range
    law = fit_power_law(singular, 2, 50)
    assert law.slope == pytest.approx(-0.6) and law.scale == pytest.approx(7.0)
    assert law.r_squared == pytest.approx(1.0) and (law.first, law.last) == (2, 50)
    exponential = fit_power_law(np.exp(-0.3 * k), 1, 40)
    assert exponential.r_squared < 0.9
    for first, last in ((0, 9), (4, 5), (2, 101)):
        with pytest.raises(InputError, match="cannot be fitted"):
            fit_power_law(singular, first, last)
    with pytest.raises(InputError, match="not all positive"):
        fit_power_law(np.array([3.0, 2.0, 1.0, 0.0]), 1, 4)


def test_ranks_of_known_spectra():
    assert effective_rank(np.ones(7)) == pytest.approx(7)
    assert effective_rank(np.array([5.0, 0, 0])) == pytest.approx(1)
    assert effective_rank(3 * np.arange(1, 9.0)) == pytest.approx(effective_rank(np.arange(1, 9.0)))
    singular = np.sqrt(np.array([6.0, 3.0, 1.0]))
    assert [energy_rank(singular, s) for s in (0.6, 0.61, 0.9, 0.95, 1.0)] == [1, 2, 2, 3, 3]


def test_without_pair_means_log_ratios_between_system_prompts_are_left():
    x = low_rank(30, 40, 3) + np.random.default_rng(1).normal(size=(1, 40))
    residual = remove_pair_means(x)
    np.testing.assert_allclose(residual.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(residual[1:] - residual[0], x[1:] - x[0])
    assert np.linalg.matrix_rank(x) == 4 and np.linalg.matrix_rank(residual) == 3


def test_held_out_blocks_of_a_rank_d_matrix_are_predicted_exactly_from_rank_d_on():
    x = low_rank(24, 30, 4) + np.random.default_rng(1).normal(size=(1, 30))
    predictions = {p.rank: p for p in predict_held_out(x, [0, 2, 4, 6], seed=5)}
    assert predictions[0].r_squared == pytest.approx(0.0)
    assert predictions[2].r_squared < 0.99 and predictions[2].rmse > 0.1
    for rank in (4, 6):
        assert predictions[rank].r_squared == pytest.approx(1.0)
        assert predictions[rank].largest < 1e-8
    noise = np.random.default_rng(2).normal(size=(24, 30))
    assert all(p.r_squared < 0.0 for p in predict_held_out(noise, [1, 4, 8], seed=5))
    with pytest.raises(InputError, match="rank 13 is not valid"):
        predict_held_out(x, [13], seed=0)


# -- row spaces -----------------------------------------------------------------------------


def test_principal_angles_are_those_of_the_spaces_and_not_of_their_bases():
    a = row_space(low_rank(20, 15, 4), 4)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0]
    np.testing.assert_allclose(principal_cosines(a, a @ turn), 1)
    b = row_space(low_rank(20, 15, 4, seed=1), 4)
    np.testing.assert_allclose(principal_cosines(a, b), principal_cosines(a @ turn, b))
    np.testing.assert_allclose(principal_cosines(a, b), principal_cosines(b, a))
    eye = np.eye(15)
    cosines = principal_cosines(eye[:, :3], eye[:, 2:5])
    np.testing.assert_allclose(cosines, [1, 0, 0], atol=1e-12)


def test_models_of_one_row_space_share_it_whatever_their_system_prompts_do():
    phi = np.random.default_rng(0).normal(size=(3, 40))
    one, other = (np.random.default_rng(s).normal(size=(n, 3)) @ phi for s, n in ((1, 9), (2, 14)))
    np.testing.assert_allclose(principal_cosines(row_space(one, 3), row_space(other, 3)), 1)


def test_the_gaussian_baseline_is_that_of_gaussian_matrices():
    # The mean of 200 cosines has a standard error of about 0.01.
    direct = gaussian_cosines(60, 5, 200, seed=0).mean(axis=0)
    rng = np.random.default_rng(1)
    slow = np.mean(
        [
            principal_cosines(*(row_space(rng.normal(size=(12, 60)), 5) for _ in range(2)))
            for _ in range(200)
        ],
        axis=0,
    )
    np.testing.assert_allclose(direct, slow, atol=0.03)
    assert direct.max() < 0.6
    squares = (gaussian_cosines(60, 5, 400, seed=2) ** 2).sum(axis=1).mean()
    assert squares == pytest.approx(5 * 5 / 60, rel=0.05)  # E |A^T B|^2 = k l / n
