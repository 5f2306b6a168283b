"""Log-probabilities of given responses, many at once.

Two programs compute the same numbers. The plain one reads every prompt together with one response.
The cached one reads the prefix that all prompts share once, each prompt once, and each response
after the prompt's cached keys and values; it computes fewer tokens, but rows are padded twice. The
one that would compute fewer token slots serves a call.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.attention import Cache
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.finite import not_finite
from subliminal_jax.models.forward import hidden_states
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import DATA, axis_size, replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.tokenizer import common_prefix
from subliminal_jax.rounding import round_up_to_power_of_two, round_up_width
from subliminal_jax.training.batch_plans import (
    BatchPlan,
    default_tokens_per_batch,
    plan_batches,
    planned_slots,
)
from subliminal_jax.training.losses import next_token_log_probs

PromptCache = Literal["auto", "always", "never"]
BATCHES_IN_FLIGHT = 2  # the next one is queued before the last one is read, so no core waits
# A slot of the cached program costs this many of the plain one's: plain attention masks by index
# and its last block computes the responses alone, cached attention reads the whole cache. Measured
# in CPU time on the shipped model (22 against 16 microseconds).
CACHED_SLOT_COST = 1.4


@dataclass
class Meter:
    """The work of scoring, summed over the calls that this meter was passed to.

    `slots` are the token positions that were computed, `tokens` those that held a token.
    """

    rows: int = 0
    slots: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def padding_share(self) -> float:
        """The share of computed positions that held padding."""
        return 1 - self.tokens / self.slots if self.slots else 0.0


def response_log_probs(
    model: Model,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[Sequence[int]]],
    *,
    steering: Steering | None = None,
    temperature: float = 1.0,
    progress: Callable[[int], Any] | None = None,
    tokens_per_batch: int | None = None,
    prompt_cache: PromptCache = "auto",
    meter: Meter | None = None,
) -> Float[np.ndarray, "rows k"]:
    """log P(response j of row i | prompt i): the float32 sum over the response's tokens, in nats.

    Args:
      prompts: token ids, ready to be answered; `responses`: for each, k lists of token ids.
      steering: an edit of all positions, prompt and response.
      temperature: that responses are sampled at; it divides the logits. Another one compiles
        nothing.
      progress: called with the number of rows done since its last call.
      tokens_per_batch: token slots computed at once; None takes what suits the device.
      prompt_cache: read each prompt once for its k responses, or once for each; "auto" takes
        what computes less. The numbers are equal up to rounding.
      meter: adds up the work of the call.

    Raises InputError for rows with different numbers of responses, an empty prompt or response,
    tokens outside the vocabulary, rows longer than the model's context, a temperature that is not
    above 0, and log-probabilities that are not finite.
    """
    if not temperature > 0:
        raise InputError(f"temperature {temperature:g} is not above 0: 1 is the model's own")
    lengths = _checked_lengths(model, prompts, responses)
    _check_steering(model.cfg, steering)
    start = time.perf_counter()
    n, k = lengths.shape[0], lengths.shape[1] - 1
    if n == 0 or k == 0:
        return np.zeros((n, k), np.float32)
    slots = default_tokens_per_batch() if tokens_per_batch is None else tokens_per_batch
    program = _choose_program(prompts, responses, lengths, prompt_cache, slots, axis_size(DATA))
    flat = np.zeros(n * k, np.float32)
    remaining = np.full(n, k)  # responses of each row that are not scored yet
    running: deque[tuple[Int[np.ndarray, " scored"], Array]] = deque()

    def collect() -> None:
        scored, result = running.popleft()
        flat[scored] = np.asarray(result).reshape(-1)[: len(scored)]
        if not np.isfinite(flat[scored]).all():
            row, response = divmod(int(scored[np.argmin(np.isfinite(flat[scored]))]), k)
            raise not_finite(
                f"row {row}: the log-probability of its response {response}",
                model.params,
                model.cfg,
                [*prompts[row], *responses[row][response][:-1]],
                steering,
            )
        np.subtract.at(remaining, scored // k, 1)
        if progress is not None:
            progress(int((remaining[np.unique(scored // k)] == 0).sum()))

    shared = program.shared_arrays(model.pad_id)
    for batch in program.batches:
        arrays = program.arrays(batch, model.pad_id)
        result = program.run(
            model.params, model.cfg, steering, np.float32(temperature), *shared, *arrays
        )
        running.append((program.scored(batch), result))
        if len(running) == BATCHES_IN_FLIGHT:
            collect()
    while running:
        collect()
    if meter is not None:
        meter.rows += n
        meter.slots += program.slots
        meter.tokens += program.tokens
        meter.seconds += time.perf_counter() - start
    return flat.reshape(n, k)


class _PlainProgram:
    """Reads each response after its whole prompt, one line of tokens a response."""

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[Sequence[int]]],
        lengths: Int[np.ndarray, "rows k_and_prompt"],
        tokens_per_batch: int,
        devices: int,
    ):
        self.prompts = prompts
        self.responses = [response for row in responses for response in row]
        self.k = lengths.shape[1] - 1
        self.starts = np.repeat(lengths[:, 0], self.k)
        self.counts = lengths[:, 1:].reshape(-1)
        read = self.starts + self.counts - 1  # the last token is predicted, not read
        # The second width only bounds what is unembedded: coarse, so that few programs serve.
        targets = np.array([round_up_to_power_of_two(int(c)) for c in self.counts])
        self.batches = plan_batches(read, targets, (1, 0), tokens_per_batch, devices)
        self.slots = planned_slots(self.batches, (1, 0))
        self.tokens = int(read.sum())

    def scored(self, batch: BatchPlan) -> Int[np.ndarray, " members"]:
        return batch.members

    def shared_arrays(self, pad_id: int) -> tuple[np.ndarray, ...]:
        return ()

    def arrays(self, batch: BatchPlan, pad_id: int) -> tuple[np.ndarray, ...]:
        tokens = np.full((batch.lines, batch.major), pad_id, np.int32)
        targets = np.full((batch.lines, batch.minor), pad_id, np.int32)
        starts, counts = np.ones(batch.lines, np.int32), np.zeros(batch.lines, np.int32)
        for line, unit in enumerate(batch.members):
            response = self.responses[unit]
            row = [*self.prompts[unit // self.k], *response[:-1]]
            tokens[line, : len(row)] = row
            targets[line, : len(response)] = response
            starts[line], counts[line] = self.starts[unit], self.counts[unit]
        return tokens, targets, starts, counts

    @staticmethod
    @partial(jax.jit, static_argnums=1)
    def run(
        params: Params,
        cfg: ModelConfig,
        steering: Steering | None,
        temperature: Float[Array, ""],
        tokens: Int[Array, "lines time"],
        targets: Int[Array, "lines targets"],
        starts: Int[Array, " lines"],
        counts: Int[Array, " lines"],
    ) -> Float[Array, " lines"]:
        ahead = jnp.arange(targets.shape[1], dtype=jnp.int32)[None]
        before_targets = jnp.minimum(starts[:, None] - 1 + ahead, tokens.shape[1] - 1)
        hidden = hidden_states(params, tokens, cfg, steering, time_indices=before_targets).hidden
        log_probs = next_token_log_probs(params, hidden, targets, cfg, temperature)
        return replicate(_sum_targets(log_probs, counts))


class _CachedProgram:
    """Reads each prompt once, after the prefix that all share, then its responses side by side."""

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[Sequence[int]]],
        lengths: Int[np.ndarray, "rows k_and_prompt"],
        tokens_per_batch: int,
        devices: int,
    ):
        self.prompts, self.responses = prompts, responses
        self.k = lengths.shape[1] - 1
        self.counts = lengths[:, 1:]
        self.shared = common_prefix(prompts)
        # The last token of a prompt predicts the first of each response: it is read with those.
        rest = lengths[:, 0] - 1 - len(self.shared)
        cost = (1, self.k)
        self.batches = plan_batches(rest, self.counts.max(axis=1), cost, tokens_per_batch, devices)
        prefixes = len(self.batches) * (round_up_width(len(self.shared)) if self.shared else 0)
        self.slots = planned_slots(self.batches, cost) + prefixes
        self.tokens = int(rest.sum() + self.counts.sum()) + len(self.batches) * len(self.shared)

    def scored(self, batch: BatchPlan) -> Int[np.ndarray, " scored"]:
        return (batch.members[:, None] * self.k + np.arange(self.k)).reshape(-1)

    def shared_arrays(self, pad_id: int) -> tuple[np.ndarray, ...]:
        S = len(self.shared)
        tokens = np.full((1, round_up_width(S) if S else 0), pad_id, np.int32)
        positions = np.full(tokens.shape, -1, np.int32)
        tokens[0, :S], positions[0, :S] = self.shared, np.arange(S)
        return tokens, positions

    def arrays(self, batch: BatchPlan, pad_id: int) -> tuple[np.ndarray, ...]:
        shape = (batch.lines, self.k, batch.minor)
        rest = np.full((batch.lines, batch.major), pad_id, np.int32)
        inputs, targets = (np.full(shape, pad_id, np.int32) for _ in range(2))
        lengths = np.zeros(batch.lines, np.int32)
        counts = np.zeros((batch.lines, self.k), np.int32)
        for line, row in enumerate(batch.members):
            prompt = self.prompts[row][len(self.shared) :]
            rest[line, : len(prompt) - 1] = prompt[:-1]
            lengths[line], counts[line] = len(prompt) - 1, self.counts[row]
            for j, response in enumerate(self.responses[row]):
                inputs[line, j, : len(response)] = [prompt[-1], *response[:-1]]
                targets[line, j, : len(response)] = response
        return rest, lengths, inputs, targets, counts

    @staticmethod
    @partial(jax.jit, static_argnums=1)
    def run(
        params: Params,
        cfg: ModelConfig,
        steering: Steering | None,
        temperature: Float[Array, ""],
        prefix: Int[Array, "1 shared"],
        prefix_positions: Int[Array, "1 shared"],
        rest: Int[Array, "lines prompt"],
        lengths: Int[Array, " lines"],
        inputs: Int[Array, "lines k response"],
        targets: Int[Array, "lines k response"],
        counts: Int[Array, "lines k"],
    ) -> Float[Array, "lines k"]:
        B, k, R = inputs.shape
        S, P = prefix.shape[1], rest.shape[1]
        read = partial(hidden_states, params, cfg=cfg, steering=steering)
        start = jnp.sum(prefix_positions >= 0, dtype=jnp.int32)
        slot = jnp.arange(P, dtype=jnp.int32)[None]
        positions = jnp.where(slot < lengths[:, None], start + slot, -1)
        if S == 0:
            cache = read(tokens=rest, positions=positions, cache_slots=P + R).cache
        else:
            cache = read(tokens=prefix, positions=prefix_positions, cache_slots=S + P + R).cache
            cache = read(tokens=rest, positions=positions, cache=_repeat_rows(cache, B)).cache
        slot = jnp.arange(R, dtype=jnp.int32)[None, None]
        positions = jnp.where(slot < counts[:, :, None], start + lengths[:, None, None] + slot, -1)
        inputs, targets, positions = (x.reshape(B * k, R) for x in (inputs, targets, positions))
        out = read(tokens=inputs, positions=positions, cache=_repeat_rows(cache, k))
        summed = _sum_targets(
            next_token_log_probs(params, out.hidden, targets, cfg, temperature), counts.reshape(-1)
        )
        return replicate(summed.reshape(B, k))


def _repeat_rows(cache: Cache | None, times: int) -> Cache:
    """Each row of the cache, `times` times in a row."""
    assert cache is not None
    repeat = partial(jnp.repeat, repeats=times, axis=0)
    return Cache(
        k=tuple(repeat(x) for x in cache.k),
        v=tuple(repeat(x) for x in cache.v),
        positions=repeat(cache.positions),
        index=cache.index,
    )


def _sum_targets(
    log_probs: Float[Array, "lines targets"], counts: Int[Array, " lines"]
) -> Float[Array, " lines"]:
    """The sum over the first `counts` entries of each line."""
    counted = jnp.arange(log_probs.shape[1])[None] < counts[:, None]
    return jnp.sum(log_probs, axis=1, where=counted)


def _choose_program(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[Sequence[int]]],
    lengths: Int[np.ndarray, "rows k_and_prompt"],
    prompt_cache: PromptCache,
    tokens_per_batch: int,
    devices: int,
) -> _PlainProgram | _CachedProgram:
    """The program that is asked for, or the one that computes less."""
    arguments = (prompts, responses, lengths, tokens_per_batch, devices)
    if prompt_cache == "never":
        return _PlainProgram(*arguments)
    cached = _CachedProgram(*arguments)
    if prompt_cache == "always":
        return cached
    plain = _PlainProgram(*arguments)
    return cached if cached.slots * CACHED_SLOT_COST < plain.slots else plain


def _check_steering(cfg: ModelConfig, steering: Steering | None) -> None:
    if steering is None:
        return
    for layer in steering.layers:
        cfg.check_layer(layer)
    if steering.vectors.shape != (len(steering.layers), cfg.dim) or steering.scale.ndim:
        raise InputError(
            f"steering has vectors of shape {steering.vectors.shape} and a scale of shape "
            f"{steering.scale.shape}: scoring needs {(len(steering.layers), cfg.dim)} and a number"
        )
    if steering.mask is not None or steering.operation == "replace":
        raise InputError(
            'scoring edits all positions and has no base run: use no mask, no "replace"'
        )


def _checked_lengths(
    model: Model,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[Sequence[int]]],
) -> Int[np.ndarray, "rows k_and_prompt"]:
    """Tokens of each row's prompt and of its responses."""
    if len(prompts) != len(responses):
        raise InputError(f"{len(prompts)} prompts but responses for {len(responses)}")
    k = len(responses[0]) if len(responses) else 0
    lengths = np.zeros((len(prompts), 1 + k), np.int64)
    for i, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
        if len(row) != k:
            raise InputError(f"row {i} has {len(row)} responses, row 0 has {k}: give all the same")
        for j, part in enumerate((prompt, *row)):
            what = "prompt" if j == 0 else f"response {j - 1}"
            if len(part) == 0:
                raise InputError(f"row {i}: its {what} has no tokens; leave the row out")
            if min(part) < 0 or max(part) >= model.cfg.vocab:
                wrong = next(token for token in part if not 0 <= token < model.cfg.vocab)
                raise InputError(
                    f"row {i}: its {what} holds the token id {wrong}, outside the vocabulary of "
                    f"{model.cfg.vocab}: is this another model's tokenizer?"
                )
            lengths[i, j] = len(part)
        if lengths[i, 0] + lengths[i, 1:].max() > model.cfg.context:
            raise InputError(
                f"row {i} has {lengths[i, 0]} prompt tokens and up to {lengths[i, 1:].max()} in a "
                f"response, the context of {model.name} is {model.cfg.context}: leave long prompts "
                "out or truncate responses"
            )
    return lengths
