"""Answers of the base and of a changed model to the same prompts, with the same random numbers.

The change, a steering or an adapter, has a factor: 1 is the change as it is stored, 0 the base. So
both models are one program, and another factor compiles nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.sampling_plan import SamplingPlan
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.tokenizer import encode_chats
from subliminal_jax.rounding import round_up_to_power_of_two
from subliminal_jax.steering.vector_files import read_steering
from subliminal_jax.training.adapters import LoRA, Trainable, attach
from subliminal_jax.training.adapters_io import load_adapter

SHORTEST = 64  # slots of a prompt, at least


@dataclass(frozen=True)
class SteeringChange:
    """An edit of the residual stream.

    Raises InputError for the operation "replace", which needs another model beside this one.
    """

    steering: Steering

    def __post_init__(self) -> None:
        if self.steering.operation == "replace":
            raise InputError(
                'the operation "replace" puts the component of a base model into a student: it '
                "cannot steer the base itself; give a vector that is added or projected out"
            )

    @property
    def name(self) -> str:
        verb = {"add": "steered", "project_out": "projected out"}[self.steering.operation]
        layers = ", ".join(map(str, self.steering.layers))
        return f"{verb} at layer {layers}"

    def apply(self, model: Model, factor: float) -> tuple[Params, Steering | None]:
        return model.params, self.steering.scaled(factor)


@dataclass(frozen=True)
class AdapterChange:
    """LoRA factors of a trained student; the factor scales what they add."""

    trainable: Trainable
    adapter: LoRA
    name: str = "with the adapter"

    def apply(self, model: Model, factor: float) -> tuple[Params, Steering | None]:
        scale = jnp.asarray(self.adapter.scale * factor, jnp.float32)
        return attach(model.params, self.trainable, model.cfg, self.adapter, scale)


Change = SteeringChange | AdapterChange


def read_change(
    model: Model, vector: Path | None, adapter: Path | None, layer: int | None
) -> Change:
    """The change in a vector file, of one of its layers or of all, or in a folder of PEFT.

    Raises InputError where it does not fit the model, as `read_steering` and `load_adapter` do.
    """
    if adapter is not None:
        return AdapterChange(*load_adapter(adapter, model.cfg, model=model.name))
    assert vector is not None
    layers = None if layer is None else [model.cfg.check_layer(layer)]
    steering, _ = read_steering(vector, model.cfg, layers, model=model.name)
    return SteeringChange(steering)


class Answers(NamedTuple):
    """The two answers to one prompt, without the tokens that end them."""

    prompt: str
    plain: str
    changed: str


def answer_both(
    model: Model,
    change: Change,
    factor: float,
    prompts: Sequence[str],
    sampling: SamplingConfig,
    seed: int,
    system_prompt: str | None = None,
) -> list[Answers]:
    """The base's answer to each prompt and the changed model's, `factor` times as strong.

    Raises InputError as `encode_chats` and `generate` do.
    """
    tokens = encode_chats(model.tokenizer, prompts, system_prompt)
    # Of few sizes: the prompts of a session come one by one, and reading a longer one costs little.
    slots = max(SHORTEST, round_up_to_power_of_two(max(map(len, tokens), default=1)))
    plan = SamplingPlan((slots,), (slots + sampling.max_new_tokens,), len(prompts))
    texts = []
    for strength in (0.0, factor):
        params, steering = change.apply(model, strength)
        samples = generate(
            params,
            tokens,
            model.cfg,
            seed,
            sampling,
            steering,
            pad_token=model.pad_id,
            plan=plan,
        )
        rows = zip(samples.tokens, samples.lengths, strict=True)
        texts.append(
            [
                model.tokenizer.decode(
                    [int(i) for i in row[:n] if i not in sampling.stop_tokens],
                    skip_special_tokens=True,
                )
                for row, n in rows
            ]
        )
    return [Answers(*row) for row in zip(prompts, *texts, strict=True)]
