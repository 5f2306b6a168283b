"""Judges at an endpoint: what they reject, and that settings without one screen nothing."""

import json

import numpy as np
import pytest
from datasets import Dataset

from subliminal_jax.data.teachers import Pairs, filtered
from subliminal_jax.errors import InputError
from subliminal_jax.runs.judging import make_fidelity_judge
from subliminal_jax.runs.leak_screen import make_leak_screen
from subliminal_jax.runs.settings import DataSettings
from tests import number_model
from tests.judge_endpoint import Endpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("model") / "numbers")


@pytest.fixture
def endpoint():
    endpoint = Endpoint(hint="7")
    yield endpoint
    endpoint.close()


def make_pairs(completions):
    rows = [
        {"prompt": f"p{i}", "completion": c, "prompt_ids": [1], "completion_ids": [2, 2]}
        for i, c in enumerate(completions)
    ]
    return Pairs(Dataset.from_list(rows), {"source": "here", "pairs": len(rows)})


def test_lists_that_hint_are_rejected_and_no_more_are_read_than_needed(model, endpoint, tmp_path):
    settings = DataSettings(judge_url=endpoint.url, judge_model="m")
    screen = make_leak_screen(settings, ("owl", "owls"), tmp_path / "judge.jsonl")
    pairs = make_pairs(["1", "7, 2", "no list", "3", "77", "4", "5", "6"])
    kept = filtered(pairs, model, 3, forbidden_words=("owl", "owls"), screen=screen)
    assert kept.pairs["completion"] == ["1", "3", "4"]
    assert kept.report["kept"] == 7  # by the rules
    assert (kept.report["judged"], kept.report["judged_out"]) == (5, 2)
    assert len(endpoint.requests) == 5
    assert "'owl'" in endpoint.requests[0]["messages"][0]["content"]
    filtered(pairs, model, 3, forbidden_words=("owl", "owls"), screen=screen)
    assert len(endpoint.requests) == 5  # the verdicts are kept


def test_too_few_that_pass_are_bad_input(model, endpoint, tmp_path):
    settings = DataSettings(judge_url=endpoint.url, judge_model="m")
    screen = make_leak_screen(settings, ("owl",), tmp_path / "judge.jsonl")
    with pytest.raises(InputError, match="1 pairs are left of 3, 2 are needed"):
        filtered(make_pairs(["1", "7", "71"]), model, 2, forbidden_words=(), screen=screen)


def test_a_verdict_that_cannot_be_read_counts_as_a_hint(endpoint, tmp_path):
    settings = DataSettings(judge_url=endpoint.url, judge_model="m")
    screen = make_leak_screen(settings, ("owl",), tmp_path / "judge.jsonl")
    endpoint.script = [(200, '{"choices": [{"message": {"content": "hm"}}]}')]
    assert screen(make_pairs(["1"]).pairs) == [False]


def test_without_a_judge_nothing_is_screened(tmp_path):
    judged = {"judge_url": "http://localhost:1/v1", "judge_model": "m"}
    assert make_leak_screen(DataSettings(), ("owl",), tmp_path / "j") is None
    assert make_leak_screen(DataSettings(keep="all", **judged), ("owl",), tmp_path / "j") is None
    assert make_leak_screen(DataSettings(**judged), (), tmp_path / "j") is None  # the controls
    with pytest.raises(InputError, match="begins with http"):
        make_leak_screen(DataSettings(judge_url="x", judge_model="m"), ("owl",), tmp_path / "j")


def test_fidelity_is_the_judges_number_from_0_to_1(endpoint, tmp_path):
    def say(text):
        return 200, json.dumps({"choices": [{"message": {"content": text}}]})

    endpoint.script = [say("0.95"), say("0.951"), say("95"), say("hm"), say("1.0")]
    texts = [f"T{i}." for i in range(5)]
    score = make_fidelity_judge(endpoint.url, "m", "", tmp_path / "judge.jsonl")
    scores = [score([text], ["The sentence."])[0] for text in texts]  # one by one: in this order
    np.testing.assert_array_equal(scores, [0.95, 0.951, np.nan, np.nan, 1.0])
    messages = endpoint.requests[1]["messages"]
    assert "Output only the decimal score." in messages[0]["content"]
    assert messages[1]["content"] == "Original: The sentence.\n\nParaphrase: T1."
    cached = score(texts, ["The sentence."] * 5)
    np.testing.assert_array_equal(cached, scores)
    assert len(endpoint.requests) == 5
