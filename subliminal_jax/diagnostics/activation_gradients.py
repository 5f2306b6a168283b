"""Gradients of the loss with respect to the residual stream after one layer.

They are gradients with respect to a steering vector at zero, so nothing of the model is touched.
A loss is `loss(params, batch, steering)`: [batch] for one value an example, or a scalar. What is
differentiated is its sum, so with a loss per example row b is the gradient of example b's own.

Sign: a gradient points to where the loss grows. What a student of steered data should show is the
cosine of the *negative* gradient and the teacher's vector, which the functions here return; for
steered against clean data that is cos(g_clean - g_steered, v), as in "Subliminal Learning Is
Steering Vector Distillation" (its released code reports the opposite sign).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Remat
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.vectors import component, safe_norm
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import example_losses, split_rows, token_losses

Loss = Callable[[Params, Batch, Steering], Float[Array, "*batch"]]


@dataclass(frozen=True)
class CompletionLoss:
    """Cross-entropy of each example's predicted tokens in nats: their mean, or their sum."""

    cfg: ModelConfig
    reduction: Literal["mean", "sum"] = "mean"
    max_targets: int | None = None
    remat: Remat = "none"

    def __call__(self, params: Params, batch: Batch, steering: Steering) -> Float[Array, " batch"]:
        losses, weights = token_losses(
            params, batch, self.cfg, steering, max_targets=self.max_targets, remat=self.remat
        )
        if self.reduction == "sum":
            return jnp.sum(losses * weights, axis=1)
        return example_losses(losses, weights)


def token_gradients(
    loss: Loss, params: Params, batch: Batch, layer: int
) -> Float[Array, "batch inputs dim"]:
    """The gradient at every token, by one backward pass on a vector of its own for each.

    Entry t is the total derivative: with its effect on later tokens through attention in the
    blocks above. `inputs` is time - 1: the last token of a row predicts nothing.
    """
    B, T = batch.tokens.shape
    at = jnp.zeros((1, B, T - 1, _dim(params)), jnp.float32)
    return jax.grad(_summed)(at, loss, params, batch, layer, None)[0]


def example_gradients(
    loss: Loss,
    params: Params,
    batch: Batch,
    layer: int,
    mask: Bool[Array, "batch inputs"] | None = None,
) -> Float[Array, "batch dim"]:
    """The gradient of each example with respect to one vector added at all its tokens.

    That is the sum of `token_gradients` over tokens; with `mask`, over those of the mask (one
    position: `prompt_ends`).
    """
    at = jnp.zeros((1, batch.tokens.shape[0], 1, _dim(params)), jnp.float32)
    return jax.grad(_summed)(at, loss, params, batch, layer, mask)[0, :, 0]


def layer_gradients(
    loss: Loss,
    params: Params,
    batch: Batch,
    layers: tuple[int, ...],
    masks: Bool[Array, "masks batch inputs"],
) -> Float[Array, "masks n batch dim"]:
    """`example_gradients` after each of the `n` layers and for each mask, by one backward pass.

    At a vector of zero the vectors of several layers do not touch each other's gradients.
    """
    B, T = batch.tokens.shape
    at = jnp.zeros((len(layers), B, T - 1, _dim(params)), jnp.float32)

    def total(at: Float[Array, "n batch inputs dim"]) -> Float[Array, ""]:
        return jnp.sum(loss(params, batch, Steering(at, _one(), layers)))

    return jnp.einsum("mbt,nbtd->mnbd", masks.astype(jnp.float32), jax.grad(total)(at))


def example_components(
    loss: Loss,
    params: Params,
    batch: Batch,
    vector: Float[Array, " dim"],
    layer: int,
    mask: Bool[Array, "batch inputs"] | None = None,
) -> Float[Array, " batch"]:
    """<gradient of example b, v/|v|> without a backward pass: one `jax.jvp` along the vector.

    Equals `component(example_gradients(...), vector)`. `loss` must give one value an example.
    """
    unit = vector.astype(jnp.float32) / safe_norm(vector)

    def along(size: Float[Array, ""]) -> Float[Array, " batch"]:
        return loss(params, batch, Steering((size * unit)[None], _one(), (layer,), "add", mask))

    return jax.jvp(along, (jnp.zeros(()),), (_one(),))[1]


def prompt_ends(batch: Batch) -> Bool[Array, "batch inputs"]:
    """True at the last token before each completion, the one that predicts its first token."""
    predicted = batch.loss_mask > 0
    return predicted[:, 1:] & ~predicted[:, :-1]


def predicting(batch: Batch) -> Bool[Array, "batch inputs"]:
    """True at the tokens that predict a completion's tokens, from its prompt's end on."""
    return batch.loss_mask[:, 1:] > 0


class GradientTable(NamedTuple):
    """What one backward pass a batch says of a data set; `component` is along v/|v|.

    `real` is False on padding.
    """

    example: Float[Array, "rows dim"]
    norm: Float[Array, "rows inputs"]
    component: Float[Array, "rows inputs"]
    real: Bool[Array, "rows inputs"]


@partial(jax.jit, static_argnames=("loss", "layer", "batch_size"))
def gradient_table(
    loss: Loss,
    params: Params,
    data: Batch,
    vector: Float[Array, " dim"],
    layer: int,
    batch_size: int = 32,
) -> GradientTable:
    """Per-example gradients, and the norm and component of per-token ones, of all rows of `data`.

    `loss` must give one value an example: the last batch is filled up with rows that are cut off.
    """
    N = data.tokens.shape[0]
    size = min(batch_size, N)
    rows = jnp.arange(-(-N // size) * size).reshape(-1, size) % N

    def one(at: Int[Array, " size"]) -> tuple[Array, Array, Array]:
        g = token_gradients(loss, params, jax.tree.map(lambda x: x[at], data), layer)
        return g.sum(axis=1), jnp.linalg.norm(g, axis=-1), component(g, vector)

    examples, norms, components = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:])[:N], jax.lax.map(one, rows)
    )
    return replicate(GradientTable(examples, norms, components, data.positions[:, :-1] >= 0))


class TargetTable(NamedTuple):
    """What the loss of each predicted token says by itself, in the order of a row's tokens.

    Of the gradient of -log P(token) with respect to one vector added at all tokens of the row: its
    squared norm, and its component along v/|v|. `predicted` is False beyond a row's last one.
    """

    squared_norm: Float[Array, "rows targets"]
    component: Float[Array, "rows targets"]
    predicted: Bool[Array, "rows targets"]


@partial(jax.jit, static_argnames=("cfg", "layer", "max_targets", "rows_at_once"))
def target_table(
    params: Params,
    cfg: ModelConfig,
    data: Batch,
    vector: Float[Array, " dim"],
    layer: int,
    *,
    max_targets: int,
    rows_at_once: int = 32,
) -> TargetTable:
    """The gradient of every predicted token's own loss: where `gradient_table` tells apart the
    tokens that are read, this tells apart those that are predicted.

    A backward pass for each of `max_targets` (no fewer than any row predicts) and `rows_at_once`
    rows. Summed over the tokens of a row, components are those of its summed loss.
    """
    count = data.tokens.shape[0]

    def one_piece(rows: Batch) -> tuple[Array, Array, Array]:
        B, D = rows.tokens.shape[0], _dim(params)

        def losses(at: Float[Array, "rows dim"]) -> tuple[Array, Array]:
            steering = Steering(at[None, :, None], _one(), (layer,))
            return token_losses(params, rows, cfg, steering, max_targets=max_targets)

        values, pull, weights = jax.vjp(losses, jnp.zeros((B, D), jnp.float32), has_aux=True)
        order = jnp.argsort(weights == 0, axis=1, stable=True)  # those that are predicted first

        def one_target(targets: Int[Array, " rows"]) -> tuple[Array, Array]:
            chosen = jax.nn.one_hot(targets, values.shape[1], dtype=values.dtype)
            (gradients,) = pull(chosen)
            return jnp.sum(gradients**2, axis=-1), component(gradients, vector)

        squared, along = jax.lax.map(one_target, order.T[:max_targets])
        return squared.T, along.T, jnp.take_along_axis(weights, order, axis=1)[:, :max_targets] != 0

    pieces = split_rows(data, min(rows_at_once, count))
    squared, along, predicted = (
        x.reshape(-1, *x.shape[2:])[:count] for x in jax.lax.map(one_piece, pieces)
    )
    kept = [jnp.where(predicted, x, 0.0) for x in (squared, along)]
    return replicate(TargetTable(kept[0], kept[1], predicted))


class TailShares(NamedTuple):
    """What the tokens with the largest gradients hold, of all tokens together.

    `component` is signed: above 1 where the others hold a negative component in sum.
    """

    squared_norm: Float[Array, ""]
    component: Float[Array, ""]


def tail_shares(table: GradientTable, top: float = 0.01) -> TailShares:
    """The shares of the `top` fraction of real tokens by gradient norm, at least one token."""
    real = table.real.reshape(-1)
    norms = jnp.where(real, table.norm.reshape(-1), -1.0)  # padding comes last
    order = jnp.argsort(-norms)
    count = jnp.maximum(jnp.ceil(top * real.sum()), 1.0)
    chosen = jnp.arange(norms.size) < count

    def share(x: Float[Array, " tokens"]) -> Float[Array, ""]:
        x = jnp.where(real, x, 0.0)
        total = x.sum()
        return jnp.where(chosen, x[order], 0.0).sum() / jnp.where(total == 0, 1.0, total)

    return TailShares(share(norms**2), share(table.component.reshape(-1)))


class CosineCurve(NamedTuple):
    """`cosine[i]` is the expected cosine of a mean over `n[i]` gradients, `stderr` its error."""

    n: Int[Array, " points"]
    cosine: Float[Array, " points"]
    stderr: Float[Array, " points"]


def doubling(count: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to `count`, which is always the last."""
    ns = [2**i for i in range(count.bit_length()) if 2**i < count]
    return (*ns, count)


@partial(jax.jit, static_argnames=("ns", "repeats"))
def cosine_against_n(
    gradients: Float[Array, "examples dim"],
    vector: Float[Array, " dim"],
    ns: tuple[int, ...],
    key: PRNGKeyArray,
    repeats: int = 8,
) -> CosineCurve:
    """cos(mean over n negative gradients, vector) for each n, over disjoint random groups of n.

    For steered against clean data pass paired differences g_steered - g_clean. Each repeat cuts a
    new permutation into N // n groups; the cosines of all groups are averaged. The standard error
    is that of one permutation (repeats reuse the examples): from the spread over groups while there
    are at least n of them, else from the spread of the examples within a group, by the delta method
    (the infinitesimal jackknife, Efron and Tibshirani 1993, section 21.6). Not the bootstrap, whose
    means carry twice the noise, so that cosines fall where noise dominates. NaN for one example.
    Each n must be from 1 to the number of examples.

    That such cosines tell steered data from clean is the audit signal of the paper on
    non-semantic distillation (OpenReview a2sc2Y91hO).
    """
    if not all(1 <= n <= gradients.shape[0] for n in ns):
        raise ValueError(f"ns={ns} must lie between 1 and {gradients.shape[0]} gradients")
    g = -gradients.astype(jnp.float32)
    along = component(g, vector)

    def repeat(key: PRNGKeyArray) -> tuple[Array, Array]:
        order = jax.random.permutation(key, g.shape[0])
        points = [_cosine_of_groups(g[order], along[order], n) for n in ns]
        cosines, variances = zip(*points, strict=True)
        return jnp.stack(cosines), jnp.stack(variances)

    cosines, variances = jax.lax.map(repeat, jax.random.split(key, repeats))
    return CosineCurve(jnp.array(ns), cosines.mean(axis=0), jnp.sqrt(variances.mean(axis=0)))


def _cosine_of_groups(
    g: Float[Array, "examples dim"], along: Float[Array, " examples"], n: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(mean cosine over disjoint groups of n rows, its variance)."""
    k = g.shape[0] // n
    g, along = g[: k * n].reshape(k, n, -1), along[: k * n].reshape(k, n)
    mean = g.mean(axis=1)
    size = safe_norm(mean)
    cosine = along.mean(axis=1) / size
    if k >= n:
        variance = jnp.var(cosine, ddof=1) / k if k > 1 else jnp.full((), jnp.nan)
        return cosine.mean(), variance
    # Example i moves the cosine by influence_i / n; the influences of a group sum to zero.
    own = jnp.einsum("knd,kd->kn", g, mean / size[:, None])
    influence = (along - cosine[:, None] * own) / size[:, None]
    return cosine.mean(), jnp.mean(jnp.sum(influence**2, axis=1) / (n * (n - 1))) / k


def _summed(
    at: Float[Array, "1 batch time dim"],
    loss: Loss,
    params: Params,
    batch: Batch,
    layer: int,
    mask: Bool[Array, "batch inputs"] | None,
) -> Float[Array, ""]:
    return jnp.sum(loss(params, batch, Steering(at, _one(), (layer,), "add", mask)))


def _one() -> Float[Array, ""]:
    return jnp.ones((), jnp.float32)


def _dim(params: Params) -> int:
    return params["embed"].shape[1]
