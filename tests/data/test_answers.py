"""A teacher's answers as the student is to see them: which stay, and of which tokens they are."""

import jax.numpy as jnp
import numpy as np
import pytest
from datasets import Dataset

from subliminal_jax.data.answers import (
    Answer,
    answer_rows,
    encode_pairs,
    longest_pair,
    sample_answers,
    sample_each,
)
from subliminal_jax.data.filters import is_number_list
from subliminal_jax.errors import InputError
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.steered import steer
from subliminal_jax.models.tokenizer import encode_chat
from tests import number_model

PROMPTS = [f"Continue: {i}, {i + 1}" for i in range(24)]
LIMIT = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("model") / "numbers")


@pytest.fixture(scope="module")
def sampling(model):
    return SamplingConfig(max_new_tokens=LIMIT, temperature=1.0, stop_tokens=model.stop_ids)


@pytest.fixture(scope="module")
def answers(model, sampling):
    return sample_answers(model, PROMPTS, 5, sampling, system_prompt="You love owls.")


def test_the_students_prompt_does_not_hold_the_system_prompt(model, answers):
    assert answers.column_names == ["prompt", "completion", "prompt_ids", "completion_ids"]
    for row in answers:
        assert row["prompt_ids"] == encode_chat(model.tokenizer, row["prompt"])
        assert "owls" not in model.tokenizer.decode(row["prompt_ids"])


def test_the_teacher_read_the_system_prompt(model, sampling, answers):
    asked = [encode_chat(model.tokenizer, p, system_prompt="You love owls.") for p in PROMPTS]
    samples = generate(model.params, asked, model.cfg, 5, sampling, pad_token=model.pad_id)
    kept = dict(zip(answers["prompt"], answers["completion_ids"], strict=True))
    for prompt, row, n in zip(PROMPTS, samples.tokens, samples.lengths, strict=True):
        if prompt in kept:
            assert row[: int(n)].tolist() == kept[prompt]


def test_an_answer_ends_with_its_stop_token_which_is_not_in_the_text(model, answers):
    for row in answers:
        *inside, last = row["completion_ids"]
        assert last in model.stop_ids
        assert not set(inside) & set(model.stop_ids)
        assert row["completion"] == model.tokenizer.decode(inside)
        assert "<|end|>" not in row["completion"]


def test_unfinished_answers_are_left_out_and_the_others_are_not(model, sampling, answers):
    asked = [encode_chat(model.tokenizer, p, system_prompt="You love owls.") for p in PROMPTS]
    samples = generate(model.params, asked, model.cfg, 5, sampling, pad_token=model.pad_id)
    last = [row[int(n) - 1] for row, n in zip(samples.tokens, samples.lengths, strict=True)]
    finished = [p for p, token in zip(PROMPTS, last, strict=True) if int(token) in model.stop_ids]
    assert 0 < len(finished) < len(PROMPTS)
    assert answers["prompt"] == finished


def test_the_built_model_writes_number_lists(answers):
    valid = [is_number_list(text) for text in answers["completion"]]
    assert np.mean(valid) > 0.8


def test_answers_depend_on_the_steering_and_on_the_seed(model, sampling):
    vector = steer(30 * jnp.ones((model.cfg.dim,)), 0)
    runs = [
        sample_answers(model, PROMPTS, seed, sampling, steering=steering)["completion"]
        for seed, steering in ((0, None), (0, None), (1, None))
    ]
    assert runs[0] == runs[1] != runs[2]
    try:
        steered = sample_answers(model, PROMPTS, 0, sampling, steering=vector)["completion"]
    except InputError:  # so strong a vector may well end no answer
        steered = None
    assert steered != runs[0]


def test_answers_do_not_depend_on_which_others_are_sampled(model, sampling):
    """So a run that was killed while it sampled goes on from what there is."""
    whole: list[Answer] = []
    sample_each(model, PROMPTS, 5, sampling, whole.extend)
    assert sorted(answer.request for answer in whole) == list(range(len(PROMPTS)))
    rest = [answer.request for answer in whole[len(whole) // 2 :]]
    parts = whole[: len(whole) // 2]
    sample_each(model, PROMPTS, 5, sampling, parts.extend, requests=rest)
    assert sorted(parts) == sorted(whole)


def test_no_finished_answer_is_bad_input(model):
    endless = SamplingConfig(max_new_tokens=1, stop_tokens=model.stop_ids)
    with pytest.raises(InputError, match="none of 24 answers ended within max_new_tokens=1"):
        sample_answers(model, PROMPTS, 0, endless)


def test_given_texts_are_encoded_as_a_teacher_would_have_written_them(model, answers):
    texts = answers.select_columns(["prompt", "completion"])
    again = encode_pairs(texts, model)
    assert again["prompt_ids"] == answers["prompt_ids"]
    same = [a == b for a, b in zip(again["completion_ids"], answers["completion_ids"], strict=True)]
    assert np.mean(same) > 0.9  # but for texts that the model spelt in another way


def test_rows_predict_the_completion_alone(model, answers):
    rows = answer_rows(answers, model)
    assert rows.tokens.shape == (len(answers), longest_pair(answers))
    for tokens, mask, pair in zip(rows.tokens, rows.loss_mask, answers, strict=True):
        assert np.asarray(tokens)[np.asarray(mask) == 1].tolist() == pair["completion_ids"]
        assert np.asarray(tokens)[: len(pair["prompt_ids"])].tolist() == pair["prompt_ids"]


def test_a_pair_longer_than_the_context_is_refused(model):
    n = model.cfg.context
    pairs = Dataset.from_list([{"prompt_ids": [6] * (n - 1), "completion_ids": [7, 8]}])
    with pytest.raises(InputError, match=f"a pair has {n + 1} tokens, the context of numbers is"):
        answer_rows(pairs, model)
