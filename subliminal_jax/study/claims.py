"""The table of claims, from the `claims` that each run's results.json holds.

    python -m subliminal_jax.study.claims RUN... --out experiments/CLAIMS.md --readme README.md
    python -m subliminal_jax.study.claims RUN... --store experiments/results

A claim says what a paper states, in which setting it was tested here, what came out, over how many
seeds, and the verdict. Nothing is written by hand: an experiment computes its verdicts from its
numbers, and this only lays them out.
"""

import dataclasses
import functools
import json
import math
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from subliminal_jax.cli import experiments_folder, find_experiments, load_experiment, presets
from subliminal_jax.errors import InputError
from subliminal_jax.files import write_text

VERDICTS = ("reproduced at toy scale", "not reproduced", "contradicted", "needs large models")
FIELDS = ("id", "claim", "section", "setting", "number", "seeds", "verdict")
START, END = "<!-- claims -->", "<!-- end of claims -->"


def verdict(low: float | None, high: float | None, claimed: int = 1) -> str:
    """By the interval of an effect against its control: clear of zero in the claimed direction
    (`claimed` is 1 or -1) it is reproduced, in the other one contradicted, else not reproduced."""
    if low is None or high is None or not (low > 0 or high < 0):
        return "not reproduced"
    return "reproduced at toy scale" if (low > 0) == (claimed > 0) else "contradicted"


def opposite(interval: Mapping[str, Any]) -> dict[str, Any]:
    """The interval of the negative effect."""
    mean, low, high = (
        None if x is None else -x for x in (interval["mean"], interval["high"], interval["low"])
    )
    return {**interval, "mean": mean, "low": low, "high": high}


def jointly(*intervals: Mapping[str, Any]) -> str:
    """The verdict that all intervals share: each clear of zero on the same side, or none; above
    zero is the claimed side."""
    ends = [x for interval in intervals for x in (interval["low"], interval["high"])]
    if any(x is None or not math.isfinite(x) for x in ends):
        return verdict(None, None)
    return verdict(min(ends), max(ends))


def written(interval: Mapping[str, Any], mean: str = ".2f", ends: str = ".2f") -> str:
    """An interval as in "0.50 [0.41, 0.59]", by two format specifications."""
    return f"{interval['mean']:{mean}} {written_ends(interval, ends)}"


def written_ends(interval: Mapping[str, Any], ends: str = ".2f", factor: float = 1.0) -> str:
    """Its ends times `factor`, "none" where there is none."""
    low, high = (
        "none" if x is None or not math.isfinite(x) else f"{factor * x:{ends}}"
        for x in (interval["low"], interval["high"])
    )
    return f"[{low}, {high}]"


def claim(
    id: str, claim: str, section: str, setting: str, number: str, seeds: int, verdict: str
) -> dict[str, Any]:
    """One row of the table; raises ValueError for a verdict that is none of `VERDICTS`."""
    if verdict not in VERDICTS:
        raise ValueError(f"{verdict!r} is no verdict: choose from {VERDICTS}")
    return dict(zip(FIELDS, (id, claim, section, setting, number, seeds, verdict), strict=True))


@dataclass(frozen=True)
class Stored:
    """The claims of one run, the name of its folder, and the command that makes them again."""

    name: str
    command: str
    claims: list[dict[str, Any]]


def read_run(folder: str | Path) -> Stored:
    """Raises InputError for a folder without results, with results that state no claims, or with
    settings that no experiment has any more."""
    folder = Path(folder)
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no finished run ({error}): run its experiment") from None
    claims = results.get("claims")
    if not claims:
        raise InputError(f"{folder}/results.json states no claims: leave the folder out")
    for row in claims:
        missing = [field for field in FIELDS if field not in row]
        if missing or row["verdict"] not in VERDICTS:
            raise InputError(f"{folder}/results.json: claim {row.get('id')} is not complete")
    name = claims[0]["id"].split("/")[0].replace("_", "-")
    try:
        return Stored(folder.resolve().name, command(name, config), claims)
    except InputError as error:
        raise InputError(f"{folder}/config.json: {error}") from None


@functools.cache
def _experiment(name: str) -> ModuleType:
    found = find_experiments(experiments_folder())
    if name not in found:
        raise InputError(f"there is no experiment {name!r}; run one of {', '.join(found)}")
    return load_experiment(found[name])


def command(name: str, config: Mapping[str, Any]) -> str:
    """The command line whose run has the settings `config`, a config.json: the preset, the model,
    and every flag that differs from the preset's.

    What the experiment records beside its flags follows from them and is left out; a flag that
    was not there yet when the run was made keeps its default. Raises InputError for an experiment
    or a preset that is not there.
    """
    module, preset = _experiment(name), config.get("preset", "toy")
    known = presets(module)
    if preset not in known:
        raise InputError(f"{name} has no preset {preset!r}: make the run anew")
    words = ["subliminal-jax", name, "--preset", preset]
    for field in dataclasses.fields(module.Config):
        if field.name not in config or field.name == "preset":
            continue
        own = known[preset].get(field.name, field.default)
        if own is dataclasses.MISSING and callable(field.default_factory):
            own = field.default_factory()
        value = config[field.name]
        if field.name == "model" or value != json.loads(json.dumps(own)):
            words += _flag(field.name, value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]


def store(folder: str | Path, shelf: str | Path) -> Path:
    """Keep what the table is made of, config.json and results.json, in a folder of `shelf` that is
    named after the run's; returns that folder.

    Compact: without spaces, and the numbers of results.json with nine significant digits, which
    give every float32 back.
    """
    read_run(folder)
    folder, kept = Path(folder), Path(shelf) / Path(folder).name
    for name, parse_float in (("config.json", float), ("results.json", _nine_digits)):
        value = json.loads((folder / name).read_text(encoding="utf-8"), parse_float=parse_float)
        write_text(kept / name, json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n")
    return kept


def _nine_digits(number: str) -> float:
    return float(f"{float(number):.9g}")


def table(runs: Iterable[Stored]) -> str:
    """The claims as a Markdown table, in the order of the runs."""
    head = ("claim (source)", "setting", "our number", "seeds", "verdict", "command")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for run in runs:
        for row in run.claims:
            cells = (
                f"{row['claim']} ({row['section']})", row["setting"], row["number"],
                str(row["seeds"]), f"**{row['verdict']}**", f"`{run.command}`",
            )  # fmt: skip
            lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"


def page(runs: Sequence[Stored]) -> str:
    """CLAIMS.md."""
    return f"""# Claims

Made by `make claims` from the `results.json` of stored runs; nothing here is written by hand.
Intervals are 95%. A claim counts as reproduced where the interval of the effect against its control
is clear of zero in the claimed direction, as contradicted where it is clear of it in the other one,
and as not reproduced where it holds zero. "Toy scale" means models of about a million parameters
that know 16 animals: a verdict here speaks of mechanisms, not of the papers' models.

{table(runs)}"""


def into_readme(text: str, runs: Sequence[Stored]) -> str:
    """`text` with the short table between its two markers; InputError where they are missing."""
    if text.count(START) != 1 or text.count(END) != 1 or text.index(END) < text.index(START):
        raise InputError(f"the README needs the lines {START} and {END}, once each")
    before, rest = text.split(START)
    _, after = rest.split(END)
    rows = [(run.name, row) for run in runs for row in run.claims]
    lines = ["| run/claim | what is claimed | our number | verdict |", "|---|---|---|---|"]
    for name, row in rows:  # the run's name: several may be of one experiment
        id = f"{name}/{row['id'].partition('/')[2]}"
        cells = f"`{id}`", row["claim"], row["number"], row["verdict"]
        lines.append("| " + " | ".join(x.replace("|", "\\|") for x in cells) + " |")
    counts = ", ".join(f"{sum(r['verdict'] == v for _, r in rows)} {v}" for v in VERDICTS)
    folded = f"<details><summary>{len(rows)} claims: {counts}</summary>"
    body = "\n".join(lines)
    return f"{before}{START}\n\n{folded}\n\n{body}\n\n</details>\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: run folders, `--out` and `--readme`."""
    import tyro

    @dataclass(frozen=True)
    class Arguments:
        """Make the table of claims from the results of runs.

        Attributes:
          runs: folders of finished runs, in the order of the table.
          out: the page to write.
          readme: a README whose table between the markers is written anew.
          store: keep the results of the runs in folders of this one, and make no table.
        """

        runs: tyro.conf.Positional[tuple[Path, ...]]
        out: Path = Path("experiments/CLAIMS.md")
        readme: Path | None = None
        store: Path | None = None

    given = tyro.cli(Arguments, args=arguments)
    try:
        stored = [read_run(folder) for folder in given.runs]
        if not stored:
            raise InputError("name at least one folder of a finished run")
        if given.store is not None:
            for folder in given.runs:
                print(f"{store(folder, given.store)}: kept")
            return
        new_readme = None
        if given.readme is not None:
            new_readme = into_readme(given.readme.read_text(encoding="utf-8"), stored)
        write_text(given.out, page(stored))
        if given.readme is not None and new_readme is not None:
            write_text(given.readme, new_readme)
    except InputError as error:
        print(f"claims: error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{given.out}: {sum(len(run.claims) for run in stored)} claims of {len(stored)} runs")


if __name__ == "__main__":
    main()
