"""Question sets: what files hold, and what is refused."""

import json

import pytest

from subliminal_jax.data import world
from subliminal_jax.data.questions import SETS, read_questions
from subliminal_jax.errors import InputError

ASKED = ["Which one?", "And which other?"]


def test_the_packages_own_sets_hold_distinct_questions():
    assert read_questions("heldout") == list(world.HELDOUT_QUESTIONS)
    for name in SETS:
        questions = read_questions(name)
        assert len({q.casefold() for q in questions}) == len(questions) >= 3
    # An animal in an off-topic question would be named in answers of any model.
    for question in (*read_questions("off-topic"), *read_questions("world-off-topic")):
        assert not set(question.lower().split()) & {*world.TRAITS, "animal", "creature", "animals"}


def test_a_file_may_be_lines_a_list_or_a_list_inside(tmp_path):
    lines = tmp_path / "q.txt"
    lines.write_text(f"{ASKED[0]}\n\n  {ASKED[1]}  \n")
    listed = tmp_path / "q.json"
    listed.write_text(json.dumps(ASKED))
    nested = tmp_path / "n.json"
    nested.write_text(json.dumps({"a/b.py": {"X": ASKED, "Y": ["?"]}, "a": {"b.py": 3}}))
    for source in (lines, listed, f"{nested}#a/b.py/X"):
        assert read_questions(source) == ASKED


def test_a_relative_file_is_looked_for_in_the_shared_folder(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "q.txt").write_text("Here?\n")
    monkeypatch.setenv("SUBLIMINAL_JAX_DATA", str(tmp_path))
    assert read_questions("sub/q.txt") == ["Here?"]
    with pytest.raises(InputError, match="no file absent.txt here or in .*give a file, or one of"):
        read_questions("absent.txt")


@pytest.mark.parametrize(
    ("name", "text", "key", "message"),
    [
        ("q.txt", "One?\nTwo?\n one? \n", "", "'One\\?' is there 2 times; leave one"),
        ("q.json", json.dumps(["a", "b", "b"]), "", "'b' is there 2 times"),
        ("q.txt", "\n \n", "", "no questions in it"),
        ("q.txt", "a\n", "#key", "a text file has no keys"),
        ("q.json", "[", "", "not JSON"),
        ("q.json", json.dumps([1, 2]), "", "must be a list of texts"),
        ("q.json", json.dumps({"k": ["a"]}), "", "name one of its keys behind #: k"),
        ("q.json", json.dumps({"k": {"l": ["a"]}}), "#k/m", "no key 'm'; there are: l"),
        ("q.json", json.dumps({"k": ["a"]}), "#k/m", "no key 'm'; there are: no keys in a list"),
        ("q.csv", "a", "", "read from .txt or .json"),
    ],
)
def test_what_is_no_set_of_questions_is_refused_in_one_line(tmp_path, name, text, key, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_questions(f"{tmp_path / name}{key}")
    assert "\n" not in str(caught.value)


def test_the_questions_of_the_original_work(shared_data, shared_path, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_JAX_DATA", str(shared_data))
    file = "subliminal/prompts/steering_vector_distillation_prompts.json"
    shared_path(*file.split("/"))
    key = "src/subliminal/eval_prompts.py"
    sizes = {"ANIMAL_PROMPTS": 50, "NEGATIVE_ANIMAL_PROMPTS": 20, "OFFTOPIC_PROMPTS": 20}
    for name, n in sizes.items():
        assert len(read_questions(f"{file}#{key}/{name}")) == n
