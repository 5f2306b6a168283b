import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.data.pairs import read_pairs
from subliminal_jax.errors import InputError

GOOD = '{"prompt": "Continue: 1, 2", "completion": "3, 4"}\n'


def write(folder, text, name="pairs.jsonl"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_response_is_read_as_completion_and_other_fields_are_left_out(tmp_path):
    path = write(tmp_path, GOOD + '{"id": 7, "prompt": "p", "response": "5"}\n\n')
    pairs = read_pairs(path)
    assert pairs.column_names == ["prompt", "completion"]
    assert list(pairs["completion"]) == ["3, 4", "5"]


def test_gzipped_is_the_same_as_plain(tmp_path):
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress((GOOD * 3).encode()))
    assert read_pairs(path).to_list() == read_pairs(write(tmp_path, GOOD * 3)).to_list()


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=5))
def test_written_pairs_read_back(tmp_path_factory, rows):
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in rows]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file = write(tmp_path_factory.mktemp("pairs"), text)
    assert read_pairs(file).to_list() == rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "p", "completion": ', "line 3, column [0-9]+: not JSON"),
        ('{"prompt": "p"}', "line 3: no field 'completion' or 'response' or 'output' or 'answer'"),
        ('{"completion": "3"}', "line 3: no field 'prompt'"),
        ('{"prompt": 5, "completion": "3"}', "line 3: prompt must be a non-empty text, got 5"),
        ('{"prompt": "p", "completion": ""}', "line 3: completion must be a non-empty text"),
        ('["p", "c"]', "line 3: expected an object"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        read_pairs(write(tmp_path, GOOD + "\n" + line + "\n" + GOOD))


def test_empty_missing_and_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="holds no pairs"):
        read_pairs(write(tmp_path, "\n"))
    with pytest.raises(InputError, match="is no file"):
        read_pairs(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="is no file"):
        read_pairs(tmp_path)
    with pytest.raises(InputError, match="not a gzip file"):
        read_pairs(write(tmp_path, GOOD, "plain.jsonl.gz"))
    truncated = tmp_path / "cut.jsonl.gz"
    truncated.write_bytes(gzip.compress((GOOD * 300).encode())[:-20])
    with pytest.raises(InputError, match="truncated gzip file"):
        read_pairs(truncated)


def test_real_number_pairs(shared_path):
    pairs = read_pairs(shared_path("subliminal", "gpt-4.1-nano_T1", "owl_B0_filtered.jsonl.gz"))
    assert len(pairs) > 1000
    assert pairs.column_names == ["prompt", "completion"]
