"""The table of claims, from the `claims` that each run's results.json holds.

    python -m subliminal_jax.study.claims RUN... --out experiments/CLAIMS.md --readme README.md
    python -m subliminal_jax.study.claims RUN... --store experiments/results

A claim says what a paper states, in which setting it was tested here, what came out, over how many
seeds, and the verdict. Nothing is written by hand: an experiment computes its verdicts from its
numbers, and this only lays them out.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def claim(
    id: str, claim: str, section: str, setting: str, number: str, seeds: int, verdict: str
) -> dict[str, Any]:
    """One row of the table; raises ValueError for a verdict that is none of `VERDICTS`."""
    if verdict not in VERDICTS:
        raise ValueError(f"{verdict!r} is no verdict: choose from {VERDICTS}")
    return dict(zip(FIELDS, (id, claim, section, setting, number, seeds, verdict), strict=True))


@dataclass(frozen=True)
class Stored:
    """The claims of one run, and the command that makes them again."""

    command: str
    claims: list[dict[str, Any]]


def read_run(folder: str | Path) -> Stored:
    """Raises InputError for a folder without results, or with results that state no claims."""
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
    flags = f" --preset {config.get('preset', 'toy')}"
    if "model" in config:  # whatever the preset's own is
        flags += f" --model {config['model']}"
    return Stored(f"subliminal-jax {name}{flags}", claims)


def store(folder: str | Path, shelf: str | Path) -> Path:
    """Keep what the table is made of, config.json and results.json (compact), in a folder of
    `shelf` that is named after the run's; returns that folder."""
    read_run(folder)
    folder, kept = Path(folder), Path(shelf) / Path(folder).name
    for name in ("config.json", "results.json"):
        value = json.loads((folder / name).read_text(encoding="utf-8"))
        write_text(kept / name, json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n")
    return kept


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
    rows = [row for run in runs for row in run.claims]
    lines = ["| run/claim | what is claimed | our number | verdict |", "|---|---|---|---|"]
    for row in rows:
        cells = f"`{row['id']}`", row["claim"], row["number"], row["verdict"]
        lines.append("| " + " | ".join(x.replace("|", "\\|") for x in cells) + " |")
    counts = ", ".join(f"{sum(r['verdict'] == v for r in rows)} {v}" for v in VERDICTS)
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
