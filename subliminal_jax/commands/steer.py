"""See what a vector or an adapter does: steered and plain answers side by side.

    subliminal-jax steer --vector owl.safetensors --scale 2 --prompt "What is your favorite animal?"
    subliminal-jax steer --adapter runs/student      # a session: a line is a prompt

Both answers use the same random numbers. The scale is a factor on the strength that the file says:
1 is the vector as it is stored, 0 is the plain model, less than 0 steers backwards. Without
--prompt, each line of the session (of standard input, where that is no terminal) is a prompt of its
own, or one of: /scale X, /layer L, /system TEXT (alone: none), /help, /quit. A change of the scale
compiles nothing.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from subliminal_jax import interrupts
from subliminal_jax.bounds import (
    LARGEST,
    LEAST_NORMAL,
    Count,
    Range,
    Rule,
    Seed,
    Text,
    check_value,
    field_rules,
    parse_number,
)
from subliminal_jax.data.shared_data import resolve_shared
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import escape_controls, print_line
from subliminal_jax.models.places import find_local_model

if TYPE_CHECKING:
    from subliminal_jax.models.hub import Model
    from subliminal_jax.runs.side_by_side import Answers, Change

RESUMES = False
COMMANDS = "/scale X, /layer L, /system TEXT, /help, /quit"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to ask, and what is changed.

    Attributes:
      model: "shipped", "shipped-small", a local folder in Hugging Face format, or a hub name.
      vector: a vector file: .safetensors, .npy, PyTorch's .pt, or a GGUF control vector.
      adapter: a LoRA adapter of PEFT, in place of a vector.
      scale: factor on the strength of the vector or the adapter.
      layer: the one of the file's layers that is steered (0-based); all of them without it.
      prompt: what is asked; without it, a session.
      system_prompt: what the model reads before each prompt.
      max_new_tokens: largest number of tokens of an answer.
      temperature: of sampling; 0 takes the likeliest token.
      seed: of sampling, the same for both answers.
      dtype: dtype of the weights; "checkpoint" keeps the checkpoint's.
      json: print a line of JSON a prompt, in place of a table.
    """

    model: str = "shipped"
    vector: Path | None = None
    adapter: Path | None = None
    scale: Annotated[float, Range(-1e4, 1e4)] = 1.0
    layer: Annotated[int | None, Range(0, 9_999)] = None
    prompt: Annotated[tuple[str, ...], Text(prose=True)] = ()
    system_prompt: Annotated[str | None, Text(prose=True)] = None
    max_new_tokens: Count = 64
    temperature: Annotated[float, Range(LEAST_NORMAL, LARGEST, also=0)] = 0.0
    seed: Seed = 0
    dtype: Literal["float32", "bfloat16", "checkpoint"] = "float32"
    json: bool = False


def check(config: Config) -> None:
    """Raises InputError for settings that do not go together, and for files that are not there."""
    if (config.vector is None) == (config.adapter is None):
        raise InputError("give --vector FILE or --adapter FOLDER, one of them")
    if config.vector is not None and not config.vector.is_file():
        raise InputError(f"--vector {config.vector}: no such file")
    if config.adapter is not None:
        if not (config.adapter / "adapter_config.json").is_file():
            raise InputError(f"--adapter {config.adapter}: no folder with an adapter_config.json")
        if config.layer is not None:
            raise InputError("--layer is for a vector: an adapter says itself which layers it has")
    find_local_model(resolve_shared(config.model))


def main(config: Config) -> None:
    """Print the answers, or hold the session.

    Raises InputError for a vector or an adapter that does not fit the model, for a prompt that does
    not fit its context, and for a line of a script that cannot be read.
    """
    from subliminal_jax.models.hub import load_model, sketch_model
    from subliminal_jax.runs.side_by_side import read_change

    dtype = None if config.dtype == "checkpoint" else config.dtype
    source = resolve_shared(config.model)
    # Found out before the model is loaded.
    read_change(sketch_model(source), config.vector, config.adapter, config.layer)
    session = _Session(config, load_model(source, dtype=dtype))
    if config.prompt:
        session.answer(config.prompt)
        return
    try:
        _talk(session)
    except KeyboardInterrupt:
        if not sys.stdin.isatty() or interrupts.received() not in (None, interrupts.SIGNALS[0]):
            raise
        print()


class _Session:
    """A loaded model with its change, and the settings that a user may change between prompts."""

    def __init__(self, config: Config, model: "Model") -> None:
        from subliminal_jax.models.sampling import SamplingConfig

        self.config = config
        self.model = model
        self.change = self._read_change(config.layer)
        self.sampling = SamplingConfig(
            config.max_new_tokens, config.temperature, stop_tokens=model.stop_ids
        )

    def _read_change(self, layer: int | None) -> "Change":
        from subliminal_jax.runs.side_by_side import read_change

        return read_change(self.model, self.config.vector, self.config.adapter, layer)

    def answer(self, prompts: tuple[str, ...]) -> None:
        """Print both answers to each prompt."""
        from subliminal_jax.runs.side_by_side import answer_both

        scale, system_prompt = self.config.scale, self.config.system_prompt
        answers = answer_both(
            self.model,
            self.change,
            scale,
            prompts,
            self.sampling,
            self.config.seed,
            system_prompt,
        )
        for row in answers:
            if self.config.json:
                settings = {"scale": scale, "layer": self.config.layer, "system": system_prompt}
                print(json.dumps({**row._asdict(), **settings}))
            else:
                _print_answers(row, f"{self.change.name}, scale {scale:g}")
        sys.stdout.flush()

    def obey(self, line: str) -> bool:
        """Follow a line of the session; returns whether it goes on.

        Raises InputError for a command that does not exist, and for a value that it cannot have.
        """
        if not line.strip():
            return True
        if not line.startswith("/"):
            check_value("prompt", line, Rule(str, text=Text(prose=True)), lambda _, x: repr(x))
            self.answer((line,))
            return True
        name, _, rest = line[1:].partition(" ")
        text = rest.strip()
        if name == "scale":
            self.config = replace(self.config, scale=_read_number("scale", text, float))
        elif name == "layer":
            if self.config.adapter is not None:
                raise InputError("/layer is for a vector: an adapter has layers of its own")
            layer = int(_read_number("layer", text, int))
            self.change = self._read_change(layer)
            self.config = replace(self.config, layer=layer)
        elif name == "system":
            self.config = replace(self.config, system_prompt=text or None)
        elif name == "help":
            print_line(f"a line is a prompt, or one of: {COMMANDS}")
        elif name != "quit":
            raise InputError(f"unknown command /{name}; there are: {COMMANDS}")
        return name != "quit"


def _talk(session: _Session) -> None:
    """Follow the lines of standard input to their end, or to /quit."""
    talking = sys.stdin.isatty()
    if talking:
        print_line(f"{session.model.name} {session.change.name}. {COMMANDS}")
    for number, line in enumerate(_read_lines(talking), start=1):
        try:
            if not session.obey(line):
                return
        except InputError as error:
            if not talking:
                raise InputError(f"line {number} of standard input: {error}") from error
            print(escape_controls(f"error: {error}"), file=sys.stderr)


def _read_lines(talking: bool) -> Iterator[str]:
    """The lines of standard input, without their ends."""
    if not talking:
        try:
            for line in sys.stdin:
                yield line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"standard input is no UTF-8 text ({error.reason})") from error
        return
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return


def _read_number(field: str, text: str, kind: type) -> float | int:
    """The value of a field of `Config` in a session's line."""
    value: float | int | str = text
    with contextlib.suppress(ValueError):  # check_value says what would be valid
        value = parse_number(text, kind)
    check_value(field, value, field_rules(Config)[field], lambda name, x: f"/{name} {x}")
    assert not isinstance(value, str)
    return value


def _print_answers(answers: "Answers", title: str) -> None:
    """Both answers in a table that the terminal's width divides equally."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Shown

    def show(text: str, style: str = "") -> Shown:
        return Shown(escape_controls(text, keep="\n"), style=style)

    console = Console()
    table = Table(title=show(answers.prompt, "bold"), title_justify="left", expand=True)
    for name in ("plain", title):
        table.add_column(show(name), ratio=1)
    table.add_row(show(answers.plain), show(answers.changed))
    console.print(table)
