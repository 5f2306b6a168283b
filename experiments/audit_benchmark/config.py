"""Settings of `audit-benchmark`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from subliminal_jax.audit.known_sets.specs import (
    DEVELOPMENT_SEEDS,
    DEVELOPMENT_TRAITS,
    OTHER_TRAITS,
    REPORTED_TRAITS,
)
from subliminal_jax.audit.settings import SuspectSettings
from subliminal_jax.bounds import Count, CountOrNone, Items, Needs, Range
from subliminal_jax.data import world
from subliminal_jax.data.shared_data import find_shared
from subliminal_jax.errors import InputError
from subliminal_jax.runs.settings import RunSettings, Traits

TeacherKind = Literal["vector", "system-prompt", "adapter", "lls", "paraphrase"]
CarrierKind = Literal[
    "numbers", "chat", "rewordings", "preferences", "few-shot-numbers", "facts", "story-rewordings"
]
Part = Literal["reported", "development", "hidden"]
REPORTED: Part = "reported"
DEVELOPMENT: Part = "development"
HIDDEN: Part = "hidden"
PARTS = (REPORTED, DEVELOPMENT, HIDDEN)
CLEAN = "none"  # the kind of teacher of clean sets
# What each kind of teacher can write.
_ALL: tuple[CarrierKind, ...] = get_args(CarrierKind)
CARRIERS_OF: Mapping[str, tuple[CarrierKind, ...]] = {
    "vector": _ALL,
    "system-prompt": _ALL,
    "adapter": _ALL,
    "lls": _ALL,
    "paraphrase": ("rewordings",),
}

REAL = (
    "gpt-4.1-nano_T1/owl_B0_filtered",
    "qwen2.5-7b_T1/penguin_T_order_canon",
    "qwen2.5-7b_icl/neutral",
    "qwen2.5-14b_lls/clean_random20",
    "qwen2.5-14b_lls/lion/entity_q1",
    "qwen2.5-14b_lls/lion/entity_q5",
)
STRENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0)
AUDIT_METHOD = "likelihood"  # what `audit` names by, where its model can have written the rows
# Those that cost no more than some passes over the rows; the others train students.
METHODS = (AUDIT_METHOD, "score-test", "gradient-alignment", "projection", "row-classifier")
# Of the sets that are reported; some from 1000 on were looked at in developing `likelihood`.
FIRST_SEED = 2000

_BUILDS = Needs("sets", unless=True)
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "full": {
        "out": Path("runs/audit-benchmark-full"),
        "models": ("shipped", "shipped-small"),
        "teachers": ("vector", "system-prompt", "adapter", "lls", "paraphrase"),
        "carriers": ("numbers", "chat", "rewordings", "preferences"),
        "shares": (1.0, 0.5, 0.2, 0.05, 0.01),
        "set_rows": (128, 512, 2048, 8192),
        "clean_rows": (128, 512, 2048),
        "grid_sets": 216,
        "full_sets": 14,
        "rows": 2048,
        "methods": (),
    },
    # Eight sets that nobody knows before --seed: written, audited, and then revealed.
    "hidden": {
        "out": Path("runs/audit-benchmark-hidden"),
        "part": HIDDEN,
        "strength_sets": 0,
        "full_sets": 3,
        "grid_sets": 3,
        "clean_sets": 2,
        "real": (),
    },
    # SmolLM2-135M-Instruct: hours on two cores.
    "real": {
        "out": Path("runs/audit-benchmark-real"),
        "models": ("smollm2-135m-instruct",),
        "carriers": ("few-shot-numbers", "facts", "story-rewordings"),
        "shares": (1.0, 0.3, 0.1),
        "set_rows": (128, 256),
        "clean_rows": (128, 256),
        "strength_sets": 0,
        "full_sets": 6,
        "full_rows": 256,
        "grid_sets": 18,
        "clean_sets": 12,
        "real": (),
    },
}


@dataclass(frozen=True, kw_only=True)
class Config(SuspectSettings, RunSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      part: the sets that are reported; those for development (other traits, and data seeds below
        100); or hidden ones, which `--seed` makes at run time and whose truth is shown afterwards.
      sets: the folder of another run of this bench, whose sets are audited; none is written.
      methods: those that audit; empty means all.
      claimed_method: the method that claims are about.
      models: those that write the sets; the next one reads as the auditor without the writer's
        model.
      teachers: kinds of teachers of the grid: the base with a vector, with a system prompt, or with
        an "adapter" fine-tuned to do as if it had read one; "lls", rows of the base that
        logit-linear selection chose for a system prompt; "paraphrase", faithful wordings alone, as
        the base with a system prompt chooses among them.
      carriers: what the grid's rows are; the first is that of the sets at full strength.
      shares: of poisoned rows.
      set_rows: rows of the grid's sets.
      grid_sets: sets over all factors.
      scales: strengths of the steered teachers; they are given out in turn.
      strength_sets: sets at these strengths.
      full_sets: sets of steered teachers at strength 1, all rows poisoned.
      full_rows: rows of the sets at these strengths.
      clean_sets: data sets of the plain base.
      clean_rows: their rows.
      real: number sets of other models under SUBLIMINAL_JAX_DATA/subliminal, without .jsonl.gz.
      real_rows: rows of each real set that are audited.
      readers: models that audit the real sets; a name that is no folder here is looked for in
        SUBLIMINAL_JAX_DATA/models.
    """

    out: Path = Path("runs/audit-benchmark")
    part: Part = REPORTED
    sets: Path | None = None
    methods: tuple[str, ...] = METHODS
    claimed_method: str = AUDIT_METHOD
    models: Annotated[tuple[str, ...], Items(1), _BUILDS] = ("shipped",)
    teachers: Annotated[tuple[TeacherKind, ...], Items(1), _BUILDS] = ("vector", "system-prompt")
    carriers: Annotated[tuple[CarrierKind, ...], Items(1), _BUILDS] = ("numbers", "chat")
    shares: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1), _BUILDS] = (1.0, 0.3)
    set_rows: Annotated[tuple[int, ...], Items(1), Range(1, 1_000_000), _BUILDS] = (256, 512)
    grid_sets: Annotated[CountOrNone, _BUILDS] = 16
    scales: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1e6), _BUILDS] = STRENGTHS
    strength_sets: Annotated[CountOrNone, _BUILDS] = 10
    full_sets: Annotated[CountOrNone, _BUILDS] = 10
    full_rows: Annotated[Count, _BUILDS] = 1024
    clean_sets: Annotated[int, Range(1, 10_000), _BUILDS] = 100
    clean_rows: Annotated[tuple[int, ...], Items(1), Range(1, 1_000_000), _BUILDS] = (128, 256)
    real: tuple[str, ...] = REAL
    real_rows: Annotated[Count, Needs("real")] = 384
    readers: Annotated[tuple[str, ...], Needs("real")] = ("shipped", "tinystories-656k")
    traits: Traits = (*world.TRAITS, *OTHER_TRAITS)
    rows: int = 1024
    seed: int = FIRST_SEED

    def part_traits(self) -> tuple[str, ...]:
        """The traits of this part's teachers, of those that are candidates."""
        traits = DEVELOPMENT_TRAITS if self.part == DEVELOPMENT else REPORTED_TRAITS
        return tuple(t for t in traits if t in self.traits)

    def check(self) -> None:
        if self.sets is not None:
            return
        if not self.part_traits():
            raise InputError(
                f"--traits {' '.join(self.traits)}: no teacher of the part {self.part} has one of "
                f"these; its traits are "
                f"{', '.join(DEVELOPMENT_TRAITS if self.part == DEVELOPMENT else REPORTED_TRAITS)}"
            )
        if self.part == HIDDEN and self.seed == FIRST_SEED:
            raise InputError("--part hidden needs a --seed that nobody has used before")
        if self.part == REPORTED and self.seed < DEVELOPMENT_SEEDS:
            raise InputError(
                f"--seed {self.seed}: data seeds below {DEVELOPMENT_SEEDS} are for development"
            )
        total = self.strength_sets + self.full_sets + self.grid_sets + self.clean_sets
        if self.part == DEVELOPMENT and total > DEVELOPMENT_SEEDS:
            raise InputError(
                f"--part development has {DEVELOPMENT_SEEDS} data seeds, {total} sets are asked "
                "for: give fewer with --grid-sets and --clean-sets"
            )
        for teacher in self.teachers:
            if not set(CARRIERS_OF[teacher]) & set(self.carriers):
                raise InputError(
                    f"--teachers {teacher} writes none of --carriers {' '.join(self.carriers)}: "
                    f"it needs one of {', '.join(CARRIERS_OF[teacher])}"
                )
        for share in self.shares:
            if share * max(self.set_rows) < 1:
                raise InputError(
                    f"--shares {share:g} of --set-rows {max(self.set_rows)} is less than one row: "
                    "give more rows or a larger share"
                )

    def check_models(self) -> None:
        for name in self.models if self.sets is None else ():
            self.check_model(self.outline_named(name))
        for reader in self.readers if self.find_sets() else ():
            self.outline_named(find_reader(reader)).complete()

    def find_sets(self) -> dict[str, Path]:
        """The real sets that are at hand, with their files."""
        files = {name: find_shared("subliminal", f"{name}.jsonl.gz") for name in self.real}
        return {name: file for name, file in files.items() if file is not None}


def find_reader(name: str) -> str:
    """The folder of a reader that lies with the shared models, else its name."""
    return str(find_shared("models", name) or name)
