"""The bench's design: balanced, a pure function of its settings, its parts kept apart."""

from collections import Counter
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from subliminal_jax.audit.known_sets.specs import balance
from subliminal_jax.errors import InputError
from subliminal_jax.experiments.audit_benchmark.config import (
    CARRIERS_OF,
    DEVELOPMENT_TRAITS,
    PRESETS,
    Config,
)
from subliminal_jax.experiments.audit_benchmark.design import (
    design,
    grid_factors,
    is_valid,
)

FULL = Config(**PRESETS["full"])


def test_every_level_equally_often_and_every_pair_of_levels_nearly_so():
    factors = {"a": (1, 2, 3), "b": ("x", "y"), "c": tuple("pqrst"), "d": (0.1, 0.5, 1.0)}
    chosen = balance(60, factors, lambda levels: True, np.random.default_rng(0))
    for name, levels in factors.items():
        assert Counter(c[name] for c in chosen) == dict.fromkeys(levels, 60 // len(levels))
    for a, b in combinations(factors, 2):
        pairs = Counter((c[a], c[b]) for c in chosen)
        expected = 60 / len(factors[a]) / len(factors[b])
        counts = [pairs[pair] for pair in product(factors[a], factors[b])]
        assert max(abs(n - expected) for n in counts) <= max(2, expected / 2)


def test_what_is_not_valid_does_not_occur_and_the_rest_is_still_balanced():
    factors = {"teacher": (1, 2), "carrier": ("a", "b", "c")}
    chosen = balance(
        60,
        factors,
        lambda levels: levels != {"teacher": 1, "carrier": "c"},
        np.random.default_rng(0),
    )
    assert {"teacher": 1, "carrier": "c"} not in chosen
    counts = Counter(c["carrier"] for c in chosen)
    assert max(counts.values()) - min(counts.values()) <= 2


def test_the_full_bench_is_as_large_as_stated_and_balanced():
    sets = design(FULL)
    poisoned = [s for s in sets if s.trait is not None]
    assert (len(poisoned), len(sets) - len(poisoned)) == (240, 100)
    grid = [s for s in sets if s.block == "grid"]
    for factor, levels in grid_factors(FULL, FULL.part_traits()).items():
        if factor == "reader":
            counts = Counter(s.reader == s.writer for s in grid)
            levels = (True, False)
        else:
            counts = Counter(getattr(s, factor) for s in grid)
        assert counts.keys() == set(levels)
        # Paraphrases take one carrier, whenever it is their turn.
        assert max(counts.values()) - min(counts.values()) <= 1 + (factor == "carrier"), factor
    assert all(s.carrier in CARRIERS_OF[s.teacher] and s.poisoned >= 1 for s in poisoned)
    assert len({s.name for s in sets}) == len(sets)


def test_the_design_follows_from_settings_and_seed_alone():
    assert design(FULL) == design(replace(FULL))
    assert design(FULL) != design(replace(FULL, seed=3000))


def test_parts_share_neither_traits_nor_seeds():
    parts = {
        "reported": design(Config()),
        "development": design(Config(part="development", clean_sets=50)),
        "hidden": design(Config(part="hidden", seed=7)),
    }
    seeds = {part: {s.seed for s in sets} for part, sets in parts.items()}
    assert all(len(seeds[part]) == len(sets) for part, sets in parts.items())
    assert max(seeds["development"]) < 100 <= min(seeds["reported"] | seeds["hidden"])
    assert not seeds["reported"] & seeds["hidden"]
    traits = {part: {s.trait for s in sets} - {None} for part, sets in parts.items()}
    assert traits["development"] == set(DEVELOPMENT_TRAITS)
    assert not traits["development"] & (traits["reported"] | traits["hidden"])


def test_another_hidden_seed_makes_other_sets_and_orders():
    first, second = (design(Config(part="hidden", seed=seed)) for seed in (7, 8))
    assert not {s.seed for s in first} & {s.seed for s in second}
    assert [s.trait for s in first] != [s.trait for s in second]


def test_a_teacher_needs_a_carrier_and_a_poisoned_row():
    assert not is_valid({"teacher": "vector", "carrier": "carrier pigeon"})
    assert not is_valid({"share": 0.01, "rows": 99})
    assert is_valid({"share": 0.01, "rows": 100})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"part": "hidden"}, "--part hidden needs a --seed"),
        ({"seed": 5}, "--seed 5: data seeds below 100 are for development"),
        ({"part": "development"}, "100 data seeds, 136 sets are asked for"),
        ({"traits": ("owl", "wolf")}, "no teacher of the part reported has one of these"),
        ({"shares": (0.001,)}, "--shares 0.001 of --set-rows 512 is less than one row"),
    ],
)
def test_settings_without_a_design_are_refused(changes, says):
    with pytest.raises(InputError, match=says):
        Config(**changes).check()
