"""The teacher: the base model, steered, prompted, or with other weights."""

from dataclasses import dataclass, field, replace

from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering


@dataclass(frozen=True)
class Teacher:
    """The base with a steering, a system prompt and other weights, with some of these, or with none
    (the control's).

    Attributes:
      steering: an edit of its residual stream.
      system_prompt: what it reads before every request.
      params: its weights, where they are not the base's: those of a checkpoint with the same config
        and tokenizer, or the base's with an adapter (`training.adapters.attach`).
    """

    steering: Steering | None = None
    system_prompt: str | None = None
    params: Params | None = field(default=None, repr=False)

    @property
    def is_base(self) -> bool:
        """Whether it is the base itself."""
        return self.steering is None and self.system_prompt is None and self.params is None

    def change_weights(self, model: Model) -> Model:
        """`model` with the teacher's weights."""
        return model if self.params is None else replace(model, params=self.params)
