"""Folders of finished runs with damaged files, through `report`, `claims` and a second run."""

import json
import os
import random
import shutil
from pathlib import Path

from subliminal_jax.errors import InputError
from subliminal_jax.experiments.log_linearity.analysis import Measured, analyse
from subliminal_jax.experiments.log_linearity.claims import make_claims
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.serialization import to_json
from tests.experiments.log_linearity import test_analysis as linear
from tests.fuzz.families.base import call_command, check, replace_file, scratch
from tests.fuzz.mutations import change_json

SETTINGS = {"experiment": "log-linearity", "preset": "toy", "seed": 0, "models": ["a", "b"]}
COMMAND = "subliminal-jax log-linearity --out run"
THEIRS = {"notes.txt": b"mine", ".keep.tmp": b"mine, too", "model/config.json": b"{}"}


def prepare() -> None:
    folder = scratch() / "run"
    if folder.exists():
        return
    measured = Measured(
        ("a", "b"),
        (linear.M, linear.N),
        linear.DRAWS,
        linear.K,
        {},
        linear.one_row_space(),
        linear.toys(0.9, 0.1, -0.9),
        (2, 12),
        (1, linear.K),
        5,
    )
    results = analyse(measured)
    with RunFolder.open(folder, SETTINGS, command=COMMAND) as run:
        run.log({"step": 1, "loss": 2.5})
        run.log({"step": 2, "loss": 1.5})
        run.write_results({**to_json(results), "claims": to_json(list(make_claims(results)))})
    call_command(["report", str(folder)])


def run(rng: random.Random, folder: Path) -> str:
    place = folder / "run"
    shutil.copytree(scratch() / "run", place)
    names = sorted(path.name for path in place.iterdir() if path.is_file())
    name = rng.choice(("results.json", "results.json", "config.json", "metrics.jsonl", *names))
    path = place / name
    content = None
    if name.endswith(".json"):
        content = change_json(rng, json.loads(path.read_bytes()), ("claims", "measures"))
    if path.exists() and path.stat().st_size:
        replace_file(rng, path, content)
    for theirs, text in THEIRS.items():
        (place / theirs).parent.mkdir(exist_ok=True)
        (place / theirs).write_bytes(text)
    before = _content(place, name)
    try:
        kind = rng.choice(("report", "claims", "open", "overwrite"))
        if kind == "report":
            call_command(["report", str(place)])
            check((place / "report.html").is_file(), "no page")
        elif kind == "claims":
            call_command(["claims", str(place), "--out", str(folder / "claims.md")])
        else:
            settings = json.loads(json.dumps(SETTINGS))
            with RunFolder.open(place, settings, overwrite=kind == "overwrite") as opened:
                opened.log({"step": 3})
                check(kind == "overwrite" or opened.read_metrics()[-1] == {"step": 3}, "metrics")
                if opened.finished:
                    opened.read_results()
    except InputError:
        kept = {key: _content(place, key) for key in ("results.json",)}
        check(kept.get(name, before) == before, f"{name} was changed by a refused command")
        raise
    finally:
        for theirs, text in THEIRS.items():
            check((place / theirs).read_bytes() == text, f"{theirs} was touched")
    return kind


def _content(place: Path, name: str) -> object:
    path = place / name
    if path.is_symlink() or not path.exists() or not path.is_file():
        return os.path.lexists(path)
    return path.read_bytes()
