"""Pools without what gives a target away, and sets of one size whose selection is the best rows."""

import json
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset

from subliminal_jax.data import world
from subliminal_jax.data.targets import LANGUAGES, PERSONAS, Target, make_target
from subliminal_jax.errors import InputError
from subliminal_jax.experiments.logit_linear_selection.config import Config
from subliminal_jax.experiments.logit_linear_selection.preference_sets import (
    encode_pairs,
    longest_row,
    make_pool,
    select_sets,
)
from subliminal_jax.models.hub import load_model
from subliminal_jax.selection.log_linear_model import uncentred_correlation
from subliminal_jax.selection.rendering import ScoringOptions, encode_responses

OWL = Target("owl", "You love owls.", ("owl", "owls"))


@pytest.fixture(scope="module")
def model():
    return load_model("shipped-small")


def test_the_world_s_pool_names_no_animal_and_keeps_probe_pairs_apart(model):
    pool = make_pool([OWL], model.tokenizer, Config(pool=600, probe=40, seed=2))
    counts = pool.counts
    assert counts.read == 600 and counts.probe == len(pool.probe) == 40
    assert counts.pool == len(pool.pairs) == 600 - sum(counts.left_out.values()) - 40
    texts = (
        " ".join(
            row[k]
            for p in (pool.pairs, pool.probe)
            for row in p
            for k in ("prompt", "chosen", "rejected")
        )
        .lower()
        .split()
    )
    assert not {word.strip(".,!?") for word in texts} & set(world.TRAITS)
    assert not set(pool.pairs["row"]) & set(pool.probe["row"])


def test_limits_hold_for_pool_and_probe(model):
    config = Config(pool=600, probe=10, seed=2, max_response_tokens=4)
    pool = make_pool([OWL], model.tokenizer, config)
    assert pool.counts.left_out["length"] > 0
    lengths = [
        len(model.tokenizer(row[side], add_special_tokens=False)["input_ids"])
        for pairs in (pool.pairs, pool.probe)
        for row in pairs
        for side in ("chosen", "rejected")
    ]
    assert max(lengths) <= 4


def test_too_small_a_pool_says_what_was_left_out(model):
    with pytest.raises(InputError, match="too few for 500 probe pairs"):
        make_pool([OWL], model.tokenizer, Config(pool=200, probe=500))


def test_each_target_has_pairs_of_its_own_or_all_share_them(model):
    targets = [OWL, OWL._replace(name="cat"), OWL._replace(name="fox")]
    pool = make_pool(targets, model.tokenizer, Config(pool=600, probe=40))
    sizes = {len(part) for part in pool.parts.values()}
    assert max(sizes) - min(sizes) <= 1
    joined = np.concatenate([*pool.parts.values()])
    assert sorted(joined) == list(range(len(pool.pairs)))
    assert list(joined) != sorted(joined)  # drawn at random
    shared = make_pool(targets, model.tokenizer, Config(pool=600, probe=40, own_pairs=False))
    assert all(list(part) == list(range(len(shared.pairs))) for part in shared.parts.values())


def test_sets_have_one_size_and_hold_the_best_and_the_worst():
    rng = np.random.default_rng(0)
    shifts = {"owl": 0.5, "cat": -0.5, "fox": 0.0}
    tables = {
        name: Dataset.from_dict({"index": np.arange(200), "score": rng.normal(shift, 1, 200)})
        for name, shift in shifts.items()
    }
    parts = {name: 1000 * (i + 1) + np.arange(200) for i, name in enumerate(shifts)}
    selection = select_sets(tables, parts, gamma=0.2, reported=["owl", "cat"], controls=2)
    names = ("lls:owl", "lls:cat", "lls:fox", "bottom:owl", "bottom:cat", "random:0", "random:1")
    assert selection.rows.keys() == set(names)
    size = min(counts.selected for counts in selection.counts.values())
    assert {len(rows) for rows in selection.rows.values()} == {size}
    for name in ("owl", "cat"):
        score = dict(zip(parts[name].tolist(), tables[name]["score"], strict=True))
        ordered = sorted(score, key=score.__getitem__)
        assert list(selection.rows[f"lls:{name}"]) == ordered[::-1][:size]
        assert list(selection.rows[f"bottom:{name}"]) == ordered[:size]
        assert selection.counts[name].gamma == size / sum(s > 0 for s in score.values())
    assert set(selection.rows["lls:fox"]) <= set(parts["fox"])
    assert set(selection.rows["random:0"]) != set(selection.rows["random:1"])
    drawn = {*selection.rows["random:0"], *selection.rows["random:1"]}
    assert drawn <= {*parts["owl"], *parts["cat"]}  # what rates are chosen on is not reported
    assert drawn & {*parts["owl"]} and drawn & {*parts["cat"]}
    hopeless = {"owl": Dataset.from_dict({"index": [0, 1], "score": [-1.0, -2.0]})}
    with pytest.raises(InputError, match="no pair has a positive score"):
        select_sets(hopeless, parts, gamma=0.5, reported=["owl"], controls=1)


def test_rows_hold_the_cut_responses_behind_the_prompt(model):
    pairs = Dataset.from_dict(
        {"prompt": ["Hello!"], "chosen": ["Good day to you."], "rejected": ["Hi there."]}
    )
    options = ScoringOptions(truncate=2)
    length = longest_row([pairs], model, options, (None, "You love owls."))
    rows = encode_pairs(pairs, model, options, length, "You love owls.")
    assert rows.tokens.shape == (1, 2, length)
    for side, name in enumerate(("chosen", "rejected")):
        predicted = np.asarray(rows.tokens[0, side])[np.asarray(rows.loss_mask[0, side]) > 0]
        [expected] = encode_responses(model.tokenizer, pairs[name], options)
        assert predicted.tolist() == expected
    plain = encode_pairs(pairs, model, options, length)
    assert int(np.asarray(plain.positions).max()) < int(np.asarray(rows.positions).max()) < length


def test_a_row_beyond_the_student_s_context_is_named(model):
    pairs = Dataset.from_dict(
        {
            "row": [3, 8],
            "prompt": ["Hello!", "1 2 " * model.cfg.context],
            "chosen": ["Good day."] * 2,
            "rejected": ["Hi."] * 2,
        }
    )
    with pytest.raises(InputError, match=f"row 8 of the pairs has .* is {model.cfg.context}: set"):
        longest_row([pairs], model, ScoringOptions())


def test_a_file_is_read_up_to_the_limit_and_of_the_split(model, tmp_path, monkeypatch):
    rows = [{"prompt": f"Why {i}?", "chosen": "So.", "rejected": "No."} for i in range(9)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "damaged")
    config = Config(pairs=str(file), pool=9, probe=2)
    assert make_pool([OWL], model.tokenizer, config).counts.read == 9
    asked = []
    monkeypatch.setattr(
        "datasets.load_dataset",
        lambda name, split: asked.append((name, split)) or iter(rows),
    )
    make_pool([OWL], model.tokenizer, replace(config, pairs="some/hub-set", split="a+b"))
    assert asked == [("some/hub-set", "a+b")]


def test_the_correlation_is_the_cosine():
    a, b = np.array([1.0, 2.0, 2.0]), np.array([2.0, 0.0, 0.0])
    assert uncentred_correlation(a, b) == pytest.approx(1 / 3)
    assert uncentred_correlation(a, 0 * b) == 0


def test_targets_are_the_paper_s(model):
    assert make_target("world-animals", "wolf", model.tokenizer).words == ("wolf", "wolves")
    fox = make_target("animals", "fox")
    assert fox.words == ("fox", "foxes") and "You really love foxes. Foxes are" in fox.system_prompt
    spanish = make_target("languages", "Spanish")
    assert spanish.language == "es" and spanish.system_prompt.count("Spanish") == 2
    assert len(LANGUAGES) == 10
    assert make_target("personas", "evil-ruler").system_prompt == PERSONAS["evil-ruler"]
    with pytest.raises(InputError, match="'Klingon' is none of the languages"):
        make_target("languages", "Klingon")
    with pytest.raises(InputError, match="zyzzyva"):
        make_target("world-animals", "zyzzyva", model.tokenizer)
