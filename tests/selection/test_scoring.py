"""The scores' exact properties, on a model of random weights."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from datasets import Dataset

from subliminal_jax.errors import InputError
from subliminal_jax.models.steered import steer
from subliminal_jax.models.tokenizer import encode_chat
from subliminal_jax.selection.rendering import ScoringOptions, encode_responses
from subliminal_jax.selection.scoring import score_preferences, score_responses
from subliminal_jax.selection.select import select
from subliminal_jax.training.log_probs import Meter, response_log_probs

OWLS, CATS = "You love owls.", "You really love cats. You think of cats all the time."
OPTIONS = ScoringOptions(base_system="")
WORDS = ["owl", "cat", "dog", "sings", "sleeps", "runs", "over", "under", "the", "tree", "12", "7"]
TOLERANCE = 2e-4  # of sums of some hundred float32 log-probabilities, batched differently


def draw(count, seed):
    """Texts of words, so short that few programs serve them all."""
    rng = np.random.default_rng(seed)
    columns = {"prompt": (1, 5), "chosen": (1, 4), "rejected": (1, 4)}
    return Dataset.from_dict(
        {
            name: [" ".join(rng.choice(WORDS, rng.integers(*words))) for _ in range(count)]
            for name, words in columns.items()
        }
    )


@pytest.fixture(scope="module")
def pairs():
    return draw(24, seed=0)


@pytest.fixture(scope="module")
def table(model, pairs):
    return score_preferences(model, pairs, OWLS, OPTIONS)


def column(table, name):
    return np.asarray(table[name])


def test_the_table_holds_what_its_columns_say(model, pairs, table):
    assert table.column_names == [
        "index",
        "base_chosen",
        "base_rejected",
        "prompted_chosen",
        "prompted_rejected",
        "chosen_tokens",
        "rejected_tokens",
        "weight",
        "score",
    ]
    responses = [
        encode_responses(model.tokenizer, pairs[c], OPTIONS) for c in ("chosen", "rejected")
    ]
    rows = list(zip(*responses, strict=True))
    for run, system in (("base", ""), ("prompted", OWLS)):
        prompts = [encode_chat(model.tokenizer, p, system_prompt=system) for p in pairs["prompt"]]
        expected = response_log_probs(model, prompts, rows)
        for j, name in enumerate(("chosen", "rejected")):
            np.testing.assert_allclose(
                column(table, f"{run}_{name}"), expected[:, j], atol=TOLERANCE
            )
            assert table[f"{name}_tokens"] == [len(row[j]) for row in rows]
    weight = (column(table, "prompted_chosen") - column(table, "prompted_rejected")) - (
        column(table, "base_chosen") - column(table, "base_rejected")
    )
    np.testing.assert_allclose(column(table, "weight"), weight, atol=1e-5)
    tokens = column(table, "chosen_tokens") + column(table, "rejected_tokens")
    np.testing.assert_allclose(column(table, "score"), column(table, "weight") / tokens)
    assert table["index"] == list(range(24))
    assert np.abs(weight).min() > 10 * TOLERANCE  # so that the tests below can fail


def test_swapped_responses_change_the_sign(model, pairs, table):
    swapped = pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"})
    flipped = score_preferences(model, swapped, OWLS, OPTIONS)
    for name in ("weight", "score"):
        np.testing.assert_allclose(column(flipped, name), -column(table, name), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("system_prompt", "base_system"), [("", ""), (OWLS, OWLS), (None, ""), (None, None)]
)
def test_zero_for_the_base_s_own_system_prompt(model, pairs, system_prompt, base_system):
    options = ScoringOptions(base_system=base_system)
    table = score_preferences(model, pairs, system_prompt, options)
    assert not column(table, "weight").any()
    assert len(select(table["score"], 1.0)) == 0


def test_scores_telescope_over_system_prompts(model, pairs, table):
    onward = score_preferences(model, pairs, CATS, ScoringOptions(base_system=OWLS))
    whole = score_preferences(model, pairs, CATS, OPTIONS)
    sum_ = column(table, "weight") + column(onward, "weight")
    np.testing.assert_allclose(sum_, column(whole, "weight"), atol=2 * TOLERANCE)


def test_the_supervised_scores_differ_by_the_weight(model, pairs, table):
    """w(r+) - w(r-) is the pair's weight: any offset that both responses share cancels."""
    single = [
        score_responses(
            model,
            pairs.select_columns(["prompt", name]).rename_column(name, "completion"),
            OWLS,
            OPTIONS,
        )
        for name in ("chosen", "rejected")
    ]
    assert single[0].column_names == [
        "index",
        "base_completion",
        "prompted_completion",
        "completion_tokens",
        "weight",
        "score",
    ]
    weights = [column(t, "weight") for t in single]
    np.testing.assert_allclose(weights[0] - weights[1], column(table, "weight"), atol=TOLERANCE)
    np.testing.assert_allclose(
        column(single[0], "score"), weights[0] / column(single[0], "completion_tokens")
    )


def test_neither_batch_nor_shard_nor_order_change_what_is_selected(model, pairs, table):
    order = np.random.default_rng(1).permutation(24)
    other = score_preferences(
        model, pairs.select(order), OWLS, OPTIONS, tokens_per_batch=1024, rows_per_shard=12
    )
    index = order[column(other, "index")]
    np.testing.assert_allclose(
        column(other, "score"), column(table, "score")[index], atol=TOLERANCE
    )
    chosen = index[select(other["score"], 0.3, index)]
    assert sorted(chosen) == sorted(select(table["score"], 0.3))


def test_a_stream_scores_as_the_table_does(model, pairs, table):
    stream = ({**row, "id": object()} for row in pairs)  # columns of no concern are not looked at
    streamed = score_preferences(model, stream, OWLS, OPTIONS, rows_per_shard=12)
    np.testing.assert_allclose(column(streamed, "weight"), column(table, "weight"), atol=TOLERANCE)
    assert streamed["index"] == table["index"]


def test_a_vector_scores_in_place_of_a_system_prompt(model, pairs):
    vector = steer(jnp.ones(model.cfg.dim), layer=0, scale=2.0)
    steered = score_preferences(model, pairs, None, OPTIONS, steering=vector)
    none = score_preferences(model, pairs, None, OPTIONS, steering=vector.scaled(0.0))
    assert np.abs(column(steered, "weight")).max() > 0.1
    np.testing.assert_allclose(column(none, "weight"), 0.0, atol=TOLERANCE)
    assert steered["base_chosen"] == none["base_chosen"]


def test_base_scores_are_taken_over(model, pairs, table):
    meter = Meter()
    again = score_preferences(
        model, pairs.select(range(20)), CATS, OPTIONS, base=table, meter=meter
    )
    assert meter.rows == 20  # once, with the system prompt
    assert again["base_rejected"] == table["base_rejected"][:20]
    with pytest.raises(InputError, match="base holds scores of other pairs"):
        score_preferences(model, pairs, CATS, OPTIONS, base=table.select(range(3)))
    negated = {**model.params, "embed": -model.params["embed"]}
    for other, options in (
        (replace(model, params=negated), OPTIONS),  # equal up to signs
        (model, ScoringOptions(base_system=OWLS)),
    ):
        with pytest.raises(InputError, match="another model or under other options"):
            score_preferences(other, pairs, CATS, options, base=table)
    with pytest.raises(InputError, match="base has no columns base_completion"):
        single = pairs.rename_column("chosen", "completion")
        score_responses(model, single, CATS, OPTIONS, base=table)


def test_rows_outside_the_limits_are_left_out(model, pairs):
    tokens = {
        name: [len(ids) for ids in model.tokenizer(list(pairs[name]))["input_ids"]]
        for name in pairs.column_names
    }
    inside = [
        i
        for i in range(24)
        if tokens["prompt"][i] <= 9
        and all(4 <= tokens[name][i] <= 9 for name in ("chosen", "rejected"))
    ]
    assert 0 < len(inside) < 24
    options = ScoringOptions(
        base_system="", max_prompt_tokens=9, min_response_tokens=4, max_response_tokens=9
    )
    done = []
    table = score_preferences(model, pairs, OWLS, options, progress=done.append)
    assert table["index"] == inside
    assert sum(done) == 24
    with pytest.raises(InputError, match="none of 24 rows is within the limits"):
        score_preferences(model, pairs, OWLS, ScoringOptions(min_response_tokens=99))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows to score"),
        ([{"prompt": "a", "chosen": "b"}], "row 0: rejected must be a text, got None"),
        ([{"prompt": "a", "chosen": ["b"], "rejected": "c"}], "row 0: chosen must be a text"),
        ([{"prompt": "a 7 " * 99, "chosen": "b", "rejected": "c"}], "row 0 has .* max_prompt_toke"),
    ],
)
def test_bad_rows_are_refused(model, rows, message):
    with pytest.raises(InputError, match=message):
        score_preferences(model, rows, OWLS, OPTIONS)
