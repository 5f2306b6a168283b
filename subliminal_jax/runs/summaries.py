"""The summary of a finished run: small enough to be kept in the repository, and what the table of
claims is made of."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.claims import VERDICTS, Claim
from subliminal_jax.files import write_text
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.serialization import from_json, to_json

LARGEST_ENTRY = 30_000  # bytes of one entry of results.json that a summary keeps
LARGEST_SUMMARY = 90_000  # bytes of a summary


@dataclass(frozen=True)
class Summary:
    """What is kept of a run.

    Attributes:
      name: of the run; several may be of one experiment.
      experiment: the sub-command.
      command: makes the whole run again.
      settings: what config.json holds.
      claims: the rows of the table of claims.
      results: the entries of results.json that are small; single students are not among them.
      left_out: the names of the other entries.
    """

    name: str
    experiment: str
    command: str
    settings: Mapping[str, Any]
    claims: tuple[Claim, ...]
    results: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def summarise(folder: str | Path) -> Summary:
    """The summary of the finished run in `folder`.

    Raises InputError for a folder without a finished run, or whose run does not say its command.
    """
    folder = Path(folder)
    try:
        run = RunFolder(folder, None)
        results, (settings, command) = run.read_results(), run.read_config()
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no finished run ({error}): run its experiment") from None
    if not command or "experiment" not in settings:
        raise InputError(f"{folder}/config.json does not say the run's command: run it anew")
    claims = tuple(
        from_json(Claim, claim, f"{folder}/results.json") for claim in results.pop("claims", [])
    )
    kept = {k: v for k, v in results.items() if len(_compact(v)) <= LARGEST_ENTRY}
    while len(_compact(kept)) > LARGEST_SUMMARY:
        del kept[max(kept, key=lambda key: len(_compact(kept[key])))]
    left_out = tuple(key for key in results if key not in kept)
    name = folder.resolve().name
    return Summary(name, settings.pop("experiment"), command, settings, claims, kept, left_out)


def write_summary(summary: Summary, folder: str | Path) -> Path:
    """Write NAME.json to `folder`; returns its path."""
    file = Path(folder) / f"{summary.name}.json"
    write_text(file, _compact(to_json(summary)) + "\n")
    return file


def read_summary(file: str | Path) -> Summary:
    """Raises InputError for a file that is no summary."""
    try:
        value = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is no summary of a run ({error}): leave it out") from None
    return from_json(Summary, value, str(file))


def claims_page(summaries: Sequence[Summary]) -> str:
    """docs/claims.md: how the verdicts are counted, and a table for each experiment."""
    counts = [sum(c.verdict == v for s in summaries for c in s.claims) for v in VERDICTS]
    counted = ", ".join(f"{n} {verdict}" for n, verdict in zip(counts, VERDICTS, strict=True))
    tables = "\n".join(_experiment_section(s) for s in summaries if s.claims)
    return f"""# Claims

Made by `make claims` from the summaries of stored runs; nothing here is written by hand. Intervals
are 95%. A claim counts as reproduced where the interval of the effect against its control is clear
of zero in the claimed direction, as contradicted where it is clear of it in the other one, and as
not reproduced where it holds zero. "Toy scale" means models of about a million parameters that know
16 animals: a verdict here speaks of mechanisms, not of the papers' models.

{sum(counts)} claims: {counted}.

{tables}"""


def _experiment_section(summary: Summary) -> str:
    head = ("claim (source)", "setting", "our number", "seeds", "verdict")
    lines = [f"## {summary.name}", "", f"`{summary.command}`", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for claim in summary.claims:
        cells: Iterable[str] = (
            f"{claim.claim} ({claim.section})",
            claim.setting,
            claim.number,
            str(claim.seeds),
            f"**{claim.verdict}**",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
