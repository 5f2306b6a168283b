"""Words of a vocabulary as candidates: which words count, which are chosen, and at what price."""

from contextlib import suppress

import numpy as np
import pytest

from subliminal_jax.audit.audit import compare_candidates
from subliminal_jax.audit.nulls import compare_with_zero
from subliminal_jax.audit.proposals import standardise
from subliminal_jax.audit.results import DataReport
from subliminal_jax.audit.rows import AuditRows
from subliminal_jax.audit.score_test import PLACEBO, Column, Push, correct
from subliminal_jax.audit.scores import Scores
from subliminal_jax.audit.settings import AuditSettings, ProposalSettings
from subliminal_jax.audit.vocabulary import MOST_TESTED, choose_words, read_words
from subliminal_jax.data import world
from subliminal_jax.data.placebos import NOUNS
from subliminal_jax.data.traits import check_word, read_word_splitter
from subliminal_jax.data.vocabulary import WORDS
from subliminal_jax.errors import InputError
from subliminal_jax.models.places import SHIPPED
from tests import number_model


@pytest.fixture(scope="module")
def tokenizer():
    return number_model.tokenizer()


def choose(tokenizer, file, text, named=(), propose=2):
    file.write_text(text)
    return choose_words(ProposalSettings(propose=propose, vocabulary=file), tokenizer, named)


def test_words_of_the_model_without_those_that_are_named(tokenizer, tmp_path):
    text = "owl\ncat\n\nzyzzyva\ndog\nowl\n"
    chosen = choose(tokenizer, tmp_path / "words.txt", text, named=("cat",))
    assert chosen.words == ("owl", "dog") and chosen.left_out == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("owl\nPolar bear\n", "words.txt, line 2: 'Polar bear' is no word"),
        ("owl\nzyzzyva\n", "of the vocabulary's 2 words the model has 1"),
    ],
)
def test_bad_vocabulary_is_one_line(tokenizer, tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        choose(tokenizer, tmp_path / "words.txt", text)


def test_a_vocabulary_too_long_for_any_p_is_refused(tokenizer):
    """The smallest p-value of 9,999 drawn signs, corrected for all."""
    assert correct(1e-4, MOST_TESTED) < 0.05 < correct(1e-4, MOST_TESTED + 20)
    named = [f"vector-{i}" for i in range(MOST_TESTED - 20)]
    with pytest.raises(InputError, match="give at most 500"):
        choose_words(ProposalSettings(propose=1), tokenizer, named)


def test_shipped_vocabulary():
    """Each word once, the world's animals among them, and enough nouns beside it as placebos."""
    assert read_words(None) == list(WORDS) and len(set(WORDS)) == len(WORDS) >= 200
    split = read_word_splitter(SHIPPED)
    known = []
    for word in (*WORDS, *NOUNS):
        with suppress(InputError):
            check_word(word, split)
            known.append(word)
    assert set(world.TRAITS) <= set(known)
    assert len(set(known) - set(WORDS)) >= 2 * AuditSettings().placebos


def test_slope_is_in_standard_errors():
    """Of columns of one spread, in the order of their means; a wide column is discounted."""
    noise = np.random.default_rng(0).normal(size=(400, 3))
    rows = (noise - noise.mean(axis=0)) / noise.std(axis=0, ddof=1)
    rows = rows * [1, 1, 10] + [0.1, 0.5, 0.6]
    slopes = standardise(Push(rows, np.eye(3)))
    np.testing.assert_allclose(slopes, [0.1 * 20, 0.5 * 20, 0.06 * 20])


def test_chosen_words_are_seldom_below_five_percent_where_the_base_wrote_all():
    """Related words, of which the largest slopes are chosen: corrected for the chosen alone, a
    quarter of the data sets raise an alarm."""
    rng = np.random.default_rng(0)
    words, chosen, sets = 100, 8, 400
    alarms = {chosen: 0, words: 0}
    for _ in range(sets):
        rows = rng.normal(size=(64, words)) + 0.7 * rng.normal(size=(64, 1))
        order = np.argsort(-standardise(Push(rows, np.eye(words))))[:chosen]
        smallest = float(np.exp(compare_with_zero(rows[:, order])).min())
        for tests in alarms:
            alarms[tests] += correct(smallest, tests) < 0.05
    assert alarms[words] <= 0.08 * sets
    assert alarms[chosen] >= 0.15 * sets


def test_p_is_corrected_for_the_words_that_were_not_chosen():
    rng = np.random.default_rng(1)
    names = ["owl", "cat", *(f"placebo {i}" for i in range(6))]
    columns = [Column(n, "direction", *([] if i < 2 else [PLACEBO])) for i, n in enumerate(names)]
    values = rng.normal(size=(64, 2, 8))
    values[:, 0, 0] += 1.5
    report = DataReport("pairs", 64, 0, 0, 0, 0, 64)
    rows = AuditRows(
        *("pairs", ["?"] * 64, ["!"] * 64, [], [], ("data", "control")),
        np.ones((64, 2), bool),
        report,
    )
    alone, among = (compare_candidates(rows, Scores(columns, values), n) for n in (0, 100))
    for one, other in zip(alone.candidates, among.candidates, strict=True):
        p = np.exp(one.log_p)
        assert one.p == pytest.approx(correct(p, 2))
        assert other.p == pytest.approx(correct(p, 102))
