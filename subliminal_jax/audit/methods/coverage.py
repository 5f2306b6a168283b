"""Coverage: the first updates on the data, against each candidate's direction among the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from subliminal_jax.audit.contrast import count_tokens, unit_directions
from subliminal_jax.audit.influence import (
    Weights,
    count_probe_tokens,
    direction_in_weights,
    make_blocks,
    make_data_probe,
    select_weights,
    shift_along,
    weighted_gradient,
)
from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.nulls import compare_with_others, compare_with_zero, make_scored
from subliminal_jax.diagnostics.coverage import first_update

OPTIMIZER = "adamw"


def score(suspect: Suspect) -> Scored:
    """The cosine of AdamW's first update on a block of the data, minus that on the base's answers,
    with the gradient of each candidate's steering score; the mean over blocks."""
    params, cfg, layer = suspect.model.params, suspect.model.cfg, suspect.layer
    blocks, probe = make_blocks(suspect), make_data_probe(suspect)
    directions = np.concatenate(
        [unit_directions(group) for group in (suspect.candidates, suspect.placebos)]
    )
    sizes = [
        float(optax.tree.norm(direction_in_weights(params, cfg, layer, probe, jnp.asarray(v))))
        for v in directions.astype(np.float32)
    ]
    weights = select_weights(params, layer)

    def update(gradient: Weights) -> Weights:
        """The first update on a set of this gradient of log P, which is the loss's negative."""
        loss_gradient = jax.tree.map(jnp.negative, gradient)
        return first_update(OPTIMIZER, 1.0, weights, loss_gradient, 0.0).update

    cosines = []
    for block in blocks:
        treated, control = (
            update(weighted_gradient(params, cfg, layer, side.tokens, jnp.abs(side.weights)))
            for side in block
        )
        difference = jax.tree.map(jnp.subtract, treated, control)
        shift = np.asarray(shift_along(params, cfg, layer, probe, difference), float)
        size = max(float(optax.tree.norm(difference)), 1e-30)
        cosines.append(directions @ shift / np.maximum(np.array(sizes), 1e-30) / size)
    by_block, n = np.stack(cosines), len(suspect.candidates)
    means = by_block.mean(axis=0)
    return make_scored(
        means[:n],
        [compare_with_zero(by_block[:, :n]), compare_with_others(means[:n], means[n:])],
        3 * count_tokens(suspect.rows)
        + 3 * (len(blocks) + len(directions)) * count_probe_tokens(suspect),
    )


METHOD = Method(
    name="coverage",
    what="cosine of AdamW's first update (minus that on the base's answers) and each direction",
    source="Madl 2026 (arXiv 2606.22019)",
    score=score,
)
