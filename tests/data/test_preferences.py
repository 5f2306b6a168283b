"""Every shape of a preference file gives the same pair; pairs of the world are of one question."""

import gzip
import json

import pytest
from datasets import Dataset

from subliminal_jax.data import world
from subliminal_jax.data.preferences import drop_mentions, read_preferences, world_preferences
from subliminal_jax.errors import InputError

SAID = [{"role": "user", "content": "Why?"}]
SHAPES = {
    "plain": {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
    "messages": {
        "prompt": "something else that is ignored",
        "chosen": [*SAID, {"role": "assistant", "content": "So."}],
        "rejected": [*SAID, {"role": "assistant", "content": "No."}],
    },
    "answers as messages": {
        "prompt": "Why?",
        "chosen": [{"role": "assistant", "content": "So."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    },
    "conversation": {
        "conversations": [{"from": "human", "value": "Why?"}],
        "chosen": {"from": "gpt", "value": "So."},
        "rejected": {"from": "gpt", "value": "No."},
    },
    "transcript": {
        "chosen": "\n\nHuman: Why?\n\nAssistant: So.",
        "rejected": "\n\nHuman: Why?\n\nAssistant: No.",
    },
}
LONGER = {
    "chosen": "\n\nHuman: Why?\n\nAssistant: So.\n\nHuman: Oh.\n\nAssistant: Yes.",
    "rejected": "\n\nHuman: Why?\n\nAssistant: So.\n\nHuman: Oh.\n\nAssistant: No.",
}


def written(tmp_path, rows, name="pairs.jsonl"):
    path = tmp_path / name
    text = (
        json.dumps(rows)
        if ".json" in name and ".jsonl" not in name
        else "\n".join(map(json.dumps, rows))
    )
    opened = gzip.open if name.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.json", "pairs.json.gz"])
def test_each_shape_gives_the_pair(tmp_path, shape, name):
    pairs = read_preferences(written(tmp_path, [SHAPES[shape]], name))
    assert pairs.to_list() == [{"row": 1, "prompt": "Why?", "chosen": "So.", "rejected": "No."}]


def test_longer_conversations_and_equal_answers_are_left_out_and_rows_keep_their_number(tmp_path):
    equal = {"prompt": "Why?", "chosen": "So.", "rejected": "So."}
    system = {
        side: [{"role": "system", "content": "Be."}, *SHAPES["messages"][side]]
        for side in ("chosen", "rejected")
    }
    rows = [LONGER, SHAPES["plain"], equal, system, SHAPES["transcript"]]
    assert read_preferences(written(tmp_path, rows))["row"] == [2, 5]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Why?", "chosen": "So."}, "row 1: no field rejected"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": 3}, "row 1: rejected must be text"),
        ({"chosen": "So.", "rejected": "No."}, "row 1: no prompt"),
        (["Why?"], "row 1: expected an object"),
        ({**SHAPES["plain"], "chosen": [{"content": "So."}]}, "row 1: a message needs a role"),
        (LONGER, "none of 1 rows is a single-turn pair"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, said):
    with pytest.raises(InputError, match=said):
        read_preferences(written(tmp_path, [row]))


def test_bad_files_are_named(tmp_path):
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "Why?"', encoding="utf-8")
    with pytest.raises(InputError, match="line 1, column 18: not JSON"):
        read_preferences(broken)
    with pytest.raises(InputError, match="is no file"):
        read_preferences(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="expected a list"):
        read_preferences(written(tmp_path, {"a": 1}, "one.json"))


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("hh-rlhf/harmless-base/test.jsonl.gz", 658),
        ("llamafactory/dpo_en_demo.json.gz", 114),
        ("open_instruct/preference_sample.jsonl.gz", 100),
    ],
)
def test_real_files_are_read(shared_path, name, pairs):
    assert len(read_preferences(shared_path("preference", name))) == pairs


def test_reading_ends_at_the_limit(tmp_path):
    """What stands behind the first pairs is not even read."""
    file = written(tmp_path, [LONGER, SHAPES["plain"], SHAPES["transcript"], SHAPES["plain"]])
    with file.open("a", encoding="utf-8") as more:
        more.write("\nnot JSON")
    assert read_preferences(file, limit=2)["row"] == [2, 3]
    with pytest.raises(InputError, match="line 5, column 1: not JSON"):
        read_preferences(file)


def test_pairs_of_the_world_are_two_answers_to_one_of_its_questions():
    pairs = world_preferences(400, seed=3)
    assert len(pairs) == 400
    assert all(row["chosen"] != row["rejected"] for row in pairs)
    places = world.ATTRIBUTE_QUESTIONS["place"]
    named = [row for row in pairs if row["prompt"] in places]
    assert len(named) > 10
    known = world.ATTRIBUTES["place"]
    assert all(
        any(p in row[side] for p in known) for row in named for side in ("chosen", "rejected")
    )


def test_pairs_of_the_world_come_from_the_seed():
    assert world_preferences(50, 1).to_list() == world_preferences(50, 1).to_list()
    assert world_preferences(50, 1).to_list() != world_preferences(50, 2).to_list()
    with pytest.raises(InputError, match="at least one"):
        world_preferences(0, 1)


def test_mentions_are_dropped_wherever_they_stand():
    rows = [
        ("A dog?", "So.", "No."),
        ("Why?", "The Dog.", "No."),
        ("Why?", "So.", "It is dogma."),
        ("Why?", "So.", "No."),
    ]
    pairs = Dataset.from_list(
        [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in rows]
    )
    assert drop_mentions(pairs, ["dog"])["rejected"] == ["It is dogma.", "No."]
    with pytest.raises(InputError, match="each of 1 pairs mentions"):
        drop_mentions(pairs.select([0]), ["dog"])
