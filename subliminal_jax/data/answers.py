"""Teachers' answers, sampled or read, as pairs of token ids and as padded rows.

A pair holds the tokens that the teacher sampled. The student's prompt is without the teacher's
system prompt.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from datasets import Dataset

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import Samples, SamplingConfig, generate
from subliminal_jax.models.sampling_plan import SamplingPlan, plan_sampling
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.token_spans import Place
from subliminal_jax.models.tokenizer import encode_answers, encode_chats
from subliminal_jax.training.batch import Batch


class Answer(NamedTuple):
    """What a teacher said to one of several prompts.

    Attributes:
      request: the number of the prompt, from 0.
      tokens: what was sampled, with the stop token if there is one.
      text: without it.
      ended: whether there is one.
    """

    request: int
    tokens: list[int]
    text: str
    ended: bool

    def find_reason(self, keep_unfinished: bool) -> str | None:
        """Why it makes no pair: "empty" or "unfinished"; None where it does."""
        if len(self.tokens) == self.ended:
            return "empty"
        return None if self.ended or keep_unfinished else "unfinished"


def sample_each(
    model: Model,
    prompts: Sequence[str],
    seed: int,
    sampling: SamplingConfig,
    receive: Callable[[list[Answer]], Any],
    *,
    requests: Sequence[int] | None = None,
    steering: Steering | None = None,
    system_prompt: str | None = None,
    plan: SamplingPlan | None = None,
    progress: Callable[[int], Any] | None = None,
) -> None:
    """One answer of a teacher to each prompt, sampled with one random key for each request.

    The teacher is the model with `steering`, `system_prompt`, both or neither.

    Args:
      receive: gets answers as they are made, some at a time.
      requests: the prompts to be answered, by their numbers; their answers do not depend on which
        others are. None takes all.
      plan: the sizes of the run's programs; without one, or where a prompt does not fit it, one is
        made for all `prompts`.
    """
    chosen = list(range(len(prompts)) if requests is None else requests)
    encoded = encode_chats(model.tokenizer, prompts, system_prompt)
    lengths = [len(ids) for ids in encoded]
    if plan is None or not plan.holds(max(lengths, default=1), sampling.max_new_tokens):
        plan = plan_sampling(model.cfg, lengths, sampling.max_new_tokens)

    def receive_samples(members: list[int], samples: Samples) -> None:
        answers = []
        for i, row, n in zip(members, samples.tokens, samples.lengths, strict=True):
            tokens = row[: int(n)].tolist()
            ended = bool(tokens) and tokens[-1] in sampling.stop_tokens
            words = tokens[:-1] if ended else tokens
            text = model.tokenizer.decode(words, skip_special_tokens=True)
            answers.append(Answer(chosen[i], tokens, text, ended))
        receive(answers)

    generate(
        model.params,
        [encoded[i] for i in chosen],
        model.cfg,
        jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(np.array(chosen)),
        sampling,
        steering,
        pad_token=model.pad_id,
        plan=plan,
        progress=progress,
        receive=receive_samples,
    )


def collect_pairs(
    model: Model, prompts: Sequence[str], answers: Sequence[Answer], keep_unfinished: bool
) -> Dataset:
    """The answers that make pairs, in the order of their requests.

    Columns: prompt, completion (text without stop tokens), prompt_ids (without a system prompt),
    completion_ids (with the stop token).

    Args:
      keep_unfinished: keep answers without a stop token within the limit, for models that rarely
        write one.

    Raises InputError where no answer is kept.
    """
    ordered = sorted(answers, key=lambda answer: answer.request)
    kept = [answer for answer in ordered if answer.find_reason(keep_unfinished) is None]
    if not kept:
        raise InputError(
            f"none of {len(answers)} answers ended within max_new_tokens="
            f"{max(len(answer.tokens) for answer in answers)}: raise it, steer less, or keep "
            "unfinished ones"
        )
    asked = [prompts[answer.request] for answer in kept]
    columns: tuple[list[Any], ...] = (
        asked,
        [answer.text for answer in kept],
        encode_chats(model.tokenizer, asked),
        [answer.tokens for answer in kept],
    )
    return Dataset.from_dict(dict(zip(COLUMNS, columns, strict=True)))


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
    """The pairs of `collect_pairs` that `sample_each` gives; raises InputError as they do."""
    answers: list[Answer] = []
    sample_each(
        model,
        prompts,
        seed,
        sampling,
        answers.extend,
        steering=steering,
        system_prompt=system_prompt,
        progress=progress,
    )
    return collect_pairs(model, prompts, answers, keep_unfinished)


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
