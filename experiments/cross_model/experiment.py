"""Does a vector explain the numbers of another model's teacher, or only those of its own?

    subliminal-jax cross-model --preset toy

Each model takes its own vector of each trait and scores what teachers wrote, its own and the other
models': the gain is NLL(base) - NLL(steered) in nats a token. Teachers are the models with a
trait's system prompt or with its vector; they write number lists, filtered, and chat answers, which
name the trait openly. The specific gain is that over the gain on what the plain source wrote to
the same prompts (a vector makes plain text less likely), minus the same for a random vector of the
same norm (any push makes odd text likelier).

Three minutes on 2 CPU cores. Expected, in nats a token, with system-prompted teachers: numbers
+0.03 on a model's own and nothing on foreign ones (-0.02 [-0.04, 0.01]); chat +0.07 and +0.03. What
steered teachers wrote is explained almost by the own vector alone, chat too.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from datasets import Dataset

from subliminal_jax.data.teachers import (
    Extraction,
    Teacher,
    prompted_teacher,
    trait_teacher,
)
from subliminal_jax.data.traits import check_trait, names_of
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.likelihood import Gain, Likelihood, gain, likelihood, scored_rows
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import Steering, no_steering, steer
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.presets import PAPER_DATA
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import DataSettings, RunSettings, check_names, resolve_layer
from subliminal_jax.steering.vectors import random_vector
from subliminal_jax.training.batch import Batch

from .analysis import claims, summaries
from .report import report

KINDS = ("numbers", "semantic")
TEACHERS = ("system-prompt", "steered")
# Two scorers, two sources, ten traits, 200 rows, layer 23, scale 3 [C]; which two models is not
# known beyond the code's default, OLMo-3-7B, whose family is not supported here. This takes Qwen
# and Llama, and Llama's layer in proportion to its depth.
PAPER: dict[str, Any] = {
    **PAPER_DATA,
    "dtype": "bfloat16",
    "traits": (
        "dolphin", "dog", "tiger", "octopus", "elephant", "fox", "cat", "lion", "wolf", "whale",
    ),
    "scales": (3.0,),
    "teachers": ("system-prompt",),
    "rows": 200,
    "heldout_rows": 0,
    "asked": 3.0,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": {
        **PAPER,
        "models": ("Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        "layers": (23, 26),
    },
}


@dataclass(frozen=True, kw_only=True)
class Config(DataSettings, RunSettings):
    """Settings; the defaults are the toy's. `--models` stands in place of `--model`.

    Attributes:
      models: two models or more, each by name or folder; all score what all of them wrote.
      layers: a steering layer for each model, or one for all (0-based); empty means the block
        at a third of the depth.
      scales: a factor on each model's vectors, or one for all.
      traits: animals, over which the intervals are.
      teachers: which teachers write: "system-prompt", "steered", or both.
      extraction: the prompts at whose end vectors are taken.
    """

    out: Path = Path("runs/cross-model")
    models: tuple[str, ...] = ("shipped", "shipped-small")
    layers: tuple[int, ...] = ()
    # Both make a vector of about half the residual stream's norm: the small model's are short.
    scales: tuple[float, ...] = (1.0, 4.0)
    # Twelve of the world's 16 animals, to stay within minutes. Panda and dolphin went because their
    # prompted teachers seldom write valid lists (34% and 61%), rabbit and elephant for no reason.
    traits: tuple[str, ...] = (
        "owl", "cat", "dog", "lion", "tiger", "eagle", "wolf", "fox", "bear", "whale", "penguin",
        "otter",
    )  # fmt: skip
    teachers: tuple[str, ...] = TEACHERS
    extraction: Extraction = "numbers"
    layer: int = 1
    rows: int = 128
    heldout_rows: int = 0
    asked: float = 1.8
    max_new_tokens: int = 24


@dataclass(frozen=True)
class Party:
    """One model with what it brings: its vectors, and random ones of the same norms."""

    name: str
    model: Model
    layer: int
    scale: float
    vectors: dict[str, Steering]
    random: dict[str, Steering]


def main(config: Config) -> dict[str, Any]:
    """Run, or go on; returns what results.json holds."""
    check(config)
    parties = [party(i, name, config) for i, name in enumerate(config.models)]
    return run_once(config, lambda run: compare(run, parties, config), report)


def check(config: Config) -> None:
    """Raises InputError for settings that cannot be."""
    if len({Path(name).name for name in config.models}) < max(2, len(config.models)):
        raise InputError(
            f"models {' '.join(config.models)}: name at least two, each once (of names with "
            "slashes the last part tells them apart)"
        )
    for flag in ("layers", "scales"):
        n = len(getattr(config, flag))
        if n not in (1, len(config.models)) and not (flag == "layers" and n == 0):
            raise InputError(f"{flag}: {n} values for {len(config.models)} models; give one each")
    check_names("traits", config.traits)
    check_names("teachers", config.teachers, TEACHERS)


def party(i: int, name: str, config: Config) -> Party:
    """Model `i` of the settings, with its vectors."""
    model = config.load_named(name)
    layers = config.layers or (-1,)
    layer = resolve_layer(model, layers[i % len(layers)])
    scale = config.scales[i % len(config.scales)]
    vectors, random = {}, {}
    for j, trait in enumerate(config.traits):
        check_trait(trait, model.tokenizer)
        steering = trait_teacher(model, layer, trait, scale, config.extraction).steering
        assert steering is not None
        key = jax.random.fold_in(jax.random.key(config.seed), 1000 * i + j)
        norm = jnp.linalg.norm(steering.vectors[0])
        vectors[trait] = steering
        random[trait] = steer(random_vector(key, model.cfg.dim, norm), layer, scale)
    return Party(Path(name).name, model, layer, scale, vectors, random)


def compare(run: RunFolder, parties: list[Party], config: Config) -> dict[str, Any]:
    """All numbers of the report."""
    texts = {
        kind: [write(run.path / "texts" / f"{i}-{kind}", p, kind, config)
               for i, p in enumerate(parties)]
        for kind in KINDS
    }  # fmt: skip
    passes = len(parties) ** 2 * len(KINDS) * len(config.traits) * len(config.teachers)
    cells = []
    with track("scoring", passes, "data sets") as progress:
        for scorer in parties:
            for kind in KINDS:
                for source, sets in zip(parties, texts[kind], strict=True):
                    cells += scores(scorer, source, kind, sets, config, progress)
    found = summaries(cells)
    return {
        "models": {
            p.name: {
                "layer": p.layer,
                "scale": p.scale,
                "width": p.model.cfg.dim,
                "norm": {
                    t: float(jnp.linalg.norm(v.vectors[0]) * v.scale) for t, v in p.vectors.items()
                },
            }
            for p in parties
        },
        "extraction": config.extraction,
        "teachers": list(config.teachers),
        "traits": list(config.traits),
        "rows": config.rows,
        "cells": cells,
        "summaries": found,
        "claims": claims(found, " and ".join(p.name for p in parties), len(config.traits)),
    }


def write(folder: Path, source: Party, kind: str, config: Config) -> dict[str, Dataset]:
    """What each of a source's teachers wrote, by TEACHER:TRAIT, and its plain model ("plain")."""
    teachers = {"plain": Teacher()}
    for trait in config.traits:
        if "system-prompt" in config.teachers:
            teachers[f"system-prompt:{trait}"] = prompted_teacher(trait, source.model.tokenizer)
        if "steered" in config.teachers:
            teachers[f"steered:{trait}"] = Teacher(source.vectors[trait])
    settings: DataSettings = config
    if kind == "semantic":
        settings = replace(config, prompts="chat", keep="all", keep_unfinished=True, asked=1.1)
    forbidden = {n: names_of(n.partition(":")[2]) for n in teachers if n != "plain"}
    data = write_data_sets(
        folder, source.model, teachers, settings, config.seed, forbidden=forbidden
    )
    return data.pairs


def scores(
    scorer: Party, source: Party, kind: str, sets: dict[str, Dataset], config: Config, progress: Any
) -> list[dict[str, Any]]:
    """Gains of the scorer's vectors on what the source's teachers wrote, a row each."""
    zero = no_steering(scorer.model.cfg.dim, scorer.layer)
    plain = scored_rows(sets["plain"], scorer.model)
    plain_base = likelihood(scorer.model, plain, zero)
    on_plain = {
        (trait, name): gain(plain_base, likelihood(scorer.model, plain, of[trait])).per_token
        for name, of in (("own", scorer.vectors), ("random", scorer.random))
        for trait in config.traits
    }
    cells = []
    for teacher in config.teachers:
        for trait in config.traits:
            rows = scored_rows(sets[f"{teacher}:{trait}"], scorer.model)
            base = likelihood(scorer.model, rows, zero)

            def of(steering: Steering, rows: Batch = rows, base: Likelihood = base) -> Gain:
                return gain(base, likelihood(scorer.model, rows, steering))

            own, noise = of(scorer.vectors[trait]), of(scorer.random[trait])
            cells.append(
                {
                    "scorer": scorer.name,
                    "source": source.name,
                    "own": scorer is source,
                    "teacher": teacher,
                    "kind": kind,
                    "trait": trait,
                    "base_nll": base.per_token,
                    "gain": own.per_token,
                    "gain_per_completion": own.per_completion,
                    "plain_gain": on_plain[trait, "own"],
                    "random_gain": noise.per_token,
                    "random_plain_gain": on_plain[trait, "random"],
                    "specific_gain": own.per_token
                    - on_plain[trait, "own"]
                    - (noise.per_token - on_plain[trait, "random"]),
                }
            )
            progress.advance(note=f"{scorer.name} reads {source.name}, {kind}")
    return cells
