"""Safetensors files: the stored number format is checked, damage is one line, NaN is found."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from subliminal_jax.errors import InputError
from subliminal_jax.tensor_files import FLOAT_FORMATS, is_finite, open_tensors, read_tensors
from tests.safetensors_bytes import FORMATS, restore_format, write_raw


@pytest.mark.parametrize("number_format", FORMATS)
def test_every_format_is_read_exactly_or_refused_by_name(number_format, tmp_path):
    path = tmp_path / "t.safetensors"
    save_file({"a": np.ones(2, "f4"), "w": np.ones((2, 4), "f4")}, path)
    restore_format(path, "w", number_format)
    if number_format in FLOAT_FORMATS:
        dtype = FLOAT_FORMATS[number_format]
        expected = np.frombuffer(b"\1" * 8 * dtype.itemsize, dtype).astype(np.float32)
        tensors, _ = read_tensors(path)
        assert np.array_equal(tensors["w"], expected.reshape(2, 4))
        return
    with pytest.raises(InputError, match=f"{path}: w has the number format {number_format}, not"):
        read_tensors(path)
    with open_tensors(path) as (tensors, _), pytest.raises(InputError, match="number format"):
        tensors["w"].read((slice(0, 1), slice(None)))


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
DAMAGE = {
    "offsets overlap": ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [8, 24]}}, 24, None),
    "offsets equal": ({"a": ENTRY, "b": ENTRY}, 16, None),
    "a gap": ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [20, 36]}}, 36, None),
    "values missing": ({"a": ENTRY}, 12, None),
    "values left over": ({"a": ENTRY}, 20, None),
    "header longer than the file": ({"a": ENTRY}, 16, 10**6),
    "header of absurd length": ({"a": ENTRY}, 16, 2**63),
    "header of no length": ({"a": ENTRY}, 16, 0),
    "huge shape": ({"a": {**ENTRY, "shape": [2**32, 2**32, 4]}}, 16, None),
    "shape of another size": ({"a": {**ENTRY, "shape": [5]}}, 16, None),
    "negative shape": ({"a": {**ENTRY, "shape": [-4]}}, 16, None),
    "unknown format": ({"a": {**ENTRY, "dtype": "F128"}}, 16, None),
    "metadata no text": ({"__metadata__": {"layers": [1]}, "a": ENTRY}, 16, None),
    "no JSON": (b"{", 16, None),
    "no UTF-8": (b'{"\xff":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', 16, None),
    "a list": ([], 0, None),
    "deep": (b"[" * 100_000, 0, None),
    "a tensor twice": (
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
        b'"a":{"dtype":"F16","shape":[8],"data_offsets":[0,16]}}',
        16,
        None,
    ),
    "metadata twice": (
        b'{"__metadata__":{"scale":"1","scale":"2"},'
        b'"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        16,
        None,
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_line(damage, tmp_path):
    header, size, claimed = DAMAGE[damage]
    path = tmp_path / "t.safetensors"
    write_raw(path, header, bytes(size), claimed)
    with pytest.raises(
        InputError, match=r"corrupt or truncated safetensors|twice in one object"
    ) as error:
        read_tensors(path)
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).isprintable()


def test_tensors_without_values_and_scalars_are_read(tmp_path):
    path = tmp_path / "t.safetensors"
    save_file({"none": np.ones((0, 4), "f4"), "scalar": np.full((), 2, "f4")}, path)
    tensors, _ = read_tensors(path)
    assert tensors["none"].shape == (0, 4)
    assert tensors["scalar"] == 2


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a file"):
        read_tensors(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "none.safetensors")


@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found_wherever_it_is(dtype, value):
    values = np.linspace(-1, 1, 70_001).astype(dtype)
    values[0] = np.finfo(np.float16).max  # large, finite in all three formats
    assert is_finite(values) and is_finite(values.reshape(1, -1)) and is_finite(values[:0])
    for position in (0, 32_767, 32_768, 70_000):
        broken = values.copy()
        broken[position] = value
        assert not is_finite(broken)


def test_messages_are_one_line_whatever_they_quote():
    message = str(InputError("a\nb\x1b[31mc\u2028d\u00e9 " + "x" * 5000))
    assert message.isprintable()
    assert message.startswith("a\\nb\\x1b[31mc\\u2028d\u00e9 xxx")
    assert "(5013 characters in all)" in message and len(message) < 2100
