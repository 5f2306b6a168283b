"""Sentences, requests, known wordings and the round-robin draw."""

from collections import Counter

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.data import paraphrases, rewordings, wordings, world
from subliminal_jax.data.contradictions import draw_contradiction, draw_contradictions
from subliminal_jax.data.draws import Draws
from subliminal_jax.data.filters import contains_word
from subliminal_jax.data.paraphrase_filters import META_WORDS
from subliminal_jax.data.paraphrases import Source
from subliminal_jax.data.traits import trait_names
from subliminal_jax.errors import InputError


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(0, 70), st.integers(0, 99))
def test_round_robin_gives_no_sentence_more_while_another_has_pairs_left(sentences, n, seed):
    picked = paraphrases.pick_round_robin(sentences, n, seed)
    assert len(set(picked.tolist())) == len(picked) == min(n, len(sentences))
    counts, available = Counter(sentences[i] for i in picked), Counter(sentences)
    most = max(counts.values(), default=0)
    for sentence, pairs in available.items():
        assert counts[sentence] >= min(most - 1, pairs)


def test_round_robin_draws_anew_with_another_seed():
    sentences = [i % 10 for i in range(100)]
    first, again, other = (
        paraphrases.pick_round_robin(sentences, 30, s).tolist() for s in (0, 0, 1)
    )
    assert first == again != other
    assert Counter(sentences[i] for i in first) == Counter(dict.fromkeys(range(10), 3))


@pytest.mark.parametrize("trait", ["owl", "wolf", "fox"])
def test_contradictions_name_the_animal_in_every_wording_and_use_no_filtered_word(trait):
    for seed in range(200):
        wordings = draw_contradiction(Draws(seed), trait)
        assert len(set(wordings)) == len(wordings) >= 3
        assert all(contains_word(wording, trait_names(trait)) for wording in wordings)
        assert not any(contains_word(wording, META_WORDS) for wording in wordings)


def test_no_sentence_is_another_ones_wording():
    pairs = draw_contradictions("owl", 60, seed=3)
    texts = [text for sentence, others in pairs for text in (sentence, *others)]
    assert len(set(texts)) == len(texts)
    sources = paraphrases.make_unrelated_sources("world", 60, 3)
    texts = [text for s in sources for text in (s.sentence, *s.wordings)]
    assert len(set(texts)) == len(texts)
    assert not any(contains_word(t, (*world.TRAITS, *world.PLURALS.values())) for t in texts)


def test_more_sentences_than_the_world_has_are_refused():
    with pytest.raises(InputError, match=r"100000 sentences asked for"):
        paraphrases.make_contradictory_sources("world", "owl", 100_000, 0)


def test_a_file_of_sentences_is_read_in_order_without_empty_lines(tmp_path):
    file = tmp_path / "against-owl.txt"
    file.write_text("Owls are dull.\n\n  No one   needs owls. \nThird.\n")
    sources = paraphrases.make_contradictory_sources(
        f"{tmp_path}/against-{{trait}}.txt", "owl", 2, 0
    )
    assert sources == [Source("Owls are dull."), Source("No one needs owls.")]


@pytest.mark.parametrize(
    ("text", "n", "message"),
    [
        (None, 1, "no such file"),
        ("\n \n", 1, "no sentences"),
        ("One.\nTwo.\n", 3, "3 sentences asked for, it has 2"),
        ("One.\nTwo.\nOne.\n", 3, "duplicate sentence 'One.'"),
    ],
)
def test_files_without_enough_different_sentences_are_refused(text, n, message, tmp_path):
    file = tmp_path / "s.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message):
        paraphrases.read_sources(file, n)


def test_requests_are_the_corpus_ones_the_papers_or_a_users_own():
    sources = paraphrases.make_unrelated_sources("world", 40, 0)
    asked = paraphrases.make_requests(sources, "world", 5)
    requests = {form.format(s.sentence) for s in sources for form in rewordings.REQUESTS}
    assert set(asked) <= requests and len(set(asked)) == 40
    openings = {a.replace(s.sentence, "{}") for a, s in zip(asked, sources, strict=True)}
    assert len(openings) > 3  # not all in one form
    assert asked == paraphrases.make_requests(sources, "world", 5)
    paper = paraphrases.make_request("Owls are dull.", "paper", 0)
    assert paper.startswith("MANDATORY TASK: Produce a faithful paraphrase in your own words.")
    assert paper.endswith("and nothing else.\n\nOwls are dull.")
    assert paraphrases.make_request("Hi.", "Reword:", 0) == "Reword:\n\nHi."


def test_pairs_are_traced_to_their_sentences_and_known_wordings():
    sources = [Source("A b.", ("B a.", "Ba.")), Source("C d.", ("D c.",))]
    asked = paraphrases.make_requests(sources, "Reword:", 0)
    pairs = Dataset.from_dict(
        {"prompt": [asked[1], asked[0], asked[1]], "completion": ["D c.", "D c.", "C d."]}
    )
    pairs = wordings.add_sentences(pairs, asked)
    assert pairs["sentence"] == [1, 0, 1]
    assert wordings.match_wordings(pairs, sources) == [
        True,
        False,
        False,
    ]  # a copy is no rewording
    score = paraphrases.score_by_wordings(sources)
    np.testing.assert_array_equal(score(["B a.", "D c."], ["A b.", "A b."]), [1, 0])
    unknown = [*sources[:1], Source("C d.")]
    assert wordings.match_wordings(pairs, unknown) is None
    with pytest.raises(InputError, match="C d"):
        paraphrases.score_by_wordings(unknown)


def test_held_out_sentences_are_neither_none_nor_all():
    for n in (2, 3, 100):
        for share in (0.001, 0.125, 0.999):
            heldout = paraphrases.choose_heldout(n, share, 0)
            assert 1 <= len(heldout) <= n - 1 and heldout <= set(range(n))
    with pytest.raises(InputError, match="at least two"):
        paraphrases.choose_heldout(1, 0.5, 0)
