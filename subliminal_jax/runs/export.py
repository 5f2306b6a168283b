"""A kept student of a run in the formats of others: PEFT, transformers, a vector file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import jax

from subliminal_jax.data.prompts import PromptKind
from subliminal_jax.diagnostics.alignment import measure_mean_activation
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.panel import encode_probe
from subliminal_jax.fingerprints import weights_digest
from subliminal_jax.gguf_files import is_gguf
from subliminal_jax.models.hub import Model, load_model, outline_model, save_model
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.models.truncate import truncate_model
from subliminal_jax.runs.kept_students import load_student
from subliminal_jax.runs.student_files import Base, StudentRecord
from subliminal_jax.runs.students import PROBE_PROMPTS, probe_prompts
from subliminal_jax.steering.io import VectorInfo, save_steering
from subliminal_jax.training.adapters import LoRA, attach
from subliminal_jax.training.adapters_io import save_adapter


def export_adapter(file: Path, record: StudentRecord, out: Path, folder: Path | None = None) -> str:
    """Write a LoRA student as a folder of PEFT; returns what it names as its base: the hub's name,
    or a folder.

    Args:
      folder: holds the base in the format of transformers, where the run read it from elsewhere.

    Raises InputError where the base is not a whole checkpoint, for a `folder` with other weights,
    and as `save_adapter` does.
    """
    if folder is not None:
        record = replace(record, base=replace(record.base, folder=str(folder.resolve())))
        load_base(record.base)
    base = outline_model(find_base(record.base))
    if base.cfg.layers != record.base.layers:
        raise InputError(
            f"{record.name} was trained from {record.base.name}, the first {record.base.layers} of "
            f"{base.cfg.layers} blocks, which no checkpoint holds: give --to merged"
        )
    trainable, adapter = load_student(file, record)
    assert isinstance(adapter, LoRA)
    save_adapter(out, trainable, adapter, base.cfg, base.reference)
    return base.reference


def export_model(file: Path, record: StudentRecord, out: Path) -> None:
    """Write a student of LoRA or all weights as a model folder of transformers, with tokenizer, in
    the number format that its run computed in.

    Raises InputError where the base cannot be loaded or is not the student's, and as `save_model`
    does.
    """
    trainable, adapter = load_student(file, record)
    model = load_base(record.base)
    params, steering = attach(model.params, trainable, model.cfg, adapter)
    assert steering is None
    save_model(out, params, model.cfg, model.tokenizer, stop_ids=model.stop_ids)


def export_vector(
    file: Path,
    record: StudentRecord,
    out: Path,
    settings: Mapping[str, Any],
    layer: int | None = None,
) -> str:
    """Write a file for `steer --vector`; returns what the vector is, in words.

    A student that is a vector is written as it is. Of others it is the shift of their mean
    activation after the steering layer, at the end of prompts that no student trained on: the one
    whose cosine with the teacher's is the student's EAS.

    Args:
      settings: of the run, which say steering layer and prompts.
      layer: takes the place of the run's (0-based).

    Raises InputError for a layer that the model does not have or that nothing says, where the base
    cannot be loaded or is not the student's, and as `save_steering` does.
    """
    trainable, adapter = load_student(file, record)
    origin = f"student {record.name}"
    if record.kind == "vector":
        assert record.layer is not None
        steering = steer(trainable["vector"], record.layer)
        save_steering(out, steering, VectorInfo(record.base.name, origin, method="trained"))
        return f"the vector of {origin}, after layer {record.layer}"
    if layer is None:
        layer = settings.get("layer")
    if not isinstance(layer, int):
        raise InputError("the run's settings say no steering layer: give --layer")
    model = load_base(record.base)
    layer = model.cfg.default_layer if layer == -1 else model.cfg.check_layer(layer)
    asked = settings.get("prompts")
    kind = cast(PromptKind, asked if asked in get_args(PromptKind) else "numbers")
    probe = encode_probe(model, probe_prompts(kind, settings.get("seed", 0)))

    def mean(params: Any, steering: Steering | None) -> jax.Array:
        return measure_mean_activation(params, probe, model.cfg, (layer,), steering)[0]

    student = attach(model.params, trainable, model.cfg, adapter)
    shift = mean(*student) - mean(model.params, None)
    description = f"mean activation shift of {origin} on {PROBE_PROMPTS} prompts ({kind})"
    info = VectorInfo(record.base.name, description, "last token of the prompt", method="mean")
    save_steering(out, steer(shift, layer), info)
    return f"{description}, after layer {layer}"


def find_base(base: Base) -> str:
    """What the model is loaded from that a student was trained from: the folder or GGUF file that
    the run read, or where that is gone the name of a shipped or packaged model or of the hub.

    Raises InputError where there is none any more.
    """
    if is_gguf(base.folder) or (Path(base.folder) / "config.json").is_file():
        return base.folder
    if Path(base.source).is_absolute():
        raise InputError(f"the base of the student, {base.name}, is no longer in {base.folder}")
    return base.source


def load_base(base: Base) -> Model:
    """The model that a student was trained from.

    Raises InputError where it cannot be loaded, and where its weights are other ones by now.
    """
    model = load_model(find_base(base), dtype=base.dtype, quantize=base.quantize)
    if base.layers < model.cfg.layers:
        model = truncate_model(model, base.layers)
    if weights_digest(model.params) != base.digest:
        raise InputError(
            f"the weights in {base.folder} are not those that the student was trained from: put "
            "the model of the run there, or train the student again"
        )
    return model
