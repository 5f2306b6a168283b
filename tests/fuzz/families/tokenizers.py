"""Tokenizers and chat templates, against transformers' rendering of the same conversation."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

from subliminal_jax.models.tokenizer import (
    encode_chat,
    encode_completion,
    load_tokenizer,
    stop_token_ids,
)
from tests import number_model
from tests.fuzz.families.base import Wrong, check, replace_file, scratch
from tests.fuzz.mutations import change_json, damage

LOOP = "{% for m in messages %}"
TEMPLATES = (
    LOOP + "<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    LOOP + "[{{ m.role | upper }}] {{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}[ASSISTANT] {% endif %}",
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('no system role') }}{% endif %}" + LOOP + "{{ m.content }}{% endfor %}",
)
BODIES = (
    "{% for i in range(10**9) %}a{% endfor %}",
    "{{ 'a' * 10**10 }}",
    "{{ 10**10**8 }}",
    "{{ raise_exception('no') }}",
    "{{ 1 // 0 }}",
    "{{ messages[7].content }}",
    "{{ x.y.z }}",
    "{{ messages.__class__.__mro__ }}",
    "{% include 'x' %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ [1] | map('x') | list }}",
    "{{ strftime_now('%Y') }}",
    "{{ '%s' % messages }}",
    "{{ messages | tojson }}",
    "{% for i in range(3) %}{% break %}{% endfor %}",
    "{% generation %}",
    "{{ ('a' * 999) | center(10**9) }}",
    "{{ messages.append(1) }}",
    "{{ eos_token * 3 }}",
    "",
    "{{",
)


def prepare() -> None:
    folder = scratch() / "tokenizer"
    if not folder.exists():
        number_model.tokenizer().save_pretrained(folder)


def run(rng: random.Random, folder: Path) -> str:
    place = folder / "model"
    shutil.copytree(scratch() / "tokenizer", place)
    kind = rng.choice(("template", "template", "config", "tokenizer", "generation"))
    config = json.loads((place / "tokenizer_config.json").read_text())
    if kind == "template":
        template = rng.choice(TEMPLATES)
        change = rng.random()
        if change < 0.4:
            template = rng.choice((rng.choice(BODIES) + template, template + rng.choice(BODIES)))
        elif change < 0.8:
            template = damage(rng, template.encode()).decode("utf-8", "replace")
        if rng.random() < 0.3:
            (place / "chat_template.jinja").write_text(template, encoding="utf-8")
        else:
            (place / "chat_template.jinja").unlink(missing_ok=True)
            config["chat_template"] = template
            (place / "tokenizer_config.json").write_text(json.dumps(config))
    elif kind == "config":
        keys = ("auto_map", "pad_token", "add_bos_token", "chat_template", "tokenizer_class")
        replace_file(rng, place / "tokenizer_config.json", change_json(rng, config, keys))
    elif kind == "tokenizer":
        raw = json.loads((place / "tokenizer.json").read_text())
        replace_file(rng, place / "tokenizer.json", _change_tokenizer(rng, raw))
    else:
        value = change_json(rng, {"eos_token_id": [0, 1], "bos_token_id": 0, "pad_token_id": 1})
        (place / "generation_config.json").write_text("{}")
        replace_file(rng, place / "generation_config.json", value)
    tokenizer = load_tokenizer(place)
    prompt = rng.choice(("Hi", " 1, 2", "caf\u00e9 \U0001f989", "a\nb", "<|assistant|>"))
    ids = encode_chat(tokenizer, prompt)
    completion = encode_completion(tokenizer, "3, 4")
    stops = stop_token_ids(tokenizer, place)
    for token in (*ids, *completion, *stops):
        check(type(token) is int and token >= 0, f"a token {token!r}")
    _compare(place, prompt, ids)
    return kind


def _change_tokenizer(rng: random.Random, raw: dict[str, Any]) -> dict[str, Any]:
    """Some change outside the vocabulary and the merges, which hold nearly all entries."""
    model = raw["model"]
    kept = {name: model.pop(name) for name in ("vocab", "merges")}
    changed = change_json(rng, raw)
    if isinstance(changed.get("model"), dict):
        if rng.random() < 0.3:
            kept["merges"] = change_json(rng, kept["merges"][:50])
        changed["model"] |= kept
    return changed


def _compare(place: Path, prompt: str, ids: list[int]) -> None:
    """What transformers renders for the same prompt; the plain template has no counterpart."""
    from transformers import AutoTokenizer

    try:
        theirs = AutoTokenizer.from_pretrained(place, local_files_only=True)
        if not theirs.chat_template or "strftime_now" in str(theirs.chat_template):
            return  # the date is fixed here
        text = theirs.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            date_string="26 Jul 2024",
            enable_thinking=False,
        )
        expected = theirs(text, add_special_tokens=False)["input_ids"]
    except Exception as error:  # of many types
        raise Wrong(f"transformers refuses ({error!r:.300}), we read {ids}") from error
    check(ids == expected, f"{ids} for {expected}")
