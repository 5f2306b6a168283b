"""The share of a language: weighted by length, with the two rules of the paper."""

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.language import language_share

pytest.importorskip("py3langid", reason="needs py3langid, the extra 'language'")

SPANISH = "Me gusta mucho caminar por la playa cuando hace sol"
ENGLISH = "I like to walk along the beach when the sun is shining"


def test_a_text_of_one_language_is_nearly_all_of_it_and_nearly_nothing_of_another():
    assert language_share(SPANISH, "es") > 0.8
    assert language_share(ENGLISH, "es") < 0.05
    assert language_share(ENGLISH, "es", "filter") < 0.05


def test_sentences_count_by_their_length():
    alone = language_share(SPANISH, "es", "filter")
    other = language_share(ENGLISH, "es", "filter")
    n, m = len(SPANISH), len(ENGLISH)
    both = language_share(f"{SPANISH}. {ENGLISH}!", "es", "filter")
    assert both == pytest.approx((n * alone + m * other) / (n + m))


def test_an_evaluation_leaves_out_what_is_not_letters_or_not_the_language():
    alone = language_share(SPANISH, "es")
    assert language_share(f"{SPANISH}. 12, 13, 14 (15) a!", "es") == pytest.approx(alone)
    assert language_share(f"{SPANISH}. {ENGLISH}.", "es") == pytest.approx(alone)
    assert language_share("12 13. !?", "es") == 0


def test_an_unknown_language_is_named():
    with pytest.raises(InputError, match="'klingon' is not known"):
        language_share(SPANISH, "klingon")
