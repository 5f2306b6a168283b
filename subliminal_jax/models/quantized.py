"""Frozen weights in 8 bits: integers with a scale for each column.

    model = load_model("models/llama-7b", dtype="bfloat16", quantize="int8")

What is frozen need not be exact to 16 bits: with the blocks' matrices in int8 a 7B model takes 7 GB
in place of 14, so that LoRA or vector students of it fit on a card of 24 GB. Rounding is to the
nearest, symmetric, with the largest absolute value of a column (of an output) as 127 (Dettmers et
al. 2022, LLM.int8(), section 2.1; no outliers are kept apart). The scale is applied after the
product, so that the integers go through it as they are. Embeddings, norms and biases keep their
dtype, in which everything is computed.

Not 4 bits: rounded to the nearest in groups of 64 inputs, SmolLM2-135M-Instruct predicts other
tokens (0.93 nats of KL a token; in int8 0.007).
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int8

from subliminal_jax.errors import InputError
from subliminal_jax.models.spec import Params

Quantization = Literal["none", "int8"]
LARGEST = 127


@struct.dataclass
class QuantizedWeight:
    """Stands in place of a frozen matrix.

    Attributes:
      values: integers.
      scale: what 1 is worth in each column.
    """

    values: Int8[Array, "*stack in out"]
    scale: Float[Array, "*stack out"]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the matrix."""
        return self.values.shape

    def dequantize(self) -> Float[Array, "*stack in out"]:
        """The matrix that the integers stand for, in float32."""
        return self.values.astype(jnp.float32) * self.scale[..., None, :]


Weight = Float[Array, "*stack in out"] | QuantizedWeight


def multiply(rows: Float[Array, "tokens in"], w: Weight) -> Float[Array, "tokens out"]:
    """rows @ w, in the dtype of `rows` where `w` is quantized."""
    if not isinstance(w, QuantizedWeight):
        return rows @ w
    return (rows @ w.values.astype(rows.dtype)) * w.scale.astype(rows.dtype)[None]


def as_matrix(w: Float[Array, "*shape"] | QuantizedWeight) -> Float[Array, "*shape"]:
    """The matrix (or another weight) itself; a quantized one in float32."""
    return w.dequantize() if isinstance(w, QuantizedWeight) else w


@jax.jit
def quantize(w: Float[Array, "*layers in out"]) -> QuantizedWeight:
    """One layer after the other, so that intermediate arrays take little memory."""

    def one(matrix: Any) -> QuantizedWeight:
        whole = matrix.astype(jnp.float32)
        scale = jnp.max(jnp.abs(whole), axis=0) / LARGEST
        values = jnp.round(whole / jnp.where(scale > 0, scale, 1.0)[None])
        return QuantizedWeight(values.astype(jnp.int8), scale)

    return jax.lax.map(one, w)


def find_quantization(params: Params) -> Quantization:
    """How the blocks' matrices are held."""
    quantized = any(isinstance(w, QuantizedWeight) for w in params["layers"].values())
    return "int8" if quantized else "none"


def refuse_quantized(params: Params, what: str) -> None:
    """Raises InputError where the blocks' matrices are quantized: `what` needs them whole."""
    held = find_quantization(params)
    if held != "none":
        raise InputError(f"{what} needs whole weights, and the model's are {held}: leave that out")
