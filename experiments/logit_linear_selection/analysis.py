"""What the paper on logit-linear selection states, and the verdicts on it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from subliminal_jax.evaluation.comparison import at_edge
from subliminal_jax.runs.claims import claim, jointly, opposite, verdict, written

from .students import RANDOM_OVER_BOTTOM

PAPER = "Aden-Ali et al. 2026"
NAMES = {"lls": "selected", "random": "random", "bottom": "lowest"}
EDGE = " (edge of its grid)"


class Statement(NamedTuple):
    """What is claimed of one metric. `own` is the arm whose numbers themselves have to be on the
    claimed side of zero ("" for none), `over` the difference that has to be above zero."""

    name: str
    text: str
    source: str
    metric: str
    own: str = ""
    over: str = "random"


def statements(whose: str) -> list[Statement]:
    return [
        Statement(
            "correlation",
            f"A student of pairs selected by {whose} scores shifts pairs that were never selected "
            "as the system prompt does, one of random pairs less so (Corr, uncentred)",
            "Thm 2.2", "cosine", "lls",
        ),
        Statement(
            "bottom",
            "A student of the pairs with the lowest scores shifts them the other way (Corr below "
            "zero, and below that of random pairs)",
            "Thm 2.2", "cosine", "bottom", RANDOM_OVER_BOTTOM,
        ),
        Statement(
            "mentions",
            "The target's share of the animals that its answers mention rises over that of random "
            "pairs",
            "Sec. 4.1", "share",
        ),
        Statement(
            "rate",
            "Its answers show the target more often than those of random pairs",
            "Sec. 4", "rate",
        ),
        Statement(
            "favorite",
            "It names the target as its favourite animal more often than one of random pairs",
            "not tested there", "word_rate",
        ),
    ]  # fmt: skip


def claims(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Verdicts by the two-way t over targets and seeds of what the statements need, jointly. With
    more than one optimizer, each has rows of its own, and AdamW is held against SGD.

    A statement whose numbers are missing (diverged students, answers without an animal) is not
    reproduced, for a reason that is told; only what the run does not measure is left out.
    """
    crossed = results["student"] != results["model"]
    suffix = f"-{results['model'].split('/')[-1]}" if results["model"] != "shipped" else ""
    suffix += f"-to-{results['student'].split('/')[-1]}" if crossed else ""
    whose = "another model's" if crossed else "its own model's"
    out = []
    for optimizer, grid in results["grids"].items():
        edge = EDGE if at_edge(results["best"][optimizer], grid) else ""
        setting = (
            f"{results['model']} selects, {results['student']} is trained ({results['adapter']}), "
            f"{len(results['targets'])} {results['kind']}, pairs: {results['pairs']}, {optimizer}, "
            f"best of {len(grid)} rates by held-out loss{edge}"
        )
        tail = (f"-{optimizer}" if len(results["grids"]) > 1 else "") + suffix
        for told in statements(whose):
            if _measured(results, told.metric) and (told.own or "lls") in results["arms"]:
                number, outcome = _decided(results, optimizer, told)
                out.append(
                    claim(
                        f"logit-linear-selection/{told.name}{tail}", told.text,
                        f"{PAPER}, {told.source}", setting, number, results["seeds"], outcome,
                    )
                )  # fmt: skip
    return out + _between_optimizers(results, suffix)


def _measured(results: Mapping[str, Any], metric: str) -> bool:
    """Whether the run measures it at all: only the shipped world's animals are counted, personas
    have no word, and their rate needs a judge."""
    kind = results["kind"]
    if metric == "share":
        return bool(kind == "world-animals")
    if metric == "word_rate":
        return kind in ("world-animals", "animals")
    return metric != "rate" or kind != "personas" or None not in results["told"]["base"]["rate"]


def _decided(results: Mapping[str, Any], optimizer: str, told: Statement) -> tuple[str, str]:
    """The numbers of one statement, and its verdict."""
    made = results["optimizers"].get(optimizer, {"arms": {}, "differences": {}})
    arms = {arm: of[told.metric]["pooled"] for arm, of in made["arms"].items() if of[told.metric]}
    over = (made["differences"].get(told.over) or {}).get(told.metric)
    values = ", ".join(f"{written(of)} {NAMES[arm]}" for arm, of in arms.items())
    if over is None or (told.own and told.own not in arms):
        reason = _missing(results, optimizer, told.metric)
        return "; ".join(x for x in (values, reason) if x), verdict(None, None)
    needed = [over["pooled"]]
    if told.own:
        needed.append(opposite(arms["bottom"]) if told.own == "bottom" else arms[told.own])
    which = "random - lowest" if told.over == RANDOM_OVER_BOTTOM else "difference"
    return f"{values}; {which} {written(over['pooled'])}", jointly(*needed)


def _missing(results: Mapping[str, Any], optimizer: str, metric: str) -> str:
    """Why an optimizer's students have no number."""
    if results["best"][optimizer] is None:
        return "no number: students diverged at every rate"
    rows = [row for row in results["students"] if row["optimizer"] == optimizer]
    lost = [f"{row['data']} (seed {row['seed']})" for row in rows if row["diverged"]]
    if lost:
        return f"no number: diverged, {', '.join(lost)}"
    silent = sum(row.get(metric) is None or None in row[metric] for row in rows)
    says = {"share": "mention no animal", "rate": "were not read by the judge"}
    return f"no number: answers of {silent} of {len(rows)} students " + says.get(metric, "lack it")


def _between_optimizers(results: Mapping[str, Any], suffix: str) -> list[dict[str, Any]]:
    """AdamW over SGD: does the optimizer matter here, as it does for steering vectors? Left open
    where a best rate is at the edge of its grid: a better one may lie outside."""
    two = ("adamw", "sgd")
    if any(label not in results["grids"] for label in two):
        return []
    edges = {k: at_edge(results["best"][k], grid) for k, grid in results["grids"].items()}
    open_ = [label for label in two if edges[label]]
    out = []
    for metric, name in (("cosine", "correlation"), ("share", "mentions"), ("word_rate", "rate")):
        if not _measured(results, metric):
            continue
        each = ", ".join(
            f"{label}{EDGE if edges[label] else ''} {written(of['arms']['lls'][metric]['pooled'])}"
            for label, of in results["optimizers"].items()
            if of["arms"]["lls"][metric]
        )
        found = results["between"].get(metric)
        outcome = verdict(None, None)
        if found is None:
            lost = [k for k in two if not _has(results, k, metric)]
            number = "; ".join(f"{k}: {_missing(results, k, metric)}" for k in lost)
        else:
            number = f"adamw - sgd {written(found['pooled'])}"
            if open_:
                number += f", left open: best rate of {' and '.join(open_)} at its grid's edge"
            else:
                outcome = jointly(found["pooled"])
        out.append(
            claim(
                f"logit-linear-selection/adamw-over-sgd-{name}{suffix}",
                "The optimizer matters here, too: AdamW's students take up more of the target than "
                "SGD's, each at its best rate",
                "Blank et al. 2026, of steering vectors",
                f"{results['student']}, DPO on selected pairs, " + _grids(results["grids"]),
                "; ".join(x for x in (number, each) if x), results["seeds"], outcome,
            )
        )  # fmt: skip
    return out


def _has(results: Mapping[str, Any], optimizer: str, metric: str) -> bool:
    made = results["optimizers"].get(optimizer)
    return made is not None and made["arms"]["lls"][metric] is not None


def _grids(grids: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"{k}: {', '.join(map(str, v))}" for k, v in grids.items())
