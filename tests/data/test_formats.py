"""Rows of public formats are read rightly, dropped with a reason that is counted, or refused."""

import json
import logging
import re
from pathlib import Path

import pytest

from subliminal_jax.audit.rows import read_data
from subliminal_jax.data.conversations import CountedRows
from subliminal_jax.data.pairs import count_pairs, read_pairs
from subliminal_jax.data.preferences import count_preferences, read_preferences
from subliminal_jax.errors import InputError

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "data.md"


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def user(text="2+2?"):
    return say("user", text)


def answer(text):
    return say("assistant", text)


def both(chosen, rejected, **more):
    return {"chosen": chosen, "rejected": rejected, **more}


PARTS = [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]
RM_STATIC = "\n\nHuman: 2+2?\n\nAssistant:"  # Dahoas/rm-static
SHAREGPT = [{"from": "human", "value": "2+2?"}]
PREFERENCES = {
    "standard": both("4", "5", prompt="2+2?"),
    "conversational": both([answer("4")], [answer("5")], prompt=[user()]),
    "conversational, implicit prompt": both([user(), answer("4")], [user(), answer("5")]),
    "the prompt in both": both([user(), answer("4")], [user(), answer("5")], prompt=[user()]),
    "a text beside messages": both([answer("4")], [answer("5")], prompt="2+2?"),
    "messages beside texts": both("4", "5", prompt=[user()]),
    "one message each": both(answer("4"), answer("5"), prompt=user()),
    "content in parts": both([answer("4")], [answer("5")], prompt=[say("user", PARTS)]),
    "empty extras": both("4", "5", prompt="2+2?", tools=[], images=None, system="", history=[]),
    "keys without value": both(
        [say("assistant", "4", tool_calls=None)], [answer("5")], prompt="2+2?"
    ),
    "orca": both("4", "5", question="2+2?", system=""),
    "alpaca": both("4", "5", instruction="2+2?", input=""),
    "llama-factory": both(
        {"from": "gpt", "value": "4"}, {"from": "gpt", "value": "5"}, conversations=SHAREGPT
    ),
    "standard, implicit prompt": both("2+2? 4", "2+2? 5"),
    "hh-rlhf": both(f"{RM_STATIC} 4", f"{RM_STATIC} 5"),
    "rm-static": both(" 4", " 5", prompt=RM_STATIC),
    "ultrafeedback": both(
        [user(), answer("4")],
        [user(), answer("5")],
        prompt="2+2?",
        messages=[user(), answer("4")],
        score_chosen=8.0,
        score_rejected=7.0,
    ),
}
DROPPED_PREFERENCES = {
    "a system turn": [
        both("4", "5", question="2+2?", system="Be brief."),
        both("4", "5", prompt=[say("system", ""), user()]),
        both([user(), answer("4")], [user(), answer("5")], system="Be brief."),
        both(f"{RM_STATIC} 4", f"{RM_STATIC} 5", system_prompt="Be brief."),
    ],
    "several user turns": [
        both("4", "5", prompt=[user(), answer("Hm."), user()]),
        both("4", "5", prompt="2+2?", history=[["Hi", "Hello"]]),
        both(f"{RM_STATIC} Hm.{RM_STATIC} 4", f"{RM_STATIC} Hm.{RM_STATIC} 5"),
    ],
    "tools": [both("4", "5", prompt="2+2?", tools=[{"name": "add"}])],
    "tool calls": [both([say("assistant", None, tool_calls=[{}])], [answer("5")], prompt="2+2?")],
    "thoughts beside the answer": [
        both([say("assistant", "4", reasoning_content="Hm.")], [answer("5")], prompt="2+2?")
    ],
    "images, sound or video": [
        both("4", "5", prompt="2+2?", images=["a.png"]),
        both("4", "5", prompt=[say("user", [{"type": "image"}])]),
    ],
    "a turn of tool": [both("4", "5", prompt=[user(), say("tool", "4")])],
    "two prompts": [both([user("1+3?"), answer("4")], [user(), answer("5")])],
    "equal answers": [both("4", "4", prompt="2+2?")],
    "an empty prompt or answer": [both("4", "", prompt="2+2?"), both("4", "5", prompt="")],
    "turns other than a question and its answer": [
        both([user()], [user()]),
        both([user(), answer("4"), answer("4")], [user(), answer("5")]),
    ],
    "text before the first turn": [both(f"Rules.{RM_STATIC} 4", f"Rules.{RM_STATIC} 5")],
}
REFUSED_PREFERENCES = [
    (both("4", "5"), "no prompt"),
    (both("two", "twelve"), "no prompt"),  # only whole words are a common beginning
    (both([answer("4")], [answer("5")]), "no prompt"),
    (both("4", None, prompt="2+2?"), "rejected must be text or messages, got None"),
    (both("4", "5", prompt=7), "prompt must be a non-empty text, got 7"),
    (both("4", "5", prompt="2+2?", question="1+1?"), "prompt and question differ"),
    (both("4", "5", prompt="2+2?", system=7), "system must be a text"),
    (
        both([user(), answer("4")], [user(), answer("5")], prompt=[user("1?")]),
        "does not begin with",
    ),
    (both([say("assistant", None)], [answer("5")], prompt="2+2?"), "a message needs a role"),
    (both([say("assistant", 4)], [answer("5")], prompt="2+2?"), "a message needs a role"),
    (both("4", "5", prompt=[say("user", [{"type": "text"}])]), "a part of a message is no text"),
    ({"prompt": "2+2?", "response_0": "4", "response_1": "5"}, "no field chosen and rejected"),
]
PAIRS = {
    "standard": {"prompt": "2+2?", "completion": "4"},
    "conversational": {"prompt": [user()], "completion": [answer("4")]},
    "messages": {"messages": [user(), answer("4")]},
    "sharegpt": {"conversations": [*SHAREGPT, {"from": "gpt", "value": "4"}]},
    "alpaca": {"instruction": "2+2?", "input": "", "output": "4"},
    "a transcript": {"text": f"{RM_STATIC} 4"},
    "gsm8k": {"question": "2+2?", "answer": "4"},
    "dolly": {"prompt": "2+2?", "response": "4", "category": "sums"},
    "kto, a good one": {"prompt": "2+2?", "completion": "4", "label": True},
}
DROPPED_PAIRS = {
    "a label that says it is wrong": [
        {"prompt": "2+2?", "completion": "5", "label": False},
        {"messages": [user(), answer("5")], "kto_tag": False},
    ],
    "a system turn": [{"messages": [say("system", "Be brief."), user(), answer("4")]}],
    "several user turns": [{"messages": [user(), answer("4"), user(), answer("4")]}],
}
REFUSED_PAIRS = [
    ({"text": " "}, "text must be a non-empty text"),
    ({"text": 7}, "no field 'prompt'"),
    ({"prompt": "2+2?", "completions": ["4"], "labels": [True]}, "no field 'completion'"),
    ({"prompt": "2+2?", "completion": "4", "response": "5"}, "completion and response differ"),
    ({"prompt": "2+2?", "completion": None}, "no field 'completion'"),
    ({"messages": [user(), answer("")]}, "completion must be a non-empty text"),
]


def write(folder, *rows):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("row", PREFERENCES.values(), ids=list(PREFERENCES))
def test_preferences(tmp_path, row):
    counted = count_preferences(write(tmp_path, row))
    assert counted.rows.to_list() == [both("4", "5", prompt="2+2?", row=1)]
    assert counted.dropped == {}


@pytest.mark.parametrize("row", PAIRS.values(), ids=list(PAIRS))
def test_pairs(tmp_path, row):
    counted = count_pairs(write(tmp_path, row))
    assert counted == CountedRows(counted.rows, {}, [1], counted.formats)
    assert counted.rows.to_list() == [{"prompt": "2+2?", "completion": "4"}]


@pytest.mark.parametrize(
    ("count", "read", "good", "bad"),
    [
        (count_preferences, read_preferences, PREFERENCES["standard"], DROPPED_PREFERENCES),
        (count_pairs, read_pairs, PAIRS["standard"], DROPPED_PAIRS),
    ],
)
def test_dropped_rows_are_counted_by_reason(tmp_path, caplog, count, read, good, bad):
    rows = [row for group in bad.values() for row in group]
    path = write(tmp_path, *rows, good)
    expected = {reason: len(group) for reason, group in bad.items()}
    assert count(path).dropped == expected
    with caplog.at_level(logging.WARNING):
        assert len(read(path)) == 1
    (message,) = caplog.messages
    assert f"{len(rows)} of {len(rows) + 1} rows dropped" in message
    assert all(f"{n} with {reason}" in message for reason, n in expected.items())
    kind, counted = read_data(path)
    assert kind == ("preferences" if "chosen" in good else "pairs")
    assert counted.dropped == expected
    for reason, group in bad.items():
        with pytest.raises(InputError, match=f"{len(group)} with {reason}"):
            count(write(tmp_path, *group))


@pytest.mark.parametrize(
    ("count", "row", "message"),
    [(count_preferences, *case) for case in REFUSED_PREFERENCES]
    + [(count_pairs, *case) for case in REFUSED_PAIRS],
)
def test_refused_rows(tmp_path, count, row, message):
    with pytest.raises(InputError, match=f" 1: .*{message}"):
        count(write(tmp_path, row))


DOCUMENTED = [
    (name, json.loads(row))
    for name, row in re.findall(
        r"^\| ([a-zA-Z, ]+) \| `(\{.*\})` \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
    )
]


@pytest.mark.parametrize(("name", "row"), DOCUMENTED, ids=[name for name, _ in DOCUMENTED])
def test_each_row_of_the_guide_is_read_and_named(tmp_path, capsys, name, row):
    path = write(tmp_path, row, row)
    kind, counted = read_data(path)
    assert counted.formats == {name: 2}
    assert f"2 rows read: 2 as {name}" in capsys.readouterr().out
    texts = counted.rows[0]
    if kind == "preferences":
        assert (texts["chosen"], texts["rejected"]) == ("4", "5")
        assert texts["prompt"] == "2+2?"
    elif name == "Alpaca":
        assert (texts["prompt"], texts["completion"]) == ("Add.\n2, 2", "4")
    elif "Human" not in str(row) and name == "text":
        assert (texts["prompt"], texts["completion"]) == ("", row["text"])
    else:
        assert (texts["prompt"], texts["completion"]) == ("2+2?", "4")


def test_the_guide_has_all_formats():
    assert len(DOCUMENTED) == 11


def test_formats_of_a_mixed_file_are_counted(tmp_path):
    rows = [PAIRS["standard"], PAIRS["messages"], PAIRS["messages"]]
    assert count_pairs(write(tmp_path, *rows)).formats == {
        "prompt and completion": 1,
        "messages": 2,
    }


def test_alpaca_input_follows_the_instruction(tmp_path):
    row = {"instruction": "Add.", "input": "2, 2", "output": "4"}
    assert count_pairs(write(tmp_path, row)).rows["prompt"][0] == "Add.\n2, 2"
