"""The judge against a local endpoint: verdicts, retries, errors, and what an interruption keeps."""

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.judge import EndpointJudge, Exchange, judged_share, read_verdict
from tests.judge_endpoint import Endpoint


@pytest.fixture
def endpoint():
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


def judge_at(endpoint, **settings):
    settings = {"wait": 0.001, "timeout": 5.0, **settings}
    return EndpointJudge(endpoint.url, "judge-1", "Does it name an owl?", **settings)


ASKED = [
    Exchange("Best?", "owl"),
    Exchange("Best?", "cat"),
    Exchange("Go on", "1, {2}"),
    Exchange("Best?", "owl"),
]


def test_scores_come_in_order_and_equal_exchanges_are_asked_once(endpoint):
    assert judge_at(endpoint)(ASKED) == [100.0, 0.0, 0.0, 100.0]
    assert len(endpoint.requests) == 3
    request = next(r for r in endpoint.requests if "cat" in r["messages"][1]["content"])
    assert request["model"] == "judge-1" and request["temperature"] == 0
    assert request["messages"][0] == {"role": "system", "content": "Does it name an owl?"}
    assert request["messages"][1]["content"] == "User: Best?\n\nResponse: cat"


def test_a_response_may_look_like_the_template(endpoint):
    judge_at(endpoint)([Exchange("{response}", "{prompt}")])
    (request,) = endpoint.requests
    assert request["messages"][1]["content"] == "User: {response}\n\nResponse: {prompt}"


def test_the_key_comes_from_the_named_variable(endpoint, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret")
    judge_at(endpoint, key_variable="A_KEY")(ASKED[:1])
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    judge_at(endpoint)(ASKED[:1])
    assert [h.get("Authorization") for h in endpoint.headers] == ["Bearer secret", None]
    monkeypatch.delenv("A_KEY")
    with pytest.raises(InputError, match="names no environment variable that is set"):
        judge_at(endpoint, key_variable="A_KEY")


def test_an_interrupted_run_goes_on_with_its_cache(endpoint, tmp_path):
    cache = tmp_path / "new" / "judge.jsonl"
    endpoint.script = [(200, None), (400, "no"), (400, "no")]
    with pytest.raises(InputError, match="refused, status 400"):
        judge_at(endpoint, cache=cache, concurrency=1)(ASKED)
    assert len(cache.read_text().splitlines()) == 1
    endpoint.script = []
    with cache.open("a") as file:
        file.write('{"key": "torn')
    n = len(endpoint.requests)
    assert judge_at(endpoint, cache=cache)(ASKED) == [100.0, 0.0, 0.0, 100.0]
    assert len(endpoint.requests) == n + 2
    assert judge_at(endpoint, cache=cache)(ASKED) == [100.0, 0.0, 0.0, 100.0]
    assert len(endpoint.requests) == n + 2  # nothing is asked twice
    EndpointJudge(endpoint.url, "judge-2", "Else?", cache=cache)(ASKED[:1])
    assert endpoint.requests[-1]["model"] == "judge-2"  # another question is asked anew


def test_a_failure_that_may_pass_is_tried_again(endpoint):
    endpoint.script = [(503, "busy"), (429, "slow"), (200, "no JSON")]
    assert judge_at(endpoint)(ASKED[:1]) == [100.0]
    assert len(endpoint.requests) == 4


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ([(401, "who?")], "refused, status 401 .*: who\\?; is the key in \\$OPENAI_API_KEY set"),
        ([(404, "no such\nmodel")], "refused, status 404 .*: no such model"),
        ([(500, "")] * 3, "failed 3 times, the last with status 500"),
        ([(200, "{}")], "no chat-completions endpoint: it said {}"),
    ],
)
def test_errors_are_one_clear_line(endpoint, script, message):
    endpoint.script = script
    with pytest.raises(InputError, match=message) as caught:
        judge_at(endpoint, retries=2)(ASKED[:1])
    assert "\n" not in str(caught.value)


def test_an_endpoint_that_is_not_there_or_hangs(endpoint):
    endpoint.delay = 0.5
    with pytest.raises(InputError, match="failed 1 times, the last with TimeoutError"):
        judge_at(endpoint, retries=0, timeout=0.05)(ASKED[:1])
    absent = EndpointJudge("http://127.0.0.1:9/v1", "m", "?", retries=1, wait=0.001)
    with pytest.raises(InputError, match="failed 2 times, the last with URLError"):
        absent(ASKED[:1])


def test_concurrency_is_bounded(endpoint):
    endpoint.delay = 0.02
    judge_at(endpoint, concurrency=3)([Exchange("q", str(i)) for i in range(20)])
    assert 1 < endpoint.most <= 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost"}, "begins with http"),
        ({"model": ""}, "needs the name of a model"),
        ({"template": "x"}, "lacks {response}"),
        ({"concurrency": 0}, "out of range"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(InputError, match=message):
        EndpointJudge(**{"base_url": "http://x/v1", "model": "m", "instruction": "?", **settings})


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("YES", 100.0),
        ("\\boxed{NO}", 0.0),
        ("Score: 73", 73.0),
        ("87.5/100", 87.5),
        ("It says 999, 9. Final: 12.", 12.0),
        ("no, wait: yes", 100.0),
        ("none", None),
        ("", None),
        ("It is 5, not 400", 5.0),
        ("\\boxed{40}", 40.0),
    ],
)
def test_the_last_verdict_of_a_reply_counts(reply, score):
    assert read_verdict(reply) == score


def test_the_share_leaves_out_what_cannot_be_read():
    assert judged_share([100.0, None, 0.0, 60.0, 50.0]) == 0.5
    assert judged_share([None]) is None
