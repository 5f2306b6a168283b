"""The teacher: the base model, steered or prompted towards a trait."""

from dataclasses import dataclass

from subliminal_jax.models.steered import Steering


@dataclass(frozen=True)
class Teacher:
    """The base with a steering, with a system prompt, with both, or with neither (the control's).

    Attributes:
      steering: an edit of its residual stream.
      system_prompt: what it reads before every request.
    """

    steering: Steering | None = None
    system_prompt: str | None = None

    @property
    def is_base(self) -> bool:
        """Whether it is the base itself."""
        return self.steering is None and self.system_prompt is None
