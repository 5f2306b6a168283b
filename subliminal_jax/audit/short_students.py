"""Students of a short fine-tune: of the data and of the base's own answers, or of other rows.

Those of one seed begin at the same weights and see the same places of their data in the same order,
so that what differs between them is their rows'.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from subliminal_jax.audit.contrast import mark_rows
from subliminal_jax.audit.method import Suspect
from subliminal_jax.audit.scores import compute_once
from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.errors import InputError
from subliminal_jax.fingerprints import digest
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.rounding import round_up_width
from subliminal_jax.training.adapters import LoRA, Trainable, attach, init_trainable
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.loop import run_sweep
from subliminal_jax.training.sweep import Sweep

STEPS, BATCH_SIZE = 64, 16
# Of AdamW: on sets of the development traits owl, wolf and lion the true trait's ranks of 16 were
# 1, 1 and 10; with 2e-3 they were 6, 2 and 5, with a third of the rise or less.
RATE = 8e-3
ADAPTER = LoRA(rank=8)


class ShortStudents(NamedTuple):
    """The parameters of both, and what training them cost in forward tokens."""

    treated: Params
    control: Params
    forward_tokens: int


def train_students(suspect: Suspect) -> ShortStudents:
    """Both students; trained once, since their factors are kept in the folder.

    Raises InputError where one diverges.
    """
    model = suspect.model
    data = pad_students_rows(suspect)
    size = find_batch_size(data)
    settings = (STEPS, size, RATE, ADAPTER.rank, ADAPTER.alpha, suspect.seed)
    _, unravel = ravel_pytree(make_idle_factors(model))

    def train() -> Float[np.ndarray, "2 factors"]:
        arms = [Arm("adamw", RATE, suspect.seed, name) for name in ("data", "control")]
        return np.stack([np.asarray(ravel_pytree(f)[0]) for f in train_factors(model, data, arms)])

    factors = compute_once(
        suspect.folder / "students.npz",
        digest(mark_rows(suspect), *settings),
        train,
        lambda n: None,
    )
    treated, control = (
        attach(model.params, unravel(jnp.asarray(f)), model.cfg, ADAPTER)[0] for f in factors
    )
    tokens = sum(float(np.mean(np.sum(b.positions >= 0, axis=1))) for b in data.values())
    return ShortStudents(treated, control, round(3 * STEPS * size * tokens))


def find_batch_size(data: Mapping[str, Batch]) -> int:
    """Rows a step, which are no more than there are."""
    return min(BATCH_SIZE, next(iter(data.values())).tokens.shape[0])


def make_idle_factors(model: Model) -> Trainable:
    """LoRA factors of zeros: those of the base itself."""
    tree = jax.eval_shape(
        lambda: init_trainable(jax.random.key(0), model.params, model.cfg, ADAPTER)
    )
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)


def train_factors(
    model: Model, data: Mapping[str, Batch], arms: Sequence[Arm]
) -> Iterator[Trainable]:
    """The LoRA factors of the students, in the order of the arms, after one sweep.

    Raises InputError where one diverges.
    """
    plan = TrainConfig(
        steps=STEPS,
        batch_size=find_batch_size(data),
        adapter=ADAPTER,
        schedule="linear",
        log_every=STEPS,
    )
    sweep = Sweep(model.params, model.cfg, arms, dict(data), plan)
    state = run_sweep(sweep)
    if sweep.diverged_at(state).any():
        raise InputError("the short fine-tune diverged: are the model's weights whole?")
    for i in range(len(arms)):
        yield sweep.student(state, i)


def pad_students_rows(suspect: Suspect) -> dict[str, Batch]:
    """The data's answers, and of the base's the first that counts to each prompt."""
    rows = suspect.rows
    drawn = [i for i, part in enumerate(rows.parts) if part == "control"]
    first = np.array(drawn)[np.argmax(rows.valid[:, drawn], axis=1)]
    answers = {
        "data": [row[rows.part("data")] for row in rows.answers],
        "control": [row[i] for row, i in zip(rows.answers, first.tolist(), strict=True)],
    }
    longest = max(
        len(p) + len(a)
        for own in answers.values()
        for p, a in zip(rows.prompt_ids, own, strict=True)
    )
    width = min(round_up_width(longest), suspect.model.cfg.context)
    return {
        name: pad_pairs(rows.prompt_ids, own, width, pad_id=suspect.model.pad_id)
        for name, own in answers.items()
    }
