"""A file appears whole or not at all, and JSON never holds a NaN literal."""

import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.files import (
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


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "model"
    for names in (("a", "b"), ("c",)):
        with atomic_path(target) as temporary:
            temporary.mkdir()
            for name in names:
                (temporary / name).write_text(name)
    assert [file.name for file in target.iterdir()] == ["c"]
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "d").write_text("d")
        raise RuntimeError
    assert [file.name for file in target.iterdir()] == ["c"]
    assert list(tmp_path.iterdir()) == [target]


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
