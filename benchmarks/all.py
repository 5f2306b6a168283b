"""Run every benchmark, and write RESULTS.md and results/DEVICE/*.json beside this file.

    python -m benchmarks.all [--quick] [--only train_step score]
    python -m benchmarks.all --minutes 8        # on a machine that is lent for so long

What is measured is what JAX computes on: a GPU where it finds one, else the CPU (on a machine with
both, by JAX_PLATFORMS=cpu). Each kind of device has its folder of results and its part of the page;
a run touches those of its own alone.

`--minutes` divides the time among the benchmarks by their value; one whose share is over keeps the
cases that it came to and the earlier results of the others, and what it leaves of its time is the
next ones'.

Each benchmark runs in a process of its own, one after another; one that fails is named above the
table and in the exit status (1), and keeps its earlier results but for the cases it came to. A
paragraph of a benchmark's docstring that begins with "Not reached" is printed below the table of a
CPU where one of its goals was missed, one that begins with "Not reached on an accelerator" below
that of another device.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import OUT_OF_TIME, shares
from benchmarks.machine import device
from benchmarks.models import CACHE
from subliminal_jax.files import write_json, write_text

HERE = Path(__file__).parent
NAMES = (
    "train_step",
    "generate",
    "score",
    "diagnostics",
    "sweep",
    "growth",
    "compile",
    "steerability",
)
# Shares of a limited time, in this order. The others are about the host, or compile for long.
VALUES = {"train_step": 4, "generate": 3, "sweep": 3, "score": 2, "diagnostics": 2}
GRACE = 30.0  # seconds that a benchmark has to end in when its time is over
Document = Mapping[str, Any]
ByDevice = Mapping[str, Mapping[str, Sequence[Document]]]  # device's folder, benchmark
CPU = "cpu"  # the folder of its results
ON_ACCELERATOR = "Not reached on an accelerator"


class FailedBenchmark(ValueError):
    """A benchmark failed; `documents` are those that it printed before."""

    def __init__(self, message: str, documents: Sequence[Document]):
        super().__init__(message)
        self.documents = documents


def main() -> None:
    """Run the benchmarks named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about a minute each")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME")
    parser.add_argument("--minutes", type=float, help="for all of them; each is quick")
    options = parser.parse_args()
    limited = options.minutes is not None
    names = options.only or (tuple(VALUES) if limited else NAMES)
    end = time.monotonic() + 60 * options.minutes if limited else None
    folder = device().folder
    print(f"benchmarks.all: measures {device().kind}", file=sys.stderr, flush=True)
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as models:
        for i, name in enumerate(names):
            seconds = None if end is None else share_time(names[i:], end - time.monotonic())
            try:
                documents = run(name, options.quick or limited, models, seconds)
                if limited:  # maybe not all cases
                    documents = replace_documents(read(folder, name), documents)
                write(folder, name, documents)
            except FailedBenchmark as error:
                failures[name] = str(error)
                if error.documents:
                    write(folder, name, replace_documents(read(folder, name), error.documents))
                print(f"benchmarks.all: {error}", file=sys.stderr)
            write_text(HERE / "RESULTS.md", make_page(read_all(), {folder: failures}))
    sys.exit(1 if failures else 0)


def share_time(names: Sequence[str], left: float) -> float:
    """The seconds of the first of the benchmarks that are still to run, of those that are left."""
    values = [VALUES.get(name, 1) for name in names]
    return max(left, 0.0) * values[0] / sum(values)


def run(name: str, quick: bool, models: str, seconds: float | None = None) -> list[Document]:
    """Run a benchmark and return the documents that it prints; its stderr is passed through.

    `models` is the folder of random weights that all benchmarks share; after `seconds` no more is
    measured. Raises FailedBenchmark with the last line of stderr where it fails.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
    if seconds is not None:
        command += ["--seconds", str(seconds)]
    last_line = ""
    with tempfile.TemporaryFile("w+") as stdout:
        process = subprocess.Popen(
            command,
            cwd=HERE.parent,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {CACHE: models},
        )
        assert process.stderr is not None
        guard = None if seconds is None else threading.Timer(seconds + GRACE, process.kill)
        if guard is not None:
            guard.start()
        for line in process.stderr:
            sys.stderr.write(line)
            last_line = line.strip() or last_line
        process.stderr.close()
        status = process.wait()
        if guard is not None:
            guard.cancel()
        stdout.seek(0)
        try:
            printed = json.load(stdout)
        except json.JSONDecodeError:  # it failed before it printed
            printed = []
    documents = printed if isinstance(printed, list) else [printed]
    documents = [{**document, "quick": quick} for document in documents]
    if status not in (0, OUT_OF_TIME):
        last_line = last_line or f"exit status {process.returncode}"
        raise FailedBenchmark(f"{name} failed: {last_line}", documents)
    return documents


def write(folder: str, name: str, documents: Sequence[Document]) -> None:
    """Write the documents of a benchmark to the folder of a device."""
    (HERE / "results" / folder).mkdir(parents=True, exist_ok=True)
    write_json(HERE / "results" / folder / f"{name}.json", documents)


def read(folder: str, name: str) -> list[Document]:
    """The documents of a benchmark in the folder of a device; empty where there are none."""
    path = HERE / "results" / folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def read_all() -> ByDevice:
    """The results of all devices, the CPU's first."""
    folders = sorted({path.parent.name for path in (HERE / "results").glob("*/*.json")})
    folders.sort(key=lambda folder: folder != CPU)
    documents = {folder: {name: read(folder, name) for name in NAMES} for folder in folders}
    return {
        folder: {name: results for name, results in by_name.items() if results}
        for folder, by_name in documents.items()
    }


def replace_documents(old: Sequence[Document], new: Sequence[Document]) -> list[Document]:
    """`old` with those of an equal setting replaced by `new`, and the other `new` appended."""
    by_setting = {json.dumps(document["setting"]): document for document in (*old, *new)}
    return list(by_setting.values())


def make_page(by_device: ByDevice, failures: Mapping[str, Mapping[str, str]]) -> str:
    """The text of RESULTS.md: a part for each device. `failures` by device and benchmark."""
    measures = textwrap.dedent((shares.__doc__ or "").partition("\n\n")[2]).replace("\n", " ")
    parts = [
        "# Benchmarks",
        "Written by `make bench`, which measures what JAX computes on: a GPU where there is one, "
        "else the CPU. A ratio is the peer's seconds over ours in interleaved repetitions (the "
        "interval holds the median at 95%); *CPU* is that of CPU seconds, which other work on the "
        "machine disturbs less. *Floor* is the share of our time that the work's FLOPs and bytes "
        "would take at the ceilings measured between the repetitions: a product of matrices "
        "(float32 on a CPU, bfloat16 on an accelerator) and a copy. float32 is float32 on both "
        "sides, without TF32.",
        measures.strip(),
    ]
    for folder in dict.fromkeys((*by_device, *failures)):
        if by_device.get(folder) or failures.get(folder):
            parts += _device_section(folder, by_device.get(folder, {}), failures.get(folder, {}))
    return "\n\n".join(parts) + "\n"


def _device_section(
    folder: str, by_name: Mapping[str, Sequence[Document]], failures: Mapping[str, str]
) -> list[str]:
    """The section of one device, as paragraphs."""
    documents = [document for benchmark in by_name.values() for document in benchmark]
    compared = [document for document in documents if "ratio" in document]
    grown = [document for document in documents if "exponents" in document]
    parts = [
        f"## {_device_title(folder, documents)}",
        *(f"**{failure}** (its rows may be of an earlier run)" for failure in failures.values()),
        _describe_machines(documents),
        "### Against the peer",
        _table(COLUMNS, [_comparison_row(document) for document in compared]),
    ]
    if grown:
        rows = [_growth_row(document) for document in grown]
        parts += ["### Growth", _table(GROWTH_COLUMNS, rows)]
    missed = {str(d["benchmark"]) for d in documents if d.get("goal") and not d["goal"]["reached"]}
    texts = {
        name: extract_explanation(read_docstring(name), folder != CPU) for name in sorted(missed)
    }
    if texts:
        parts.append("### Goals that were not reached")
    for name, text in texts.items():
        parts += [f"#### {name}", text or f"See the docstring of `benchmarks/{name}.py`."]
    return parts


COLUMNS = (
    "benchmark",
    "setting",
    "ours (s)",
    "peer (s)",
    "ratio",
    "CPU",
    "compile (s)",
    "memory (MB), ours / peer",
    "floor",
    "mfu",
    "bandwidth",
    "results apart",
    "goal",
)
GROWTH_COLUMNS = ("axis", "seconds", "CPU seconds", "memory", "goal")


def _comparison_row(document: Document) -> list[str]:
    ratio, memory, equal = document["ratio"], document.get("peak_memory_mb"), document.get("equal")
    floor, goal, compile_seconds = (document.get(k) for k in ("floor", "goal", "compile_seconds"))
    reached = {} if floor is None else shares(floor, document["ours"]["seconds"])
    return [
        document["benchmark"] + (" (quick)" if document.get("quick") else ""),
        format_setting(document["setting"]),
        f"{document['ours']['seconds']:.3g}",
        f"{document['peer']['seconds']:.3g}",
        f"**{ratio['median']:.2f}** ({ratio['low']:.2f} to {ratio['high']:.2f})",
        f"{ratio['cpu_median']:.2f}" if "cpu_median" in ratio else "",
        "" if compile_seconds is None else f"{compile_seconds:.1f}",
        "" if memory is None else f"{memory['ours']:.0f} / {memory['peer']:.0f}",
        "" if floor is None else f"{100 * floor['share']:.0f}%",
        *(
            "" if (share := reached.get(name)) is None else f"{100 * share:.0f}%"
            for name in ("mfu", "bandwidth")
        ),
        "" if equal is None else f"{equal['apart']:.1e} ({equal['what']})",
        format_goal(goal),
    ]


def _growth_row(document: Document) -> list[str]:
    spread = [
        f"{e['value']:.2f} ({e['low']:.2f} to {e['high']:.2f})"
        for e in (document["exponents"][k] for k in ("seconds", "cpu_seconds", "memory_mb"))
    ]
    return [str(document["setting"]["axis"]), *spread, format_goal(document["goal"])]


def format_goal(goal: Document | None) -> str:
    """The quantity (unless a ratio), the aim, and "reached" or "missed"; "" without a goal."""
    if goal is None:
        return ""
    aim = next(value for value in goal.values() if isinstance(value, float | int))
    quantity = goal.get("of", "ratio")
    text = f"{aim:.3g}" if quantity == "ratio" else f"{quantity} {100 * aim:.0f}%"
    return f"{text}: {'reached' if goal['reached'] else 'missed'}"


def format_setting(setting: Document) -> str:
    """The short plain entries of a setting."""
    plain = {k: v for k, v in setting.items() if isinstance(v, str | int | float)}
    return ", ".join(f"{k} {v}" for k, v in plain.items() if len(str(v)) < 40)


def read_docstring(name: str) -> str:
    """The docstring of a benchmark, read without importing it."""
    return ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))) or ""


def extract_explanation(text: str, accelerator: bool) -> str:
    """The paragraphs of a docstring that explain missed goals on this kind of device: from the one
    that begins with "Not reached" to the one for the other kind."""
    paragraphs = text.split("\n\n")
    kinds = [p.startswith(ON_ACCELERATOR) for p in paragraphs]
    starts = [i for i, p in enumerate(paragraphs) if p.startswith("Not reached")]
    begin = next((i for i in starts if kinds[i] == accelerator), len(paragraphs))
    end = next((i for i in starts if i > begin and kinds[i] != accelerator), len(paragraphs))
    return "\n\n".join(textwrap.dedent(p) for p in paragraphs[begin:end])


def _device_title(folder: str, documents: Sequence[Document]) -> str:
    """The heading of a device: its name, or its folder without results."""
    key = "cpu" if folder == CPU else "device"
    names = sorted({str(d["machine"][key]) for d in documents if key in d.get("machine", {})})
    return f"{'CPU: ' if folder == CPU else ''}{', '.join(names) or folder}"


def _describe_machines(documents: Sequence[Document]) -> str:
    """A list of the machines' properties over all documents, and the range of the load."""
    machines = [d["machine"] for d in documents if "machine" in d]
    if not machines:
        return "No results."
    loads = sorted(m["load"] for m in machines if "load" in m)
    merged: dict[str, set[str]] = {}
    for machine in machines:
        for key, value in machine.items():
            if key != "load":
                merged.setdefault(key, set()).add(str(value))
    lines = [f"- {key}: {', '.join(sorted(values))}" for key, values in merged.items()]
    if loads:
        lines.append(f"- load when the benchmarks ended: {loads[0]} to {loads[-1]}")
    floors = [d["floor"] for d in documents if "ceiling_flops" in (d.get("floor") or {})]
    if floors:
        flops, moved = (max(f[f"ceiling_{k}"] for f in floors) for k in ("flops", "bytes"))
        lines.append(
            f"- ceilings measured, the largest: {flops / 1e12:.3g} TFLOP/s, {moved / 1e9:.3g} GB/s"
        )
    return "\n".join(lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines
    )


if __name__ == "__main__":
    main()
