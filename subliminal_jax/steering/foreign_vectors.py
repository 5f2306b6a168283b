"""Which block a vector of another library's file belongs to.

Layers count the outputs of decoder blocks from 0: a vector of layer l is added after block l. What
a file holds says how its rows are meant:

  [dim]               one vector; the layer must be given
  [layers, dim]       a row a block
  [layers + 1, dim]   transformers' `hidden_states`, as persona_vectors stores them: row 0 is the
                      embedding, row l + 1 the output of block l; the last row was taken after the
                      final norm, so the last block has no vector
  [n, dim]            the vectors of the n layers that are given, in that order
  names with numbers  "13", "layer_13" or "layers.13.weight": a vector a block

with `layers` and `dim` those of the model.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.interchange import build_steering

_NUMBER = re.compile(r"\d{1,4}")


def place_vectors(
    value: Any, cfg: ModelConfig, layers: Sequence[int] | None, source: str
) -> Steering:
    """The vectors in what a file holds, added at scale 1 after `layers` (None: all it has).

    `value` is an array, a list of vectors, or a dictionary of arrays.

    Raises InputError where it cannot be told which blocks they belong to, for a layer that the file
    or the model does not have, another width than the model's, and values that are not finite.
    """
    if isinstance(value, Mapping) and len(value) == 1 and not _find_numbers(value):
        (value,) = value.values()
    if isinstance(value, Mapping):
        directions = _place_named(value, source)
    elif isinstance(value, list) and value and all(isinstance(v, np.ndarray) for v in value):
        if len({v.shape for v in value}) > 1:
            raise InputError(f"{source}: its vectors have different shapes")
        directions = _place_rows(np.stack(value), cfg, layers, source)
    elif isinstance(value, np.ndarray):
        directions = _place_rows(value, cfg, layers, source)
    else:
        raise InputError(
            f"{source}: holds a {type(value).__name__}; a vector file holds a tensor, a list of "
            "vectors, or a dictionary of them by layer"
        )
    if layers is not None:
        absent = sorted(set(layers) - set(directions))
        if absent:
            raise InputError(f"{source}: has vectors for layers {sorted(directions)}, not {absent}")
        directions = {layer: directions[layer] for layer in layers}
    return build_steering(directions, cfg, source)


def _place_rows(
    array: Float[np.ndarray, "..."], cfg: ModelConfig, layers: Sequence[int] | None, source: str
) -> dict[int, Float[np.ndarray, " dim"]]:
    rows = array[None] if array.ndim == 1 else array
    if rows.ndim != 2:
        raise InputError(f"{source}: a tensor of shape {array.shape}; give [dim] or [layers, dim]")
    given = "no layer is given" if layers is None else f"{len(layers)} layer(s) are given"
    if array.ndim == 2 and len(rows) == cfg.layers:
        return dict(enumerate(rows))
    if array.ndim == 2 and len(rows) == cfg.layers + 1:
        return dict(enumerate(rows[1:-1]))
    if layers is None or len(layers) != len(rows):
        raise InputError(
            f"{source}: {len(rows)} vector(s) for a model of {cfg.layers} layers, and {given}: "
            "say which layers they belong to"
        )
    return dict(zip(layers, rows, strict=True))


def _place_named(vectors: Mapping[Any, Any], source: str) -> dict[int, Float[np.ndarray, " dim"]]:
    numbers = _find_numbers(vectors)
    if not vectors or numbers is None or len(set(numbers)) < len(numbers):
        names = ", ".join(map(str, list(vectors)[:5]))
        raise InputError(
            f"{source}: its tensors ({names or 'none'}) are not named by one layer each: give each "
            "the number of its block, or a single tensor"
        )
    for name, vector in vectors.items():
        if not isinstance(vector, np.ndarray):
            raise InputError(f"{source}: {name!r} is no tensor")
    return dict(zip(numbers, vectors.values(), strict=True))


def _find_numbers(vectors: Mapping[Any, Any]) -> list[int] | None:
    """The one number in each name; None where a name has none or several."""
    found = [_NUMBER.findall(str(name)) for name in vectors]
    return [int(numbers[0]) for numbers in found] if all(len(n) == 1 for n in found) else None
