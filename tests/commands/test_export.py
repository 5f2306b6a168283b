"""`export`: other libraries load what is written and compute the same; the rest is refused."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.cli import main
from subliminal_jax.models import hub
from subliminal_jax.models.forward import Capture, forward
from subliminal_jax.models.hub import load_model, save_model
from subliminal_jax.models.truncate import truncate_model
from subliminal_jax.runs.kept_students import describe_base, load_student, save_student
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_files import StudentRecord, find_student, read_students
from subliminal_jax.runs.students import probe_prompts
from subliminal_jax.steering.io import load_steering
from subliminal_jax.training import adapters_io
from subliminal_jax.training.adapters import Full, LoRA, Vector, attach, init_trainable
from subliminal_jax.training.adapters_io import load_adapter
from tests.experiments import main_job
from tests.experiments.command import read
from tests.gguf_models import VOCABULARY, byte_level, random_params, write_gguf_model
from tests.tiny_configs import TINY

REPOSITORY = Path(__file__).parents[2]
TOKENS = np.arange(5, 29).reshape(2, 12)
LORA = {"kind": "lora", "lora_rank": 2, "alpha": 6.0, "targets": ("q", "down")}
# The students of the run that `drawn` writes, by name, with what each trained.
STUDENTS = {
    "adamw/0.003/0/owl": LORA | {"stage": "lora"},
    "adamw/0.003/0/control": LORA | {"stage": "lora"},
    "sgd/0.1/0/owl/lora/rank=3": LORA | {"stage": "lora", "lora_rank": 3, "rank": 3},
    "sgd/0.1/0/owl/some": LORA | {"stage": "some", "layers": (1,)},
    "adamw/0.001/0/cat": {"kind": "full", "stage": "full"},
    "adamw/0.1/0/cat": {"kind": "vector", "stage": "vector", "layer": 1},
}
ADAPTERS = ["adamw/0.003/0", "sgd/0.1/0/rank=3", "sgd/0.1/0/some"]


def draw_trainable(record: StudentRecord, base):
    """Trained tensors far enough from the start to change what the model says."""
    if record.kind == "vector":
        adapter = Vector(record.layer)
    elif record.kind == "full":
        adapter = Full()
    else:
        adapter = LoRA(record.lora_rank, record.alpha, record.targets, record.layers or None)
    leaves, structure = jax.tree.flatten(
        init_trainable(jax.random.key(0), base.params, base.cfg, adapter)
    )
    keys = jax.random.split(jax.random.key(len(record.data) + record.seed), len(leaves))
    return jax.tree.unflatten(
        structure,
        [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)],
    )


@pytest.fixture(scope="module")
def base(model):
    return load_model(model, dtype="float32")


@pytest.fixture(scope="module")
def drawn(base, tmp_path_factory) -> Path:
    """The folder of a run that kept `STUDENTS`."""
    folder = tmp_path_factory.mktemp("runs") / "drawn"
    with RunFolder.open(folder, {"layer": -1, "prompts": "numbers", "seed": 3}):
        for i, (name, trained) in enumerate(STUDENTS.items()):
            optimizer, rate, seed, data, *_ = name.split("/")
            record = StudentRecord(
                optimizer, float(rate), int(seed), data, **trained,
                steps=4, heldout_loss=1.5, base=describe_base(base),
            )  # fmt: skip
            file = folder / "students" / record.stage / f"{i:03}.safetensors"
            save_student(file, record, draw_trainable(record, base))
    return folder


def export(run: Path, name: str, to: str, out: Path, *flags: str) -> Path:
    main(["export", str(run), "--student", name, "--to", to, str(out), *flags])
    return out


def own_logits(run: Path, base, name: str) -> np.ndarray:
    """The student's, by our forward pass."""
    trainable, adapter = load_student(*find_student(run, name))
    tokens = jnp.asarray(TOKENS, jnp.int32)
    params, steering = attach(base.params, trainable, base.cfg, adapter)
    logits, _ = forward(params, tokens, base.cfg, steering)
    plain, _ = forward(base.params, tokens, base.cfg)
    assert np.abs(logits - plain).max() > 0.01
    return np.asarray(logits)


def torch_logits(model) -> np.ndarray:
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits.numpy()


@pytest.mark.parity
@pytest.mark.parametrize("name", ADAPTERS)
def test_peft_finds_the_base_and_gives_the_same_logits(drawn, base, name, tmp_path, capsys):
    peft = pytest.importorskip("peft")
    out = export(drawn, name, "peft", tmp_path / "student")
    said = capsys.readouterr().out
    assert str(base.folder) in said and "AutoPeftModelForCausalLM" in said
    loaded = peft.AutoPeftModelForCausalLM.from_pretrained(str(out))
    np.testing.assert_allclose(torch_logits(loaded), own_logits(drawn, base, name), atol=1e-4)
    load_adapter(out, base.cfg, model=base.name)


@pytest.mark.parity
@pytest.mark.parametrize("name", [*ADAPTERS, "adamw/0.001/0"])
def test_transformers_loads_the_merged_model_with_its_tokenizer(drawn, base, name, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    out = export(drawn, name, "merged", tmp_path / "student")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(str(out))
    np.testing.assert_allclose(torch_logits(loaded), own_logits(drawn, base, name), atol=1e-4)
    tokens = transformers.AutoTokenizer.from_pretrained(str(out)).apply_chat_template(
        [{"role": "user", "content": "1, 2"}], add_generation_prompt=True, return_dict=False
    )
    assert base.encode("1, 2")[0].tolist() == tokens


@pytest.mark.parity
def test_the_base_of_a_shipped_model_is_found_too(tmp_path, capsys):
    """Its checkpoint is of bfloat16, and the run computed in float32, as the printed line says."""
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    shipped = load_model("shipped-small", dtype="float32")
    record = StudentRecord(
        "adamw", 0.003, 0, "owl", "lora", 4, None, describe_base(shipped), **LORA
    )
    with RunFolder.open(tmp_path / "run", {"layer": 1}):
        file = tmp_path / "run" / "students" / "lora" / "000.safetensors"
        save_student(file, record, draw_trainable(record, shipped))
    out = export(tmp_path / "run", "adamw/0.003/0", "peft", tmp_path / "student")
    assert "dtype='float32'" in capsys.readouterr().out
    loaded = peft.AutoPeftModelForCausalLM.from_pretrained(str(out), dtype=torch.float32)
    expected = own_logits(tmp_path / "run", shipped, "adamw/0.003/0")
    np.testing.assert_allclose(torch_logits(loaded), expected, atol=1e-4 * np.abs(expected).max())
    main(["steer", "--model", "shipped-small", "--adapter", str(out), "--prompt", "1", "--json"])


def keep_gguf_student(folder: Path, model) -> Path:
    """The folder of a run that kept one LoRA student of a model in a GGUF file."""
    record = StudentRecord("adamw", 0.003, 0, "owl", "lora", 4, None, describe_base(model), **LORA)
    with RunFolder.open(folder, {"layer": 0}):
        file = folder / "students" / "lora" / "000.safetensors"
        save_student(file, record, draw_trainable(record, model))
    return folder


@pytest.fixture
def of_gguf(tmp_path):
    """A GGUF file of half precision, and the run of `keep_gguf_student` on it."""
    cfg = replace(TINY, vocab=VOCABULARY)
    path = tmp_path / "m.gguf"
    write_gguf_model(path, cfg, random_params(cfg), byte_level(), number_format="F16")
    return path, keep_gguf_student(tmp_path / "run", load_model(path, dtype="float32"))


def test_an_adapter_names_the_folder_that_a_gguf_base_was_converted_to(of_gguf, tmp_path, capsys):
    path, run = of_gguf
    flags = [str(run), str(tmp_path / "out"), "--student", "adamw/0.003/0", "--to", "peft"]
    assert f"--base FOLDER, written by `subliminal-jax convert {path} FOLDER`" in refuse(
        capsys, *flags
    )
    folder = tmp_path / "converted"
    assert "config.json is missing" in refuse(capsys, *flags, "--base", str(folder))
    main(["convert", str(path), str(folder)])
    capsys.readouterr()
    main(["export", *flags, "--base", str(folder)])
    assert f"its base is {folder}" in capsys.readouterr().out
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(folder)
    other = load_model(folder)
    changed = jax.tree.map(lambda w: w + 0.5, other.params)
    save_model(tmp_path / "other", changed, other.cfg, other.tokenizer)
    refused = refuse(capsys, *flags, "--base", str(tmp_path / "other"))
    assert "are not those that the student was trained from" in refused


@pytest.mark.parity
@pytest.mark.parametrize("to", ["peft", "merged"])
def test_students_of_a_gguf_file_load_in_peft_and_transformers(of_gguf, tmp_path, to):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    path, run = of_gguf
    flags = []
    if to == "peft":
        main(["convert", str(path), str(tmp_path / "converted")])
        flags = ["--base", str(tmp_path / "converted")]
    out = str(export(run, "adamw/0.003/0", to, tmp_path / "student", *flags))
    load = {"peft": peft.AutoPeftModelForCausalLM, "merged": transformers.AutoModelForCausalLM}[to]
    logits = torch_logits(load.from_pretrained(out, dtype=torch.float32))
    expected = own_logits(run, load_model(path, dtype="float32"), "adamw/0.003/0")
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_vector_is_the_one_that_was_trained(drawn, base, tmp_path, capsys):
    out = export(drawn, "adamw/0.1/0", "vector", tmp_path / "v.safetensors")
    steering, info = load_steering(out, base.cfg, model=base.name)
    trainable, _ = load_student(*find_student(drawn, "adamw/0.1/0"))
    assert steering.layers == (1,) and float(steering.scale) == 1.0
    np.testing.assert_array_equal(steering.vectors[0], trainable["vector"])
    assert info.origin == "student adamw/0.1/0/cat"
    capsys.readouterr()
    main(["steer", "--model", str(base.folder), "--vector", str(out), "--prompt", "1", "--json"])
    assert json.loads(capsys.readouterr().out)["plain"]


@pytest.mark.parametrize(("name", "layer"), [("adamw/0.001/0", None), ("adamw/0.003/0", 1)])
def test_the_vector_of_others_is_the_shift_of_their_mean_activation(
    drawn, base, tmp_path, name, layer
):
    flags = [] if layer is None else ["--layer", str(layer)]
    out = export(drawn, name, "vector", tmp_path / "v.safetensors", *flags)
    steering, info = load_steering(out, base.cfg, model=base.name)
    assert "mean activation shift" in info.origin
    assert steering.layers == (layer or 0,)
    trainable, adapter = load_student(*find_student(drawn, name))
    student, _ = attach(base.params, trainable, base.cfg, adapter)
    prompts = [base.encode(prompt)[0] for prompt in probe_prompts("numbers", 3)]
    longest = max(map(len, prompts))
    tokens = jnp.stack([jnp.pad(p, (0, longest - len(p))) for p in prompts])
    ends = np.array([len(p) - 1 for p in prompts])
    means = []
    for params in (student, base.params):
        _, captured = forward(params, tokens, base.cfg, capture=Capture((layer or 0,)))
        means.append(np.asarray(captured[0])[np.arange(len(ends)), ends].mean(axis=0))
    expected = means[0] - means[1]
    np.testing.assert_allclose(
        steering.vectors[0], expected, atol=1e-4 * np.linalg.norm(expected), rtol=0
    )


def refuse(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["export", *arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    return error


REFUSED = [
    ("adamw/0.2/0 --to peft o", "(--save-students): adamw/0.001/0/cat, adamw/0.003/0/owl, adamw"),
    ("adamw --to peft o", "is none of the students"),
    ("sgd/0.1/0 --to peft o", "several students: sgd/0.1/0/owl/lora/rank=3, sgd/0.1/0/owl/some"),
    ("adamw/0.001/0 --to peft o", "trained all weights; give --to merged or vector"),
    ("adamw/0.1/0 --to merged o", "trained a single vector; give --to vector"),
    ("adamw/0.1/0 --to vector o.npy", "o.npy: give the name of a .safetensors file"),
    ("adamw/0.1/0 --to vector o.safetensors --layer 0", "is a vector after layer 1 already"),
    ("adamw/0.003/0 --to peft o --layer 0", "it needs --to vector"),
    ("adamw/0.003/0 --to hf o", "hf"),
    ("adamw/0.003/0 --to peft README.md", "README.md is a file"),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "said"), REFUSED)
def test_what_is_wrong_is_said_in_a_line(drawn, flags, said, capsys):
    assert said in refuse(capsys, str(drawn), "--student", *flags.split())


@pytest.mark.parametrize(("flags", "said"), [REFUSED[0], REFUSED[3]])
def test_what_is_wrong_is_said_before_jax_is_imported(drawn, flags, said):
    script = (
        "import sys\nfrom subliminal_jax.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "export", str(drawn), "--student", *flags.split()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_folders_of_others_and_failures_leave_everything_as_it_was(
    drawn, tmp_path, capsys, monkeypatch
):
    flags = ["--student", "adamw/0.003/0", "--to"]
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    for to in ("peft", "merged"):
        assert "notes.txt" in refuse(capsys, str(drawn), str(foreign), *flags, to)
        assert "not written by this program" in refuse(capsys, str(drawn), str(drawn), *flags, to)
    (tmp_path / "v.safetensors").write_text("mine")
    vector = ["--student", "adamw/0.1/0", "--to", "vector", str(tmp_path / "v.safetensors")]
    assert "no vector file of this program" in refuse(capsys, str(drawn), *vector)
    assert "no folder of a run" in refuse(capsys, str(foreign), str(tmp_path / "o"), *flags, "peft")

    def fail(path, value):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(adapters_io, "write_json", fail)
    assert "No space left" in refuse(capsys, str(drawn), str(tmp_path / "o"), *flags, "peft")
    monkeypatch.setattr(hub, "write_json", fail)
    assert "No space left" in refuse(capsys, str(drawn), str(tmp_path / "o"), *flags, "merged")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["foreign", "v.safetensors"]
    assert [p.name for p in foreign.iterdir()] == ["notes.txt"]


def test_a_damaged_student_and_another_base_are_refused(base, drawn, tmp_path, capsys):
    run, out = tmp_path / "run", str(tmp_path / "out")
    shutil.copytree(drawn, run)
    file, record = find_student(run, "adamw/0.001/0")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    flags = ["--student", "adamw/0.001/0", "--to", "merged"]
    assert "is damaged" in refuse(capsys, str(run), out, *flags)
    changed = jax.tree.map(lambda w: w.at[0].add(0.5), base.params)
    save_model(tmp_path / "changed", changed, base.cfg, base.tokenizer)
    other = replace(record.base, folder=str(tmp_path / "changed"))
    save_student(file, replace(record, base=other), draw_trainable(record, base))
    assert "not those that the student was trained from" in refuse(capsys, str(run), out, *flags)
    gone = replace(record.base, folder=str(tmp_path / "gone"))
    save_student(file, replace(record, base=gone), draw_trainable(record, base))
    assert "is no longer in" in refuse(capsys, str(run), out, *flags)
    assert not Path(out).exists()


def test_the_student_of_a_truncated_network_is_merged_into_it(base, tmp_path, capsys):
    short = truncate_model(base, 1)
    record = StudentRecord("adamw", 0.003, 0, "owl", "a", 4, None, describe_base(short), **LORA)
    with RunFolder.open(tmp_path / "run", {"layer": 0}):
        file = tmp_path / "run" / "students" / "a" / "000.safetensors"
        save_student(file, record, draw_trainable(record, short))
    flags = [str(tmp_path / "run"), str(tmp_path / "out"), "--student", "adamw/0.003/0", "--to"]
    assert "the first 1 of 2 blocks" in refuse(capsys, *flags, "peft")
    main(["export", *flags, "merged"])
    merged = load_model(tmp_path / "out")
    logits, _ = forward(merged.params, jnp.asarray(TOKENS, jnp.int32), merged.cfg)
    expected = own_logits(tmp_path / "run", short, "adamw/0.003/0")
    np.testing.assert_allclose(logits, expected, atol=1e-4)


PLAN = (
    "--steps 4 --log-every 4 --seeds 2 --optimizers adamw --rates adamw=0.003,0.01 --rank 2 "
    "--adapter lora --guard inoculate"
)


def kept(folder: Path) -> dict[str, bytes]:
    return {record.name: file.read_bytes() for file, record in read_students(folder).items()}


def test_a_run_keeps_all_or_its_best_or_none(model, tmp_path, capsys):
    """The best are bit for bit those among all, and another choice goes on with the run."""
    folder = tmp_path / "run"
    results = main_job.run(model, folder, *PLAN.split())
    assert "students: 4 in" in capsys.readouterr().out
    (row,) = results["best"]
    name = f"adamw/{row['learning_rate']:g}"
    best = kept(folder)
    names = {f"{name}/{seed}/{data}" for seed in "01" for data in ("steered", "control")}
    assert set(best) == names
    (folder / "results.json").unlink()
    main_job.run(model, folder, *PLAN.split(), "--save-students", "all")
    everything = kept(folder)
    assert len(everything) == 6 and everything.items() > best.items()

    out = export(folder, f"{name}/1", "vector", tmp_path / "v.safetensors")
    steering, _ = load_steering(out, load_model(model).cfg)
    (student,) = [
        r
        for r in results["students"]
        if (r["learning_rate"], r["seed"], r["data"]) == (row["learning_rate"], 1, "steered")
    ]
    size = float(jnp.linalg.norm(steering.vectors[0])) / results["vector_norm"]
    assert size == pytest.approx(student["shift_size"], rel=1e-3)

    shutil.rmtree(folder / "students")
    (folder / "results.json").unlink()
    assert main_job.run(model, folder, *PLAN.split(), "--save-students", "none") == results
    assert not (folder / "students").exists()
    flags = [str(folder), str(tmp_path / "o"), "--student", f"{name}/0", "--to", "peft"]
    capsys.readouterr()
    assert "--save-students best" in refuse(capsys, *flags)
    assert read(folder) == results
