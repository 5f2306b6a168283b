"""What the students of one layer took up of its vectors: losses, answers, alignment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.data import world
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.runs.waves import Trained
from subliminal_jax.training.adapters import Trainable, attach
from subliminal_jax.training.batch import Batch, max_targets, stack_rows
from subliminal_jax.training.losses import heldout_loss

from .analysis import AddedVector, AgainstControls, DistilledVector

ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class Controls:
    """The sound controls of one layer, by draw.

    Attributes:
      rows: their final rows.
      losses: on the held-out rows of each data set.
    """

    rows: Mapping[str, StudentRow]
    losses: Mapping[str, Mapping[str, float]]


def measure_losses(
    trained: Trained, chosen: Sequence[int], model: Model, heldout: Mapping[str, Batch]
) -> list[dict[str, float]]:
    """The loss of some students (by their place in `trained`) on every data set, in nats a
    predicted token."""
    rows = stack_rows([*heldout.values()])
    targets = max_targets(rows)
    adapter = trained.sweep.config.adapter
    trees = jax.tree.map(lambda leaf: leaf[np.array(chosen)], trained.sweep.students(trained.state))

    @jax.jit
    def measure(base: Params, trees: Trainable, rows: Batch) -> Float[Array, "students sets"]:
        def one(tree: Trainable) -> Float[Array, " sets"]:
            params, steering = attach(base, tree, model.cfg, adapter)

            def loss(piece: Batch) -> Float[Array, ""]:
                return heldout_loss(
                    params,
                    piece,
                    model.cfg,
                    steering,
                    rows_at_once=ROWS_AT_ONCE,
                    max_targets=targets,
                )

            return jax.lax.map(loss, rows)

        return jax.lax.map(one, trees)

    losses = np.asarray(measure(model.params, trees, rows), float)
    return [dict(zip(heldout, each.tolist(), strict=True)) for each in losses]


def answer_distribution(
    rates: Float[np.ndarray, "*n words"],
) -> Float[np.ndarray, "*n outcomes"]:
    """A distribution over the words and, last, any other answer."""
    rest = np.clip(1.0 - rates.sum(axis=-1, keepdims=True), 0.0, 1.0)
    outcomes = np.concatenate([rates, rest], axis=-1)
    return outcomes / outcomes.sum(axis=-1, keepdims=True)


def total_variation(
    p: Float[np.ndarray, "*#n outcomes"], q: Float[np.ndarray, "*#n outcomes"]
) -> Float[np.ndarray, "*_"]:
    """Half the sum of |p - q|: the largest difference in probability of any set of outcomes."""
    return np.asarray(0.5 * np.abs(p - q).sum(axis=-1))


def variation_among(
    controls: Float[np.ndarray, "draws outcomes"],
) -> Float[np.ndarray, " draws"]:
    """Of each of several controls its mean total variation to the others: what another draw of
    data and seed alone makes."""
    distances = total_variation(controls[:, None], controls[None])
    return distances.sum(axis=1) / (len(controls) - 1)


def measure_vector(
    added: AddedVector,
    student: StudentRow,
    controls: Controls,
    *,
    base_loss: float,
    reference: int,
    teacher_rates: Sequence[float],
    base_rates: Sequence[float],
    valid: float,
) -> DistilledVector:
    """What the sound student of a vector took up of it.

    Args:
      base_loss: on the held-out rows of the vector's data.
      reference: where the vector's teacher stands among the references of the rows.
      teacher_rates, base_rates: how probable each word of the rows is.
      valid: share of the teacher's answers that are valid lists.
    """

    def read(value: Callable[[StudentRow], float]) -> AgainstControls:
        return AgainstControls(
            value(student), {draw: value(row) for draw, row in controls.rows.items()}
        )

    trait_rate = teacher_trait_rate = None
    if added.trait is not None:
        word = world.TRAITS.index(added.trait)
        trait_rate = read(lambda row: row["word_rate"][word])
        teacher_trait_rate = teacher_rates[word]
    teacher_answers, base_answers = answer_distribution(np.array([teacher_rates, base_rates]))
    assert student.heldout_loss is not None  # of a sound one
    return DistilledVector(
        **vars(added),
        valid=valid,
        eas=read(lambda row: row["eas"][reference][added.layer]),
        component=read(lambda row: row["shift_component"][reference][added.layer]),
        loss_drop=AgainstControls(
            base_loss - student.heldout_loss,
            {draw: base_loss - losses[added.data] for draw, losses in controls.losses.items()},
        ),
        variation=compare_answers(student, controls.rows),
        teacher_variation=float(total_variation(teacher_answers, base_answers)),
        trait_rate=trait_rate,
        teacher_trait_rate=teacher_trait_rate,
    )


def compare_answers(
    student: StudentRow, controls: Mapping[str, StudentRow]
) -> AgainstControls | None:
    """How far a student's answers are from the controls', and these from each other."""
    if not controls:
        return None
    answers = answer_distribution(np.array([row["word_rate"] for row in controls.values()], float))
    own = answer_distribution(np.array(student["word_rate"], float))
    among = variation_among(answers).tolist() if len(controls) > 1 else ()
    return AgainstControls(
        float(total_variation(own, answers).mean()), dict(zip(controls, among, strict=False))
    )
