"""Settings of `steering-reliability`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.bounds import CountOrNone, Items, Needs, Range, Text, as_flag
from subliminal_jax.data import world
from subliminal_jax.data.contrastive import (
    PAPER_SPLIT,
    list_sources,
)
from subliminal_jax.data.shared_data import VARIABLE, resolve_shared
from subliminal_jax.errors import InputError
from subliminal_jax.runs.settings import SteeredModelSettings
from subliminal_jax.steering.contrastive import Method
from subliminal_jax.steering.propensity import Kind

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
