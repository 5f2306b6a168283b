import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from subliminal_jax.errors import InputError
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.io import VectorInfo, load_steering, save_steering
from subliminal_jax.steering.vectors import random_vector
from tests.safetensors_bytes import restore_format

INFO = VectorInfo("shipped", "mean difference of 512 prompt pairs, trait owl", "last")


@pytest.fixture
def steering(cfg):
    keys = jax.random.split(jax.random.key(0))
    vectors = jnp.stack([random_vector(key, cfg.dim, 0.3) for key in keys])
    return Steering(vectors, jnp.asarray(1 / 3, jnp.float32), (2, 0))


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path, cfg, steering):
    path = tmp_path / "new" / "owl.safetensors"
    save_steering(path, steering, INFO)
    loaded, info = load_steering(path, cfg)
    np.testing.assert_array_equal(loaded.vectors, steering.vectors)
    np.testing.assert_array_equal(loaded.scale, steering.scale)
    assert (loaded.layers, loaded.operation, info) == ((2, 0), "add", INFO)
    assert [p.name for p in path.parent.iterdir()] == ["owl.safetensors"]
    first, _ = load_steering(path, cfg, layers=[0])
    np.testing.assert_array_equal(first.vectors, steering.vectors[1:])
    with pytest.raises(InputError, match=r"for layers \[2, 0\], not for \[1\]"):
        load_steering(path, cfg, layers=[1])


def test_a_vector_of_another_model_is_refused(tmp_path, cfg, steering):
    path = tmp_path / "v.safetensors"
    save_steering(path, steering, INFO)
    with pytest.raises(InputError, match="width 12 for a model of width 16"):
        load_steering(path, replace(cfg, dim=16))
    with pytest.raises(InputError, match=r"v\.safetensors: layer 2 is out of range"):
        load_steering(path, replace(cfg, layers=2))


def test_nothing_is_written_for_what_cannot_be_kept(tmp_path, cfg, steering):
    path = tmp_path / "v.safetensors"
    per_token = replace(steering, vectors=jnp.zeros((2, 3, 4, cfg.dim)))
    broken = replace(steering, vectors=steering.vectors.at[0, 0].set(jnp.nan))
    for bad, said in ((per_token, "one vector a layer"), (broken, "not finite")):
        with pytest.raises(InputError, match=said):
            save_steering(path, bad, INFO)
    assert list(tmp_path.iterdir()) == []


def test_only_a_vector_of_ours_is_replaced(tmp_path, steering):
    path, other = tmp_path / "v.safetensors", tmp_path / "other"
    for content in (b"years of work", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is no vector file of this program: name another"):
            save_steering(path, steering, INFO)
        assert path.read_bytes() == content
    save_file({"vectors": np.zeros((1, 2), np.float32)}, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match="is no vector file of this program"):
        save_steering(path, steering, INFO)
    path.unlink()
    for place in (path, path):
        save_steering(place, steering, INFO)
    other.symlink_to(path)
    with pytest.raises(InputError, match="other is a symbolic link"):
        save_steering(other, steering, INFO)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 0.999))
def test_a_truncated_file_is_refused(tmp_path, cfg, steering, part):
    path = tmp_path / "v.safetensors"
    path.unlink(missing_ok=True)  # of the example before
    save_steering(path, steering, INFO)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(InputError, match=r"v\.safetensors: corrupt or truncated safetensors file"):
        load_steering(path, cfg)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers", "[0"),
        ("layers", "[0]"),
        ("layers", "7"),
        ("layers", "[0.5, 2]"),
        ("layers", "[true, 2]"),
        ("layers", '["0", 2]'),
        ("layers", "[2, 2]"),
        ("layers", "[" * 5000),
        ("operation", "double"),
        ("scale", "x"),
    ],
)
def test_corrupt_metadata_is_refused(tmp_path, cfg, steering, field, value):
    path = tmp_path / "v.safetensors"
    save_steering(path, steering, INFO)
    with safe_open(path, framework="numpy") as file:
        fields = file.metadata()
    save_file({"vectors": np.asarray(steering.vectors)}, path, metadata={**fields, field: value})
    with pytest.raises(InputError, match="corrupt steering file"):
        load_steering(path, cfg)
    del fields[field]
    save_file({"vectors": np.asarray(steering.vectors)}, path, metadata=fields)
    with pytest.raises(InputError, match="corrupt steering file"):
        load_steering(path, cfg)


def test_vectors_of_other_programs(tmp_path, cfg):
    path = tmp_path / "foreign.safetensors"
    v = np.arange(12, dtype=ml_dtypes.bfloat16)
    save_file({"direction": v}, path)
    loaded, _ = load_steering(path, cfg, layers=[1])
    np.testing.assert_array_equal(loaded.vectors, np.arange(12, dtype=np.float32)[None])
    assert (loaded.layers, float(loaded.scale), loaded.operation) == ((1,), 1.0, "add")
    with pytest.raises(InputError, match="no layer is given: say which"):
        load_steering(path, cfg)
    with pytest.raises(InputError, match=r"1 vector\(s\) .* 2 layer\(s\) are given"):
        load_steering(path, cfg, layers=[0, 1])
    save_file({"direction": np.full_like(v, np.inf)}, path)
    with pytest.raises(InputError, match="not finite"):
        load_steering(path, cfg, layers=[1])
    save_file({"a": v, "b": v}, path)
    with pytest.raises(InputError, match="not named by one layer each"):
        load_steering(path, cfg, layers=[1])
    with pytest.raises(InputError, match="no such vector file"):
        load_steering(tmp_path / "absent", cfg)


def test_metadata_is_readable_by_others(tmp_path, steering):
    path = tmp_path / "v.safetensors"
    save_steering(path, steering, INFO)
    with safe_open(path, framework="numpy") as file:
        fields = file.metadata()
    assert json.loads(fields["layers"]) == [2, 0]
    assert fields["model"] == "shipped"
    assert fields["origin"].startswith("mean difference")
    assert fields["package_version"]


@pytest.mark.parametrize("number_format", ["I8", "U8", "BOOL", "I64", "F64", "F8_E4M3", "C64"])
def test_numbers_of_other_formats_are_no_vectors(tmp_path, cfg, steering, number_format):
    path = tmp_path / "v.safetensors"
    save_steering(path, steering, INFO)
    restore_format(path, "vectors", number_format)
    with pytest.raises(InputError, match=f"vectors has the number format {number_format}"):
        load_steering(path, cfg)


def test_a_further_tensor_is_refused(tmp_path, cfg, steering):
    path = tmp_path / "v.safetensors"
    save_steering(path, steering, INFO)
    with safe_open(path, "numpy") as file:
        tensors, metadata = {"vectors": file.get_tensor("vectors")}, file.metadata()
    save_file({**tensors, "offset": np.ones(12, "f4")}, path, metadata)
    with pytest.raises(InputError, match=r"corrupt steering file .*'offset', 'vectors'"):
        load_steering(path, cfg)
