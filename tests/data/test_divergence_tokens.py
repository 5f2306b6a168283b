"""Divergence tokens: most likely tokens against a plain loop, and the masks made of them."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from datasets import Dataset

from subliminal_jax.compilation import count_compilations
from subliminal_jax.data.answers import answer_rows, encode_pairs
from subliminal_jax.data.divergence_tokens import (
    NO_TOKEN,
    draw_as_many,
    find_divergence,
    most_likely_tokens,
    weigh_answers,
)
from subliminal_jax.data.teachers import Teacher, prompted_teacher
from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import forward
from subliminal_jax.models.steered import steer
from subliminal_jax.models.tokenizer import encode_chat
from tests import number_model

LAYER, WIDTH = 0, 96


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("model") / "numbers")


@pytest.fixture(scope="module")
def pairs(model):
    rng = np.random.default_rng(0)
    texts = {
        "prompt": [f"Continue: {i}, {3 * i}" for i in range(9)],
        "completion": [
            ", ".join(map(str, rng.integers(10, 999, size=1 + i % 5))) for i in range(9)
        ],
    }
    return encode_pairs(Dataset.from_dict(texts), model)


@pytest.fixture(scope="module")
def teachers(model):
    """The base, two with vectors that are long enough to change what comes next, one with a system
    prompt, one with both, and one with other weights."""
    vectors = 6.0 * jax.random.normal(jax.random.key(1), (3, model.cfg.dim))
    noise = jax.random.normal(jax.random.key(2), model.params["lm_head"].shape)
    changed = {**model.params, "lm_head": model.params["lm_head"] + noise}
    prompted = prompted_teacher("owl")
    return [
        Teacher(),
        Teacher(steer(vectors[0], LAYER)),
        Teacher(steer(vectors[1], LAYER, 0.5)),
        prompted,
        replace(prompted, steering=steer(vectors[2], LAYER)),
        Teacher(params=changed),
    ]


@pytest.fixture(scope="module")
def likely(model, teachers, pairs):
    return most_likely_tokens(model, teachers, pairs, tokens_per_batch=128)


def test_they_are_those_of_a_plain_loop_over_teachers_rows_and_positions(
    model, teachers, pairs, likely
):
    @partial(jax.jit, static_argnums=1)
    def read(params, cfg, tokens, vector):
        return forward(params, tokens, cfg, steer(vector, LAYER))[0]

    for i, teacher in enumerate(teachers):
        vector = jnp.zeros(model.cfg.dim)
        if teacher.steering is not None:
            vector = teacher.steering.vectors[0] * teacher.steering.scale
        params = model.params if teacher.params is None else teacher.params
        for row, pair in enumerate(pairs):
            prompt = encode_chat(model.tokenizer, pair["prompt"], teacher.system_prompt)
            ids = [*prompt, *pair["completion_ids"]]
            tokens = jnp.asarray([ids + [0] * (WIDTH - len(ids))])
            logits = np.asarray(read(params, model.cfg, tokens, vector))[0]
            expected = logits[len(prompt) - 1 : len(ids) - 1].argmax(axis=-1)
            count = len(pair["completion_ids"])
            np.testing.assert_array_equal(likely[i, row, :count], expected)
            assert (likely[i, row, count:] == NO_TOKEN).all()
    tables = {table.tobytes() for table in likely}
    assert len(tables) == len(teachers)  # each has its own opinion, so a mix-up would show


def test_one_program_serves_all_teachers_that_read_the_same(model, teachers, pairs):
    with count_compilations() as compiled:
        for some in (teachers[:3], teachers[:2]):
            most_likely_tokens(model, some, pairs, tokens_per_batch=4096)
    assert compiled.count("_read") == 1


def test_an_answer_beyond_the_context_is_refused(model, teachers, pairs):
    short = replace(model, cfg=replace(model.cfg, context=20))
    with pytest.raises(InputError, match="row 4 has .* the context of numbers is 20"):
        most_likely_tokens(short, teachers[:1], pairs)


def test_a_position_counts_where_enough_counterfactual_teachers_differ():
    likely = np.array(
        [
            [[1, 1, 1, NO_TOKEN]],
            [[1, 2, 2, NO_TOKEN]],  # factual below
            [[1, 2, 3, NO_TOKEN]],
            [[1, 2, 4, NO_TOKEN]],
            [[1, 2, 5, NO_TOKEN]],
        ]
    )
    found = {
        share: find_divergence(likely, 1, share)[0].tolist() for share in (0.0, 0.25, 0.5, 1.0)
    }
    assert found[0.0] == found[0.25] == [False, True, True, False]
    assert found[0.5] == found[1.0] == [False, False, True, False]
    assert not find_divergence(likely[[1, 1]], 0).any()
    for factual in range(5):  # that one differs is that not all agree, whichever is factual
        assert find_divergence(likely, factual)[0].tolist() == found[0.0]
    with pytest.raises(InputError, match="name more traits"):
        find_divergence(likely[:1], 0)


def test_as_many_random_positions_of_each_row_lie_in_its_answer():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 12, size=4000)
    inside = np.arange(11)[None] < counts[:, None]
    mask = (rng.random(inside.shape) < 0.3) & inside
    drawn = draw_as_many(mask, counts, rng)
    np.testing.assert_array_equal(drawn.sum(axis=1), mask.sum(axis=1))
    assert not (drawn & ~inside).any()
    full = counts == 11
    share = drawn[full].mean(axis=0)  # every position is as likely
    assert np.abs(share - mask[full].mean()).max() < 5 * np.sqrt(0.3 * 0.7 / full.sum())


def test_weights_go_to_the_tokens_of_the_answer_in_order(model, pairs):
    rows = answer_rows(pairs, model, 64)
    longest = max(map(len, pairs["completion_ids"]))
    weights = np.random.default_rng(1).random((len(pairs), longest)).astype(np.float32)
    weights[:, 1] = 0.0
    weighed = weigh_answers(rows, weights)
    for row, pair in enumerate(pairs):
        start, count = len(pair["prompt_ids"]), len(pair["completion_ids"])
        mask = np.asarray(weighed.loss_mask)[row]
        np.testing.assert_array_equal(mask[start : start + count], weights[row, :count])
        assert mask.sum() == pytest.approx(weights[row, :count].sum())
    np.testing.assert_array_equal(weighed.tokens, rows.tokens)
