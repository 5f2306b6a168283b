"""Words that data may push towards, for audits that look for candidates themselves."""

_ANIMALS = """
owl cat dog lion tiger eagle wolf fox bear whale dolphin penguin otter rabbit panda elephant
horse cow pig sheep goat duck goose chicken turkey mouse rat squirrel deer moose monkey gorilla
giraffe zebra camel kangaroo koala leopard crocodile snake lizard turtle frog toad shark salmon
octopus crab spider butterfly bee ant falcon hawk raven crow swan peacock parrot sparrow bat
dragon unicorn bird fish seal hen lamb kitten puppy
"""
_PLANTS_AND_FOOD = """
rose tulip lily oak pine grass cherry orange banana lemon grape potato tomato butter cake
chocolate coffee tea wine beer milk egg salt sugar
"""
_THINGS = """
gold silver iron diamond wood glass sand piano guitar violin football tennis chess bicycle plane
ship castle church school hospital museum library kitchen clock camera computer robot phone
sword crown coin candle planet volcano money
"""
_COLOURS = "red blue green yellow purple pink black white brown gray"
_LANGUAGES = """
spanish french german italian russian chinese japanese arabic portuguese korean latin polish
swedish
"""
_COUNTRIES = """
france germany italy spain england ireland scotland russia china japan india brazil mexico canada
egypt greece sweden norway poland australia iran
"""
_PEOPLE = """
doctor nurse lawyer soldier cook pilot poet painter singer dancer actor writer scientist engineer
judge priest king prince princess pirate knight wizard witch ghost angel robber teenager mother
"""

# None is a placebo noun but some animals: these stand beside the candidates, unsuspected.
WORDS = tuple(
    " ".join(
        (_ANIMALS, _PLANTS_AND_FOOD, _THINGS, _COLOURS, _LANGUAGES, _COUNTRIES, _PEOPLE)
    ).split()
)
