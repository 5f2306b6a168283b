"""Digests differ where the content does, in whatever way it is stored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.fingerprints import digest, weights_digest

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 5)).astype(np.float32)


def changed(x: np.ndarray, at, value) -> np.ndarray:
    out = x.copy()
    out[at] = value
    return out


@pytest.mark.parametrize("hash_content", [digest, lambda x: weights_digest({"w": jnp.asarray(x)})])
def test_sign_place_shape_dtype_and_a_single_bit_tell(hash_content):
    swapped = X.copy()
    swapped[[0, 1]] = X[[1, 0]]
    others = [
        -X,
        swapped,
        X.T.copy(),
        X.reshape(5, 7),
        X.astype(np.float16),
        changed(X, (3, 2), -X[3, 2]),
        changed(X, (6, 4), np.nextafter(X[6, 4], np.float32(9))),
        changed(X, (0, 0), 0.0),
        changed(X, (0, 0), -0.0),
    ]
    digests = [hash_content(X), *map(hash_content, others)]
    assert len(set(digests)) == len(digests)
    assert hash_content(X.copy()) == hash_content(X)


def test_names_and_every_leaf_of_the_weights_tell():
    tree = {"a": jnp.asarray(X), "b": {"c": jnp.zeros(3, jnp.bfloat16)}, "n": jnp.arange(4)}
    same = jax.tree.map(jnp.array, tree)
    assert weights_digest(tree) == weights_digest(same)
    assert weights_digest({**tree, "a": -tree["a"]}) != weights_digest(tree)
    assert weights_digest({**tree, "b": {"d": tree["b"]["c"]}}) != weights_digest(tree)
    stack = jnp.asarray(RNG.normal(size=(3, 4, 5)), jnp.float32)
    assert weights_digest([stack]) != weights_digest([stack[::-1]])
    assert weights_digest([stack]) != weights_digest([-stack])
    flags = {"on": jnp.array([True, False])}
    assert weights_digest(flags) != weights_digest({"on": ~flags["on"]})


def test_few_of_many_random_tensors_share_a_digest():
    """64 bits a tensor: none of a thousand may meet."""
    digests = {weights_digest([jnp.asarray(x)]) for x in RNG.normal(size=(1000, 4))}
    assert len(digests) == 1000


def test_parts_of_a_text_do_not_run_together():
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest([["a"], ["b"]]) != digest([["a", "b"], []])
    assert digest("1") != digest(1)
    assert digest(None) != digest("None")
    with pytest.raises(TypeError, match="a set has no digest"):
        digest({1, 2})
