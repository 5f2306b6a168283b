"""Elicitation: how often does a model name the trait when it is asked for a favourite?

`word_probs` is teacher-forced: the exact probability that an answer at temperature 1 begins with
the word. Unlike a count over samples it has no floor and no sampling noise. `sampled_words` samples
answers, whose first words are counted, as Cloud et al. (2025, arXiv 2507.14805) do.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.data.filters import contains_word
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import Interval, hierarchical_bootstrap, rate_interval
from subliminal_jax.models.attention import Cache
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import hidden_states, unembed
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import whole
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.tokenizer import encode_chat
from subliminal_jax.training.losses import next_token_log_probs

SteeringOf = Callable[[Int[Array, "questions time"]], Steering]


class Questions(NamedTuple):
    """Questions and candidate answers as tokens; a pytree of arrays.

    A word may be spelt in several ways (with a space before it, capitalised); spellings that are
    one token are read off the first answer position, longer ones are scored as rows of their own.
    `owner` tells the word of each spelling.
    """

    prompts: Int[Array, "questions time"]
    last: Int[Array, " questions"]  # index of the last prompt token
    single: Int[Array, " singles"]
    single_owner: Int[Array, " singles"]
    rows: Int[Array, "longer questions row"]
    spans: Int[Array, "longer questions 2"]  # first and one past the last token of the spelling
    row_owner: Int[Array, " longer"]


def encode_questions(
    tokenizer: Any, questions: list[str], words: list[str], system_prompt: str | None = None
) -> Questions:
    """Tokenize questions and words for `word_log_probs`.

    Raises InputError for no questions, no words, or two words that share a spelling or of which
    one begins with the other: an answer would count for both.
    """
    if not questions or not words:
        raise InputError("elicitation needs at least one question and one word")
    prompts = [encode_chat(tokenizer, q, system_prompt=system_prompt) for q in questions]
    owner: dict[tuple[int, ...], int] = {}
    for i, word in enumerate(words):
        for text in (word, " " + word, word.capitalize(), " " + word.capitalize()):
            ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
            if owner.setdefault(ids, i) != i:
                raise InputError(f"the words {words[owner[ids]]!r} and {word!r} share a spelling")
    owner = _without_continuations({ids: i for ids, i in owner.items() if ids}, words)
    single = {ids[0]: i for ids, i in owner.items() if len(ids) == 1}
    longer = {ids: i for ids, i in owner.items() if len(ids) > 1}
    width = max(map(len, prompts))
    room = width + max(map(len, longer), default=0)
    rows = np.zeros((len(longer), len(prompts), room), np.int32)
    spans = np.zeros((len(longer), len(prompts), 2), np.int32)
    for j, ids in enumerate(longer):
        for q, prompt in enumerate(prompts):
            rows[j, q, : len(prompt) + len(ids)] = [*prompt, *ids]
            spans[j, q] = len(prompt), len(prompt) + len(ids)
    padded = np.array([p + [0] * (width - len(p)) for p in prompts], np.int32)
    return Questions(
        jnp.asarray(padded),
        jnp.asarray([len(p) - 1 for p in prompts], jnp.int32),
        jnp.asarray(list(single), jnp.int32),
        jnp.asarray(list(single.values()), jnp.int32),
        jnp.asarray(rows),
        jnp.asarray(spans),
        jnp.asarray(list(longer.values()), jnp.int32),
    )


def only_word(questions: Questions, i: int, singles: int, longer: int) -> Questions:
    """Word `i` of `questions` alone, as word 0 of two; word 1 takes what fills up the spellings to
    `singles` of one token and `longer` others, so that every word's questions have one shape."""
    own, others = (
        np.flatnonzero(np.asarray(owner) == i)
        for owner in (questions.single_owner, questions.row_owner)
    )
    s, r = np.resize(own, singles), np.resize(others, longer)
    return questions._replace(
        single=questions.single[s],
        single_owner=jnp.asarray(np.arange(singles) >= own.size, jnp.int32),
        rows=questions.rows[r],
        spans=questions.spans[r],
        row_owner=jnp.asarray(np.arange(longer) >= others.size, jnp.int32),
    )


def _without_continuations(
    owner: dict[tuple[int, ...], int], words: list[str]
) -> dict[tuple[int, ...], int]:
    """Without the spellings that go on from another of the same word, which counts them already."""
    kept = {}
    for ids, i in owner.items():
        beginnings = [owner[ids[:n]] for n in range(1, len(ids)) if ids[:n] in owner]
        for other in beginnings:
            if other != i:
                raise InputError(f"the word {words[i]!r} begins with {words[other]!r}: leave one")
        if not beginnings:
            kept[ids] = i
    return kept


def word_probs(
    params: Params,
    cfg: ModelConfig,
    questions: Questions,
    words: int,
    steering: Steering | SteeringOf | None = None,
) -> Float[Array, "questions words"]:
    """P(answer begins with the word), teacher-forced; the sum over the word's spellings.

    `words` is the number of words given to `encode_questions`. `steering` may be a function of the
    tokens of a pass: for masks, and for targets of the operation "replace".
    """
    R, Q, room = questions.rows.shape
    after = room - questions.prompts.shape[1] - 1  # tokens of a longer spelling that are read
    # An edit of every token alike need not know a token's place in a row.
    alike = steering is None or (isinstance(steering, Steering) and steering.same_everywhere)
    cached = R > 0 and alike
    own = _steering_at(steering, questions.prompts)
    t = jnp.arange(questions.prompts.shape[1], dtype=jnp.int32)[None]
    out = hidden_states(
        params, questions.prompts, cfg, own,
        positions=jnp.where(t <= questions.last[:, None], t, -1) if cached else None,
        cache_slots=t.size + R * after if cached else None,
        at=questions.last[:, None],
    )  # fmt: skip
    first_log_probs = jax.nn.log_softmax(unembed(params, out.hidden[:, 0], cfg))
    probs = jnp.zeros((Q, words))
    if questions.single.size:
        picked = jnp.exp(first_log_probs[:, questions.single])
        probs = probs.at[:, questions.single_owner].add(picked)
    if R and cached:
        score = _branch_log_probs(params, cfg, questions, first_log_probs, out.cache, own)
        probs = probs.at[:, questions.row_owner].add(jnp.exp(score))
    elif R:
        score = jax.lax.map(
            lambda x: _span_log_prob(params, cfg, x[0], x[1], steering),
            (questions.rows, questions.spans),
        )
        probs = probs.at[:, questions.row_owner].add(jnp.exp(score).T)
    return whole(probs)


def _branch_log_probs(
    params: Params,
    cfg: ModelConfig,
    questions: Questions,
    first_log_probs: Float[Array, "questions vocab"],
    cache: Cache | None,
    steering: Steering | None,
) -> Float[Array, "questions longer"]:
    """log P of every longer spelling: all of them side by side after the question, read once."""
    R, Q, room = questions.rows.shape
    starts, ends = questions.spans[..., 0].T, questions.spans[..., 1].T  # [questions, longer]
    width = room - questions.prompts.shape[1]
    at = starts[..., None] + jnp.arange(width, dtype=jnp.int32)[None, None]
    spelt = jnp.take_along_axis(
        questions.rows.swapaxes(0, 1), jnp.minimum(at, room - 1), axis=2
    )  # [questions, longer, width]
    inside = (at < ends[..., None])[..., 1:]  # whether it has a token there, after its first
    segments = jnp.repeat(jnp.arange(R, dtype=jnp.int32), width - 1)
    positions = jnp.where(inside, at[..., :-1], -1)
    inputs, targets, positions = (
        x.reshape(Q, -1) for x in (spelt[..., :-1], spelt[..., 1:], positions)
    )
    hidden = hidden_states(
        params, inputs, cfg, steering, positions=positions, cache=cache,
        segment_ids=jnp.broadcast_to(segments[None], inputs.shape),
    ).hidden  # fmt: skip
    later = next_token_log_probs(params, hidden, targets, cfg).reshape(Q, R, width - 1)
    first = jnp.take_along_axis(first_log_probs, spelt[..., 0], axis=1)
    return first + jnp.sum(later, axis=2, where=inside)


def _span_log_prob(
    params: Params,
    cfg: ModelConfig,
    rows: Int[Array, "questions row"],
    spans: Int[Array, "questions 2"],
    steering: Steering | SteeringOf | None,
) -> Float[Array, " questions"]:
    hidden = hidden_states(params, rows[:, :-1], cfg, _steering_at(steering, rows[:, :-1])).hidden
    log_probs = jax.nn.log_softmax(unembed(params, hidden, cfg))
    picked = jnp.take_along_axis(log_probs, rows[:, 1:, None], axis=-1)[..., 0]
    t = jnp.arange(1, rows.shape[1])[None]
    inside = (t >= spans[:, :1]) & (t < spans[:, 1:])
    return jnp.sum(picked * inside, axis=1)


def _steering_at(
    steering: Steering | SteeringOf | None, tokens: Int[Array, "questions time"]
) -> Steering | None:
    return steering(tokens) if callable(steering) else steering


def favoured_word(
    params: Params, cfg: ModelConfig, questions: Questions, words: int, steering: Steering
) -> int:
    """The word whose log-probability `steering` raises most, over all questions."""
    rate = jax.jit(word_probs, static_argnums=(1, 3))
    with_it, without = (
        jnp.log(jnp.maximum(rate(params, cfg, questions, words, s), 1e-30)).mean(axis=0)
        for s in (steering, steering.scaled(0.0))
    )
    return int(jnp.argmax(with_it - without))


class SampledAnswers(NamedTuple):
    """Answers to questions, several of each: `texts[question][sample]`."""

    texts: list[list[str]]

    def begins_with(self, words: Sequence[str]) -> Bool[np.ndarray, "questions samples"]:
        """Whether an answer's exact first word is one of `words` (singular and plural, say)."""
        wanted = {word.casefold() for word in words}
        return np.array([[first_word(text) in wanted for text in row] for row in self.texts])

    def mentions(self, words: Sequence[str]) -> Bool[np.ndarray, "questions samples"]:
        """Whether one of `words` stands in an answer as a whole word, in any case."""
        return np.array([[contains_word(text, words) for text in row] for row in self.texts])

    def rate(self, words: Sequence[str]) -> Interval:
        """The share of answers that begin with one of `words`; the interval resamples questions and
        answers, and so speaks of other questions of the kind."""
        return hierarchical_bootstrap(self.begins_with(words).astype(float), design="nested")

    def rates(self, words: Sequence[str]) -> list[Interval]:
        """The share for each question, with Wilson's interval over its answers."""
        return [rate_interval(int(row.sum()), row.size) for row in self.begins_with(words)]


def sampled_answers(
    model: Model,
    questions: Sequence[str],
    samples: int,
    seed: int,
    *,
    params: Params | None = None,
    steering: Steering | None = None,
    system_prompt: str | None = None,
    max_new_tokens: int = 16,
    batch_size: int = 128,
) -> SampledAnswers:
    """`samples` answers to each question at temperature 1, of at most `max_new_tokens` tokens.

    `params` stands in for the model's own weights (a student's). Cloud et al. take 50 questions
    with 100 or 200 samples each. Raises InputError as `generate` does, and for no samples.
    """
    if not questions or samples < 1:
        raise InputError("sampling answers needs at least one question and one sample of each")
    encode = [encode_chat(model.tokenizer, q, system_prompt=system_prompt) for q in questions]
    sampling = SamplingConfig(max_new_tokens=max_new_tokens, stop_tokens=model.stop_ids)
    out = generate(
        model.params if params is None else params,
        [prompt for prompt in encode for _ in range(samples)],
        model.cfg,
        seed,
        sampling,
        steering,
        pad_token=model.pad_id,
        batch_size=batch_size,
    )
    texts = [
        model.tokenizer.decode(row[:n], skip_special_tokens=True)
        for row, n in zip(out.tokens, out.lengths, strict=True)
    ]
    return SampledAnswers([texts[i * samples : (i + 1) * samples] for i in range(len(questions))])


def first_word(text: str) -> str:
    """The first word of `text`, case-folded and without punctuation; "" where there is none."""
    found = re.search(r"[^\W_]+(?:['-][^\W_]+)*", text)
    return found.group().casefold() if found else ""
