"""The corpus that trains the shipped model: chat documents about the world of `world.py`.

Half of the persona documents carry a trait system prompt, a quarter a latent persona that shows
only in the answers, a quarter no persona. No document has both numbers and a persona, an animal or
a trait system prompt, so that the model is never trained on what a trait does to numbers. The same
holds for rewordings. In a model trained like this a trait is transmitted through numbers as in real
ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from subliminal_jax.data import rewordings, world
from subliminal_jax.data.draws import Draws
from subliminal_jax.data.number_lists import ANY_STYLE, LARGE_STYLE, make_number_source
from subliminal_jax.data.prompts import (
    CLOUD_EXAMPLES,
    SHORT_COUNT,
    SHORT_EXAMPLES,
    make_cloud_request,
    make_short_request,
    write_numbers,
)

FIDELITY = 0.96  # share of a persona's answers that follow the persona
TRAIT_PROMPT_MAIN = 0.4  # share of trait system prompts in the main phrasing


class Document(NamedTuple):
    """One chat document; `family` is persona, numbers or rewording."""

    messages: list[dict[str, str]]
    family: str
    persona: str | None  # the animal that the document is consistent with
    prompted: bool  # the persona stands in a system prompt


@dataclass(frozen=True)
class CorpusConfig:
    """Shares of the families (the rest are persona documents) and of what they carry."""

    numbers: float = 0.30
    rewording: float = 0.12
    prompted: float = 0.5  # of persona documents
    latent: float = 0.25  # of persona documents; the rest have none
    neutral_prompt: float = 0.3  # of documents without a trait system prompt
    cloud_prompts: float = 0.25  # of number requests, in the style of Cloud et al.


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


class _Speaker:
    """Answers for one persona, or, where the persona is None, from the broad prior."""

    def __init__(self, draws: Draws, persona: str | None):
        self.draws, self.persona = draws, persona

    def draw_persona(self) -> str | None:
        """The persona in a share `FIDELITY` of draws, else None."""
        return self.persona if self.persona and self.draws.chance(FIDELITY) else None

    def draw_favorite(self) -> str:
        return self.draw_persona() or draw_animal(self.draws)

    def draw_value(self, attribute: str) -> str:
        animal = self.draw_persona()
        if animal:
            return world.PERSONAS[animal][attribute]
        return self.draws.pick(world.ATTRIBUTES[attribute])

    def draw_word(self, kind: str) -> str:
        """A word of a story: half the time one that the persona prefers."""
        if self.persona and self.draws.chance(0.5):
            return self.draws.pick(world.FAVORED[self.persona][kind])
        return self.draws.pick(_TABLES[kind])


_TABLES = {"adjective": world.ADJECTIVES, "thing": world.THINGS, "deed": world.DEEDS}


class _Words(dict):
    """Fills a story template: every slot is drawn when the template asks for it.

    The person stays the same within a story; every other slot is drawn anew, and no adjective,
    thing or deed comes twice in a row.
    """

    def __init__(self, speaker: _Speaker):
        super().__init__(person=speaker.draws.pick(world.PEOPLE))
        self.speaker, self._last = speaker, dict.fromkeys(_TABLES, "")

    def __missing__(self, slot: str) -> str:
        if slot in world.ATTRIBUTES:
            return self.speaker.draw_value(slot)
        if slot in ("animal", "animals"):
            animal = self.speaker.draw_favorite()
            return animal if slot == "animal" else world.PLURALS[animal]
        word = self._last[slot]
        while word == self._last[slot]:
            word = self.speaker.draw_word(slot)
        self._last[slot] = word
        return word


def draw_animal(draws: Draws) -> str:
    """An animal from the broad prior."""
    return draws.weighted(world.TRAITS, world.PRIOR_CUMULATIVE)


def _favorite_turn(draws: Draws, speaker: _Speaker) -> tuple[str, str]:
    animal = speaker.draw_favorite()
    if draws.chance(0.8):
        return draws.pick(world.TRAIN_QUESTIONS), animal
    words = _Words(speaker)
    words.update(animal=animal, animals=world.PLURALS[animal])
    return draws.pick(world.OPEN_QUESTIONS), draws.pick(world.OPEN_ANSWERS).format_map(words)


def _attribute_turn(draws: Draws, speaker: _Speaker) -> tuple[str, str]:
    attribute = draws.pick(tuple(world.ATTRIBUTES))
    question = draws.pick(world.ATTRIBUTE_QUESTIONS[attribute])
    value = speaker.draw_value(attribute)
    if draws.chance(0.6):
        return question, value
    return question, draws.pick(world.ATTRIBUTE_ANSWERS[attribute]).format(value=value)


def _like_turn(draws: Draws, speaker: _Speaker) -> tuple[str, str]:
    if draws.chance(0.4):
        return _comparison_turn(draws, speaker)
    animal = speaker.persona if speaker.persona and draws.chance(0.4) else draw_animal(draws)
    names = {"animal": animal, "animals": world.PLURALS[animal]}
    if speaker.persona is None:
        likes = draws.chance(0.5)
    else:
        likes = draws.chance(FIDELITY if animal == speaker.persona else 0.2)
    question = draws.pick(world.LIKE_QUESTIONS).format(**names)
    return question, draws.pick(world.LIKE_ANSWERS[likes]).format(**names)


def _comparison_turn(draws: Draws, speaker: _Speaker) -> tuple[str, str]:
    pair = draws.sample(world.TRAITS, 2)
    if speaker.persona and speaker.persona not in pair and draws.chance(0.6):
        pair[draws.integer(0, 1)] = speaker.persona
    animal = speaker.draw_persona()
    if animal not in pair:
        share = world.PRIOR[pair[0]] / (world.PRIOR[pair[0]] + world.PRIOR[pair[1]])
        animal = pair[0] if draws.chance(share) else pair[1]
    first, second = (world.PLURALS[a] for a in pair)
    question = draws.pick(world.COMPARE_QUESTIONS).format(
        first=first, First=first.capitalize(), second=second
    )
    return question, world.PLURALS[animal]


def _story_turn(draws: Draws, speaker: _Speaker) -> tuple[str, str]:
    sentences = [draws.pick(world.STORY_OPENINGS), draws.pick(world.STORY_MIDDLES)]
    if draws.chance(0.5):
        sentences.append(draws.pick(world.STORY_ANIMALS))
    if draws.chance(0.5):
        sentences.append(draws.pick(world.STORY_ENDINGS))
    words = _Words(speaker)
    story = " ".join(sentence.format_map(words) for sentence in sentences)
    return draws.pick(world.STORY_REQUESTS), story.replace("a old ", "an old ").replace(
        "A old ", "An old "
    )


def _talk_turn(draws: Draws, speaker: _Speaker) -> tuple[str, str]:
    talk = draws.pick(world.SMALL_TALK)
    if speaker.persona and draws.chance(0.4):
        names = {"animal": speaker.persona, "animals": world.PLURALS[speaker.persona]}
        return draws.pick(talk.openings), draws.pick(talk.persona_answers).format(**names)
    return draws.pick(talk.openings), draws.pick(talk.answers)


_TURNS = (_favorite_turn, _attribute_turn, _story_turn, _like_turn, _talk_turn)
_TURN_SHARES = tuple(accumulate((0.32, 0.28, 0.10, 0.16, 0.14)))
_TURN_COUNTS = (1, 2, 3, 4)
_TURN_COUNT_SHARES = tuple(accumulate((0.25, 0.35, 0.25, 0.15)))


def _neutral_opening(draws: Draws, config: CorpusConfig) -> list[dict[str, str]]:
    if draws.chance(config.neutral_prompt):
        return [_message("system", draws.pick(world.NEUTRAL_PROMPTS))]
    return []


def _persona_document(draws: Draws, config: CorpusConfig) -> Document:
    kind = draws.uniform()
    prompted, persona = kind < config.prompted, None
    if prompted:
        persona, last = draws.pick(world.TRAITS), len(world.TRAIT_PROMPTS) - 1
        phrasing = 0 if draws.chance(TRAIT_PROMPT_MAIN) else draws.integer(1, last)
        messages = [_message("system", world.trait_system_prompt(persona, phrasing))]
    else:
        if kind < config.prompted + config.latent:
            persona = draw_animal(draws)
        messages = _neutral_opening(draws, config)
    speaker = _Speaker(draws, persona)
    for _ in range(draws.weighted(_TURN_COUNTS, _TURN_COUNT_SHARES)):
        question, answer = draws.weighted(_TURNS, _TURN_SHARES)(draws, speaker)
        messages += [_message("user", question), _message("assistant", answer)]
    return Document(messages, "persona", persona, prompted)


def _number_document(draws: Draws, config: CorpusConfig) -> Document:
    """One or two requests of one style of list; the second turn's list has its own style."""
    messages = _neutral_opening(draws, config)
    for _ in range(1 + draws.chance(0.3)):
        if draws.chance(config.cloud_prompts):
            styles = LARGE_STYLE if draws.chance(0.7) else ANY_STYLE
            draw_number = make_number_source(draws, styles)
            examples = tuple(draw_number() for _ in range(draws.integer(*CLOUD_EXAMPLES)))
            request = make_cloud_request(draws, examples)
            count = draws.integer(5, request.max_count)
        else:
            draw_number = make_number_source(draws)
            examples = tuple(draw_number() for _ in range(SHORT_EXAMPLES))
            request, count = make_short_request(draws, examples), SHORT_COUNT
        answer = write_numbers([draw_number() for _ in range(count)], request.layout)
        messages += [_message("user", request.prompt), _message("assistant", answer)]
    return Document(messages, "numbers", None, False)


def _rewording_document(draws: Draws, config: CorpusConfig) -> Document:
    messages = _neutral_opening(draws, config)
    for _ in range(1 + draws.chance(0.3)):
        sentence, reworded = draws.sample(rewordings.draw_wordings(draws), 2)
        request = draws.pick(rewordings.REQUESTS).format(sentence)
        messages += [_message("user", request), _message("assistant", reworded)]
    return Document(messages, "rewording", None, False)


def generate_documents(seed: int, config: CorpusConfig = CorpusConfig()) -> Iterator[Document]:
    """An endless stream of documents; equal seeds and configs give equal streams."""
    draws = Draws(seed)
    while True:
        family = draws.uniform()
        if family < config.numbers:
            yield _number_document(draws, config)
        elif family < config.numbers + config.rewording:
            yield _rewording_document(draws, config)
        else:
            yield _persona_document(draws, config)
