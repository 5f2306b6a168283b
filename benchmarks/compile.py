"""Seconds of the main job with the compilation cache on disk, against a cold start.

    python -m benchmarks.compile [--quick]

The main job (`subliminal-jax optimizer-comparison` on the shipped model, few steps) runs from its
command to its report in a process of its own, once with the programs that an earlier run left on
disk, once without any. Both must come to the same results. The document lists how many programs
each compiled (or fetched), by function.

Expected on 2 CPU cores: about half of the time or less; the number of programs does not depend on
the number of students, steps or rates.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import (
    Document,
    Effort,
    Equal,
    largest_difference,
    make_document,
    print_summary,
    run_command,
    run_pair,
)
from benchmarks.machine import device
from benchmarks.workers import BenchmarkError, Setting, Work

JOB = (
    "--layer",
    "3",
    "--norm",
    "1.4",
    "--prompts",
    "chat",
    "--keep",
    "all",
    "--rows",
    "96",
    "--heldout-rows",
    "16",
    "--max-tokens",
    "28",
    "--steps",
    "8",
    "--batch-size",
    "16",
    "--gradient-rows",
    "64",
    "--seeds",
    "2",
    "--optimizers",
    "adamw",
    "sgd",
    "--rates",
    "adamw=1e-3,3e-3",
    "sgd=0.1,0.3",
)
EQUAL = 1e-6  # the same programs on the same inputs
# An accelerator's compiler tries kernels out: a cold start may choose others than the first run
# did, and a sum in another order may turn a draw of the teacher's rows.
ACCELERATOR_EQUAL = 1e-2
LISTED = 12  # functions, those compiled most often


def main(quick: bool) -> list[Document]:
    accelerator = device().accelerator
    effort = Effort(seconds=20.0 if quick else 120.0, least=2 if quick else 3, most=5, warm=1)
    if accelerator:
        effort = Effort(seconds=0.0, least=1 if quick else 2, warm=1)
    with tempfile.TemporaryDirectory() as scratch:
        setting = {"job": " ".join(JOB)}
        pair = run_pair(__name__, setting | {"scratch": scratch}, effort, ("cached", "cold"))
        cached_losses, cold_losses = (
            {"losses": side.results["losses"]} for side in (pair.ours, pair.peer)
        )
        names = json.loads(str(pair.peer.results["names"]))
        allowed = ACCELERATOR_EQUAL if accelerator else EQUAL
        equal = Equal(
            "held-out losses (nats)", largest_difference(cached_losses, cold_losses), allowed
        )
        result = make_document("compile", setting, pair, equal=equal)
        result["compilations"] = {
            "total": sum(names.values()),
            "most": dict(list(names.items())[:LISTED]),
        }
        print_summary(result)
        return [result]


def cached(setting: Setting) -> Work:
    """With the programs of the first repetition."""
    return _jobs(Path(setting["scratch"]), keep=True)


def cold(setting: Setting) -> Work:
    """Without any."""
    return _jobs(Path(setting["scratch"]), keep=False)


def _jobs(scratch: Path, keep: bool) -> Work:
    output: dict[str, Any] = {}

    def repeat() -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            cache = str(scratch / "programs") if keep else "off"
            code = f"from benchmarks.compile import job; job({str(Path(folder) / 'run')!r})"
            process = subprocess.run(
                [sys.executable, "-c", code],
                env=os.environ | {"SUBLIMINAL_JAX_CACHE": cache},
                capture_output=True,
                text=True,
            )
            if process.returncode:
                raise BenchmarkError(f"the main job failed: {process.stderr.strip()[-300:]}")
            output.update(json.loads(process.stdout.splitlines()[-1]))

    def results() -> dict[str, np.ndarray]:
        names = dict(Counter(output["names"]).most_common())
        return {"losses": np.asarray(output["losses"]), "names": np.asarray(json.dumps(names))}

    return Work(repeat, results)


def job(out: str) -> None:
    """Run the main job into `out`; prints the programs' names and the students' losses."""
    from subliminal_jax.cli import main as run
    from subliminal_jax.compilation import count_compilations

    with count_compilations() as compiled:
        run(["optimizer-comparison", "--out", out, *JOB])
    found = json.loads((Path(out) / "results.json").read_text())
    losses = [arm["heldout_loss"] for arm in found["students"]]
    print("\n" + json.dumps({"names": compiled.names, "losses": losses}))


if __name__ == "__main__":
    run_command("benchmarks.compile", __doc__ or "", main)
