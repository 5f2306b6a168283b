"""A run is computed once, its page drawn each time."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import RunSettings, check_names


@dataclass(frozen=True, kw_only=True)
class Config(RunSettings):
    rows: int = 3


class Page:
    """A report that keeps what it was given."""

    def __init__(self):
        self.given = []

    def __call__(self, folder, results, settings, command):
        self.given.append((results, settings))
        (folder / "report.html").write_text(str(results))
        return folder / "report.html"


def test_computed_once_and_drawn_again(tmp_path):
    calls, page = [], Page()

    def compute(run):
        calls.append(run.path)
        return {"mean": 0.1 + 0.2}

    config = Config(out=tmp_path / "run")
    first = run_once(config, compute, page, learning_rates={"adamw": (1e-3,)})
    again = run_once(config, compute, page, learning_rates={"adamw": (1e-3,)})
    assert calls == [tmp_path / "run"]
    assert first == again == {"mean": 0.1 + 0.2}
    assert len(page.given) == 2
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["rows"] == 3
    assert recorded["learning_rates"] == {"adamw": [1e-3]}
    assert page.given[0][1] == config.recorded() | {"learning_rates": {"adamw": (1e-3,)}}


def test_what_follows_from_the_flags_belongs_to_the_run(tmp_path):
    config = Config(out=tmp_path / "run")
    run_once(config, lambda run: {}, Page(), learning_rates={"adamw": (1e-3,)})
    with pytest.raises(InputError, match="learning_rates"):
        run_once(config, lambda run: {}, Page(), learning_rates={"adamw": (1e-2,)})


def test_bad_input_leaves_no_folder(tmp_path):
    def compute(run):
        raise InputError("rows is 3: give more")

    with pytest.raises(InputError, match="give more"):
        run_once(Config(out=tmp_path / "run"), compute, Page())
    assert not Path(tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "known", "least", "message"),
    [
        ((), (), 1, "traits : name at least one, each once"),
        (("owl", "owl"), (), 1, "traits owl owl: name at least one, each once"),
        (("owl",), (), 2, "traits owl: name at least two, each once"),
        (("owl", "cow"), ("owl",), 1, r"traits \['cow'\] are not known; choose from owl"),
    ],
)
def test_names_are_refused(names, known, least, message):
    with pytest.raises(InputError, match=message):
        check_names("traits", names, known, least)


def test_names_that_are_known_pass():
    check_names("traits", ("owl", "cat"), {"owl": 1, "cat": 2}, least=2)
