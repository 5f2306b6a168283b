"""From preference pairs to the sets that students train on.

pool = make_pool(targets, tokenizer, config)   # pairs to select from, and probe pairs
tables, speed = score_pool(folder, teacher, pool, targets, options)
selection = select_sets(tables, pool.parts, gamma, reported, controls)
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
from subliminal_jax.data.conversations import CountedRows, report_rows
from subliminal_jax.data.preferences import count_preferences, drop_mentions, world_preferences
from subliminal_jax.data.shared_data import resolve_shared
from subliminal_jax.data.targets import Target
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.language import language_share
from subliminal_jax.files import write_text
from subliminal_jax.models.hub import Model
from subliminal_jax.models.token_spans import AnswerTokens
from subliminal_jax.models.tokenizer import Tokenizer
from subliminal_jax.runs.progress import track
from subliminal_jax.selection.rendering import (
    ScoringOptions,
    encode_rows,
    within_limits,
)
from subliminal_jax.selection.scoring import score_preferences
from subliminal_jax.selection.select import bottom_control, random_control, select
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.log_probs import Meter

from .analysis import PoolCounts, ScoringSpeed, SelectionCounts
from .config import Config

MOST_OF_A_LANGUAGE = 0.05  # share from which a text gives a translation target away [P]
TEXTS = ["prompt", "chosen", "rejected"]
Rows = Int[np.ndarray, " rows"]


class Pool(NamedTuple):
    """Pairs that may be selected, `parts` of them by target, and `probe` pairs that never are."""

    pairs: Dataset
    probe: Dataset
    parts: Mapping[str, Rows]
    counts: PoolCounts


class Selection(NamedTuple):
    """The rows of the pool in each set (lls:NAME, bottom:NAME, random:DRAW), best first, all sets
    of one size; and by target how they came about."""

    rows: dict[str, Rows]
    counts: dict[str, SelectionCounts]


def make_pool(targets: Sequence[Target], tokenizer: Tokenizer, config: Config) -> Pool:
    """Read the pairs, leave out those that give a target away, and set probe pairs aside.

    At most `config.pool` pairs are read, the first ones of a file or a hub's split. Left out are
    those that name a target's word, or hold 5% or more of its language, in prompt or either
    response, and those outside the limits of the scoring options; of the shipped world all that
    name an animal, so that one pool serves all targets.

    Rows that are no single-turn pair are counted as left out, too.

    Raises InputError where too few pairs are left, and as the reader does.
    """
    if config.pairs == "world":
        counted = CountedRows(world_preferences(config.pool, config.seed), {})
    else:
        source = resolve_shared(config.pairs)
        counted = count_preferences(source, config.split, config.pool)
        report_rows(source, counted)
    pairs = counted.rows
    left_out = {f"rows with {reason}": count for reason, count in counted.dropped.items()}
    read = len(pairs) + sum(left_out.values())
    words = {word for target in targets for word in target.words}
    if config.pairs == "world":
        words |= {word for animal in world.TRAITS for word in (animal, world.PLURALS[animal])}
    if words:
        pairs = drop_mentions(pairs, sorted(words))
    left_out["mentions"] = len(counted.rows) - len(pairs)
    for language in sorted({target.language for target in targets} - {""}):
        kept = [i for i, row in enumerate(pairs) if not _holds_language(row, language)]
        left_out[f"language {language}"] = len(pairs) - len(kept)
        pairs = pairs.select(kept)
    texts = {name: pairs[name] for name in TEXTS}
    inside = np.flatnonzero(within_limits(tokenizer, texts, config.scoring_options()))
    left_out["length"] = len(pairs) - len(inside)
    pairs = pairs.select(inside)
    if len(pairs) < 2 * config.probe:
        reasons = ", ".join(f"{reason} {count}" for reason, count in left_out.items())
        raise InputError(
            f"{len(pairs)} of {read} pairs are left ({reasons}): too few for {config.probe} probe "
            "pairs beside them; read more, or ask for fewer probe pairs"
        )
    order = np.random.default_rng([config.seed, 0x9801]).permutation(len(pairs))
    probe, rest = np.sort(order[: config.probe]), np.sort(order[config.probe :])
    parts = [np.arange(len(rest))] * len(targets)
    if config.own_pairs:
        drawn = np.random.default_rng([config.seed, 0x9802]).permutation(len(rest))
        parts = [np.sort(part) for part in np.array_split(drawn, len(targets))]
    return Pool(
        pairs.select(rest),
        pairs.select(probe),
        {target.name: part for target, part in zip(targets, parts, strict=True)},
        PoolCounts(read=read, left_out=left_out, probe=len(probe), pool=len(rest)),
    )


def score_pool(
    folder: Path, teacher: Model, pool: Pool, targets: Sequence[Target], options: ScoringOptions
) -> tuple[dict[str, Dataset], ScoringSpeed | None]:
    """The scores of each target's pairs, kept in `folder`/NAME, and how fast they were computed;
    None where all were read from `folder`. The base scores pairs that all targets share once."""
    tables: dict[str, Dataset] = {}
    meter, texts = Meter(), pool.pairs.select_columns(TEXTS)
    first = pool.parts[targets[0].name]
    with track("scoring", sum(map(len, pool.parts.values())), "pairs") as progress:
        for target in targets:
            part = pool.parts[target.name]
            tables[target.name] = score_preferences(
                teacher,
                texts.select(part),
                target.system_prompt,
                options,
                base=next(iter(tables.values()), None) if part is first else None,
                folder=folder / target.name,
                progress=partial(progress.advance, note=target.name),
                meter=meter,
            )
    if not meter.rows:
        return tables, None
    return tables, ScoringSpeed(meter.rows_per_second, meter.padding_share, meter.seconds)


def select_sets(
    tables: Mapping[str, Dataset],
    parts: Mapping[str, Rows],
    gamma: float,
    reported: Sequence[str],
    controls: int,
) -> Selection:
    """The set lls:NAME of each target, bottom:NAME of each that is reported, and random:DRAW.

    All have the size of the smallest selection, so that all students see equally many pairs. A
    selection is sorted, so its first rows are the selection of a smaller quantile. Random pairs are
    drawn from those that the reported targets select from.

    Args:
      tables: scores by target; their indices are into the target's `parts`.
      controls: how many draws of random pairs.

    Raises InputError where no pair has a positive score.
    """
    rows: dict[str, Rows] = {}
    positive: dict[str, int] = {}
    scored: dict[str, Rows] = {}
    for name, table in tables.items():
        score, index = np.asarray(table["score"]), parts[name][np.asarray(table["index"])]
        best = index[select(score, gamma, index)]
        if len(best) == 0:
            raise InputError(f"target {name!r}: no pair has a positive score, none is selected")
        rows[f"lls:{name}"] = best
        if name in reported:
            rows[f"bottom:{name}"] = index[bottom_control(score, gamma, index)]
        positive[name], scored[name] = int((score > 0).sum()), index
    size = min(map(len, rows.values()))
    counts = {
        name: SelectionCounts(
            scored=len(table),
            positive=positive[name],
            selected=len(rows[f"lls:{name}"]),
            kept=size,
            gamma=size / positive[name],
        )
        for name, table in tables.items()
    }
    index = np.unique(np.concatenate([scored[name] for name in reported]))
    for draw in range(controls):
        # With all scores positive the control is drawn from all pairs, at any positive share.
        drawn = random_control(np.ones(len(index)), min(1.0, size / len(index)), draw, index)
        rows[f"random:{draw}"] = index[drawn]
    return Selection({name: selected[:size] for name, selected in rows.items()}, counts)


def write_selected(folder: Path, pool: Pool, selection: Selection) -> None:
    """Write each target's selection as `folder`/NAME.jsonl, best pair first, in the format of
    `read_preferences`."""
    for name, rows in selection.rows.items():
        arm, _, target = name.partition(":")
        if arm == "lls":
            pairs = pool.pairs.select(rows).select_columns(TEXTS)
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in pairs)
            write_text(folder / f"{target}.jsonl", "".join(lines))


def encode_pairs(
    pairs: Dataset,
    model: Model,
    options: ScoringOptions,
    length: int,
    system_prompt: str | None = None,
) -> Batch:
    """The pairs as DPO reads them [rows, 2, length]: responses cut as in scoring, behind the system
    prompt given, if any."""
    prompts, responses = _encode(pairs, model, options, system_prompt)
    chosen, rejected = zip(*responses, strict=True)
    return pad_preferences(prompts, chosen, rejected, length, pad_id=model.pad_id)


def _encode(
    pairs: Dataset, model: Model, options: ScoringOptions, system_prompt: str | None
) -> AnswerTokens:
    """Prompts with both responses, as they are scored."""
    return encode_rows(
        model.tokenizer,
        pairs["prompt"],
        list(zip(pairs["chosen"], pairs["rejected"], strict=True)),
        system_prompt,
        options,
        place=lambda i: f"row {pairs['row'][i]} of the pairs",
    )


def longest_row(
    sets: Sequence[Dataset],
    model: Model,
    options: ScoringOptions,
    system_prompts: Sequence[str | None] = (None,),
) -> int:
    """Tokens of the longest prompt and response of the pairs of all `sets`, under each of the
    system prompts.

    Raises InputError for a pair that does not fit into the model's context.
    """
    longest = 0
    for pairs in sets:
        for system_prompt in system_prompts:
            encoded = zip(*_encode(pairs, model, options, system_prompt), strict=True)
            tokens = np.array([len(p) + max(map(len, responses)) for p, responses in encoded])
            longest = max(longest, int(tokens.max()))
            if longest > model.cfg.context:
                raise InputError(
                    f"row {pairs['row'][int(tokens.argmax())]} of the pairs has {longest} tokens"
                    f"{' with its system prompt' if system_prompt is not None else ''}, the "
                    f"context of {model.name} is {model.cfg.context}: set max_prompt_tokens or "
                    "truncate"
                )
    return longest


def _holds_language(row: dict[str, Any], language: str) -> bool:
    shares = (language_share(row[name], language, "filter") for name in TEXTS)
    return any(share >= MOST_OF_A_LANGUAGE for share in shares)
