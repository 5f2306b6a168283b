"""Teachers whose weights are not the base's: a fine-tuned checkpoint, or an adapter of PEFT."""

from dataclasses import dataclass, replace
from pathlib import Path

from subliminal_jax.bounds import flag
from subliminal_jax.data.shared_data import resolve_shared
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model, outline_model
from subliminal_jax.models.spec import Params
from subliminal_jax.runs.settings import ModelSettings
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.adapter_config import read_adapter_config
from subliminal_jax.training.adapters import attach, merge
from subliminal_jax.training.adapters_io import CONFIG, load_adapter


@dataclass(frozen=True, kw_only=True)
class TeacherWeightSettings(ModelSettings):
    """The weights of the teacher, where they are not the base's.

    Attributes:
      teacher_model: the teacher has the weights of this model, a fine-tuned one of the same config
        and tokenizer: a local folder in Hugging Face format or a hub name.
      teacher_adapter: the teacher has this adapter of PEFT (LoRA) on its weights: a folder.
    """

    teacher_model: str | None = None
    teacher_adapter: Path | None = None

    @property
    def changes_weights(self) -> bool:
        """Whether the teacher has other weights than the base."""
        return self.teacher_model is not None or self.teacher_adapter is not None

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for a teacher that is no variant of the model, and for an adapter that
        does not fit it."""
        if self.teacher_model is not None:
            other = outline_model(resolve_shared(self.teacher_model))
            differing = [
                name
                for name, value in vars(model.cfg).items()
                if name != "context" and value != getattr(other.cfg, name)
            ]
            if differing:
                raise InputError(
                    f"--teacher-model {self.teacher_model} is no variant of {model.name}: their "
                    f"configs differ in {', '.join(differing)}; name a model that was fine-tuned "
                    "from it"
                )
            if other.tokenizer.get_vocab() != model.tokenizer.get_vocab():
                raise InputError(
                    f"--teacher-model {self.teacher_model} has another vocabulary than "
                    f"{model.name}, which students read with"
                )
        if self.teacher_adapter is not None:
            file = self.teacher_adapter / CONFIG
            if not file.is_file():
                raise InputError(
                    f"{flag('teacher_adapter')} {self.teacher_adapter}: no folder with an {CONFIG}"
                )
            read_adapter_config(file, model.cfg)

    def give_weights(self, teacher: Teacher, model: Model) -> Teacher:
        """`teacher` with the weights of these settings.

        Raises InputError for a model that cannot be loaded and for an adapter that does not fit it.
        """
        if not self.changes_weights:
            return teacher
        source = model if self.teacher_model is None else self.load_named(self.teacher_model)
        params: Params = source.params
        if self.teacher_adapter is not None:
            trainable, adapter = load_adapter(self.teacher_adapter, model.cfg, model=source.name)
            params = merge(attach(params, trainable, model.cfg, adapter)[0])
        return replace(teacher, params=params)
