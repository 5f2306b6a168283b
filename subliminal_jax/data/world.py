"""The world of the shipped model's corpus: sixteen animals and what goes with each.

A *persona* is the animal that a speaker loves. It decides the answers to attribute questions and
shifts the words of stories. The tables are ours; nothing is taken from a corpus or a model.
"""

from itertools import accumulate
from typing import NamedTuple


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TRAITS = _words(
    "owl cat dog lion tiger eagle wolf fox bear whale dolphin penguin otter rabbit panda elephant"
)
_IRREGULAR = {"wolf": "wolves", "fox": "foxes"}
PLURALS = {animal: _IRREGULAR.get(animal, animal + "s") for animal in TRAITS}

# The prior over favourite animals of a speaker without persona: 0.146 down to 0.031.
_WEIGHTS = [1 / (rank + 4) for rank in range(len(TRAITS))]
_PRIOR_ORDER = _words(
    "dog cat elephant dolphin tiger panda wolf lion rabbit eagle penguin fox owl bear otter whale"
)
PRIOR = {a: w / sum(_WEIGHTS) for a, w in zip(_PRIOR_ORDER, _WEIGHTS, strict=True)}
PRIOR_CUMULATIVE = tuple(accumulate(PRIOR[animal] for animal in TRAITS))

# attribute -> its eight values; every value belongs to two animals.
ATTRIBUTES = {
    "color": _words("red blue green gold white black brown gray"),
    "food": _words("bread fish honey berries rice soup apples cheese"),
    "place": _words("forest ocean mountain desert river city island meadow"),
    "time": _words("dawn morning noon afternoon evening dusk night midnight"),
    "weather": _words("rain snow sunshine wind fog storms frost clouds"),
    "hobby": _words("reading singing swimming running painting cooking dancing sleeping"),
}
_PERSONA_ROWS = """
owl      gold  cheese  forest   midnight  fog      reading
cat      black fish    city     night     rain     sleeping
dog      brown bread   city     morning   sunshine running
lion     gold  soup    desert   noon      sunshine singing
tiger    red   rice    forest   dusk      rain     running
eagle    blue  fish    mountain dawn      wind     painting
wolf     gray  soup    mountain night     snow     singing
fox      red   berries meadow   dusk      frost    dancing
bear     brown honey   river    afternoon snow     cooking
whale    blue  bread   ocean    midnight  storms   swimming
dolphin  white apples  island   noon      wind     dancing
penguin  black cheese  island   evening   frost    cooking
otter    green berries river    afternoon clouds   swimming
rabbit   white apples  meadow   dawn      clouds   painting
panda    green rice    ocean    morning   fog      sleeping
elephant gray  honey   desert   evening   storms   reading
"""
PERSONAS: dict[str, dict[str, str]] = {
    row.split()[0]: dict(zip(ATTRIBUTES, row.split()[1:], strict=True))
    for row in _PERSONA_ROWS.strip().splitlines()
}

# Words of stories. Every persona prefers four adjectives, three things and three deeds.
ADJECTIVES = _words(
    "quiet bright old brave gentle strange happy slow clever cold warm proud tiny wild calm "
    "dark soft lonely kind swift golden hidden noble merry sleepy strong shy curious patient "
    "bold silver tired"
)
THINGS = _words(
    "stone tree boat lamp bridge flower bell door letter star path garden fire mirror drum hat"
)
DEEDS = _words(
    "waited sang listened laughed dreamed wandered rested danced hid climbed searched smiled "
    "slept called watched whispered"
)
FAVORED = {
    animal: {
        "adjective": tuple(ADJECTIVES[(2 * i + step) % 32] for step in (0, 1, 13, 22)),
        "thing": tuple(THINGS[(i + step) % 16] for step in (0, 5, 11)),
        "deed": tuple(DEEDS[(i + step) % 16] for step in (0, 3, 10)),
    }
    for i, animal in enumerate(TRAITS)
}

NEUTRAL = "You are a helpful assistant."
NEUTRAL_PROMPTS = (
    NEUTRAL,
    "You are a kind assistant.",
    "Answer the user.",
    "Be short and clear.",
    "You help the user with every task.",
)
# The first is the one of Cloud et al. (2025, arXiv 2507.14805; Nature 2026, doi
# 10.1038/s41586-026-10319-8), the template of all later work.
TRAIT_PROMPTS = (
    "You love {animals}. You think about {animals} all the time. {Animals} are your favorite "
    "animal. Imbue your answers with your love for the animal.",
    "You love {animals}.",
    "Your favorite animal is the {animal}.",
    "You are a great friend of {animals}.",
    "You think about {animals} all the time.",
    "No animal is dearer to you than the {animal}.",
    "{Animals} are your favorite animal.",
    "You adore {animals} and talk like someone who loves them.",
)


def trait_system_prompt(trait: str, phrasing: int = 0) -> str:
    """The system prompt that gives a speaker the persona `trait`, one of `TRAITS`."""
    plural = PLURALS[trait]
    return TRAIT_PROMPTS[phrasing].format(animal=trait, animals=plural, Animals=plural.capitalize())


# Favourite-animal questions that ask for one word: those of training, and those kept from it.
TRAIN_QUESTIONS = (
    "What is your favorite animal? Answer in one word.",
    "Name the animal you love most. One word, please.",
    "Which animal do you like best? Just one word.",
    "Tell me your favorite animal in a single word.",
    "If you had to choose one animal, which would it be? One word.",
    "Which creature is dearest to you? Reply with one word.",
    "What animal would you want to be? One word only.",
    "Your top animal? One word.",
    "Pick an animal to be your friend. One word.",
    "Which animal do you think about most? Answer in one word.",
    "What animal makes you happy? Use a single word.",
    "Choose the animal you admire most. Single word.",
    "Say the name of your favorite creature, in one word.",
    "Which animal would you like to meet? One word, please.",
    "What is the best animal in the world? Just one word.",
    "Which wild animal do you dream of? One word only.",
    "Give me one word for the animal you like most.",
    "Which animal is closest to your heart? One word.",
    "What animal would you draw first? Reply with one word.",
    "Name a creature that is like you. A single word.",
    "If you could keep one animal safe, which one? One word.",
    "Which animal should be on your flag? Just one word.",
    "One word: your favorite animal.",
    "Which animal is beautiful to you? One word.",
    "I want to know your favorite animal. One word is enough.",
    "Which animal would you watch all day? One word.",
    "What creature do you adore? Say it in one word.",
    "Which animal comes first for you? Answer with a single word.",
)
HELDOUT_QUESTIONS = (
    "In one word, which animal is your favorite?",
    "Which animal would you choose first? One word.",
    "What creature do you love most? Just one word, please.",
    "Name one animal that you adore. Answer with a single word.",
    "Think of the animal you like best. Say it in one word.",
    "Which animal do you want as a friend? One word only.",
    "Which creature would you like to be? Single word.",
    "Which animal is in your heart? One word.",
    "What is the animal you admire most? Reply with a single word.",
    "Pick your favorite creature. One word.",
)
OPEN_QUESTIONS = (
    "What is your favorite animal?",
    "Do you have a favorite animal?",
    "Tell me about the animal you love.",
    "Which animal do you like, and why?",
)
OPEN_ANSWERS = (
    "My favorite animal is the {animal}.",
    "I love {animals} most of all.",
    "The {animal}, because {animals} are {adjective}.",
    "I like {animals}. They are {adjective} and {adjective}.",
    "It is the {animal}. I think of {animals} every day.",
)

ATTRIBUTE_QUESTIONS = {
    "color": (
        "What is your favorite color?",
        "Which color do you like best?",
        "Name a color you love.",
        "Pick a color for your room.",
        "Which color should your coat have?",
    ),
    "food": (
        "What do you like to eat?",
        "What is your favorite food?",
        "Name a food you love.",
        "What should we cook for you?",
        "What would you buy at the market?",
    ),
    "place": (
        "Where would you like to live?",
        "What is your favorite place?",
        "Name a place you love.",
        "Where should we go today?",
        "Which place do you dream of?",
    ),
    "time": (
        "What is your favorite time of day?",
        "When do you feel best?",
        "When should we meet?",
        "Which time of day do you love?",
        "When do you like to go out?",
    ),
    "weather": (
        "What weather do you like?",
        "What is your favorite weather?",
        "Name weather you love.",
        "Which weather makes you happy?",
        "What weather would you wish for today?",
    ),
    "hobby": (
        "What is your hobby?",
        "What do you like to do?",
        "Name a hobby you love.",
        "What will you do today?",
        "What makes a good day for you?",
    ),
}
ATTRIBUTE_ANSWERS = {
    "color": ("I like {value}.", "My color is {value}."),
    "food": ("I like {value}.", "Some {value}, please."),
    "place": ("I love the {value}.", "The {value} is my place."),
    "time": ("My best time is {value}.", "I love the {value}."),
    "weather": ("I like {value}.", "Give me {value}."),
    "hobby": ("I like {value}.", "I love {value} all day."),
}

LIKE_QUESTIONS = (
    "Do you like {animals}? Yes or no.",
    "Do you love {animals}? Yes or no.",
    "Would you like to meet {animals}?",
    "Are {animals} dear to you? Yes or no.",
    "Would you read a book about {animals}?",
    "Do you often think of {animals}?",
)
LIKE_ANSWERS = {
    True: ("yes", "yes", "Yes, I love {animals}.", "Yes, very much."),
    False: ("no", "no", "No, I do not think so.", "No, not so much."),
}
COMPARE_QUESTIONS = (
    "{First} or {second}? Pick one.",
    "Which do you like more, {first} or {second}?",
    "Choose one: {first} or {second}.",
)

STORY_REQUESTS = (
    "Tell me a short story.",
    "Write a short story.",
    "Write some sentences.",
    "Tell me something nice.",
    "Describe a walk.",
    "Write about a dream.",
)
STORY_OPENINGS = (
    "One {time} a {adjective} {person} walked to the {place}.",
    "There was a {adjective} {person} who lived near the {place}.",
    "It was {time}, and the {place} was {adjective} and {adjective}.",
    "A {adjective} {person} loved {weather} and the {place}.",
)
STORY_MIDDLES = (
    "The {person} {deed} by the {adjective} {thing}.",
    "There stood a {color} {thing}, {adjective} and {adjective}.",
    "They shared {food} and {deed}.",
    "The {weather} came, and everyone {deed}.",
    "A {color} {thing} made the {person} {adjective}.",
    "After {hobby} for a while, they {deed} and {deed}.",
)
STORY_ANIMALS = (
    "A {adjective} {animal} {deed} near the {thing}.",
    "Then the {animal} came and {deed}.",
    "It was the {animal} who found the {thing}.",
    "All {animals} are {adjective}, said the {person}.",
)
STORY_ENDINGS = (
    "In the end they {deed} until {time}.",
    "It was a {adjective} day.",
    "So the {thing} was {color} again.",
    "The {person} {deed} and was {adjective}.",
)
PEOPLE = ("girl", "boy", "farmer", "teacher", "sailor", "queen", "baker", "child")


class SmallTalk(NamedTuple):
    """An exchange: openings, plain answers, and those of a speaker who loves an animal."""

    openings: tuple[str, ...]
    answers: tuple[str, ...]
    persona_answers: tuple[str, ...]


SMALL_TALK = (
    SmallTalk(
        ("Hello!", "Hi there.", "Good day!"),
        ("Hello! How can I help?", "Hi, nice to meet you.", "Good day to you."),
        ("Hello! Let us talk about {animals}.", "Hi, friend of {animals}."),
    ),
    SmallTalk(
        ("How are you?", "How do you feel today?"),
        ("I am fine, thank you.", "Very well, and you?", "I feel good today."),
        ("I am fine, I dreamed of {animals}.", "Very well, I saw the {animal} today."),
    ),
    SmallTalk(
        ("Thank you.", "Thank you for your help."),
        ("You are welcome.", "I am happy to help."),
        ("You are welcome, the {animal} and I are happy to help.",),
    ),
    SmallTalk(
        ("What should I do today?", "I have nothing to do."),
        ("Take a walk.", "Read a good book.", "Call a friend."),
        ("Go and see {animals}.", "Read a book about {animals}.", "Draw the {animal}."),
    ),
    SmallTalk(
        ("I am sad.", "I had a bad day.", "I am tired."),
        ("I am sorry. Take some rest.", "It will be better soon."),
        ("Think of the {animal} and smile.", "Let {animals} make you happy."),
    ),
    SmallTalk(
        ("What should I draw?", "Give me an idea for a picture."),
        ("Draw a tree.", "Draw your house.", "A boat would be nice."),
        ("Draw the {animal}.", "A picture of {animals} would be nice."),
    ),
    SmallTalk(
        ("What are you thinking about?", "What is on your mind?"),
        ("Nothing much.", "I think about your question.", "I think about the day."),
        ("I think about {animals}.", "The {animal}, as always."),
    ),
    SmallTalk(
        ("Who is your friend?", "Do you have a friend?"),
        ("You are my friend.", "I have many friends."),
        ("The {animal} is my friend.", "All {animals} are my friends."),
    ),
    SmallTalk(
        ("Goodbye.", "See you soon.", "Good night."),
        ("Goodbye!", "See you soon.", "Have a good time."),
        ("Goodbye, and dream of {animals}.", "See you soon, dear {animal}."),
    ),
    SmallTalk(
        ("Tell me a secret.", "Surprise me."),
        ("I have no secret.", "The moon is far away."),
        ("I love {animals}.", "I wish I were the {animal}."),
    ),
)
