"""Optimizers by name: what `OptimizerSpec` reads, writes and refuses, and the table it reads."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.errors import InputError
from subliminal_jax.training.optimizers import (
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


@pytest.mark.parametrize(
    ("text", "says"),
    [
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
