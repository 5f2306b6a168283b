"""Delta(T-N): against numbers worked out by hand, and what each interval does and does not see."""

import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.paired_questions import compare_with_neutral, pool_traits

# Means over seeds by question: trait 0.5, 0.4, 0.9; neutral 0.2, 0.3, 0.4; differences 0.3, 0.1,
# 0.5: mean 0.3, standard deviation 0.2, standard error 0.2 / sqrt(3) = 0.1154701, t = 2.598076,
# two-sided p with 2 degrees of freedom 1 - t / sqrt(2 + t^2) = 0.12169 and t(0.975, 2) = 4.302653.
TRAIT = np.array([[0.6, 0.4, 1.0], [0.4, 0.4, 0.8]])
NEUTRAL = np.array([[0.2, 0.2, 0.4], [0.2, 0.4, 0.4]])


def test_the_paired_t_over_questions_is_the_one_by_hand():
    delta = compare_with_neutral(TRAIT, NEUTRAL)
    assert delta.trait == pytest.approx(0.6)
    assert delta.neutral == pytest.approx(0.3)
    over = delta.over_questions
    assert over.interval.mean == pytest.approx(0.3)
    assert over.interval.low == pytest.approx(0.3 - 4.302653 * 0.1154701, abs=1e-6)
    assert over.interval.high == pytest.approx(0.3 + 4.302653 * 0.1154701, abs=1e-6)
    assert over.p_t == pytest.approx(1 - 2.598076 / (2 + 2.598076**2) ** 0.5, abs=1e-6)
    assert over.interval.n == 3


def test_seeds_are_paired_too():
    delta = compare_with_neutral(TRAIT, NEUTRAL)
    assert delta.values == pytest.approx([0.4, 0.2])  # by seed
    # t(0.975, 1) = 12.706205, standard error 0.1
    interval = delta.over_seeds.interval
    assert interval.high - interval.mean == pytest.approx(1.2706205, abs=1e-6)
    both = delta.seeds_and_questions
    assert both.mean == pytest.approx(0.3)
    assert both.low < interval.mean < both.high
    assert both.high - both.low > 0.6  # wider than from the smallest to the largest: 2 seeds


def test_seeds_that_disagree_widen_only_the_interval_that_looks_at_them():
    effect = np.array([[1.0], [-0.8]]) * np.ones((2, 20))  # the same on all questions
    delta = compare_with_neutral(effect, np.zeros((2, 20)))
    questions, both = delta.over_questions.interval, delta.seeds_and_questions
    assert questions.high - questions.low < 1e-9
    seeds = delta.over_seeds.interval
    assert (both.low, both.high) == pytest.approx((seeds.low, seeds.high))


def test_the_pooled_number_is_the_mean_over_traits():
    difference = np.stack([TRAIT - NEUTRAL, np.zeros((2, 3))])
    pooled = pool_traits(difference)
    for interval in vars(pooled).values():
        assert interval.mean == pytest.approx(0.15)
    traits = pooled.seeds_and_traits
    assert traits.low < 0.0 < 0.3 < traits.high  # one trait of two has no effect


def test_no_student_is_refused():
    with pytest.raises(InputError, match="nothing to compare"):
        compare_with_neutral(TRAIT[:0], NEUTRAL[:0])
