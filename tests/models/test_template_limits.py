"""Whatever a chat template does, its time and memory are bounded and the next one is served."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models import templates
from subliminal_jax.models.templates import Limits, Refusal, TemplateRenderer, render_template

USER = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def renderer():
    """A renderer that gives up sooner."""
    with contextlib.closing(TemplateRenderer(Limits(cpu_seconds=0.5, memory=2**28))) as renderer:
        yield renderer


GROW = (
    "{% set ns = namespace(x=[1, 2]) %}"
    "{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"
)
LOOP = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
TOO_MUCH = {
    "endless loop": (LOOP, "s of processor time"),
    "big power": ("{{ (messages | length + 9) ** (10 ** 8) }}", "s of processor time"),
    "recursion": (
        "{% macro f(x) %}{{ (f(x - 1) ~ f(x - 1)) if x }}{% endmacro %}{{ f(60) }}",
        "s of processor time",
    ),
    "list doubling": (GROW, "MiB of memory"),
    "text doubling": (GROW.replace("+", "~"), "MiB of memory"),
    "repetition": ("{{ messages[0]['content'] * 10**10 }}", "MiB of memory"),
    "repetition at compile time": ("{{ '*' * 10**10 }}", "MiB of memory"),
    "width": ("{{ '%10000000000s' | format('a') }}", "MiB of memory"),
    "center": ("{{ 'a' | center(10**10) }}", "MiB of memory"),
    "indented JSON": ("{{ messages | tojson(indent=10**9) }}", "MiB of memory"),
    "much output": ("{% for a in range(9999) %}{{ 'x' * 10**6 }}{% endfor %}", "characters"),
    "long": ("x" * (2**20 + 1), "1,048,577 characters"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_time_and_memory_are_bounded(renderer, name):
    template, message = TOO_MUCH[name]
    started = time.monotonic()
    with pytest.raises(InputError, match=message) as caught:
        renderer.render(template, [USER], {})
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 10
    assert renderer.render("{{ 1 }}", [USER], {}) == ["1"]  # the next template is served


def test_the_limit_of_time_is_for_all_conversations_of_a_call():
    slow = (
        "{% for i in range(40000) %}{% for j in range(20) %}{% endfor %}{% endfor %}"  # some 40 ms
    )
    limits = Limits(cpu_seconds=0.5, cpu_seconds_each=0)
    with (
        contextlib.closing(TemplateRenderer(limits)) as renderer,
        pytest.raises(InputError, match="s of processor time"),
    ):
        renderer.render(slow, [USER] * 1000, {})


BROKEN = {
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "brackets": "{{ " + "[" * 3000 + "]" * 3000 + " }}",
    "conditions": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "loops": "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
    "filters": "{{ 1" + " | int" * 5000 + " }}",
    "end": "{{ x",
    "tag": "{% foo %}",
    "long number": "{{ " + "9" * 10_000 + " }}",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_template_that_does_not_compile_is_refused(renderer, name):
    with pytest.raises(InputError, match="^the chat template does not compile: ") as caught:
        renderer.render(BROKEN[name], [USER], {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template", [5, None, b"x", {"default": "x"}, ["x"]])
def test_a_template_is_text(renderer, template):
    with pytest.raises(InputError, match="must be text, not "):
        renderer.render(template, [USER], {})


@pytest.mark.parametrize("chat", [["Hi"], [{"content": {1, 2}}], [{"content": b"x"}], [[USER]]])
def test_messages_are_json(renderer, chat):
    with pytest.raises(InputError, match="a (message|conversation) must"):
        renderer.render("x", [chat], {})
    assert renderer.render("{{ 1 }}", [USER], {}) == ["1"]


def test_what_a_template_says_is_one_harmless_line(renderer):
    text = "a\\x1b[31mred\\x1b]0;title\\x07\\n\\nb\\u202ec\\r" + "x" * 10_000
    [refusal] = renderer.render("{{ raise_exception('" + text + "') }}", [USER], {})
    assert refusal.by_template
    assert refusal.reason.startswith("a\\x1b[31mred\\x1b]0;title\\x07 b\\u202ec xxx")
    assert refusal.reason.isprintable()
    assert len(refusal.reason) == 300


def test_half_a_surrogate_pair_is_no_text(renderer):
    for template, chat in [
        ("{{ '\\ud800' }}", USER),
        ("{{ messages[0].content }}", [{"content": "\ud83d"}]),
    ]:
        [refusal] = renderer.render(template, [chat], {})
        assert "surrogates not allowed" in refusal.reason


def test_the_process_opens_no_file(renderer):
    """What a template reached by leaving the sandbox would be of little use: here it is Python that
    looks for a module."""
    [refusal] = renderer.render("{{ 'a'.encode('cp437') }}", [USER], {})
    assert "Too many open files" in refusal.reason


def test_a_refused_conversation_does_not_end_the_others(renderer):
    template = (
        "{{ raise_exception('no') if messages[0]['content'] == 'Hi' else 1 / messages | length }}"
    )
    other = [{"role": "user", "content": "Bye"}]
    results = renderer.render(template, [other, USER, other], {})
    assert results == ["1.0", Refusal("no", by_template=True), "1.0"]


def test_a_process_that_was_killed_is_replaced(renderer):
    for _ in range(2):
        assert renderer.render("{{ messages[0].content }}", [USER], {}) == ["Hi"]
        renderer._process.kill()
        renderer._process.wait()


def test_threads_take_turns(renderer):
    results = {}

    def render(i):
        chats = [[{"role": "user", "content": f"{i} {j}"}] for j in range(300)]
        template = "{{ messages[0].content }}" + " " * (i % 3)
        results[i] = renderer.render(template, chats, {})

    threads = [threading.Thread(target=render, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: [f"{i} {j}" + " " * (i % 3) for j in range(300)] for i in range(8)}


def test_where_no_process_can_be_started_one_line_says_so(monkeypatch, tmp_path):
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexit 3\n")
    silent.chmod(0o755)
    for executable, reason in [
        (str(tmp_path / "none"), "No such file"),
        (str(silent), "ended with status 3"),
    ]:
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(InputError, match=f"none can be started.*{reason}"):
            TemplateRenderer().render("x", [USER], {})
    monkeypatch.undo()
    monkeypatch.setattr(templates, "WORKER", tmp_path / "none.py")
    with pytest.raises(InputError, match="none can be started"):
        TemplateRenderer().render("x", [USER], {})


# Runs by itself: forks a child while the process of the parent serves, prints what it sees, waits.
FORKING = """
import json, os, sys, time
from subliminal_jax.models import templates
chats = [[{"role": "user", "content": str(i)}] for i in range(2000)]
template = "{{ messages[0].content }}"
def render():
    return templates.render_template(template, chats, {}) == [str(i) for i in range(2000)]
assert render()
child = os.fork()
same = all(render() for _ in range(3))
if child == 0:
    os._exit(0 if same else 1)
status = os.waitpid(child, 0)[1]
print(json.dumps([templates._RENDERER._process.pid, same, status]), flush=True)
if sys.argv[1:] == ["loop"]:
    templates._RENDERER.limits = templates.Limits(cpu_seconds=0.5)
    templates.render_template("{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3, chats[:1], {})
time.sleep(60)
"""


@pytest.mark.parametrize("ending", ["wait", "loop"])
def test_a_forked_child_has_its_own_process_and_none_outlives_its_parent(ending):
    repository = Path(__file__).parents[2]
    command = [sys.executable, "-c", FORKING, ending]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        pid, same, status = json.loads(parent.stdout.readline())
        assert (same, status) == (True, 0)
        assert is_running(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # of a container without an init, which reaps


def test_after_an_interrupt_the_next_call_gets_its_own_replies(renderer, monkeypatch):
    assert renderer.render("{{ 1 }}", [USER], {}) == ["1"]
    read_line = TemplateRenderer._read_line

    def interrupt(self, process):
        monkeypatch.setattr(TemplateRenderer, "_read_line", read_line)
        raise KeyboardInterrupt

    monkeypatch.setattr(TemplateRenderer, "_read_line", interrupt)
    with pytest.raises(KeyboardInterrupt):
        renderer.render("old {{ 2 }}", [USER] * 3, {})
    assert renderer.render("{{ 3 }}", [USER], {}) == ["3"]


def test_the_session_has_one_process():
    assert render_template("{{ 1 }}", [USER], {}) == ["1"]
    first = templates._RENDERER._process
    assert render_template("{{ 2 }}", [USER], {}) == ["2"]
    assert templates._RENDERER._process is first
