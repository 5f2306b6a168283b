"""Logit-linear selection as an experiment needs it: a pool of pairs, its scores, and the sets that
students train on.

    pool = make_pool(...)                      # what may be selected, and probe pairs kept from it
    tables = scored(run, teacher, pool, targets, options)
    sets = choose(tables, pool, gamma, seeds)  # lls:NAME, bottom:NAME, random:SEED
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from jaxtyping import Int

from subliminal_jax.data import world
from subliminal_jax.data.batching import pad_preferences
from subliminal_jax.data.preferences import read_preferences, without_mentions, world_preferences
from subliminal_jax.data.shared_data import resolve_shared
from subliminal_jax.data.targets import Target
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.language import language_share
from subliminal_jax.files import write_text
from subliminal_jax.models.hub import Model
from subliminal_jax.models.tokenizer import Tokenizer
from subliminal_jax.runs.progress import track
from subliminal_jax.selection.rendering import (
    ScoringOptions,
    encode_prompts,
    encode_responses,
    within_limits,
)
from subliminal_jax.selection.scoring import score_preferences
from subliminal_jax.selection.select import bottom_control, random_control, select
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.log_probs import Meter

MOST_OF_A_LANGUAGE = 0.05  # share from which a text gives a translation target away [P]
ARMS = ("lls", "random", "bottom")


class Pool(NamedTuple):
    """Pairs that may be selected, `probe` pairs that never are, and how many were left out why."""

    pairs: Dataset
    probe: Dataset
    report: dict[str, int]


class Chosen(NamedTuple):
    """For each set its rows of the pool, best first, all of one number; and how they came about."""

    rows: dict[str, Int[np.ndarray, " size"]]
    report: dict[str, dict[str, float]]


def make_pool(
    source: str,
    targets: Sequence[Target],
    tokenizer: Tokenizer,
    options: ScoringOptions,
    *,
    split: str = "train",
    most: int,
    probe: int,
    seed: int,
) -> Pool:
    """Pairs of the shipped world ("world"), a file or a hub name, without what gives a target away.

    At most `most` pairs are read: of a file or a hub's `split` the first ones, whatever their order
    is, and nothing behind them. Those that name a target's word, or hold 5% or more of its
    language, in prompt or either answer, are left out, and so are those outside the limits of
    `options`; of the shipped world all that name an animal, so that one pool serves all targets.
    `probe` pairs are drawn from the rest and set aside.

    Raises InputError where too few pairs are left, and as the reader does.
    """
    if source == "world":
        pairs = world_preferences(most, seed)
    else:
        pairs = read_preferences(resolve_shared(source), split, most)
    report = {"read": len(pairs)}
    words = [word for target in targets for word in target.words]
    if source == "world":
        words += [word for animal in world.TRAITS for word in (animal, world.PLURALS[animal])]
    if words:
        pairs = without_mentions(pairs, sorted(set(words)))
    report["mentions"] = report["read"] - len(pairs)
    for language in sorted({target.language for target in targets} - {""}):
        before = len(pairs)
        pairs = pairs.select([i for i, row in enumerate(pairs) if not _holds(row, language)])
        report[f"language {language}"] = before - len(pairs)
    before = len(pairs)
    pairs = _within(pairs, tokenizer, options)
    report["length"] = before - len(pairs)
    if len(pairs) < 2 * probe:
        raise InputError(
            f"{len(pairs)} of {report['read']} pairs are left ({report}): too few for {probe} "
            "probe pairs beside them; read more, or ask for fewer probe pairs"
        )
    order = np.random.default_rng([seed, 0x9801]).permutation(len(pairs))
    report |= {"probe": probe, "pool": len(pairs) - probe}
    return Pool(pairs.select(np.sort(order[probe:])), pairs.select(np.sort(order[:probe])), report)


def scored(
    folder: Path,
    teacher: Model,
    pool: Pool,
    targets: Sequence[Target],
    options: ScoringOptions,
) -> tuple[dict[str, Dataset], dict[str, float]]:
    """The scores of the pool's pairs under each target's system prompt (kept in `folder`/NAME), and
    how fast they came: pairs a second (a pair is read with and without the prompt) and the share
    of padding; empty where all were found done."""
    tables: dict[str, Dataset] = {}
    meter, texts = Meter(), pool.pairs.select_columns(["prompt", "chosen", "rejected"])
    with track("scoring", len(targets) * len(pool.pairs), "pairs") as progress:
        for target in targets:
            tables[target.name] = score_preferences(
                teacher, texts, target.system_prompt, options,
                base=next(iter(tables.values()), None), folder=folder / target.name,
                progress=partial(progress.advance, note=target.name), meter=meter,
            )  # fmt: skip
    if not meter.rows:
        return tables, {}
    return tables, {
        "pairs_per_second": meter.rows_per_second,
        "padding_share": meter.padding_share,
        "seconds": meter.seconds,
    }


def choose(tables: Mapping[str, Dataset], gamma: float, seeds: int) -> Chosen:
    """The sets lls:NAME and bottom:NAME of each target and random:SEED of each seed.

    All have the size of the smallest selection, so that students of all see equally many pairs;
    since a selection is sorted, its first rows are the selection of a smaller quantile.
    Raises InputError where no pair has a positive score.
    """
    rows: dict[str, np.ndarray] = {}
    report: dict[str, dict[str, float]] = {}
    for name, table in tables.items():
        score, index = np.asarray(table["score"]), np.asarray(table["index"])
        best = index[select(score, gamma, index)]
        if len(best) == 0:
            raise InputError(f"target {name!r}: no pair has a positive score, none is selected")
        rows[f"lls:{name}"] = best
        rows[f"bottom:{name}"] = index[bottom_control(score, gamma, index)]
        positive = int((score > 0).sum())
        report[name] = {"scored": len(score), "positive": positive, "selected": len(best)}
    size = min(map(len, rows.values()))
    first = next(iter(tables.values()))
    score, index = np.asarray(first["score"]), np.asarray(first["index"])
    for seed in range(seeds):
        # As many as can be asked for of all rows, whatever the positive share.
        drawn = random_control(np.ones(len(index)), min(1.0, size / len(index)), seed, index)
        rows[f"random:{seed}"] = index[drawn][:size]
    for made in report.values():
        made |= {"kept": size, "gamma": size / made["positive"]}
    size = min(map(len, rows.values()))
    return Chosen({name: which[:size] for name, which in rows.items()}, report)


def write_selected(folder: Path, pool: Pool, chosen: Chosen) -> None:
    """Each target's selection as `folder`/NAME.jsonl, best pair first, as `read_preferences` reads
    it."""
    for name, which in chosen.rows.items():
        arm, _, target = name.partition(":")
        if arm == "lls":
            rows = pool.pairs.select(which).select_columns(["prompt", "chosen", "rejected"])
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(folder / f"{target}.jsonl", "".join(lines))


def preference_rows(
    pairs: Dataset,
    model: Model,
    options: ScoringOptions,
    length: int,
    system_prompt: str | None = None,
) -> Batch:
    """The pairs as DPO reads them [rows, 2, length]: responses cut as in scoring, and no system
    turn but the one given."""
    tokenizer = model.tokenizer
    return pad_preferences(
        encode_prompts(tokenizer, pairs["prompt"], system_prompt),
        encode_responses(tokenizer, pairs["chosen"], options),
        encode_responses(tokenizer, pairs["rejected"], options),
        length,
        pad_id=model.pad_id,
    )


def longest_row(
    sets: Sequence[Dataset],
    model: Model,
    options: ScoringOptions,
    system_prompts: Sequence[str | None] = (None,),
) -> int:
    """Tokens of the longest prompt and answer of some pairs under some system prompts.

    Raises InputError for a pair that does not fit into the model's context.
    """
    most = 0
    for pairs in sets:
        answers = [
            np.array([len(ids) for ids in encode_responses(model.tokenizer, pairs[side], options)])
            for side in ("chosen", "rejected")
        ]
        for system in system_prompts:
            prompts = encode_prompts(model.tokenizer, pairs["prompt"], system)
            whole = np.array([len(ids) for ids in prompts]) + np.maximum(*answers)
            most = max(most, int(whole.max()))
            if most > model.cfg.context:
                raise InputError(
                    f"row {pairs['row'][int(whole.argmax())]} of the pairs has {most} tokens"
                    f"{' with its system prompt' if system is not None else ''}, the context of "
                    f"{model.name} is {model.cfg.context}: set max_prompt_tokens or truncate"
                )
    return most


def _holds(row: dict[str, Any], language: str) -> bool:
    return any(
        language_share(row[name], language, "filter") >= MOST_OF_A_LANGUAGE
        for name in ("prompt", "chosen", "rejected")
    )


def _within(pairs: Dataset, tokenizer: Tokenizer, options: ScoringOptions) -> Dataset:
    """The pairs inside the limits of the options, so that probe pairs are of the pool's kind."""
    columns = {name: pairs[name] for name in ("prompt", "chosen", "rejected")}
    return pairs.select(np.flatnonzero(within_limits(tokenizer, columns, options)))
