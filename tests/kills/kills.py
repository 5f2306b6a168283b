"""Kill runs at random moments of every stage, resume them, and compare them with a whole run.

    make kill N=20          # or: python -m tests.kills.kills --kills 20 --seed 0

The run is the main job on the model of `tests/number_model.py`. Most are killed with SIGKILL, some
end by SIGTERM or SIGINT, with the exit code and the one line that these promise. What a run was
doing when it ended is read from what it left behind. In the end its results.json, its metrics and
the state of every student must equal those of a run that nobody disturbed, bit by bit.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from subliminal_jax.ledger import MARKER
from tests.compare_checkouts import VOLATILE
from tests.plain_code import use_plain_code

# In the order in which a run comes to them; the share of kills that are aimed at each.
STAGES = {
    "opening": 1,
    "sampling": 4,
    "training": 5,
    "checkpoint write": 6,
    "measuring": 2,
    "report": 2,
}
SIGNALS = {signal.SIGKILL: 0.7, signal.SIGTERM: 0.15, signal.SIGINT: 0.15}
PATIENCE = 600.0  # seconds that a process may take
KILLS_A_RUN = 7

Start = Callable[[Path], subprocess.Popen]


def find_stage(folder: Path, students_steps: int) -> str:
    """What the run in `folder` was last doing, by the files in it.

    `students_steps` is the number of lines that its metrics have in the end.
    """
    if (folder / "report.html").exists():
        return "finished"
    if (folder / "results.json").exists():
        return "report"
    if any(folder.glob("checkpoints/*/*.orbax-checkpoint-tmp*")):
        return "checkpoint write"
    lines = count_lines(folder)
    if lines >= students_steps:
        return "measuring"
    if lines or (folder / "checkpoints").exists():
        return "training"
    return "sampling" if (folder / "config.json").exists() else "opening"


def count_lines(folder: Path) -> int:
    """The complete lines of its metrics."""
    file = folder / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def kill(
    start: Start, folder: Path, target: str, steps: int, random_numbers: random.Random
) -> tuple[str, str]:
    """Start the run, end it at a random moment of the stage `target`; returns the signal's name and
    the stage in which the run ended."""
    begun, lines = _identify_list(folder), count_lines(folder)
    more_lines = random_numbers.randint(1, 12)
    number = random_numbers.choices(list(SIGNALS), list(SIGNALS.values()))[0]
    if target == "opening":
        number = signal.SIGKILL  # the interpreter starts without our handlers
    process = start(folder)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if target == "opening":
            break
        stage = find_stage(folder, steps)
        progress = count_lines(folder) - lines
        if _identify_list(folder) in (0, begun):  # it has not opened the folder yet
            time.sleep(0.002)
            continue
        if target == "training" and stage != "sampling" and progress >= more_lines:
            break
        if target == "checkpoint write" and stage == target and progress >= more_lines // 3:
            break
        if target in ("sampling", "measuring", "report") and stage == target:
            break
        if list(STAGES).index(target) < [*STAGES, "finished"].index(stage):
            break  # it went by
        time.sleep(0.0005)
    longest = {"opening": 3.0, "sampling": 2.0, "training": 0.2, "checkpoint write": 0.02,
               "measuring": 1.0, "report": 0.2}[target]  # fmt: skip
    time.sleep(random_numbers.uniform(0, longest))
    process.send_signal(number)
    _, stderr = process.communicate(timeout=PATIENCE)
    stage = find_stage(folder, steps)
    _check_end(process.returncode, number, stderr.decode(), stage)
    return signal.Signals(number).name, stage


def _identify_list(folder: Path) -> int:
    """A number that changes when a process opens the run's folder; 0 where there is none."""
    try:
        return (folder / MARKER).stat().st_ino
    except FileNotFoundError:
        return 0


def _check_end(status: int, number: int, stderr: str, stage: str) -> None:
    """Raises AssertionError where the process did not end as its signal asks for."""
    if stage == "finished":  # too late, or just in time
        assert status in (0, -number, 128 + number), (status, stderr)
    elif number == signal.SIGKILL:
        assert status == -signal.SIGKILL, (status, stderr)
    else:
        assert status == 128 + number, (status, stderr)
        said = [line for line in stderr.splitlines() if line.startswith("subliminal-jax:")]
        assert len(said) == 1 and "resumes" in said[0], stderr
        assert "Traceback" not in stderr and "ignored" not in stderr, stderr


def resume(start: Start, folder: Path) -> None:
    """Let the run end. Raises AssertionError where it fails."""
    process = start(folder)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr.decode()


def read_outcome(folder: Path) -> dict[str, Any]:
    """What must be equal: results and metrics without times, every last checkpoint's arrays, what
    was sampled (in any order), and the students that are kept."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    outcome: dict[str, Any] = {}
    for path, value in _leaves(json.loads((folder / "results.json").read_text())):
        if not VOLATILE.search(path):
            outcome[f"results.json: {path}"] = value
    for number, line in enumerate((folder / "metrics.jsonl").read_text().splitlines()):
        for path, value in _leaves(json.loads(line)):
            if not VOLATILE.search(path):
                outcome[f"metrics.jsonl: {number}: {path}"] = value
    for stage in sorted((folder / "checkpoints").iterdir()):
        steps = [step for step in stage.iterdir() if step.name.isdigit()]
        newest = max(steps, key=lambda step: int(step.name))
        state = ocp.StandardCheckpointer().restore((newest / "default").absolute())
        for place, leaf in jax.tree_util.tree_leaves_with_path(state):
            array = np.asarray(leaf)
            name = f"{stage.name}/{newest.name}{jax.tree_util.keystr(place)}"
            outcome[name] = (str(array.dtype), array.shape, array.tobytes())
    for answers in sorted((folder / "data").glob("*.jsonl")):
        outcome[answers.name] = sorted(answers.read_text().splitlines())
    for student in sorted((folder / "students").rglob("*.*")):
        outcome[str(student.relative_to(folder))] = student.read_bytes()
    return outcome


def compare(outcome: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raises AssertionError where two outcomes differ, and says at which place."""
    places = sorted(outcome.keys() | expected.keys())
    differing = [place for place in places if outcome.get(place) != expected.get(place)]
    assert not differing, f"{len(differing)} of {len(places)} places differ: {differing[:5]}"


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    children: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    if not children:
        return [(path, value)]
    return [leaf for key, inner in children for leaf in _leaves(inner, f"{path}.{key}".strip("."))]


def aim(kills: int, random_numbers: random.Random) -> list[list[str]]:
    """The stages to be hit, run by run, each run's in the order in which it comes to them."""
    total = sum(STAGES.values())
    targets = [stage for stage, share in STAGES.items() for _ in range(share * kills // total)]
    targets += random_numbers.choices(list(STAGES)[1:4], k=kills - len(targets))
    random_numbers.shuffle(targets)
    order = list(STAGES)
    runs = -(-kills // KILLS_A_RUN)
    return [sorted(targets[i::runs], key=order.index) for i in range(runs)]


def main() -> None:
    """Print what was killed where, and fail where a resumed run differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    use_plain_code()
    from tests import number_model
    from tests.experiments.main_job import PLAN
    from tests.experiments.main_job import start as start_job

    random_numbers = random.Random(options.seed)
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as work:
        model = number_model.write(Path(work) / "model")

        def start(folder: Path) -> subprocess.Popen:
            return start_job(model, folder, *PLAN)

        whole = Path(work) / "whole"
        resume(start, whole)
        expected, steps = read_outcome(whole), count_lines(whole)
        print(f"a whole run: {steps} lines of metrics, {len(expected)} values to compare")
        for number, targets in enumerate(aim(options.kills, random_numbers), start=1):
            folder = Path(work) / f"run-{number}"
            for target in targets:
                name, stage = kill(start, folder, target, steps, random_numbers)
                counts[stage, name] += 1
                print(f"run {number}: {name} aimed at {target}, hit {stage}", flush=True)
            resume(start, folder)
            compare(read_outcome(folder), expected)
            print(f"run {number}: resumed, and equal bit by bit", flush=True)
    names = [signal.Signals(number).name for number in SIGNALS]
    print(f"\n{'stage':<18}" + "".join(f"{name:>9}" for name in names))
    for stage in (*STAGES, "finished"):
        print(f"{stage:<18}" + "".join(f"{counts[stage, name]:>9}" for name in names))
    print(f"{sum(counts.values())} kills; every resumed run is equal to the whole one")


if __name__ == "__main__":
    sys.exit(main())
