"""Seconds and forward tokens a data set of the steerability evaluation, against a naive one.

    python -m benchmarks.steerability          # a persona file of the model-written evaluations
    python -m benchmarks.steerability --quick  # the shipped model's own questions, no data needed

The naive evaluation is what one writes first with torch and transformers, and what the released
code of Tan et al. (2024, arXiv 2407.12404) does: one example, one vector, one multiplier and one
answer at a time, whole sequences, no cache (tests/steering/naive_steering.py). Its cost is the same
for every row but for the row's length, so it runs on a sample of rows, drawn anew each repetition,
and is scaled to the set; ours runs on the whole set, compiled before. Both get the same vectors and
prompts, and their propensities are compared on a sample.

Expected on 2 CPU cores: 220 times fewer seconds, 63 times fewer tokens.
"""

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import (
    Document,
    Equal,
    Goal,
    effort,
    largest_difference,
    make_document,
    print_summary,
    run_command,
    run_pair,
)
from benchmarks.models import load_peer, peer_device
from benchmarks.workers import Repetition, Setting, Work, call

GOAL = 30.0
EQUAL = 1e-4  # logits; measured 1e-5: float32 sums of two libraries, in different orders
SAMPLED = 5  # rows to test that the naive evaluation reads; rows for vectors in proportion


def main(quick: bool) -> list[Document]:
    setting: dict[str, Any] = {"model": "models/tinystories-656k", "data": "persona/narcissism"}
    if quick:
        setting = {"model": "shipped-small", "data": "owl"}
    with tempfile.TemporaryDirectory() as scratch:
        full_setting = setting | {"vectors": str(Path(scratch) / "vectors.npy")}
        call(f"{__name__}:write_vectors", full_setting)
        pair = run_pair(__name__, full_setting, effort(quick))
    rows, tokens_read = pair.peer.results["rows"], float(pair.peer.results["tokens"])
    our_propensities = {name: result[rows] for name, result in pair.ours.results.items()}
    peer_propensities = {name: pair.peer.results[name] for name in our_propensities}
    factor = pair.ours.notes["tested"] / SAMPLED
    repetitions = tuple(Repetition(factor * a, factor * b) for a, b in pair.peer.repetitions)
    pair = pair._replace(peer=pair.peer._replace(repetitions=repetitions))
    equal = Equal(
        "propensities (logits)", largest_difference(our_propensities, peer_propensities), EQUAL
    )
    result = make_document("steerability", setting, pair, equal=equal, goal=Goal(GOAL))
    result["token_ratio"] = factor * tokens_read / pair.ours.notes["tokens"]
    print_summary(result)
    return [result]


def write_vectors(setting: Setting) -> None:
    """The vectors that both sides steer with."""
    model, train, _, layer = _prepare(setting)
    np.save(setting["vectors"], _make_vectors(model, train, layer))


def ours(setting: Setting) -> Work:
    """Six vectors of five settings, and their propensities in all five."""
    from subliminal_jax.steering.contrasts import activation_branches, letter_branches
    from subliminal_jax.steering.propensity import MULTIPLIERS, forward_tokens, propensities

    model, train, test, layer = _prepare(setting)
    by_setting: dict[str, np.ndarray] = {}

    def repeat() -> None:
        vectors = _make_vectors(model, train, layer)
        for name, rows in test.items():
            by_setting[name] = propensities(model.params, model.cfg, rows, vectors, [layer])

    def extraction_tokens(rows: Any) -> int:
        """As of a propensity without edits, but with the branches of the activations."""
        plain = forward_tokens(rows, 0, ()) - int(letter_branches(rows).counts.sum())
        return plain + int(activation_branches(rows).counts.sum())

    n = len(np.load(setting["vectors"]))
    tokens = sum(
        forward_tokens(test[name], n, MULTIPLIERS) + extraction_tokens(train[name]) for name in test
    )
    tested = len(next(iter(test.values())).prompts)
    return Work(repeat, lambda: by_setting, {"tokens": tokens, "tested": tested})


def peer(setting: Setting) -> Work:
    from subliminal_jax.steering.propensity import MULTIPLIERS
    from tests.steering.naive_steering import Naive

    model, train, test, layer = _prepare(setting)
    peer_model = load_peer(str(model.folder), device=peer_device(setting)).eval()
    vectors = np.load(setting["vectors"])
    tested, trained = (len(next(iter(rows.values())).prompts) for rows in (test, train))
    rng = random.Random(0)
    last: dict[str, Any] = {}

    def repeat() -> None:
        naive = Naive(peer_model)
        rows = rng.sample(range(tested), SAMPLED)
        some = rng.sample(range(trained), max(1, round(SAMPLED * trained / tested)))
        for name in test:
            naive.mean_difference(train[name].select(some), layer)
            last[name] = naive.propensities(
                test[name].select(rows), layer, vectors[:, 0], MULTIPLIERS, "letter"
            )
        last["rows"], last["tokens"] = np.asarray(rows), np.asarray(naive.tokens)

    return Work(repeat, lambda: last)


def _prepare(setting: Setting) -> tuple[Any, dict[str, Any], dict[str, Any], int]:
    """(model, rows for vectors and rows to test by setting, layer)."""
    from subliminal_jax.data.contrastive import find_suite_files, read_contrastive, split_pairs
    from subliminal_jax.data.contrastive_prompts import SETTINGS, compose_personas, encode_contrasts
    from subliminal_jax.data.contrastive_world import world_contrasts
    from subliminal_jax.data.shared_data import resolve_shared
    from subliminal_jax.models.hub import load_model

    kind, _, name = setting["data"].rpartition("/")
    model = load_model(resolve_shared(setting["model"]), dtype="float32")
    contrasts = (
        read_contrastive(find_suite_files([kind])[setting["data"]])
        if kind
        else world_contrasts(name)
    )
    train, _, test = split_pairs(contrasts.pairs)
    # The set of the world is told apart by the personas of a file; which one does not matter.
    sentences = compose_personas(name if kind else "narcissism")
    by_setting = (
        {s: encode_contrasts(pairs, model.tokenizer, s, personas=sentences) for s in SETTINGS}
        for pairs in (train, test)
    )
    return model, *by_setting, model.cfg.layers // 3  # type: ignore[return-value]


def _make_vectors(model: Any, train: dict[str, Any], layer: int) -> np.ndarray:
    """Of each way to make them that compares, [vectors, 1, dim]."""
    from subliminal_jax.data.contrastive_prompts import SETTINGS
    from subliminal_jax.steering.contrastive import contrastive_vectors, match_norms
    from subliminal_jax.steering.propensity import answer_activations

    vectors = {
        name: contrastive_vectors(answer_activations(model.params, model.cfg, rows, [layer]))
        for name, rows in train.items()
    }
    return np.stack(list(match_norms(vectors, SETTINGS[0]).values())).astype(np.float32)


if __name__ == "__main__":
    run_command("benchmarks.steerability", __doc__ or "", main)
