"""`bench` measures the setting that is asked for, and refuses what cannot be."""

import json

import pytest

from subliminal_jax.cli import main
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.flops import step_flops
from subliminal_jax.runs import speed

SMALL = ["bench", "--model", "shipped-small", "--batch-size", "2", "--length", "16"]


def test_a_setting_is_measured_and_compiled_anew(capsys):
    main([*SMALL, "--optimizers", "sgd", "--steps", "1", "--seconds", "1e-3", "--json"])
    found = json.loads(capsys.readouterr().out)
    (row,) = found["programs"]
    assert row["optimizers"] == "sgd" and row["students"] == 1
    assert row["tokens_per_second"] == pytest.approx(2 * 16 / row["step_seconds"])
    assert 0 < row["share"] < 1 and row["compile_seconds"] > row["step_seconds"]
    assert row["memory_bytes"] > 1_000_000  # the weights alone take more
    assert found["device"].startswith("cpu") and found["ceiling_flops"] > 1e8


def test_optimizers_are_measured_alone_and_together(capsys, monkeypatch):
    asked = []

    def measure(model, arms, plan, length, seconds, ceiling):
        asked.append([(arm.optimizer.label, arm.seed) for arm in arms])
        return speed.Speed("x", len(arms), 1e3, 0.1, 2.0, 2**30, 0.25)

    monkeypatch.setattr(speed, "measure_speed", measure)
    main([*SMALL, "--optimizers", "sgd", "lion", "--students", "2"])
    alone = [[(name, seed) for seed in (0, 1)] for name in ("sgd", "lion")]
    assert asked == [*alone, alone[0] + alone[1]]
    shown = capsys.readouterr().out
    assert "1.0 GB" in shown and "25%" in shown and "1,000" in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optimizers", "adamv"], "unknown optimizer 'adamv'"),
        (["--batch-size", "6", "--accumulation", "4"], "must be a multiple of --accumulation 4"),
        (["--length", "100000"], "--length 100000 is more than the context of"),
        (["--rank", "1000"], "rank"),
        (["--model", "nowhere/at-all"], "nowhere/at-all"),
        (["--students", "0"], "--students 0 is not valid"),
    ],
)
def test_bad_settings_are_one_clear_line(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *flags])
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.out == "" and said.err.count("\n") == 1
    assert message in said.err


def test_flops_of_a_step_are_those_of_its_products():
    """One block without heads that share: 2 (forward) + 2 (to activations) + 2 (to weights)."""
    cfg = ModelConfig("llama", 10, 4, 1, 2, 2, 2, 3, 16)
    weights = 4 * 4 * 4 + 3 * 4 * 3
    attention = 3 * 2 * 5 * 6 * 4  # three products of two, causal: of 5 x 6 pairs, 2 heads of 2
    full = 6.0 * (5 * weights + 3 * 10 * 4) + attention
    assert step_flops(cfg, rows=1, time=6, predicted=3, full=True) == full
    lora = 4.0 * (5 * weights + 3 * 10 * 4) + attention
    assert step_flops(cfg, rows=1, time=6, predicted=3, full=False) == lora
