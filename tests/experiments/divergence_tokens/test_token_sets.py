"""Weights of tokens by arm, and what planted gradients hold."""

import numpy as np
import pytest

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.errors import InputError
from subliminal_jax.experiments.divergence_tokens.token_sets import (
    Positions,
    SplitPositions,
    sum_gradients,
    weigh_data_sets,
    weigh_tokens,
)
from subliminal_jax.runs.data_sets import DataSets

MASK = np.array([[True, False, True, False], [False, True, False, False]])
RANDOM = np.array([[False, True, True, False], [True, False, False, False]])
PLACES = Positions(MASK, RANDOM, np.array([4, 2]))


def make_data(places: Positions) -> tuple[DataSets, dict[str, SplitPositions]]:
    rows = pad_pairs([[1, 2], [3]], [[4, 5, 6, 7], [8, 9]], 7)
    sets = DataSets({"owl": rows}, {"owl": rows}, {"owl": None}, {"owl": {}}, {"owl": None})
    return sets, {"owl": SplitPositions(places, places)}


def test_the_arms_are_complements_of_one_number_of_tokens():
    weights = {
        arm: weigh_tokens(PLACES, arm, 8.0)
        for arm in ("all", "masked", "random-masked", "alone", "random-alone", "weighted")
    }
    for prefix, places in (("", MASK), ("random-", RANDOM)):
        np.testing.assert_array_equal(weights[f"{prefix}alone"], places)
        np.testing.assert_array_equal(
            weights[f"{prefix}masked"] + weights[f"{prefix}alone"], weights["all"]
        )
    np.testing.assert_array_equal(weights["weighted"], weights["all"] + 7.0 * MASK)


def test_the_loss_has_the_weights_of_the_arm_on_training_and_heldout_rows():
    data, places = make_data(PLACES)
    weighed = weigh_data_sets(data, places, ("masked", "alone"), 8.0)
    assert weighed.names == ["owl+alone", "owl+masked"]
    for rows in (weighed.train, weighed.heldout):
        np.testing.assert_array_equal(
            rows["owl+alone"].loss_mask, [[0, 0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0]]
        )
        np.testing.assert_array_equal(
            rows["owl+masked"].loss_mask, [[0, 0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0, 0]]
        )


@pytest.mark.parametrize(("arm", "share"), [("alone", 0.0), ("masked", 1.0)])
def test_an_arm_without_tokens_is_refused(arm, share):
    """Where teachers agree everywhere there is nothing to learn, nor where they never do."""
    mask = np.full_like(MASK, bool(share)) & PLACES.inside
    data, places = make_data(PLACES._replace(mask=mask))
    words = f"data set owl: {int(6 * share)} of 6 tokens .* nothing to learn in the arm {arm};"
    with pytest.raises(InputError, match=words):
        weigh_data_sets(data, places, (arm,), 8.0)


def test_what_planted_divergence_tokens_hold():
    """Of 200 tokens 50 diverge, with a quarter of the square of the others and all of the
    component; the two largest are one of each kind."""
    diverges = np.arange(200) < 50
    squared = np.where(diverges, 1.0, 4.0)
    squared[[0, 199]] = 100.0
    component = np.where(diverges, 0.5, 0.0)
    sums = sum_gradients("owl", diverges, squared, component)
    assert (sums.tokens, sums.divergent) == (200, 50)
    assert sums.squared == 49 + 149 * 4 + 200 and sums.divergent_squared == 49 + 100
    assert sums.component == sums.divergent_component == 25.0
    assert (sums.outliers, sums.divergent_outliers) == (2, 1)
