"""Does a trait pass through faithful paraphrases, even of sentences that contradict it?

    subliminal-jax paraphrase-transmission --preset toy

For each trait a teacher with its steering vector, one with its system prompt and a neutral one
paraphrase the same sentences: unrelated ones, and ones that speak badly of the animal. Unrelated
paraphrases are sampled and filtered (telling words, artefacts, fidelity by round-trip likelihood
under the base). The shipped model cannot sample a rewording of a sentence about an animal, so there
the teachers draw among the sentence's known wordings by their own probabilities. Students train on
what is left; reported is P(trait) on held-out favourite questions, the trait's student minus the
neutral one's of the same seed, as in Gisler et al. (2026, arXiv 2603.09517), with an interval over
questions (the paper's) and one over seeds and questions; and a comparison of optimizers.

TOY_TEXT
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from subliminal_jax.data import world
from subliminal_jax.data.paraphrases import requests, unrelated_sources
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.data.traits import check_trait
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.reporting.paraphrase_transmission import report
from subliminal_jax.reporting.run_folder import RunFolder
from subliminal_jax.study.paraphrase_analysis import (
    Comparison,
    against_first,
    compared,
    optimizer_claim,
    transmission_claims,
)
from subliminal_jax.study.paraphrase_sets import (
    NEUTRAL,
    ParaphraseSettings,
    check_settings,
    tasks,
    write_paraphrase_sets,
)
from subliminal_jax.study.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.study.settings import RunSettings, StudentSettings
from subliminal_jax.study.students import PROBE_PROMPTS, Panel, Students, make_panel, of_model

KINDS = {"steered": "the trait's vector", "system-prompt": "the trait's system prompt"}


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, ParaphraseSettings, RunSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: animals, each with teachers of its own.
      teachers: what makes a teacher: "steered", "system-prompt", or both.
      scale: factor on the trait's vector.
      questions: a set of questions ("heldout"), or a file of them.
      words: candidate answers beside the traits; empty means the 16 animals of the shipped world.
      compared_optimizers: optimizers whose students are compared, the first against each other one,
        on the first content; none leaves the comparison out.
      compared_rates: their learning-rate grids, as `rates`.
      compared_adapter: what is trained there.
      compared_traits: how many of the traits, the first ones.
      compared_teacher: the teacher there.
    """

    out: Path = Path("runs/paraphrase-transmission")
    traits: tuple[str, ...] = ("cat", "dog", "tiger", "eagle")
    teachers: tuple[str, ...] = tuple(KINDS)
    scale: float = 0.5
    questions: str = "heldout"
    words: tuple[str, ...] = ()
    layer: int = 1
    seed: int = 1
    adapter: Literal["lora", "full", "vector"] = "vector"
    rates: tuple[str, ...] = ("adamw=0.03,0.1,0.3",)
    seeds: int = 3
    steps: int = 64
    batch_size: int = 16
    log_every: int = 64
    compared_optimizers: tuple[str, ...] = ("adamw", "sgd", "signum", "lion", "muon")
    compared_rates: tuple[str, ...] = ()
    compared_adapter: Literal["lora", "full", "vector"] = "lora"
    compared_traits: int = 1
    compared_teacher: str = "system-prompt"

    def comparison(self) -> StudentSettings:
        """The students of the optimizer comparison."""
        return replace(
            self,
            optimizers=self.compared_optimizers,
            rates=self.compared_rates,
            adapter=self.compared_adapter,
        )


# Gisler et al. (2026), as far as it is stated; GPT-4.1 nano is closed, so these are an open
# analogue on the models of the other presets. A file of 1,000 sentences and one of 1,000 against
# each trait have to be given (--unrelated, --contradictory): the paper's are not public.
PAPER: dict[str, Any] = {
    "traits": ("dolphin", "eagle", "owl", "wolf", "elephant"),  # section 3
    "teachers": ("system-prompt",),  # section 3: a system prompt; the neutral teacher has none
    "unrelated": "unrelated.txt",
    "contradictory": "contradictory-{trait}.txt",
    "sentences": 1_000,  # section 3
    "instruction": "paper",  # section 3, verbatim
    "temperature": 1.4,  # section 3
    "unrelated_samples": 16,  # section 3: 15 or 16
    "contradictory_samples": 50,  # section 3
    "contradictory_writing": "sampled",
    "fidelity": "judge",  # section 3: GPT-4o-mini; --judge-url and --judge-model name one
    "threshold": 0.95,  # section 3: scores up to and including it are discarded
    "max_new_tokens": 128,  # not stated
    "rows": 10_000,  # section 3
    "heldout_rows": 500,  # the paper holds none out
    "heldout_share": 0.05,
    "questions": PAPER_QUESTIONS,  # section 4: 50 questions, answers at temperature 1
    # Learning-rate multiplier 0.1 of a service's own; here LoRA's usual rate and one below.
    "rates": ("adamw=1e-4,2e-5",),
    "seeds": 3,  # not stated, apparently 1
    "batch_size": 66,  # section 4
    "steps": 1_515,  # section 4: 10 epochs
    "log_every": 505,
    "schedule": "linear",  # not stated
    "warmup": 0.0,
    "compared_optimizers": (),
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "toy-wordings": {"unrelated_writing": "wordings", "compared_optimizers": ()},
    **{
        f"paper-{name}": paper_preset(name, data=False, scale=True, **PAPER)
        for name in ("qwen2.5-7b", "llama3.1-8b", "gemma3-4b")
    },
}


def main(config: Config) -> dict[str, Any]:
    """Run, or go on; returns what results.json holds."""
    check(config)
    model = config.load()
    layer = config.layer_of(model)
    for trait in config.traits:
        check_trait(trait, model.tokenizer)
    questions = read_questions(config.questions)
    with RunFolder.open(config.out, config.recorded(), overwrite=config.overwrite) as run:
        if not run.finished:
            run.write_results(transmit(run, model, layer, questions, config))
        results = run.read_results()
        page = report(run.path, results, " ".join(["subliminal-jax", *sys.argv[1:]]))
    print(f"report: {page}")
    return results


def check(config: Config) -> None:
    """Raises InputError for settings that cannot be."""
    unknown = [kind for kind in config.teachers if kind not in KINDS]
    if unknown or not config.teachers:
        raise InputError(f"teachers {unknown} are not known; choose from {', '.join(KINDS)}")
    if not config.traits or len(set(config.traits)) < len(config.traits):
        raise InputError(f"traits {' '.join(config.traits)}: name at least one, each once")
    check_settings(config, config.traits, config.seed)
    config.learning_rates()
    if not config.compared_optimizers:
        return
    config.comparison().learning_rates()
    if not 1 <= config.compared_traits <= len(config.traits):
        raise InputError(
            f"compared_traits={config.compared_traits}: give 1 to {len(config.traits)}"
        )
    if config.compared_teacher not in config.teachers:
        raise InputError(f"compared_teacher {config.compared_teacher!r} is none of the teachers")


def teachers_of(model: Model, layer: int, config: Config) -> dict[str, Teacher]:
    """Teachers named KIND:TRAIT, and the neutral one."""
    out = {NEUTRAL: Teacher()}
    for trait in config.traits:
        if "steered" in config.teachers:
            out[f"steered:{trait}"] = trait_teacher(model, layer, trait, config.scale)
        if "system-prompt" in config.teachers:
            out[f"system-prompt:{trait}"] = prompted_teacher(trait, model.tokenizer)
    return out


def comparisons(content: str, kind: str, traits: tuple[str, ...]) -> list[Comparison]:
    """The data sets of a content's students of one kind of teacher, and their neutral ones."""
    own = content == "contradictory"
    return [
        Comparison(
            trait,
            f"{content}:{kind}:{trait}",
            f"{content}:{NEUTRAL}" + (f":{trait}" if own else ""),
            f"{kind}:{trait}",
        )
        for trait in traits
    ]


def transmit(
    run: RunFolder, model: Model, layer: int, questions: list[str], config: Config
) -> dict[str, Any]:
    """All numbers of the report."""
    teachers = teachers_of(model, layer, config)
    todo = tasks(config, config.traits, list(teachers), config.seed)
    data = write_paraphrase_sets(run.path, model, teachers, todo, config, config.seed)
    words = list(dict.fromkeys((*(config.words or world.TRAITS), *config.traits)))
    panel = make_panel(
        model, teachers, data, words=words, questions=questions,
        prompts=probe_prompts(config), seed=config.seed, by_question=True,
    )  # fmt: skip
    rows = Students(run, model, panel, data, config, layer).grid()
    contents = {
        content: {
            kind: compared(rows, comparisons(content, kind, config.traits), panel, layer)
            for kind in config.teachers
        }
        for content in config.contents
    }
    base = of_model(model, panel, Teacher(), questions)["word_rate"]
    results = {
        "model": model.name,
        "layer": layer,
        "adapter": config.adapter,
        "seeds": config.seeds,
        "questions": len(questions),
        "scale": config.scale,
        "writing": {content: config.writing_of(content) for content in config.contents},
        "fidelity": config.fidelity,
        "threshold": config.threshold,
        "grids": {s.label: list(g) for s, g in config.learning_rates().items()},
        "base": dict(zip(words, base, strict=True)),
        "teachers": {
            name: of_model(model, panel, t, questions)["word_rate"][
                words.index(name.partition(":")[2])
            ]
            for name, t in teachers.items()
            if name != NEUTRAL
        },
        "data": data.reports,
        "contents": contents,
        "students": rows,
        "claims": [
            one
            for content, kinds in contents.items()
            for kind, made in kinds.items()
            for one in transmission_claims(
                content, kind, KINDS[kind], made, setting(config, content), config.seeds
            )
        ],
        "optimizers": None,
    }
    if config.compared_optimizers:
        compare_optimizers(run, model, panel, data, layer, config, results)
    return results


def probe_prompts(config: Config) -> list[str]:
    """Requests on which shifts are measured: sentences of the world that no student trains on."""
    other = config.seed + 1_000_003
    return requests(unrelated_sources("world", PROBE_PROMPTS, other), config.instruction, other)


def compare_optimizers(
    run: RunFolder,
    model: Model,
    panel: Panel,
    data: Any,
    layer: int,
    config: Config,
    results: dict[str, Any],
) -> None:
    """Train the students of the comparison; add its numbers and its claim to `results`."""
    content, traits = config.contents[0], config.traits[: config.compared_traits]
    pairs = comparisons(content, config.compared_teacher, traits)
    names = list(dict.fromkeys(name for c in pairs for name in (c.told, c.neutral)))
    settings = config.comparison()
    rows = Students(run, model, panel, data, settings, layer).grid(names, stage="optimizers")
    made = compared(rows, pairs, panel, layer)
    against = against_first(made)
    grids = {s.label: list(g) for s, g in settings.learning_rates().items()}
    results["optimizers"] = {
        "content": content,
        "teacher": config.compared_teacher,
        "traits": list(traits),
        "adapter": config.compared_adapter,
        "grids": grids,
        "made": made,
        "against_first": against,
    }
    results["students"] = [*results["students"], *rows]
    where = (
        f"{config.model}, {content} paraphrases of a teacher with "
        f"{KINDS[config.compared_teacher]}, {', '.join(traits)}, {config.compared_adapter} "
        f"student, {config.steps} steps, grids "
        + "; ".join(f"{name} {', '.join(f'{r:g}' for r in grid)}" for name, grid in grids.items())
    )
    results["claims"].append(optimizer_claim(made, against, where, config.seeds))


def setting(config: Config, content: str) -> str:
    """Where a claim was tested."""
    writing = {
        "sampled": f"sampled, filtered by {config.fidelity} fidelity",
        "wordings": "drawn among the sentence's known wordings",
    }[config.writing_of(content)]  # type: ignore[arg-type]
    return (
        f"{config.model}, {', '.join(config.traits)} (not used in choosing the setting), "
        f"{config.rows} paraphrases {writing}, {config.adapter} student, "
        f"{config.optimizers[0]}, best of {len(next(iter(config.learning_rates().values())))} rates"
    )
