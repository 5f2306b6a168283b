"""Digests of the inputs of a computation, stored beside its results.

`digest` hashes the exact bytes of texts, settings and small arrays. `weights_digest` is for
parameters: it reduces every tensor on its own device, so that 7B of them take one read of memory,
without a copy to the host or gathering shards.
"""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt

_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def digest(*content: Any) -> str:
    """SHA-256 in hexadecimal of lists, tuples and dicts of texts, numbers, None and arrays.

    Arrays count with shape, dtype and bytes: v and -v differ. Raises TypeError for other objects.
    """
    return hashlib.sha256(json.dumps(_plain(content), sort_keys=True).encode()).hexdigest()


def weights_digest(tree: Any) -> str:
    """SHA-256 in hexadecimal of a tree of arrays of up to 32 bits a number: names, shapes, dtypes,
    and a 64-bit hash of each tensor's bits.

    Every number's bits are mixed with its index and summed modulo 2^32, twice. Integer sums do not
    depend on the order of addition: equal weights have equal digests on any device and under any
    sharding, while a sign, a single bit or two swapped numbers change the digest.
    """
    leaves, names = jax.tree.flatten_with_path(tree)[0], []
    for path, leaf in leaves:
        names.append([jax.tree_util.keystr(path), list(leaf.shape), str(leaf.dtype)])
    hashes = jax.device_get(_bit_hashes([jnp.asarray(leaf) for _, leaf in leaves]))
    return digest(names, [np.asarray(x) for x in hashes])


@jax.jit
def _bit_hashes(tensors: list[Array]) -> list[UInt[Array, "2"]]:
    return [_bit_hash(x) for x in tensors]


def _bit_hash(x: Array) -> UInt[Array, "2"]:
    if x.ndim > 2:  # layer by layer, so that intermediate arrays take little memory
        return _bit_hash(jax.lax.map(_bit_hash, x))
    word = _WORDS[x.dtype.itemsize]
    bits = x if x.dtype == bool else jax.lax.bitcast_convert_type(x, word)
    bits = bits.astype(jnp.uint32)
    index = jnp.zeros(x.shape, jnp.uint32)
    for axis in range(x.ndim):  # axis by axis: a tensor may have more than 2^32 numbers
        index = _mix_bits(index * 31 + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis))
    first = _mix_bits(bits ^ index)
    return jnp.stack([jnp.sum(first), jnp.sum(_mix_bits(first + _mix_bits(~index)))])


def _mix_bits(x: UInt[Array, "*n"]) -> UInt[Array, "*n"]:
    """The finalizer of MurmurHash3: every bit of the input flips about half of the output's."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _plain(value: Any) -> Any:
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if isinstance(value, dict):
        return {str(key): _plain(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        array = np.ascontiguousarray(value)
        content = hashlib.sha256(array.tobytes()).hexdigest()
        return {"shape": list(np.shape(value)), "dtype": str(array.dtype), "bytes": content}
    raise TypeError(f"a {type(value).__name__} has no digest: {value!r:.80}")
