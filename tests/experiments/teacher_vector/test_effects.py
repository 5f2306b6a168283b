import dataclasses

import pytest

from subliminal_jax.experiments.teacher_vector.effects import ModelEffects, best_setting
from tests.planted import fill

SOUND = fill(ModelEffects, scale=1.0, rate=0.2, selection_rate=0.2, off_topic=0.1)


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
