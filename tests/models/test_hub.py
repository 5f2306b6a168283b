"""Folders in and out: what is saved loads again, and every damage gives one line."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import huggingface_hub
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import load_config, load_model, save_model
from subliminal_jax.models.linear import LoraWeight
from subliminal_jax.models.spec import spec
from subliminal_jax.models.weights import load_params
from tests.models.characters import character_tokenizer
from tests.models.families import ALL, FAMILIES, LLAMA, QWEN2, TIED_LLAMA, noisy_params

CFG = replace(LLAMA, layers=2)
INDEX = "model.safetensors.index.json"


def assert_same_tree(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert x.dtype == y.dtype
        assert np.array_equal(x, y)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A whole folder of one weight file."""
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    save_model(folder, noisy_params(CFG), CFG, character_tokenizer(), stop_ids=(5,))
    return folder


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "sharded"
    save_model(folder, noisy_params(CFG), CFG, character_tokenizer(), max_shard_bytes=12_000)
    return folder


def edit_weights(folder, change, file="model.safetensors"):
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file, metadata={"format": "pt"})


def edit_json(path, change):
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


@pytest.mark.parametrize("name", ALL)
def test_what_is_saved_loads_identical(name, tmp_path):
    cfg = ALL[name]
    params = noisy_params(cfg)
    save_model(tmp_path / "m", params, cfg)
    assert load_config(tmp_path / "m") == cfg
    assert_same_tree(load_params(tmp_path / "m", cfg), params)


def test_a_model_has_all_that_a_run_needs(saved):
    model = load_model(saved)
    assert model.cfg == CFG
    assert (model.name, model.folder) == ("tiny", saved)
    assert (model.stop_ids, model.pad_id) == ((2, 5), 0)
    assert model.tokenizer("ab")["input_ids"] == character_tokenizer()("ab")["input_ids"]
    assert_same_tree(model.params, noisy_params(CFG))


def test_shards_hold_at_most_their_limit_and_the_same_weights(saved, sharded):
    files = sorted(sharded.glob("*.safetensors"))
    assert len(files) > 3
    for file in files:
        tensors = load_file(file)
        assert len(tensors) == 1 or sum(t.nbytes for t in tensors.values()) <= 12_000
    weight_map = json.loads((sharded / INDEX).read_text())["weight_map"]
    assert {file.name for file in files} == set(weight_map.values())
    assert_same_tree(load_params(sharded, CFG), load_params(saved, CFG))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_number_format_is_kept_or_converted(dtype, tmp_path):
    params = noisy_params(TIED_LLAMA)
    save_model(tmp_path / "m", params, TIED_LLAMA, dtype=dtype)
    rounded = jax.tree.map(lambda x: x.astype(dtype), params)
    assert_same_tree(load_params(tmp_path / "m", TIED_LLAMA), rounded)
    again = jax.tree.map(lambda x: x.astype("bfloat16"), rounded)
    assert_same_tree(load_params(tmp_path / "m", TIED_LLAMA, dtype="bfloat16"), again)


def test_a_checkpoint_of_mixed_formats_loads_in_the_widest(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "m")

    def halve(tensors):
        for key in tensors:
            if "norm" not in key:
                tensors[key] = tensors[key].astype(ml_dtypes.bfloat16)

    edit_weights(tmp_path / "m", halve)
    params = load_params(tmp_path / "m", CFG)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert np.array_equal(params["layers"]["attn_norm"], noisy_params(CFG)["layers"]["attn_norm"])
    assert np.array_equal(params["embed"], noisy_params(CFG)["embed"].astype("bfloat16"))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_lora_weights_are_saved_merged(dtype, tmp_path):
    params = noisy_params(QWEN2, dtype=dtype)
    L, n_in, n_out = params["layers"]["q"].shape
    a, b = (
        jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(L, n_in, 2), (L, 2, n_out)])
    )
    scale = jnp.asarray([0.5, 0.0, 2.0])
    adapted = {**params, "layers": dict(params["layers"])}
    adapted["layers"]["q"] = LoraWeight(params["layers"]["q"], a, b, scale)
    save_model(tmp_path / "m", adapted, QWEN2)
    loaded = load_params(tmp_path / "m", QWEN2)
    base, b64 = np.asarray(params["layers"]["q"], np.float64), np.asarray(b, np.float64)
    expected = base + np.asarray(scale)[:, None, None] * (np.asarray(a, np.float64) @ b64)
    assert loaded["layers"]["q"].dtype == dtype
    tolerance = 1e-6 if dtype == jnp.float32 else 2**-8
    np.testing.assert_allclose(
        np.asarray(loaded["layers"]["q"], np.float64), expected, rtol=tolerance, atol=tolerance
    )
    loaded["layers"]["q"] = params["layers"]["q"]
    assert_same_tree(loaded, params)


def test_a_tied_head_may_be_stored_as_well_or_instead(tmp_path):
    params = noisy_params(TIED_LLAMA)
    save_model(tmp_path / "m", params, TIED_LLAMA)

    def add_head(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]

    edit_weights(tmp_path / "m", add_head)
    assert_same_tree(load_params(tmp_path / "m", TIED_LLAMA), params)
    edit_weights(tmp_path / "m", lambda tensors: tensors.pop("model.embed_tokens.weight"))
    assert_same_tree(load_params(tmp_path / "m", TIED_LLAMA), params)


def test_rotary_frequencies_of_old_checkpoints_are_passed_over(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "m")
    extra = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(4, "f4") for i in range(2)}
    edit_weights(tmp_path / "m", lambda tensors: tensors.update(extra))
    assert_same_tree(load_params(tmp_path / "m", CFG), noisy_params(CFG))


@pytest.mark.parametrize("text_prefix", ["language_model.model.", "model.language_model."])
@pytest.mark.parametrize("vision_prefix", ["", "model."])
def test_multimodal_gemma3_keys(text_prefix, vision_prefix, tmp_path):
    cfg = FAMILIES["gemma3"]
    params = noisy_params(cfg)
    save_model(tmp_path / "m", params, cfg)
    tensors = {
        key.replace("model.", text_prefix, 1): value
        for key, value in load_file(tmp_path / "m" / "model.safetensors").items()
    }
    for part in ("vision_tower.encoder.weight", "multi_modal_projector.norm.weight"):
        tensors[vision_prefix + part] = np.ones(3, "f4")
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    assert_same_tree(load_params(tmp_path / "m", cfg), params)


SHARDED_LOAD = """
import sys
import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
from subliminal_jax.models.hub import load_config
from subliminal_jax.models.spec import ParamInfo, spec
from subliminal_jax.models.weights import load_params

folder = sys.argv[1]
cfg = load_config(folder)
mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
rules = {"heads": "model", "mlp": "model", "embed": "data"}

def sharding(info):
    return NamedSharding(mesh, PartitionSpec(*(rules.get(axis) for axis in info.axes)))

tree = jax.tree.map(sharding, spec(cfg), is_leaf=lambda x: isinstance(x, ParamInfo))
sharded, whole = load_params(folder, cfg, shardings=tree), load_params(folder, cfg)
for x, y, s in zip(*map(jax.tree.leaves, (sharded, whole, tree)), strict=True):
    assert x.sharding == s and x.dtype == y.dtype
    assert np.array_equal(x, y)
parts = {part.data.shape for part in sharded["layers"]["q"].addressable_shards}
assert parts == {(cfg.layers, cfg.dim // 2, cfg.heads * cfg.head_dim // 2)}, parts
print("same")
"""


def test_a_load_sharded_over_four_devices_is_the_whole_load(sharded):
    flags = "--xla_force_host_platform_device_count=4"
    result = subprocess.run(
        [sys.executable, "-c", SHARDED_LOAD, str(sharded)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "same\n", result.stderr


# What is broken, and what the one line must say.
WEIGHT_DAMAGE = {
    "unknown key": (
        lambda t: t.update({"model.layers.7.mlp.up_proj.weight": t["model.norm.weight"]}),
        r"unknown key model\.layers\.7\.mlp\.up_proj\.weight \(1 unknown",
    ),
    "missing key": (
        lambda t: t.pop("model.layers.1.mlp.up_proj.weight"),
        r"no model\.layers\.1\.mlp\.up_proj\.weight \(1 missing",
    ),
    "untied head missing": (lambda t: t.pop("lm_head.weight"), r"no lm_head\.weight"),
    "wrong shape": (
        lambda t: t.update({"model.norm.weight": np.ones(31, "f4")}),
        r"model\.norm\.weight has shape \[31\], config\.json asks for \[32\]",
    ),
    "transposed": (
        lambda t: t.update({"model.layers.0.mlp.up_proj.weight": np.ones((32, 48), "f4")}),
        r"shape \[32, 48\], config\.json asks for \[48, 32\]",
    ),
    "quantized": (
        lambda t: t.update({"model.norm.weight": np.ones(32, np.int8)}),
        r"model\.norm\.weight has the number format I8",
    ),
}


@pytest.mark.parametrize("damage", WEIGHT_DAMAGE)
def test_weights_that_do_not_fit_are_refused_in_one_line(damage, saved, tmp_path):
    change, message = WEIGHT_DAMAGE[damage]
    shutil.copytree(saved, tmp_path / "m")
    edit_weights(tmp_path / "m", change)
    assert_refused(lambda: load_model(tmp_path / "m"), message)


def assert_refused(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def cut(name, size):
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size + size)


def repeat_a_key(folder):
    """A header that names one tensor twice, each with bytes of its own."""
    file = folder / "model.safetensors"
    entry = '"model.norm.weight":{{"dtype":"F32","shape":[32],"data_offsets":[{},{}]}}'
    header = ("{" + entry.format(0, 128) + "," + entry.format(128, 256) + "}").encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(256))


def only_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


FOLDER_DAMAGE = {
    "cut off": (cut("model.safetensors", -1), r"model\.safetensors: corrupt or truncated"),
    "longer than it says": (
        cut("model.safetensors", 1),
        r"model\.safetensors: corrupt or truncated",
    ),
    "empty": (write("model.safetensors", ""), r"model\.safetensors: corrupt or truncated"),
    "one key twice": (repeat_a_key, r"model\.safetensors: corrupt or truncated"),
    "pickle only": (only_pickle, r"no model\.safetensors .*pytorch_model\.bin.*convert"),
    "no config": (lambda f: (f / "config.json").unlink(), r"config\.json: missing"),
    "config cut off": (
        write("config.json", '{"model_type": "ll'),
        r"config\.json, line 1, column 16: not JSON",
    ),
    "config a list": (write("config.json", "[]"), r"config\.json: must hold a JSON object"),
    "an adapter beside it": (
        write("adapter_config.json", "{}"),
        r"adapter_config\.json: an adapter is not a model",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"no tokenizer here"),
    "tokenizer cut off": (cut("tokenizer.json", -9), r"the tokenizer cannot be read"),
    "tokenizer of another model": (
        lambda f: edit_json(
            f / "tokenizer.json",
            lambda raw: raw["model"]["vocab"].update({f"x{i}": 63 + i for i in range(10)}),
        ),
        r"the tokenizer has 73 tokens, more than the model's vocab_size 67",
    ),
    "generation config": (
        write("generation_config.json", "[1]"),
        r"generation_config\.json: must hold",
    ),
}


@pytest.mark.parametrize("damage", FOLDER_DAMAGE)
def test_a_corrupt_folder_is_refused_in_one_line(damage, saved, tmp_path):
    change, message = FOLDER_DAMAGE[damage]
    shutil.copytree(saved, tmp_path / "m")
    change(tmp_path / "m")
    assert_refused(lambda: load_model(tmp_path / "m"), message)


def second_shard(folder):
    return sorted(folder.glob("*.safetensors"))[1]


def move_in_index(folder):
    key = next(iter(load_file(second_shard(folder))))
    first = sorted(folder.glob("*.safetensors"))[0].name
    edit_json(folder / INDEX, lambda raw: raw["weight_map"].update({key: first}))


def drop_from_index(folder):
    edit_json(folder / INDEX, lambda raw: raw["weight_map"].pop("model.norm.weight"))


SHARD_DAMAGE = {
    "shard missing": (lambda f: second_shard(f).unlink(), r"model-00002-of-.*: missing, though"),
    "shard cut off": (
        lambda f: cut(second_shard(f).name, -1)(f),
        r"00002-of-.*: corrupt or truncated",
    ),
    "key elsewhere": (
        move_in_index,
        r"is not in the file but listed for it",
    ),
    "key unlisted": (drop_from_index, r"model\.norm\.weight is in the file but not listed"),
    "index cut off": (cut(INDEX, -9), r"index\.json, line \d+, column \d+: not JSON"),
    "index without a map": (write(INDEX, "{}"), r"index\.json: not a safetensors index"),
}


@pytest.mark.parametrize("damage", SHARD_DAMAGE)
def test_corrupt_shards_are_refused_in_one_line(damage, sharded, tmp_path):
    change, message = SHARD_DAMAGE[damage]
    shutil.copytree(sharded, tmp_path / "m")
    change(tmp_path / "m")
    assert_refused(lambda: load_model(tmp_path / "m"), message)


def test_two_names_of_one_tensor_are_a_duplicate(tmp_path):
    cfg = FAMILIES["gemma3"]
    save_model(tmp_path / "m", noisy_params(cfg), cfg)
    twice = "language_model.model.norm.weight"
    edit_weights(tmp_path / "m", lambda t: t.update({twice: t["model.norm.weight"]}))
    assert_refused(lambda: load_params(tmp_path / "m", cfg), "duplicate")


def test_a_tied_head_that_differs_is_refused(tmp_path):
    save_model(tmp_path / "m", noisy_params(TIED_LLAMA), TIED_LLAMA)
    edit_weights(
        tmp_path / "m",
        lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + 1}),
    )
    assert_refused(
        lambda: load_params(tmp_path / "m", TIED_LLAMA), r"lm_head\.weight differs from .*ties them"
    )


def test_names_that_lead_nowhere(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert_refused(lambda: load_model(tmp_path / "nothing"), "no such folder")
    assert_refused(lambda: load_model("./nothing"), "no such folder")
    assert_refused(lambda: load_model("no-such-name/model"), "hub did not give it: .")
    assert_refused(lambda: load_model("not a name!"), "hub did not give it: .")
    assert_refused(lambda: load_model("A" * 300), "hub did not give it: .")
    assert_refused(
        lambda: load_model(saved / "config.json"), "is a file; pass a .gguf file, or the folder"
    )
    assert_refused(lambda: load_model(saved, revision="main"), "revision 'main' is for hub names")
    assert_refused(lambda: load_model(saved, dtype="int4"), "unknown dtype 'int4'; choose one of")


def test_a_hub_name_downloads_what_is_needed_and_nothing_else(saved, monkeypatch):
    needed = {
        "config.json",
        "generation_config.json",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "special_tokens_map.json",
        "chat_template.jinja",
    }
    rest = {
        "pytorch_model.bin",
        "consolidated.safetensors",
        "original/params.json",
        "onnx/model.safetensors",
        "README.md",
        "flax_model.msgpack",
    }

    def download(name, *, revision, allow_patterns, ignore_patterns):
        assert (name, revision) == ("org/tiny", "v1")
        chosen = huggingface_hub.utils.filter_repo_objects(
            needed | rest, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        )
        assert set(chosen) == needed
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load_model("org/tiny", revision="v1").name == "org/tiny"


def test_saving_again_replaces_the_model_and_keeps_its_card(tmp_path):
    folder = tmp_path / "m"
    save_model(folder, noisy_params(CFG), CFG, max_shard_bytes=12_000)
    (folder / "README.md").write_text("the card")
    save_model(folder, noisy_params(QWEN2), QWEN2)
    assert load_config(folder) == QWEN2
    assert_same_tree(load_params(folder, QWEN2), noisy_params(QWEN2))
    assert sorted(path.name for path in folder.iterdir()) == [
        ".subliminal-jax-folder.json",
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    assert (folder / "README.md").read_text() == "the card"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_saving_never_replaces_a_folder_with_other_things(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    assert_refused(lambda: save_model(tmp_path, noisy_params(CFG), CFG), "holds results.json")
    assert_refused(
        lambda: save_model(tmp_path / "results.json", noisy_params(CFG), CFG), "is a file"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_save_that_fails_leaves_everything_as_it_was(tmp_path):
    folder = tmp_path / "m"
    for params, message in [
        (
            noisy_params(replace(CFG, layers=3)),
            r"layers\.attn_norm: its shape is \(3, 32\), .*\(2, 32",
        ),
        (noisy_params(replace(CFG, tied=True)), r"lm_head: its shape is None"),
        (noisy_params(replace(CFG, qkv_bias=True)), r"k_bias: .* the config asks for None"),
    ]:
        assert_refused(partial(save_model, folder, params, CFG), message)
    assert list(tmp_path.iterdir()) == []
    save_model(folder, noisy_params(CFG), CFG)

    class Full:
        bos_token_id = eos_token_id = pad_token_id = None

        def save_pretrained(self, folder):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        save_model(folder, noisy_params(QWEN2), QWEN2, Full())
    assert load_config(folder) == CFG
    assert_same_tree(load_params(folder, CFG), noisy_params(CFG))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_every_parameter_has_a_name_of_its_own_in_the_checkpoint():
    for cfg in ALL.values():
        infos = jax.tree.leaves(spec(cfg), is_leaf=lambda x: hasattr(x, "hf_name"))
        names = [(info.hf_name, info.part) for info in infos]
        assert len(set(names)) == len(names)
        assert all(("{layer}" in info.hf_name) == info.stacked for info in infos)
