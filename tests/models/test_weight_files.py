"""Weight files of a model folder: number formats, values that are not finite, indices that point
elsewhere. Every refusal is one line that names the file and the tensor."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import save_model
from subliminal_jax.models.weights import INDEX, SINGLE, load_params
from tests.models.families import LLAMA, TIED_LLAMA, noisy_params
from tests.safetensors_bytes import FORMATS, restore_format

NAME = "model.layers.1.mlp.up_proj.weight"
FLOATS = ("F32", "BF16", "F16")


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single") / "m"
    save_model(folder, noisy_params(LLAMA), LLAMA)
    return folder


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded") / "m"
    save_model(folder, noisy_params(LLAMA), LLAMA, max_shard_bytes=30_000)
    return folder


@pytest.fixture
def folder(single, tmp_path):
    return shutil.copytree(single, tmp_path / "m")


def assert_refused(folder, message, cfg=LLAMA, dtype="float32"):
    with pytest.raises(InputError, match=message) as error:
        load_params(folder, cfg, dtype=dtype)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
@pytest.mark.parametrize("number_format", sorted(FORMATS.keys() - set(FLOATS)))
def test_a_stored_format_is_refused_whatever_is_asked_for(number_format, dtype, folder):
    restore_format(folder / SINGLE, NAME, number_format)
    assert_refused(folder, f"{NAME} has the number format {number_format}", dtype=dtype)


def test_formats_that_are_read_may_be_mixed(folder):
    tensors = load_file(folder / SINGLE)
    tensors[NAME] = tensors[NAME].astype(ml_dtypes.bfloat16)
    tensors["lm_head.weight"] = tensors["lm_head.weight"].astype(np.float16)
    save_file(tensors, folder / SINGLE)
    params = load_params(folder, LLAMA)  # bfloat16 and float16 have no common format but float32
    assert params["layers"]["up"].dtype == np.float32
    assert np.array_equal(params["layers"]["up"][1], tensors[NAME].astype(np.float32).T)
    assert np.array_equal(params["lm_head"], tensors["lm_head.weight"].astype(np.float32).T)


def test_a_stored_head_of_a_tied_model_is_checked_too(tmp_path):
    save_model(tmp_path / "m", noisy_params(TIED_LLAMA), TIED_LLAMA)
    file = tmp_path / "m" / SINGLE
    tensors = load_file(file)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]}, file)
    restore_format(file, "lm_head.weight", "I8")
    assert_refused(tmp_path / "m", "lm_head.weight has the number format I8", TIED_LLAMA)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [NAME, "model.norm.weight", "model.embed_tokens.weight"])
def test_a_weight_that_is_not_finite_is_named(name, value, folder):
    tensors = load_file(folder / SINGLE)
    tensors[name].flat[-1] = value
    save_file(tensors, folder / SINGLE)
    assert_refused(folder, f"{SINGLE}: {name} has weights that are infinite or NaN")


def test_a_weight_too_large_for_the_format_asked_for_is_named(folder):
    tensors = load_file(folder / SINGLE)
    tensors[NAME][0, 0] = 7e4  # float16 ends at 65,504
    save_file(tensors, folder / SINGLE)
    assert_refused(folder, f"{NAME} has values too large for float16", dtype="float16")
    load_params(folder, LLAMA, dtype="bfloat16")


QUANTISED = {
    "bitsandbytes": {"model.layers.1.mlp.up_proj.weight.absmax": np.ones(24, "f4")},
    "GPTQ": {
        f"model.layers.1.mlp.up_proj.{part}": np.ones((4, 48), "i4")
        for part in ("qweight", "qzeros", "g_idx")
    },
    "fp8": {"model.layers.1.mlp.up_proj.weight_scale_inv": np.ones((1, 1), "f4")},
    "compressed-tensors": {
        "model.layers.1.mlp.up_proj.weight_packed": np.ones((48, 4), "i4"),
        "model.layers.1.mlp.up_proj.weight_scale": np.ones((48, 1), "f2"),
    },
    "mxfp4": {"model.layers.1.mlp.up_proj_blocks": np.ones((48, 16), "u1")},
}


@pytest.mark.parametrize("method", QUANTISED)
def test_scales_and_packed_tensors_are_refused_though_no_config_says_so(method, folder):
    tensors = load_file(folder / SINGLE) | QUANTISED[method]
    save_file(tensors, folder / SINGLE)
    assert_refused(folder, "unknown key model.layers.1.mlp.up_proj")


def edit_index(folder, change):
    raw = json.loads((folder / INDEX).read_text())
    change(raw["weight_map"])
    (folder / INDEX).write_text(json.dumps(raw))


@pytest.mark.parametrize(
    "name",
    [
        "../m2/{}",
        "{folder}/{}",
        "./{}",
        "sub/{}",
        "a\\{}",
        "..",
        "",
        "\0{}",
        "A" * 300,
        5,
        None,
        ["{}"],
    ],
)
def test_an_index_that_points_elsewhere_is_refused(name, sharded, tmp_path):
    folder = shutil.copytree(sharded, tmp_path / "m")
    shutil.copytree(sharded, tmp_path / "m2")
    file = json.loads((folder / INDEX).read_text())["weight_map"][NAME]
    if isinstance(name, str):
        name = name.format(file, folder=folder)
    edit_index(folder, lambda m: m.update({k: name for k, v in m.items() if v == file}))
    assert_refused(
        folder, r"not the name of a file beside it|not a safetensors index|not a file|: missing"
    )


def test_shards_may_be_links_as_in_the_cache_of_the_hub(sharded, tmp_path):
    (tmp_path / "blobs").mkdir()
    folder = tmp_path / "snapshot"
    folder.mkdir()
    for i, file in enumerate(sorted(sharded.iterdir())):
        shutil.copy(file, tmp_path / "blobs" / str(i))
        (folder / file.name).symlink_to(tmp_path / "blobs" / str(i))
    params = load_params(folder, LLAMA)
    assert np.array_equal(params["layers"]["up"], noisy_params(LLAMA)["layers"]["up"])
    (folder / sorted(sharded.glob("*.safetensors"))[0].name).unlink()
    (folder / sorted(sharded.glob("*.safetensors"))[0].name).symlink_to(tmp_path / "nowhere")
    assert_refused(folder, "missing, though")


def test_a_tensor_in_two_shards_is_refused(sharded, tmp_path):
    folder = shutil.copytree(sharded, tmp_path / "m")
    first, second = sorted(folder.glob("*.safetensors"))[:2]
    name = min(load_file(second))
    save_file({**load_file(first), name: load_file(second)[name]}, first)
    assert_refused(folder, f"{name} is in the file but not listed for it")


def test_files_that_the_index_does_not_list_are_not_read(sharded, tmp_path):
    folder = shutil.copytree(sharded, tmp_path / "m")
    (folder / "model-00009-of-00009.safetensors").write_bytes(b"of another save")
    params = load_params(folder, LLAMA)
    assert np.array_equal(params["embed"], noisy_params(LLAMA)["embed"])


def test_of_a_single_file_and_an_index_the_single_file_is_read_as_in_transformers(
    single, sharded, tmp_path
):
    folder = shutil.copytree(sharded, tmp_path / "m")
    tensors = load_file(single / SINGLE)
    tensors["model.norm.weight"] += 1
    save_file(tensors, folder / SINGLE)
    params = load_params(folder, LLAMA)
    assert np.array_equal(params["final_norm"], noisy_params(LLAMA)["final_norm"] + 1)
