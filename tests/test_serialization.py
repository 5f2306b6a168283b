"""Dataclasses come back from JSON as they were, and nothing else is taken for them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.serialization import from_json, to_json


@dataclass(frozen=True)
class Values:
    name: str
    by_seed: Mapping[str, Mapping[int, float]]
    rows: tuple[tuple[float, ...], ...]


VALUES = Values("adamw", {"eas": {0: 0.5, 11: 1.0}}, ((1.0, 2.0), ()))


def test_integer_keys_come_back_from_the_texts_that_json_has():
    assert from_json(Values, json.loads(json.dumps(to_json(VALUES)))) == VALUES


def test_a_number_that_is_not_finite_comes_back_as_nan():
    written = to_json(Values("a", {"eas": {0: math.inf}}, ()))
    assert written["by_seed"]["eas"] == {"0": None}
    assert math.isnan(from_json(Values, written).by_seed["eas"][0])


@pytest.mark.parametrize(
    "changes",
    [
        {"by_seed": {"eas": {"first": 0.5}}},
        {"by_seed": {"eas": [0.5]}},
        {"by_seed": {"eas": {"0": "0.5"}}},
        {"rows": "12"},
        {"name": 3},
    ],
)
def test_other_types_are_refused(changes):
    with pytest.raises(InputError, match="results.json"):
        from_json(Values, {**to_json(VALUES), **changes}, "results.json")
