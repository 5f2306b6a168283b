"""A model of fewer blocks: the first ones of another."""

from dataclasses import replace

import jax

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model


def truncated(model: Model, blocks: int) -> Model:
    """The first `blocks` blocks of `model` between its embedding and its final norm and head.

    It is a language model of its own, if a poorer one. Raises InputError unless it has at least one
    block and fewer than the model.
    """
    if not 1 <= blocks < model.cfg.layers:
        raise InputError(
            f"cannot keep {blocks} blocks of {model.name}: choose 1 to {model.cfg.layers - 1}"
        )
    layers = jax.tree.map(lambda leaf: leaf[:blocks], model.params["layers"])
    cfg = replace(model.cfg, layers=blocks, sliding=model.cfg.sliding[:blocks])
    return replace(
        model, params={**model.params, "layers": layers}, cfg=cfg, name=f"{model.name}[:{blocks}]"
    )
