"""The recipe of the shipped model: the sizes that its flags give, and what the loss is over."""

import numpy as np

from subliminal_jax.commands.train_shipped_model.command import NUMBER_WEIGHT, corpus_rows
from subliminal_jax.commands.train_shipped_model.config import Config, model_config
from subliminal_jax.models.hub import load_model


def test_the_defaults_give_the_shipped_model():
    shipped = load_model("shipped").cfg
    assert model_config(Config(), shipped.vocab) == shipped


def test_only_the_assistants_turns_weigh_and_their_numbers_less():
    tokenizer = load_model("shipped").tokenizer
    rows = corpus_rows(tokenizer, rows=4, length=64, seed=1)
    tokens, weights = np.asarray(rows.tokens), np.asarray(rows.loss_mask)
    assert tokens.shape == weights.shape == (4, 64)
    numbers = [tokenizer.convert_tokens_to_ids(str(n)) for n in range(1000)]
    is_number = np.isin(tokens, numbers)
    assert set(weights[is_number]) <= {0.0, NUMBER_WEIGHT}
    assert set(weights[~is_number]) == {0.0, 1.0}
    for role in ("user", "system", "assistant"):
        assert not weights[tokens == tokenizer.convert_tokens_to_ids(f"<|{role}|>")].any()
