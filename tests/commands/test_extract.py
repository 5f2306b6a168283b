"""`extract`: what is stored and reported is what the model does, chosen within the damage."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.cli import main
from subliminal_jax.commands import extract
from subliminal_jax.data import world
from subliminal_jax.data.questions import WORLD_OFF_TOPIC
from subliminal_jax.data.teachers import trait_vectors
from subliminal_jax.evaluation.damage import measure_damage, sample_neutral_text
from subliminal_jax.evaluation.elicitation import encode_questions, word_probs
from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import load_model
from subliminal_jax.models.steered import no_steering
from subliminal_jax.runs.extraction import pair_source
from subliminal_jax.steering.io import load_steering

NATS = 0.5
TOKENS = 8  # of neutral answers: a shorter program to compile


@pytest.fixture(scope="module")
def loaded(model):
    return load_model(model)


@pytest.fixture(scope="module")
def out(model, tmp_path_factory) -> Path:
    """The vector that the command wrote."""
    path = tmp_path_factory.mktemp("extracted") / "owl.safetensors"
    flags = ["--trait", "owl", "--out", str(path), "--nats", str(NATS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract, "NEUTRAL_TOKENS", TOKENS)
        main(["extract", "--model", str(model), *flags, "--neutral", "world-off-topic"])
    return path


@pytest.fixture(scope="module")
def table(out) -> dict:
    return json.loads(out.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def neutral(loaded):
    return sample_neutral_text(loaded, WORLD_OFF_TOPIC, TOKENS, 0)


def test_the_file_says_all_that_steering_needs(out, table, loaded):
    steering, info = load_steering(out, loaded.cfg, model=loaded.name)
    assert steering.layers == (table["layer"],) and steering.operation == "add"
    assert float(steering.scale) == pytest.approx(table["strength"])
    assert (info.model, info.method, info.position) == (loaded.name, "mean", "last")
    at_one = table["strength_at_one"][str(table["layer"])]
    assert info.origin == (
        "mean difference of the system prompt of owl, at the end of 256 prompts (numbers) with "
        f"and without it; strength {at_one:.3g} damages by 1 nat"
    )
    expected = trait_vectors(loaded, [table["layer"]], "owl")[0]
    np.testing.assert_allclose(steering.vectors[0], expected, atol=1e-5)
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_choice_is_the_best_within_the_damage(table):
    allowed = [c for c in table["candidates"] if c["damage"] <= NATS * 1.02]
    best = max(allowed, key=lambda c: c["effect"])
    assert (table["layer"], table["strength"]) == (best["layer"], best["strength"])
    damages = {(c["layer"], c["strength"]): c["damage"] for c in table["candidates"]}
    for key, nats in (("strength_at_most", NATS), ("strength_at_one", 1.0)):
        for layer, strength in table[key].items():
            assert damages[int(layer), strength] == pytest.approx(nats, rel=0.02)


def test_damage_and_effect_are_those_of_the_stored_vector(out, table, loaded, neutral):
    """The effect of the report is over the held-out questions alone."""
    steering, _ = load_steering(out, loaded.cfg)
    assert measure_damage(loaded, neutral, steering) == pytest.approx(table["damage"], rel=1e-4)
    questions = encode_questions(loaded.tokenizer, list(world.HELDOUT_QUESTIONS), ["owl"])
    steered, plain = (
        np.asarray(word_probs(loaded.params, loaded.cfg, questions, 1, s))[:, 0]
        for s in (steering, None)
    )
    assert table["effect"]["mean"] == pytest.approx((steered - plain).mean(), abs=1e-6)
    assert table["effect"]["n"] == len(world.HELDOUT_QUESTIONS)


def test_damage_is_the_divergence_of_next_tokens(loaded, neutral):
    rows = jax.tree.map(lambda x: x[:3], neutral)
    assert measure_damage(loaded, rows, no_steering(loaded.cfg.dim)) == pytest.approx(0, abs=1e-6)
    vector = 5 * jax.random.normal(jax.random.key(0), (loaded.cfg.dim,))
    steering = no_steering(loaded.cfg.dim).replace(vectors=vector[None])
    p, q = (
        jax.nn.log_softmax(forward(loaded.params, rows.tokens, loaded.cfg, s)[0][:, :-1])
        for s in (None, steering)
    )
    weights = rows.loss_mask[:, 1:]
    expected = jnp.sum(jnp.sum(jnp.exp(p) * (p - q), axis=-1) * weights) / jnp.sum(weights)
    assert measure_damage(loaded, rows, steering) == pytest.approx(float(expected), rel=1e-4)


def test_steer_reads_the_vector_without_further_flags(out, model, capsys):
    main(
        [
            "steer",
            "--model",
            str(model),
            "--vector",
            str(out),
            "--prompt",
            "2?",
            "--json",
            "--max-new-tokens",
            "6",
        ]
    )
    assert json.loads(capsys.readouterr().out)["scale"] == 1.0


def test_pairs_are_judged_by_pairs_that_made_no_vector(loaded, tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [
        {
            "question": f"Is {i} even?",
            "answer_matching_behavior": " (A)",
            "answer_not_matching_behavior": " (B)",
        }
        for i in range(8)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = pair_source(loaded, [0, 1], str(file))
    assert source.activations.shape == (4, 2, 2, loaded.cfg.dim)
    assert source.choice == 2
    zero = no_steering(loaded.cfg.dim).replace(
        vectors=jnp.zeros((2, loaded.cfg.dim)), layers=(0, 1)
    )
    np.testing.assert_array_equal(source.effect(zero), np.zeros(4))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--trait owl --pairs x.jsonl", "one of them"),
        ("--out v.txt --trait owl", "safetensors"),
        ("--trait owl --questions general", "--questions is for --system-prompt"),
        ("--trait Owl", "one word in lower case"),
        ("--trait owl --nats 0", "--nats 0"),
        ("--trait owl --layers 1 1", "twice"),
        ("--trait owl --model ./nowhere", "no such folder"),
    ],
)
def test_bad_flags_are_one_line(flags, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["extract", "--out", "v.safetensors", *flags.split()])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and said in error
    assert not list(tmp_path.iterdir())


def test_files_of_others_stay(tmp_path, capsys):
    (tmp_path / "v.png").write_text("mine")
    with pytest.raises(SystemExit):
        main(["extract", "--trait", "owl", "--out", str(tmp_path / "v.safetensors")])
    assert "is there and is no picture of a vector" in capsys.readouterr().err
