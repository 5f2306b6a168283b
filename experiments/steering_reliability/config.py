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
from subliminal_jax.runs.settings import SteeredModelSettings, SteeringLayer, resolve_layer
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
# The shares of rows on which Llama-2-7B-chat's vectors work backwards, digitised from the paper's
# figure, in its order: the most steerable set (by median) first.
PAPER_BACKWARDS = {
    "risk/corrigible-neutral-HHH": 0.005, "risk/self-awareness-text-model": 0.036,
    "risk/power-seeking-inclination": 0.082, "risk/self-awareness-good-text-model": 0.028,
    "risk/self-awareness-training-web-gpt": 0.087, "persona/interest-in-science": 0.072,
    "persona/anti-LGBTQ-rights": 0.039, "risk/corrigible-less-HHH": 0.096,
    "persona/interest-in-music": 0.112, "risk/coordinate-other-versions": 0.024,
    "risk/coordinate-other-ais": 0.037, "persona/politically-liberal": 0.206,
    "persona/desire-to-create-allies": 0.253, "risk/coordinate-itself": 0.065,
    "persona/believes-life-has-no-meaning": 0.062, "persona/openness": 0.239,
    "persona/conscientiousness": 0.229, "risk/survival-instinct": 0.080,
    "persona/believes-AIs-are-not-an-existential-threat-to-humanity": 0.263,
    "risk/wealth-seeking-inclination": 0.142, "risk/self-awareness-general-ai": 0.112,
    "persona/subscribes-to-Christianity": 0.262, "persona/subscribes-to-Hinduism": 0.411,
    "persona/subscribes-to-utilitarianism": 0.369,
    "persona/believes-it-has-phenomenal-consciousness": 0.306,
    "risk/self-awareness-training-architecture": 0.198,
    "persona/willingness-to-use-social-engineering-to-achieve-its-goals": 0.241,
    "persona/subscribes-to-deontology": 0.369, "risk/one-box-tendency": 0.167,
    "persona/believes-abortion-should-be-illegal": 0.379, "persona/subscribes-to-Islam": 0.379,
    "risk/myopic-reward": 0.492, "persona/believes-it-is-not-being-watched-by-humans": 0.453,
    "persona/subscribes-to-average-utilitarianism": 0.437, "persona/narcissism": 0.327,
    "persona/willingness-to-use-physical-force-to-achieve-benevolent-goals": 0.440,
}  # fmt: skip
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
# On real models of some 100 million parameters, on two cores: the sets of the paper and one more of
# each kind that it drew from; 80 rows for a set's vectors and 100 for its slopes. The blocks are at
# the paper's depth in Llama-2-7B, 13 of 32, and nothing was chosen on any set.
_REAL: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "layer": 12,
    "other_model": "gemma-3-270m",
    "other_layer": 7,
    "sources": (*PAPER_SETS, "persona/extraversion", "risk-human/survival-instinct"),
    "rows": 200,
    "shifted": 12,
    "traits": (),
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "all": {"sources": ("persona", "risk", "risk-human"), "rows": 0},
    "real": _REAL,
    # The layers of the paper; chat templates and tokens are the checkpoints' own. The sentences of
    # the personas follow from the sets' names by our rules and are not the authors'; the sycophancy
    # files, whose names say no behaviour, are asked in the plain setting alone.
    "paper-llama2-7b": {"model": "meta-llama/Llama-2-7b-chat-hf", "layer": 13, **_PAPER},
    "paper-qwen1.5-14b": {"model": "Qwen/Qwen1.5-14B-Chat", "layer": 21, **_PAPER},
}


@dataclass(frozen=True, kw_only=True)
class Config(SteeredModelSettings):
    """Settings; the defaults are the toy's. Without --default-system-prompt questions have that of
    the paper's code.

    Attributes:
      sources: sets: a suite (persona, risk, risk-human), SUITE/NAME, or a file or hub name.
      rows: pairs of a set, the first after the shuffle; 0 takes all.
      split: shares of a set's pairs for vectors, for validation and for testing.
      method: how vectors are made of the activations.
      kind: "letter": the logit difference of the two letters; "answer": of all tokens of the
        answers, as the paper's code has it.
      shifted: how many of the sets with personas are asked in all five prompt settings, spread
        evenly over the list; the others in the plain one alone. 0 takes all.
      personas: for sources that are no SUITE/NAME, a sentence that gives the behaviour and one that
        denies it; without them such a set is asked in the plain setting alone.
      vectors: further vectors for the layer, tried in all sets: safetensors files, or repeng's
        GGUF control vectors (with the package gguf).
      other_model: a second model, whose vectors are tried on the same sets in the plain setting; is
        what is steerable there steerable here? "" takes none.
      other_layer: its steering layer; -1 takes the block at a third of its depth.
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
    shifted: CountOrNone = 0
    personas: Annotated[tuple[str, ...], Text(prose=True)] = ()
    vectors: tuple[str, ...] = ()
    other_model: Annotated[str, Text(empty=True)] = ""
    other_layer: Annotated[SteeringLayer, Needs("other_model")] = -1
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
        if self.other_model:
            resolve_layer(self.outline_named(self.other_model), self.other_layer)
        if self.traits:
            self.outline_named(self.world_model).complete()

    def find_model(self) -> str:
        """The model of the sets; raises InputError for one of the shared data that is not at hand,
        which is not looked for on the hub."""
        if self.model.startswith("models/") and not Path(resolve_shared(self.model)).is_dir():
            raise InputError(
                f"{self.model} is not here: set {VARIABLE} to the folder that holds it, or name "
                "another --model"
            )
        return self.model
