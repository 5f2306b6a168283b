"""Vector files of other libraries: a test for each row of the table in docs/guides/vectors.md."""

import contextlib
import os
import pickle
import zipfile
from dataclasses import replace

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from subliminal_jax.errors import InputError
from subliminal_jax.models.steered import steer
from subliminal_jax.steering.io import VectorInfo, save_steering
from subliminal_jax.steering.torch_files import read_torch
from subliminal_jax.steering.vector_files import read_steering
from tests.steering.torch_bytes import refer, text, tuple_of, write_torch
from tests.tiny_configs import UNLIKE

CFG = replace(UNLIKE, layers=4)
ROWS = np.random.default_rng(0).normal(size=(6, CFG.dim)).astype(np.float32)
PER_BLOCK, HIDDEN = ROWS[:4], ROWS[:5]  # a row a block; transformers' hidden_states


def write_npy(path, array):
    np.save(path, array)
    return path


def write_safetensors(path, tensors):
    save_file(tensors, path)
    return path


# name: (writer, ending, content, layers asked for, {layer: expected vector})
FORMATS = {
    "safetensors, one vector": (
        write_safetensors,
        "safetensors",
        {"v": ROWS[0]},
        [2],
        {2: ROWS[0]},
    ),
    "safetensors, the layers that are given": (
        write_safetensors,
        "safetensors",
        {"v": ROWS[:2]},
        [3, 1],
        {3: ROWS[0], 1: ROWS[1]},
    ),
    "safetensors, a row a block": (
        write_safetensors,
        "safetensors",
        {"v": PER_BLOCK},
        [2],
        {2: ROWS[2]},
    ),
    "safetensors, a tensor a block": (
        write_safetensors,
        "safetensors",
        {"layers.1.v": ROWS[0], "layers.3.v": ROWS[1]},
        None,
        {1: ROWS[0], 3: ROWS[1]},
    ),
    "npy, one vector": (write_npy, "npy", ROWS[0].astype(np.float64), [1], {1: ROWS[0]}),
    "npy, a row a block": (write_npy, "npy", PER_BLOCK, None, dict(enumerate(PER_BLOCK))),
    "npy, hidden states": (write_npy, "npy", HIDDEN, [0, 2], {0: ROWS[1], 2: ROWS[3]}),
    "pt, persona_vectors": (write_torch, "pt", HIDDEN, [1], {1: ROWS[2]}),
    "pt, one vector": (write_torch, "pt", ROWS[0], [3], {3: ROWS[0]}),
    "pt, by layer": (write_torch, "pt", {2: ROWS[0], 0: ROWS[1]}, [2], {2: ROWS[0]}),
    "pt, a list": (write_torch, "pt", list(PER_BLOCK), [1], {1: ROWS[1]}),
    "pt, a named tensor": (write_torch, "pt", {"vector": ROWS[0]}, [1], {1: ROWS[0]}),
}


@pytest.mark.parametrize("case", FORMATS.values(), ids=list(FORMATS))
def test_vectors_are_added_after_the_blocks_that_the_file_means(tmp_path, case):
    write, ending, content, layers, expected = case
    path = write(tmp_path / f"v.{ending}", content)
    steering, info = read_steering(path, CFG, layers, model="any")
    assert (steering.operation, float(steering.scale)) == ("add", 1.0)
    assert info == VectorInfo("unknown", f"read from v.{ending}")
    found = dict(zip(steering.layers, np.asarray(steering.vectors), strict=True))
    assert found.keys() == expected.keys()
    for layer, vector in expected.items():
        np.testing.assert_allclose(found[layer], vector, rtol=1e-6)


def test_the_packages_own_file_says_layer_operation_and_scale(tmp_path):
    path = tmp_path / "v.safetensors"
    stored = steer(jnp.asarray(ROWS[0]), 2, 3.0, "project_out")
    save_steering(path, stored, VectorInfo("a/model", "drawn", method="pca"))
    steering, info = read_steering(path, CFG)
    assert (steering.layers, steering.operation, float(steering.scale)) == ((2,), "project_out", 3)
    assert (info.model, info.method) == ("a/model", "pca")


def test_gguf_has_a_vector_a_block(tmp_path):
    from subliminal_jax.steering.interchange import write_gguf

    path = tmp_path / "v.gguf"
    write_gguf(path, steer(jnp.asarray(ROWS[0]), 2, 3.0), CFG.family)
    steering, info = read_steering(path, CFG, [2])
    np.testing.assert_allclose(steering.vectors[0], 3 * ROWS[0], rtol=1e-6)
    assert info.model == CFG.family
    with pytest.raises(InputError, match=r"for layers \[2\], not for \[1\]"):
        read_steering(path, CFG, [1])


@pytest.mark.parametrize(
    ("content", "layers", "said"),
    [
        (HIDDEN, [3], r"not \[3\]"),  # taken after the final norm
        (ROWS[:2], [1], "say which layers"),
        (ROWS[0], None, "say which layers"),
        (ROWS[:4, :5].copy(), [1], "width"),
        (ROWS.reshape(2, 3, -1), [1], "shape"),
        (ROWS[0] * np.inf, [1], "not finite"),
        ({"a": ROWS[0], "b": ROWS[1]}, [1], "named by one layer each"),
        ({1: ROWS[0], "v1": ROWS[1]}, [1], "named by one layer each"),
        ({9: ROWS[0]}, None, "layer 9"),
        ([ROWS[0], ROWS[:2]], [1], "different shapes"),
        ({}, [1], "none"),
        ("words", [1], "holds a str"),
    ],
)
def test_what_cannot_be_placed_is_refused(tmp_path, content, layers, said):
    path = write_torch(tmp_path / "v.pt", content)
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match=said):
        read_steering(path, CFG, layers)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.float32])
def test_number_formats_and_strides_of_torch(tmp_path, dtype):
    array = ROWS.astype(dtype).T
    np.testing.assert_array_equal(
        read_torch(write_torch(tmp_path / "v.pt", array)), array.astype(np.float32)
    )


@pytest.mark.parity
def test_files_of_torch_itself(tmp_path):
    torch = pytest.importorskip("torch")
    x = torch.randn(4, 3)
    value = {"a": x.bfloat16(), "b": [x.T, torch.nn.Parameter(x[1:])], "c": 7}
    torch.save(value, tmp_path / "v.pt")
    found = read_torch(tmp_path / "v.pt")
    np.testing.assert_array_equal(found["a"], x.bfloat16().float())
    np.testing.assert_array_equal(found["b"][0], x.T)
    np.testing.assert_array_equal(found["b"][1], x[1:])
    assert found["c"] == 7


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, protocol):
    place = tmp_path / "made"
    payload = pickle.dumps(Payload(str(place)), protocol)
    pickle.loads(payload)
    place.rmdir()  # so it would run
    path = write_torch(tmp_path / "v.pt", ROWS, payload[2:-1])
    with pytest.raises(InputError, match=r"only plain tensors are read; .*torch\.load"):
        read_steering(path, CFG, [1])
    assert not place.exists()


REFUSED = {
    "names of torch": refer("torch", "load") + tuple_of(text("x")) + b"R",
    "attributes of tensors": refer("torch._utils", "_rebuild_tensor_v2") + b"}b",
    "instances": b"(" + refer("os", "system")[1:].replace(b"\n", b"\n", 1) + b"i",
    "extensions": b"\x82\x01",
    "whole numbers as storage": refer("torch", "LongStorage"),
    "a call of a storage": refer("torch", "FloatStorage") + b")R",
    "an empty stack": b"R",
    "no mark": b"t",
    "what was not remembered": b"h\x05",
}


@pytest.mark.parametrize("program", REFUSED.values(), ids=list(REFUSED))
def test_other_opcodes_and_names_are_refused(tmp_path, program):
    with pytest.raises(InputError, match=r"v\.pt"):
        read_torch(write_torch(tmp_path / "v.pt", ROWS, program))


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    path = write_torch(tmp_path / "v.pt", ROWS)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    small = {**entries, "v/data/0": entries["v/data/0"][:-4]}
    large = {**entries, "v/data.pkl": entries["v/data.pkl"].replace(b"J\x06\0\0\0", b"J\xff\0\0\0")}
    for changed in (small, large):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in changed.items():
                archive.writestr(name, data)
        with pytest.raises(InputError, match="corrupt"):
            read_torch(path)


@given(data=st.data())
def test_a_damaged_file_is_one_error(tmp_path_factory, data):
    path = write_torch(tmp_path_factory.getbasetemp() / "damaged.pt", {1: ROWS, 2: [ROWS]})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 700))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(InputError):
        assert isinstance(read_torch(path), dict | list | str | int | np.ndarray)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([{}], object), "numpy.save"),
        (np.arange(12), "numbers of the type int64"),
        (ROWS.reshape(-1), "width"),
    ],
)
def test_arrays_of_objects_and_of_whole_numbers_are_refused(tmp_path, array, said):
    with pytest.raises(InputError, match=said):
        read_steering(write_npy(tmp_path / "v.npy", array), CFG, [1])


def test_other_endings_are_named(tmp_path):
    (tmp_path / "v.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"\.safetensors, \.gguf, \.npy, \.pt"):
        read_steering(tmp_path / "v.bin", CFG, [1])
    for name in ("v.npy", "v.pt", "v.safetensors", "random"):
        with pytest.raises(InputError, match="no such vector file"):
            read_steering(tmp_path / name, CFG, [1])
