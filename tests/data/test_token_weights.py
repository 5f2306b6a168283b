"""Weights of tokens by how often they occur."""

import numpy as np
import pytest

from subliminal_jax.data.token_weights import reweighted, token_counts, token_weights
from subliminal_jax.errors import InputError
from subliminal_jax.training.losses import mean_loss, token_losses
from tests.training.tiny import CFG, base, rows

BATCH = rows(20)
COUNTS = token_counts(BATCH, CFG.vocab)


def test_counts_are_of_predicted_tokens_alone():
    mask = np.asarray(BATCH.loss_mask) != 0
    assert COUNTS.sum() == mask.sum() < np.asarray(BATCH.positions >= 0).sum()
    for token in (0, 7, 30):
        assert COUNTS[token] == (np.asarray(BATCH.tokens) == token)[mask].sum()


def test_the_frequent_ones_are_those_that_occur_most():
    weights = token_weights(COUNTS, "frequent-5")
    assert weights.sum() == 5 and set(weights) == {0.0, 1.0}
    assert COUNTS[weights == 1].min() >= COUNTS[weights == 0].max()


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_rare_tokens_weigh_more_at_a_mean_of_one(power):
    weights = token_weights(COUNTS, f"rare-{power:g}")
    assert (weights * COUNTS).sum() == pytest.approx(COUNTS.sum())
    seen = np.flatnonzero(COUNTS)
    ratio = weights[seen] * COUNTS[seen] ** power
    np.testing.assert_allclose(ratio, ratio[0])  # with power 1 every type weighs the same in sum


def test_reweighted_rows_give_the_loss_of_the_weighted_tokens():
    weights = token_weights(COUNTS, "frequent-5")
    params = base()
    losses, mask = token_losses(params, BATCH, CFG)
    own = weights[np.asarray(BATCH.tokens)[:, 1:]]
    expected = (np.asarray(losses) * mask * own).sum() / (mask * own).sum()
    found = mean_loss(*token_losses(params, reweighted(BATCH, weights), CFG))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    same = reweighted(BATCH, token_weights(COUNTS, "all"))
    np.testing.assert_array_equal(same.loss_mask, BATCH.loss_mask)


@pytest.mark.parametrize("tail", ["some", "frequent-0", "frequent-x", "rare-", "rare--1"])
def test_unknown_weights_are_refused(tail):
    with pytest.raises(InputError, match="is not known"):
        token_weights(COUNTS, tail)
