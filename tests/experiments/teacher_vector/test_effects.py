import dataclasses

import pytest

from subliminal_jax.experiments.teacher_vector.effects import ModelEffects, best_setting

SOUND = ModelEffects(
    trait="owl", kind="steered", layer=1, scale=1.0, rate=0.2, selection_rate=0.2,
    negative_rate=None, sampled_rate=0.2, off_topic=0.1, valid_numbers=1.0, kl=0.1, nll=0.1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"off_topic": 0.11}, False),
        ({"negative_rate": 0.11}, False),
        ({"negative_rate": 0.1}, True),
    ],
)
def test_the_best_setting_elicits_most_among_those_without_side_effects(changes, allowed):
    stronger = dataclasses.replace(SOUND, scale=2.0, selection_rate=0.9, rate=0.1, **changes)
    assert best_setting([SOUND, stronger]) is (stronger if allowed else SOUND)
    assert best_setting([stronger]) is (stronger if allowed else None)
