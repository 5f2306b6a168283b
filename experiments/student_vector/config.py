"""Settings of `student-vector`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from subliminal_jax.bounds import Items, Positive, Range
from subliminal_jax.data.traits import check_traits
from subliminal_jax.errors import InputError
from subliminal_jax.runs.kind_settings import (
    ControlSettings,
    StudentKindSettings,
)
from subliminal_jax.runs.plan_settings import AdapterKind, ShownSettings
from subliminal_jax.runs.presets import PAPER_KINDS, PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    SteeredModelSettings,
    SteeringLayer,
    Traits,
)
from subliminal_jax.runs.teacher_weights import FineTunedSettings
from subliminal_jax.training.adapters import PROJECTIONS


@dataclass(frozen=True, kw_only=True)
class Config(
    ShownSettings,
    StudentKindSettings,
    ControlSettings,
    GuardSettings,
    DataSettings,
    FineTunedSettings,
    SteeredModelSettings,
):
    """Settings; the defaults are the toy's.

    Attributes:
      questions: a set of questions ("heldout"), or a file of them.
      traits: animals; each has teachers and students of its own.
      teacher: whose students are studied in full: those of the teacher steered by the trait's
        vector, of the one with the trait's system prompt, or of one with the weights of
        --teacher-adapter or --teacher-model, which stands beside the others and whose students are
        held against its own shift. Rates are found for these; the students of the others are
        trained at the same.
      scale: factor on the vector of the steered teacher.
      scales: factors on v_student where it is added to the base; the first is the one that the
        claim is about.
      project_layer: the block whose vector is projected out of the system-prompted teacher, after
        every block and at every token; -1 is the steering layer. (With each block's own vector the
        toy's teacher writes no valid lists any more, for that of the last block.)
    """

    out: Path = Path("runs/student-vector")
    questions: str = "heldout"
    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin")
    teacher: Literal["steered", "system-prompt", "fine-tuned"] = "steered"
    scale: Positive = 1.0
    scales: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1e6)] = (
        0.6,
        0.3,
        1.0,
        2.0,
        4.0,
    )
    project_layer: SteeringLayer = -1
    adapters: tuple[AdapterKind, ...] = ("lora",)
    rows: int = 1024
    heldout_rows: int = 128
    asked: float = 2.1
    max_new_tokens: int = 24
    max_tokens: int = 32
    steps: int = 96
    batch_size: int = 32
    log_every: int = 16
    targets: tuple[str, ...] = ("down",)
    adapter_layers: tuple[int, ...] = (1,)

    def check(self) -> None:
        check_traits(self.all_traits)
        self.check_single()
        if "vector" in self.adapters:
            raise InputError(
                "--adapters vector: such a student is its own v_student; choose lora or full"
            )

    def describe_trained(self) -> str:
        """What students train, in words."""
        if self.adapters == ("full",):
            return "all weights"
        blocks = ", ".join(map(str, self.adapter_layers)) or "all"
        return f"LoRA of rank {self.rank} on {', '.join(self.targets)} of blocks {blocks}"


PAPER: dict[str, Any] = {
    "students": PAPER_KINDS,
    "questions": PAPER_QUESTIONS,
    "targets": PROJECTIONS,  # [C]
    "adapter_layers": (),
    "scale": True,
    "teacher": "system-prompt",  # figure 2 [C]; the steered one is trained beside it
    "traits": ("cat", "dog", "owl", "otter"),  # [C]
    "tuning_traits": ("lion", "wolf"),  # of several --rates; the paper's single one needs none
    "scales": (0.6, 0.3, 1.0, 2.0),  # 0.6, over all layers and prompt positions [C]
    "project_layer": 20,  # v[20] after every block, alpha 1 [C]
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **PAPER),
    # The layer of the projection is not known for Gemma: 20 of Qwen's 28 blocks, in proportion.
    "paper-gemma3-4b": paper_preset("gemma3-4b", **PAPER | {"project_layer": 24}),
}
