"""The setting of a claim, in words: all that a reader needs to know where it was tested."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainedStudents:
    """How students were trained.

    Attributes:
      adapter: what was trained, as "lora" or "vector".
      steps: of the optimizer.
      optimizer: its label, with the chosen rate if it is one.
      rate: how the rate was chosen, as "rate chosen on 2 other traits".
    """

    adapter: str
    steps: int
    optimizer: str
    rate: str


def describe_setting(
    *,
    model: str,
    layer: int | str,
    vectors: str,
    carrier: str,
    students: TrainedStudents | None,
) -> str:
    """One line.

    Args:
      layer: the steering layer, from 0, or in words.
      vectors: whose and how many, as "vectors of 8 traits".
      carrier: the texts that were trained on or read, as "filtered number lists".
      students: None where none are trained.
    """
    where = f"after block {layer} (from 0)" if isinstance(layer, int) else layer
    trained = "no students"
    if students is not None:
        trained = (
            f"{students.adapter} students, {students.steps} steps of {students.optimizer}, "
            f"{students.rate}"
        )
    return "; ".join((f"{model}, {vectors} {where}".strip(), carrier, trained))
