"""Run every experiment at toy size on two checkouts and compare what they computed.

    git worktree add ../before REVISION
    python -m tests.compare_checkouts ../before . --work /tmp/net

Both sides run on one machine, each with its own code and the same inputs, which this script makes.
Compared are all numbers of `results.json`, by their place in it; the table says for each experiment
the largest relative difference and where it is. `--tolerance 0` (the default) asks for equality.
What may differ is listed here, each with its reason:

* `VOLATILE`: seconds, paths, and what is drawn from a clock;
* `RENAMED`: keys that have another name now, by experiment;
* `MOVED`: entries that stand in another place now, by experiment: patterns of their old places;
* `FLAGS`: flags that have another name now;
* `EXPLAINED`: places that are other than they were on purpose.

Entries of results.json that are new are listed and do not count; nor does a null where there was
no key.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VOLATILE = re.compile(
    r"(^|\.)(seconds|time|path|file|cost|command|version|duration|peak_bytes|rate_per_second|checksum)(\.|$)"
)
RENAMED: dict[str, dict[str, str]] = {
    "steering-reliability": {"own": "unshifted", "given": "given_vectors"},
    "teacher-vector": {"random-teacher": "random_teacher"},
    "cross-model": {
        "own": "own_data",
        "foreign": "foreign_data",
        "raw_own": "raw_own_data",
        "raw_foreign": "raw_foreign_data",
    },
    "gradient-alignment": {
        "own": "teacher_alone",
        "norm_own": "norm_teacher",
        "squared": "squared_norm",
        "top_mass": "mass_in_top_percent",
        "decile_mass": "mass_in_top_tenth",
        "decile_masses": "mass_by_tenth",
        "decile_component": "component_in_top_tenth",
        "decile_components": "component_by_tenth",
        "cosine_own": "cosine_teacher",
    },
    "logit-linear-selection": {"told": "untrained", "between": "adamw_over_sgd"},
    "optimizer-comparison": {"arms": "students"},
}
_BEST_METRICS = "eas|shift_size|shift_component|trait_rate|trait_log_prob|heldout_loss"
_COMPARED = {  # what both experiments on optimizers hold
    rf"^best\.(\d+)\.({_BEST_METRICS})\.": r"best.\1.metrics.\2.student.",
    rf"^best\.(\d+)\.control_({_BEST_METRICS})\.": r"best.\1.metrics.\2.control.",
    rf"^best\.(\d+)\.({_BEST_METRICS})_difference\b": r"best.\1.metrics.\2.difference",
    r"^(anatomy\.\d+\.)(gradient|update)_": r"\1\2.",
    r"^(anatomy\..*\.top_\w+)\.0$": r"\1.thousandth",
    r"^(anatomy\..*\.top_\w+)\.1$": r"\1.hundredth",
    r"^(anatomy\..*\.top_\w+)\.2$": r"\1.tenth",
    r"^(curves\.\d+)\.x\b": r"\1.steps",
}
# experiment -> pattern of old places -> new place
MOVED: dict[str, dict[str, str]] = {
    "optimizer-comparison": {
        **_COMPARED,
        r"^matched_loss\.rows\b": "matched_loss.students",
        r"^(matched_loss\.students\.\d+\.)(?!step|optimizer)": r"\1metrics.",
    },
    "logit-linear-selection": {r"^pool\.(mentions|length)$": r"pool.left_out.\1"},
}
FLAGS: dict[str, dict[str, str]] = {
    "steering-reliability": {"--world-traits": "--traits"},
}
# experiment -> pattern of places -> reason
_STUDENT_KEYS = {
    r"^curves\.\d+\.data$": "all are of steered students",
    r"^students\.\d+\.score$": "it is shift_component times vector_norm",
    r"^students\.\d+\.gradient_norm$": "final rows hold what measures say, metrics.jsonl has it",
}
EXPLAINED: dict[str, dict[str, str]] = {
    "optimizer-comparison": _STUDENT_KEYS,
    "logit-linear-selection": {r"^speed\.pairs_per_second$": "by a clock"},
    "gradient-alignment": {
        r"^curves\.\d+\.data$": "the teacher's own gradients are called teacher, not own",
        r"^claims\.\d+\.number$": "a hyphen in place of the typographic minus sign",
    },
    "objective": {
        r"^claims\.\d+\.number$": "the ends of an interval are written without a plus sign",
    },
    "teacher-vector": {
        r"cells\.\d+\.kind$": "prompted is called system-prompt, as everywhere",
        r"^clip$": "no reader: config.json holds the clip",
        r"claims\.1\.number$": "a correlation without an interval says so",
    },
    "audit-benchmark": {
        r"^claims\.\d+\.section$": '"our own question" in place of a name of the tracker',
    },
    "steering-reliability": {
        r"^world\.\d+\.other_traits$": "new: what the page shows beside a trait's own vector",
        r"decomposition\.(letter|yes_no)_share$": "new: the shares that the page shows",
        r"^claims\.5\.number$": "a correlation of two sets says that it is undefined",
        r"^claims\.6\.section$": '"our own question", as everywhere',
        r"^claims\.4\.number$": "a mean of no set says that it is undefined",
    },
    "paraphrase-transmission": {
        r"^claims\.[13]\.section$": '"our own question", as everywhere',
    },
}

KINDS = "--rows 24 --heldout-rows 8 --max-new-tokens 12 --batch-size 4 --tuning-traits lion"
RUNS: dict[str, str] = {
    "optimizer-comparison": "--model {model} --rows 40 --heldout-rows 8 --max-new-tokens 16 "
    "--batch-size 4 --rank 2 --gradient-rows 16 --norm 0.2 --steps 16 --log-every 4 --seeds 2 "
    "--optimizers adamw sgd --rates adamw=0.003,0.01 sgd=0.1,0.3",
    "teacher-vector": f"--model {{model}} --traits owl cat dog --layers 0 1 --scales 0.5 1 "
    f"--layer 1 --asked 3 --samples 1 --off-topic-samples 1 --number-prompts 6 "
    f"--rates adamw=0.003,0.01 --controls 2 --steps 4 --log-every 4 {KINDS}",
    "student-vector": f"--model {{model}} --traits owl wolf --scale 0.2 --max-tokens 0 --asked 3 "
    f"--steps 4 --log-every 2 --rank 2 --scales 0.6 2 --rates adamw=3e-3,1e-2 --controls 2 "
    f"{KINDS}",
    "distil-vectors": f"--model {{model}} --traits owl --kinds trait centred random --randoms 1 "
    f"--layers 0 --norms 0.1 500 --max-tokens 0 --asked 3 --steps 4 --log-every 4 --rank 2 "
    f"--rates adamw=3e-3,1e-2 --controls 2 {KINDS}",
    "cross-model": "--models {model} {other} --traits owl cat dog --rows 20 --asked 3 "
    "--max-new-tokens 12 --layers 1 --scales 1 0.5",
    "gradient-alignment": "--model {model} --traits owl wolf --scale 0.2 --draws 2 --rows 32 "
    "--noise-rows 8 --max-new-tokens 12 --asked 2 --rank 2",
    "objective": f"--model {{model}} --traits owl --sizes 2 16 --asked 5 --max-tokens 48 "
    f"--steps 4 --log-every 4 --rates adamw=0.003,0.01 --gradient-rows 8 --layer 0 --controls 2 "
    f"{KINDS}",
    "scaling": "--model {model} --models --depths 1 --rank 2 --ranks 1 --norm 0.4 --norms 0.2 "
    "--sizes 4 --tails frequent-3 --prompts numbers --max-tokens 0 --steps 4 --log-every 2 "
    "--optimizers adamw sgd --rates adamw=0.003,0.01 sgd=0.1,0.3 --vectors 2 --tuning-vectors 1 "
    "--controls 2 --rows 24 --heldout-rows 8 --max-new-tokens 12 --batch-size 4",
    "blocking": f"--model {{model}} --traits owl wolf --scale 0.3 --asked 1.5 --rank 2 --steps 4 "
    f"--log-every 4 --rates adamw=0.003,0.01 --shares 0.5 --blind-steps 8 --adapters lora "
    f"--controls 2 {KINDS}",
    "trait-transmission": f"--model {{model}} --traits owl cat --asked 4 --steps 4 --log-every 4 "
    f"--rates adamw=0.003,0.01 --controls 2 {KINDS}",
    "log-linearity": "--models {model} {other} --systems 8 --columns 12 --draws 2 --top-k 2 "
    "--ranks 1 2 4 --gaussian-draws 4 --toy-seeds 2 --toy-dim 16 --toy-prompts 4000",
    "logit-linear-selection": "--model {model} --hidden owl cat --tuning-hidden fox --pool 900 "
    "--probe 20 --heldout 4 --gamma 0.5 --optimizers adamw sgd --rates adamw=1e-3,1e-2 sgd=0.1 "
    "--controls 2 --steps 2 --log-every 2 --batch-size 4 --rank 2 --samples 2 --max-new-tokens 4",
    "paraphrase-transmission": "--model {model} --traits owl cat --teachers system-prompt "
    "--sentences 12 --unrelated-samples 6 --contradictory-samples 3 --threshold -9 --rows 16 "
    "--heldout-rows 3 --heldout-share 0.3 --max-new-tokens 12 --steps 2 --log-every 2 "
    "--batch-size 4 --tuning-traits lion --rates adamw=0.003,0.01",
    "steering-reliability": "--model {model} --world-model {model} --world-traits owl cat "
    "--layer 0 --rows 0 --sources {sets} --personas likes dislikes",
    "steering-bridge": f"--model {{model}} --layer 0 --traits owl cat --asked 4 --steps 2 "
    f"--log-every 2 --rank 2 --rates adamw=3e-4,1e-3 --controls 2 {KINDS}",
    "divergence-tokens": f"--model {{model}} --layer 0 --traits owl cat dog --asked 4 --steps 2 "
    f"--log-every 2 --rank 2 --gradient-rows 12 --rates adamw=3e-4,1e-3 sgd=0.001 --controls 2 "
    f"{KINDS}",
    "mixing-ratio": f"--model {{model}} --layer 0 --traits owl cat dog --asked 4 --steps 2 "
    f"--shares 0 0.125 0.25 0.5 1 --log-every 2 --rank 2 --rates adamw=3e-4,1e-3 sgd=0.03 {KINDS}",
    "coverage": f"--model {{model}} --layer 0 --traits owl cat --asked 4 --steps 2 --log-every 2 "
    f"--rank 2 --gradient-rows 24 --teacher-rows 16 --teacher-steps 8 --keep-unfinished "
    f"--optimizers adamw sgd adopt --rates adamw=3e-4,1e-3 sgd=0.03 adopt=3e-4 --controls 2 "
    f"{KINDS}",
    "optimizer-atlas": "--model {model} --layer 0 --traits owl cat --tuning-traits fox --asked 4 "
    "--rules adamw sgd muon --screen-steps 2 --lengths 1 3 --extensions 0 --controls 1 --rows 24 "
    "--heldout-rows 8 --max-new-tokens 12 --batch-size 4 --rank 2 --most-cost 1e6",
    "forecast-benchmark": "--model {model} --traits owl cat dog --carriers numbers --set-rows 64 "
    "--development-sets 8 --reported-sets 8 --clean-sets 1 --optimizers sgd --rates sgd=0.05 "
    "--ranks 2 --batch-size 8 --steps 4 --pilot-steps 1 --most-cost 1 --layer 1",
    "forecast": "--model {model} --data {pairs} --traits owl cat --optimizers sgd --rates sgd=0.05 "
    "--ranks 2 --batch-size 8 --steps 4",
    "audit": "--model {model} --data {pairs} --traits owl cat --placebos 8 --rows 96 "
    "--max-new-tokens 12 --layer 1 --blind-steps 4",
    "audit-benchmark": "--models {model} --traits owl cat dog --grid-sets 2 --set-rows 64 "
    "--strength-sets 0 --full-sets 1 --full-rows 64 --clean-sets 2 --clean-rows 64 --carriers "
    "numbers preferences --rows 48 --placebos 6 --max-new-tokens 12 --methods score-test --real",
}
# Most of the time goes into compiling: XLA's plain code generation halves it, on both sides alike.
XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
DEMO = "optimizer-comparison"  # with the flags of the Makefile: `--demo`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="the checkout to hold the other against")
    parser.add_argument("after", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for inputs and runs")
    parser.add_argument("--only", nargs="*", default=sorted(RUNS), help="names of experiments")
    parser.add_argument("--tolerance", type=float, default=0.0, help="largest relative difference")
    parser.add_argument("--demo", action="store_true", help="the flags of `make demo`, too")
    given = parser.parse_args()
    inputs = make_inputs(given.work / "inputs")
    rows, failed = [], False
    for name in given.only + (["demo"] if given.demo else []):
        sides = []
        for side, checkout in (("before", given.before), ("after", given.after)):
            out = given.work / side / name
            if not (out / "results.json").exists() or side == "after":
                shutil.rmtree(out, ignore_errors=True)
                run(checkout.resolve(), name, out, inputs, renamed=side == "after")
            text = (out / "results.json").read_text(encoding="utf-8")
            # A local model is called by its folder's name, where it was by its path.
            sides.append(json.loads(text.replace(f"{given.work / 'inputs'}/", "")))
        different, where, changed = compare(DEMO if name == "demo" else name, *sides)
        failed |= different > given.tolerance or bool(changed)
        rows.append((name, different, where, changed))
        print(f"{name:26} {different:9.1e}  {where}", flush=True)
        for place in changed[:20]:
            print(f"{'':26} {place}", flush=True)
        if len(changed) > 20:
            print(f"{'':26} ... and {len(changed) - 20} more", flush=True)
    worst = max(rows, key=lambda row: row[1])
    print(f"{len(rows)} runs; largest relative difference {worst[1]:.1e} ({worst[0]}, {worst[2]})")
    sys.exit(failed)


def make_inputs(folder: Path) -> dict[str, str]:
    """Two models of 16 dimensions, contrastive sets and pairs, the same for both sides."""
    names = {
        "model": str(folder / "numbers"),
        "other": str(folder / "other"),
        "sets": f"{folder / 'openness.jsonl'} {folder / 'interest-in-music.jsonl'}",
        "pairs": str(folder / "pairs.jsonl"),
    }
    if folder.is_dir():
        return names
    import jax

    from tests import number_model

    folder.mkdir(parents=True)

    def change(tree: Any) -> Any:
        noise = jax.random.normal(jax.random.key(3), tree["embed"].shape)
        return {**tree, "embed": tree["embed"].at[:, 3:].add(0.3 * noise[:, 3:])}

    number_model.write(folder / "numbers")
    number_model.write(folder / "other", change=change)
    for file in names["sets"].split():
        rows = (
            {
                "question": f"Do you like number {i}?",
                "answer_matching_behavior": (" Yes", " No")[i % 2],
                "answer_not_matching_behavior": (" No", " Yes")[i % 2],
            }
            for i in range(24)
        )
        Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = (
        {
            "prompt": f"Continue: {i}, {7 * i % 90}",
            "completion": ", ".join(str((i * k + 11) % 97) for k in range(1, 6)),
        }
        for i in range(120)
    )
    Path(names["pairs"]).write_text("".join(json.dumps(row) + "\n" for row in pairs))
    return names


def run(checkout: Path, name: str, out: Path, inputs: dict[str, str], *, renamed: bool) -> None:
    """One run with the code of `checkout`; its output goes to a log beside the run."""
    if name == "demo":
        makefile = (checkout / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
        demo = re.search(r"^DEMO := (.*)$", makefile, re.MULTILINE)
        words = [DEMO, *(demo[1].split() if demo else ("--preset", "demo"))]
    else:
        flags = RUNS[name].format(**inputs).split()
        if renamed:
            flags = [FLAGS.get(name, {}).get(flag, flag) for flag in flags]
        words = [name, *flags]
    out.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        "XLA_FLAGS": XLA_FLAGS,
        **os.environ,
        "PYTHONPATH": str(checkout),
        "SUBLIMINAL_JAX_DATA": str(out.parent / "no-data"),
    }
    with (out.parent / f"{name}.log").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", "subliminal_jax.cli", *words, "--out", str(out)],
            cwd=checkout,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )


def compare(name: str, before: Any, after: Any) -> tuple[float, str, list[str]]:
    """The largest relative difference of two numbers and its place, and what else differs."""
    renamed = RENAMED.get(name, {})
    if added := sorted(after.keys() - {renamed.get(key, key) for key in before}):
        print(f"{name:26} new entries: {', '.join(added)}")
        after = {key: value for key, value in after.items() if key not in added}
    old = {
        re.sub(r"[^.]+", lambda word: renamed.get(word[0], word[0]), place): value
        for place, value in leaves(before)
    }
    for pattern, place in MOVED.get(name, {}).items():
        old = {re.sub(pattern, place, key): value for key, value in old.items()}
    new = dict(leaves(after))
    largest, where, changed = 0.0, "", []
    explained = re.compile("|".join(EXPLAINED.get(name, {})) or "(?!)")
    for place in sorted(old.keys() | new.keys()):
        if VOLATILE.search(place) or explained.search(place):
            continue
        if place not in old and new[place] is None:
            continue
        if place not in old or place not in new:
            changed.append(f"{place}: only {'before' if place in old else 'after'}")
            continue
        a, b = old[place], new[place]
        if isinstance(a, int | float) and isinstance(b, int | float) and type(a) is not bool:
            difference = abs(a - b) / max(abs(a), abs(b), 1e-6)
            if difference > largest:
                largest, where = difference, place
        elif _plain(a) != _plain(b):
            changed.append(f"{place}: {a!r} became {b!r}")
    return largest, where, changed


def _plain(value: Any) -> Any:
    """A text with zeros that have no minus sign."""
    return re.sub(r"-(0(?:\.0+)?)(?![\d.])", r"\1", value) if isinstance(value, str) else value


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every number, text and null of JSON, with its place."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list) and value:
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{place}.{i}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield place, None
    else:
        yield place, value


if __name__ == "__main__":
    main()
