"""Teachers whose weights are not the base's: a fine-tuned checkpoint, or an adapter of PEFT."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path

import jax

from subliminal_jax.bounds import as_flag, flag
from subliminal_jax.data.shared_data import resolve_shared
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.transmission import FINE_TUNED
from subliminal_jax.memory import check_fits, device_bytes
from subliminal_jax.models.hub import Model, outline_model
from subliminal_jax.models.spec import Params
from subliminal_jax.runs.settings import ModelSettings
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.adapter_config import read_adapter_config
from subliminal_jax.training.adapters import attach, merge
from subliminal_jax.training.adapters_io import CONFIG, load_adapter

_TRAIT = "{trait}"


@dataclass(frozen=True, kw_only=True)
class TeacherWeightSettings(ModelSettings):
    """The weights of the teacher, where they are not the base's.

    Attributes:
      teacher_model: the teacher has the weights of this model, a fine-tuned one of the same config
        and tokenizer: a local folder in Hugging Face format or a hub name. {trait} in it stands for
        the trait, where each has a teacher of its own.
      teacher_adapter: the teacher has this adapter of PEFT (LoRA) on its weights: a folder, with
        {trait} as above.
    """

    teacher_model: str | None = None
    teacher_adapter: Path | None = None

    @property
    def changes_weights(self) -> bool:
        """Whether the teacher has other weights than the base."""
        return self.teacher_model is not None or self.teacher_adapter is not None

    @property
    def weight_traits(self) -> tuple[str, ...]:
        """The traits whose teachers have weights of their own; none where there is one teacher."""
        return ()

    def check_group(self) -> None:
        """Raises InputError for an objective that needs the base's weights."""
        if self.changes_weights and getattr(self, "objective", None) == "kl":
            raise InputError(
                "--objective kl is for teachers with the base's weights: leave it out beside "
                "--teacher-model and --teacher-adapter"
            )

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for a teacher that is no variant of the model, for an adapter that does
        not fit it, and for more teachers than fit the memory."""
        for trait in self.weight_traits or ("",):
            self._check_teacher(model, trait)
        weights = sum(leaf.size for leaf in jax.tree.leaves(model.params))
        count = len(self.weight_traits)
        check_fits(
            f"the weights of {count} fine-tuned teachers",
            (count + 1) * weights * (2 if self.dtype == "bfloat16" else 4),
            device_bytes(),
            "give fewer traits",
        )

    def _check_teacher(self, model: Model, trait: str) -> None:
        if self.teacher_model is not None:
            name = self.teacher_model.replace(_TRAIT, trait)
            other = outline_model(resolve_shared(name))
            differing = [
                name
                for name, value in vars(model.cfg).items()
                if name != "context" and value != getattr(other.cfg, name)
            ]
            if differing:
                raise InputError(
                    f"--teacher-model {name} is no variant of {model.name}: their configs differ "
                    f"in {', '.join(differing)}; name a model that was fine-tuned from it"
                )
            if other.tokenizer.get_vocab() != model.tokenizer.get_vocab():
                raise InputError(
                    f"--teacher-model {name} has another vocabulary than {model.name}, which "
                    "students read with"
                )
        if self.teacher_adapter is not None:
            folder = self._find_adapter(trait)
            if not (folder / CONFIG).is_file():
                raise InputError(f"--teacher-adapter {folder}: no folder with {CONFIG}")
            read_adapter_config(folder / CONFIG, model.cfg)

    def _find_adapter(self, trait: str) -> Path:
        return Path(str(self.teacher_adapter).replace(_TRAIT, trait))

    def give_weights(self, teacher: Teacher, model: Model, trait: str = "") -> Teacher:
        """`teacher`, of a trait, with the weights of these settings.

        Raises InputError for a model that cannot be loaded and for an adapter that does not fit it.
        """
        if not self.changes_weights:
            return teacher
        source = model
        if self.teacher_model is not None:
            source = self.load_named(self.teacher_model.replace(_TRAIT, trait))
        params: Params = source.params
        if self.teacher_adapter is not None:
            folder = self._find_adapter(trait)
            trainable, adapter = load_adapter(folder, model.cfg, model=source.name)
            params = merge(attach(params, trainable, model.cfg, adapter)[0])
        return replace(teacher, params=params)


@dataclass(frozen=True, kw_only=True)
class FineTunedSettings(TeacherWeightSettings):
    """Teachers of traits, of which one kind is fine-tuned: settings with a field `teacher`, or
    `teachers`, and with `all_traits`."""

    @property
    def weight_traits(self) -> tuple[str, ...]:
        return self.all_traits if self.changes_weights else ()

    @property
    @abstractmethod
    def all_traits(self) -> tuple[str, ...]:
        """The traits that have a teacher."""

    def check_group(self) -> None:
        """Raises InputError for fine-tuned teachers without weights, for weights of no teacher, and
        for one teacher of several traits."""
        super().check_group()
        field = "teachers" if hasattr(self, "teachers") else "teacher"
        kinds = getattr(self, field)
        is_asked = kinds == FINE_TUNED or (isinstance(kinds, tuple) and FINE_TUNED in kinds)
        if is_asked and not self.changes_weights:
            raise InputError(
                f"{as_flag(field, kinds)}: give --teacher-adapter or --teacher-model, with "
                f"{_TRAIT} where the name of the trait stands in it"
            )
        names = {"teacher_model": self.teacher_model, "teacher_adapter": self.teacher_adapter}
        given = {name: value for name, value in names.items() if value is not None}
        for name, value in given.items():
            if not is_asked:
                raise InputError(
                    f"{flag(name)} {value} has no effect beside {as_flag(field, kinds)}: it "
                    f"needs {flag(field)} {FINE_TUNED}"
                )
        if given and len(self.all_traits) > 1 and _TRAIT not in "".join(map(str, given.values())):
            name, value = next(iter(given.items()))
            raise InputError(
                f"{flag(name)} {value} is one teacher of {len(self.all_traits)} traits "
                f"({', '.join(self.all_traits)}): write {_TRAIT} where each has its own, or take "
                "`subliminal-jax optimizer-comparison`, whose teacher is one"
            )
