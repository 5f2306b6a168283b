"""Which of the selected pairs students train on."""

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.experiments.logit_linear_selection.students import spread_held_out


def test_as_many_rows_are_held_out_as_asked_for_or_none():
    mask = spread_held_out(40, 10)
    assert mask.sum() == 10 and mask[0] and mask[-1]
    with pytest.raises(InputError, match="40 pairs are selected: too few to hold out 11"):
        spread_held_out(40, 11)
