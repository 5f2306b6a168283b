"""A model as a `flax.nnx` module whose call is our forward pass, and its parameters back.

decoder = to_nnx(model)
optimizer = nnx.Optimizer(decoder, optax.adamw(1e-4), wrt=nnx.Param)
logits, activations = decoder(tokens, steering)
trained = from_nnx(decoder, model)
"""

from dataclasses import replace

import jax
from flax import nnx
from jaxtyping import Array, Float, Int

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Capture, forward
from subliminal_jax.models.hub import Model
from subliminal_jax.models.quantized import refuse_quantized
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering


class Decoder(nnx.Module):
    """The decoder of a `ModelConfig`; every leaf of the parameter tree is an `nnx.Param`.

    Leaves of `layers` are stacked over layers on axis 0: an optimizer that looks at whole matrices
    sees all layers of a projection at once.
    """

    def __init__(self, params: Params, cfg: ModelConfig):
        self.cfg = cfg
        self.params = nnx.data(jax.tree.map(nnx.Param, params))

    def __call__(
        self,
        tokens: Int[Array, "batch time"],
        steering: Steering | None = None,
        capture: Capture | None = None,
    ) -> tuple[Float[Array, "batch time vocab"], Float[Array, "captured batch kept dim"] | None]:
        """Logits (float32) of every token, and the captured activations, as `forward` has them."""
        return forward(self.param_tree(), tokens, self.cfg, steering, capture=capture)

    def param_tree(self) -> Params:
        """The parameters as plain arrays, in the tree that `forward` takes."""
        return jax.tree.map(
            lambda param: param[...], self.params, is_leaf=lambda x: isinstance(x, nnx.Param)
        )


def to_nnx(model: Model) -> Decoder:
    """The model as a module with parameters of its own: training it leaves `model` as it is.

    Raises InputError for a quantized model.
    """
    refuse_quantized(model.params, "a module of parameters")
    return Decoder(model.params, model.cfg)


def from_nnx(decoder: Decoder, model: Model) -> Model:
    """`model` (its tokenizer and name) with the decoder's parameters.

    Raises ValueError where the decoder has another configuration.
    """
    if decoder.cfg != model.cfg:
        raise ValueError(f"the decoder has {decoder.cfg}, not the configuration of {model.name}")
    return replace(model, params=decoder.param_tree())
