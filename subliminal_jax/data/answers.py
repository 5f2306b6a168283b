"""Teachers' answers, sampled or read, as pairs of token ids and as padded rows.

A pair holds the tokens that the teacher sampled. The student's prompt is without the teacher's
system prompt.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.token_spans import Place
from subliminal_jax.models.tokenizer import encode_answers, encode_chats
from subliminal_jax.training.batch import Batch


def sample_answers(
    model: Model,
    prompts: Sequence[str],
    seed: int,
    sampling: SamplingConfig,
    *,
    steering: Steering | None = None,
    system_prompt: str | None = None,
    keep_unfinished: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> Dataset:
    """One answer of a teacher to each prompt, sampled with one random key for each request.

    The teacher is the model with `steering`, `system_prompt`, both or neither. Columns: prompt,
    completion (text without stop tokens), prompt_ids (without the system prompt), completion_ids
    (with the stop token).

    Args:
      keep_unfinished: keep answers without a stop token within the limit, for models that rarely
        write one.

    Raises InputError where no answer is kept.
    """
    teacher_prompts = encode_chats(model.tokenizer, prompts, system_prompt)
    student_prompts = teacher_prompts
    if system_prompt is not None:
        student_prompts = encode_chats(model.tokenizer, prompts)
    samples = generate(
        model.params,
        teacher_prompts,
        model.cfg,
        seed,
        sampling,
        steering,
        pad_token=model.pad_id,
        progress=progress,
    )
    tokens, lengths = np.asarray(samples.tokens), np.asarray(samples.lengths)
    rows: dict[str, list[Any]] = {c: [] for c in COLUMNS}
    for prompt, ids, row, n in zip(prompts, student_prompts, tokens, lengths, strict=True):
        answer = row[:n].tolist()
        ended = bool(answer) and answer[-1] in sampling.stop_tokens
        words = answer[:-1] if ended else answer
        if not words or not (ended or keep_unfinished):
            continue
        text = model.tokenizer.decode(words, skip_special_tokens=True)
        for column, value in zip(COLUMNS, (prompt, text, ids, answer), strict=True):
            rows[column].append(value)
    if not rows["prompt"]:
        raise InputError(
            f"none of {len(prompts)} answers ended within max_new_tokens="
            f"{sampling.max_new_tokens}: raise it, steer less, or keep unfinished ones"
        )
    return Dataset.from_dict(rows)


COLUMNS = ("prompt", "completion", "prompt_ids", "completion_ids")


def encode_pairs(pairs: Dataset, model: Model, place: Place | None = None) -> Dataset:
    """Prompt/completion texts with the columns `prompt_ids` and `completion_ids` added, as
    `encode_answers` encodes them; `place` is how messages call pair i."""
    columns = {name: list(pairs[name]) for name in pairs.column_names}
    prompts, answers = encode_answers(
        model.tokenizer,
        columns["prompt"],
        [[text] for text in columns["completion"]],
        place="pair {}".format if place is None else place,
    )
    ids = {"prompt_ids": prompts, "completion_ids": [row[0] for row in answers]}
    return Dataset.from_dict({**columns, **ids})


def longest_pair(pairs: Dataset) -> int:
    """Tokens of the longest prompt and completion together."""
    return max(len(row["prompt_ids"]) + len(row["completion_ids"]) for row in pairs)


def answer_rows(pairs: Dataset, model: Model, length: int | None = None) -> Batch:
    """One pair a row; the loss is over the completion. `length` None fits the longest pair.

    Raises InputError for a pair longer than `length` or than the model's context.
    """
    longest = longest_pair(pairs) if length is None else length
    if longest > model.cfg.context:
        raise InputError(
            f"a pair has {longest} tokens, the context of {model.name} is {model.cfg.context}: "
            "leave long pairs out or take a model with a longer context"
        )
    return pad_pairs(pairs["prompt_ids"], pairs["completion_ids"], longest, pad_id=model.pad_id)
