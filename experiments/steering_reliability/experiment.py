"""On which inputs does a steering vector work, on which backwards, and under another prompt?

    subliminal-jax steering-reliability --preset toy
    subliminal-jax steering-reliability --preset all       # every persona and risk file
    subliminal-jax steering-reliability --preset real      # on SmolLM2 and Gemma 3 (make models)

The evaluation of Tan et al. (2024, arXiv 2407.12404). Of each set of contrastive questions: vectors
from its training rows in five prompt settings (plain, a persona that has the behaviour or lacks it,
as system prompt or before the question); propensities of its test rows at seven multipliers of
every vector in every setting, from one reading of each prompt; slopes, the share of rows on which
the vector works backwards, what letter and Yes or No explain of their spread, steerability under
the paper's shifts of the prompt; and the slope as a derivative, without multipliers. Beside it: the
trait vectors of the shipped model, on questions of its own world.

The sets are read from the folder of SUBLIMINAL_JAX_DATA, or from any JSONL of the same shape. Each
is kept in the run's folder as it is done, so a run that was killed goes on with the next. The model
of the toy preset has 656 thousand parameters and knows no personas: on these sets its numbers test
the machinery, no more. Toy: two to four minutes on 2 CPU cores; all: 10 to 25. Expected: vectors
that do nothing for the sets once both letters weigh the same, and trait vectors that steer nearly
every comparison of two animals in the shipped world, but not whether one likes an animal.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from subliminal_jax.data.contrastive import (
    ContrastiveSet,
    list_sources,
    read_contrastive,
)
from subliminal_jax.data.contrastive_prompts import Personas, compose_personas
from subliminal_jax.files import write_json
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import parameter_count
from subliminal_jax.reading import read_json_object
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import resolve_layer
from subliminal_jax.serialization import from_json, to_json

from .analysis import (
    Measured,
    MeasuredSet,
    MeasuredTrait,
    OtherModel,
    Results,
    SkippedSet,
    analyse,
)
from .claims import make_claims
from .config import PRESETS, Config
from .measurement import Plan, measure_set, measure_world, read_vectors, set_digest
from .report import make_page


class Source(NamedTuple):
    """A set as it was read, and the sentences of its prompt settings."""

    name: str
    contrasts: ContrastiveSet
    personas: Personas | None


def run(config: Config, folder: RunFolder) -> Measured:
    """Measure every set that the folder does not hold yet, then the traits of the shipped world.

    Raises InputError for a model that is not there, and for rows or vectors that cannot be read.
    """
    config.find_model()
    model = config.load()
    sources = read_sources(config)
    layer = config.choose_layer(model)
    vectors = read_vectors(config.vectors, model, layer)
    plan = replace(make_plan(config, layer), rows=config.rows or None, vectors=vectors)
    sets = measure_sets(folder.path / "sets", model, sources, plan)
    other = measure_other(folder, sources, config) if config.other_model else None
    world_model, world_layer = None, None
    world_traits: list[MeasuredTrait] = []
    if config.traits:
        world_model = config.load_named(config.world_model)
        world_layer = world_model.cfg.default_layer
        world_traits = measure_world(world_model, config.traits, make_plan(config, world_layer))
    return Measured(
        model=model.name,
        parameters=parameter_count(model.cfg),
        layer=layer,
        other=other,
        world_model=None if world_model is None else world_model.name,
        world_layer=world_layer,
        method=config.method,
        kind=config.kind,
        sets=tuple(s for s in sets if isinstance(s, MeasuredSet)),
        skipped=tuple(s for s in sets if isinstance(s, SkippedSet)),
        world=tuple(world_traits),
    )


def make_plan(config: Config, layer: int) -> Plan:
    """How sets, or traits, are measured after the block `layer`."""
    prompt = config.default_system_prompt
    plan = Plan(layer, config.split, config.method, config.kind, config.seed)
    return plan if prompt is None else replace(plan, system_prompt=prompt)


def read_sources(config: Config) -> list[Source]:
    """The sets, with sentences where they are asked in all prompt settings."""
    sources = [
        Source(name, contrasts, make_personas(suite, contrasts.name, config))
        for name, suite, source in list_sources(config.sources)
        for contrasts in [read_contrastive(source)]
    ]
    able = [s.name for s in sources if s.personas]
    count = min(config.shifted or len(able), len(able))
    shifted = {able[i * len(able) // count] for i in range(count)}
    return [s if s.name in shifted else s._replace(personas=None) for s in sources]


def measure_other(folder: RunFolder, sources: Sequence[Source], config: Config) -> OtherModel:
    """The same sets on the second model, in the plain setting."""
    model = config.load_named(config.other_model)
    layer = resolve_layer(model, config.other_layer)
    plan = replace(make_plan(config, layer), rows=config.rows or None)
    plain = [s._replace(personas=None) for s in sources]
    sets = measure_sets(folder.path / "other-sets", model, plain, plan)
    measured = {s.name: s for s in sets if isinstance(s, MeasuredSet)}
    return OtherModel(model.name, parameter_count(model.cfg), layer, measured)


def measure_sets(
    folder: Path, model: Model, sources: Sequence[Source], plan: Plan
) -> list[MeasuredSet | SkippedSet]:
    """The numbers of every set, of which those that the folder holds are not made again."""
    files = {s.name: folder / f"{s.name.replace('/', '--')}.json" for s in sources}
    records = {
        s.name: record
        for s in sources
        if (record := read_set(files[s.name], set_digest(s.contrasts, s.personas, plan)))
    }
    with track(f"sets on {model.name}", len(sources), "sets", completed=len(records)) as progress:
        for name, contrasts, personas in sources:
            if name not in records:
                records[name] = measure_set(model, contrasts, name, personas, plan)
                write_json(files[name], to_json(records[name]))
                progress.advance(1, name)
    return [records[s.name] for s in sources]


def make_personas(suite: str, behaviour: str, config: Config) -> Personas | None:
    """By rule for the model-written evaluations, whose names say the behaviour; those of the flag
    for the user's own sets."""
    if suite != "own":
        return compose_personas(behaviour)
    return Personas(*config.personas) if config.personas else None


def read_set(file: Path, digest: str) -> MeasuredSet | SkippedSet | None:
    """What an interrupted run kept of a set, unless its rows or the vectors have changed since."""
    if not file.exists():
        return None
    record = read_json_object(file)
    if record.get("digest") != digest:
        return None
    if "skipped" in record:
        return from_json(SkippedSet, record, str(file))
    return from_json(MeasuredSet, record, str(file))


EXPERIMENT = Experiment(
    name="steering-reliability",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
