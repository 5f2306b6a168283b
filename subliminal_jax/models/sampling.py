"""Batched sampling: few compiled programs, a random key per request.

A request's continuation depends on its prompt and its key alone, given the plan of its run: the
plan has a program for the prompt's length and one that writes answers, both of a fixed batch, in
which no row sees another.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from subliminal_jax.bounds import (
    MANY,
    Range,
    Rule,
    check_value,
)
from subliminal_jax.compilation import compile_ahead
from subliminal_jax.errors import InputError
from subliminal_jax.memory import free_bytes
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.finite import not_finite
from subliminal_jax.models.mesh import MODEL, axis_size
from subliminal_jax.models.sampling_inputs import (
    Prompts,
    SamplingConfig,
    StepPositions,
    Temperature,
    check_rows,
    make_key_selector,
    prepare_steering,
    split_prompts,
)
from subliminal_jax.models.sampling_plan import SamplingPlan, plan_sampling
from subliminal_jax.models.sampling_programs import read_prompts, write_answers
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering

__all__ = ["Samples", "SamplingConfig", "SamplingPlan", "StepPositions", "Temperature", "generate"]

ANY_TEMPERATURE = 0.5  # stands for all but 0 and 1 in the static configuration
BATCHES_IN_FLIGHT = 2  # the next one is queued before the last one is read, so no core waits
_begun: set[Any] = set()  # what all programs of a plan were compiled for: looking again takes time


class Samples(NamedTuple):
    """What was generated, in the order of the prompts.

    The stop token is part of the tokens and counts in `lengths`; what follows it is padding.
    `log_probs` are those of the sampled tokens under the steered model at temperature 1, before
    top-k and top-p, in nats; 0 at padding. Their sum is the log-probability of the answer.
    """

    tokens: Int[np.ndarray, "n new"]
    lengths: Int[np.ndarray, " n"]
    log_probs: Float[np.ndarray, "n new"]


def generate(
    params: Params,
    prompts: Prompts,
    cfg: ModelConfig,
    key: int | PRNGKeyArray | Key[Array, " n"],
    sampling: SamplingConfig,
    steering: Steering | None = None,
    *,
    pad_token: int = 0,
    batch_size: int | None = None,
    plan: SamplingPlan | None = None,
    reference_params: Params | None = None,
    progress: Callable[[int], Any] | None = None,
    receive: Callable[[list[int], Samples], Any] | None = None,
) -> Samples:
    """Sample one continuation of each prompt; the result lies on the host.

    Args:
      prompts: token ids, a list for each request, or an array [n, time] padded on the right with
        its lengths [n].
      key: a seed, or a key from which request i takes fold_in(key, i), or one key a request [n].
      steering: vectors [n, dim] and one scale; its mask and target are set here. Another vector or
        scale of the same layers compiles nothing, while None is a program of its own: where both
        are sampled, `neutral` gives None's answers by the same program.
      batch_size: rows of every batch, rounded up to a multiple of the devices that they are sharded
        over; what is left of the last batch stays idle. None leaves it to the plan.
      plan: the sizes of the programs, of a run of several calls; None makes one for these prompts
        (`plan_sampling`). Calls with one plan share their programs.
      reference_params: the base model of operation "replace". It reads the same tokens beside the
        steered one, and its component along the vector is what replaces.
      progress: called with the number of requests done since its last call.
      receive: called with the requests of every batch that is done, and their samples.

    Raises InputError for an empty prompt, one that leaves no room for `max_new_tokens` in the
    model's context or does not fit the plan, token ids outside the vocabulary (padding included),
    steering that does not fit the model, and logits or activations that are not finite: it says
    from which layer and token on.
    """
    rows = split_prompts(prompts)
    check_rows(rows, cfg, sampling)
    if not 0 <= pad_token < cfg.vocab:
        raise InputError(f"the padding token {pad_token} is outside the vocabulary of {cfg.vocab}")
    if batch_size is not None:
        check_value("batch_size", batch_size, Rule(int, Range(1, MANY)))
    lengths = [len(row) for row in rows]
    if plan is None:
        plan = plan_sampling(cfg, lengths, sampling.max_new_tokens, batch_size)
    elif not plan.holds(max(lengths, default=1), sampling.max_new_tokens):
        raise InputError(
            f"prompts of up to {max(lengths)} tokens and answers of {sampling.max_new_tokens} do "
            f"not fit a plan for {plan.prompt_slots[-1]} and {plan.max_new_tokens}"
        )
    steering = prepare_steering(steering, cfg, reference_params)
    select_keys = make_key_selector(key, len(rows))

    n, N = len(rows), sampling.max_new_tokens
    samples = Samples(
        np.full((n, N), pad_token, np.int32), np.zeros(n, np.int32), np.zeros((n, N), np.float32)
    )
    running: deque[tuple[list[int], tuple[Array, Array, Array]]] = deque()

    def collect() -> None:
        members, part = running.popleft()
        for target, values in zip(samples, part, strict=True):
            target[members] = np.asarray(values)[: len(members)]
        if not np.isfinite(samples.log_probs[members]).all():
            raise explain(members)
        if receive is not None:
            receive(members, Samples(*(values[members] for values in samples)))
        if progress is not None:
            progress(len(members))

    def explain(members: list[int]) -> InputError:
        """Why the log-probabilities of these requests are not finite."""
        bad = ~np.isfinite(samples.log_probs[members])
        request = members[int(np.argmax(bad.any(axis=1)))]
        step = int(np.argmax(~np.isfinite(samples.log_probs[request])))
        read = np.concatenate([rows[request], samples.tokens[request, :step]])
        edited = steering
        if steering is not None and sampling.steer_positions != "all":
            in_prompt = np.arange(len(read)) < len(rows[request])
            mask = in_prompt if sampling.steer_positions == "prompt" else ~in_prompt
            edited = steering.masked(jnp.asarray(mask)[None])
        what = f"the distribution of new token {step} of prompt {request}"
        return not_finite(what, params, cfg, read, edited, reference_params)

    programs = _Programs(params, reference_params, cfg, sampling, plan, steering, pad_token)
    batches = _split_batches(lengths, plan)
    if rows:
        programs.compile(select_keys(np.zeros(plan.batch_size, np.int32)))
    for slots, members in batches:
        tokens = np.full((plan.batch_size, slots), pad_token, np.int32)
        prompt_lengths = np.zeros(plan.batch_size, np.int32)  # 0: an idle row
        picked = np.zeros(plan.batch_size, np.int32)
        picked[: len(members)] = members
        for i, request in enumerate(members):
            tokens[i, : lengths[request]] = rows[request]
            prompt_lengths[i] = lengths[request]
        part = programs.run(jnp.asarray(tokens), jnp.asarray(prompt_lengths), select_keys(picked))
        running.append((members, part))
        if len(running) == BATCHES_IN_FLIGHT:
            collect()
    while running:
        collect()
    return samples


def _split_batches(lengths: Sequence[int], plan: SamplingPlan) -> list[tuple[int, list[int]]]:
    """The requests of each batch, behind the slots of their prompts; the shorter prompts first."""
    batches: list[tuple[int, list[int]]] = []
    shorter = 0
    for slots in plan.prompt_slots:
        requests = [i for i, length in enumerate(lengths) if shorter < length <= slots]
        shorter = slots
        starts = range(0, len(requests), plan.batch_size)
        batches.extend((slots, requests[i : i + plan.batch_size]) for i in starts)
    return batches


def _fits_twice(*models: Params | None) -> bool:
    """Whether the device has room for a copy of the blocks' weights, and as much again."""
    blocks = [params["layers"] for params in models if params is not None]
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(blocks)) / axis_size(MODEL)
    return 2 * size <= free_bytes()


class _Programs:
    """The compiled programs of one call of `generate`, and what all its batches share."""

    def __init__(
        self,
        params: Params,
        reference_params: Params | None,
        cfg: ModelConfig,
        sampling: SamplingConfig,
        plan: SamplingPlan,
        steering: Steering | None,
        pad_token: int,
    ):
        self.plan = plan
        model, structure = jax.tree.flatten((params, reference_params, steering))
        self.model = tuple(model)
        # Any temperature but 0 and 1 is traced, so that a change of it compiles nothing.
        self.temperature = jnp.asarray(sampling.temperature, jnp.float32)
        if sampling.temperature not in (0, 1):
            sampling = replace(sampling, temperature=ANY_TEMPERATURE)
        self.pad_token = jnp.asarray(pad_token, jnp.int32)
        edited = sampling.steer_positions != "generated"
        both = {"structure": structure, "cfg": cfg}
        self.read = partial(read_prompts, **both, edited=edited, slots=plan.prompt_slots[-1])
        self.write = partial(
            write_answers,
            **both,
            sampling=sampling,
            sizes=plan.cache_slots,
            unstacked=_fits_twice(params, reference_params),
        )
        self.compiling: dict[int, list[Future[Any]]] = {}

    def compile(self, keys: Key[Array, " batch"]) -> None:
        """Begin to compile all programs of the plan, in threads of their own.

        Not over several devices: there the layout of the cache follows from the program that fills
        it, and is known when that is compiled.
        """
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in self.model)
        static = *self.read.keywords.values(), *self.write.keywords.values()
        if not jax.sharding.get_mesh().empty or (self.plan, shapes, static) in _begun:
            return
        _begun.add((self.plan, shapes, static))
        B = self.plan.batch_size
        lengths = jax.ShapeDtypeStruct((B,), jnp.int32)
        read = [
            (self.read, self._reading(jax.ShapeDtypeStruct((B, slots), jnp.int32), lengths))
            for slots in self.plan.prompt_slots
        ]
        outputs = jax.eval_shape(self.read, *read[0][1])
        write = self.write, self._writing(outputs, lengths, keys)
        first, written, *others = compile_ahead([read[0], write, *read[1:]])
        self.compiling = {
            slots: [reading, written]
            for slots, reading in zip(self.plan.prompt_slots, [first, *others], strict=True)
        }

    def run(
        self,
        tokens: Int[Array, "batch slots"],
        lengths: Int[Array, " batch"],
        keys: Key[Array, " batch"],
    ) -> tuple[Array, Array, Array]:
        """One batch of `Samples`, of prompts padded to one of the plan's sizes."""
        for program in self.compiling.pop(tokens.shape[1], ()):
            program.result()
        outputs = self.read(*self._reading(tokens, lengths))
        return self.write(*self._writing(outputs, lengths, keys))

    def _reading(self, tokens: Any, lengths: Any) -> tuple[Any, ...]:
        return self.model, tokens, lengths

    def _writing(self, outputs: Any, lengths: Any, keys: Any) -> tuple[Any, ...]:
        return self.model, *outputs, lengths, keys, self.temperature, self.pad_token
