"""Every option of PEFT's LoraConfig: read to PEFT's own logits, or refused by name."""

import copy
import dataclasses
import functools
import json
import tempfile
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import save_model
from subliminal_jax.models.spec import init_params, spec
from subliminal_jax.training.adapters import LoRA, attach, init_trainable
from subliminal_jax.training.adapters_io import CONFIG, WEIGHTS, load_adapter, save_adapter
from tests.safetensors_bytes import FORMATS, restore_format
from tests.training.tiny import CFG

LAYERS = "model.layers"
Q_AND_DOWN = (f"{LAYERS}.0.self_attn.q_proj", f"{LAYERS}.0.mlp.down_proj")


@functools.cache
def adapter_files(adapter):
    """The files of an adapter with noise on all factors, by name."""
    tree = init_trainable(jax.random.key(0), init_params(jax.random.key(1), CFG), CFG, adapter)
    leaves, structure = jax.tree.flatten(tree)
    rng = np.random.default_rng(0)
    noisy = [np.asarray(x) + rng.normal(scale=0.3, size=x.shape).astype("f4") for x in leaves]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "adapter"
        save_adapter(folder, jax.tree.unflatten(structure, noisy), adapter, CFG, "base")
        return {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}


def write_adapter(folder, adapter=LoRA(2, 6.0), changes=None):
    """An adapter in `folder`; `changes` to its configuration, where "DROP" drops a key."""
    files = adapter_files(adapter)
    config = json.loads(files[CONFIG]) | (changes or {})
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(files[WEIGHTS])
    (folder / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if v != "DROP"}))
    return folder


TWO = LoRA(3, 7.0, ("q", "down"))
TWO_FIRST, V_LAST = LoRA(3, 7.0, ("q", "down"), (0,)), LoRA(3, 7.0, ("v",), (1,))

# Options with values that are not PEFT's default and make no difference, or one that is read.
LOADED = {
    "task_type": [None],
    "auto_mapping": [{"base_model_class": "LlamaForCausalLM", "parent_library": "transformers"}],
    "peft_version": ["0.3.0", None],
    "base_model_name_or_path": ["hub/base", None, ""],
    "revision": ["main"],
    "inference_mode": [False],
    "lora_alpha": [1, 5.5],
    "lora_dropout": [0.3, 1],
    "use_rslora": [True],
    "init_lora_weights": [False, "gaussian", "orthogonal", "mica", "eva"],
    "target_modules": [
        "all-linear",
        "All-Linear",
        r".*\.(q|k|v|o|gate|up|down)_proj",
        r"(?:.*?(?:self_attn|mlp).*?(?:q|k|v)_proj.*?)|(?:\bmodel\.layers\.[\d]{1,}\.\w+\.\w+_proj)",
    ],
    "exclude_modules": [["lm_head"], "lm_head"],
    "layers_to_transform": [[0, 1], [1, 0, 1], []],
    "layers_pattern": [[], ""],
    "eva_config": [{"rho": 3.0}],
    "megatron_core": ["mine.core"],
    "qalora_group_size": [8],
    "fan_in_fan_out": [None],
    "modules_to_save": [[]],
    "loftq_config": [None],
    "use_dora": [None],
}
# Options with values that change what the adapter is, and PEFT's own defaults need not be in here.
REFUSED = {
    "task_type": ["SEQ_CLS", "TOKEN_CLS", 3],
    "peft_type": ["IA3", "XLORA", None, ["LORA"]],
    "base_model_name_or_path": [["base"]],
    "r": [0, -2, True, "2", 2.0, None, 10**12, "DROP"],
    "lora_alpha": [0, -4, "8", True, None, 1e300, [8], "DROP"],
    "lora_dropout": ["0.1", -0.1, 2, True],
    "fan_in_fan_out": [True],
    "bias": ["all", "lora_only", True],
    "use_rslora": ["true", 1],
    "target_modules": [["q_proj", "wte"], "lm_head", "(", 3, ["q_proj", 3], [], "", None, "DROP"],
    "exclude_modules": [3, r".*0\.mlp.*", ["0.self_attn.q_proj"]],
    "modules_to_save": [["lm_head"]],
    "init_lora_weights": [
        "pissa",
        "pissa_niter_4",
        "olora",
        "OLoRA",
        "corda",
        "loftq",
        "lora_ga",
        "new",
        3,
        ["pissa"],
    ],
    "layers_to_transform": [[0, 9], [True], "0", [0.0], -1, [None], {"0": 1}],
    "layers_pattern": ["h", ["blocks"]],
    "rank_pattern": [{"q_proj": 4}],
    "alpha_pattern": [{"q_proj": 4}],
    "megatron_config": [{"hidden_size": 1}],
    "trainable_token_indices": [[1], {"embed_tokens": [1]}],
    "loftq_config": [{"loftq_bits": 4}],
    "corda_config": [{"corda_method": "ipm"}],
    "lora_ga_config": [{"scale": "unit"}],
    "use_dora": [True, 1, "yes"],
    "velora_config": [{"num_groups": 2}],
    "alora_invocation_tokens": [[], [1, 2]],
    "use_qalora": [True],
    "monteclora_config": [{"num_samples": 2}],
    "layer_replication": [[[0, 1], [0, 2]]],
    "lora_bias": [True],
    "target_parameters": [["q_proj.weight"]],
    "use_bdlora": [{"nblocks": 2}],
    "arrow_config": [{}, {"top_k": 1}],
    "kasa_config": [{}, {"beta": 1.0}],
    "ensure_weight_tying": [True],
    "an_option_of_tomorrow": [True, 0, "on", "", {}, {"a": 1}],
}


PARAMS = init_params(jax.random.key(1), CFG, std=0.3)
TOKENS = np.arange(1, 13).reshape(2, 6)
our_forward = jax.jit(forward, static_argnums=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A function that gives a fresh torch model of `PARAMS`."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("base") / "m"
    save_model(folder, PARAMS, CFG)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return lambda: copy.deepcopy(model)


def load_in_peft(base, folder):
    peft = pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing and superfluous options
        return peft.PeftModel.from_pretrained(base(), folder)


def assert_same_logits(base, folder):
    torch = pytest.importorskip("torch")
    trainable, adapter = load_adapter(folder, CFG)
    ours, _ = our_forward(attach(PARAMS, trainable, CFG, adapter)[0], jnp.asarray(TOKENS), CFG)
    with torch.no_grad():
        theirs = load_in_peft(base, folder)(torch.tensor(TOKENS)).logits.numpy()
    np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())


def assert_same_weights(base, folder):
    """Compare every merged weight: as strict as logits, without compiling a forward pass."""
    trainable, adapter = load_adapter(folder, CFG)
    layers = range(CFG.layers) if adapter.layers is None else adapter.layers
    theirs = load_in_peft(base, folder).merge_and_unload().state_dict()
    for name, info in spec(CFG)["layers"].items():
        ours = np.array(PARAMS["layers"][name])
        for i, layer in enumerate(layers if name in adapter.targets else ()):
            a, b = (np.asarray(trainable["layers"][name][which][i]) for which in "ab")
            ours[layer] += adapter.scale * a @ b
            assert np.abs(a @ b).max() > 0.01
        for layer in range(CFG.layers):
            expected = theirs[info.hf_name.format(layer=layer)].numpy()
            actual = ours[layer].T if info.transposed else ours[layer]
            np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option in LOADED for value in LOADED[option]]
)
def test_what_is_read_gives_the_logits_of_peft(option, value, base, tmp_path):
    if option == "layers_pattern":
        changes = {option: value, "layers_to_transform": [0, 1]}
    else:
        changes = {option: value}
    assert_same_logits(base, write_adapter(tmp_path / "a", changes=changes))


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option in REFUSED for value in REFUSED[option]]
)
def test_everything_else_is_refused_by_name(option, value, tmp_path):
    folder = write_adapter(tmp_path / "a", changes={option: value})
    name = option
    if option == "exclude_modules" and value != 3:
        name = "_proj is adapted in some layers, but not in layer 0"
    with pytest.raises(InputError, match=name) as error:
        load_adapter(folder, CFG)
    assert str(error.value).isprintable()
    assert str(error.value).startswith(str(folder))


@pytest.mark.parity
def test_every_option_of_peft_is_tried():
    peft = pytest.importorskip("peft")
    options = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert options - {"runtime_config"} <= LOADED.keys() | REFUSED.keys()  # which is never written


@pytest.mark.parity
@pytest.mark.parametrize(
    ("adapter", "changes"),
    [
        (TWO, {"target_modules": [*Q_AND_DOWN, "1.self_attn.q_proj", "1.mlp.down_proj"]}),
        (TWO_FIRST, {"target_modules": list(Q_AND_DOWN), "layers_to_transform": [1]}),
        (
            TWO_FIRST,
            {"target_modules": r"model\.layers\.0\..*(q|down)_proj", "layers_to_transform": None},
        ),
        (V_LAST, {"layers_to_transform": 1}),
        (V_LAST, {"layers_to_transform": [1, 1], "layers_pattern": "layers"}),
        (V_LAST, {"layers_to_transform": None, "exclude_modules": ["0.self_attn.v_proj"]}),
        (V_LAST, {"layers_to_transform": None, "exclude_modules": r".*\.0\..*"}),
        (LoRA(4, 3.0, ("k",)), {"use_rslora": True}),
    ],
)
def test_modules_are_matched_as_peft_matches_them(adapter, changes, base, tmp_path):
    folder = write_adapter(tmp_path / "a", adapter, changes)
    assert_same_weights(base, folder)
    assert load_adapter(folder, CFG)[1].targets == adapter.targets


@pytest.mark.parity
def test_an_adapter_that_began_as_pissa_is_read_where_peft_converted_it(base, tmp_path):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=["q_proj", "up_proj"], init_lora_weights="pissa"
    )
    model = peft.get_peft_model(base(), config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = "pissa"
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "trained")
    with pytest.raises(InputError, match="init_lora_weights='pissa' .* plain LoRA"):
        load_adapter(tmp_path / "trained", CFG)
    model.save_pretrained(
        tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    assert_same_weights(base, tmp_path / "plain")


def test_a_regular_expression_that_never_ends_is_refused(tmp_path):
    changes = {"target_modules": r"(\w|\w\w|[a-z.0-9_]+)*x!"}
    folder = write_adapter(tmp_path / "a", changes=changes)
    with pytest.raises(InputError, match=r"target_modules=.* (takes too long|leave no module)"):
        load_adapter(folder, CFG)
    changes = {"target_modules": "q" * 20_000}
    with pytest.raises(InputError, match="a regular expression of 20000 characters"):
        load_adapter(write_adapter(tmp_path / "b", changes=changes), CFG)


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name.removeprefix("base_model.model."),
        lambda name: name.replace("lora_A", "lora_A.default"),
        lambda name: name.replace("q_proj", "qkv_proj"),
    ],
)
def test_factors_under_other_names_are_refused(change, tmp_path):
    folder = write_adapter(tmp_path / "a")
    tensors = load_file(folder / WEIGHTS)
    save_file({change(name): value for name, value in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(InputError, match="has no base_model.model.model"):
        load_adapter(folder, CFG)


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias",
        "base_model.model.lm_head.weight",
        "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight",
    ],
)
def test_a_further_tensor_is_refused(name, tmp_path):
    folder = write_adapter(tmp_path / "a")
    save_file({**load_file(folder / WEIGHTS), name: np.ones(2, "f4")}, folder / WEIGHTS)
    with pytest.raises(InputError, match=f"holds {name}, which is no factor"):
        load_adapter(folder, CFG)


@pytest.mark.parametrize("number_format", sorted(FORMATS.keys() - {"F32", "BF16", "F16"}))
def test_factors_of_other_number_formats_are_refused(number_format, tmp_path):
    folder = write_adapter(tmp_path / "a")
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"
    restore_format(folder / WEIGHTS, name, number_format)
    with pytest.raises(InputError, match=f"{name} has the number format {number_format}"):
        load_adapter(folder, CFG)
