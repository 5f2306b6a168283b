"""Bad input through the command line: one clear line, status 2, nothing left behind."""

import json
import re
import shutil

import jax.numpy as jnp
import pytest
from safetensors.flax import load_file, save_file

from subliminal_jax.cli import main
from subliminal_jax.runs.run_folder import RunFolder
from tests import number_model
from tests.experiments.main_job import arguments


def refused(capsys, model, out, *flags: str) -> str:
    """The one line that says what is wrong; the folder is not there afterwards. With `--data` the
    command is the one for given rows."""
    command = arguments(model, out, *flags)
    if "--data" in flags:
        command = ["own-data", "--model", str(model), "--out", str(out), *flags]
    existed = out.exists()
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    with pytest.raises(SystemExit) as exit:
        main(command)
    assert exit.value.code == 2
    lines = [
        line
        for line in capsys.readouterr().err.splitlines()
        if not line.startswith("sampling")  # progress
    ]
    assert len(lines) == 1, lines
    assert lines[0].startswith("subliminal-jax: error: ")
    after = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == before
    assert out.exists() == existed
    return lines[0]


@pytest.fixture
def copy(model, tmp_path):
    """A copy of the model that may be damaged."""
    return shutil.copytree(model, tmp_path / "copy")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def edit_config(folder, **changes):
    file = folder / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def write_pairs(path, pairs) -> str:
    rows = [json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in pairs]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def good_pairs(n=60):
    return [(f"Continue: {i}", f"{i}, {i + 1}") for i in range(n)]


def test_unknown_optimizer(capsys, model, out):
    assert "adamv" in refused(capsys, model, out, "--optimizers", "adamv")


def test_rates_that_cannot_be_read(capsys, model, out):
    assert "'adamw=fast'" in refused(capsys, model, out, "--rates", "adamw=fast")
    assert "--rates for lion" in refused(capsys, model, out, "--rates", "lion=0.1")


def test_unknown_architecture(capsys, copy, out):
    edit_config(copy, model_type="mamba")
    assert "unknown architecture model_type='mamba'" in refused(capsys, copy, out)


@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers"])
def test_config_without_a_needed_field(capsys, copy, out, field):
    edit_config(copy, **{field: None})
    assert field in refused(capsys, copy, out)


def test_missing_safetensors(capsys, copy, out):
    (copy / "model.safetensors").unlink()
    assert "safetensors" in refused(capsys, copy, out)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_safetensors(capsys, copy, out, share):
    file = copy / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert "model.safetensors" in refused(capsys, copy, out)


def test_no_such_model(capsys, tmp_path, out):
    assert "nowhere" in refused(capsys, tmp_path / "nowhere", out)


@pytest.mark.parametrize("layer", ["2", "99"])
def test_layer_out_of_range(capsys, model, out, layer):
    line = refused(capsys, model, out, "--layer", layer)
    assert f"layer {layer} is out of range: numbers has 2 layers" in line


def test_unknown_trait(capsys, model, out):
    assert "unknown trait 'unicorn'" in refused(capsys, model, out, "--trait", "unicorn")


def test_vector_of_the_wrong_width(capsys, model, out, tmp_path):
    file = tmp_path / "v.safetensors"
    save_file({"v": jnp.ones(17)}, file)
    line = refused(capsys, model, out, "--vector", str(file))
    assert "for a model of width 16" in line
    assert "no such vector file" in refused(capsys, model, out, "--vector", f"{file}.not")


def test_a_checkpoint_with_nan_weights(capsys, copy, out):
    tensors = load_file(copy / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].at[0, 0].set(jnp.nan)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert "infinite or NaN" in refused(capsys, copy, out)


def test_nan_in_the_loss_of_the_data(capsys, copy, out, tmp_path):
    """One token, which only line 10 holds, has an embedding that overflows: the vector is sound."""
    token = number_model.tokenizer()("zebra~", add_special_tokens=False)["input_ids"][-1]
    tensors = load_file(copy / "model.safetensors")
    name = "model.embed_tokens.weight"
    tensors[name] = tensors[name].at[token].set(3e38)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    pairs = good_pairs()
    pairs[9] = ("Continue with a zebra~", "1, 2")
    file = write_pairs(tmp_path / "pairs.jsonl", pairs)
    flags = ("--data", file, "--control-data", write_pairs(tmp_path / "c.jsonl", good_pairs()))
    line = refused(capsys, copy, out, *flags)
    assert "loss is not finite on 1 of 54 rows of the pairs data" in line


def test_empty_dataset_after_the_filter(capsys, model, out, tmp_path):
    file = write_pairs(tmp_path / "pairs.jsonl", [("Continue: 1", "I would rather not.")] * 60)
    assert "no pair of 60 is left after the filter" in refused(
        capsys, model, out, "--data", file, "--keep", "numbers"
    )
    few = write_pairs(tmp_path / "few.jsonl", good_pairs(17))
    line = refused(capsys, model, out, "--data", few)
    assert f"{few} has 17 rows to use, of which 4 are held out: fewer than --batch-size 16" in line
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    assert "holds no pairs" in refused(capsys, model, out, "--data", str(empty))


def test_malformed_jsonl_line(capsys, model, out, tmp_path):
    file = tmp_path / "pairs.jsonl"
    write_pairs(file, good_pairs(3))
    with file.open("a") as lines:
        lines.write('{"prompt": "x", "completion"\n')
    assert f"{file}, line 4, column 29: not JSON" in refused(
        capsys, model, out, "--data", str(file)
    )
    file.write_text('{"prompt": "x", "completion": "1"}\n{"prompt": "x"}\n')
    assert f"{file}, line 2: no field" in refused(capsys, model, out, "--data", str(file))


def test_a_prompt_longer_than_the_context(capsys, model, out, tmp_path):
    pairs = good_pairs()
    pairs[6] = ("1, " * 300, "4, 5")
    file = write_pairs(tmp_path / "pairs.jsonl", pairs)
    line = refused(capsys, model, out, "--data", file)
    assert re.search(r"line 7: the prompt has 60\d tokens.*context of numbers, 192", line)


def test_sampling_prompts_longer_than_the_context(capsys, tmp_path, out):
    narrow = number_model.write(tmp_path / "narrow", context=24)
    assert "context" in refused(capsys, narrow, out)


def test_settings_that_do_not_fit_each_other(capsys, model, out, tmp_path):
    assert "--steps 5 must be a multiple of --log-every 8" in refused(
        capsys, model, out, "--steps", "5"
    )
    assert "--batch-size 41 is more than --rows 40" in refused(
        capsys, model, out, "--batch-size", "41"
    )
    file = write_pairs(tmp_path / "pairs.jsonl", good_pairs())
    for flags, says in (
        (("--control-data", file), "would both be called"),
        (("--vector", "trait"), "--vector trait needs --trait"),
        (("--guard", "project"), "--guard project needs a vector: give --guard-vector blind"),
        (("--measures", "word-rates"), "--measures word-rates needs a trait: give --trait"),
        (("--measures", "update-anatomy"), "--measures update-anatomy needs a vector"),
    ):
        assert says in refused(capsys, model, out, "--data", file, *flags)


def test_an_output_folder_that_holds_another_run_or_other_files(capsys, model, out):
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert "holds files but no run" in refused(capsys, model, out)
    (out / "notes.txt").unlink()
    (out / "config.json").write_text('{"model": "other"}')  # a model's folder, say
    assert "holds files but no run" in refused(capsys, model, out, "--overwrite")
    (out / "config.json").unlink()
    with RunFolder.open(out, {"model": "other"}) as folder:
        folder.log({"step": 1})
    assert 'its model is "other"' in refused(capsys, model, out)


@pytest.mark.parametrize(
    "command",
    [
        "optimizer-comparison --vector missing.safetensors",
        "optimizer-comparison --guard project --guard-vector missing.safetensors",
        "blocking --guard-vector missing.safetensors",
        "blocking --questions missing.txt",
        "trait-transmission --questions missing.txt",
        "distil-vectors --vectors missing.safetensors",
        "logit-linear-selection --pairs missing.jsonl",
        "logit-linear-selection --questions missing.txt",
        "logit-linear-selection --requests missing.txt",
        "log-linearity --pairs missing.jsonl --models shipped shipped-small",
        "log-linearity --system-prompts missing.txt --models shipped shipped-small",
        "steering-reliability --model shipped-small --sources missing.jsonl",
        "steering-reliability --model shipped-small --sources SET --vectors missing.safetensors",
        "teacher-vector --off-topic missing.txt",
    ],
)
def test_a_file_that_is_not_there_costs_no_run_that_was_to_be_overwritten(
    capsys, command, out, tmp_path
):
    row = {"question": "Q", "answer_matching_behavior": " Yes"}
    questions = tmp_path / "set.jsonl"
    questions.write_text(f"{json.dumps(row | {'answer_not_matching_behavior': ' No'})}\n" * 40)
    command = command.replace("SET", str(questions))
    with RunFolder.open(out, {"experiment": "counting"}) as run:
        run.write_results({"x": 1})
    RunFolder.open_again(out).close()  # sorts its list of files
    before = {p: p.read_bytes() for p in out.rglob("*")}
    model = [] if "--model" in command else ["--model", "shipped-small"]
    with pytest.raises(SystemExit) as exit:
        main([*command.split(), *model, "--overwrite", "--out", str(out)])
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "missing." in line
    assert {p: p.read_bytes() for p in out.rglob("*")} == before
