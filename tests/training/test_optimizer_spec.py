"""Optimizers by name: what `OptimizerSpec` reads, writes and refuses, and the table it reads."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.errors import InputError
from subliminal_jax.training.optimizers import (
    MODIFIERS,
    OPTIMIZERS,
    OptimizerSpec,
    describe,
    make_optimizer,
)

NAMES = sorted(OPTIMIZERS)


@given(name=st.sampled_from(NAMES), data=st.data())
def test_label_and_parse_are_inverse(name, data):
    values = {bool: st.booleans(), int: st.integers(1, 20), float: st.floats(1e-9, 0.99)}
    defaults = OPTIMIZERS[name].defaults
    chosen = data.draw(st.sets(st.sampled_from(sorted(defaults)))) if defaults else set()
    hyper = tuple((k, data.draw(values[type(defaults[k])])) for k in chosen)
    spec = OptimizerSpec(name, hyper)
    assert OptimizerSpec.parse(spec.label) == spec
    assert hash(OptimizerSpec.parse(spec.label)) == hash(spec)
    assert {k: type(v) for k, v in spec.hyper} == {k: type(defaults[k]) for k in chosen}


@given(
    names=st.lists(st.sampled_from(sorted(MODIFIERS)), unique=True, max_size=3),
    rule=st.sampled_from(["sgd", "adamw:b1=0.8", "muon:ns_steps=3,weight_decay=0.1"]),
    data=st.data(),
)
def test_modifiers_are_written_before_a_rule_and_their_values_behind_it(names, rule, data):
    values = {bool: st.booleans(), int: st.integers(1, 20), float: st.floats(1e-9, 0.99)}
    modifiers, taken = [], set()
    for name in names:
        free = sorted(MODIFIERS[name].defaults.keys() - taken)
        taken |= set(free)  # a value belongs to the first modifier that knows its name
        keys = data.draw(st.sets(st.sampled_from(free))) if free else set()
        defaults = MODIFIERS[name].defaults
        modifiers.append((name, tuple((k, data.draw(values[type(defaults[k])])) for k in keys)))
    spec = replace(OptimizerSpec.parse(rule), modifiers=tuple(modifiers))
    assert OptimizerSpec.parse(spec.label) == spec
    assert spec.label.startswith("".join(f"{name}:" for name in names) + rule)


def test_a_value_that_is_the_default_makes_no_other_rule():
    plain, written = map(OptimizerSpec.parse, ("cautious:adam", "cautious:adam:b1=0.9"))
    assert plain.identity == written.identity != OptimizerSpec.parse("adam").identity
    assert plain.entry.kind == "per_leaf" and plain.entry.grid == OPTIMIZERS["adam"].grid


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cautious", "cautious modifies a rule; name one behind it, such as cautious:adamw"),
        ("cautious:adamv", "unknown optimizer 'adamv'; did you mean adam"),
        ("cautious:cautious:sgd", "cautious is given twice"),
        ("by_factor:sgd(c=1)", "cannot read .'c=1.'.*values of modifiers, here among a, b"),
        ("by_factor:sgd(a=1", "cannot read .'a=1' .*brackets at the end"),
        ("by_factor:sgd(a)", "cannot read 'a' in optimizer 'by_factor:sgd.a.'.*among a, b"),
        ("by_factor:sgd(a=1,a=2)", "by_factor: a is given twice"),
        ("by_factor:sgd(a=-1)", "by_factor: a=-1: must be at least 0"),
        ("adamw(b1=0.8)", "brackets at the end hold values of modifiers, here among none"),
        ("adamv", "unknown optimizer 'adamv'; did you mean adam.*known: .*yogi"),
        ("", "unknown optimizer ''"),
        ("adamw:beta1=0.8", "unknown hyper-parameter of adamw 'beta1'.* b1.*known: b1, b2, eps"),
        ("sgd:momentum=0.9", "unknown hyper-parameter of sgd 'momentum'; known: none"),
        ("adamw:b1=big", "adamw: b1=big: expected a number, such as 0.9"),
        ("muon:ns_steps=2.5", "ns_steps=2.5: expected a whole number"),
        ("rmsprop:centered=7", "centered=7: expected true or false"),
        ("adamw:b1", "cannot read 'b1' in optimizer 'adamw:b1'.*among b1, b2, eps, weight_decay"),
        ("adamw:", "cannot read ''"),
        ("adamw:b1=0.1,b1=0.2", "b1 is given twice"),
        ("adam:b1=1.0", "must be at least 0 and less than 1"),
        ("adam:b1=nan", "must be at least 0 and less than 1"),
        ("adamw:weight_decay=-1", "must be at least 0"),
        ("adam:eps=0", "must be more than 0"),
    ],
)
def test_bad_specs_are_one_clear_line(text, says):
    with pytest.raises(InputError, match=says) as caught:
        OptimizerSpec.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [-1e-3, math.nan, math.inf])
def test_bad_rates_are_refused(rate):
    with pytest.raises(InputError, match="learning rate"):
        make_optimizer(OptimizerSpec("adamw"), rate)


def test_the_table_is_whole():
    rows = describe()
    assert [row["name"] for row in rows] == list(OPTIMIZERS)
    assert all(row["paper"] and row["learning rate"] and row["grid"] for row in rows)
    assert {e.defaults.get("weight_decay", 0.0) for e in OPTIMIZERS.values()} == {0.0}
    for name in NAMES:
        steps = np.diff(np.log10(OPTIMIZERS[name].grid))
        np.testing.assert_allclose(steps, 0.5, atol=0.03)  # half decades
