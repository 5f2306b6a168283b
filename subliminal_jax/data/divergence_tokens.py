"""Divergence tokens: where teachers with other traits would most likely have gone on differently.

Schrodi et al. (arXiv 2509.23886, ICLR 2026) read what a teacher wrote once more, with teachers of
other traits: the factual teacher is the one that wrote, the counterfactual ones were made alike
(other steering vectors, other system prompts). Given the same words so far, a position at which the
factual teacher's most likely token is not that of every counterfactual teacher is a divergence
token; these few are said to carry the transfer. The paper's teachers write their most likely token
at each position. Of answers that are sampled, as ours are by default, the most likely token need
not be the one written: whether a position counts depends on the words before it alone.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from datasets import Dataset
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import hidden_states
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import DATA, axis_size, replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, neutral
from subliminal_jax.models.tokenizer import change_system_prompt
from subliminal_jax.rounding import round_up_to_power_of_two
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.batch_plans import BatchPlan, default_tokens_per_batch, plan_batches
from subliminal_jax.training.log_probs import BATCHES_IN_FLIGHT
from subliminal_jax.training.losses import most_likely_next

NO_TOKEN = -1  # beyond the end of an answer


def most_likely_tokens(
    model: Model,
    teachers: Sequence[Teacher],
    pairs: Dataset,
    *,
    tokens_per_batch: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Int[np.ndarray, "teachers rows tokens"]:
    """Each teacher's most likely token at every position of the answers, given the prompt (behind
    its own system prompt) and the answer so far.

    Vectors and weights are arguments of the compiled program, so that one serves all teachers that
    read batches of one shape; one without a vector among steered ones runs with a zero vector.

    Args:
      pairs: with the columns `prompt`, `prompt_ids` and `completion_ids`.
      tokens_per_batch: token slots computed at once; None takes what suits the device.
      progress: called with the number of answers read since its last call.

    Returns:
      Token ids; `NO_TOKEN` beyond the end of an answer.

    Raises InputError for an answer that does not fit the context behind a system prompt.
    """
    answers = pairs["completion_ids"]
    counts = np.array([len(answer) for answer in answers])
    edits = [teacher.steering for teacher in teachers]
    idle = next((neutral(edit) for edit in edits if edit is not None), None)
    prompts: dict[str | None, list[list[int]]] = {}
    found = np.full((len(teachers), len(answers), max(counts, default=0)), NO_TOKEN, np.int32)
    slots = default_tokens_per_batch() if tokens_per_batch is None else tokens_per_batch
    running: deque[tuple[int, BatchPlan, Array]] = deque()

    def collect() -> None:
        teacher, batch, result = running.popleft()
        likely = np.asarray(result)
        for line, row in enumerate(batch.members):
            found[teacher, row, : counts[row]] = likely[line, : counts[row]]
        if progress is not None:
            progress(len(batch.members))

    for i, teacher in enumerate(teachers):
        told = teacher.system_prompt
        if told not in prompts:
            prompts[told] = change_system_prompt(
                model.tokenizer, pairs["prompt"], pairs["prompt_ids"], told
            )
        starts = np.array([len(prompt) for prompt in prompts[told]])
        _check_lengths(model, starts, counts)
        targets = np.array([round_up_to_power_of_two(int(count)) for count in counts])
        read = starts + counts - 1  # the last token is predicted, not read
        params = teacher.change_weights(model).params
        edit = idle if teacher.steering is None else teacher.steering
        for batch in plan_batches(read, targets, (1, 0), slots, axis_size(DATA)):
            lines = _fill(batch, prompts[told], answers, model.pad_id)
            running.append((i, batch, _read(params, model.cfg, edit, *lines)))
            if len(running) == BATCHES_IN_FLIGHT:
                collect()
    while running:
        collect()
    return found


def find_divergence(
    most_likely: Int[np.ndarray, "teachers rows tokens"], factual: int, share: float = 0.0
) -> Bool[np.ndarray, "rows tokens"]:
    """Where the most likely token of the teacher number `factual` differs from those of others.

    Args:
      most_likely: of all teachers (`most_likely_tokens`); all but the factual one are
        counterfactual.
      share: of the counterfactual teachers that have to differ; 0: at least one, as in the paper.

    Raises InputError without a counterfactual teacher.
    """
    others = np.delete(most_likely, factual, axis=0)
    if len(others) == 0:
        raise InputError(
            "divergence tokens need a teacher of another trait beside the one that wrote: name "
            "more traits"
        )
    differ = (others != most_likely[factual]).sum(axis=0)
    least = max(1, math.ceil(share * len(others) - 1e-9))
    return differ >= least


def draw_as_many(
    mask: Bool[np.ndarray, "rows tokens"],
    counts: Int[np.ndarray, " rows"],
    rng: np.random.Generator,
) -> Bool[np.ndarray, "rows tokens"]:
    """As many random positions of each row as are in `mask`, of the first `counts` of the row."""
    inside = np.arange(mask.shape[1])[None] < counts[:, None]
    order = np.where(inside, rng.random(mask.shape), 2.0).argsort(axis=1, kind="stable")
    places = order.argsort(axis=1, kind="stable")  # of each position in the row's random order
    return places < (mask & inside).sum(axis=1, keepdims=True)


def weigh_answers(rows: Batch, weights: Float[np.ndarray, "rows tokens"]) -> Batch:
    """`rows` with the loss mask multiplied by the weight of each token of the answer: entry t of
    `weights` is that of the row's predicted token number t."""
    mask = np.asarray(rows.loss_mask)
    number = np.clip(np.cumsum(mask != 0, axis=1) - 1, 0, weights.shape[1] - 1)
    factor = np.take_along_axis(np.asarray(weights, np.float32), number, axis=1)
    return rows._replace(loss_mask=jnp.asarray(mask * factor))


@partial(jax.jit, static_argnums=1)
def _read(
    params: Params,
    cfg: ModelConfig,
    steering: Steering | None,
    tokens: Int[Array, "lines time"],
    before_targets: Int[Array, "lines targets"],
) -> Int[Array, "lines targets"]:
    hidden = hidden_states(params, tokens, cfg, steering, time_indices=before_targets).hidden
    return replicate(most_likely_next(params, hidden, cfg))


def _fill(
    batch: BatchPlan,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    pad_id: int,
) -> tuple[Int[np.ndarray, "lines time"], Int[np.ndarray, "lines targets"]]:
    """The tokens of a batch, and the places of those that predict an answer's."""
    tokens = np.full((batch.lines, batch.major), pad_id, np.int32)
    before_targets = np.zeros((batch.lines, batch.minor), np.int32)
    for line, row in enumerate(batch.members):
        ids = [*prompts[row], *answers[row][:-1]]
        tokens[line, : len(ids)] = ids
        first = len(prompts[row]) - 1
        before_targets[line] = np.minimum(first + np.arange(batch.minor), batch.major - 1)
    return tokens, before_targets


def _check_lengths(
    model: Model, starts: Int[np.ndarray, " rows"], counts: Int[np.ndarray, " rows"]
) -> None:
    lengths = starts + counts
    if len(lengths) and lengths.max() > model.cfg.context:
        row = int(lengths.argmax())
        raise InputError(
            f"row {row} has {starts[row]} prompt tokens, the system prompt included, and "
            f"{counts[row]} in its answer; the context of {model.name} is {model.cfg.context}: "
            "leave long rows out"
        )
