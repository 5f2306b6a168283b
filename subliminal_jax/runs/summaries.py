"""Summaries of finished runs: small enough for the repository, and the source of docs/claims.md."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.claims import INCONCLUSIVE, Claim
from subliminal_jax.files import check_own_file, write_text
from subliminal_jax.reading import read_json_object
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.serialization import from_json, to_json

LARGEST_ENTRY = 30_000  # bytes of one entry of results.json that a summary keeps
LARGEST_SUMMARY = 90_000  # bytes of a summary
# What verdicts of the method before are called now: no margin was stated, so that what was "not
# reproduced" may be either of two.
_OLD_VERDICTS = {"not reproduced": INCONCLUSIVE, "needs large models": INCONCLUSIVE}


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
    stored = _rename_verdicts({"claims": results.pop("claims", [])})
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
        return from_json(Summary, _rename_verdicts(read_json_object(file)), str(file))
    except InputError as error:
        raise InputError(f"{error}; is it the summary of a run? else leave it out") from None


def _is_summary(file: Path) -> bool:
    try:
        read_summary(file)
    except InputError:
        return False
    return True


def _rename_verdicts(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What was stored, with the verdicts of the method before under their names of today."""
    claims = stored.get("claims")
    if not isinstance(claims, list):
        return dict(stored)
    return {
        **stored,
        "claims": [
            {**claim, "verdict": _OLD_VERDICTS[claim["verdict"]]}
            if isinstance(claim, dict) and str(claim.get("verdict")) in _OLD_VERDICTS
            else claim
            for claim in claims
        ],
    }


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
