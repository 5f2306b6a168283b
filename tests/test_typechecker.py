"""What the checker of annotations refuses in the tests: sizes that do not fit, and plain types."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import jaxtyping
import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Array, Float, PyTree

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.models.draw import likeliest
from tests.typechecker import check

# What the import hook writes before every function and dataclass.
decorate = jaxtyping.jaxtyped(typechecker=check)


@decorate
def add(x: Float[Array, "batch dim"], y: Float[Array, " dim"]) -> Float[Array, "batch dim"]:
    return x + y[None] if y.any() else y


@decorate
def add_to_columns(x: Float[Array, "batch dim"]) -> float:
    return add_transposed([x])


@decorate
def add_transposed(xs: list[Any]) -> float:
    return float(add(xs[0].T, jnp.ones(xs[0].shape[0])).sum())


@decorate
@dataclass
class Pair:
    left: Float[Array, " n"]
    right: "Float[Array, ' n']"

    @decorate
    def repeat(self, times: int) -> "list[Pair]":
        return [self] * times if times else None


@decorate
def count(words: "list[str] | None", scale: float = 1) -> int:
    return len(words) if words else None


def test_sizes_are_compared_across_arguments_and_the_result():
    x = jnp.ones((2, 3))
    assert add(x, jnp.ones(3)).shape == (2, 3)
    for y in (jnp.ones(2), jnp.ones(3, "int32"), jnp.zeros(3)):  # the last returns a row
        with pytest.raises(BeartypeCallHintViolation):
            add(x, y)


def test_each_call_has_sizes_of_its_own_also_beneath_a_function_without_arrays():
    assert add_to_columns(jnp.ones((2, 3))) == 12


def test_the_fields_of_a_dataclass_are_compared():
    Pair(jnp.ones(2), jnp.ones(2))
    with pytest.raises(BeartypeCallHintViolation):
        Pair(jnp.ones(2), jnp.ones(3))


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (PyTree[Float[Array, " n"]], {"x": [jnp.ones(3)]}),
        (dict[str, Float[Array, " n"]], {"x": jnp.ones(3)}),
        (Float[Array, " n"] | None, jnp.ones(3)),
        ("tuple[int, Float[Array, ' n']]", (1, jnp.ones(3))),
    ],
)
def test_arrays_are_found_within_other_annotations(hint, value):
    """Sizes that are compared with an argument's show that the function has a scope."""

    def f(x, n):
        return n

    f.__annotations__ = {"x": hint, "n": "Float[Array, ' n']"}
    f = decorate(f)
    f(value, jnp.ones(3))
    with pytest.raises(BeartypeCallHintViolation):
        f(value, jnp.ones(4))


def test_plain_annotations_are_checked_as_well():
    assert count(["a"], scale=2) == 1
    assert Pair(jnp.ones(2), jnp.ones(2)).repeat(2)[1].left.size == 2
    for wrong in (
        lambda: count([1]),
        lambda: count(None),  # returns None
        lambda: count(["a"], scale="2"),
        lambda: Pair(jnp.ones(2), jnp.ones(2)).repeat("2"),
    ):
        with pytest.raises(BeartypeCallHintViolation):
            wrong()


def test_the_package_is_checked():
    with pytest.raises(BeartypeCallHintViolation):
        likeliest(jnp.ones((2, 3, 4)))
    with pytest.raises(BeartypeCallHintViolation):
        pad_pairs([[1]], [["a"]], 4)
