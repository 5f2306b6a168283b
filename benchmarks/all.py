"""Run every benchmark, and write RESULTS.md and results/*.json beside this file.

    python -m benchmarks.all [--quick] [--only train_step score]

Each benchmark runs in a process of its own, one after another; one that fails is named in the table
and in the exit status (1), and keeps its earlier results. A paragraph of a benchmark's docstring
that begins with "Not reached" is printed below the table where one of its goals was missed.
"""

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subliminal_jax.files import write_json, write_text

HERE = Path(__file__).parent
NAMES = ("train_step", "generate", "score", "diagnostics", "sweep", "growth", "compile",
         "steerability")  # fmt: skip
Found = Mapping[str, Any]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about a minute each")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    given = parser.parse_args()
    failures = {}
    for name in given.only:
        try:
            write_json(HERE / "results" / f"{name}.json", run(name, given.quick))
        except ValueError as error:
            failures[name] = str(error)
            print(f"benchmarks.all: {error}", file=sys.stderr)
    kept = {n: read(n) for n in NAMES if (HERE / "results" / f"{n}.json").is_file()}
    write_text(HERE / "RESULTS.md", page(kept, failures))
    sys.exit(1 if failures else 0)


def run(name: str, quick: bool) -> list[Found]:
    """The documents that a benchmark prints; its errors pass through as they come.

    Raises ValueError with the last of them where it fails.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
    last = ""
    with tempfile.TemporaryFile("w+") as out:
        started = subprocess.Popen(
            command, cwd=HERE.parent, stdout=out, stderr=subprocess.PIPE, text=True
        )
        assert started.stderr is not None
        for line in started.stderr:
            sys.stderr.write(line)
            last = line.strip() or last
        if started.wait():
            raise ValueError(f"{name} failed: {last or f'exit status {started.returncode}'}")
        out.seek(0)
        found = json.load(out)
    documents = found if isinstance(found, list) else [found]
    return [{**document, "quick": quick} for document in documents]


def read(name: str) -> list[Found]:
    return json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))


def page(found: Mapping[str, Sequence[Found]], failures: Mapping[str, str]) -> str:
    """The text of RESULTS.md."""
    documents = [document for several in found.values() for document in several]
    compared = [document for document in documents if "ratio" in document]
    grown = [document for document in documents if "exponents" in document]
    parts = [
        "# Benchmarks",
        "Written by `make bench`. A ratio is the peer's seconds over ours in interleaved "
        "repetitions (the interval holds the median at 95%); *CPU* is that of CPU seconds, which "
        "other work on the machine disturbs less. *Floor* is the share of our time that the work's "
        "FLOPs and bytes would take at the ceilings measured between the repetitions.",
        *(f"**{failure}** (the rows below are of an earlier run)" for failure in failures.values()),
        "## Machine",
        _machine(documents),
        "## Against the peer",
        _table(COLUMNS, [_row(document) for document in compared]),
    ]
    if grown:
        rows = [_grown(document) for document in grown]
        parts += ["## Growth", _table(GROWTH_COLUMNS, rows)]
    missed = {str(d["benchmark"]) for d in documents if d.get("goal") and not d["goal"]["reached"]}
    texts = {name: not_reached(docstring(name)) for name in sorted(missed)}
    if texts:
        parts.append("## Goals that were not reached")
    for name, text in texts.items():
        parts += [f"### {name}", text or f"See the docstring of `benchmarks/{name}.py`."]
    return "\n\n".join(parts) + "\n"


COLUMNS = ("benchmark", "setting", "ours (s)", "peer (s)", "ratio", "CPU", "compile (s)",
           "memory (MB), ours / peer", "floor", "results apart", "goal")  # fmt: skip
GROWTH_COLUMNS = ("axis", "seconds", "CPU seconds", "memory", "goal")


def _row(found: Found) -> list[str]:
    ratio, memory, equal = found["ratio"], found.get("peak_memory_mb"), found.get("equal")
    floor, goal, compile_seconds = (found.get(k) for k in ("floor", "goal", "compile_seconds"))
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
    """The aim and "reached" or "missed", or nothing where there is no goal."""
    if goal is None:
        return ""
    aim = next(value for key, value in goal.items() if isinstance(value, float | int))
    return f"{aim:.3g}: {'reached' if goal['reached'] else 'missed'}"


def setting_text(setting: Found) -> str:
    """The plain entries of a setting, shortly."""
    plain = {k: v for k, v in setting.items() if isinstance(v, str | int | float)}
    return ", ".join(f"{k} {v}" for k, v in plain.items() if len(str(v)) < 40)


def docstring(name: str) -> str:
    """Of a benchmark, without importing it."""
    return ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))) or ""


def not_reached(text: str) -> str:
    """The paragraphs of a docstring from the one that begins with "Not reached" on."""
    paragraphs = text.split("\n\n")
    starts = [i for i, p in enumerate(paragraphs) if p.startswith("Not reached")]
    return "\n\n".join(textwrap.dedent(p) for p in paragraphs[starts[0] :]) if starts else ""


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
    return "\n".join(lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines
    )


if __name__ == "__main__":
    main()
