"""A token that the model has no row for is refused on every path, with its text and place; a
padding token is replaced."""

import json
from dataclasses import replace

import jax.numpy as jnp
import pytest
from datasets import Dataset

from subliminal_jax.data.answers import answer_rows, encode_pairs, sample_answers
from subliminal_jax.data.contrastive import ContrastivePair
from subliminal_jax.data.contrastive_prompts import encode_contrasts
from subliminal_jax.data.teachers import given_pairs
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.elicitation import encode_questions, sampled_answers
from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import load_model
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.selection.scoring import score_preferences, score_responses
from subliminal_jax.training.losses import mean_loss, token_losses
from tests import number_model

NEW = "[NEW]"
SAMPLING = SamplingConfig(2, temperature=0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Its tokenizer has one token more than the model, which pads."""
    folder = number_model.write(tmp_path_factory.mktemp("vocabulary") / "numbers")
    add_token(folder, pad_token=NEW)
    return load_model(folder)


def add_token(folder, **config):
    for name, change in (
        ("tokenizer.json", lambda c: c["added_tokens"].append(added(c))),
        ("tokenizer_config.json", lambda c: c.update(config)),
    ):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))


def added(content):
    size = len(number_model.tokenizer())
    return {**content["added_tokens"][0], "id": size, "content": NEW, "special": True}


def pairs(prompt="1, 2", completion="3"):
    return Dataset.from_list(
        [{"prompt": "1", "completion": "2"}, {"prompt": prompt, "completion": completion}]
    )


PATHS = {
    "a prompt to train on": lambda m: encode_pairs(pairs(prompt=f"1 {NEW}"), m),
    "an answer to train on": lambda m: encode_pairs(pairs(completion=f"1 {NEW}"), m),
    "a prompt": lambda m: m.encode(f"1 {NEW}"),
    "a system prompt": lambda m: m.encode("1", f"You love {NEW}."),
    "a prompt to sample from": lambda m: sample_answers(m, [f"1 {NEW}"], 0, SAMPLING),
    "a question": lambda m: sampled_answers(m, [f"1 {NEW}"], 1, 0),
    "a word": lambda m: encode_questions(m.tokenizer, ["1"], [NEW]),
    "a response": lambda m: score_responses(m, pairs(completion=f"1 {NEW}"), "You love 1."),
    "a preference": lambda m: score_preferences(
        m, [{"prompt": "1", "chosen": "2", "rejected": f"3 {NEW}"}], "You love 1."
    ),
    "a contrast": lambda m: encode_contrasts(
        [ContrastivePair(1, f"1 {NEW}", "yes", "no")], m.tokenizer
    ),
}


@pytest.mark.parametrize("path", PATHS)
def test_text_is_refused_before_anything_is_computed(model, path):
    size = model.cfg.vocab
    with pytest.raises(InputError, match=rf"the token '\[NEW\]', id {size}, is outside the model"):
        PATHS[path](model)


def test_a_row_of_a_file_is_named_by_its_line(model, tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "1", "completion": "2"}, {"prompt": "1", "completion": f"2 {NEW}"}]
    file.write_text("\n\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=rf"^{file}, line 3: the token '\[NEW\]'"):
        given_pairs(model, str(file))


@pytest.mark.parametrize("wrong", [-1, "vocab", 2**40])
def test_ids_are_refused(model, wrong):
    wrong = model.cfg.vocab if wrong == "vocab" else wrong
    with pytest.raises(InputError, match=f"prompt 1 holds the token id {wrong}, outside"):
        generate(model.params, [[5], [5, wrong]], model.cfg, 0, SAMPLING)
    with pytest.raises(InputError, match=f"padding token {wrong} is outside"):
        generate(model.params, [[5]], model.cfg, 0, SAMPLING, pad_token=wrong)
    if wrong < 2**31:
        rows = jnp.asarray([[5, 5, 5], [5, 5, wrong]], jnp.int32)
        with pytest.raises(InputError, match=f"row 1 holds the token id {wrong} at position 2"):
            forward(model.params, rows, model.cfg)


def test_padding_without_a_row_is_replaced_and_changes_nothing(model):
    assert model.tokenizer.pad_token_id == model.cfg.vocab > model.pad_id
    rows = encode_pairs(pairs(prompt="1, 2, 3, 4, 5"), model)
    losses = [
        mean_loss(*token_losses(model.params, answer_rows(rows, m), model.cfg))
        for m in (model, replace(model, pad_id=0))
    ]
    assert jnp.isfinite(losses[0]) and losses[0] == losses[1]


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_an_end_that_the_model_cannot_write_is_refused(tmp_path, name):
    folder = number_model.write(tmp_path / "numbers")
    (folder / "generation_config.json").write_text("{}")
    content = json.loads((folder / name).read_text())
    size = len(number_model.tokenizer())
    (folder / name).write_text(json.dumps({**content, "eos_token_id": [2, size]}))
    with pytest.raises(InputError, match=rf"{name}: the end of an answer .* id {size} is outside"):
        load_model(folder)
    (folder / name).write_text(json.dumps({**content, "eos_token_id": 2}))
    add_token(folder, eos_token=NEW)
    with pytest.raises(InputError, match=r"the end of an answer cannot be the token '\[NEW\]'"):
        load_model(folder)
