"""The table of claims: nothing is written that no run says, and nothing half-written."""

import json
import shlex

import numpy as np
import pytest
import tyro

from subliminal_jax.cli import (
    _from_preset,
    _preset,
    experiments_folder,
    find_experiments,
    load_experiment,
    presets,
)
from subliminal_jax.errors import InputError
from subliminal_jax.study import claims


def stored(folder, name="trait-transmission", verdict="not reproduced", **config):
    folder.mkdir(parents=True)
    row = claims.claim(f"{name}/x", "A | claim", "Sec. 1", "here", "0.1 [0, 0.2]", 3, verdict)
    (folder / "results.json").write_text(json.dumps({"claims": [row]}))
    (folder / "config.json").write_text(json.dumps({"preset": "toy", "model": "shipped", **config}))
    return folder


@pytest.mark.parametrize(
    ("low", "high", "claimed", "expected"),
    [
        (0.1, 0.2, 1, "reproduced at toy scale"),
        (-0.2, -0.1, 1, "contradicted"),
        (-0.2, -0.1, -1, "reproduced at toy scale"),
        (0.1, 0.2, -1, "contradicted"),
        (-0.1, 0.1, 1, "not reproduced"),
        (0.0, 0.1, 1, "not reproduced"),
        (None, None, 1, "not reproduced"),
        (float("nan"), float("nan"), 1, "not reproduced"),
    ],
)
def test_a_verdict_needs_an_interval_clear_of_zero(low, high, claimed, expected):
    assert claims.verdict(low, high, claimed) == expected


def test_the_page_and_the_readme_hold_every_claim_with_its_command(tmp_path):
    runs = [
        stored(tmp_path / "one", "trait-transmission"),
        stored(tmp_path / "two", "optimizer_mechanics", model="shipped-small", preset="full"),
    ]
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{claims.START}\nold\n{claims.END}\nafter\n")
    out = tmp_path / "CLAIMS.md"
    claims.main([*map(str, runs), "--out", str(out), "--readme", str(readme)])
    text = out.read_text()
    assert "`subliminal-jax trait-transmission --preset toy --model shipped`" in text
    assert "`subliminal-jax optimizer-mechanics --preset full --model shipped-small`" in text
    assert text.count("A \\| claim") == 2  # a bar would end the cell
    table = readme.read_text()
    assert table.startswith("before\n")
    assert table.endswith("after\n")
    assert "old" not in table
    assert table.count("A \\| claim") == 2
    claims.main([*map(str, runs), "--out", str(out), "--readme", str(readme)])
    assert readme.read_text() == table


def test_stored_numbers_give_every_float32_back(tmp_path):
    run = stored(tmp_path / "run")
    singles = np.random.default_rng(0).normal(size=200).astype(np.float32) * np.float32(1e-3)
    results = json.loads((run / "results.json").read_text()) | {"students": singles.tolist()}
    (run / "results.json").write_text(json.dumps(results))
    kept = json.loads((claims.store(run, tmp_path / "shelf") / "results.json").read_text())
    assert np.array_equal(np.array(kept["students"], np.float32), singles)
    assert len(json.dumps(kept["students"])) < 0.75 * len(json.dumps(singles.tolist()))
    assert kept["claims"] == results["claims"]


def test_stored_results_give_the_same_table(tmp_path):
    run = stored(tmp_path / "run")
    claims.main([str(run), "--store", str(tmp_path / "shelf")])
    kept = tmp_path / "shelf" / "run"
    assert claims.read_run(kept) == claims.read_run(run)
    assert (kept / "results.json").stat().st_size <= (run / "results.json").stat().st_size


@pytest.mark.parametrize("broken", ["missing", "no claims", "half a claim", "no markers"])
def test_what_cannot_be_read_is_refused_and_nothing_is_written(broken, tmp_path, capsys):
    run = stored(tmp_path / "run")
    readme = tmp_path / "README.md"
    readme.write_text("nothing here" if broken == "no markers" else claims.START + claims.END)
    if broken == "missing":
        (run / "results.json").unlink()
    elif broken == "no claims":
        (run / "results.json").write_text("{}")
    elif broken == "half a claim":
        (run / "results.json").write_text(json.dumps({"claims": [{"id": "a/x", "verdict": "?"}]}))
    before = readme.read_text()
    with pytest.raises(SystemExit) as exit:
        claims.main([str(run), "--out", str(tmp_path / "C.md"), "--readme", str(readme)])
    assert exit.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "C.md").exists()
    assert readme.read_text() == before


def test_runs_of_one_experiment_are_told_apart_by_their_folders(tmp_path):
    runs = [stored(tmp_path / "small"), stored(tmp_path / "large", model="shipped-small")]
    text = claims.into_readme(f"{claims.START}\n{claims.END}", [*map(claims.read_run, runs)])
    assert "| `small/x` |" in text and "| `large/x` |" in text


EXPERIMENTS = find_experiments(experiments_folder())
CHANGED = {
    "trait-transmission": ("--traits", "owl", "cat", "--rates", "adamw=1e-3,3e-3", "--layer", "2"),
    "logit-linear-selection": ("--student", "shipped-small", "--no-bottom", "--gamma", "0.2"),
    "paraphrase-transmission": ("--contents", "unrelated", "--questions", "my own file.txt"),
    "blocking": ("--vector-rates", "--keep-unfinished"),
    "steering-reliability": ("--split", "0.5", "0", "0.5", "--world-traits"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_command_remakes_the_settings_of_its_run(name):
    """Through tyro and back: for each preset, with flags changed, every recorded setting."""
    module = load_experiment(EXPERIMENTS[name])

    def config_of(flags):
        preset, rest = _preset(module, flags)
        assert preset is not None
        return tyro.cli(module.Config, default=_from_preset(module, preset), args=rest)

    for preset in presets(module):
        for changed in ((), CHANGED[name]):
            made = config_of(["--preset", preset, *changed])
            recorded = json.loads(json.dumps({**made.recorded(), "learning_rates": {"sgd": [1]}}))
            again = shlex.split(claims.command(name, recorded))
            assert again[:4] == ["subliminal-jax", name, "--preset", preset]
            assert config_of(again[2:]) == made
            assert changed or len(again) == 6  # the model's name, and nothing else


def test_settings_of_no_experiment_are_refused():
    for name, config in (("hypnosis", {}), ("scaling", {"preset": "huge"})):
        with pytest.raises(InputError, match=r"no experiment 'hypnosis'|no preset 'huge'"):
            claims.command(name, config)
