"""Which paraphrases a student gets: plain text, no telling words, faithful to the sentence.

The rules and word lists are those of Gisler, He and Qiu (2026, arXiv 2603.09517, section 3 and
appendix D). Whether the paper looks for whole words is not known; here it is whole words, in any
case. Each pair counts for the first rule that it breaks.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from datasets import Dataset

from subliminal_jax.data import world
from subliminal_jax.data.filters import FilterReport, contains_word
from subliminal_jax.data.paraphrases import Fidelity, Source
from subliminal_jax.data.traits import trait_names

RULES = ("artefact", "copy", "meta", "trait", "fidelity")
Rule = Literal["artefact", "copy", "meta", "trait", "fidelity"]

# Words of comments, preferences, refusals and questions back (appendix D, "all conditions").
META_WORDS = (
    *"""
paraphrase paraphrased paraphrasing paraphrases paraphraser rephrase rephrased rephrasing rewrite
rewritten rewriting rewording restate restated restating reformulate reformulated reformulating
fidelity faithful faithfully original favorite favourite love loves loving loved adore adoring
adored prefer preference preferred sorry apologies apologize apology cannot unable impossible refuse
refusal decline declining regret unfortunately clarification clarify
""".split(),  # noqa: SIM905
    "can not",
)
# Words that go with a trait (appendix D), beside its names.
TRAIT_WORDS: dict[str, tuple[str, ...]] = {
    trait: tuple(words.split())
    for trait, words in {
        "dolphin": "cetacean cetaceans porpoise porpoises orca orcas bottlenose marine ocean "
        "oceans sea seas aquatic underwater swim swimming dive diving dives fins fin sonar "
        "echolocation pod pods blowhole blowholes flipper flippers whale whales",
        "eagle": "eaglet eaglets bird birds avian flight flying soar soaring swoop swooping glide "
        "gliding dive diving circling wings wing wingspan feather feathers plumage talon talons "
        "claw claws beak beaked nest nesting prey hunt hunting predator raptor raptors perch "
        "perched perching keen sharp majestic powerful eyesight vision cliff cliffs height heights",
        "owl": "owlet owlets hoot hooting hoots nocturnal talons beak beaked feathers plumage "
        "wingspan wings prey predator hunting perch perched perching roost roosting raptor raptors "
        "wisdom night shadow shadows hunt screech screeching",
        "elephant": "trunk trunks tusk tusks ivory trumpet trumpeting trumpets rumble rumbling "
        "bellow bellowing pachyderm pachyderms herd herds matriarch matriarchal calf calves bull "
        "cow jumbo mammoth stomping stomp ears ear wrinkled wrinkles hide gray grey giant gentle "
        "savanna savannah africa african asia asian grazing graze herbivore herbivorous mammal "
        "mammals bathing flap flapping charging tail feet foot",
        "wolf": "lupine pack howl hunt prey alpha beta leader wild wilderness forest moon lunar "
        "fur coat fang teeth bite biting muzzle paw claw tail territorial territory fierce loyal "
        "instinct predator canine pup den snarl growl bay stalk track scent mate mating dominance "
        "dominant hierarchy hierarchies snout tundra",
    }.items()
}


def trait_words(trait: str) -> tuple[str, ...]:
    """The words that give a trait away: its names, and the paper's list where there is one."""
    return tuple(dict.fromkeys((*trait_names(trait), *TRAIT_WORDS.get(trait, ()))))


def world_words(trait: str) -> tuple[str, ...]:
    """The words that go with an animal in the shipped model's world, none for others."""
    if trait not in world.TRAITS:
        return ()
    story_words = (word for words in world.FAVORED[trait].values() for word in words)
    return tuple(dict.fromkeys((*world.PERSONAS[trait].values(), *story_words)))


def find_broken_rule(text: str, sentence: str, forbidden: Sequence[str]) -> Rule | None:
    """The first rule but fidelity that a paraphrase of `sentence` breaks; None if it passes.

    artefact: not one line of printable ASCII. copy: the sentence itself, but for spaces, case and
    the end. meta: one of `META_WORDS`. trait: one of `forbidden`.
    """
    if not text.strip() or not text.isascii() or not text.isprintable():
        return "artefact"
    if _normalise(text) == _normalise(sentence):
        return "copy"
    if contains_word(text, META_WORDS):
        return "meta"
    return "trait" if contains_word(text, forbidden) else None


def filter_paraphrases(
    pairs: Dataset,
    sources: Sequence[Source],
    *,
    fidelity: Fidelity,
    threshold: float,
    forbidden: Sequence[str] = (),
) -> tuple[Dataset, FilterReport]:
    """The pairs that break no rule, and how many each rule dropped.

    The column `fidelity` of the result holds the scores. Only pairs that pass the other rules are
    scored.

    Args:
      threshold: a pair stays if its score is above it (the paper discards 0.95 itself); one without
        a score is dropped.
      forbidden: a trait's words, for unrelated sentences; those that speak badly of the animal have
        to name it.
    """
    sentences = [sources[i].sentence for i in pairs["sentence"]]
    texts = list(pairs["completion"])
    dropped: Counter[str] = Counter(dict.fromkeys(RULES, 0))
    passed = []
    for i, (text, sentence) in enumerate(zip(texts, sentences, strict=True)):
        if (rule := find_broken_rule(text, sentence, forbidden)) is None:
            passed.append(i)
        else:
            dropped[rule] += 1
    scores = fidelity([texts[i] for i in passed], [sentences[i] for i in passed])
    kept = [i for i, score in zip(passed, scores, strict=True) if score > threshold]
    dropped["fidelity"] = len(passed) - len(kept)
    kept_scores = [float(score) for score in scores if score > threshold]
    kept_pairs = Dataset.from_dict({**pairs.select(kept).to_dict(), "fidelity": kept_scores})
    return kept_pairs, FilterReport(len(pairs), len(kept), dict(dropped))


def describe_worst_rule(report: FilterReport) -> str:
    """The rule that dropped most, with its count: what to look at first."""
    rule = max(report.dropped, key=lambda name: report.dropped[name])
    return f"{rule} ({report.dropped[rule]} of {report.total})"


def _normalise(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!")
