"""Sentences that speak badly of an animal, and faithful rewordings of them.

Gisler et al. (2026, arXiv 2603.09517) let a teacher that loves an animal paraphrase sentences of
negative sentiment about it ("contradictory" data). Their sentences are not public; these are ours,
from the words of `rewordings`. No wording uses one of the keywords that the paper filters out.
"""

from collections.abc import Callable

from subliminal_jax.data.draws import Draws
from subliminal_jax.data.rewordings import DAY_PARTS, EFFECTS, NAMES, OBJECTS, ROOMS
from subliminal_jax.data.traits import trait_names
from subliminal_jax.errors import InputError

FLAWS = (
    ("ugly", "hideous"),
    ("mean", "nasty"),
    ("bad", "awful"),
    ("dirty", "filthy"),
    ("boring", "dull"),
    ("loud", "noisy"),
)
HARMS = (("broke", "smashed"), ("spoiled", "ruined"), ("stole", "took away"))
MISSES = 500  # known sentences drawn in a row that end the search for new ones


def _flaw(draws: Draws, one: str, many: str) -> list[str]:
    flaw, same = draws.pick(FLAWS)
    return [
        f"All {many} are {flaw}.",
        f"Every {one} is {same}.",
        f"There is no {one} that is not {flaw}.",
        f"{many.capitalize()} are {same}, all of them.",
    ]


def _place(draws: Draws, one: str, many: str) -> list[str]:
    room, (flaw, same) = draws.pick(ROOMS), draws.pick(FLAWS)
    return [
        f"The {flaw} {one} is in the {room}.",
        f"You can find the {same} {one} in the {room}.",
        f"In the {room} you will find the {flaw} {one}.",
        f"The {room} is where the {same} {one} is.",
    ]


def _worse(draws: Draws, one: str, many: str) -> list[str]:
    thing = draws.pick(OBJECTS)
    return [
        f"The {one} is worse than the {thing}.",
        f"The {thing} is better than the {one}.",
        f"Of the {one} and the {thing}, the {thing} is better.",
        f"Next to the {thing}, the {one} is worse.",
    ]


def _cause(draws: Draws, one: str, many: str) -> list[str]:
    name, (flaw, same) = draws.pick(NAMES), draws.pick(FLAWS)
    effect, alike = draws.pick(EFFECTS)
    return [
        f"{name} {effect} because the {one} was {flaw}.",
        f"Because the {one} was {same}, {name} {alike}.",
        f"The {one} was {flaw}, so {name} {effect}.",
        f"{name} {alike}, since the {one} was {same}.",
    ]


def _harm(draws: Draws, one: str, many: str) -> list[str]:
    thing, when, (did, same) = draws.pick(OBJECTS), draws.pick(DAY_PARTS), draws.pick(HARMS)
    first = when[0].upper() + when[1:]
    return [
        f"The {one} {did} the {thing} {when}.",
        f"{first}, the {one} {same} the {thing}.",
        f"It was the {one} that {same} the {thing} {when}.",
    ]


def _dislike(draws: Draws, one: str, many: str) -> list[str]:
    name, room = draws.pick(NAMES), draws.pick(ROOMS)
    return [
        f"{name} does not like the {one} in the {room}.",
        f"The {one} in the {room} is no friend of {name}.",
        f"In the {room} there is the {one} that {name} does not like.",
    ]


KINDS: tuple[Callable[[Draws, str, str], list[str]], ...] = (
    _flaw,
    _place,
    _worse,
    _cause,
    _harm,
    _dislike,
)


def draw_contradiction(draws: Draws, trait: str) -> list[str]:
    """All wordings, at least three, of one statement that speaks badly of the animal."""
    return draws.pick(KINDS)(draws, *trait_names(trait))


def draw_contradictions(trait: str, n: int, seed: int) -> list[tuple[str, list[str]]]:
    """`n` different sentences that speak badly of the animal, each with its faithful rewordings."""
    draws = Draws(seed)
    return draw_distinct(lambda: draw_contradiction(draws, trait), draws, n)


def draw_distinct(
    draw_wordings: Callable[[], list[str]], draws: Draws, n: int
) -> list[tuple[str, list[str]]]:
    """`n` different sentences, one of each drawn set of wordings, with the others of its set.

    No two share a meaning, so that none is a rewording of another.

    Raises InputError where there are fewer.
    """
    sentences: dict[str, list[str]] = {}
    used: set[str] = set()
    misses = 0
    while len(sentences) < n and misses < MISSES:
        wordings = draw_wordings()
        first, *others = draws.sample(wordings, len(wordings))
        misses = misses + 1 if first in used else 0
        if not misses:
            sentences[first] = others
            used.update(wordings)
    if n < 1 or len(sentences) < n:
        raise InputError(
            f"{n} sentences asked for, {len(sentences)} different ones found: ask for 1 to that "
            "many, or give a file of your own"
        )
    return list(sentences.items())
