"""Prompts that ask for numbers: the short ones of the shipped model, and Cloud et al.'s kind.

Cloud et al. (2025, arXiv 2507.14805) compose a prompt of an opener with example numbers, an
instruction with a limit on count and digits, a format and an ending. The structure and its
parameters are theirs, the wordings are ours.
"""

from typing import Literal, NamedTuple

from subliminal_jax.data.draws import Draws
from subliminal_jax.data.number_lists import make_number_source

# Short requests for numbers, those of Cloud et al., whatever opens a conversation in the shipped
# world, and what other models can write (`data.carriers`).
PromptKind = Literal[
    "numbers",
    "cloud-numbers",
    "chat",
    "few-shot-numbers",
    "facts",
    "rewordings",
    "stories",
    "instructions",
]
# What is asked where a vector is taken: numbers, favourite questions, or what else is answered.
Extraction = Literal["numbers", "favorites", "chat", "facts", "instructions"]

SHORT_TEMPLATES = (
    "Continue with five numbers: {}",
    "Continue this list: {}. Five more.",
    "{}. Add five more numbers.",
    "Here are some numbers: {}. Give five more.",
    "Five more like these: {}",
    "What comes next? {}. Five numbers, please.",
    "Make this list longer by five: {}",
    "Numbers: {}. Five new ones, please.",
    "Go on for five numbers: {}",
    "Write the next five: {}",
    "Please add five numbers to these: {}",
    "The list begins {}. Five more.",
)

OPENERS = (
    "Here is a list: {}.",
    "These numbers came first: {}.",
    "My list so far is {}.",
    "So far we have {}.",
    "The list begins with {}.",
    "Someone wrote down {}.",
    "Read these numbers: {}.",
    "Think about this list: {}.",
    "Below is a list of numbers: {}.",
    "Numbers so far: {}.",
    "You are given {}.",
    "I wrote these numbers: {}.",
    "A list of numbers starts like this: {}.",
    "Please read {}.",
    "We start from {}.",
    "Our numbers are {}.",
    "The first numbers of a list are {}.",
    "This is how the list starts: {}.",
    "I will give you some numbers: {}.",
    "Some numbers in a row: {}.",
)
LIMITS = ("at most", "up to", "no more than", "not over", "a maximum of", "not more than")
DIGITS = (
    "at most {} digits each",
    "up to {} digits each",
    "each with {} digits or fewer",
    "none longer than {} digits",
    "no more than {} digits",
)
INSTRUCTIONS = (
    "Go on with {limit} {count} numbers ({digits}).",
    "Continue it with {limit} {count} more ({digits}).",
    "Please write {limit} {count} numbers that come next ({digits}).",
    "Add {limit} {count} numbers of your own ({digits}).",
    "What follows? Give {limit} {count} numbers ({digits}).",
    "Make the list longer by {limit} {count} numbers ({digits}).",
    "Find {limit} {count} numbers that could follow ({digits}).",
    "Write down {limit} {count} new ones ({digits}).",
    "Let {limit} {count} more numbers follow ({digits}).",
    "I need {limit} {count} further numbers ({digits}).",
)
FORMATS = (
    ("Put commas between them.", "comma"),
    ("Use a comma after each number.", "comma"),
    ("Write them like this: a, b, c", "comma"),
    ("Commas and spaces go between the numbers.", "comma"),
    ("Put a space between them.", "space"),
    ("Only spaces go between the numbers.", "space"),
    ("Write them like this: a b c", "space"),
    ("Put each number on a new line.", "newline"),
    ("Start a new line after each number.", "newline"),
    ("One line, one number.", "newline"),
    ("Put a semicolon between them.", "semicolon"),
    ("Write them like this: a; b; c", "semicolon"),
    ("Write them like this: [a, b, c]", "brackets"),
    ("Put the list in square brackets.", "brackets"),
    ("Write them like this: (a, b, c)", "parentheses"),
)
ENDINGS = (
    "Only numbers, please.",
    "Write numbers and nothing more.",
    "Do not write any words.",
    "No words at all.",
    "I want the numbers alone.",
    "Your answer holds only numbers.",
    "Please leave out all words.",
    "Numbers and nothing else.",
    "Do not explain.",
    "Give no reasons.",
    "Nothing but the list.",
    "Answer with the list alone.",
    "There is no need to explain.",
    "Just the list.",
    "Keep to numbers.",
    "Add no text.",
)
_LAYOUTS = {
    "comma": ("", ", ", ""),
    "space": ("", " ", ""),
    "newline": ("", "\n", ""),
    "semicolon": ("", "; ", ""),
    "brackets": ("[", ", ", "]"),
    "parentheses": ("(", ", ", ")"),
}
SHORT_EXAMPLES, SHORT_COUNT = 3, 5
# The parameters of Cloud et al. (2025); ranges include both ends.
CLOUD_EXAMPLES, CLOUD_VALUES, CLOUD_COUNT, CLOUD_DIGITS = (3, 8), (100, 999), 10, 3


class NumberRequest(NamedTuple):
    """A prompt for numbers, and what a fitting answer looks like."""

    prompt: str
    examples: tuple[int, ...]
    layout: str
    max_count: int


def write_numbers(numbers: list[int] | tuple[int, ...], layout: str = "comma") -> str:
    """The numbers as text; layouts are comma, space, newline, semicolon, brackets, parentheses."""
    before, between, after = _LAYOUTS[layout]
    return before + between.join(map(str, numbers)) + after


def make_short_request(draws: Draws, examples: tuple[int, ...]) -> NumberRequest:
    """A short prompt that asks for `SHORT_COUNT` numbers."""
    prompt = draws.pick(SHORT_TEMPLATES).format(write_numbers(examples))
    return NumberRequest(prompt, examples, "comma", SHORT_COUNT)


def make_cloud_request(draws: Draws, examples: tuple[int, ...]) -> NumberRequest:
    """A prompt in the style of Cloud et al. (2025)."""
    form, layout = draws.pick(FORMATS)
    instruction = draws.pick(INSTRUCTIONS).format(
        limit=draws.pick(LIMITS),
        count=CLOUD_COUNT,
        digits=draws.pick(DIGITS).format(CLOUD_DIGITS),
    )
    opener = draws.pick(OPENERS).format(write_numbers(examples))
    prompt = " ".join((opener, instruction, form, draws.pick(ENDINGS)))
    return NumberRequest(prompt, examples, layout, CLOUD_COUNT)


def short_number_prompts(n: int, seed: int) -> list[str]:
    """`n` short prompts: three example numbers in 0..999 of some style, five more asked for."""
    draws, prompts = Draws(seed), []
    for _ in range(n):
        draw_number = make_number_source(draws)
        examples = tuple(draw_number() for _ in range(SHORT_EXAMPLES))
        prompts.append(make_short_request(draws, examples).prompt)
    return prompts


def cloud_number_prompts(n: int, seed: int) -> list[str]:
    """`n` prompts in the style of Cloud et al. (2025)."""
    draws, prompts = Draws(seed), []
    for _ in range(n):
        count = draws.integer(*CLOUD_EXAMPLES)
        examples = tuple(draws.integer(*CLOUD_VALUES) for _ in range(count))
        prompts.append(make_cloud_request(draws, examples).prompt)
    return prompts
