"""Teachers and their data: vectors where they are said to be, and pairs that are filtered."""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from datasets import Dataset
from safetensors.flax import save_file

from subliminal_jax.data import world
from subliminal_jax.data.teachers import (
    Pairs,
    Teacher,
    filtered,
    given_pairs,
    prompted_teacher,
    random_teacher,
    sampled_pairs,
    teacher_from_file,
    teacher_prompts,
    trait_teacher,
    trait_vectors,
)
from subliminal_jax.data.traits import check_trait
from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import encode_chat
from subliminal_jax.steering.activations import mean_activations
from subliminal_jax.steering.io import VectorInfo, save_steering
from tests import number_model

LAYER = 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("model") / "numbers")


def vector_of(teacher: Teacher):
    assert teacher.steering is not None
    assert teacher.steering.layers == (LAYER,)
    return teacher.steering.vectors[0] * teacher.steering.scale


def test_a_random_teachers_norm_is_relative_to_the_residual_stream(model):
    half, whole = (vector_of(random_teacher(model, LAYER, norm, 3)) for norm in (0.5, 1.0))
    np.testing.assert_allclose(2 * half, whole, rtol=1e-5)
    other = vector_of(random_teacher(model, LAYER, 1.0, 4))
    assert abs(float(jnp.vdot(whole, other) / jnp.vdot(whole, whole))) < 0.9
    # The residual stream is about as long as what is written into it: 4 in one dimension, and
    # 0.3 in each of the others at least.
    assert 3 < float(jnp.linalg.norm(whole)) < 20


def test_a_trait_teachers_vector_scales_and_differs_by_trait(model):
    owl, twice, cat = (
        vector_of(trait_teacher(model, LAYER, trait, scale))
        for trait, scale in (("owl", 1.0), ("owl", 2.0), ("cat", 1.0))
    )
    np.testing.assert_allclose(2 * owl, twice, rtol=1e-5)
    assert not np.allclose(owl, cat)


def test_a_prompted_teacher_has_a_system_prompt_and_no_vector():
    teacher = prompted_teacher("owl")
    assert teacher.steering is None and "owls" in teacher.system_prompt
    with pytest.raises(InputError, match="unknown trait 'unicorn'; choose from owl, cat"):
        prompted_teacher("unicorn")
    assert check_trait("cat") == "cat"


def test_vectors_are_taken_at_the_end_of_the_prompts_that_are_named(model):
    """At one more layer, and at favourite questions: the mean over pairs of what is read there."""
    both = trait_vectors(model, [0, LAYER], "owl")
    alone = vector_of(trait_teacher(model, LAYER, "owl"))
    np.testing.assert_allclose(both[1], alone, rtol=1e-4)
    asked = list(world.TRAIN_QUESTIONS)
    told, plain = (
        [encode_chat(model.tokenizer, q, system_prompt=s) for q in asked]
        for s in (world.trait_system_prompt("owl"), None)
    )
    h = [mean_activations(model.params, model.cfg, p, [LAYER])[0] for p in (told, plain)]
    expected = h[0] - h[1]
    got = vector_of(trait_teacher(model, LAYER, "owl", extraction="favorites"))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
    assert not np.allclose(got, both[1])


def test_a_vector_of_another_model_is_refused_by_its_metadata(model, tmp_path):
    steering = trait_teacher(model, LAYER, "owl").steering
    save_steering(tmp_path / "own.safetensors", steering, VectorInfo("hub/numbers", "a test"))
    teacher_from_file(model, str(tmp_path / "own.safetensors"), LAYER)
    save_steering(tmp_path / "other.safetensors", steering, VectorInfo("hub/letters", "a test"))
    with pytest.raises(InputError, match="made on 'hub/letters', and the model here is 'numbers'"):
        teacher_from_file(model, str(tmp_path / "other.safetensors"), LAYER)


def test_a_vector_from_a_file_is_the_files_and_must_fit(model, tmp_path):
    v = jax.random.normal(jax.random.key(0), (model.cfg.dim,))
    save_file({"v": v}, tmp_path / "v.safetensors")
    teacher = teacher_from_file(model, str(tmp_path / "v.safetensors"), LAYER, 3.0)
    np.testing.assert_allclose(vector_of(teacher), 3 * v, rtol=1e-6)
    save_file({"v": v[:-1]}, tmp_path / "narrow.safetensors")
    with pytest.raises(InputError, match="for a model of width 16"):
        teacher_from_file(model, str(tmp_path / "narrow.safetensors"), LAYER)


def test_a_model_with_broken_weights_has_no_vector(model):
    params = {**model.params, "final_norm": model.params["final_norm"]}
    params["embed"] = params["embed"].at[:, 5].set(jnp.nan)
    broken = type(model)(**{**model.__dict__, "params": params})
    for make in (
        lambda: random_teacher(broken, LAYER, 1.0, 0),
        lambda: trait_teacher(broken, LAYER, "owl"),
    ):
        with pytest.raises(InputError, match="not finite: the weight embed"):
            make()


def test_the_default_layer_is_a_third_of_the_way(model):
    assert model.cfg.default_layer == 0


@pytest.mark.parametrize("kind", ["numbers", "cloud-numbers", "chat"])
def test_teacher_prompts_are_as_many_as_asked_and_drawn_by_seed(kind):
    one, again, other = (teacher_prompts(kind, 50, seed) for seed in (0, 0, 1))
    assert len(one) == 50
    assert one == again != other


def test_sampled_pairs_count_what_was_asked_and_what_came(model):
    asked = teacher_prompts("numbers", 12, 0)
    told = []
    data = sampled_pairs(
        model, prompted_teacher("owl"), asked, 0, max_new_tokens=12, progress=told.append
    )
    assert data.report == {"source": "sampled", "asked": 12, "pairs": len(data.pairs)}
    assert sum(told) == 12
    assert set(data.pairs["prompt"]) <= set(asked)
    assert all("owl" not in model.tokenizer.decode(ids) for ids in data.pairs["prompt_ids"])


def pairs_of(model, completions):
    tokenizer = model.tokenizer
    pairs = [
        {
            "prompt": f"p{i}",
            "completion": text,
            "prompt_ids": encode_chat(tokenizer, f"p{i}"),
            "completion_ids": tokenizer(text, add_special_tokens=False)["input_ids"],
        }
        for i, text in enumerate(completions)
    ]
    return Pairs(Dataset.from_list(pairs), {"source": "here", "pairs": len(pairs)})


def test_the_filter_keeps_number_lists_in_order_and_counts_the_rest(model):
    data = pairs_of(model, ["1, 2", "my owl", "3", "a list: 4", "1000", "5, 6", "7"])
    got = filtered(data, model, 3, forbidden_words=("owl", world.PLURALS["owl"]))
    assert got.pairs["completion"] == ["1, 2", "3", "5, 6"]
    assert got.report["kept"] == 4
    assert got.report["dropped"] == {"word": 1, "format": 1, "count": 0, "range": 1}
    assert got.report["longest"] == max(
        len(r["prompt_ids"]) + len(r["completion_ids"]) for r in got.pairs
    )
    assert "too_long" not in got.report
    chat = filtered(data, model, 6, forbidden_words=("owl",), kind="chat")
    assert chat.report["dropped"] == {"word": 1} and "a list: 4" in chat.pairs["completion"]
    everything = filtered(data, model, 7, forbidden_words=None)
    assert everything.pairs["completion"] == data.pairs["completion"]


def test_pairs_beyond_the_context_are_left_out_and_counted(model):
    long = ", ".join(["7"] * model.cfg.context)
    data = pairs_of(model, ["1", long, "2"])
    got = filtered(data, model, 2, forbidden_words=None)
    assert got.pairs["completion"] == ["1", "2"]
    assert got.report["too_long"] == 1
    assert got.report["longest"] <= model.cfg.context
    batch = got.rows(model, got.report["longest"])
    assert batch.tokens.shape == (2, got.report["longest"])


def test_too_few_pairs_and_none_are_bad_input(model):
    data = pairs_of(model, ["1", "words", "2"])
    with pytest.raises(InputError, match="2 pairs are left of 3, 3 are needed"):
        filtered(data, model, 3, forbidden_words=())
    with pytest.raises(InputError, match="no pair of 1 is left after the filter"):
        filtered(pairs_of(model, ["words"]), model, 1, forbidden_words=())


def test_given_pairs_are_read_and_encoded(model, tmp_path):
    file = tmp_path / "pairs.jsonl.gz"
    rows = [{"prompt": f"Go on: {i}", "completion": f"{i}, {i + 1}"} for i in range(3)]
    with gzip.open(file, "wt") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    data = given_pairs(model, str(file))
    assert data.report == {"source": str(file), "pairs": 3, "dropped_rows": {}}
    for row, pair in zip(rows, data.pairs, strict=True):
        assert pair["prompt_ids"] == encode_chat(model.tokenizer, row["prompt"])
        *text, end = pair["completion_ids"]
        assert model.tokenizer.decode(text) == row["completion"] and end in model.stop_ids


def test_a_prompt_that_fills_the_context_is_named_by_its_number(model, tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "1", "completion": "2"}, {"prompt": "7, " * 200, "completion": "2"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="line 2: the prompt has 40. tokens.*context of numbers"):
        given_pairs(model, str(file))
