"""The nulls of methods: p-values are right where they should be, and small where they should be."""

import numpy as np
import pytest

from subliminal_jax.audit.nulls import compare_with_others, compare_with_zero, make_scored

CANDIDATES, PLACEBOS = 12, 16


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_noise_are_below_five_percent_as_often(seed):
    rng = np.random.default_rng(seed)
    logs = np.concatenate([compare_with_zero(rng.normal(size=(8, 50))) for _ in range(100)])
    assert np.mean(logs < np.log(0.05)) == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("offset", [0.0, 7.0])
def test_scores_like_the_placebos_are_below_five_percent_no_more_often(offset):
    """Also where the data's style moves all of them alike."""
    rng = np.random.default_rng(0)
    logs = np.concatenate(
        [
            compare_with_others(
                rng.normal(offset, size=CANDIDATES), rng.normal(offset, size=PLACEBOS)
            )
            for _ in range(200)
        ]
    )
    assert 0.01 < np.mean(logs < np.log(0.05)) <= 0.05


def test_one_that_stands_out_of_placebos_alone_does_not_count():
    """Animals may differ from other nouns, all together."""
    rng = np.random.default_rng(0)
    placebos, candidates = rng.normal(size=PLACEBOS), rng.normal(8, size=CANDIDATES)
    assert (np.exp(compare_with_others(candidates, placebos)) > 0.01).all()
    candidates[3] += 20
    logs = compare_with_others(candidates, placebos)
    assert np.argmin(logs) == 3 and logs[3] < np.log(1e-6)


def test_a_small_group_has_no_say():
    assert compare_with_others(np.array([50.0, 0.0]), np.arange(3.0)).tolist() == [0.0, 0.0]
    assert compare_with_others(np.array([50.0, 0.0]), np.arange(4.0))[0] < np.log(0.001)


def test_the_largest_p_counts_and_the_first_null_is_evidence():
    logs = [np.log([0.001, 0.2]), np.log([0.5, 0.1])]
    result = make_scored(np.array([1.0, 0.0]), logs, 10)
    np.testing.assert_allclose(result.p_values, [0.5, 0.2])
    assert result.evidence == pytest.approx(-np.log(0.001))
