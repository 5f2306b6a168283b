"""Run every benchmark, and write RESULTS.md and results/DEVICE/*.json beside this file.

    python -m benchmarks.all [--quick] [--only train_step score]

What is measured is what JAX computes on: a GPU where it finds one, else the CPU (on a machine with
both, by JAX_PLATFORMS=cpu). Each kind of device has its folder of results and its part of the page;
a run touches those of its own alone.

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import shares
from benchmarks.machine import device
from benchmarks.models import CACHE
from subliminal_jax.files import write_json, write_text

HERE = Path(__file__).parent
NAMES = ("train_step", "generate", "score", "diagnostics", "sweep", "growth", "compile",
         "steerability")  # fmt: skip
Found = Mapping[str, Any]
ByDevice = Mapping[str, Mapping[str, Sequence[Found]]]  # by the device's folder and the benchmark
CPU = "cpu"  # the folder of its results
ON_ACCELERATOR = "Not reached on an accelerator"


class FailedBenchmark(ValueError):
    """Says what failed; `documents` are those that were printed all the same."""

    def __init__(self, message: str, documents: Sequence[Found]):
        super().__init__(message)
        self.documents = documents


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about a minute each")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    given = parser.parse_args()
    at = device().folder
    print(f"benchmarks.all: measures {device().kind}", file=sys.stderr, flush=True)
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as models:
        for name in given.only:
            try:
                write(at, name, run(name, given.quick, models))
            except FailedBenchmark as error:
                failures[name] = str(error)
                if error.documents:
                    write(at, name, replaced(read(at, name), error.documents))
                print(f"benchmarks.all: {error}", file=sys.stderr)
            write_text(HERE / "RESULTS.md", page(stored(), {at: failures}))
    sys.exit(1 if failures else 0)


def run(name: str, quick: bool, models: str) -> list[Found]:
    """The documents that a benchmark prints; its errors pass through as they come. `models` is the
    folder for random weights that all benchmarks share.

    Raises FailedBenchmark with the last of its errors where it fails.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
    last = ""
    with tempfile.TemporaryFile("w+") as out:
        started = subprocess.Popen(
            command, cwd=HERE.parent, stdout=out, stderr=subprocess.PIPE, text=True,
            env=os.environ | {CACHE: models},
        )  # fmt: skip
        assert started.stderr is not None
        for line in started.stderr:
            sys.stderr.write(line)
            last = line.strip() or last
        failed = started.wait()
        out.seek(0)
        try:
            found = json.load(out)
        except json.JSONDecodeError:  # it came to nothing
            found = []
    documents = found if isinstance(found, list) else [found]
    documents = [{**document, "quick": quick} for document in documents]
    if failed:
        last = last or f"exit status {started.returncode}"
        raise FailedBenchmark(f"{name} failed: {last}", documents)
    return documents


def write(at: str, name: str, documents: Sequence[Found]) -> None:
    """Into the folder of a device."""
    (HERE / "results" / at).mkdir(parents=True, exist_ok=True)
    write_json(HERE / "results" / at / f"{name}.json", documents)


def read(at: str, name: str) -> list[Found]:
    """From the folder of a device; none where there are none."""
    path = HERE / "results" / at / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def stored() -> ByDevice:
    """The results of all devices, the CPU's first."""
    folders = sorted({path.parent.name for path in (HERE / "results").glob("*/*.json")})
    folders.sort(key=lambda at: at != CPU)
    found = {at: {name: read(at, name) for name in NAMES} for at in folders}
    return {at: {n: several for n, several in of.items() if several} for at, of in found.items()}


def replaced(old: Sequence[Found], new: Sequence[Found]) -> list[Found]:
    """`old` with the documents of `new` in place of those of the same setting, and behind them."""
    by_setting = {json.dumps(found["setting"]): found for found in (*old, *new)}
    return list(by_setting.values())


def page(found: ByDevice, failures: Mapping[str, Mapping[str, str]]) -> str:
    """The text of RESULTS.md: a part for each device. `failures` by device and benchmark."""
    counted = textwrap.dedent((shares.__doc__ or "").partition("\n\n")[2]).replace("\n", " ")
    parts = [
        "# Benchmarks",
        "Written by `make bench`, which measures what JAX computes on: a GPU where there is one, "
        "else the CPU. A ratio is the peer's seconds over ours in interleaved repetitions (the "
        "interval holds the median at 95%); *CPU* is that of CPU seconds, which other work on the "
        "machine disturbs less. *Floor* is the share of our time that the work's FLOPs and bytes "
        "would take at the ceilings measured between the repetitions: a product of matrices "
        "(float32 on a CPU, bfloat16 on an accelerator) and a copy. float32 is float32 on both "
        "sides, without TF32.",
        counted.strip(),
    ]
    for at in dict.fromkeys((*found, *failures)):
        if found.get(at) or failures.get(at):
            parts += _part(at, found.get(at, {}), failures.get(at, {}))
    return "\n\n".join(parts) + "\n"


def _part(at: str, found: Mapping[str, Sequence[Found]], failures: Mapping[str, str]) -> list[str]:
    """The part of one device."""
    documents = [document for several in found.values() for document in several]
    compared = [document for document in documents if "ratio" in document]
    grown = [document for document in documents if "exponents" in document]
    parts = [
        f"## {_title(at, documents)}",
        *(f"**{failure}** (its rows may be of an earlier run)" for failure in failures.values()),
        _machine(documents),
        "### Against the peer",
        _table(COLUMNS, [_row(document) for document in compared]),
    ]
    if grown:
        rows = [_grown(document) for document in grown]
        parts += ["### Growth", _table(GROWTH_COLUMNS, rows)]
    missed = {str(d["benchmark"]) for d in documents if d.get("goal") and not d["goal"]["reached"]}
    texts = {name: not_reached(docstring(name), at != CPU) for name in sorted(missed)}
    if texts:
        parts.append("### Goals that were not reached")
    for name, text in texts.items():
        parts += [f"#### {name}", text or f"See the docstring of `benchmarks/{name}.py`."]
    return parts


COLUMNS = ("benchmark", "setting", "ours (s)", "peer (s)", "ratio", "CPU", "compile (s)",
           "memory (MB), ours / peer", "floor", "mfu", "bandwidth", "results apart",
           "goal")  # fmt: skip
GROWTH_COLUMNS = ("axis", "seconds", "CPU seconds", "memory", "goal")


def _row(found: Found) -> list[str]:
    ratio, memory, equal = found["ratio"], found.get("peak_memory_mb"), found.get("equal")
    floor, goal, compile_seconds = (found.get(k) for k in ("floor", "goal", "compile_seconds"))
    reached = {} if floor is None else shares(floor, found["ours"]["seconds"])
    return [
        found["benchmark"] + (" (quick)" if found.get("quick") else ""),
        setting_text(found["setting"]),
        f"{found['ours']['seconds']:.3g}",
        f"{found['peer']['seconds']:.3g}",
        f"**{ratio['median']:.2f}** ({ratio['low']:.2f} to {ratio['high']:.2f})",
        f"{ratio['cpu_median']:.2f}" if "cpu_median" in ratio else "",
        "" if compile_seconds is None else f"{compile_seconds:.1f}",
        "" if memory is None else f"{memory['ours']:.0f} / {memory['peer']:.0f}",
        "" if floor is None else f"{100 * floor['share']:.0f}%",
        *(
            "" if reached.get(name) is None else f"{100 * reached[name]:.0f}%"
            for name in ("mfu", "bandwidth")
        ),
        "" if equal is None else f"{equal['apart']:.1e} ({equal['what']})",
        goal_text(goal),
    ]


def _grown(found: Found) -> list[str]:
    spread = [
        f"{e['value']:.2f} ({e['low']:.2f} to {e['high']:.2f})"
        for e in (found["exponents"][k] for k in ("seconds", "cpu_seconds", "memory_mb"))
    ]
    return [str(found["setting"]["axis"]), *spread, goal_text(found["goal"])]


def goal_text(goal: Found | None) -> str:
    """What the aim is of (but for a ratio), the aim, and "reached" or "missed"; nothing where there
    is no goal."""
    if goal is None:
        return ""
    aim = next(value for value in goal.values() if isinstance(value, float | int))
    of = goal.get("of", "ratio")
    text = f"{aim:.3g}" if of == "ratio" else f"{of} {100 * aim:.0f}%"
    return f"{text}: {'reached' if goal['reached'] else 'missed'}"


def setting_text(setting: Found) -> str:
    """The plain entries of a setting, shortly."""
    plain = {k: v for k, v in setting.items() if isinstance(v, str | int | float)}
    return ", ".join(f"{k} {v}" for k, v in plain.items() if len(str(v)) < 40)


def docstring(name: str) -> str:
    """Of a benchmark, without importing it."""
    return ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))) or ""


def not_reached(text: str, accelerator: bool) -> str:
    """The paragraphs of a docstring from the one on that begins with what is said of such a device,
    up to that of the other kind."""
    paragraphs = text.split("\n\n")
    kinds = [p.startswith(ON_ACCELERATOR) for p in paragraphs]
    starts = [i for i, p in enumerate(paragraphs) if p.startswith("Not reached")]
    begin = next((i for i in starts if kinds[i] == accelerator), len(paragraphs))
    end = next((i for i in starts if i > begin and kinds[i] != accelerator), len(paragraphs))
    return "\n\n".join(textwrap.dedent(p) for p in paragraphs[begin:end])


def _title(at: str, documents: Sequence[Found]) -> str:
    """What a device is called."""
    key = "cpu" if at == CPU else "device"
    names = sorted({str(d["machine"][key]) for d in documents if key in d.get("machine", {})})
    return f"{'CPU: ' if at == CPU else ''}{', '.join(names) or at}"


def _machine(documents: Sequence[Found]) -> str:
    """What the machines of all documents have in common, and the range of the load."""
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
