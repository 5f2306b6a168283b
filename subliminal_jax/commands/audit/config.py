"""Settings of `audit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.audit.settings import (
    AuditSettings,
    BlindSettings,
    CleaningSettings,
    ProposalSettings,
    parse_source,
)
from subliminal_jax.audit.vocabulary import choose_words
from subliminal_jax.bounds import Needs, Text
from subliminal_jax.errors import InputError
from subliminal_jax.files import check_own_file
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.settings import SteeredModelSettings

from .rest import is_written_here

PRESETS: dict[str, dict[str, Any]] = {"toy": {}}


@dataclass(frozen=True, kw_only=True)
class Config(
    CleaningSettings, BlindSettings, ProposalSettings, AuditSettings, SteeredModelSettings
):
    """Settings; the defaults are the toy's.

    Attributes:
      data: a JSONL file or hub name; or what the project's own teacher writes: "clean",
        "steered:TRAIT:SCALE" or "system-prompt:TRAIT".
      system_prompts: candidates by the text of their system prompt.
      vectors: candidates by safetensors files with a vector for the layer.
    """

    out: Path = Path("runs/audit")
    data: str = "steered:wolf:1"
    system_prompts: Annotated[tuple[str, ...], Text(prose=True)] = ()
    vectors: Annotated[tuple[str, ...], Needs("forms", ("direction",))] = ()

    def check_models(self) -> None:
        super().check_models()
        self._check_rest()

    def _check_rest(self) -> None:
        """Raises InputError where there is no file whose rows could be written, and for a file to
        write that is somebody else's."""
        file = self.write_clean
        if file is None:
            return
        if not Path(self.data).is_file():
            raise InputError(
                f"--write-clean {file} writes the rows of a file that are left: --data "
                f"{self.data} is no file"
            )
        if file.suffix != ".jsonl":
            raise InputError(f"--write-clean {file}: give the name of a .jsonl file")
        if file.exists() and file.samefile(self.data):
            raise InputError(f"--write-clean {file} is the data themselves: name another file")
        check_own_file(file, "file of rows", lambda path: is_written_here(path, self.out))

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for a teacher of `data` that cannot be, and for a vocabulary that
        cannot be read or is too small."""
        parse_source(self.data, model)
        if self.propose:
            choose_words(self, model.tokenizer, self.traits)
