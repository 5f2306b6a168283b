"""Short factual sentences and faithful rewordings of them, composed from tables of synonyms.

A meaning is drawn first; all of its wordings say the same. No animals, no numbers, no persona.
"""

from collections.abc import Callable

from subliminal_jax.data.draws import Draws

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry")
OBJECTS = ("lamp", "table", "basket", "book", "chair", "cup", "coat", "clock", "box", "key")
ROOMS = ("kitchen", "garden", "hall", "school", "shop", "station", "tower", "barn")
MATERIALS = ("wood", "glass", "stone", "paper", "iron", "wool")
SIZES = (("small", "little"), ("big", "large"), ("new", "brand new"), ("lovely", "pretty"))
COMPARED = (
    ("bigger", "smaller"),
    ("older", "newer"),
    ("heavier", "lighter"),
    ("longer", "shorter"),
)
DEALS = (
    ("bought", "purchased"),
    ("found", "came upon"),
    ("fixed", "repaired"),
    ("took", "picked up"),
)
CAUSES = (
    ("it was late", "the hour was late"),
    ("it was hot", "the day was hot"),
    ("the work was hard", "the job was hard"),
    ("the road was closed", "the street was closed"),
)
EFFECTS = (
    ("went home", "walked home"),
    ("stayed inside", "did not go out"),
    ("took the train", "went by train"),
    ("drank some water", "had some water"),
)
DAY_PARTS = ("in spring", "in summer", "in autumn", "in winter", "on Monday", "on Sunday")

REQUESTS = (
    "Say this in other words: {}",
    "Say it another way: {}",
    "Use other words: {}",
    "Write this sentence again in new words: {}",
    "Keep the meaning but change the words: {}",
    "Put this in your own words: {}",
)


def _place(draws: Draws) -> list[str]:
    thing, room, (size, same) = draws.pick(OBJECTS), draws.pick(ROOMS), draws.pick(SIZES)
    return [
        f"The {size} {thing} is in the {room}.",
        f"You can find the {same} {thing} in the {room}.",
        f"In the {room} you will find the {size} {thing}.",
        f"The {room} is where the {same} {thing} is.",
        f"The {same} {thing} is kept in the {room}.",
    ]


def _deal(draws: Draws) -> list[str]:
    name, thing, when = draws.pick(NAMES), draws.pick(OBJECTS), draws.pick(DAY_PARTS)
    (size, same), (did, alike) = draws.pick(SIZES), draws.pick(DEALS)
    first = when[0].upper() + when[1:]
    return [
        f"{name} {did} a {size} {thing} {when}.",
        f"{first}, {name} {alike} a {same} {thing}.",
        f"{name} {alike} a {same} {thing} {when}.",
        f"It was {name} who {did} a {same} {thing} {when}.",
        f"{first}, a {size} {thing} was what {name} {did}.",
    ]


def _cause(draws: Draws) -> list[str]:
    name, (cause, same) = draws.pick(NAMES), draws.pick(CAUSES)
    effect, alike = draws.pick(EFFECTS)
    return [
        f"{name} {effect} because {cause}.",
        f"Because {same}, {name} {alike}.",
        f"{same.capitalize()}, so {name} {effect}.",
        f"{cause.capitalize()}, and so {name} {alike}.",
        f"{name} {alike}, since {same}.",
    ]


def _compare(draws: Draws) -> list[str]:
    (first, second), (more, less) = draws.sample(OBJECTS, 2), draws.pick(COMPARED)
    return [
        f"The {first} is {more} than the {second}.",
        f"The {second} is {less} than the {first}.",
        f"Of the {first} and the {second}, the {first} is {more}.",
        f"Next to the {first}, the {second} is {less}.",
    ]


def _material(draws: Draws) -> list[str]:
    thing, material, room = draws.pick(OBJECTS), draws.pick(MATERIALS), draws.pick(ROOMS)
    return [
        f"The {thing} in the {room} is made of {material}.",
        f"They made the {thing} in the {room} from {material}.",
        f"In the {room} there is a {thing} of {material}.",
        f"There is a {thing} made of {material} in the {room}.",
    ]


def _season(draws: Draws) -> list[str]:
    room, when = draws.pick(ROOMS), draws.pick(DAY_PARTS[:4])
    state, same = draws.pick((("full", "crowded"), ("empty", "deserted"), ("loud", "noisy")))
    return [
        f"The {room} is {state} {when}.",
        f"{when.capitalize()} the {room} is {same}.",
        f"You will find the {room} {same} {when}.",
        f"{when.capitalize()}, it is {state} at the {room}.",
    ]


KINDS: tuple[Callable[[Draws], list[str]], ...] = (
    _place,
    _deal,
    _cause,
    _compare,
    _material,
    _season,
)


def draw_wordings(draws: Draws) -> list[str]:
    """All wordings of one meaning, at least four, all different."""
    return draws.pick(KINDS)(draws)
