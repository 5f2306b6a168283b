"""Trained adapters in folders: read back as written, read by PEFT, refused if they do not fit."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import save_model
from subliminal_jax.models.spec import init_params
from subliminal_jax.training.adapters import PROJECTIONS, LoRA, attach, init_trainable, merge
from subliminal_jax.training.adapters_io import CONFIG, WEIGHTS, load_adapter, save_adapter
from tests.models.families import VARIANTS
from tests.training.tiny import CFG

ADAPTERS = [LoRA(3, 6.0), LoRA(2, 5.0, ("q", "down"), (CFG.layers - 1,))]


def trained(adapter, cfg=CFG):
    """Factors that are all perturbed: at the start b is zero."""
    tree = init_trainable(jax.random.key(0), init_params(jax.random.key(1), cfg), cfg, adapter)
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    noisy = [x + jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, noisy)


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "adapter"
    save_adapter(folder, trained(ADAPTERS[0]), ADAPTERS[0], CFG, "hub/base")
    return folder


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["everywhere", "some"])
def test_what_is_saved_is_loaded_bit_for_bit(tmp_path, adapter):
    save_adapter(tmp_path / "a", trained(adapter), adapter, CFG, "base")
    loaded, loaded_adapter = load_adapter(tmp_path / "a", CFG, model="base")
    assert loaded_adapter == adapter
    jax.tree.map(np.testing.assert_array_equal, loaded, trained(adapter))
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_rank_stabilised_factors_keep_their_scale(tmp_path):
    """They are written as plain ones, whose alpha every reader of adapters understands."""
    adapter = LoRA(4, 6.0, rslora=True)
    save_adapter(tmp_path / "a", trained(adapter), adapter, CFG, "base")
    _, loaded = load_adapter(tmp_path / "a", CFG)
    assert loaded.scale == adapter.scale == 3.0


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["everywhere", "some"])
@pytest.mark.parity
def test_peft_gives_the_same_logits(tmp_path, adapter):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    params = init_params(jax.random.key(1), CFG, std=0.3)
    save_model(tmp_path / "model", params, CFG)
    save_adapter(tmp_path / "a", trained(adapter), adapter, CFG, "model")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokens = np.arange(1, 13).reshape(2, 6)
    with torch.no_grad():
        peft_logits = peft.PeftModel.from_pretrained(base, tmp_path / "a")(
            torch.tensor(tokens)
        ).logits
    adapted, _ = attach(params, load_adapter(tmp_path / "a", CFG)[0], CFG, adapter)
    ours, _ = forward(adapted, jnp.asarray(tokens, jnp.int32), CFG)
    np.testing.assert_allclose(ours, peft_logits.numpy(), atol=2e-4 * np.abs(ours).max())


@pytest.mark.parity
@pytest.mark.parametrize(
    ("family", "modules", "targets", "rank"),
    [
        ("phi3", {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}, PROJECTIONS, 6),
        ("phi3", {"qkv_proj", "gate_up_proj"}, ("k", "up"), 2),
        ("gpt_neox", {"query_key_value", "dense_4h_to_h"}, ("q", "v", "down"), 4),
    ],
)
def test_projections_of_one_matrix_are_adapted_as_in_peft(family, modules, targets, rank, tmp_path):
    """Both ways: PEFT merges what we write, and we what PEFT writes, into the same weights."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    cfg, adapter = VARIANTS[family], LoRA(2, 5.0, targets)
    params = init_params(jax.random.key(1), cfg, std=0.3)
    save_model(tmp_path / "model", params, cfg)
    load_base = transformers.AutoModelForCausalLM.from_pretrained

    def check(folder, merged_by_peft):
        student, read = load_adapter(folder, cfg)
        save_model(tmp_path / "merged", attach(params, student, cfg, read)[0], cfg)
        ours = load_base(tmp_path / "merged").state_dict()
        for name, theirs in merged_by_peft.state_dict().items():
            np.testing.assert_allclose(ours[name], theirs, atol=1e-5)
        return read

    save_adapter(tmp_path / "ours", trained(adapter, cfg), adapter, cfg, "model")
    said = json.loads((tmp_path / "ours" / CONFIG).read_text())
    assert (set(said["target_modules"]), said["r"]) == (modules, rank)
    base = load_base(tmp_path / "model")
    read = check(
        tmp_path / "ours",
        peft.PeftModel.from_pretrained(base, tmp_path / "ours").merge_and_unload(),
    )
    assert read.scale == adapter.scale
    ready = attach(params, trained(adapter, cfg), cfg, adapter)[0]
    same = attach(params, load_adapter(tmp_path / "ours", cfg)[0], cfg, read)[0]
    for one, other in zip(jax.tree.leaves(merge(ready)), jax.tree.leaves(merge(same)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)

    lora = peft.LoraConfig(
        r=3, lora_alpha=4, target_modules="all-linear", init_lora_weights=False, bias="none"
    )
    theirs = peft.get_peft_model(load_base(tmp_path / "model"), lora)
    theirs.save_pretrained(tmp_path / "theirs")
    read = check(tmp_path / "theirs", theirs.merge_and_unload())
    assert read.rank == 3 and len(read.targets) == (7 if cfg.gated else 6)


def test_a_projection_that_a_family_lacks_is_refused():
    with pytest.raises(InputError, match="targets q gate: models of the family gpt_neox have no g"):
        trained(LoRA(2, 5.0, ("q", "gate")), VARIANTS["gpt_neox"])
    assert "gate" not in trained(LoRA(2, 5.0), VARIANTS["gpt_neox"])["layers"]


def test_another_model_is_refused(saved):
    load_adapter(saved, CFG, model="elsewhere/base")
    with pytest.raises(InputError, match="an adapter of 'hub/base', and the model here is 'other'"):
        load_adapter(saved, CFG, model="other")
    with pytest.raises(InputError, match=f"rank 3 on a model of width {2 * CFG.dim} needs"):
        load_adapter(saved, replace(CFG, dim=2 * CFG.dim))
    with pytest.raises(InputError, match="has no base_model.model.model.layers"):
        load_adapter(saved, replace(CFG, layers=CFG.layers + 1))
    with pytest.raises(InputError, match="holds base_model.* no factor of its LoRA"):
        load_adapter(saved, replace(CFG, layers=1))


def edit(folder, **changes):
    config = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if v != "drop"}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 4}, "has the shape .*, and rank 4"),
        ({"r": "drop"}, "'r' is missing"),
        ({"r": 0}, "r must be a positive whole number"),
        ({"use_dora": True}, "use_dora=True is not supported"),
        ({"target_modules": ["q_proj", "wte"]}, "no such projections as \\['wte'\\]"),
        ({"layers_to_transform": [99]}, "layer 99 is out of range"),
        ({"peft_type": "IA3"}, "not the configuration of a LoRA"),
        ({"bias": "all"}, "no biases are trained"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(saved, changes, said):
    edit(saved, **changes)
    with pytest.raises(InputError, match=said):
        load_adapter(saved, CFG)


def test_corrupt_folders_are_refused(saved, tmp_path):
    with pytest.raises(InputError, match="no adapter here"):
        load_adapter(tmp_path / "absent", CFG)
    tensors = load_file(saved / WEIGHTS)
    name = min(tensors)
    save_file({**tensors, name: np.full_like(tensors[name], np.nan)}, saved / WEIGHTS)
    with pytest.raises(InputError, match=f"{name} is not finite"):
        load_adapter(saved, CFG)
    data = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="corrupt or truncated safetensors file"):
        load_adapter(saved, CFG)
    (saved / WEIGHTS).unlink()
    with pytest.raises(InputError, match="is the adapter complete"):
        load_adapter(saved, CFG)
    (saved / CONFIG).write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        load_adapter(saved, CFG)


def test_nothing_is_written_for_what_does_not_fit(tmp_path):
    adapter = ADAPTERS[0]
    for tree, said in (
        (trained(LoRA(2, 6.0)), "the factors of q have the shapes"),
        (jax.tree.map(lambda x: x * jnp.nan, trained(adapter)), "not finite"),
    ):
        with pytest.raises(InputError, match=said):
            save_adapter(tmp_path / "a", tree, adapter, CFG, "base")
    assert list(tmp_path.iterdir()) == []
