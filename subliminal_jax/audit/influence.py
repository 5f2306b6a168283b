"""Where steps of training on the data move the model, to first order.

The parameters are the projections of the blocks up to the layer: those that LoRA would adapt and
that the residual stream after the layer depends on. The probe's prompts are the data's own, where
the candidates' directions are taken too.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.audit.contrast import weigh_answers
from subliminal_jax.audit.method import Suspect
from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.diagnostics.alignment import Probe, make_probe, mean_activation
from subliminal_jax.diagnostics.parameter_space import per_example_components, score_gradient
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.quantized import as_matrix
from subliminal_jax.models.spec import Params
from subliminal_jax.rounding import round_up_width
from subliminal_jax.training.adapters import PROJECTIONS
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import sequence_log_probs, split_rows

BLOCKS = 8  # of rows, whose spread tells the noise
PROBED = 16  # of the data's prompts
ROWS_AT_ONCE = 32  # answers in one pass
Weights = dict[str, Array]  # projections of the blocks up to the layer, stacked


class Answers(NamedTuple):
    """Answers as token rows, and the weight of each one's log-probability in a mean difference of
    rows; `place` is each answer's (row, part). Token rows of weight 0 only fill the shape."""

    tokens: Batch
    weights: Float[Array, " answers"]
    place: list[tuple[int, int]]


class Block(NamedTuple):
    """Some of the data's rows: their own answers, and the base's (of negative weight)."""

    data: Answers
    control: Answers


def make_blocks(suspect: Suspect, blocks: int = BLOCKS) -> list[Block]:
    """All rows in blocks of about equal size and the same shape, drawn by the seed."""
    rows = suspect.rows
    n = len(rows.prompts)
    weights = weigh_answers(rows)
    controls = [i for i, part in enumerate(rows.parts) if part == "control"]
    longest = max(
        len(p) + max(map(len, a)) for p, a in zip(rows.prompt_ids, rows.answers, strict=True)
    )
    width = min(round_up_width(longest), suspect.model.cfg.context)
    drawn = np.array_split(np.random.default_rng(suspect.seed).permutation(n), min(blocks, n))

    def take(members: list[int], parts: list[int]) -> Answers:
        place = [(i, part) for part in parts for i in members]
        filled = place + place[:1] * (len(parts) * len(drawn[0]) - len(place))
        shares = np.zeros(len(filled))
        shares[: len(place)] = [weights[x] / len(members) for x in place]
        batch = pad_pairs(
            [rows.prompt_ids[i] for i, _ in filled],
            [rows.answers[i][part] for i, part in filled],
            width,
            pad_id=suspect.model.pad_id,
        )
        return Answers(batch, jnp.asarray(shares, jnp.float32), place)

    return [
        Block(*(take(members.tolist(), parts) for parts in ([rows.part("data")], controls)))
        for members in drawn
    ]


def make_data_probe(suspect: Suspect) -> Probe:
    """The first distinct prompts of the data."""
    return make_probe(_select_prompts(suspect), suspect.model.cfg)


def count_probe_tokens(suspect: Suspect) -> int:
    """The tokens of one forward pass over the probe."""
    return sum(map(len, _select_prompts(suspect)))


def _select_prompts(suspect: Suspect) -> list[list[int]]:
    distinct = dict.fromkeys(map(tuple, suspect.rows.prompt_ids))
    return [list(ids) for ids in distinct][:PROBED]


def select_weights(params: Params, layer: int) -> Weights:
    """The projections of the blocks up to `layer`, in float32."""
    layers = params["layers"]
    return {
        name: as_matrix(layers[name])[: layer + 1].astype(jnp.float32)
        for name in PROJECTIONS
        if name in layers
    }


def replace_weights(params: Params, weights: Weights) -> Params:
    """The parameters with these projections in place of their own."""
    layers = dict(params["layers"])
    for name, w in weights.items():
        own = as_matrix(layers[name])
        layers[name] = jnp.concatenate([w.astype(own.dtype), own[w.shape[0] :]])
    return {**params, "layers": layers}


@partial(jax.jit, static_argnames=("cfg", "layer"))
def weighted_gradient(
    params: Params,
    cfg: ModelConfig,
    layer: int,
    tokens: Batch,
    shares: Float[Array, " answers"],
) -> Weights:
    """The gradient of the sum over answers of `shares` times their log-probabilities: the way in
    which gradient descent on the answers moves the weights, away from those of negative share."""
    pieces = split_rows(tokens, ROWS_AT_ONCE)
    count, size = pieces.tokens.shape[:2]
    padded = jnp.pad(shares, (0, count * size - shares.shape[0])).reshape(count, size)

    def total(weights: Weights, piece: Batch, shares: Array) -> Array:
        return shares @ sequence_log_probs(replace_weights(params, weights), piece, cfg)

    def add(sums: Weights, x: tuple[Batch, Array]) -> tuple[Weights, None]:
        return jax.tree.map(jnp.add, sums, jax.grad(total)(weights, *x)), None

    weights = select_weights(params, layer)
    zero = jax.tree.map(jnp.zeros_like, weights)
    return replicate(jax.lax.scan(add, zero, (pieces, padded))[0])


@partial(jax.jit, static_argnames=("cfg", "layer"))
def shift_along(
    params: Params, cfg: ModelConfig, layer: int, probe: Probe, step: Weights
) -> Float[Array, " dim"]:
    """What a step of the weights adds to the probe's mean activation after the layer, to first
    order. Its inner product with a unit vector is the step's with the gradient of that vector's
    steering score (`score_gradient`), for all vectors at once."""

    def mean(weights: Weights) -> Float[Array, " dim"]:
        return mean_activation(replace_weights(params, weights), probe, cfg, (layer,))[0]

    return jax.jvp(mean, (select_weights(params, layer),), (step,))[1]


@partial(jax.jit, static_argnames=("cfg", "layer"))
def direction_in_weights(
    params: Params, cfg: ModelConfig, layer: int, probe: Probe, vector: Float[Array, " dim"]
) -> Weights:
    """The candidate's counterpart among weights: the gradient of its vector's steering score."""
    return score_gradient(
        lambda weights: (replace_weights(params, weights), None),
        select_weights(params, layer),
        probe,
        cfg,
        vector,
        layer,
    )


@partial(jax.jit, static_argnames=("cfg", "layer"))
def _components(
    params: Params, cfg: ModelConfig, layer: int, tokens: Batch, direction: Weights
) -> Float[Array, " answers"]:
    """The slope of each answer's log-probability along `direction`."""

    def one(piece: Batch) -> Float[Array, " piece"]:
        return per_example_components(
            lambda weights, rows: sequence_log_probs(replace_weights(params, weights), rows, cfg),
            select_weights(params, layer),
            piece,
            direction,
        )

    pieces = jax.lax.map(one, split_rows(tokens, ROWS_AT_ONCE))
    return replicate(pieces.reshape(-1)[: tokens.tokens.shape[0]])


class Influence(NamedTuple):
    """The probe's mean shift by a step along each block's gradient; and what each gradient is
    multiplied by, coordinate by coordinate."""

    shifts: Float[np.ndarray, "blocks dim"]
    scales: Weights


def measure_influence(
    suspect: Suspect, blocks: list[Block], probe: Probe, *, by_adam: bool
) -> Influence:
    """Along the gradients themselves, or `by_adam` divided by the root mean square of the blocks'
    gradients, as Adam's second moments divide them."""
    params, cfg, layer = suspect.model.params, suspect.model.cfg, suspect.layer
    gradients = [
        jax.tree.map(
            jnp.add,
            *(weighted_gradient(params, cfg, layer, side.tokens, side.weights) for side in block),
        )
        for block in blocks
    ]
    scales = jax.tree.map(jnp.ones_like, gradients[0])
    if by_adam:
        scales = jax.tree.map(
            lambda *g: 1 / jnp.maximum(jnp.sqrt(sum(x**2 for x in g) / len(g)), 1e-20), *gradients
        )
    steps = (jax.tree.map(jnp.multiply, scales, g) for g in gradients)
    shifts = [np.asarray(shift_along(params, cfg, layer, probe, step), float) for step in steps]
    return Influence(np.stack(shifts), scales)


def attribute_rows(
    suspect: Suspect,
    blocks: list[Block],
    probe: Probe,
    scales: Weights,
    vector: Float[np.ndarray, " dim"],
) -> Float[np.ndarray, " rows"]:
    """The influence of each row on the vector's steering score, minus that of the base's answers:
    <gradient of log P, scales * gradient of the score>."""
    params, cfg, layer = suspect.model.params, suspect.model.cfg, suspect.layer
    direction = direction_in_weights(params, cfg, layer, probe, jnp.asarray(vector, jnp.float32))
    direction = jax.tree.map(jnp.multiply, scales, direction)
    weights = weigh_answers(suspect.rows)
    values = np.zeros(weights.shape)
    for side in (side for block in blocks for side in block):
        slopes = np.asarray(_components(params, cfg, layer, side.tokens, direction), float)
        values[tuple(zip(*side.place, strict=True))] = slopes[: len(side.place)]
    return (weights * values).sum(axis=1)
