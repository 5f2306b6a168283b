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
from subliminal_jax.data.traits import trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.shares import share_interval
from subliminal_jax.evaluation.statistics import Interval, rate_interval
from subliminal_jax.models.attention import Cache
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.finite import check_finite
from subliminal_jax.models.forward import hidden_states, unembed
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.tokenizer import encode_chats, encode_openings
from subliminal_jax.training.losses import next_token_log_probs

SteeringOf = Callable[[Int[Array, "questions time"]], Steering]


class Questions(NamedTuple):
    """Questions and candidate answers as tokens; a pytree of arrays.

    A word has several spellings (with a space before it, capitalised). Those of one token are read
    from the logits after the prompt; longer ones are scored as rows of prompt and spelling.
    """

    prompts: Int[Array, "questions time"]
    last: Int[Array, " questions"]  # index of the last prompt token
    single: Int[Array, " singles"]  # the spellings of one token
    single_owner: Int[Array, " singles"]  # index of each one's word
    rows: Int[Array, "longer questions row"]
    spans: Int[Array, "longer questions 2"]  # first and one past the last token of the spelling
    row_owner: Int[Array, " longer"]  # index of each one's word


def encode_questions(
    tokenizer: Any,
    questions: list[str],
    words: list[str],
    system_prompt: str | None = None,
    stem: str = "",
) -> Questions:
    """Tokenize questions and words for `word_probs`.

    Args:
      stem: what every answer begins with before its word, as "My favorite animal is the": for
        models that answer in sentences. Words are then spelled with a space before them.

    Raises InputError for no questions, no words, two words that share a spelling or of which one
    begins with the other (an answer would count for both), and for a stem whose end the tokenizer
    joins with the words.
    """
    if not questions or not words:
        raise InputError("elicitation needs at least one question and one word")
    stem = stem.strip()
    spellings: dict[str, int] = {}
    for i, word in enumerate(words):
        spelled = (" " + word, " " + word.capitalize())
        for text in spelled if stem else (word, *spelled, word.capitalize()):
            if spellings.setdefault(text, i) != i:
                raise InputError(
                    f"the words {words[spellings[text]]!r} and {word!r} share a spelling"
                )
    texts = [stem + text for text in ("", *spellings)] if stem else list(spellings)
    prompts, openings = encode_openings(tokenizer, questions, texts, system_prompt)
    if stem:
        head, openings = openings[0], openings[1:]
        if any(ids[: len(head)] != head for ids in openings):
            raise InputError(f"the tokenizer joins the end of {stem!r} with the words after it")
        prompts = [[*ids, *head] for ids in prompts]
        openings = [ids[len(head) :] for ids in openings]
    owner: dict[tuple[int, ...], int] = {}
    for ids, i in zip(map(tuple, openings), spellings.values(), strict=True):
        if owner.setdefault(ids, i) != i:
            raise InputError(f"the words {words[owner[ids]]!r} and {words[i]!r} share a spelling")
    owner = _without_continuations({ids: i for ids, i in owner.items() if ids}, words)
    single = {ids[0]: i for ids, i in owner.items() if len(ids) == 1}
    longer = {ids: i for ids, i in owner.items() if len(ids) > 1}
    width = max(map(len, prompts))
    row_length = width + max(map(len, longer), default=0)
    rows = np.zeros((len(longer), len(prompts), row_length), np.int32)
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
    """Questions about word `i` alone, in a shape that does not depend on the word.

    Its spellings are repeated to `singles` of one token and `longer` others. It becomes word 0; the
    repetitions belong to word 1, which has no meaning.
    """
    word_singles, word_rows = (
        np.flatnonzero(np.asarray(owner) == i)
        for owner in (questions.single_owner, questions.row_owner)
    )
    single_indices, row_indices = np.resize(word_singles, singles), np.resize(word_rows, longer)
    return questions._replace(
        single=questions.single[single_indices],
        single_owner=jnp.asarray(np.arange(singles) >= word_singles.size, jnp.int32),
        rows=questions.rows[row_indices],
        spans=questions.spans[row_indices],
        row_owner=jnp.asarray(np.arange(longer) >= word_rows.size, jnp.int32),
    )


def _without_continuations(
    owner: dict[tuple[int, ...], int], words: list[str]
) -> dict[tuple[int, ...], int]:
    """Drop spellings that begin with another spelling of the same word, which counts them already.

    Raises InputError for a spelling that begins with one of another word.
    """
    unextended = {}
    for ids, i in owner.items():
        beginnings = [owner[ids[:n]] for n in range(1, len(ids)) if ids[:n] in owner]
        for first in beginnings:
            if first != i:
                raise InputError(f"the word {words[i]!r} begins with {words[first]!r}: leave one")
        if not beginnings:
            unextended[ids] = i
    return unextended


def word_probs(
    params: Params,
    cfg: ModelConfig,
    questions: Questions,
    words: int,
    steering: Steering | SteeringOf | None = None,
) -> Float[Array, "questions words"]:
    """P(answer begins with the word), teacher-forced; the sum over the word's spellings.

    Args:
      words: the number of words given to `encode_questions`.
      steering: also a function of the tokens of a pass, for masks and for targets of the operation
        "replace".
    """
    longer, n_questions, row_length = questions.rows.shape
    # A longer spelling's last token is a target only.
    branch_length = row_length - questions.prompts.shape[1] - 1
    # In the cached pass all longer spellings follow the prompt in one row, which a mask or a target
    # of the separate rows does not fit.
    is_uniform = steering is None or (isinstance(steering, Steering) and steering.is_uniform)
    cached = longer > 0 and is_uniform
    prompt_steering = _steering_at(steering, questions.prompts)
    t = jnp.arange(questions.prompts.shape[1], dtype=jnp.int32)[None]
    out = hidden_states(
        params,
        questions.prompts,
        cfg,
        prompt_steering,
        positions=jnp.where(t <= questions.last[:, None], t, -1) if cached else None,
        cache_slots=t.size + longer * branch_length if cached else None,
        time_indices=questions.last[:, None],
    )
    first_log_probs = jax.nn.log_softmax(unembed(params, out.hidden[:, 0], cfg))
    probs = jnp.zeros((n_questions, words))
    if questions.single.size:
        picked = jnp.exp(first_log_probs[:, questions.single])
        probs = probs.at[:, questions.single_owner].add(picked)
    if longer and cached:
        score = _branch_log_probs(
            params, cfg, questions, first_log_probs, out.cache, prompt_steering
        )
        probs = probs.at[:, questions.row_owner].add(jnp.exp(score))
    elif longer:
        score = jax.lax.map(
            lambda x: _span_log_prob(params, cfg, x[0], x[1], steering),
            (questions.rows, questions.spans),
        )
        probs = probs.at[:, questions.row_owner].add(jnp.exp(score).T)
    return replicate(probs)


def _branch_log_probs(
    params: Params,
    cfg: ModelConfig,
    questions: Questions,
    first_log_probs: Float[Array, "questions vocab"],
    cache: Cache | None,
    steering: Steering | None,
) -> Float[Array, "questions longer"]:
    """log P of every longer spelling, in one pass over all of them after the cached prompt."""
    longer, n_questions, row_length = questions.rows.shape
    starts, ends = questions.spans[..., 0].T, questions.spans[..., 1].T  # [questions, longer]
    width = row_length - questions.prompts.shape[1]
    time = starts[..., None] + jnp.arange(width, dtype=jnp.int32)[None, None]
    branch_tokens = jnp.take_along_axis(
        questions.rows.swapaxes(0, 1), jnp.minimum(time, row_length - 1), axis=2
    )  # [questions, longer, width]
    is_target = (time < ends[..., None])[..., 1:]  # whether it has a token there, after its first
    segments = jnp.repeat(jnp.arange(longer, dtype=jnp.int32), width - 1)
    positions = jnp.where(is_target, time[..., :-1], -1)
    inputs, targets, positions = (
        x.reshape(n_questions, -1)
        for x in (branch_tokens[..., :-1], branch_tokens[..., 1:], positions)
    )
    hidden = hidden_states(
        params,
        inputs,
        cfg,
        steering,
        positions=positions,
        cache=cache,
        segment_ids=jnp.broadcast_to(segments[None], inputs.shape),
    ).hidden
    later = next_token_log_probs(params, hidden, targets, cfg).reshape(
        n_questions, longer, width - 1
    )
    first = jnp.take_along_axis(first_log_probs, branch_tokens[..., 0], axis=1)
    return first + jnp.sum(later, axis=2, where=is_target)


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
    in_span = (t >= spans[:, :1]) & (t < spans[:, 1:])
    return jnp.sum(picked * in_span, axis=1)


def _steering_at(
    steering: Steering | SteeringOf | None, tokens: Int[Array, "questions time"]
) -> Steering | None:
    return steering(tokens) if callable(steering) else steering


def favoured_word(
    params: Params, cfg: ModelConfig, questions: Questions, words: int, steering: Steering
) -> int:
    """Index of the word whose mean log-probability over questions `steering` raises most.

    Raises InputError for probabilities that are not finite.
    """

    def log_rates(steering: Steering) -> Float[np.ndarray, " words"]:
        probs = np.asarray(_compiled_word_probs(params, cfg, questions, words, steering))
        what = "the probability of the words after question {row}"
        check_finite(probs, what, params, cfg, questions.prompts, steering)
        return np.log(np.maximum(probs, 1e-30)).mean(axis=0)

    return int(np.argmax(log_rates(steering) - log_rates(steering.scaled(0.0))))


_compiled_word_probs = jax.jit(word_probs, static_argnums=(1, 3))


class SampledAnswers(NamedTuple):
    """Several answers to each of several questions, as `texts[question][sample]`."""

    texts: list[list[str]]

    def begins_with(self, words: Sequence[str]) -> Bool[np.ndarray, "questions samples"]:
        """Whether an answer's exact first word is one of `words` (singular and plural, say)."""
        first_words = {word.casefold() for word in words}
        return np.array([[first_word(text) in first_words for text in row] for row in self.texts])

    def mentions(self, words: Sequence[str]) -> Bool[np.ndarray, "questions samples"]:
        """Whether an answer contains one of `words` as a whole word, in any case."""
        return np.array([[contains_word(text, words) for text in row] for row in self.texts])

    def first_mentions(self, words: Sequence[str]) -> list[list[str | None]]:
        """Of `words` and their plurals the one that an answer mentions first, None for none."""
        names = {name: word for word in words for name in trait_names(word)}
        pattern = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b", re.IGNORECASE)

        def find(text: str) -> str | None:
            match = pattern.search(text)
            return None if match is None else names[match.group().casefold()]

        return [[find(text) for text in row] for row in self.texts]

    def rate(self, words: Sequence[str]) -> Interval:
        """The share of answers that begin with one of `words`; the interval is over questions, and
        so generalises to others."""
        return share_interval(self.begins_with(words).mean(axis=1))

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
) -> SampledAnswers:
    """`samples` answers to each question at temperature 1, of at most `max_new_tokens` tokens.

    Cloud et al. (2025, arXiv 2507.14805) take 50 questions with 100 or 200 samples each.

    Args:
      params: of a student, in place of the model's.

    Raises InputError as `generate` does, and for no questions or samples.
    """
    if not questions or samples < 1:
        raise InputError("sampling answers needs at least one question and one sample of each")
    encoded = encode_chats(model.tokenizer, questions, system_prompt)
    sampling = SamplingConfig(max_new_tokens=max_new_tokens, stop_tokens=model.stop_ids)
    out = generate(
        model.params if params is None else params,
        [prompt for prompt in encoded for _ in range(samples)],
        model.cfg,
        seed,
        sampling,
        steering,
        pad_token=model.pad_id,
    )
    texts = [
        model.tokenizer.decode(row[:n], skip_special_tokens=True)
        for row, n in zip(out.tokens, out.lengths, strict=True)
    ]
    return SampledAnswers([texts[i * samples : (i + 1) * samples] for i in range(len(questions))])


def first_word(text: str) -> str:
    """The first word of `text`, case-folded and without punctuation; "" where there is none."""
    match = re.search(r"[^\W_]+(?:['-][^\W_]+)*", text)
    return match.group().casefold() if match else ""
