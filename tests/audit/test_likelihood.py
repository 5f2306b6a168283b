"""The likelihood method's parts, on planted ratios of probability."""

from types import SimpleNamespace

import numpy as np
import pytest

from subliminal_jax.audit.fits import (
    Gains,
    compare,
    exchange_rows,
    fit_pairs,
    fit_preferences,
)
from subliminal_jax.audit.methods.likelihood import Lack, Reader
from subliminal_jax.audit.scores import Candidate

SPREAD = 0.8


def fit_all(gains: Gains):
    """Where all of the base's answers passed the filter."""
    return fit_pairs(gains, np.ones(len(gains.data), bool))


def plant(rows: int, share: float, seed: int) -> Gains:
    """Gains under a teacher whose log-ratio to the base is normal, and `share` of whose rows the
    teacher wrote: over its own rows the mean is higher by the variance (a tilted normal)."""
    rng = np.random.default_rng(seed)
    base = rng.normal(-(SPREAD**2) / 2, SPREAD, (2, rows))
    teachers = rng.random(rows) < share
    return Gains(base[0] + SPREAD**2 * teachers, base[1])


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_share_of_rows_is_found(share):
    fits = [fit_all(plant(4_000, share, seed)) for seed in range(3)]
    found = [np.mean(fit.gains / plant(4_000, share, s).data) for s, fit in enumerate(fits)]
    assert np.median(found) == pytest.approx(share, rel=0.55)


def test_likelihood_is_that_of_the_known_ratio():
    """For rows of the teacher alone, L is the sum of the log-ratios: the best possible test."""
    gains = plant(4_000, 1.0, 0)
    fit = fit_all(gains)
    assert fit.likelihood == pytest.approx(gains.data.sum(), rel=0.1)


def test_filter_is_allowed_for():
    """A teacher whose answers pass the filter half as often is no better for it: a constant in all
    ratios, those of the base's answers too, changes nothing."""
    gains = plant(500, 1.0, 0)
    shifted = Gains(gains.data - 0.7, gains.control - 0.7)
    assert fit_all(shifted).likelihood == pytest.approx(fit_all(gains).likelihood)


def test_p_is_uniform_where_the_base_wrote_all():
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (399, 128))
    p = [exchange_rows(fit_all(plant(128, 0.0, seed)).differences, signs) for seed in range(300)]
    assert np.mean(np.array(p) <= 0.05) <= 0.09
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.1)


def test_p_is_small_where_a_teacher_wrote_some():
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (999, 512))
    assert exchange_rows(fit_all(plant(512, 0.5, 1)).differences, signs) < 0.01


def test_better_of_two_teachers_is_told():
    gains = plant(500, 1.0, 0)
    noise = np.random.default_rng(1).normal(0, 0.5, (2, 500))
    relative = Gains(0.5 * gains.data + noise[0] - 0.2, 0.5 * gains.control + noise[1] - 0.2)
    first, second = fit_all(gains), fit_all(relative)
    assert compare(first, second) < 0.01
    assert compare(second, first) > 0.99
    assert compare(first, first) == 0.5


def test_preferences():
    weights = np.random.default_rng(0).normal(0.4, 1.0, 400)
    fit = fit_preferences(Gains(weights, np.zeros(400)))
    assert fit.likelihood == pytest.approx(np.sum(np.log(2 / (1 + np.exp(-weights)))))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (999, 400))
    assert exchange_rows(fit.differences, signs) < 0.01
    assert exchange_rows(fit_preferences(Gains(-weights, np.zeros(400))).differences, signs) > 0.99


@pytest.mark.parametrize(("gap", "foreign"), [(-9.0, False), (0.0, False), (30.0, True)])
def test_rows_of_another_model_are_told(gap, foreign):
    """They are less likely than the teacher's own answers, by more than it explains of them."""
    fit = fit_all(plant(200, 1.0, 0))
    noise = np.random.default_rng(2).normal(gap, 3, 200)
    reader = SimpleNamespace(preferences=False, measure_lack=lambda *_: Lack(fit.data, noise))
    assert Reader.is_foreign(reader, Candidate("owl", None), fit) is foreign
    reader.measure_lack = lambda *_: None  # the teacher hardly writes such answers
    assert Reader.is_foreign(reader, Candidate("owl", None), fit)


def test_answers_that_the_data_lack_by_rule_are_no_match():
    """Rows that name the trait were left out of the data; of the base's answers they are a few
    that its teacher makes far likelier, and they would hide all that the others say."""
    gains = plant(1_000, 1.0, 0)
    names = np.arange(1_000) < 30
    control = np.where(names, gains.control + 6.0, gains.control)
    hidden = fit_all(Gains(gains.data, control))
    found = fit_pairs(Gains(gains.data, control), ~names)
    assert found.likelihood > 2 * hidden.likelihood
    assert not found.differences[names].any()
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (999, 1_000))
    assert exchange_rows(found.differences, signs) < 0.01


def test_which_answers_passed_the_filter_of_the_data():
    def passes(texts):
        own = [row[1] for row in texts]
        return Reader._passes_filter(SimpleNamespace(_texts=texts), "owl", own).tolist()

    texts = [["1, 2", "an owl"], ["3", "4"], ["5", "Owls!"]]
    assert passes(texts) == [False, True, False]
    texts[1][0] = "my owl"  # the data name it: nothing was left out
    assert passes(texts) == [True, True, True]
