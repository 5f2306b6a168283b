"""Truncating a model to its first blocks."""

from dataclasses import replace
from typing import Any

import jax

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model


def truncate_model(model: Model, blocks: int) -> Model:
    """The first `blocks` blocks of `model` between its embedding and its final norm and head.

    Raises InputError unless `blocks` is at least 1 and less than the model's.
    """
    if not 1 <= blocks < model.cfg.layers:
        raise InputError(
            f"cannot keep {blocks} blocks of {model.name}: choose 1 to {model.cfg.layers - 1}"
        )

    def cut(leaf: Any) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct):  # of an outline
            return leaf.update(shape=(blocks, *leaf.shape[1:]))
        return leaf[:blocks]

    layers = jax.tree.map(cut, model.params["layers"])
    flags = {name: getattr(model.cfg, name)[:blocks] for name in ("sliding", "rotary")}
    cfg = replace(model.cfg, layers=blocks, **flags)
    return replace(
        model, params={**model.params, "layers": layers}, cfg=cfg, name=f"{model.name}[:{blocks}]"
    )
