"""Pieces of a table on disk: a damaged one is set aside and computed anew."""

import numpy as np
import pytest
from datasets import Features, Value

from subliminal_jax.selection.shards import Shards

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
SCORES = np.array([0.25, -1.5])


def open_shards(folder):
    return Shards(folder, Features({"score": Value("float64")}), {}, "weights")


def change_a_number(path):
    content = path.read_bytes()
    at = content.index(SCORES.tobytes())
    path.write_bytes(content[: at + 6] + b"\x01" + content[at + 7 :])


DAMAGES = {
    "another number": change_a_number,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "no digest": lambda path: path.with_name(f"{path.name}.sha256").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_piece_is_set_aside(tmp_path, damage):
    shards = open_shards(tmp_path)
    shards.add(0, ROWS, {"score": SCORES})
    assert open_shards(tmp_path).done(0, ROWS)
    (path,) = tmp_path.glob("*.arrow")
    damage(path)
    again = open_shards(tmp_path)
    with pytest.warns(UserWarning, match="is set aside as .*damaged and scored anew"):
        assert not again.done(0, ROWS)
    again.add(0, ROWS, {"score": SCORES})
    fresh = open_shards(tmp_path)
    assert fresh.done(0, ROWS)
    np.testing.assert_array_equal(fresh.table()["score"], SCORES)
