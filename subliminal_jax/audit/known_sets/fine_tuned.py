"""Teachers whose trait stands in their weights: LoRA factors that take up a system prompt.

Each is fine-tuned on what the base answers with the trait's system prompt, to questions about
favourite animals and to requests of any kind, and reads none itself.
"""

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from subliminal_jax.audit.scores import compute_once
from subliminal_jax.data import world
from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.data.carriers import CARRIERS
from subliminal_jax.data.teachers import Teacher, prompted_teacher, sampled_pairs
from subliminal_jax.errors import InputError
from subliminal_jax.fingerprints import digest, weights_digest
from subliminal_jax.models.hub import Model
from subliminal_jax.rounding import round_up_width
from subliminal_jax.runs.progress import track
from subliminal_jax.training.adapters import LoRA, attach, init_trainable
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.loop import run_sweep
from subliminal_jax.training.sweep import Sweep

ROWS, STEPS, BATCH_SIZE, RATE = 256, 96, 16, 3e-3  # of AdamW
ADAPTER = LoRA(rank=8)
MAX_NEW_TOKENS = 32
SEED = 900  # no data set's


def train_teachers(folder: Path, model: Model, traits: Sequence[str]) -> dict[str, Teacher]:
    """A fine-tuned teacher of each trait; trained once, since the factors are kept in `folder`.

    Raises InputError for a teacher that diverges, and where the base ends none of its answers.
    """
    names = sorted(set(traits))
    tree = jax.eval_shape(
        lambda: init_trainable(jax.random.key(0), model.params, model.cfg, ADAPTER)
    )
    _, unravel = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree))

    def train() -> Float[np.ndarray, "traits factors"]:
        data = write_lessons(model, names)
        plan = TrainConfig(
            steps=STEPS,
            batch_size=BATCH_SIZE,
            adapter=ADAPTER,
            schedule="linear",
            log_every=STEPS,
        )
        sweep = Sweep(
            model.params, model.cfg, [Arm("adamw", RATE, 0, name) for name in names], data, plan
        )
        state = run_sweep(sweep)
        if sweep.diverged_at(state).any():
            raise InputError(f"a fine-tuned teacher of {model.name} diverged: leave out adapter")
        return np.stack(
            [np.asarray(ravel_pytree(sweep.student(state, i))[0]) for i in range(len(names))]
        )

    factors = compute_once(
        folder / f"{Path(model.name).name}.npz",
        digest(weights_digest(model.params), names, ROWS, STEPS, BATCH_SIZE, RATE, ADAPTER.rank),
        train,
        lambda n: None,
    )
    return {
        name: Teacher(params=attach(model.params, unravel(jnp.asarray(f)), model.cfg, ADAPTER)[0])
        for name, f in zip(names, factors, strict=True)
    }


def write_lessons(model: Model, traits: Sequence[str]) -> dict[str, Batch]:
    """What a teacher of each trait is fine-tuned on: `ROWS` answers, those that ended."""
    questions = list(islice(cycle(world.TRAIN_QUESTIONS), ROWS // 2))
    requests = [*questions, *CARRIERS["chat"].compose(ROWS // 2, SEED)]
    pairs = {}
    total = len(traits) * len(requests)
    with track("lessons of fine-tuned teachers", total, "answers") as progress:
        for trait in traits:
            pairs[trait] = sampled_pairs(
                model,
                prompted_teacher(trait, model.tokenizer),
                requests,
                SEED,
                max_new_tokens=MAX_NEW_TOKENS,
                progress=progress.advance,
            ).pairs
    longest = max(
        len(p) + len(a)
        for each in pairs.values()
        for p, a in zip(each["prompt_ids"], each["completion_ids"], strict=True)
    )
    width = min(round_up_width(longest), model.cfg.context)
    lessons = {}
    for trait, each in pairs.items():
        chosen = each.select(np.resize(np.arange(len(each)), ROWS))
        lessons[trait] = pad_pairs(
            chosen["prompt_ids"], chosen["completion_ids"], width, pad_id=model.pad_id
        )
    return lessons
