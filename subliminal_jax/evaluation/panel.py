"""What the students of a run are measured against: one set of arrays that all measures draw on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Array, Float

from subliminal_jax.diagnostics.alignment import At, Probe, make_probe
from subliminal_jax.evaluation.elicitation import Questions, encode_questions
from subliminal_jax.models.hub import Model
from subliminal_jax.models.tokenizer import encode_chats
from subliminal_jax.training.fixed_rows import FixedRows

NO_TEACHER = "none"  # the reference, a zero, where all data are the plain base's


@dataclass(frozen=True, eq=False)
class Panel:
    """References, words and rows of a run's measures.

    Attributes:
      model: the base.
      layer: the steering layer.
      prompts: the probe's; no student trains on them.
      asked: the questions.
      words: the words whose rates are measured, in the order of `WordRates`.
      references: names of the teachers whose shifts students are held against, in the order of
        `Alignment`.
      data_names: of the students' data sets, in the order of a sweep.
      probe: the prompts, encoded.
      base_mean: the base's mean activation on the probe.
      shifts: each reference's mean activation less the base's; at the layer of an added vector, it.
      questions: the questions, encoded; None where no words are asked about.
      fixed_rows: training rows of each data set on which the training loss is measured.
      stem: what answers begin with before the words, if anything.
      at: where in the probe's prompts activations are read.
      by_question: whether rates are also given for each question alone.
    """

    model: Model
    layer: int
    prompts: tuple[str, ...]
    asked: tuple[str, ...]
    words: tuple[str, ...]
    references: tuple[str, ...]
    data_names: tuple[str, ...]
    probe: Probe
    base_mean: Float[Array, "layers dim"]
    shifts: Float[Array, "references layers dim"]
    questions: Questions | None
    fixed_rows: FixedRows
    at: At = "last"
    by_question: bool = False
    stem: str = ""

    def vectors(self) -> dict[str, Float[Array, " dim"]]:
        """The teachers' shifts at the steering layer, by name; of a steered teacher, its vector."""
        return {
            name: shift[self.layer]
            for name, shift in zip(self.references, self.shifts, strict=True)
            if name != NO_TEACHER
        }

    def prompted(self, system_prompt: str | None) -> "Panel":
        """The same questions and probe behind a system prompt."""
        if system_prompt is None:
            return self
        return replace(
            self,
            probe=encode_probe(self.model, self.prompts, system_prompt),
            questions=ask_about(self.model, self.asked, self.words, system_prompt, self.stem),
        )


def ask_about(
    model: Model,
    questions: Sequence[str],
    words: Sequence[str],
    system_prompt: str | None = None,
    stem: str = "",
) -> Questions | None:
    """The questions whose answers may begin with `words`, after `stem`; None without words."""
    if not words:
        return None
    return encode_questions(model.tokenizer, list(questions), list(words), system_prompt, stem)


def encode_probe(model: Model, prompts: Sequence[str], system_prompt: str | None = None) -> Probe:
    """The probe of these prompts, as a chat behind the system prompt, if any."""
    return make_probe(encode_chats(model.tokenizer, prompts, system_prompt), model.cfg)
