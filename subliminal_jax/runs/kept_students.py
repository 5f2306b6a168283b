"""The students that a run keeps: written when they are trained, read to be exported."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from subliminal_jax import processes
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound
from subliminal_jax.files import atomic_path
from subliminal_jax.fingerprints import weights_digest
from subliminal_jax.models.hub import Model
from subliminal_jax.models.quantized import find_quantization
from subliminal_jax.runs.student_files import (
    RECORD,
    STUDENTS,
    Base,
    KeptStudents,
    StudentRecord,
)
from subliminal_jax.seals import digest_path, find_file_damage, seal_file
from subliminal_jax.serialization import to_json
from subliminal_jax.tensor_files import read_tensors
from subliminal_jax.training.adapters import Adapter, Full, LoRA, Trainable, Vector
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.sweep import State, Sweep

_SEPARATOR = "/"
# A setting of students, whose rates compete: steps, optimizer, data, rank and rows.
Setting = tuple[Any, ...]


class StudentKeeper:
    """Writes the trained students of a run to its folder: none of them, the best, or all.

    The best are those at the rate with the lowest mean held-out loss over its seeds, of each
    optimizer on each data set; a better rate of a later stage replaces them. Rates at which a
    student diverged or ended unstable are not among them. A diverged student is never written.
    """

    def __init__(self, run: Path, model: Model, kept: KeptStudents):
        self.folder, self.model, self.kept = run / STUDENTS, model, kept
        self._base: Base | None = None
        self._losses: dict[Setting, dict[float, list[float | None]]] = {}
        self._files: dict[Setting, dict[float, list[Path]]] = {}

    def keep(self, stage: str, sweep: Sweep, state: State, rows: Sequence[StudentRow]) -> None:
        """Write the students of a stage that are to be kept; `rows` are their final ones."""
        if self.kept == "none":
            return
        settings = [_find_setting(arm, sweep.config.steps) for arm in sweep.arms]
        for setting, row in zip(settings, rows, strict=True):
            loss = row.heldout_loss if ended_sound(row) else None
            rates = self._losses.setdefault(setting, defaultdict(list))
            rates[row.learning_rate].append(loss)
        for i, (setting, arm, row) in enumerate(zip(settings, sweep.arms, rows, strict=True)):
            is_kept = self.kept == "all" or arm.learning_rate == self._best_rate(setting)
            if is_kept and not row.diverged:
                file = self.folder / stage / f"{i:03}.safetensors"
                save_student(file, self._describe(stage, sweep, arm, row), sweep.student(state, i))
                files = self._files.setdefault(setting, defaultdict(list))
                files[arm.learning_rate].append(file)
        if self.kept == "best":
            for setting in dict.fromkeys(settings):
                self._remove_worse(setting)

    def _best_rate(self, setting: Setting) -> float | None:
        means = {
            rate: sum(sound) / len(sound)
            for rate, losses in self._losses[setting].items()
            if len(sound := [loss for loss in losses if loss is not None]) == len(losses)
        }
        return min(means, key=lambda rate: means[rate]) if means else None

    def _remove_worse(self, setting: Setting) -> None:
        best, files = self._best_rate(setting), self._files.get(setting, {})
        for rate in [rate for rate in files if rate != best]:
            for file in files.pop(rate):
                if processes.is_first():
                    file.unlink(missing_ok=True)
                    digest_path(file).unlink(missing_ok=True)

    def _describe(self, stage: str, sweep: Sweep, arm: Arm, row: StudentRow) -> StudentRecord:
        if self._base is None:
            self._base = describe_base(self.model)
        return StudentRecord(
            optimizer=arm.optimizer.label,
            learning_rate=arm.learning_rate,
            seed=arm.seed,
            data=arm.data,
            stage=stage,
            steps=sweep.config.steps,
            heldout_loss=row.heldout_loss,
            base=self._base,
            rank=arm.rank,
            rows=arm.rows,
            **_describe_adapter(sweep.config.adapter, arm.rank),
        )


def describe_base(model: Model) -> Base:
    """What has to be loaded to get the model again, and how it is known to be the same."""
    return Base(
        name=model.name,
        source=model.source,
        folder=str(model.folder.resolve()),
        dtype=str(model.params["embed"].dtype),
        quantize=find_quantization(model.params),
        layers=model.cfg.layers,
        digest=weights_digest(model.params),
    )


def save_student(file: Path, record: StudentRecord, trainable: Trainable) -> None:
    """Write one student, and its digest beside it."""
    leaves = jax.tree_util.tree_leaves_with_path(trainable)
    tensors = {
        jax.tree_util.keystr(path, simple=True, separator=_SEPARATOR): np.asarray(leaf, np.float32)
        for path, leaf in leaves
    }
    # A single entry: safetensors writes several in any order.
    metadata = {RECORD: json.dumps(to_json(record))}
    with atomic_path(file) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        seal_file(file, temporary)


def load_student(file: Path, record: StudentRecord) -> tuple[Trainable, Adapter]:
    """The trained tensors (float32) of a kept student, and what they are.

    Raises InputError for a file that is not as it was written, or not finite.
    """
    if damage := find_file_damage(file):
        raise InputError(
            f"{file} is damaged ({damage}): remove the run's results.json and repeat its command, "
            "which writes it again from its checkpoints"
        )
    tree: Trainable = {}
    for name, tensor in read_tensors(file)[0].items():
        if not np.isfinite(tensor).all():
            raise InputError(f"{file}: {name} is not finite; train the student again")
        *parents, last = name.split(_SEPARATOR)
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = jnp.asarray(tensor)
    return tree, make_adapter(record)


def make_adapter(record: StudentRecord) -> Adapter:
    """What the student trained."""
    if record.kind == "full":
        return Full()
    if record.kind == "vector":
        assert record.layer is not None
        return Vector(record.layer)
    assert record.lora_rank is not None and record.alpha is not None
    layers = record.layers or None
    return LoRA(record.lora_rank, record.alpha, record.targets, layers, record.rslora)


def _describe_adapter(adapter: Adapter, rank: int | None) -> dict[str, Any]:
    """The fields of a record; `rank` is that of the student where it has one of its own."""
    if isinstance(adapter, Full):
        return {"kind": "full"}
    if isinstance(adapter, Vector):
        return {"kind": "vector", "layer": adapter.layer}
    return {
        "kind": "lora",
        "lora_rank": rank or adapter.rank,
        "alpha": adapter.alpha,
        "rslora": adapter.rslora,
        "targets": adapter.targets,
        "layers": adapter.layers or (),
    }


def _find_setting(arm: Arm, steps: int) -> Setting:
    return steps, arm.optimizer.label, arm.data, arm.rank, arm.rows
