"""Hard against soft labels: cosines of means, rates by own loss, claims from intervals."""

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.experiments.objective.analysis import (
    claims,
    gradient_rows,
    held_against_controls,
    needed_rows,
)
from subliminal_jax.runs.students import Panel

RNG = np.random.default_rng(0)
V = jnp.eye(4)[0]


def gradients(noise: float, n: int = 24):
    """Soft gradients along (1, 1, 0, 0), hard ones the same with noise, F v what they point to."""
    signal = np.tile([1.0, 1.0, 0.0, 0.0], (n, 1))
    hard = signal + noise * RNG.standard_normal(signal.shape)
    return {
        k: jnp.asarray(x) for k, x in (("soft", signal), ("hard", hard), ("fisher", 2 * signal))
    }


def test_cosines_are_exact_without_noise_and_rise_with_n_with_it():
    exact = {(r["pair"], r["n"]): r for r in gradient_rows("t", gradients(0.0), V, draws=3)}
    assert {n for _, n in exact} == {1, 2, 4, 8}
    for pair, value in (("hard-soft", 1.0), ("soft-fisher", 1.0), ("soft-v", 2**-0.5)):
        for n in (1, 8):
            assert exact[pair, n]["values"] == pytest.approx([value] * 3)
    noisy = {r["n"]: r for r in gradient_rows("t", gradients(1.0, 3000), V, draws=3)
             if r["pair"] == "hard-soft"}  # fmt: skip
    means = [noisy[n]["cosine"]["mean"] for n in sorted(noisy)]
    assert means == sorted(means) and means[0] < 0.8 and means[-1] > 0.99


def student(objective, data, rows, rate, seed, eas, ce, kl, word):
    return {
        "objective": objective, "optimizer": "adamw", "data": data, "rows": rows,
        "learning_rate": rate, "seed": seed, "diverged": False, "heldout_loss": ce,
        "heldout_kl": kl, "eas": [[eas]], "shift_component": [[eas / 2]],
        "word_rate": [0.0, word], "word_log_prob": [0.0, np.log(word)],
    }  # fmt: skip


@pytest.fixture(scope="module")
def best():
    """Cross-entropy is lowest at rate 0.1 and KL at 0.3; KL finds the vector, hard labels never."""
    students = []
    for rows in (8, 64):
        for seed in range(3):
            for rate, ce, kl in ((0.1, 2.0, 0.5), (0.3, 2.5, 0.1)):
                hard, soft = 0.1 * rate + 0.01 * seed, rate + 0.3 + 0.01 * seed
                for objective, eas in (("cross_entropy", hard), ("kl", soft)):
                    for data, word in (("steered-owl", 0.2 + rate), ("control", 0.1)):
                        at = eas if data != "control" else 0.0
                        students.append(
                            student(objective, data, rows, rate, seed, at, ce, kl, word)
                        )
    panel = Panel(None, None, ("steered-owl",), ("cat", "owl"))
    return held_against_controls(students, {"steered-owl": "owl", "control": None}, panel, 0)


def test_each_objective_is_chosen_by_its_own_loss(best):
    assert len(best) == 4
    for row in best:
        rate = {"cross_entropy": 0.1, "kl": 0.3}[row["objective"]]
        assert row["learning_rate"] == rate and row["grid_edge"]
        assert row["difference"]["mean"] == pytest.approx(0.1 + rate)
        assert row["log_difference"]["mean"] == pytest.approx(np.log((0.2 + rate) / 0.1))
        assert row["control_eas"]["mean"] == 0.0 and row["eas"]["n"] == 3


def test_rows_that_are_needed_and_claims_follow(best):
    bounds = {r["objective"]: r["bound"] for r in needed_rows(best, 0.5)}
    assert bounds == {"cross_entropy": "more than", "kl": "at most"}
    found = gradient_rows("steered-owl", gradients(0.1), V, draws=3)
    made = {c["id"].removeprefix("objective/"): c for c in claims(best, found, "vector", "m", 3)}
    assert set(made) == {
        "few-samples-vector", "names-trait-cross-entropy-vector", "names-trait-kl-vector",
        "collinear-gradients-vector", "fisher-direction-vector",
    }  # fmt: skip
    assert {c["verdict"] for c in made.values()} == {"reproduced at toy scale"}
    assert "from 8 rows minus cross-entropy from 64" in made["few-samples-vector"]["number"]
    swapped = [
        {**r, "objective": "kl" if r["objective"] == "cross_entropy" else "cross_entropy"}
        for r in best
    ]
    other = claims(swapped, found, "vector", "m", 3)
    assert other[0]["verdict"] == "contradicted"
