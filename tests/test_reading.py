"""The one reader of JSON, JSON lines and text: what is read, and how others are refused."""

import gzip
import json
import os
import re
import tracemalloc
import zlib

import pytest

from subliminal_jax import reading
from subliminal_jax.errors import InputError

BOM = b"\xef\xbb\xbf"
ROWS = [{"a": "caf\u00e9 \u2028 \x85 \x0c \U0001f989"}, {"a": "3\r\n4"}]
TEXT = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\r\n\r\n"


def pack(data):
    """`data` gzipped, the same bytes at any time: they are part of a test's name."""
    return gzip.compress(data, mtime=0)


def read_all(path):
    return list(reading.read_json_lines(path))


def refused(read, path):
    """The message, of which there is one line."""
    with pytest.raises(InputError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("plain.jsonl", TEXT.encode()),
        ("bom.jsonl", BOM + TEXT.encode()),
        ("packed.jsonl.gz", pack(BOM + TEXT.encode())),
        ("members.jsonl.gz", b"".join(pack(line.encode()) for line in TEXT.splitlines(1))),
        ("padded.jsonl.gz", pack(TEXT.encode()) + bytes(512)),
        ("unended.jsonl", TEXT.rstrip().encode()),
    ],
)
def test_json_lines(tmp_path, name, raw):
    path = tmp_path / name
    path.write_bytes(raw)
    assert read_all(path) == list(enumerate(ROWS, start=1))


def test_lines_end_at_line_feeds_alone(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes(BOM + "a\u2028b\x0cc\r\nd\x85e\n\n \t\n f".encode())
    assert list(reading.read_lines(path)) == [(1, "a\u2028b\x0cc"), (2, "d\x85e"), (5, " f")]
    assert reading.read_text(path) == "a\u2028b\x0cc\nd\x85e\n\n \t\n f"


@pytest.mark.parametrize("size", [reading._CHUNK_BYTES + k for k in (-3, -2, -1, 0, 1, 3, 4, 5)])
def test_line_ends_at_the_edge_of_a_chunk(tmp_path, size):
    path = tmp_path / "lines.txt"
    lines = ["x" * (size - 2), "", "y" * size, "z"]
    path.write_bytes("\r\n".join(lines).encode())
    assert list(reading.read_lines(path)) == [(n, x) for n, x in enumerate(lines, start=1) if x]


@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        {"model_max_length": 1000000000000000019884624838656, "x": [1e308, -0.0, 5e-324]},
        "\U0001f989",
        ["\0", "\\ud83d", "\\", '"'],
        json.loads("[" * reading.MAX_DEPTH + "]" * reading.MAX_DEPTH),
        [{"a": [[]] * 200}] * 2,
    ],
)
def test_values_are_those_of_json(value, ensure_ascii):
    text = json.dumps(value, ensure_ascii=ensure_ascii)
    assert reading.parse_json(text, "x") == json.loads(text)


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("", (1, 1), "empty"),
        ('{"a": 1,\n "b": }', (2, 7), r"not JSON \(Expecting value\)"),
        ("{} x", (1, 4), "not JSON"),
        ('{"a": "\t"}', (1, 8), "not JSON"),
        ('{}\n\ufeff{"a": 1}', (2, 1), "byte order mark"),
        ('{"a": NaN}', (1, 7), "NaN is not JSON"),
        ('["NaN", -Infinity]', (1, 9), "-Infinity is not JSON"),
        ('["1e999",\n -1e999]', (2, 2), "the number -1e999 is out of range"),
        ("[1, " + "7" * 5000 + "]", (1, 5), "the number 77777777777777777777 is out of range"),
        ("[1, -" + "7" * 309 + "]", (1, 5), "out of range"),
        ('{"a": {"b": 1}, "b": [],\n "a": 2}', (2, 2), "key 'a' twice"),
        ('{"\\u0061": 1, "a": 2}', (1, 15), "key 'a' twice"),
        ('[{"a": ": {", "b": "\\ud83d"}]', (1, 20), "half a surrogate pair"),
        ('{"\\uDE00\\uD83D": 1}', (1, 2), "half a surrogate pair"),
        ("[" * 101 + "]" * 101, (1, 101), "nested deeper than 100"),
        ("[" * 100_000 + "]" * 100_000, (1, 101), "nested deeper than 100"),
        ('{"a":' * 100_000, (1, 501), "nested deeper than 100"),
    ],
)
def test_refused_values(text, place, reason):
    line, column = place
    with pytest.raises(InputError, match=rf"^the reply, line {line}, column {column}: .*{reason}"):
        reading.parse_json(text, "the reply")


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        (
            "a.jsonl",
            b'{"a": 1}\n{"a": "caf\xe9"}',
            r"line 2, column 11: the byte 0xe9 is not UTF-8",
        ),
        ("a.jsonl", b'{"a": 1}\n\xff', "line 2, column 1: the byte 0xff"),
        ("a.jsonl", b"\xed\xa0\xbd", "line 1, column 1: the byte 0xed"),  # a half pair as bytes
        ("a.jsonl", "{}".encode("utf-16"), "line 1, column 1: UTF-16 text: save the file as UTF-8"),
        ("a.jsonl", "{}".encode("utf-32"), "line 1, column 1: UTF-32 text"),
        ("a.jsonl", "{}".encode("utf-16-be"), "line 1, column 1: a NUL byte"),
        ("a.jsonl", b'{}\n{"a": "\0"}', "line 2, column 8: a NUL byte"),
        ("a.jsonl", b"{}\n" + BOM + b"{}", "line 2, column 1: a byte order mark in the middle"),
        ("a.jsonl", b'{}\n\n{"a": }', "line 3, column 7: not JSON"),
        ("a.jsonl", pack(b"{}"), "a gzip file: rename it to a.jsonl.gz"),
        ("a.jsonl.gz", b"{}", "not a gzip file, as its name says: rename it to a.jsonl"),
        ("a.jsonl.gz", b"", "not a gzip file"),
        ("a.jsonl.gz", pack(b"{}\n" * 9)[:-6], "line 10: truncated gzip file"),
        ("a.jsonl.gz", pack(b"{ }\n") + b"x", "line 2: corrupt gzip file"),
        ("a.jsonl.gz", pack(b"{ }\n")[:-8] + bytes(8), "line 2: corrupt gzip file .*CRC"),
    ],
)
def test_refused_files(tmp_path, name, raw, message):
    path = tmp_path / name
    path.write_bytes(raw)
    assert re.search(message, refused(read_all, path))
    assert refused(reading.read_json, path).startswith(str(path))


def test_a_carriage_return_within_a_line(tmp_path):
    """Text of an old Macintosh is one line to everyone else."""
    path = tmp_path / "lines.txt"
    path.write_bytes(b"one\ntwo\rthree\r")
    message = refused(lambda p: list(reading.read_lines(p)), path)
    assert "line 2, column 4: a carriage return" in message


def test_an_object_is_asked_for(tmp_path):
    path = tmp_path / "config.json"
    for text, name in (("[]", "list"), ("null", "null"), ('"x"', "text"), ("1.5", "number")):
        path.write_text(text)
        assert f"must hold a JSON object, not a {name}" in refused(reading.read_json_object, path)


def test_what_is_no_file(tmp_path):
    """A named pipe does not block the reader, and a device is not read."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is a pipe or a device"),
        ("/dev/zero", "is a pipe or a device"),
        (tmp_path / "absent", "no such file"),
        (tmp_path / "loop", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
        ("a\0b", "cannot be read"),
    ):
        for read in (reading.read_text, reading.read_json, read_all):
            assert message in refused(read, path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{}")
    path.chmod(0)
    assert "cannot be read (Permission denied)" in refused(reading.read_json, path)


@pytest.mark.parametrize(
    ("name", "unit", "message"),
    [
        ("a.jsonl.gz", b"a", "line 1: longer than 32 MiB"),
        ("a.jsonl.gz", b"\n", "over 200 times as large"),
        ("a.json.gz", b" ", "larger than 128 MiB"),
    ],
)
def test_memory_is_bounded(tmp_path, name, unit, message):
    """192 MiB in one are refused before they are unpacked."""
    path = tmp_path / name
    packer = zlib.compressobj(1, wbits=31)
    block = unit * (64 << 20)
    path.write_bytes(b"".join(packer.compress(block) for _ in range(3)) + packer.flush())
    del block
    read = read_all if "jsonl" in name else reading.read_json
    tracemalloc.start()
    assert message in refused(read, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 << 20
