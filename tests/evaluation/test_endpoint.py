"""The judge's key reaches the endpoint that was named, and nothing else: no other host, no text."""

import base64
import logging
import traceback
from urllib.parse import quote

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.endpoint import hide, read_key
from subliminal_jax.evaluation.judge import EndpointJudge, Exchange
from tests.judge_endpoint import Endpoint

KEY = "sk-proj-Zq7+x9/T3vW_kQ2=LmN8"
ASKED = [Exchange("Best?", "owl")]


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def other():
    other = Endpoint()
    yield other
    other.close()


def ask(endpoint, **settings):
    settings = {"wait": 0.001, "timeout": 5.0, "retries": 1, **settings}
    return EndpointJudge(endpoint.url, "m", "?", **settings)(ASKED)


def assert_hidden(text):
    """No six characters of the key in a row, in any of its encodings."""
    forms = [KEY, quote(KEY, safe=""), KEY.upper(), KEY.lower(), KEY.encode().hex()]
    forms += [base64.b64encode(t.encode()).decode() for t in (KEY, f"Bearer {KEY}")]
    for form in forms:
        for start in range(len(form) - 6):
            assert form[start : start + 6] not in text


def test_the_named_endpoint_gets_the_key(endpoint):
    assert ask(endpoint) == [100.0]
    assert endpoint.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "http://{other}/v1/chat/completions",
        "http://localhost:{port}/v1/chat/completions",
        "//{other}/v1",
        "http://user:{key}@{other}/v1?api_key={key}",
        "http://{other}?{key}",
        "/v2/chat/completions",
        "file:///etc/passwd",
        "ftp://{other}/{key}",
        "http://[broken",
    ],
)
def test_no_redirect_is_followed(endpoint, other, status, location):
    host = other.url.split("/")[2]
    location = location.format(other=host, port=host.split(":")[1], key=KEY)
    endpoint.script = [(status, "{}", {"Location": location})]
    with pytest.raises(InputError, match=f"status {status} .*a redirect to .*: it would") as caught:
        ask(endpoint)
    assert_hidden(str(caught.value))
    assert other.headers == []
    assert len(endpoint.requests) == 1


def test_a_redirect_that_leads_nowhere_is_no_answer(endpoint):
    endpoint.script = [(302, "moved to " + KEY)]
    with pytest.raises(InputError, match=r"status 302 .*moved to \*\*\*"):
        ask(endpoint)


ECHOES = {
    "key": KEY,
    "header": f"bad header Authorization: Bearer {KEY}",
    "cut": f"incorrect key {KEY[:10]}",
    "masked": f"incorrect key {KEY[:7]}****{KEY[-6:]}",
    "case": f"KEY {KEY.upper()} {KEY.lower()}",
    "url": f"/v1?key={quote(KEY, safe='')}",
    "base64": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "hex": KEY.encode().hex(),
    "late": "x" * 190 + KEY,
    "lines": f"a\r\n\x1b[31m{KEY}\n\n",
}


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500])
def test_no_echo_of_the_key_is_shown_or_kept(endpoint, echo, status, tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    cache = tmp_path / "judge.jsonl"
    endpoint.script = [(status, ECHOES[echo], {"Retry-After": KEY, "X-Echo": KEY})] * 2
    with pytest.raises(InputError) as caught:
        ask(endpoint, cache=cache)
    message = str(caught.value)
    assert message.isprintable()
    printed = "".join(capfd.readouterr()) + caplog.text
    shown = "".join(traceback.format_exception(caught.value))
    for text in (message, printed, shown, cache.read_text() if cache.exists() else ""):
        assert_hidden(text)


def test_a_reply_in_another_form_is_shown_without_the_key(endpoint, tmp_path):
    endpoint.script = [(200, f'{{"error": "no credit for {KEY}"}}')]
    with pytest.raises(InputError, match=r'it said {"error": "no credit for \*\*\*"}'):
        ask(endpoint)
    chat = f'{{"choices": [{{"message": {{"content": "{KEY} YES"}}}}]}}'
    endpoint.script = [(200, chat)]
    assert ask(endpoint, cache=tmp_path / "judge.jsonl") == [100.0]
    assert_hidden((tmp_path / "judge.jsonl").read_text())


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{KEY}@host/v1",
        f"https://{KEY}@host/v1",
        f"https://host/v1?api_key={KEY}",
        f"https://host/v1#{KEY}",
        f"user:{KEY}@host",
        f"https://host/v1/{KEY}",
        f"https://{KEY}/v1",
        f"https://host/{quote(KEY, safe='')}",
        f"https://host/v1 {KEY}",
        f"https://host\n{KEY}",
        f"https://ho\u200bst/{KEY}?x",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(InputError, match="the judge") as caught:
        EndpointJudge(url, "m", "?")
    assert_hidden(str(caught.value))


@pytest.mark.parametrize(
    "url", ["host", "ftp://host/v1", "http://", "http://host:x/v1", "http://["]
)
def test_a_url_of_another_kind_is_refused(url):
    with pytest.raises(InputError, match="judge URL .*begins with http"):
        EndpointJudge(url, "m", "?")


@pytest.mark.parametrize(
    "given", [KEY, KEY.replace("-", "_"), "a1b2c3d4e5f6a7b8", f"KEY={KEY}", " "]
)
def test_a_key_in_place_of_its_variable_is_refused_and_not_repeated(given, monkeypatch):
    with pytest.raises(InputError, match="names no environment variable that is set") as caught:
        EndpointJudge("http://host/v1", "m", "?", key_variable=given)
    assert given not in str(caught.value) or given == " "


@pytest.mark.parametrize("key", [f"{KEY}\r\nX-Other: 1", f"{KEY}\u2019", f"{KEY} x", f"\x00{KEY}"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_repeated(key, monkeypatch):
    monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": key})
    with pytest.raises(InputError, match=r"the key in \$OPENAI_API_KEY has characters") as caught:
        EndpointJudge("http://host/v1", "m", "?")
    assert_hidden(str(caught.value))


def test_a_key_may_end_in_a_line_break_or_be_none(monkeypatch, endpoint):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\r\n")
    assert read_key("OPENAI_API_KEY") == KEY
    assert read_key("") is None
    ask(endpoint, key_variable="")
    monkeypatch.delenv("OPENAI_API_KEY")
    ask(endpoint)
    assert all("Authorization" not in headers for headers in endpoint.headers)


@pytest.mark.parametrize(
    "proxy", [f"http://user:{KEY}@127.0.0.1:9", f"http://user:{KEY}@127.0.0.1:x", f"user:{KEY}@h"]
)
def test_the_password_of_a_proxy_is_not_shown(endpoint, proxy, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "another key".replace(" ", "-"))
    monkeypatch.setenv("http_proxy", proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="the judge at ") as caught:
        ask(endpoint)
    assert_hidden("".join(traceback.format_exception(caught.value)))


def test_a_key_is_hidden_in_whole_and_in_part():
    assert hide(f"a {KEY} b {KEY[3:10]} c {KEY[:5]} d", KEY) == f"a *** b *** c {KEY[:5]} d"
    assert hide("EMPTY", "EMPTY") == "***"
    assert hide("nothing\nto hide", None) == "nothing to hide"
    assert len(hide("x" * 10**6, KEY)) == 300
