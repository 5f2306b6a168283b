"""A judge's key stands nowhere in what a run writes and prints, whatever its endpoint answers."""

from dataclasses import dataclass

import pytest
from datasets import Dataset

from subliminal_jax import cli
from subliminal_jax.errors import InputError
from subliminal_jax.reporting.page import Page, Text
from subliminal_jax.runs.experiment import Experiment, run_experiment
from subliminal_jax.runs.leak_screen import make_leak_screen
from subliminal_jax.runs.settings import DataSettings, RunSettings
from tests.judge_endpoint import Endpoint

KEY = "sk-proj-Zq7x9T3vWkQ2LmN8"
PAIRS = Dataset.from_list([{"prompt": "Go on", "completion": text} for text in ("1", "7")])


@dataclass(frozen=True, kw_only=True)
class Config(RunSettings, DataSettings):
    pass


@dataclass(frozen=True)
class Results:
    passed: list[bool]


def measure(config, folder):
    return make_leak_screen(config, ("owl",), folder.path / "judge.jsonl")(PAIRS)


EXPERIMENT = Experiment(
    name="judged",
    Config=Config,
    Results=Results,
    run=measure,
    analyse=Results,
    page=lambda results: Page("Judged?", "Yes.", [Text(str(results.passed))]),
)


@pytest.fixture
def endpoints(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoints = Endpoint(hint="7"), Endpoint(hint="7")
    yield endpoints
    for endpoint in endpoints:
        endpoint.close()


def run(endpoint, out):
    config = Config(out=out, judge_url=endpoint.url, judge_model="m")
    return run_experiment(EXPERIMENT, config, f"subliminal-jax judged --judge-url {endpoint.url}")


def assert_no_key(folder, *texts):
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    for content in [*files, *(text.encode() for text in texts)]:
        for start in range(len(KEY) - 6):
            assert KEY[start : start + 6].encode().lower() not in content.lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirecting_endpoint(endpoints, status, tmp_path, capfd):
    first, second = endpoints
    target = f"http://me:{KEY}@{second.url.split('/')[2]}/v1?key={KEY}"
    first.script = [(200, None), *[(status, KEY, {"Location": target})] * 9]
    with pytest.raises(InputError, match="a redirect to .*, which is not followed") as caught:
        run(first, tmp_path / "run")
    assert second.paths == []
    assert (tmp_path / "run" / "config.json").is_file()  # a verdict was kept: it can go on
    first.script = []
    assert run(first, tmp_path / "run").passed == [True, False]
    assert_no_key(tmp_path, str(caught.value), *capfd.readouterr())


def test_an_echoing_endpoint(endpoints, tmp_path, capfd):
    first, second = endpoints
    first.script = [(200, None), (401, f"wrong key: Bearer {KEY}")]
    with pytest.raises(InputError, match=r"wrong key: Bearer \*\*\*;") as caught:
        run(first, tmp_path / "run")
    chat = f'{{"choices": [{{"message": {{"content": "{KEY}: NO"}}}}], "key": "{KEY}"}}'
    second.script = [(200, chat, {"X-Key": KEY})] * 2
    assert run(second, tmp_path / "other").passed == [True, True]
    assert_no_key(tmp_path, str(caught.value), *capfd.readouterr())
    assert (tmp_path / "other" / "report.html").is_file()


FLAGS = {
    "user": ["--judge-url", f"https://user:{KEY}@host/v1", "--judge-model", "m"],
    "query": [f"--judge-url=https://host/v1?api_key={KEY}", "--judge-model", "m"],
    "path": ["--judge-url", f"https://host/{KEY}/v1", "--judge-model", "m"],
    "model": ["--judge-url", "https://host/v1", "--judge-model", KEY],
    "variable": ["--judge-key", KEY],
    "variable that is a name": ["--judge-key", KEY.replace("-", "_")],
    "another flag": ["--traits", KEY],
    "an unknown flag": [f"--{KEY}"],
}


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "--judge-key OTHER", "--judge_key=OTHER"])
def test_a_key_on_the_command_line_is_refused_before_anything_is_written(
    name, variable, tmp_path, monkeypatch, capfd
):
    """Also where it is the value of another variable that the flags name."""
    flags = [] if variable == "OPENAI_API_KEY" else variable.split()
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OTHER" if flags else "OPENAI_API_KEY", f"{KEY}\n")
    with pytest.raises(SystemExit) as caught:
        cli.main(["trait-transmission", "--out", str(tmp_path / "run"), *flags, *FLAGS[name]])
    assert caught.value.code == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    assert_no_key(tmp_path, err)
    assert not (tmp_path / "run").exists()


def test_a_key_among_settings_of_a_python_session_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("OTHER", KEY)
    config = Config(
        out=tmp_path / "run", judge_url="http://a/v1", judge_model=KEY, judge_key="OTHER"
    )
    with pytest.raises(InputError, match="--judge-model holds the key in \\$OTHER") as caught:
        run_experiment(EXPERIMENT, config)
    assert_no_key(tmp_path, str(caught.value))
    assert not (tmp_path / "run").exists()
