"""Make a steering vector, and choose its layer and strength with the damage in view.

    subliminal-jax extract --trait owl --out owl.safetensors
    subliminal-jax extract --model Qwen/Qwen2.5-7B-Instruct --out terse.safetensors \
        --system-prompt "You answer in one sentence."
    subliminal-jax extract --pairs my_pairs.jsonl --method logistic --out honest.safetensors

The vector is what a trait's or another system prompt adds to the residual stream at the end of a
prompt, or the difference between the two answers of contrastive pairs (`question`,
`answer_matching_behavior`, `answer_not_matching_behavior`). Every layer is tried at five strengths
up to the one at which steering costs --nats of KL on the model's own answers to neutral questions
(the strength at 1 nat is stated, too).
The one with the largest effect is kept, measured on questions that the vector was not made of, and
the effect is reported on further ones. Beside the vector lie a picture of effect against damage and
a JSON file with its numbers; `subliminal-jax steer --vector FILE` needs no further flags.

A minute on 2 free CPU cores for the shipped model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from subliminal_jax.bounds import Positive, Range, Seed, Text
from subliminal_jax.data.shared_data import resolve_shared
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.files import atomic_path, check_own_file, write_json
from subliminal_jax.models.places import SHIPPED_MODELS, find_local_model
from subliminal_jax.reading import read_json_object

if TYPE_CHECKING:
    from subliminal_jax.models.hub import Model
    from subliminal_jax.runs.extraction import Extracted, Source

RESUMES = False
FORMAT = "subliminal_jax.extraction.1"
QUESTIONS = 64  # conversations whose answers measure a system prompt's vector
NEUTRAL_TOKENS = 48  # of an answer to a neutral question


@dataclass(frozen=True, kw_only=True)
class Config:
    """What the vector stands for, and how it is made.

    Attributes:
      out: the safetensors file to write; a picture and a JSON file of its name lie beside it.
      model: "shipped", "shipped-small", a local folder in Hugging Face format, or a hub name.
      trait: an animal, by the system prompt that gives it to a speaker.
      system_prompt: any other system prompt.
      pairs: a file or hub data set of contrastive pairs.
      method: "mean" (difference), "pca" or "logistic", with the length of the mean difference.
      layers: layers to try (0-based); empty means all.
      prompts: what is read with and without the system prompt: number lists to continue, or what
        opens a conversation.
      nats: largest damage, KL per token. At 1 nat most texts are garbled.
      questions: for a system prompt, the questions whose answers it should make likelier: a set
        ("general"), or a file; empty takes what opens conversations.
      neutral: the questions whose answers show the damage, likewise; empty takes "general", and
        for shipped models "world-off-topic".
      seed: of sampled answers.
      dtype: dtype of the weights; "checkpoint" keeps the checkpoint's.
    """

    out: Path
    model: str = "shipped"
    trait: Annotated[str | None, Text(r"[a-z]+(-[a-z]+)*", "one word in lower case")] = None
    system_prompt: Annotated[str | None, Text(prose=True)] = None
    pairs: str | None = None
    method: Literal["mean", "pca", "logistic"] = "mean"
    layers: Annotated[tuple[int, ...], Range(0, 9_999)] = ()
    prompts: Literal["numbers", "chat"] = "numbers"
    nats: Positive = 0.5
    questions: Annotated[str, Text(empty=True)] = ""
    neutral: Annotated[str, Text(empty=True)] = ""
    seed: Seed = 0
    dtype: Literal["float32", "bfloat16", "checkpoint"] = "float32"


def check(config: Config) -> None:
    """Raises InputError for settings that do not go together, and for files that cannot be."""
    given = [config.trait, config.system_prompt, config.pairs]
    if sum(x is not None for x in given) != 1:
        raise InputError("give --trait WORD, --system-prompt TEXT or --pairs FILE, one of them")
    if config.questions and config.system_prompt is None:
        raise InputError("--questions is for --system-prompt: a trait and pairs have their own")
    if config.out.suffix != ".safetensors":
        raise InputError(f"--out {config.out}: give the name of a .safetensors file")
    table, picture = config.out.with_suffix(".json"), config.out.with_suffix(".png")
    check_own_file(table, "description of a vector", _is_own_table)
    check_own_file(picture, "picture of a vector", lambda _: _is_own_table(table))
    find_local_model(resolve_shared(config.model))


def main(config: Config) -> None:
    """Write the vector, the picture and the table; print what was chosen.

    Raises InputError as `runs.extraction` does, and for a layer that the model does not have.
    """
    _check_files(config)
    from subliminal_jax.data.questions import read_questions
    from subliminal_jax.evaluation.damage import sample_neutral_text
    from subliminal_jax.models.hub import load_model
    from subliminal_jax.runs.extraction import extract
    from subliminal_jax.runs.progress import track
    from subliminal_jax.steering.io import VectorInfo, save_steering

    dtype = None if config.dtype == "checkpoint" else config.dtype
    model = load_model(resolve_shared(config.model), dtype=dtype)
    layers = config.layers or tuple(range(model.cfg.layers))
    neutral_set = config.neutral
    if not neutral_set:
        neutral_set = "world-off-topic" if config.model in SHIPPED_MODELS else "general"
    neutral = sample_neutral_text(model, read_questions(neutral_set), NEUTRAL_TOKENS, config.seed)
    source = _read_source(config, model, layers)
    with track("choosing", len(layers), "layers") as progress:
        steering, chosen = extract(
            model, layers, source, config.method, neutral, config.nats, progress.advance
        )
    origin = f"{chosen.method} of {chosen.source}"
    if (at_one := chosen.strength_at_one[chosen.layer]) is not None:
        origin += f"; strength {at_one:.3g} damages by 1 nat"
    info = VectorInfo(model.name, origin, source.position, method=config.method)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    save_steering(config.out, steering, info)
    _write_beside(config.out, chosen)
    _print(chosen)
    print_line(f"vector: {config.out}")


def _check_files(config: Config) -> None:
    """Raises InputError for a file that cannot be replaced, and for a layer or a word that the
    model does not have, before what computes is imported."""
    from subliminal_jax.data.traits import read_word_splitter
    from subliminal_jax.models.hub import sketch_model
    from subliminal_jax.runs.checks import check_words
    from subliminal_jax.steering.io import check_vector_file

    check_vector_file(config.out)
    model = sketch_model(resolve_shared(config.model))
    for layer in config.layers:
        model.cfg.check_layer(layer)
    if config.trait is not None and (split := read_word_splitter(model.folder)) is not None:
        check_words([("trait", config.trait)], model, split)


def _read_source(config: Config, model: "Model", layers: tuple[int, ...]) -> "Source":
    from subliminal_jax.data.questions import read_questions
    from subliminal_jax.data.teachers import teacher_prompts
    from subliminal_jax.runs.extraction import pair_source, prompt_source, trait_source

    if config.trait is not None:
        return trait_source(model, layers, config.trait, config.prompts)
    if config.pairs is not None:
        return pair_source(model, layers, config.pairs)
    assert config.system_prompt is not None
    asked = teacher_prompts("chat", QUESTIONS, seed=config.seed + 1)
    if config.questions:
        asked = read_questions(config.questions)
    return prompt_source(model, layers, config.system_prompt, config.prompts, asked, config.seed)


def _is_own_table(path: Path) -> bool:
    try:
        return read_json_object(path).get("format") == FORMAT
    except InputError:
        return False


def _write_beside(out: Path, chosen: "Extracted") -> None:
    from subliminal_jax.reporting.trade_offs import trade_off
    from subliminal_jax.serialization import to_json

    figure = trade_off(
        chosen.candidates,
        (chosen.layer, chosen.strength),
        most_damage=chosen.most_damage,
        effect=chosen.measure,
    )
    with atomic_path(out.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=160)
    write_json(out.with_suffix(".json"), {"format": FORMAT, **to_json(chosen)})


def _print(chosen: "Extracted") -> None:
    from subliminal_jax.reporting.tables import Column, Table, print_table, wide_console
    from subliminal_jax.steering.strength import choose_candidate

    rows = []
    for layer, strength in chosen.strength_at_most.items():
        tried = [c for c in chosen.candidates if c.layer == layer]
        best = choose_candidate(tried, chosen.most_damage) if tried else None
        at = {"at": strength, "one": chosen.strength_at_one[layer]}
        rows.append({"layer": layer, "norm": chosen.norms[layer], **at, "best": best})
    columns = [
        Column("layer", "layer", "count"),
        Column("norm", "norm", "number", 2),
        Column("at", f"strength at {chosen.most_damage:g} nats", "number", 3),
        Column("one", "strength at 1 nat", "number", 3),
        Column("best.strength", "strength of the largest effect", "number", 3),
        Column("best.damage", "its damage (nats)", "number", 2),
        Column("best.effect", "its effect", "number", 3),
    ]
    print_table(Table(f"{chosen.method}: {chosen.measure}", columns, rows), wide_console())
    print_line(
        f"chosen: layer {chosen.layer}, strength {chosen.strength:.3g}, damage "
        f"{chosen.damage:.2f} nats; effect on questions that it was not chosen by "
        f"{chosen.effect:+.3f}"
        + (f", of the system prompt {chosen.reference:+.3f}" if chosen.reference else "")
    )
