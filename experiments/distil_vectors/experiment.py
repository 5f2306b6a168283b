"""Which vectors do students take up, and which of them change what they recognisably do?

    subliminal-jax distil-vectors
    subliminal-jax distil-vectors --kinds trait centred random --norms 0.15 0.3 0.6

"Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026), sections 4 and 5,
figure 6 and appendix F. Teachers are the base with a vector after a block: a trait's (semantic), a
random one, a trait's less the mean over all traits, or one from a file; all of the same norms.
Students train on the number lists that each teacher writes, controls on the base's own. A vector is
distilled where the student's shift aligns with it (EAS) and the student's loss on its teacher's
unseen lists falls more than a control's; behaviour has changed where the distribution of answers to
favourite-animal questions is further from a control's than controls are from each other.

Toy preset: about six minutes on 2 CPU cores. Expected: trait vectors and random ones both align
(random ones less); the answers of trait students move further from the controls'.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import (
    Teacher,
    random_teacher,
    teacher_from_file,
    trait_vectors,
)
from subliminal_jax.data.traits import check_traits, names_of
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.data_sets import DataSets, make_objective, write_data_sets
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    ObjectiveSettings,
    SteeredModelSettings,
    StudentSettings,
)
from subliminal_jax.runs.students import Students, make_panel, measure_teacher
from subliminal_jax.steering.vectors import random_vector
from subliminal_jax.training.adapters import PROJECTIONS
from subliminal_jax.training.arms import Arm

from .analysis import claims, pooled
from .distillation import (
    among_controls,
    answers,
    losses_on_all,
    total_variation,
)
from .report import report

TRAITS = list(world.TRAITS)
Kind = Literal["trait", "centred", "random"]


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, ObjectiveSettings, DataSettings, SteeredModelSettings):
    """Settings of the study, on the shipped model by default.

    Attributes:
      questions: a set of questions ("heldout"), or a file of them.
      traits: animals whose vectors are distilled.
      kinds: trait vectors as they are, less the mean over all traits (appendix F.2), and random.
      randoms: number of random vectors.
      files: safetensors files with a vector each, of the model's width.
      layers: blocks after which vectors are added; empty means the steering layer alone.
      norms: norms of the vectors, in units of the residual stream's at their layer.
      steered_block: adapt the steered block alone, in place of `adapter_layers`.
    """

    out: Path = Path("runs/distil-vectors")
    questions: str = "heldout"
    traits: tuple[str, ...] = ("owl", "wolf")
    kinds: tuple[Kind, ...] = ("trait", "random")
    randoms: int = 2
    files: tuple[str, ...] = ()
    layers: tuple[int, ...] = (1, 2)
    norms: tuple[float, ...] = (0.3, 0.6)
    steered_block: bool = True
    rows: int = 1024
    heldout_rows: int = 64
    asked: float = 1.8
    max_new_tokens: int = 24
    max_tokens: int = 32
    optimizers: tuple[str, ...] = ("adamw:b2=0.95",)
    rates: tuple[str, ...] = ("adamw:b2=0.95=5e-3,1.5e-2",)
    steps: int = 48
    batch_size: int = 32
    log_every: int = 48
    targets: tuple[str, ...] = ("down",)


_PAPER: dict[str, Any] = {
    "questions": PAPER_QUESTIONS,
    "targets": PROJECTIONS,  # [C]
    "traits": ("cat", "dog", "owl", "otter"),  # [C]
    "randoms": 4,
    "layers": (),
    "norms": (0.1, 0.3),  # ours: the paper's norms of Gaussian vectors are not known
    "steered_block": False,
    "rows": 79_500,  # 100,000 generations [N3], of which we keep up to four fifths
    "heldout_rows": 500,
    "asked": 1.25,
    "steps": 99_350,  # 10 epochs [N3] in batches of 8
    "seeds": 3,  # [N3]
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **_PAPER),
    "paper-gemma3-4b": paper_preset("gemma3-4b", **_PAPER),
}


def main(config: Config) -> dict[str, Any]:
    """Run the study, or continue it; returns what results.json holds."""
    check(config)
    questions = read_questions(config.questions)
    model = config.load()
    layers = tuple(model.cfg.check_layer(x) for x in config.layers) or (config.layer_of(model),)

    def compute(run: RunFolder) -> dict[str, Any]:
        parts = [at_layer(run, model, questions, layer, config) for layer in layers]
        return together(model, parts, config)

    return run_once(config, compute, report)


def check(config: Config) -> None:
    """Raises InputError for settings that this study cannot have."""
    check_traits(config.traits)
    if len(config.learning_rates()) != 1:
        raise InputError("this study has one optimizer, with any number of rates")
    if not config.norms or min(config.norms) <= 0:
        raise InputError(f"norms {config.norms}: give at least one, all more than 0")
    if len(set(config.layers)) < len(config.layers):
        raise InputError(f"layers {config.layers}: name each once")
    if config.randoms < 1 and "random" in config.kinds:
        raise InputError(f"randoms={config.randoms}: at least one, or leave out the kind random")
    if not (config.kinds or config.files):
        raise InputError("no vectors: name kinds or files")


def make_vectors(model: Model, layer: int, config: Config) -> dict[str, tuple[str, jax.Array]]:
    """Name -> (kind, unit vector) of every vector at one layer."""
    found: dict[str, tuple[str, jax.Array]] = {}
    semantic = {k for k in config.kinds if k != "random"}
    wanted = TRAITS if "centred" in semantic else [*config.traits] if semantic else []
    of = {t: trait_vectors(model, [layer], t)[0] for t in wanted}
    for trait in config.traits:
        if "trait" in semantic:
            found[trait] = "trait", of[trait]
        if "centred" in semantic:
            found[f"{trait}-centred"] = "centred", of[trait] - sum(of.values()) / len(of)
    if "random" in config.kinds:
        for i in range(config.randoms):
            key = jax.random.fold_in(jax.random.key(config.seed), i)
            found[f"random-{i}"] = "random", random_vector(key, model.cfg.dim, 1.0)
    for file in config.files:
        steering = teacher_from_file(model, file, layer).steering
        assert steering is not None
        found[Path(file).stem] = "file", steering.vectors[0]
    for name, (_, v) in found.items():
        if not (bool(jnp.isfinite(v).all()) and bool(jnp.any(v != 0))):
            raise InputError(f"the vector {name} at layer {layer} is zero or not finite")
    return {name: (kind, v / jnp.linalg.norm(v)) for name, (kind, v) in found.items()}


def make_teachers(
    model: Model, layer: int, config: Config
) -> tuple[dict[str, Teacher], list[dict[str, Any]]]:
    """The teachers of one layer, and what is known of each: data, vector, kind, norm, layer."""
    stream = random_teacher(model, layer, norm=1.0, seed=0).steering  # as long as the stream is
    assert stream is not None
    unit = float(jnp.linalg.norm(stream.vectors))
    teachers, known = {}, []
    for name, (kind, vector) in make_vectors(model, layer, config).items():
        for norm in config.norms:
            data = f"{name}-{norm:g}"
            teachers[data] = Teacher(steer(norm * unit * vector, layer))
            known.append({"data": data, "vector": name, "kind": kind, "norm": norm, "layer": layer})
    return teachers, known


def at_layer(
    run: RunFolder, model: Model, questions: list[str], layer: int, config: Config
) -> dict[str, Any]:
    """Data, students and measurements of all vectors at one layer."""
    teachers, known = make_teachers(model, layer, config)
    data, teachers, refused = usable(run.path / f"layer-{layer}", model, teachers, known, config)
    known = [k for k in known if k["data"] in teachers]
    panel = make_panel(
        model,
        teachers,
        data,
        layer=layer,
        words=TRAITS,
        questions=questions,
        prompts=config.prompts,
        seed=config.seed,
    )
    settings = replace(config, adapter_layers=(layer,)) if config.steered_block else config
    objective = make_objective(config.objective, model, teachers, data)
    students = Students(run, panel, data, settings, objective)
    stage = f"layer-{layer}"
    rows = students.grid(stage=stage)
    ((optimizer, grid),) = config.learning_rates().items()
    rate = best_rates(rows)[optimizer.label]
    if rate is None:
        raise InputError(f"a student diverged at every rate of {optimizer.label}: lower the rates")
    seeds = range(config.seeds)
    arms = [Arm(optimizer, rate, s, name) for name in data.names for s in seeds]
    trained = students.train(f"{stage}-{grid.index(rate)}", arms)  # reads the last checkpoint
    losses, base_losses = losses_on_all(trained.sweep, trained.state, model.params, data.heldout)
    found = {(r["data"], r["seed"]): r for r in trained.rows}
    at = {(arm.data, arm.seed): i for i, arm in enumerate(arms)}
    controls = [found["control", s] for s in seeds]
    if any(r["diverged"] for r in controls):
        raise InputError(f"a control diverged at the rate {rate:g} at layer {layer}: lower it")
    control_answers = answers(np.array([r["word_rate"] for r in controls], float))
    base = measure_teacher(panel, Teacher())["word_rate"]
    table = []
    for k in known:
        i, j = panel.references.index(k["data"]), data.names.index(k["data"])
        mine = [found[k["data"], s] for s in seeds]
        own = answers(np.array([r["word_rate"] for r in mine], float))
        teacher = measure_teacher(panel, teachers[k["data"]])
        entry = dict(k)
        for key, source in (("eas", "eas"), ("component", "shift_component")):
            entry[key] = [r[source][i][layer] for r in mine]
            entry[f"control_{key}"] = [r[source][i][layer] for r in controls]
        entry["loss_drop"] = [float(base_losses[j] - losses[at[k["data"], s], j]) for s in seeds]
        entry["control_loss_drop"] = [
            float(base_losses[j] - losses[at["control", s], j]) for s in seeds
        ]
        entry["variation"] = total_variation(own, control_answers).tolist()
        entry["control_variation"] = among_controls(control_answers).tolist()
        entry["teacher_variation"] = float(
            total_variation(answers(np.array(teacher["word_rate"])), answers(np.array(base)))
        )
        if k["kind"] in ("trait", "centred"):
            word = TRAITS.index(k["vector"].removesuffix("-centred"))
            entry["trait_rate"] = [r["word_rate"][word] for r in mine]
            entry["control_trait_rate"] = [r["word_rate"][word] for r in controls]
            entry["teacher_trait_rate"] = teacher["word_rate"][word]
        report = data.reports[k["data"]]
        entry["valid"] = report.get("kept", report["pairs"]) / report["pairs"]
        table.append(entry)
    return {
        "layer": layer, "learning_rate": rate, "grid": list(grid), "vectors": table,
        "refused": refused, "students": [{"layer": layer, **r} for r in rows],
        "data": {f"layer {layer}, {name}": r for name, r in data.reports.items()},
    }  # fmt: skip


def usable(
    folder: Path,
    model: Model,
    teachers: dict[str, Teacher],
    known: list[dict[str, Any]],
    config: Config,
) -> tuple[DataSets, dict[str, Teacher], list[dict[str, Any]]]:
    """Data of those teachers that write enough valid lists, and who does not: a vector that breaks
    the format is a result, and no reason to end the run. Raises InputError where nothing is left.
    """
    forbidden = {
        k["data"]: names_of(k["vector"].removesuffix("-centred"))
        for k in known
        if k["kind"] in ("trait", "centred")
    }
    refused = []
    kept = {"control": Teacher()}
    for k in known:
        name = k["data"]
        try:
            write_data_sets(
                folder, model, {name: teachers[name]}, config, config.seed, forbidden=forbidden
            )
            kept[name] = teachers[name]
        except InputError as error:
            refused.append({**k, "reason": str(error)})
    if len(kept) == 1:
        raise InputError(f"no vector leaves enough valid lists; the first: {refused[0]['reason']}")
    data = write_data_sets(folder, model, kept, config, config.seed, forbidden=forbidden)
    return data, kept, refused


def together(model: Model, parts: list[dict[str, Any]], config: Config) -> dict[str, Any]:
    """The results of all layers, pooled by kind, and the claims."""
    results: dict[str, Any] = {
        "model": model.name,
        "layers": [{k: p[k] for k in ("layer", "learning_rate", "grid")} for p in parts],
        "vectors": [row for p in parts for row in p["vectors"]],
        "refused": [row for p in parts for row in p["refused"]],
        "data": {name: r for p in parts for name, r in p["data"].items()},
        "students": [row for p in parts for row in p["students"]],
    }
    results["pooled"] = pooled(results["vectors"])
    return {**results, "claims": claims(results, config.seeds)}
