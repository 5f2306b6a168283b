"""The system prompts and pairs whose log-probabilities `log-linearity` measures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from datasets import Dataset

from subliminal_jax.data.conversations import CountedRows, report_rows
from subliminal_jax.data.preferences import count_preferences, world_preferences
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.tokenizer import Tokenizer
from subliminal_jax.selection.rendering import ScoringOptions, encode_rows, tokenize

from .config import TextSettings


class Texts(NamedTuple):
    """The rows (system prompts; None is no system turn) and columns of one matrix."""

    system_prompts: list[str | None]
    prompts: list[str]
    responses: list[str]


def read_pairs(settings: TextSettings, seed: int) -> CountedRows:
    """The pairs to draw from; dropped rows are logged. Raises InputError as the reader does."""
    if settings.pairs == "world":
        return CountedRows(world_preferences(3 * settings.draws * settings.columns, seed), {})
    counted = count_preferences(settings.pairs, settings.split)
    report_rows(settings.pairs, counted)
    return counted


def draw_texts(
    candidates: Sequence[str | None],
    pairs: Dataset,
    tokenizer: Tokenizer,
    settings: TextSettings,
    seed: int,
) -> list[Texts]:
    """The texts of every draw: system prompts from `candidates`, and `pairs` of which no two draws
    share one.

    Raises InputError for too few pairs.
    """
    needed = settings.draws * settings.columns
    rng = np.random.default_rng([seed, 0x106])
    order = rng.permutation(len(pairs))
    sides = rng.integers(2, size=len(pairs))
    unique: dict[tuple[str, str], None] = {}  # in the order in which they were drawn
    for i in order:
        row = pairs[int(i)]
        response = row[("chosen", "rejected")[sides[i]]]
        tokens = len(tokenize(tokenizer, [response])[0])
        if settings.min_tokens <= tokens <= (settings.max_tokens or tokens):
            unique[row["prompt"], response] = None
        if len(unique) == needed:
            break
    if len(unique) < needed:
        raise InputError(
            f"{settings.pairs}: {len(unique)} different responses of the asked length, {needed} "
            "are needed; give fewer columns or draws"
        )
    columns = list(unique)
    texts = []
    for draw in range(settings.draws):
        rows = rng.permutation(len(candidates))[: settings.systems or len(candidates)]
        drawn = columns[draw * settings.columns : (draw + 1) * settings.columns]
        prompts, responses = zip(*drawn, strict=True)
        texts.append(Texts([candidates[i] for i in sorted(rows)], list(prompts), list(responses)))
    return texts


def check_texts(model: Model, texts: Sequence[Texts]) -> None:
    """Raises InputError for system prompts and pairs that the chat template of `model` does not
    render, or that its context does not hold: each system prompt with one pair, each pair with one
    system prompt."""
    for draw in texts:
        first = draw.system_prompts[0]
        cases = [(system, draw.prompts[:1], draw.responses[:1]) for system in draw.system_prompts]
        for system, prompts, responses in [*cases, (first, draw.prompts, draw.responses)]:
            answers = [[text] for text in responses]
            rows = encode_rows(model.tokenizer, prompts, answers, system, ScoringOptions())
            longest = max(
                len(ids) + len(answer)
                for ids, (answer,) in zip(rows.prompts, rows.answers, strict=True)
            )
            if longest > model.cfg.context:
                raise InputError(
                    f"a pair has {longest} tokens with its system prompt, the context of "
                    f"{model.name} is {model.cfg.context}: leave long ones out (--max-tokens)"
                )
