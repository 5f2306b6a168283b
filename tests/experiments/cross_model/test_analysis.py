"""Own against foreign: what the contrast sees, and what it is blind to."""

import itertools

import numpy as np
import pytest

from subliminal_jax.experiments.cross_model.analysis import claims, summaries

MODELS, TRAITS = ("a", "b"), ("owl", "cat", "dog")


def cells(of, teacher="steered", kind="numbers"):
    """Cells whose gain is `of`(scorer, source, trait number)."""
    return [
        {
            "scorer": scorer, "source": source, "own": scorer == source, "teacher": teacher,
            "kind": kind, "trait": trait, "gain": g, "gain_per_completion": g, "plain_gain": 0.0,
            "random_gain": 0.0, "random_plain_gain": 0.0, "specific_gain": g,
        }
        for scorer, source in itertools.product(MODELS, MODELS)
        for i, trait in enumerate(TRAITS)
        for g in [of(scorer, source, i)]
    ]  # fmt: skip


def test_effects_of_scorer_and_source_alone_make_no_contrast():
    made = cells(lambda s, o, i: {"a": 3.0, "b": -1.0}[s] + {"a": 0.2, "b": 5.0}[o] + i)
    (row,) = summaries(made)
    assert row["own_minus_foreign"]["mean"] == pytest.approx(0)
    assert [c["gain"]["mean"] for c in row["cells"]] == pytest.approx([4.2, 9.0, 0.2, 5.0])


def test_what_only_own_data_have_is_the_contrast_with_its_interval_over_traits():
    made = cells(lambda s, o, i: (1.0 + 0.1 * i) * (s == o))
    (row,) = summaries(made)
    contrast = row["own_minus_foreign"]
    assert contrast["mean"] == pytest.approx(1.1) and contrast["n"] == len(TRAITS)
    assert contrast["high"] - contrast["mean"] == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-3)
    assert row["foreign"]["mean"] == 0
    (made_claim,) = claims([row], "a and b", 3)
    assert made_claim["verdict"] == "reproduced at toy scale"


def test_verdicts_follow_the_intervals():
    for sign, numbers, semantic in (
        (1, "contradicted", "reproduced at toy scale"),
        (-1, "reproduced at toy scale", "contradicted"),
    ):
        made = cells(lambda s, o, i, k=sign: k * (1.0 + 0.1 * i) * (s != o))
        made += cells(lambda s, o, i, k=sign: k * (1.0 + 0.1 * i) * (s != o), kind="semantic")
        found = claims(summaries(made), "a and b", 3)
        assert [c["verdict"] for c in found] == [numbers, semantic]
    noisy = cells(lambda s, o, i: (-1.0) ** i * (s == o))
    assert claims(summaries(noisy), "a and b", 3)[0]["verdict"] == "not reproduced"
    single = [c for c in noisy if c["trait"] == "owl"]  # one trait has no interval
    assert claims(summaries(single), "a and b", 1)[0]["verdict"] == "not reproduced"
