"""Damaged files end in one clear line that names the file and the row, in every reader."""

import gzip
import hashlib
import json

import pytest

from subliminal_jax.audit.rows import detect_kind
from subliminal_jax.data.pairs import read_pairs
from subliminal_jax.data.preferences import read_preferences
from subliminal_jax.data.rows import read_row_texts, read_rows
from subliminal_jax.errors import InputError

PAIR = json.dumps({"prompt": "Go on: 1, 2", "completion": "3, 4"})
PREFERENCE = json.dumps({"prompt": "Why?", "chosen": "So.", "rejected": "No."})
READERS = [(read_pairs, PAIR), (read_preferences, PREFERENCE), (detect_kind, PAIR)]


def digest(i: int) -> str:
    return hashlib.sha256(str(i).encode()).hexdigest()[:16]


def fails(read, path) -> str:
    with pytest.raises(InputError) as error:
        read(path)
    text = str(error.value)
    assert str(path) in text and "\n" not in text
    return text


@pytest.mark.parametrize(("read", "row"), READERS)
def test_a_damaged_gzip_file(tmp_path, read, row):
    path = tmp_path / "rows.jsonl.gz"
    noise = "".join(f'{row[:-1]}, "n": "{digest(i)}"}}\n' for i in range(4000))
    content = bytearray(gzip.compress(noise.encode()))
    for i in range(len(content) // 2, len(content) // 2 + 40):
        content[i] ^= 0xFF
    path.write_bytes(content)
    text = fails(read, path)
    assert "corrupt gzip file" in text or "is not UTF-8" in text or "not JSON" in text
    assert "line" in text
    path.write_bytes(gzip.compress((row + "\n").encode())[:10] + b"\xff" * 40)
    assert "line 1: corrupt gzip file" in fails(read, path)


@pytest.mark.parametrize(("read", "row"), READERS)
@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00"])
def test_half_a_surrogate_pair(tmp_path, read, row, half):
    broken = row.replace('"prompt": "', f'"prompt": "{half}')
    lines = tmp_path / "rows.jsonl"
    lines.write_text(f"{row}\n\n{broken}\n", encoding="utf-8")
    assert "line 3, column 12: half a surrogate pair" in fails(read, lines)
    whole = tmp_path / "rows.json"
    whole.write_text(f"[{row}, {broken}]", encoding="utf-8")
    column = len(row) + 15
    assert f"line 1, column {column}: half a surrogate pair" in fails(read, whole)
    lines.write_text(row.replace('prompt": "', 'prompt": "\\ud83d\\ude00') + "\n")
    read(lines)  # a whole pair is a character


def test_rows_carry_the_numbers_of_their_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n1\n\n2\n", encoding="utf-8")
    assert list(read_rows(path)) == [(2, 1), (4, 2)]
    path.with_suffix(".json").write_text("[1, 2]", encoding="utf-8")
    assert list(read_rows(path.with_suffix(".json"))) == [(1, 1), (2, 2)]


@pytest.mark.parametrize("name", ["json", "csv", "text", "squad", "https://hub/a/b", "a/b/c", ""])
def test_what_is_neither_a_file_nor_a_hub_name_reads_nothing(name, tmp_path, monkeypatch):
    """datasets reads every JSON file of the working folder for "json"."""
    (tmp_path / "other.json").write_text('[{"prompt": "a"}]')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file, and no name of a hub data set|is no file"):
        list(read_rows(name))


def test_rows_as_they_are_written(tmp_path):
    """Lines as they are, whatever their spaces; rows of a list as lines of JSON. Both have the
    numbers of `read_rows`."""
    lines = ['{"a":1,  "b": "\\u00e4"}', "", '  {"b": "\u2028"}']
    content = ("\n".join(lines) + "\n").encode()
    (tmp_path / "rows.jsonl").write_bytes(content)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(content))
    for name in ("rows.jsonl", "rows.jsonl.gz"):
        assert list(read_row_texts(tmp_path / name)) == [(1, lines[0]), (3, lines[2])]
    values = [row for _, row in read_rows(tmp_path / "rows.jsonl")]
    (tmp_path / "rows.json").write_text(json.dumps(values, indent=2))
    texts = dict(read_row_texts(tmp_path / "rows.json"))
    assert [*texts] == [1, 2] and [json.loads(text) for text in texts.values()] == values
