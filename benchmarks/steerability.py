"""Seconds and forward tokens a data set of the steerability evaluation, against a naive one.

    python -m benchmarks.steerability          # a persona file of the model-written evaluations
    python -m benchmarks.steerability --quick  # fewer rows, on the shipped model's own questions

The naive evaluation is what one writes first with torch and transformers, and what the released
code of Tan et al. (2024, arXiv 2407.12404) does: one example, one vector, one multiplier and one
answer at a time, whole sequences, no cache (tests/steering/naive_steering.py). Its cost is the same
for every row but for the row's length, so it runs on a sample of rows, drawn anew each repetition,
and is scaled to the set; ours runs on the whole set, compiled before. Both get the same vectors and
prompts, and their propensities are compared on the sample. Both use all cores they are given.

Expected on 2 CPU cores: more than 30 times fewer seconds, 67 times fewer tokens.
"""

import argparse
import os
import random
import sys
import time
from typing import Any

import numpy as np

from subliminal_jax.compilation import enable_compilation_cache
from subliminal_jax.data.contrastive import read_contrastive, split_pairs, suite_files
from subliminal_jax.data.contrastive_prompts import SETTINGS, encode_contrasts, personas_of
from subliminal_jax.data.contrastive_world import world_contrasts
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model, load_model
from subliminal_jax.steering.contrastive import comparable, contrastive_vectors
from subliminal_jax.steering.contrasts import Contrasts, activation_branches, letter_branches
from subliminal_jax.steering.propensity import (
    MULTIPLIERS,
    answer_activations,
    forward_tokens,
    propensities,
)
from subliminal_jax.study.settings import in_data_folder

EQUAL = 2e-3  # logits: float32 sums of two libraries, in different orders


def main() -> None:
    """Time both, and print one line a repetition and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows, no data needed")
    parser.add_argument("--name", default="narcissism", help="of a persona file")
    parser.add_argument("--model", default="models/tinystories-656k")
    parser.add_argument("--sample", type=int, default=3, help="rows of the naive evaluation")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    enable_compilation_cache()
    if given.quick:
        model, found = load_model("shipped-small", dtype="float32"), world_contrasts("owl")
        given.repeats, given.sample = 2, 1
    else:
        model = load_model(in_data_folder(given.model), dtype="float32")
        found = read_contrastive(suite_files(["persona"])[f"persona/{given.name}"])
    train, _, test = split_pairs(found.pairs)
    said = personas_of(given.name)

    def encoded(pairs: Any) -> dict[str, Contrasts]:
        return {s: encode_contrasts(pairs, model.tokenizer, s, personas=said) for s in SETTINGS}

    compare(model, encoded(train), encoded(test), given.sample, given.repeats)


def ours(
    model: Model, train: dict[str, Contrasts], test: dict[str, Contrasts], layer: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Six vectors of five settings, and their propensities in all five."""
    made = {
        s: contrastive_vectors(answer_activations(model.params, model.cfg, rows, [layer]))
        for s, rows in train.items()
    }
    vectors = np.stack(list(comparable(made, SETTINGS[0]).values())).astype(np.float32)
    return vectors, {
        s: propensities(model.params, model.cfg, rows, vectors, [layer])
        for s, rows in test.items()
    }  # fmt: skip


def tokens_of_extraction(rows: Contrasts) -> int:
    """Tokens that `answer_activations` reads: as a propensity without edits, but its branches."""
    plain = forward_tokens(rows, 0, ()) - int(letter_branches(rows).counts.sum())
    return plain + int(activation_branches(rows).counts.sum())


def compare(
    model: Model,
    train: dict[str, Contrasts],
    test: dict[str, Contrasts],
    sample: int,
    repeats: int,
) -> None:
    import torch
    import transformers

    from tests.steering.naive_steering import Naive

    torch.set_num_threads(os.cpu_count() or 1)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        model.folder, dtype=torch.float32
    ).eval()  # fmt: skip
    layer = model.cfg.layers // 3
    vectors, found = ours(model, train, test, layer)  # compiles
    n, trained = len(test[SETTINGS[0]].prompts), len(train[SETTINGS[0]].prompts)
    read = sum(
        forward_tokens(test[s], len(vectors), MULTIPLIERS) + tokens_of_extraction(train[s])
        for s in SETTINGS
    )
    print(f"{model.name}: {trained} rows for vectors, {n} to test, {len(SETTINGS)} settings, "
          f"{len(vectors)} vectors, {len(MULTIPLIERS)} multipliers")  # fmt: skip
    rng = random.Random(0)
    ratios, tokens = [], []
    for repeat in range(repeats):
        rows, some = rng.sample(range(n), sample), rng.sample(range(trained), sample)
        naive, start = Naive(theirs), time.perf_counter()
        for s in SETTINGS:
            naive.mean_difference(train[s].select(some), layer)
        extraction, first = time.perf_counter() - start, naive.tokens
        start, apart = time.perf_counter(), 0.0
        for s in SETTINGS:
            m = naive.propensities(
                test[s].select(rows), layer, vectors[:, 0], MULTIPLIERS, "letter"
            )
            apart = max(apart, float(np.abs(m - found[s][rows]).max()))
        evaluation = time.perf_counter() - start
        seconds = (extraction * trained + evaluation * n) / sample
        theirs_read = (first * trained + (naive.tokens - first) * n) / sample
        start = time.perf_counter()
        ours(model, train, test, layer)
        mine = time.perf_counter() - start
        ratios.append(seconds / mine)
        tokens.append(theirs_read / read)
        print(f"{repeat}: naive {seconds:7.1f} s a set, ours {mine:6.2f} s, ratio "
              f"{ratios[-1]:.0f}; tokens {theirs_read:,.0f} and {read:,} (ratio {tokens[-1]:.0f}); "
              f"propensities at most {apart:.1e} logits apart")  # fmt: skip
        if apart > EQUAL:
            sys.exit(f"the results are not equal: {apart} logits apart")
    print(f"seconds: median ratio {np.median(ratios):.0f}, {min(ratios):.0f} to "
          f"{max(ratios):.0f}; tokens: median ratio {np.median(tokens):.0f}")  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"benchmarks.steerability: error: {error}")
