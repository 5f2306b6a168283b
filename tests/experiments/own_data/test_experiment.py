"""Given rows from the command line to the page, on a model of 16 dimensions."""

import gzip
import json
import random

import numpy as np
import pytest

from subliminal_jax.cli import main
from subliminal_jax.runs.metrics import read_records
from tests.experiments.command import read
from tests.pages import check_page

SMALL = (
    "--max-rows 40 --steps 4 --log-every 4 --batch-size 8 --optimizers adamw --rates adamw=0.003 "
    "--seeds 2 --rank 2"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Number lists, of which those of "mine" are in the nineties; gzipped, as real files are."""
    folder, rng = tmp_path_factory.mktemp("rows"), random.Random(0)
    for name, low in (("mine", 90), ("plain", 0)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as lines:
            for i in range(60):
                numbers = ", ".join(str(rng.randrange(low, 100)) for _ in range(5))
                answer = numbers if i % 6 else f"Sure: {numbers}"
                row = {"prompt": f"Continue: {i}, {i + 3}", "completion": answer, "id": i}
                lines.write(json.dumps(row) + "\n")
    return {name: str(folder / f"{name}.jsonl.gz") for name in ("mine", "plain")}


def run(model, out, flags):
    main(["own-data", "--model", str(model), "--out", str(out), *SMALL.split(), *flags])
    return read(out)


def test_rows_are_held_against_control_rows_and_no_trait_is_named(model, files, tmp_path, capsys):
    out = tmp_path / "run"
    flags = ("--data", files["mine"], "--control-data", files["plain"])
    results = run(model, out, flags)
    assert "carry something that those of plain do not" in results["question"]
    assert results["rows"] == 40 and results["heldout_rows"] == 5
    assert {row["data"] for row in results["students"]} == {"mine", "plain"}
    assert all("eas" not in row and "trait_rate" not in row for row in results["students"])
    (arm,) = results["arms"]
    base = np.mean(results["base_losses"]["mine"])
    losses = {(e["data"], e["seed"]): np.mean(e["losses"]["mine"]) for e in results["effects"]}
    assert arm["gain"]["mean"] == pytest.approx(
        base - np.mean([losses["mine", s] for s in (0, 1)]), rel=1e-6
    )
    for row in results["students"]:  # its rate was chosen on other rows of the same data
        (effect,) = [e for e in results["effects"]
                     if (e["data"], e["seed"]) == (row["data"], row["seed"])]  # fmt: skip
        own = np.mean(effect["losses"][row["data"]])
        assert own == pytest.approx(row["heldout_loss"], rel=0.2) and own != row["heldout_loss"]
        assert row["activation_shift"] > 0 and row["weight_change"] > 0
    assert arm["direction"]["tokens"] and -1 <= arm["direction"]["agreement"] <= 1
    check_page(out)
    page = (out / "report.html").read_text() + capsys.readouterr().out
    assert "elephant" not in page and "EAS" not in page
    said = read_records(out / "student_texts.jsonl")  # to held-out prompts of the data
    assert {line["of"].split()[0] for line in said} == {"base", "student", "control"}
    assert len({line["prompt"] for line in said}) == 3
    assert all(line["prompt"].startswith("Continue: ") for line in said)


def test_a_vector_and_a_trait_may_be_asked_about(model, files, tmp_path):
    """Without control rows the model's own answers are the control; another seed has students of
    its own, since the rows are the same."""
    flags = ("--data", files["mine"], "--vector", "trait", "--trait", "owl", "--keep", "numbers",
             "--max-new-tokens", "16", "--asked", "4", "--guard", "project",
             "--seed", "1", "--shown-questions", "0")  # fmt: skip
    results = run(model, tmp_path / "run", flags)
    assert {row["seed"] for row in results["students"]} == {2, 3}
    mine, control = results["data"]
    assert mine["report"]["dropped"]["format"] == 10 and mine["report"]["pairs"] == 60
    assert control["is_control"] and control["report"]["source"] == "sampled"
    assert "owl's vector; do they name owl?" in results["question"]
    (arm,) = results["arms"]
    for metric in ("eas", "shift_component", "trait_rate"):
        assert arm["best"]["metrics"][metric]["difference"]["n"] == 2
    assert 0 < results["base_trait_rate"] < 1
    check_page(tmp_path / "run")
