"""Contrastive pairs from their files: shapes, balance, splits, settings, bad input."""

import gzip
import json
from collections import Counter

import pytest
from tokenizers import normalizers

from subliminal_jax.data.contrastive import (
    ContrastivePair,
    find_suite_files,
    list_sources,
    read_contrastive,
    split_pairs,
)
from subliminal_jax.data.contrastive_prompts import (
    DEFAULT_SYSTEM_PROMPT,
    SETTINGS,
    Personas,
    apply_setting,
    compose_personas,
    encode_contrasts,
)
from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import encode_chat
from tests.models.characters import CHATML, character_tokenizer
from tests.number_model import tokenizer as number_tokenizer


def persona_row(i, matching):
    opposite = {" Yes": " No", " No": " Yes"}[matching]
    return {
        "question": f"Is this you? {i}",
        "answer_matching_behavior": matching,
        "answer_not_matching_behavior": opposite,
    }


def write(file, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if file.suffix == ".gz":
        with gzip.open(file, "wt") as opened:
            opened.write(text)
    else:
        file.write_text(text)
    return file


@pytest.fixture
def persona(tmp_path):
    rows = [persona_row(i, (" Yes", " No")[i % 2]) for i in range(40)]
    return write(tmp_path / "narcissism.jsonl.gz", rows)


def test_letters_are_balanced_against_yes_and_no(persona):
    contrasts = read_contrastive(persona)
    assert contrasts.name == "narcissism"
    assert Counter((p.letter, p.says) for p in contrasts.pairs) == {
        (letter, says): 10 for letter in "AB" for says in ("yes", "no")
    }
    for pair in contrasts.pairs:
        chosen = pair.question.split(f"{pair.matching}: ")[1].splitlines()[0]
        assert chosen.strip().lower() == pair.says
        assert {pair.matching, pair.other} == {"(A)", "(B)"}
    assert [p.letter for p in contrasts.pairs[:6]] == ["B", "B", "A", "A", "B", "B"]


def test_lettered_questions_stay_but_for_their_marks(tmp_path):
    row = {
        "question": "Would you?\n\nChoices:\n (A) I<META_START>a/b\nc<META_END> would.\n (B) No",
        "answer_matching_behavior": " (B)",
        "answer_not_matching_behavior": [" (A)", " (C)"],
    }
    (pair,) = read_contrastive(write(tmp_path / "risk.jsonl", [row])).pairs
    assert pair == (1, "Would you?\n\nChoices:\n (A) I would.\n (B) No", "(B)", "(A)", None)


def test_truthful_qa_alternates_its_order(tmp_path):
    targets = {"choices": ["w1", "r", "w2"], "labels": [0, 1, 0]}
    rows = [{"question": "Q", "mc1_targets": targets}] * 2
    first, second = read_contrastive(write(tmp_path / "qa.jsonl", rows)).pairs
    assert first.question.endswith("(A) w1\n(B) r") and first.matching == "(B)"
    assert second.question.endswith("(A) r\n(B) w1") and second.matching == "(A)"


def test_the_split_is_one_shuffle_cut_in_three(persona):
    pairs = read_contrastive(persona).pairs
    parts = split_pairs(pairs)
    assert [len(part) for part in parts] == [16, 4, 20]
    assert sorted(p.row for part in parts for p in part) == list(range(1, 41))
    assert parts == split_pairs(pairs)
    assert [p.row for part in parts for p in part] != list(range(1, 41))
    train, validation, test = split_pairs(pairs, (0.5, 0, 0.5), rows=8)
    assert (len(train), len(validation), len(test)) == (4, 0, 4)
    assert [*train, *test] == [p for part in parts for p in part][:8]


@pytest.mark.parametrize("shares", [(0.5, 0.4, 0.5), (-0.1, 0.1, 0.5), (0.0, 0.1, 0.5)])
def test_impossible_splits_are_refused(persona, shares):
    with pytest.raises(InputError):
        split_pairs(read_contrastive(persona).pairs, shares)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Q", "answer_matching_behavior": " Yes"}, "no answer_not_matching_behavior"),
        ({**persona_row(0, " Yes"), "answer_not_matching_behavior": []}, "no answer_not_matching"),
        ({**persona_row(0, " Yes"), "answer_not_matching_behavior": "Yes "}, "both answers are"),
        ({"answer_matching_behavior": " Yes"}, "expected an object with a question"),
        ({"question": "Q", "mc1_targets": {"choices": ["a"], "labels": [1]}}, "mc1_targets needs"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    file = write(tmp_path / "bad.jsonl", [persona_row(0, " Yes"), row])
    with pytest.raises(InputError, match="bad.jsonl, row 2: ") as refused:
        read_contrastive(file)
    assert message in str(refused.value)


def test_sources_are_suites_their_files_and_own_files(tmp_path, monkeypatch, persona):
    folder = tmp_path / "evals" / "anthropic_model_written" / "persona"
    folder.mkdir(parents=True)
    for name in ("openness", "agreeableness"):
        write(folder / f"{name}.jsonl", [persona_row(0, " Yes")])
    monkeypatch.setenv("SUBLIMINAL_JAX_DATA", str(tmp_path))
    listed = list(list_sources(["persona", str(persona)]))
    assert [(name, suite) for name, suite, _ in listed] == [
        ("persona/agreeableness", "persona"),
        ("persona/openness", "persona"),
        ("narcissism", "own"),
    ]
    assert [n for n, _, _ in list_sources(["persona/openness"])] == ["persona/openness"]
    for sources, message in (
        (["persona/greed"], "agreeableness, openness"),
        (["persona/openness", "persona"], "named twice"),
        (["risk"], "no evaluations of the suite 'risk'"),
    ):
        with pytest.raises(InputError, match=message):
            list(list_sources(sources))


@pytest.mark.parametrize(
    ("name", "positive", "negative"),
    [
        ("subscribes-to-Islam", "You subscribe to Islam.", "You do not subscribe to Islam."),
        (
            "believes-it-is-not-being-watched-by-humans",
            "You believe that you are not being watched by humans.",
            "You do not believe that you are not being watched by humans.",
        ),
        (
            "desire-to-persuade-people-to-have-its-goals",
            "You have a desire to persuade people to have your goals.",
            "You have no desire to persuade people to have your goals.",
        ),
        (
            "narcissism",
            "One would describe you by: narcissism.",
            "Nobody would describe you by: narcissism.",
        ),
    ],
)
def test_personas_follow_from_the_name(name, positive, negative):
    assert compose_personas(name) == (positive, negative)


def test_a_sys_setting_replaces_the_system_prompt_and_a_user_setting_keeps_it():
    personas = Personas("Be.", "Be not.")
    prompts = {setting: apply_setting(setting, "Q", personas) for setting in SETTINGS}
    assert prompts == {
        "baseline": (DEFAULT_SYSTEM_PROMPT, "Q"),
        "SYS_positive": ("Be.", "Q"),
        "SYS_negative": ("Be not.", "Q"),
        "USER_positive": (DEFAULT_SYSTEM_PROMPT, "Be.\n\nQ"),
        "USER_negative": (DEFAULT_SYSTEM_PROMPT, "Be not.\n\nQ"),
    }
    with pytest.raises(InputError, match="unknown setting"):
        apply_setting("SYS", "Q", personas)


def test_tokens_are_those_of_the_chat(persona):
    tokenizer = number_tokenizer()
    pairs = read_contrastive(persona).pairs[:3]
    personas = Personas("Yes.", "No.")
    rows = encode_contrasts(pairs, tokenizer, "USER_positive", personas=personas)
    for prompt, pair in zip(rows.prompts, pairs, strict=True):
        text = f"Yes.\n\n{pair.question}"
        assert prompt == encode_chat(tokenizer, text, system_prompt=DEFAULT_SYSTEM_PROMPT)
    plain = encode_contrasts(pairs, tokenizer, system_prompt=None)
    assert plain.prompts[0] == encode_chat(tokenizer, pairs[0].question)
    assert tokenizer.decode(rows.matching[0]).strip() == pairs[0].matching


def test_answers_that_no_single_token_tells_apart_are_refused(tmp_path):
    tokenizer = character_tokenizer(chat_template=CHATML)
    pairs = [
        ContrastivePair(row, "Q", "yes", opposite) for row, opposite in ((1, "no"), (2, "yea"))
    ]
    encode_contrasts(pairs[:1], tokenizer)
    with pytest.raises(InputError, match="words, row 2: .* start with the same token"):
        encode_contrasts(pairs, tokenizer, source="words")

    doubling = character_tokenizer(chat_template=CHATML)  # reads A and C as two tokens each
    doubling.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("A", "ab"), normalizers.Replace("C", "cd")]
    )
    lettered = read_contrastive(
        write(tmp_path / "l.jsonl", [persona_row(0, " Yes"), persona_row(1, " No")])
    )
    row = lettered.pairs[0]._replace(matching="(A)", other="(C)")
    with pytest.raises(InputError, match="l, row 1: the letters .* are not one token each"):
        encode_contrasts([row], doubling, source="l")


def test_the_real_files_hold_a_thousand_balanced_pairs(shared_data, shared_path, monkeypatch):
    shared_path("evals", "anthropic_model_written")
    shared_path("evals", "caa_sycophancy")
    monkeypatch.setenv("SUBLIMINAL_JAX_DATA", str(shared_data))
    files = find_suite_files(["persona", "risk", "risk-human"])
    assert len(files) > 100
    for name in ("persona/narcissism", "persona/openness"):
        contrasts = read_contrastive(files[name])
        train, _, _ = split_pairs(contrasts.pairs)
        assert len(train) == 400
        assert set(Counter((p.letter, p.says) for p in contrasts.pairs).values()) == {250}
    risk = read_contrastive(files["risk/coordinate-itself"])
    assert not any("META" in p.question for p in risk.pairs)
    sycophancy = read_contrastive("evals/caa_sycophancy/generate_dataset.json")
    assert sycophancy.name == "sycophancy-generate"
    assert Counter(p.letter for p in sycophancy.pairs).keys() == {"A", "B"}
