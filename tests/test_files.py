"""A file appears whole or not at all, and JSON never holds a NaN literal."""

import errno
import json
import math
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.files import (
    FOLDER_LIST,
    atomic_folder,
    atomic_path,
    plain_json,
    read_marked,
    write_json,
    write_marked,
    write_text,
)


def test_a_body_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half of the ne")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_target_does_not_exist_before_the_body_ends(tmp_path):
    target = tmp_path / "deeper" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent == target.parent  # a rename within one file system
    assert target.read_text() == "new"


def write_folder(target, *names):
    with atomic_folder(target, keep=("README.md",)) as temporary:
        for name in names:
            write_text(temporary / name, name)


def contents(folder):
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_text() for file in files}


def test_a_folder_of_our_own_is_replaced_whole_but_for_what_is_kept(tmp_path):
    target = tmp_path / "model"
    write_folder(target, "a", "deeper/b")
    write_text(target / "README.md", "of the user")
    write_folder(target, "c")
    found = contents(target)
    found.pop(FOLDER_LIST)
    assert found == {"c": "c", "README.md": "of the user"}
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "d").write_text("d")
        raise RuntimeError
    assert not (target / "d").exists()
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "foreign",
    ["weights.bin", ".hidden", "deeper/thesis.tex", "link", FOLDER_LIST],
)
def test_a_folder_with_files_of_others_is_never_replaced(tmp_path, foreign):
    target = tmp_path / "model"
    write_folder(target, "a")
    (target / foreign).parent.mkdir(exist_ok=True)
    if foreign == "link":
        (target / foreign).symlink_to(tmp_path)
    else:
        (target / foreign).write_text('{"format": "years of work"}')
    before = contents(target)
    with pytest.raises(InputError, match="not written by this program: name another folder"):
        write_folder(target, "b")
    with pytest.raises(InputError, match="is a folder with other files"), atomic_path(target) as t:
        t.mkdir()
    assert contents(target) == before
    assert list(tmp_path.iterdir()) == [target]


def test_places_that_can_be_no_folder_of_ours(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "real"))
    monkeypatch.chdir(tmp_path)
    for place, says in {
        "link": "symbolic link",
        "dangling": "symbolic link",
        "file": "is a file",
        "file/x": "cannot be written: Not a directory",
        "real": "home folder",
        "~": "home folder",
        "/": "root",
        ".": "current folder",
        "real/..": "current folder",
        "n" * 300: "File name too long",
        "a\0b": "null",
    }.items():
        with pytest.raises(InputError, match=says):
            write_folder(place, "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dangling", "file", "link", "real"]
    write_folder("n" * 250, "a")  # the temporary name is cut
    write_folder("ünïcode ✓/../new", "a")
    assert contents(tmp_path / "new")["a"] == "a"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE])
def test_what_the_file_system_refuses_is_one_line_that_names_the_file(tmp_path, code):
    errors = [
        OSError(code, os.strerror(code)),
        ValueError(f"writer failed: {os.strerror(code)} (os error {code})\n at line 3"),
    ]
    for error in errors:  # Python's own, and those of safetensors, Arrow, TensorStore
        with pytest.raises(InputError) as refused, atomic_path(tmp_path / "x.bin"):
            raise error
        assert str(refused.value).startswith(f"{tmp_path}/x.bin cannot be written: ")
        assert os.strerror(code) in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="^another"), atomic_path(tmp_path / "x.bin"):
        raise ValueError("another error")


def test_what_is_not_finite_becomes_null_at_any_depth(tmp_path):
    value = {"a": [1.5, math.nan, {"b": -math.inf}], 3: np.array([[1.0, np.nan]])}
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"a": [1.5, None, {"b": None}], "3": [[1.0, None]]}
    assert "NaN" not in text
    assert "Infinity" not in text


def test_arrays_and_scalars_keep_their_value_and_kind():
    assert plain_json(np.float32(0.5)) == 0.5
    assert plain_json(jnp.arange(3)) == [0, 1, 2]
    assert plain_json(np.bool_(True)) is True
    assert plain_json((Path("a/b"), True, None, 2**60)) == ["a/b", True, None, 2**60]
    assert isinstance(plain_json(np.int64(3)), int)


def test_what_is_no_json_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(TypeError, match="cannot write a set as JSON"):
        write_json(tmp_path / "x.json", {"a": {1, 2}})
    assert list(tmp_path.iterdir()) == []


def test_json_is_utf8(tmp_path):
    write_text(tmp_path / "x.txt", "θ → é")
    assert (tmp_path / "x.txt").read_bytes().decode("utf-8") == "θ → é"


def test_marked_numbers_are_read_where_the_mark_is_theirs(tmp_path):
    file = tmp_path / "deeper" / "scores.npz"
    assert read_marked(file, "scores", "a") is None
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_marked(file, "scores", values, "a")
    stored = read_marked(file, "scores", "a")
    np.testing.assert_array_equal(stored, values)
    assert stored.dtype == np.float32
    with pytest.raises(InputError, match="holds scores of other rows or another model; remove it"):
        read_marked(file, "scores", "b")
    content = file.read_bytes()
    for broken in (b"", b"no archive", content[:40], content[:-30]):
        file.write_bytes(broken)
        with pytest.raises(InputError, match="cannot be read as scores"):
            read_marked(file, "scores", "a")
    write_marked(file, "log_probs", values, "a")
    with pytest.raises(InputError, match="cannot be read as scores"):
        read_marked(file, "scores", "a")


def test_a_changed_byte_of_marked_numbers_is_noticed_or_harmless(tmp_path):
    """Every bit of the file; NumPy alone would read fewer numbers where the shape was changed."""
    values = np.arange(12.0, dtype=np.float32)
    path = tmp_path / "x.npz"
    write_marked(path, "numbers", values, "mark")
    whole = path.read_bytes()
    noticed = 0
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :])
        try:
            np.testing.assert_array_equal(read_marked(path, "numbers", "mark"), values)
        except InputError:
            noticed += 1
    assert noticed > len(whole) / 2
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="cannot be read"):
            read_marked(path, "numbers", "mark")
