"""`steering-bridge` through the command line, on a model that writes number lists."""

import json

import numpy as np
import pytest

from subliminal_jax.cli import main
from subliminal_jax.experiments.steering_bridge.analysis import (
    Steered,
    claims,
    differences,
    prediction,
)
from subliminal_jax.runs.claims import VERDICTS

SMALL = (
    "--traits", "owl", "cat", "--rows", "24", "--heldout-rows", "8", "--asked", "4",
    "--max-new-tokens", "12", "--steps", "2", "--log-every", "2", "--batch-size", "4", "--rank",
    "2", "--seeds", "2", "--rates", "adamw=0.01,0.1", "--grid-traits", "1",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "bridge"
    main(["steering-bridge", "--model", str(model), "--layer", "0", "--out", str(out), *SMALL])
    return out


def test_students_are_held_against_the_controls_of_their_seed(folder):
    results = json.loads((folder / "results.json").read_text())
    for trait in ("owl", "cat"):
        for measure in ("preference", "steerability", "anti_steerable"):
            expected = [
                a[measure] - b[measure]
                for a, b in zip(results["students"][trait], results["controls"][trait], strict=True)
            ]
            assert results["differences"][measure]["traits"][trait] == pytest.approx(expected)
        # Trained at all: the students' preference is neither the base's nor their control's.
        told = [s["preference"] for s in results["students"][trait]]
        assert results["base"][trait]["preference"] not in told
        assert any(results["differences"]["preference"]["traits"][trait])
    assert len(results["claims"]) == 4
    assert all(claim["verdict"] in VERDICTS for claim in results["claims"])
    assert "what the vector does" in (folder / "report.html").read_text()
    for name in ("preference", "steerability"):
        assert (folder / f"{name}.png").exists()


def test_what_predicts_is_ranked_over_traits():
    """Planted: transmission follows steerability in order and reliability in reverse."""
    traits = [f"t{i}" for i in range(8)]
    base = {t: Steered(0.0, float(i), i / 10) for i, t in enumerate(traits)}
    control = {t: [Steered(1.0, 1.0, 0.0)] * 2 for t in traits}
    student = {t: [Steered(1.0 + i**2, 0.5, 0.0)] * 2 for i, t in enumerate(traits)}
    found = differences(student, control)
    assert found["steerability"]["pooled"]["mean"] == -0.5
    assert found["preference"]["pooled"]["mean"] == pytest.approx(np.mean([i**2 for i in range(8)]))
    ranks = prediction(base, found, {t: -float(i) for i, t in enumerate(traits)})
    assert ranks["steerability-preference"]["mean"] == pytest.approx(1)
    assert ranks["reliability-preference"]["mean"] == pytest.approx(-1)
    assert ranks["steerability-log_prob"]["mean"] == pytest.approx(-1)


def test_ties_leave_reliability_undecided():
    """Ten traits of which six work on every input: the ranks are mostly those of ties."""

    def made(tied):
        shares = [0.0] * tied + [0.1 + 0.01 * i for i in range(10 - tied)]
        traits = [f"t{i}" for i in range(10)]
        base = {t: Steered(0.0, 1.0 + i, shares[i]) for i, t in enumerate(traits)}
        control = {t: [Steered(1.0, 1.0, 0.0)] * 2 for t in traits}
        student = {t: [Steered(10.0 - i, 0.5, 0.0)] * 2 for i, t in enumerate(traits)}
        found = differences(student, control)
        ranks = prediction(base, found, dict.fromkeys(traits, 0.0))
        results = {
            "model": "m", "traits": traits, "adapter": "lora", "optimizer": "adamw", "grid": [0.1],
            "learning_rate": 0.1, "seeds": 2, "differences": found, "prediction": ranks,
            "base": {t: of._asdict() for t, of in base.items()},
        }  # fmt: skip
        return next(c for c in claims(results) if c["id"].endswith("reliability-predicts"))

    undecided = made(6)
    assert "6 of 10 traits tie at 1.00, so this is undecided" in undecided["number"]
    assert undecided["verdict"] == "not reproduced"
    assert made(1)["verdict"] == "reproduced at toy scale" and "tie" not in made(1)["number"]
    assert "2 of 10 traits tie" in made(2)["number"]
    assert made(2)["verdict"] == "reproduced at toy scale"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--adapter", "vector"), "adapter 'vector'"),
        (("--optimizers", "adamw", "sgd"), "name one optimizer"),
        (("--traits", "unicorn"), "unicorn"),
        (("--objective", "kl"), "objective kl is not for this experiment"),
        (("--grid-traits", "0"), "grid_traits is 0"),
    ],
)
def test_bad_input_is_told_in_one_line(model, tmp_path, capsys, flags, says):
    with pytest.raises(SystemExit) as stopped:
        main(["steering-bridge", "--model", str(model), "--out", str(tmp_path / "run"), *flags])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err
