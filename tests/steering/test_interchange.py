"""Vectors from and to other libraries' formats."""

import sys
from types import ModuleType, SimpleNamespace

import gguf
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.steering.interchange import (
    build_steering,
    extract_directions,
    from_steering_vector,
    read_gguf,
    to_steering_vector,
    write_gguf,
)


@pytest.fixture
def steering(cfg):
    vectors = jnp.asarray(np.random.default_rng(0).normal(size=(2, cfg.dim)), jnp.float32)
    return Steering(vectors, jnp.asarray(2.0), (2, 0))


def same(converted, steering):
    assert converted.layers == tuple(sorted(steering.layers))
    assert float(converted.scale) == 1.0 and converted.operation == "add"
    actual, expected = extract_directions(converted), extract_directions(steering)
    for layer in steering.layers:
        np.testing.assert_array_equal(actual[layer], expected[layer])


def test_a_control_vector_comes_back(steering, cfg, tmp_path):
    file = tmp_path / "v.gguf"
    write_gguf(file, steering, "llama")
    converted, hint = read_gguf(file, cfg)
    assert hint == "llama"
    same(converted, steering)
    assert [p.name for p in tmp_path.iterdir()] == ["v.gguf"]


def test_the_file_is_as_repeng_reads_it(steering, tmp_path):
    write_gguf(tmp_path / "v.gguf", steering, "qwen2")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    assert sorted(tensors) == ["direction.0", "direction.2"]
    np.testing.assert_array_equal(tensors["direction.2"], 2 * steering.vectors[0])
    assert bytes(reader.get_field("general.architecture").parts[-1]) == b"controlvector"
    assert bytes(reader.get_field("controlvector.model_hint").parts[-1]) == b"qwen2"
    assert int(reader.get_field("controlvector.layer_count").parts[-1][0]) == 2


def test_what_is_no_control_vector_is_refused(cfg, tmp_path):
    with pytest.raises(InputError, match="no such vector file"):
        read_gguf(tmp_path / "none.gguf", cfg)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\3\0\0\0" + b"\1" * 40)
    with pytest.raises(InputError, match="corrupt or truncated GGUF file"):
        read_gguf(broken, cfg)
    writer = gguf.GGUFWriter(tmp_path / "llama.gguf", "llama")
    writer.add_string("controlvector.model_hint", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InputError, match="not of a control vector"):
        read_gguf(tmp_path / "llama.gguf", cfg)


def test_a_control_vector_of_another_family_is_refused(steering, cfg, tmp_path):
    file = tmp_path / "v.gguf"
    write_gguf(file, steering, "qwen2")
    with pytest.raises(
        InputError, match="type 'qwen2', and the model here is of the family 'llama'"
    ):
        read_gguf(file, cfg)


class Tensor:
    """As much of a torch tensor as a conversion reads."""

    def __init__(self, values):
        self.values = values

    def __getattr__(self, name):
        return lambda: self.values if name == "numpy" else self


def test_a_steering_vector_is_read(steering, cfg):
    held = {layer: Tensor(v) for layer, v in extract_directions(steering).items()}
    vector = SimpleNamespace(layer_activations=held, layer_type="decoder_block")
    same(from_steering_vector(vector, cfg), steering)
    vector.layer_type = "mlp"
    with pytest.raises(InputError, match="of 'mlp'"):
        from_steering_vector(vector, cfg)


def test_a_steering_vector_comes_back(steering, cfg):
    pytest.importorskip("steering_vectors")
    same(from_steering_vector(to_steering_vector(steering), cfg), steering)


def test_a_steering_vector_is_made_as_the_library_makes_it(steering, cfg, monkeypatch):
    """With objects in place of the library and torch: the arguments of SteeringVector 0.12, one
    tensor a layer, and memory of their own."""
    for name, held in (
        ("torch", {"from_numpy": Tensor}),
        ("steering_vectors", {"SteeringVector": SimpleNamespace}),
    ):
        module = ModuleType(name)
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, name, module)
    converted = to_steering_vector(steering)
    assert converted.layer_type == "decoder_block"
    assert sorted(converted.layer_activations) == [0, 2]
    expected = extract_directions(steering)
    for layer, tensor in converted.layer_activations.items():
        np.testing.assert_array_equal(tensor.values, expected[layer])
        tensor.values[:] = 0  # writable, as torch wants it
    same(from_steering_vector(to_steering_vector(steering), cfg), steering)


def test_without_the_library_the_package_is_named(steering, monkeypatch):
    monkeypatch.setitem(sys.modules, "steering_vectors", None)  # an import of it fails
    with pytest.raises(InputError, match="pip install steering-vectors"):
        to_steering_vector(steering)


def test_only_plain_additions_leave(cfg):
    v = jnp.ones(cfg.dim)
    for edit in (steer(v, 0, operation="project_out"), steer(v, 0).masked(jnp.ones((1, 2), bool))):
        with pytest.raises(InputError, match="add one vector a layer"):
            extract_directions(edit)


@pytest.mark.parametrize(
    ("directions", "said"),
    [
        ({}, "x: holds no vectors"),
        ({0: np.ones(5, np.float32)}, "x: a vector of shape"),
        ({9: np.ones(12, np.float32)}, "x: layer 9 is out of range"),
        ({0: np.full(12, np.inf, np.float32)}, "x: the vector of layer 0 is not finite"),
    ],
)
def test_vectors_of_another_model_are_refused(cfg, directions, said):
    with pytest.raises(InputError, match=said):
        build_steering(directions, cfg, "x")
