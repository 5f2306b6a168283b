"""What diagnostics see of the students of a sweep, and what they are."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Int

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.training.adapters import Trainable
from subliminal_jax.training.guards import Model


class StudentView(NamedTuple):
    """What a diagnostic sees of one student at a logged step.

    `gradient` and `update` are those of the last step, the gradient as the optimizer got it (after
    clipping, if any), the update zero for a diverged student. `before` are the weights they were
    taken at, `trainable` the weights to evaluate: `before + update`, but for the averages of
    schedule-free. `data_set` is the index of its data set among the sorted names. `model` turns a
    trainable tree into (params, steering).
    """

    trainable: Trainable
    before: Trainable
    gradient: Trainable
    update: Trainable
    data_set: Int[Array, ""]
    model: Model


@runtime_checkable
class StudentMeasure(Protocol):
    """A diagnostic of single students at logged steps: a pytree of the arrays that it needs."""

    def measure_student(self, view: StudentView, cfg: ModelConfig, /) -> dict[str, Array]:
        """The values of one student by name, inside the compiled program."""
        ...
