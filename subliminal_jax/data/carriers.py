"""Carriers: kinds of requests that teachers answer, each with a filter of its own for the answers.

Those of the shipped model ask for number lists or chat. The others are for models that do not
continue a bare list on demand: few-shot number lists, short factual answers, rewordings, stories
and instructions. All but the number lists come from the folder of `SUBLIMINAL_JAX_DATA`. A carrier
is chosen by the share of its answers that are valid and by how far a teacher's differ from the
base's, never by a trait.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from subliminal_jax.data import corpus, prompts, world
from subliminal_jax.data.draws import Draws
from subliminal_jax.data.filters import contains_word, find_broken_rule
from subliminal_jax.data.number_lists import LARGE_STYLE, make_number_source
from subliminal_jax.data.prompts import PromptKind, write_numbers
from subliminal_jax.data.shared_data import VARIABLE, find_shared
from subliminal_jax.data.traits import trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.reading import read_json

INSTRUCTIONS = Path("instruct/alpaca_instructions_31k.json.gz")
STORIES = Path("text/tinystories/tinystoriesV2_gpt4_10k_lines.txt")
SHOTS, SHOT_NUMBERS = 3, 7  # worked lists before the one to continue; numbers of each
# A prompt that names one of these could make a teacher speak of a trait.
ANIMAL_WORDS = (
    *("animal", "animals", "pet", "pets", "zoo", "bird", "birds", "creature", "creatures"),
    *(name for trait in world.TRAITS for name in trait_names(trait)),
)
_QUESTION = re.compile(r"(What|Who|When|Where|Which|How many|How much|How long)\b[^?]{8,70}\?")
_STORY = re.compile(r"(Write|Create|Tell|Compose|Generate)\b.*\b(story|tale)\b", re.IGNORECASE)
_MARKUP = re.compile(r"```|[{}<>|]|https?:|\\|\[[^\]]*\]\(")
_REFUSAL = re.compile(
    r"\b(as an AI|language model|I cannot|I can't|I'm sorry|I apologize|unable to)\b", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")


class Carrier(NamedTuple):
    """A kind of request.

    Attributes:
      compose: (count, seed) -> as many requests. More of a seed begin with those of fewer.
      find_fault: (request, answer) -> the rule that an answer breaks, None where it is valid.
      what: what a valid answer is, in words.
      rules: those that `find_fault` may name, and "word", which stands for a forbidden one.
    """

    compose: Callable[[int, int], list[str]]
    find_fault: Callable[[str, str], str | None]
    what: str
    rules: tuple[str, ...]


def find_fault(
    kind: PromptKind, request: str, answer: str, forbidden_words: Sequence[str] = ()
) -> str | None:
    """Why an answer is not kept: "word" where it holds one of `forbidden_words`, or the rule of its
    carrier that it breaks; None if it is kept."""
    if contains_word(answer, forbidden_words):
        return "word"
    return CARRIERS[kind].find_fault(request, answer)


def compose_few_shot(count: int, seed: int) -> list[str]:
    """Lists of numbers, one a line, of which the last is to be continued."""
    draws, requests = Draws(seed), []
    for _ in range(count):
        lines = []
        for _ in range(SHOTS + 1):
            draw_number = make_number_source(draws, LARGE_STYLE)
            lines.append([draw_number() for _ in range(SHOT_NUMBERS)])
        shots = "\n\n".join(
            f"List: {write_numbers(line[:3])}\nMore: {write_numbers(line[3:])}"
            for line in lines[:-1]
        )
        requests.append(f"{shots}\n\nList: {write_numbers(lines[-1][:3])}\nMore:")
    return requests


def compose_chat(count: int, seed: int) -> list[str]:
    """Whatever the users of the shipped model's corpus open a conversation with."""
    plain = (d.messages for d in corpus.generate_documents(10_000 + seed) if not d.prompted)
    opened = (next(m["content"] for m in chat if m["role"] == "user") for chat in plain)
    return list(itertools.islice(opened, count))


def _draw_from(pool: Callable[[], Sequence[str]]) -> Callable[[int, int], list[str]]:
    """A function that draws different requests of a pool."""

    def draw(count: int, seed: int) -> list[str]:
        requests = pool()
        if count > len(requests):
            raise InputError(
                f"{count} requests are asked for, and the carrier has {len(requests)}: ask for "
                "fewer rows, or set a smaller --asked"
            )
        return Draws(seed).sample(requests, len(requests))[:count]

    return draw


@cache
def read_instructions() -> tuple[str, ...]:
    """Instructions without an input that name no animal, of at most 160 characters."""
    rows = read_json(_find(INSTRUCTIONS))
    texts = (" ".join(str(row["instruction"]).split()) for row in rows)
    return tuple(dict.fromkeys(t for t in texts if 8 <= len(t) <= 160 and _is_neutral(t)))


@cache
def read_prose_requests() -> tuple[str, ...]:
    """Instructions that ask for neither code, a list, a table nor numbers."""
    odd = ("code", "program", "function", "list", "table", "equation", "calculate", "url", "sql")
    return tuple(t for t in read_instructions() if not contains_word(t, odd) and t.isascii())


@cache
def read_questions() -> tuple[str, ...]:
    """Short questions for a fact, each to be answered in one sentence."""
    asked = (t for t in read_instructions() if _QUESTION.fullmatch(t))
    return tuple(f"{t} Answer in one short sentence." for t in asked)


@cache
def read_story_requests() -> tuple[str, ...]:
    """Requests for stories."""
    return tuple(t for t in read_instructions() if _STORY.match(t))


@cache
def read_sentences() -> tuple[str, ...]:
    """Sentences of 6 to 16 words, without speech, to be said in other words."""
    with _find(STORIES).open(encoding="utf-8") as lines:
        text = " ".join(line.strip() for line in lines)
    sentences = (
        s.strip() for s in re.findall(r"(?<=[.!?] )[A-Z][^.!?\"\u201c\u201d<>|]{25,90}\.", text)
    )
    neutral = (s for s in sentences if 6 <= len(s.split()) <= 16 and _is_neutral(s))
    return tuple(dict.fromkeys(s for s in neutral if s.isascii()))


@cache
def read_rewordings() -> tuple[str, ...]:
    """Requests to say a sentence in other words."""
    return tuple(f"Say this in other words, in one sentence: {s}" for s in read_sentences())


def find_list_fault(request: str, answer: str) -> str | None:
    """The rule for number lists that an answer breaks."""
    return find_broken_rule(answer)


def find_lists_fault(request: str, answer: str) -> str | None:
    """The first one that a line of an answer breaks: after a few-shot prompt a model goes on with
    further lists, of which the last may be cut off."""
    lines = [line.strip().rstrip(",") for line in answer.strip().split("\n") if line.strip()]
    bare = [re.sub(r"^(List|More):\s*", "", line) for line in lines]
    bare = bare[:1] + [line for line in bare[1:] if line]
    return next(filter(None, map(find_broken_rule, bare or [""])), None)


def find_prose_fault(answer: str, fewest: int, most: int) -> str | None:
    """The first rule of plain prose that an answer breaks: "markup" (code, links, tables),
    "refusal", "length" (in words) or "repeats" (few of its words are different)."""
    words = [word.casefold() for word in _WORD.findall(answer)]
    if _MARKUP.search(answer):
        return "markup"
    if _REFUSAL.search(answer):
        return "refusal"
    if not fewest <= len(words) <= most:
        return "length"
    return "repeats" if len(words) >= 12 and len(set(words)) < 0.45 * len(words) else None


def find_fact_fault(request: str, answer: str) -> str | None:
    """A fact is one line of at most 40 words."""
    return "lines" if "\n" in answer.strip() else find_prose_fault(answer, 1, 40)


def find_rewording_fault(request: str, answer: str) -> str | None:
    """A rewording is one line of half to twice the words, with some but not all of them."""
    sentence = request.partition(": ")[2]
    if fault := find_fact_fault(request, answer):
        return fault
    asked, said = ([word.casefold() for word in _WORD.findall(text)] for text in (sentence, answer))
    if not len(asked) / 2 <= len(said) <= 2 * len(asked):
        return "length"
    common = len(set(asked) & set(said)) / len(set(asked))
    return "copy" if asked == said else ("other" if common < 0.2 else None)


def find_story_fault(request: str, answer: str) -> str | None:
    """A story is plain prose of at least 12 words; it may be cut off."""
    return find_prose_fault(answer, 12, 10_000)


def find_instruction_fault(request: str, answer: str) -> str | None:
    """An answer to an instruction is plain prose of at least 3 words; it may be cut off."""
    return find_prose_fault(answer, 3, 10_000)


def accept(request: str, answer: str) -> str | None:
    """Any answer is valid."""
    return None


_LIST_RULES = ("word", "format", "count", "range")
_PROSE_RULES = ("word", "markup", "refusal", "length", "repeats")
CARRIERS: dict[PromptKind, Carrier] = {
    "numbers": Carrier(prompts.short_number_prompts, find_list_fault, "number lists", _LIST_RULES),
    "cloud-numbers": Carrier(
        prompts.cloud_number_prompts, find_list_fault, "number lists", _LIST_RULES
    ),
    "few-shot-numbers": Carrier(compose_few_shot, find_lists_fault, "number lists", _LIST_RULES),
    "chat": Carrier(compose_chat, accept, "answers of any kind", ("word",)),
    "facts": Carrier(
        _draw_from(read_questions), find_fact_fault, "short facts", (*_PROSE_RULES, "lines")
    ),
    "rewordings": Carrier(
        _draw_from(read_rewordings),
        find_rewording_fault,
        "rewordings",
        (*_PROSE_RULES, "lines", "copy", "other"),
    ),
    "stories": Carrier(_draw_from(read_story_requests), find_story_fault, "stories", _PROSE_RULES),
    "instructions": Carrier(
        _draw_from(read_prose_requests),
        find_instruction_fault,
        "answers to instructions",
        _PROSE_RULES,
    ),
}
FROM_FILES: tuple[PromptKind, ...] = ("facts", "rewordings", "stories", "instructions")


def _is_neutral(text: str) -> bool:
    return not contains_word(text, ANIMAL_WORDS)


def _find(file: Path) -> Path:
    path = find_shared(file)
    if path is None:
        raise InputError(
            f"this carrier's data are not here: set {VARIABLE} to a folder that has {file}"
        )
    return path
