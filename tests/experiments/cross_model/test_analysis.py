"""What the contrast of own and foreign data shows, and what it is blind to."""

import itertools

import numpy as np
import pytest

from subliminal_jax.experiments.cross_model.analysis import (
    Contrast,
    Measured,
    Results,
    Score,
    SteeredModel,
    analyse,
    make_claims,
)

MODELS, TRAITS = ("a", "b"), ("owl", "cat", "dog")


def make_results(gain_of, kinds=("numbers",), traits=TRAITS) -> Results:
    """Results whose gains are `gain_of(scorer, source, number of the trait)`."""
    scores = [
        Score(
            scorer=scorer,
            source=source,
            own_data=scorer == source,
            teacher="steered",
            kind=kind,
            trait=trait,
            base_nll=2.0,
            gain=gain_of(scorer, source, i),
            gain_per_completion=gain_of(scorer, source, i),
            plain_gain=0.0,
            random_gain=0.0,
            random_plain_gain=0.0,
            specific_gain=gain_of(scorer, source, i),
        )
        for kind in kinds
        for scorer, source in itertools.product(MODELS, MODELS)
        for i, trait in enumerate(traits)
    ]
    models = {name: SteeredModel(0, 1.0, 16, dict.fromkeys(traits, 1.0)) for name in MODELS}
    return analyse(Measured(models, "numbers", ("steered",), traits, 20, tuple(scores)))


def only_contrast(results: Results) -> Contrast:
    (contrast,) = results.summaries
    return contrast


def test_effects_of_scorer_and_source_alone_make_no_contrast():
    scorer_effect, source_effect = {"a": 3.0, "b": -1.0}, {"a": 0.2, "b": 5.0}
    contrast = only_contrast(make_results(lambda s, o, i: scorer_effect[s] + source_effect[o] + i))
    assert contrast.own_minus_foreign.mean == pytest.approx(0)
    assert [cell.gain.mean for cell in contrast.cells] == pytest.approx([4.2, 9.0, 0.2, 5.0])


def test_what_only_own_data_have_is_the_contrast_with_its_interval_over_traits():
    results = make_results(lambda s, o, i: (1.0 + 0.1 * i) * (s == o))
    contrast = only_contrast(results)
    difference = contrast.own_minus_foreign
    assert difference.mean == pytest.approx(1.1) and difference.n == len(TRAITS)
    half = 4.302653 * 0.1 / np.sqrt(3)  # the 97.5% point of t with 2 degrees of freedom
    assert difference.high - difference.mean == pytest.approx(half)
    assert contrast.foreign_data.mean == 0
    assert [claim.verdict for claim in make_claims(results)] == ["reproduced at toy scale"]


@pytest.mark.parametrize(
    ("sign", "numbers", "semantic"),
    [
        (1, "contradicted", "reproduced at toy scale"),
        (-1, "inconclusive", "contradicted"),  # own numbers are better explained, but not well
    ],
)
def test_verdicts_follow_the_intervals(sign, numbers, semantic):
    results = make_results(
        lambda s, o, i: sign * (1.0 + 0.1 * i) * (s != o), kinds=("numbers", "semantic")
    )
    assert [claim.verdict for claim in make_claims(results)] == [numbers, semantic]


@pytest.mark.parametrize("traits", [TRAITS, TRAITS[:1]])  # one trait has no interval
def test_noise_gives_no_verdict(traits):
    results = make_results(lambda s, o, i: (-1.0) ** i * (s == o), traits=traits)
    assert [claim.verdict for claim in make_claims(results)] == ["inconclusive"]
