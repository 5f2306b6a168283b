"""Write a trained student of a run for PEFT, for transformers, or as a steering vector.

    subliminal-jax export runs/demo --student adamw/0.003/0 --to peft students/owl
    subliminal-jax export runs/demo --student adamw/0.003/0/control --to merged students/control
    subliminal-jax export runs/demo --student adamw/0.003/0 --to vector students/owl.safetensors

A student is named optimizer/rate/seed, with its data set behind where there are several, and with
the stage of the run where that is not enough; a name of none is answered with all there are. Runs
keep their best students (--save-students).

peft is an adapter of LoRA factors that names its base, so that AutoPeftModelForCausalLM loads both
(PEFT loads no GGUF file: --base names the folder that `convert` wrote of one); merged is a model
with tokenizer that AutoModelForCausalLM loads, of LoRA or of all weights; vector is a file for
`steer --vector`: the vector that was trained, or of other students the shift of their mean
activation at the steering layer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from subliminal_jax.bounds import Blocks, Needs
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.files import check_folder_name
from subliminal_jax.gguf_files import ENDING
from subliminal_jax.runs.student_files import StudentRecord, find_student

RESUMES = False
FORMATS = {  # by what a student trained
    "lora": ("peft", "merged", "vector"),
    "full": ("merged", "vector"),
    "vector": ("vector",),
}
TRAINED = {"lora": "LoRA factors", "full": "all weights", "vector": "a single vector"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which student, and where it goes.

    Attributes:
      run: the folder of a run.
      out: the folder to write, or the safetensors file of a vector; what an earlier export wrote
        there is replaced.
      student: optimizer/rate/seed, with further parts of its name where several have that one.
      to: the format.
      base: the folder that a PEFT adapter names as its base, with the weights that the run trained
        from; needed where these came from a GGUF file.
      layer: the layer of the shift (0-based), in place of the run's steering layer.
    """

    run: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    student: str
    to: Literal["peft", "merged", "vector"]
    base: Annotated[Path | None, Needs("to", ("peft",))] = None
    layer: Annotated[int | None, Blocks(), Needs("to", ("vector",))] = None


def check(config: Config) -> None:
    """Raises InputError for a name of no student, a format that the student does not have, and a
    place that cannot be written."""
    _, record = find_student(config.run, config.student)
    formats = FORMATS[record.kind]
    if config.to not in formats:
        raise InputError(
            f"--to {config.to}: {record.name} trained {TRAINED[record.kind]}; give --to "
            f"{' or '.join(formats)}"
        )
    if config.base is not None and not (config.base / "config.json").is_file():
        raise InputError(f"--base {config.base}: no folder of a model, config.json is missing")
    if config.to == "peft" and config.base is None and _is_gguf(record):
        raise InputError(
            f"--to peft: {record.name} was trained from a GGUF file, which PEFT does not load: "
            f"give --base FOLDER, written by `subliminal-jax convert {record.base.source} FOLDER`, "
            "or --to merged"
        )
    if config.layer is not None and record.kind == "vector":
        raise InputError(
            f"--layer {config.layer}: {record.name} is a vector after layer {record.layer} already"
        )
    if config.to != "vector":
        check_folder_name(config.out)
    elif config.out.suffix != ".safetensors":
        raise InputError(f"{config.out}: give the name of a .safetensors file")


def main(config: Config) -> None:
    """Write the student, and print how it is loaded.

    Raises InputError as `runs.export` does.
    """
    from subliminal_jax.runs import export
    from subliminal_jax.runs.run_folder import RunFolder

    file, record = find_student(config.run, config.student)
    said = _describe(record)
    if config.to == "peft":
        base = export.export_adapter(file, record, config.out, config.base)
        said += f"; its base is {base}"
        use = _python("peft", "AutoPeftModelForCausalLM", config.out, record)
    elif config.to == "merged":
        export.export_model(file, record, config.out)
        use = _python("transformers", "AutoModelForCausalLM", config.out, record)
    else:
        settings, _ = RunFolder(config.run, None).read_config()
        what = export.export_vector(file, record, config.out, settings, config.layer)
        said = what
        use = f"subliminal-jax steer --model {record.base.source} --vector {config.out}"
    print_line(f"{config.out}: {said}")
    print_line(use)


def _describe(record: StudentRecord) -> str:
    loss = "" if record.heldout_loss is None else f", held-out loss {record.heldout_loss:.4g}"
    return f"student {record.name} of the stage {record.stage}{loss}"


def _is_gguf(record: StudentRecord) -> bool:
    return Path(record.base.folder).suffix.lower() == ENDING


def _python(package: str, name: str, out: Path, record: StudentRecord) -> str:
    """The line that loads the student in the number format of its run."""
    return (
        f"from {package} import {name}; model = {name}.from_pretrained({str(out)!r}, "
        f"dtype={record.base.dtype!r})"
    )
