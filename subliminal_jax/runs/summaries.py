"""Summaries of finished runs: small enough for the repository, and the source of docs/claims.md."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.claims import VERDICTS, Claim
from subliminal_jax.files import check_own_file, write_text
from subliminal_jax.reading import read_json_object, read_text
from subliminal_jax.reporting.texts import markdown_code, markdown_text
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.serialization import from_json, to_json

LARGEST_ENTRY = 30_000  # bytes of one entry of results.json that a summary keeps
LARGEST_SUMMARY = 90_000  # bytes of a summary
_PAGE_HEAD = "# Claims\n\nMade by `make claims` from the summaries of stored runs"


@dataclass(frozen=True)
class Summary:
    """The summary of a finished run.

    Attributes:
      name: the run's folder; an experiment may have several runs.
      experiment: the sub-command.
      command: reproduces the run; where it was written is left out.
      settings: from config.json.
      claims: the run's claims.
      results: the small entries of results.json.
      left_out: the keys of the other entries.
    """

    name: str
    experiment: str
    command: str
    settings: Mapping[str, Any]
    claims: tuple[Claim, ...]
    results: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _StoredClaims:
    claims: tuple[Claim, ...]


def summarise(folder: str | Path) -> Summary:
    """The summary of the finished run in `folder`.

    Raises InputError for a folder without a finished run, and for a run without a stored command.
    """
    folder = Path(folder)
    run = RunFolder(folder, None)
    try:
        (settings, command), results = run.read_config(), run.read_results()
    except InputError as error:
        raise InputError(f"{folder} holds no finished run: {error}") from None
    if not command or not isinstance(settings.get("experiment"), str):
        raise InputError(f"{folder}/config.json does not say the run's command: run it anew")
    stored = {"claims": results.pop("claims", [])}
    claims = from_json(_StoredClaims, stored, f"{folder}/results.json").claims
    small_results = {k: v for k, v in results.items() if len(_compact(v)) <= LARGEST_ENTRY}
    while len(_compact(small_results)) > LARGEST_SUMMARY:
        del small_results[max(small_results, key=lambda key: len(_compact(small_results[key])))]
    left_out = tuple(key for key in results if key not in small_results)
    name = folder.resolve().name
    return Summary(
        name=name,
        experiment=settings.pop("experiment"),
        command=_drop_out(command),
        settings=settings,
        claims=claims,
        results=small_results,
        left_out=left_out,
    )


def _drop_out(command: str) -> str:
    """The command without `--out FOLDER`, which is a path of one machine."""
    words = shlex.split(command)
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if "--out" not in (before, word) and not word.startswith("--out=")
    ]
    return shlex.join(kept)


def write_summary(summary: Summary, folder: str | Path) -> Path:
    """Write NAME.json to `folder`; returns its path.

    Raises InputError where another file than a summary lies there.
    """
    file = Path(folder) / f"{summary.name}.json"
    check_own_file(file, "summary", _is_summary)
    write_text(file, _compact(to_json(summary)) + "\n")
    return file


def read_summary(file: str | Path) -> Summary:
    """Read a summary. Raises InputError for a file that is not one."""
    try:
        return from_json(Summary, read_json_object(file), str(file))
    except InputError as error:
        raise InputError(f"{error}; is it the summary of a run? else leave it out") from None


def _is_summary(file: Path) -> bool:
    try:
        read_summary(file)
    except InputError:
        return False
    return True


def is_claims_page(file: Path) -> bool:
    """Whether the file is one that `claims_page` made."""
    try:
        return read_text(file).startswith(_PAGE_HEAD)
    except InputError:
        return False


def claims_page(summaries: Sequence[Summary]) -> str:
    """The text of docs/claims.md: the verdicts' criteria and counts, and a table for each run."""
    counts = [sum(c.verdict == v for s in summaries for c in s.claims) for v in VERDICTS]
    totals = ", ".join(f"{n} {verdict}" for n, verdict in zip(counts, VERDICTS, strict=True))
    tables = "\n".join(_experiment_section(s) for s in summaries if s.claims)
    return f"""{_PAGE_HEAD}; nothing here is written by hand. Intervals
are 95%. A claim counts as reproduced where the interval of the effect against its control is clear
of zero in the claimed direction, as contradicted where it is clear of it in the other one, and as
not reproduced where it holds zero. "Toy scale" means models of about a million parameters that know
16 animals: a verdict here speaks of mechanisms, not of the papers' models.

{sum(counts)} claims: {totals}.

{tables}"""


def _experiment_section(summary: Summary) -> str:
    head = ("claim (source)", "setting", "our number", "seeds", "verdict")
    lines = [f"## {markdown_text(summary.name)}", "", markdown_code(summary.command), ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for claim in summary.claims:
        cells: Iterable[str] = (
            markdown_text(f"{claim.claim} ({claim.section})"),
            markdown_text(claim.setting),
            markdown_text(claim.number),
            str(claim.seeds),
            f"**{markdown_text(claim.verdict)}**",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
