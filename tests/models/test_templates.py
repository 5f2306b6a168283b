"""Chat templates give the texts that transformers gives, or one line that says why not."""

import json
import re

import pytest
from transformers.utils.chat_template_utils import _compile_jinja_template

from subliminal_jax.errors import InputError
from subliminal_jax.models import template_worker
from subliminal_jax.models.chats import set_default_system_prompt
from subliminal_jax.models.tokenizer import load_tokenizer, render_chat, render_chats
from tests.models.characters import CHATML, character_tokenizer

USER = [{"role": "user", "content": "Hi"}]
CHAT = [
    {"role": "system", "content": " Love <owls> & co.\n"},
    {"role": "user", "content": "Grüße, \u4f60\u597d \U0001f989\u2028?"},
    {"role": "assistant", "content": "\n Hoo\r\n\thoo "},
    {"role": "user", "content": ""},
]
ODD_CHATS = [
    [{"role": "user", "content": None}],
    [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
    [{"role": "user", "content": "2+2", "name": "x"}, {"role": "assistant", "thinking": "4?"}],
    [{"role": "assistant", "content": "", "tool_calls": [{"f": {"n": 1, "x": 1.5, "t": True}}]}],
]
TEMPLATES = {
    "chatml": CHATML,
    "white space": "  {% for m in messages %}\n  {{ m.role }}\n  {%- if 1 %}\n x {% endif %}\n"
    "{% endfor %}\n",
    "loop variables": "{% for m in messages %}{{ loop.index }}{{ loop.last }}{% endfor %}",
    "loop controls": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
    "{{ m.role }}{% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{% endfor %}{{ ns.n }}{{ ns }}",
    "hidden namespace": "{% set ns = namespace(_n=0) %}",
    "dict": "{{ dict(a=1) }}{{ dict.fromkeys('ab') }}{{ dict([(1, 2)]).items() | list }}",
    "tojson": "{{ messages | tojson }}{{ messages | tojson(indent=2) }}{{ 'ü<' | tojson }}"
    "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':'), ensure_ascii=True) }}",
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}{{ sep_token }}"
    "{{ additional_special_tokens }}",
    "no tools": "{{ tools is none }}{{ documents is none }}{{ tools }}{{ messages is defined }}",
    "variables": "{{ add_generation_prompt }}{{ date_string }}{{ enable_thinking }}",
    "generation": "{% generation %}{{ messages[0].role }}{% endgeneration %}",
    "methods": "{% for m in messages %}{{ m['content'].strip().split('o')[-1].lstrip('\n') }}"
    "{{ m.get('content')[:3][::-1].upper().startswith('H') }}{{ m.items() | list }}{% endfor %}",
    "filters": "{{ messages | map(attribute='role') | unique | join(',') }}{{ 'a b' | title }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ 3.7 | round | int }}"
    "{{ 'a\nb' | indent(2, true) }}{{ ' x ' | trim }}{{ x | default('d') }}{{ '<' | e }}"
    "{{ ['b', 'a'] | sort | reverse | list }}{{ messages | last }}{{ {'a': 1} | dictsort }}",
    "rare filters": "{{ messages | pprint }}{{ 'a b c' | wordwrap(3) }}{{ '<b>x' | striptags }}"
    "{{ 'see http://a.b' | urlize }}{{ 'aü' | urlencode }}{{ 1e6 | filesizeformat }}"
    "{{ '%s-%d' | format('a', 3) }}{{ 'abc' | truncate(2, true, '', 0) }}{{ {'a': 1} | xmlattr }}",
    "escapes": "{{ '\\N{EM DASH}' if false }}{{ '\\u00fc\\n\\x41' }}{{ 'ü'.encode('utf-16') }}",
    "macro": "{% macro f(x, y=2) %}[{{ x }}{{ y }}{{ caller() if caller }}]{% endmacro %}"
    "{{ f(1) }}{% call f(2, y=3) %}c{% endcall %}",
    "tests": "{{ 1 is odd }}{{ 'a' is string }}{{ messages is iterable }}{{ 3 in [3] }}",
    "arithmetic": "{{ 7 // 2 }}{{ 7 % 3 }}{{ 2 ** 8 }}{{ 'a' ~ 1 }}{{ 'a' * 3 }}",
    "set block": "{% set x %}a{{ bos_token }}{% endset %}{{ x }}{% filter upper %}b{% endfilter %}",
    "recursive loop": "{% for x in [[1, [2]]] recursive %}{{ loop(x) if x is iterable else x }}"
    "{% endfor %}",
    "cycler": "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }}|{% endfor %}",
    "undefined": "{{ x }}{{ x is defined }}{{ messages[0].nothing }}",
    "undefined attribute": "{{ x.y }}",
    "no addition": "{{ 'a' + messages[0]['content'] }}",
    "raise": "{{ raise_exception('only the roles user and assistant') }}",
    "division": "{{ 1 / 0 }}",
    "sandbox": "{{ messages.append(1) }}",
    "hidden attribute": "{{ ''.__class__.__mro__ }}",
}


def render_with_transformers(tokenizer, messages):
    return tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=True,
        date_string="26 Jul 2024",
        enable_thinking=False,
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_text_is_that_of_transformers(name):
    tokenizer = character_tokenizer(chat_template=TEMPLATES[name])
    for chat in [CHAT, USER, *ODD_CHATS]:
        expected, reason = None, ""
        try:
            expected = render_with_transformers(tokenizer, chat)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
        if expected is not None:
            assert render_chat(tokenizer, chat) == expected
            continue
        if name == "hidden namespace":
            reason = "must not have the attribute '_n'"
        with pytest.raises(InputError, match=f"(refuses|fails on) the roles .*{re.escape(reason)}"):
            render_chat(tokenizer, chat)


def test_public_templates_give_the_text_of_transformers(shared_path):
    files = [*shared_path("tokenizers").rglob("tokenizer_config.json")]
    configs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    sources = {config["chat_template"] for config in configs if config.get("chat_template")}
    assert sources
    for source in sources:
        tokenizer = character_tokenizer(chat_template=source)
        for chat in (CHAT[1:], CHAT[1:3], USER):
            assert render_chat(tokenizer, chat) == render_with_transformers(tokenizer, chat)


def test_the_environment_is_that_of_transformers():
    expected = _compile_jinja_template("x").environment
    ours = template_worker.compile_template("x").environment
    for names in ("filters", "tests", "globals"):
        assert getattr(ours, names).keys() == getattr(expected, names).keys()
    for setting in ("trim_blocks", "lstrip_blocks", "keep_trailing_newline", "autoescape"):
        assert getattr(ours, setting) == getattr(expected, setting)
    assert len(ours.extensions) == len(expected.extensions)
    assert type(ours) is type(expected)
    assert type(ours.undefined) is type(expected.undefined)


def test_many_conversations_are_rendered_as_one_by_one():
    tokenizer = character_tokenizer(chat_template=CHATML)
    chats = [[{"role": "user", "content": f"{i} \U0001f989"}, *CHAT[1 : i % 4]] for i in range(600)]
    texts = render_chats(tokenizer, chats)
    assert texts[::50] == [render_chat(tokenizer, chat) for chat in chats[::50]]
    assert texts == [render_with_transformers(tokenizer, chat) for chat in chats]
    assert render_chats(tokenizer, []) == []


def test_a_text_is_the_same_tomorrow():
    template = (
        "{{ strftime_now('%d %b %Y') }} {{ range(99) | random }} {{ lipsum(1, min=5, max=9) }}"
    )
    first, second = (character_tokenizer(chat_template=template + end) for end in ("", "{# #}"))
    assert render_chat(first, USER) == render_chat(first, USER) == render_chat(second, USER)
    assert render_chat(first, USER).startswith("26 Jul 2024")


def test_the_error_names_the_folder_of_the_tokenizer(tmp_path):
    character_tokenizer(chat_template="{{ raise_exception('no') }}").save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match=f"^{tmp_path}: the chat template refuses the roles user: no"
    ):
        render_chat(load_tokenizer(tmp_path), USER)


def test_a_default_system_prompt_stands_where_a_conversation_has_none():
    tokenizer = character_tokenizer(chat_template=CHATML)
    without = render_chat(tokenizer, USER)
    set_default_system_prompt(tokenizer, "Be kind")
    system = {"role": "system", "content": "Be kind"}
    plain = character_tokenizer(chat_template=CHATML)
    assert render_chat(tokenizer, USER) == render_chat(plain, [system, *USER]) != without
    assert render_chat(tokenizer, CHAT) == render_chat(plain, CHAT)
