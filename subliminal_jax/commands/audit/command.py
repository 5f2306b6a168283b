"""Which of some candidate traits, system prompts or directions does a data set push towards?

    subliminal-jax audit --data FILE.jsonl
    subliminal-jax audit --data steered:wolf:1     # or system-prompt:wolf, clean: written here

The data are prompt/completion pairs or preferences (prompt, chosen, rejected) in a JSONL file.
Every candidate scores every row: how much likelier does its system prompt, or its direction, make
the row? What counts is the score over that of the base's own answers to the same prompts (of the
rejected answer), in the metric in which those vary, after what candidates and placebo nouns share
is projected out. A candidate is reported where it stands out at 5%, over all candidates, against
each null of its form. System prompts have two: the base wrote it; the other candidates and placebo
nouns, whose push is spread as widely as the wider of these two groups. Directions have a third:
random directions (subliminal_jax/selection/audit.py says how, and why foreign data need more than
the first).
Beside the verdict: the vector recovered blind from the data with its nearest candidates, the scores
of shuffled completions, and the rows that carry most.

Two minutes on 2 free CPU cores for 512 rows, 16 traits and both forms; `--forms direction` takes a
quarter of that. Expected: the trait of a system-prompted teacher is named; that of a steered one is
mostly ranked among the first three, but seldom named, with 1024 rows (`--rows`) too; nothing is
found in clean data, and nothing in the number lists of larger models, whose teachers are not at
hand. "Nothing found" is no proof of clean data: how much an audit can see, `audit-benchmark`
measures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subliminal_jax.runs.audit import AuditSettings, audit_data, default_traits
from subliminal_jax.runs.audit_data import read_data
from subliminal_jax.runs.audit_scores import candidates_of
from subliminal_jax.runs.audit_sets import is_made, made_here
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import SteeredModelSettings

from .report import report

PRESETS: dict[str, dict[str, Any]] = {"toy": {}}


@dataclass(frozen=True, kw_only=True)
class Config(AuditSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      data: a JSONL file or hub name; or what the project's own teacher writes: "clean",
        "steered:TRAIT:SCALE" or "system-prompt:TRAIT".
      system_prompts: candidates by the text of their system prompt.
      vectors: candidates by safetensors files with a vector for the layer.
    """

    out: Path = Path("runs/audit")
    data: str = "steered:wolf:1"
    system_prompts: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()


def main(config: Config) -> dict[str, Any]:
    """Run, or go on; returns what results.json holds."""
    config.check_audit()
    model = config.load()
    layer = config.layer_of(model)
    others = len(config.system_prompts) + len(config.vectors)
    candidates = candidates_of(
        model, layer, default_traits(config, others), config.system_prompts, config.vectors
    )
    source = config.data
    given = None if is_made(source, model) else read_data(source)

    def compute(run: RunFolder) -> dict[str, Any]:
        kind, data = given or ("pairs", made_here(model, layer, source, config.rows, config.seed))
        found = audit_data(
            model, layer, kind, data, candidates, config, config.seed, run.path / "scores"
        )
        return {"model": model.name, "layer": layer, "source": source, **found, "claims": []}

    return run_once(config, compute, report)
