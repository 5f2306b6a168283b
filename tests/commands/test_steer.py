"""`steer`: both answers by one program, a session for scripts, and errors before imports."""

import builtins
import io
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from subliminal_jax.cli import main
from subliminal_jax.compilation import count_compilations
from subliminal_jax.models import hub
from subliminal_jax.models.hub import load_model
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.models.tokenizer import encode_chats
from subliminal_jax.steering.io import VectorInfo, save_steering
from subliminal_jax.training.adapters import LoRA, init_trainable
from subliminal_jax.training.adapters_io import save_adapter

REPOSITORY = Path(__file__).parents[2]
PROMPT = "Continue: 3, 14, 15"
FEW = ["--max-new-tokens", "6"]


@pytest.fixture(scope="module")
def loaded(model):
    return load_model(model)


@pytest.fixture(scope="module")
def vector(loaded, tmp_path_factory) -> Path:
    """Vectors for both layers, long enough to change what the model writes."""
    values = 40 * jax.random.normal(jax.random.key(1), (2, loaded.cfg.dim))
    path = tmp_path_factory.mktemp("vectors") / "v.safetensors"
    save_steering(
        path, Steering(values, jnp.float32(0.5), (0, 1)), VectorInfo(loaded.name, "drawn")
    )
    return path


@pytest.fixture
def run(model, vector, capsys):
    """Runs the command and returns what it printed, by lines of JSON."""

    def run(*flags: str) -> list[dict]:
        main(["steer", "--model", str(model), "--vector", str(vector), *FEW, "--json", *flags])
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


@pytest.fixture
def is_loaded(monkeypatch, loaded) -> None:
    """Spares the commands the seconds that a model takes to load."""
    monkeypatch.setattr(hub, "load_model", lambda name, dtype: loaded)


@pytest.fixture
def talk(monkeypatch):
    """Gives the next command these lines on standard input, which is no terminal."""
    return lambda *lines: monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))


def written(loaded, steering: Steering | None) -> str:
    prompts = encode_chats(loaded.tokenizer, [PROMPT])
    config = SamplingConfig(6, 0.0, stop_tokens=loaded.stop_ids)
    samples = generate(loaded.params, prompts, loaded.cfg, 0, config, steering, batch_size=1)
    ids = [i for i in samples.tokens[0, : samples.lengths[0]] if i not in loaded.stop_ids]
    return loaded.tokenizer.decode(ids, skip_special_tokens=True)


def test_answers_are_the_models_own(loaded, vector, run):
    """The scale multiplies the one in the file, and a single layer can be asked for."""
    (row,) = run("--prompt", PROMPT, "--scale", "2", "--layer", "1")
    values = 40 * jax.random.normal(jax.random.key(1), (2, loaded.cfg.dim))
    assert row["plain"] == written(loaded, None)
    assert row["changed"] == written(loaded, steer(values[1], 1, scale=1.0))
    assert row["plain"] != row["changed"]
    assert (row["prompt"], row["scale"], row["layer"]) == (PROMPT, 2.0, 1)


@pytest.mark.usefixtures("is_loaded")
def test_a_session_needs_one_program_for_all_scales(run, talk):
    talk(PROMPT, "/scale 0", PROMPT, "", "/scale -3.5", PROMPT, "/system Be brief.", "/quit", "x")
    with count_compilations() as compiled:
        first, zero, back = run()
    assert compiled.count("read_prompts") <= 1 and compiled.count("write_answers") <= 1
    assert zero["plain"] == zero["changed"] == first["plain"] == back["plain"]
    assert first["changed"] != first["plain"] and back["changed"] != first["changed"]


@pytest.mark.usefixtures("is_loaded")
def test_a_session_changes_layer_and_system_prompt(run, talk):
    talk("/layer 1", PROMPT, "/system Count.", PROMPT, "/system", PROMPT)
    one, counted, again = run()
    assert one["layer"] == 1 and (counted["system"], again["system"]) == ("Count.", None)
    assert again == one
    assert counted["plain"] != one["plain"]


@pytest.mark.usefixtures("is_loaded")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/scale", "/scale"),
        ("/scale 1e9", "/scale 1000000000.0"),
        ("/layer 2", "layer 2"),
        ("/layer 1.5", "whole number"),
        ("/louder", "there are: /scale X"),
        (PROMPT * 80, "leaves room for"),
    ],
)
def test_a_script_ends_at_a_line_that_cannot_be_followed(run, talk, capsys, line, said):
    talk("", line, PROMPT)
    with pytest.raises(SystemExit) as stop:
        run()
    error = capsys.readouterr()
    assert stop.value.code == 2 and error.out == ""
    assert error.err.startswith("subliminal-jax: error: line 2 of standard input: ")
    assert said in error.err and error.err.count("\n") == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("is_loaded")
@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_at_a_terminal_errors_do_not_end_the_session_and_its_end_does(
    model, vector, monkeypatch, capsys, end
):
    typed = iter(["/louder", "/scale 0", PROMPT])

    def read(_: str) -> str:
        for line in typed:
            return line
        raise end

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(builtins, "input", read)
    main(["steer", "--model", str(model), "--vector", str(vector), *FEW, "--json"])
    output = capsys.readouterr()
    assert output.err.startswith("error: unknown command /louder")
    assert '"scale": 0.0' in output.out and output.out.endswith("}\n\n")


@pytest.mark.usefixtures("is_loaded")
def test_an_adapter_at_scale_zero_is_the_base(loaded, model, tmp_path, capsys):
    adapter = LoRA(rank=2)
    trainable = init_trainable(jax.random.key(0), loaded.params, loaded.cfg, adapter)
    drawn = jax.tree.map(lambda x: 3 * jax.random.normal(jax.random.key(2), x.shape), trainable)
    save_adapter(tmp_path / "student", drawn, adapter, loaded.cfg, loaded.name)
    rows = []
    for scale in ("0", "1"):
        flags = ["--adapter", str(tmp_path / "student"), "--scale", scale, "--prompt", PROMPT]
        main(["steer", "--model", str(model), *flags, *FEW, "--json"])
        rows.append(json.loads(capsys.readouterr().out))
    zero, full = rows
    assert zero["changed"] == zero["plain"] == full["plain"] == written(loaded, None)
    assert full["changed"] != full["plain"]


@pytest.mark.usefixtures("is_loaded")
def test_tables_show_texts_as_they_are(model, vector, capsys):
    flags = ["--vector", str(vector), "--prompt", "[bold]1, 2", *FEW]
    main(["steer", "--model", str(model), *flags])
    shown = capsys.readouterr().out
    assert "[bold]1, 2" in shown
    assert "plain" in shown and "steered at layer 0, 1, scale 1" in shown


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--prompt x", "--vector FILE or --adapter FOLDER"),
        ("--vector none.safetensors", "no such file"),
        ("--adapter .", "adapter_config.json"),
        ("--vector README.md --model ./nowhere", "no such folder"),
        ("--vector README.md --scale much", "--scale much"),
    ],
)
def test_what_is_wrong_with_the_flags_is_said_before_jax_is_imported(flags, said):
    script = (
        "import sys\nfrom subliminal_jax.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "steer", *flags.split()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert said in done.stderr and done.stderr.count("\n") == 1
