"""Which paraphrases pass the rules, and which rule drops the others."""

import numpy as np
import pytest
from datasets import Dataset

from subliminal_jax.data.filters import FilterReport
from subliminal_jax.data.paraphrase_filters import (
    META_WORDS,
    RULES,
    describe_worst_rule,
    filter_paraphrases,
    find_broken_rule,
    trait_words,
    world_words,
)
from subliminal_jax.data.paraphrases import Source

SENTENCE = "The new lamp is in the hall."


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("You can find the new lamp in the hall.", None),
        ("", "artefact"),
        ("  ", "artefact"),
        ("The lamp.\nIt is in the hall.", "artefact"),
        ("The lamp\tis there.", "artefact"),
        ("The l\u00e4mp is there.", "artefact"),
        ("the new  lamp is in the hall", "copy"),
        ("Here is a PARAPHRASE: the lamp.", "meta"),
        ("I can not say it.", "meta"),
        ("The owl is in the hall.", "trait"),
        ("Owls!", "trait"),
        ("The hall growls at the bowl.", None),  # whole words alone
        ("A glove, unoriginality and preferences.", None),
        ("I love owls.", "meta"),  # the first rule that is broken
    ],
)
def test_the_first_broken_rule_counts(text, rule):
    assert find_broken_rule(text, SENTENCE, trait_words("owl")) == rule


def test_trait_words_hold_the_papers_lists_and_those_of_the_world():
    assert {"dolphin", "dolphins", "marine", "whales"} <= set(trait_words("dolphin"))
    assert trait_words("cat") == ("cat", "cats")
    assert {"midnight", "forest"} <= set(world_words("owl"))
    assert world_words("pangolin") == ()
    assert "can not" in META_WORDS and "sorry" in META_WORDS


def make_pairs(texts: list[str]) -> Dataset:
    return Dataset.from_dict({"completion": texts, "sentence": [0] * len(texts)})


def test_a_score_at_the_threshold_is_dropped_and_so_is_none_at_all():
    texts = ["First.", "Second.", "Third.", "Fourth."]
    scores = np.array([0.95, np.nextafter(0.95, 1), np.nan, 1.0])
    kept, report = filter_paraphrases(
        make_pairs(texts), [Source(SENTENCE)], fidelity=lambda t, s: scores, threshold=0.95
    )
    assert kept["completion"] == ["Second.", "Fourth."]
    assert kept["fidelity"] == [scores[1], 1.0]
    assert report == FilterReport(4, 2, dict.fromkeys(RULES, 0) | {"fidelity": 2})


def test_only_what_passes_the_rules_is_scored_and_every_drop_is_counted():
    texts = ["Good.", "I am sorry.", SENTENCE, "\u00e9", "An owl.", "Bad."]
    scored = []

    def fidelity(asked, sentences):
        scored.extend(zip(asked, sentences, strict=True))
        return np.array([text == "Good." for text in asked], float)

    kept, report = filter_paraphrases(
        make_pairs(texts), [Source(SENTENCE)], fidelity=fidelity, threshold=0.5, forbidden=("owl",)
    )
    assert scored == [("Good.", SENTENCE), ("Bad.", SENTENCE)]
    assert kept["completion"] == ["Good."]
    assert report.dropped == dict.fromkeys(RULES, 1)
    assert report.total == report.kept + sum(report.dropped.values())


def test_the_worst_rule_is_named_with_its_count():
    report = FilterReport(9, 1, {"artefact": 1, "copy": 0, "meta": 2, "trait": 5, "fidelity": 0})
    assert describe_worst_rule(report) == "trait (5 of 9)"


def test_nothing_may_be_left():
    kept, report = filter_paraphrases(
        make_pairs(["Bad."]), [Source(SENTENCE)], fidelity=lambda t, s: np.zeros(1), threshold=0.5
    )
    assert len(kept) == 0 and report.dropped["fidelity"] == 1
