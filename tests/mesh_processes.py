"""One of two processes of four devices each: run by tests/test_mesh.py.

python -m tests.mesh_processes FOLDER PORT WHICH joins the other one and computes on all devices
what tests/mesh_results.py does, going on from the checkpoint that the mesh 8x1 left there. Then
both load FOLDER/weights under a mesh whose axis `model` runs across the processes, save what they
loaded, and share a run's folder. FOLDER/process-WHICH.json says what this process saw.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from subliminal_jax import processes
from subliminal_jax.errors import InputError
from subliminal_jax.files import atomic_path
from subliminal_jax.models import weights
from subliminal_jax.models.mesh import make_mesh, param_shardings
from subliminal_jax.runs.run_folder import RunFolder
from tests.mesh_results import CFG, devices, results, write


def loaded(folder: Path) -> dict[str, Any]:
    """The bytes that this process read, and the tree saved again in whole."""
    read, sizes = weights.StoredTensor.read, []

    def counted(self: Any, index: Any) -> np.ndarray:
        part = read(self, index)
        sizes.append(part.nbytes)
        return part

    weights.StoredTensor.read = counted
    with warnings.catch_warnings(action="ignore"), jax.set_mesh(make_mesh(1, 8)):
        params = weights.load_params(folder / "weights", CFG, shardings=param_shardings(CFG))
        half = weights.load_params(
            folder / "weights", CFG, dtype="bfloat16", shardings=param_shardings(CFG)
        )
        with atomic_path(folder / "saved") as temporary:
            temporary.mkdir()
            weights.save_params(temporary, params, CFG)
        with atomic_path(folder / "saved-half") as temporary:
            temporary.mkdir()
            weights.save_params(temporary, half, CFG)
    return {"read": sum(sizes) // 2, "local_up": local_size(params["layers"]["up"])}


def local_size(leaf: jax.Array) -> int:
    return sum(part.data.size for part in leaf.addressable_shards)


def shared_run(folder: Path) -> dict[str, Any]:
    with RunFolder.open(folder / "run", {"a": 1}) as run:
        run.log({"step": 1})
        run.log({"step": 2})
        run.rewind(1)
        if not run.finished:
            run.write_results({"b": 2})
        numbers = {"metrics": run.read_metrics(), "results": run.read_results()}
    try:
        RunFolder.open(folder / "run", {"a": 2})
    except InputError as error:
        numbers["error"] = str(error)
    return numbers


def main(folder: Path, port: str, which: int) -> None:
    processes.connect(f"localhost:{port}", 2, which)
    with devices("4x2"):
        numbers = results(folder / "checkpoints-4x2", folder / "checkpoints-8x1", False)
        write(folder / "4x2.npz", numbers)
    said = {"first": processes.is_first(), **loaded(folder), **shared_run(folder)}
    (folder / f"process-{which}.json").write_text(json.dumps(said), encoding="utf-8")
    processes.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
