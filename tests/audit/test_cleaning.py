"""Which rows a named teacher wrote: posteriors, and the rows of students."""

from pathlib import Path

import numpy as np
import pytest
import scipy

from subliminal_jax.audit.cleaning import choose_rows, describe_outcome, find_posteriors
from subliminal_jax.audit.fits import separate
from subliminal_jax.audit.results import CleanedData, FoundTeacher
from subliminal_jax.audit.settings import CleaningSettings

SPREAD = 1.5


def find(share, log_rate=0.0):
    return FoundTeacher(0.5, share, log_rate)


def plant(rows, share, seed=0):
    """Gains of rows, a share of which a teacher wrote whose log-ratio to the base is normal; and
    which rows these are."""
    rng = np.random.default_rng(seed)
    taught = rng.random(rows) < share
    return rng.normal(-(SPREAD**2) / 2, SPREAD, rows) + SPREAD**2 * taught, taught


def test_posterior_is_that_of_the_two_densities():
    gains, _ = plant(500, 0.3)
    base, teacher = (scipy.stats.norm(s * SPREAD**2 / 2, SPREAD).pdf(gains) for s in (-1, 1))
    expected = 0.25 * teacher / (0.25 * teacher + 0.75 * base)
    np.testing.assert_allclose(find_posteriors(gains, find(0.25)), expected, rtol=1e-9)


def test_sums_of_posteriors_count_the_teachers_rows():
    """In total, and among the flagged rows and the others alike."""
    gains, taught = plant(20_000, 0.25)
    posteriors = find_posteriors(gains, find(0.25))
    for part in (posteriors >= 0.5, posteriors < 0.5):
        assert posteriors[part].sum() == pytest.approx(taught[part].sum(), rel=0.05)


def test_filter_is_allowed_for():
    gains, _ = plant(50, 0.3)
    shifted = find_posteriors(gains + 0.7, find(0.25, log_rate=0.7))
    np.testing.assert_allclose(shifted, find_posteriors(gains, find(0.25)))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_share_and_rate_are_those_of_the_teacher(share):
    """Of a teacher whose answers pass the filter half as often as the base's."""
    log_rate = np.log(0.5)
    found = [
        separate(
            plant(1_000, share, seed)[0] + log_rate, plant(1_000, 0.0, 99 - seed)[0] + log_rate
        )
        for seed in range(4)
    ]
    assert np.mean(found, axis=0) == pytest.approx([share, log_rate], rel=0.2)


@pytest.mark.parametrize(
    ("flagged", "said"),
    [
        ((), "no row has a probability of 0.5 or more"),
        ((3,), "9 of 10 rows are written to rest.jsonl"),
        (tuple(range(8)), "all 8 rows that could be judged are flagged"),
    ],
)
def test_rest_is_written_where_some_are_flagged_and_some_are_left(flagged, said):
    cleaned = CleanedData("owl", 10, 2, 0.5, flagged, 0.0, 0.0, (), "")
    assert said in describe_outcome(cleaned, CleaningSettings(write_clean=Path("rest.jsonl")))
    assert cleaned.leaves_some == (len(flagged) == 1)


def test_random_students_see_as_many_rows_as_those_of_the_rest():
    rest = np.arange(0, 60, 2)
    chosen = choose_rows(rest, 60, 0)
    assert {len(places) for places in chosen.values()} == {60}
    assert sorted(chosen["all"].tolist()) == list(range(60))
    assert {*chosen["rest"].tolist()} == {*rest.tolist()}
    drawn = [tuple(sorted({*v.tolist()})) for k, v in chosen.items() if k.startswith("random")]
    assert len(drawn) == len({*drawn}) > 1
    for places in drawn:
        assert len(places) == len(rest)
        assert any(i % 2 for i in places)
    for places in chosen.values():
        assert np.ptp(np.unique(places, return_counts=True)[1]) == 0
