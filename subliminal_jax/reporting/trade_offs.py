"""The picture of a vector's effect against its damage, over layers and strengths."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure

from subliminal_jax.reporting.style import AXIS, INK, legend_above, new_axes, styled
from subliminal_jax.reporting.texts import picture_text

LEGEND_LAYERS = 8  # of more layers, these are named in the legend


@styled
def trade_off(
    points: Sequence[Any], chosen: tuple[int, float], *, most_damage: float, effect: str
) -> Figure:
    """The effect against the damage: a line a layer through its strengths, from dark (the first)
    to light, with a ring at the chosen one and a line at the largest damage allowed.

    Args:
      points: with `layer`, `strength`, `damage` and `effect`.
      chosen: (layer, strength) of one of them.
      effect: what is measured, with its unit.
    """
    figure, axes = new_axes()
    axes.axhline(0, color=AXIS, linewidth=0.8)
    axes.axvline(most_damage, color=AXIS, linewidth=0.8, linestyle=(0, (2, 2)))
    layers = sorted({point.layer for point in points})
    named = layers[:: -(-len(layers) // LEGEND_LAYERS)]
    handles: Mapping[str, Any] = {}
    for i, layer in enumerate(layers):
        color = colormaps["viridis"](0.9 * i / max(len(layers) - 1, 1))
        line = sorted((p for p in points if p.layer == layer), key=lambda p: p.strength)
        (handle,) = axes.plot(
            [p.damage for p in line], [p.effect for p in line], "o-", color=color, ms=4.5
        )
        if layer in named:
            handles = {**handles, f"layer {layer}": handle}
    (ring,) = (p for p in points if (p.layer, p.strength) == chosen)
    (handle,) = axes.plot(ring.damage, ring.effect, "o", ms=13, mfc="none", mec=INK, mew=1.5)
    axes.set_xscale("symlog", linthresh=most_damage / 100)
    axes.set_xlim(left=0)
    axes.set_xlabel("damage: KL from the unsteered model (nats per token)")
    axes.set_ylabel(picture_text(effect, 60))
    legend_above(figure, {**handles, "chosen": handle})
    return figure
