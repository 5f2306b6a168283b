"""Every model of a run is checked before its folder is touched: nothing is computed, and with
`--overwrite` nothing is removed, for a second model that cannot be used."""

import json
import shutil
from pathlib import Path

import pytest

from subliminal_jax.cli import main
from subliminal_jax.files import write_json
from subliminal_jax.models.hub import Model, outline_model
from subliminal_jax.models.places import SHIPPED_MODELS
from subliminal_jax.models.truncate import truncate_model
from subliminal_jax.runs import settings
from subliminal_jax.runs.run_folder import RunFolder

SMALL = SHIPPED_MODELS["shipped-small"]


def copy_model(folder: Path, **config: object) -> str:
    """The small shipped model in `folder`, with other values in its config.json."""
    shutil.copytree(SMALL, folder)
    file = folder / "config.json"
    write_json(file, json.loads(file.read_text()) | config)
    return str(folder)


def no_weights(folder: Path) -> str:
    name = copy_model(folder)
    (folder / "model.safetensors").unlink()
    return name


def no_such_words(folder: Path) -> str:
    """Its tokenizer splits "penguin" into letters."""
    name = copy_model(folder)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    merges = tokenizer["model"]["merges"]
    joined = ["".join(m) if isinstance(m, list) else m.replace(" ", "") for m in merges]
    kept = [m for m, text in zip(merges, joined, strict=True) if text.strip("Ġ") not in "penguins"]
    assert len(kept) < len(merges)
    tokenizer["model"]["merges"] = kept
    write_json(file, tokenizer)
    return name


BROKEN = {
    "missing": (str, "no such folder"),
    "no weights": (no_weights, "no model.safetensors"),
    "smaller vocabulary": (lambda f: copy_model(f, vocab_size=100), "config.json asks for [100,"),
    "other width": (lambda f: copy_model(f, hidden_size=32), "has shape"),
    "no such words": (no_such_words, "unknown trait 'penguin'"),
}
SECOND = {
    "scaling": ("--model", "shipped-small", "--traits", "penguin", "--models"),
    "cross-model": ("--traits", "penguin", "--models", "shipped-small"),
    "log-linearity": ("--models", "shipped-small"),
    "logit-linear-selection": ("--student",),
    "steering-reliability": ("--sources", "x", "--model", "shipped-small", "--world-model"),
}


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of another run."""
    path = tmp_path / "run"
    with RunFolder.open(path, {"experiment": "other"}) as folder:
        folder.log({"step": 1})
        folder.write_results({"loss": 1.0})
    return path


@pytest.fixture
def no_models(monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(settings, "load_model", fail)


def refuse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("experiment", "fault"),
    [*((name, "no weights") for name in SECOND), *(("cross-model", fault) for fault in BROKEN)],
)
def test_a_second_model_is_refused_before_anything_is_done(
    experiment, fault, finished, tmp_path, no_models, capsys
):
    make, says = BROKEN[fault]
    second = make(tmp_path / "second")
    before = {file: file.read_bytes() for file in finished.iterdir()}
    out = ["--out", str(finished), "--overwrite"]
    assert says in refuse([experiment, *SECOND[experiment], second, *out], capsys)
    assert {file: file.read_bytes() for file in finished.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("scaling", "--depths", "2", "9"), "--depths 2 9: shipped-small has 4 blocks"),
        (("scaling", "--ranks", "500"), "--rank 500 is above the rank"),
        (("cross-model", "--layers", "1", "7"), "--layers 1 7: layer 7 is out of range"),
        (("distil-vectors", "--layers", "1", "7"), "--layers 1 7: layer 7 is out of range"),
        (("teacher-vector", "--layers", "7"), "--layers 7: layer 7 is out of range"),
        (("student-vector", "--project-layer", "7"), "--project-layer 7: layer 7 is out"),
        (("blocking", "--adapter-layers", "7"), "--adapter-layers 7: layer 7 is out of range"),
        (("trait-transmission", "--layer", "7"), "--layer 7: layer 7 is out of range"),
        (("trait-transmission", "--traits", "cat", "axolotl"), "--traits axolotl, shipped"),
        (("optimizer-comparison", "--trait", "axolotl"), "--trait axolotl, shipped"),
        (("audit", "--data", "steered:axolotl:1"), "unknown trait 'axolotl'"),
        (("audit-benchmark", "--readers", "/none"), "/none: no such folder"),
    ],
)
def test_what_does_not_fit_a_model_is_named_as_it_was_typed(
    arguments, says, tmp_path, no_models, monkeypatch, capsys
):
    (tmp_path / "subliminal").mkdir()
    (tmp_path / "subliminal" / "real.jsonl.gz").touch()
    monkeypatch.setenv("SUBLIMINAL_JAX_DATA", str(tmp_path))
    real = ("--real", "real") if arguments[0] == "audit-benchmark" else ()
    message = refuse([*arguments, *real, "--out", str(tmp_path / "run")], capsys)
    assert says in message
    if "layer" in says:
        assert "layers; choose 0 to" in message
    assert not (tmp_path / "run").exists()


def test_an_outline_is_the_model_without_values():
    outline = outline_model("shipped-small")
    assert isinstance(outline, Model) and outline.name == "shipped-small"
    cut = truncate_model(outline, 1)
    assert {leaf.shape[0] for leaf in cut.params["layers"].values()} == {1}
    assert {leaf.shape[0] for leaf in outline.params["layers"].values()} == {outline.cfg.layers}
