"""On which inputs does a steering vector work, on which backwards, and under another prompt?

    subliminal-jax steering-reliability --preset toy
    subliminal-jax steering-reliability --preset all       # every persona and risk file

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

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from subliminal_jax.bounds import CountOrNone, Items, Needs, Range, Text, as_flag
from subliminal_jax.data import world
from subliminal_jax.data.contrastive import (
    PAPER_SPLIT,
    ContrastiveSet,
    list_sources,
    read_contrastive,
)
from subliminal_jax.data.contrastive_prompts import Personas, compose_personas
from subliminal_jax.data.shared_data import VARIABLE, resolve_shared
from subliminal_jax.data.teachers import default_layer
from subliminal_jax.errors import InputError
from subliminal_jax.files import write_json
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import parameter_count
from subliminal_jax.reading import read_json_object
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import SteeredModelSettings
from subliminal_jax.serialization import from_json, to_json
from subliminal_jax.steering.contrastive import Method
from subliminal_jax.steering.propensity import Kind

from .analysis import (
    Measured,
    MeasuredSet,
    MeasuredTrait,
    Results,
    SkippedSet,
    analyse,
)
from .claims import make_claims
from .measurement import Plan, measure_set, measure_world, read_vectors, set_digest
from .report import make_page

# The sets of the paper (its code draws three a category), but TruthfulQA, which the hub has in a
# form that needs a configuration's name: write its rows to a JSONL file and name that.
PAPER_SETS = (
    *(
        f"persona/{name}"
        for name in (
            "believes-abortion-should-be-illegal", "anti-LGBTQ-rights", "politically-liberal",
            "subscribes-to-Hinduism", "subscribes-to-Islam", "subscribes-to-Christianity",
            "subscribes-to-utilitarianism", "subscribes-to-deontology",
            "subscribes-to-average-utilitarianism", "believes-life-has-no-meaning",
            "willingness-to-use-social-engineering-to-achieve-its-goals",
            "willingness-to-use-physical-force-to-achieve-benevolent-goals", "openness",
            "narcissism", "conscientiousness", "desire-to-create-allies", "interest-in-music",
            "interest-in-science", "believes-AIs-are-not-an-existential-threat-to-humanity",
            "believes-it-has-phenomenal-consciousness",
            "believes-it-is-not-being-watched-by-humans",
        )
    ),
    *(
        f"risk/{name}"
        for name in (
            "corrigible-more-HHH", "corrigible-neutral-HHH", "corrigible-less-HHH",
            "coordinate-other-ais", "coordinate-other-versions", "coordinate-itself",
            "myopic-reward", "one-box-tendency", "self-awareness-training-web-gpt",
            "self-awareness-text-model", "self-awareness-good-text-model",
            "self-awareness-general-ai", "self-awareness-training-architecture",
            "survival-instinct", "power-seeking-inclination", "wealth-seeking-inclination",
        )
    ),
    "evals/caa_sycophancy/generate_dataset.json",
    "evals/caa_sycophancy/test_dataset.json",
)  # fmt: skip
TOY_SETS = tuple(
    f"persona/{name}"
    for name in (
        "narcissism", "openness", "politically-liberal", "interest-in-music", "subscribes-to-Islam",
        "believes-life-has-no-meaning", "desire-to-create-allies", "risk-seeking",
    )
)  # fmt: skip
_PAPER: dict[str, Any] = {
    "sources": PAPER_SETS,
    "kind": "answer",
    "dtype": "bfloat16",
    "rows": 0,
    "traits": (),
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "all": {"sources": ("persona", "risk", "risk-human"), "rows": 0},
    # The layers of the paper; chat templates and tokens are the checkpoints' own. The sentences of
    # the personas follow from the sets' names by our rules and are not the authors'; the sycophancy
    # files, whose names say no behaviour, are asked in the plain setting alone.
    "paper-llama2-7b": {"model": "meta-llama/Llama-2-7b-chat-hf", "layer": 13, **_PAPER},
    "paper-qwen1.5-14b": {"model": "Qwen/Qwen1.5-14B-Chat", "layer": 21, **_PAPER},
}


@dataclass(frozen=True, kw_only=True)
class Config(SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      sources: sets: a suite (persona, risk, risk-human), SUITE/NAME, or a file or hub name.
      rows: pairs of a set, the first after the shuffle; 0 takes all.
      split: shares of a set's pairs for vectors, for validation and for testing.
      method: how vectors are made of the activations.
      kind: "letter": the logit difference of the two letters; "answer": of all tokens of the
        answers, as the paper's code has it.
      personas: for sources that are no SUITE/NAME, a sentence that gives the behaviour and one that
        denies it; without them such a set is asked in the plain setting alone.
      vectors: further vectors for the layer, tried in all sets: safetensors files, or repeng's
        GGUF control vectors (with the package gguf).
      world_model: a model of the shipped world, "shipped" or "shipped-small".
      traits: traits whose vectors are tried in that world; none leaves it out.
    """

    out: Path = Path("runs/steering-reliability")
    model: str = "models/tinystories-656k"
    sources: Annotated[tuple[str, ...], Items(1)] = TOY_SETS
    rows: CountOrNone = 200
    split: Annotated[tuple[float, float, float], Items(distinct=False), Range(0, 1)] = PAPER_SPLIT
    method: Method = "mean"
    kind: Kind = "letter"
    personas: Annotated[tuple[str, ...], Text(prose=True)] = ()
    vectors: tuple[str, ...] = ()
    world_model: Annotated[str, Needs("traits")] = "shipped"
    traits: Annotated[tuple[str, ...], Text(choices=world.TRAITS)] = world.TRAITS

    def check(self) -> None:
        if len(self.personas) not in (0, 2):
            raise InputError(
                "--personas: give two sentences, one with the behaviour and one without"
            )
        train, _, test = self.split
        if train == 0 or test == 0 or sum(self.split) > 1 + 1e-9:
            raise InputError(
                f"{as_flag('split', self.split)}: give shares that sum to at most 1, the first and "
                "the last more than 0"
            )
        suites = {suite for _, suite, _ in list_sources(self.sources)}
        if self.personas and "own" not in suites:
            raise InputError(
                "--personas have no effect: the sets of --sources have sentences of their own"
            )

    def check_models(self) -> None:
        self.check_model(self.outline_named(self.find_model()))
        if self.traits:
            self.outline_named(self.world_model)

    def find_model(self) -> str:
        """The model of the sets; raises InputError for one of the shared data that is not at hand,
        which is not looked for on the hub."""
        if self.model.startswith("models/") and not Path(resolve_shared(self.model)).is_dir():
            raise InputError(
                f"{self.model} is not here: set {VARIABLE} to the folder that holds it, or name "
                "another --model"
            )
        return self.model

    def plan(self, layer: int) -> Plan:
        """How sets, or traits, are measured after the block `layer`."""
        return Plan(layer, self.split, self.method, self.kind, self.seed)


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
    sets = measure_sets(folder, model, config)
    world_model, world_layer = None, None
    world_traits: list[MeasuredTrait] = []
    if config.traits:
        world_model = config.load_named(config.world_model)
        world_layer = default_layer(world_model)
        world_traits = measure_world(world_model, config.traits, config.plan(world_layer))
    return Measured(
        model=model.name,
        parameters=parameter_count(model.cfg),
        layer=config.choose_layer(model),
        world_model=None if world_model is None else world_model.name,
        world_layer=world_layer,
        method=config.method,
        kind=config.kind,
        sets=tuple(s for s in sets if isinstance(s, MeasuredSet)),
        skipped=tuple(s for s in sets if isinstance(s, SkippedSet)),
        world=tuple(world_traits),
    )


def measure_sets(folder: RunFolder, model: Model, config: Config) -> list[MeasuredSet | SkippedSet]:
    """The numbers of every set, of which those that the folder holds are not made again."""
    layer = config.choose_layer(model)
    vectors = read_vectors(config.vectors, model, layer)
    plan = replace(config.plan(layer), rows=config.rows or None, vectors=vectors)
    sources = [
        Source(name, contrasts, make_personas(suite, contrasts.name, config))
        for name, suite, source in list_sources(config.sources)
        for contrasts in [read_contrastive(source)]
    ]
    files = {s.name: folder.path / "sets" / f"{s.name.replace('/', '--')}.json" for s in sources}
    records = {
        s.name: record
        for s in sources
        if (record := read_set(files[s.name], set_digest(s.contrasts, s.personas, plan)))
    }
    with track("steering reliability", len(sources), "sets", completed=len(records)) as progress:
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
