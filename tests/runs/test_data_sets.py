"""Data sets are checked before anything is trained on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import init_params
from subliminal_jax.runs.data_sets import check_base_loss

CFG = ModelConfig(
    family="llama",
    vocab=31,
    dim=16,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=8,
    mlp_dim=24,
    context=48,
)


@pytest.fixture(scope="module")
def params():
    return init_params(jax.random.key(0), CFG, std=0.4)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(2)
    lengths = [(3, 5), (2, 2), (6, 6), (1, 7)]
    prompts, completions = ([rng.integers(0, 31, n[i]).tolist() for n in lengths] for i in (0, 1))
    return pad_pairs(prompts, completions, 12)


def test_rows_on_which_the_base_is_not_finite_are_refused_with_their_number(params, rows):
    check_base_loss(params, CFG, {"steered": rows, "control": rows})
    token = int(rows.tokens[2, 0])
    alone = rows._replace(tokens=jnp.where(rows.tokens == token, (token + 1) % 31, rows.tokens))
    alone = alone._replace(tokens=alone.tokens.at[2, 0].set(token))
    broken = {**params, "embed": params["embed"].at[token].set(jnp.nan)}
    broken["lm_head"] = params["embed"].T  # only the row that reads the token is touched
    untied = ModelConfig(**{**CFG.__dict__, "tied": False})
    with pytest.raises(InputError, match="not finite on 1 of 4 rows of the control data.*row 3"):
        check_base_loss(broken, untied, {"control": alone})
