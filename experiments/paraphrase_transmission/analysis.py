"""Did the trait pass through paraphrases? A trait teacher's students against the neutral one's."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.comparison import at_edge, best_rates
from subliminal_jax.evaluation.paired_questions import compare_with_neutral, pool_traits
from subliminal_jax.evaluation.statistics import crossed_interval
from subliminal_jax.runs.claims import claim, jointly, verdict, written, written_ends
from subliminal_jax.serialization import to_json

Row = Mapping[str, Any]
SOURCE = "Gisler et al. 2026, "


class Comparison(NamedTuple):
    """Two data sets, the trait's and the neutral teacher's, and the teacher's name among the
    references of the panel."""

    trait: str
    told: str
    neutral: str
    reference: str


def compared(
    rows: Sequence[Row],
    comparisons: Sequence[Comparison],
    *,
    words: Sequence[str],
    references: Sequence[str],
    layer: int,
) -> dict[str, dict[str, Any]]:
    """For each optimizer at its best rate (lowest held-out loss of the trait's students, the
    neutral ones left out), and whether that is at its grid's edge: Delta(T-N) of each trait and
    pooled, and the alignment (EAS) at `layer`.

    `words` and `references` name the axes of the rows' `question_rate` and `eas`.

    An optimizer without a sound rate, or of which a neutral student diverged there, has
    `pooled` None.
    """
    told = {c.told for c in comparisons}
    out: dict[str, dict[str, Any]] = {}
    for optimizer, rate in best_rates([r for r in rows if r["data"] in told]).items():
        tried = {r["learning_rate"] for r in rows if r["optimizer"] == optimizer}
        made: dict[str, Any] = {"learning_rate": rate, "grid_edge": at_edge(rate, sorted(tried))}
        made |= {"pooled": None, "traits": {}}
        out[optimizer] = made
        arms = [
            (c, _arm(rows, c.told, optimizer, rate), _arm(rows, c.neutral, optimizer, rate))
            for c in comparisons
        ]
        sizes = {len(arm) for _, *both in arms for arm in both}
        if rate is None or len(sizes) != 1 or sizes == {0}:
            continue
        differences = []
        for c, mine, neutral in arms:
            i = words.index(c.trait)
            ours, theirs = (np.array([r["question_rate"][i] for r in a]) for a in (mine, neutral))
            made["traits"][c.trait] = to_json(compare_with_neutral(ours, theirs))
            differences.append(ours - theirs)
        made["pooled"] = to_json(pool_traits(np.stack(differences)))
        made["differences"] = np.stack(differences).tolist()
        made["eas"] = _alignment(arms, references, layer)
        made["heldout_loss"] = float(np.mean([r["heldout_loss"] for _, m, _ in arms for r in m]))
    return out


def _arm(rows: Sequence[Row], data: str, optimizer: str, rate: float | None) -> list[Row]:
    """The sound students of one data set, by seed."""
    return [
        r
        for r in sorted(rows, key=lambda r: r["seed"])
        if (r["data"], r["optimizer"], r["learning_rate"]) == (data, optimizer, rate)
        and not r["diverged"]
    ]


def _alignment(
    arms: Sequence[tuple[Comparison, list[Row], list[Row]]], references: Sequence[str], layer: int
) -> dict[str, Any]:
    """EAS with the teacher's shift at `layer`: both arms' and their difference, over traits and
    seeds."""

    def of(rows: list[Row], reference: str) -> list[float]:
        k = references.index(reference)
        return [r["eas"][k][layer] for r in rows]

    told = np.array([of(mine, c.reference) for c, mine, _ in arms]).T  # [seeds, traits]
    neutral = np.array([of(other, c.reference) for c, _, other in arms]).T
    return {
        "trait": crossed_interval(told).to_dict(),
        "neutral": crossed_interval(neutral).to_dict(),
        "difference": crossed_interval(told - neutral).to_dict(),
    }


def against_first(
    made: Mapping[str, Mapping[str, Any]], level: float = 0.95
) -> dict[str, dict[str, Any]]:
    """Delta(T-N) of every other optimizer minus that of the first, paired by seed and question.

    Two-way t over seeds and questions, at a level that holds for all of them together
    (Bonferroni). Empty where the first has no numbers.
    """
    first, *others = made
    sound = [name for name in others if made[name]["pooled"] is not None]
    if made[first]["pooled"] is None or not sound:
        return {}
    base = _mean(made[first])
    each = 1 - (1 - level) / len(sound)
    return {
        name: crossed_interval(_mean(made[name]) - base, level=each).to_dict() for name in sound
    }


def _mean(made: Mapping[str, Any]) -> Float[np.ndarray, "seeds questions"]:
    return np.array(made["differences"]).mean(axis=0)


# -- claims --------------------------------------------------------------------------------------

WHAT = {
    "unrelated": "Faithful paraphrases of unrelated sentences carry the trait",
    "contradictory": "Faithful paraphrases of sentences that speak badly of the animal carry the "
    "trait",
}


def transmission_claims(
    content: str, kind: str, teacher: str, made: Mapping[str, Any], setting: str, seeds: int
) -> list[dict[str, Any]]:
    """The two claims on one content and teacher: P(trait) against the neutral arm, and EAS.

    The first counts as reproduced only where all three intervals are clear of zero: the paper's
    (over questions), that over seeds and questions, and, of several traits, that over seeds and
    traits: students of one data set hardly differ by seed, so the first two say little of another
    draw of the data or another trait. The second needs both the student's EAS and its difference
    from the neutral student's.
    """
    optimizer, of = next(iter(made.items()))
    if of["pooled"] is None:
        number, eas_number = f"{optimizer}: students diverged", "students diverged"
        outcome = eas_outcome = verdict(None, None)
    else:
        pool = of["pooled"]
        names = {"over_questions": "over questions", "seeds_and_questions": "seeds and questions"}
        if len(of["traits"]) > 1:
            names["seeds_and_traits"] = "seeds and traits"
        number = (
            f"Delta(T-N) {100 * pool['seeds_and_questions']['mean']:+.1f} points; "
            + ", ".join(
                f"{says} {written_ends(pool[key], '.1f', 100)}" for key, says in names.items()
            )
        )
        outcome = jointly(*(pool[key] for key in names))
        eas, e = of["eas"]["trait"], of["eas"]["difference"]
        eas_number = f"EAS {written(eas)}; minus neutral {written(e, mean='+.2f')}"
        eas_outcome = jointly(eas, e)
    name = f"paraphrase-transmission/{content}-{kind}"
    says = f"{WHAT[content]} (teacher with {teacher}, against the neutral teacher's)"
    moves = (
        f"The student of {content} paraphrases by a teacher with {teacher} moves along its shift"
    )
    return [
        claim(name, says, SOURCE + "Tables 7-10", setting, number, seeds, outcome),
        claim(f"{name}-eas", f"{moves} (EAS over the neutral student's)", "this project's question",
              setting, eas_number, seeds, eas_outcome),
    ]  # fmt: skip


def optimizer_claim(
    content: str,
    kind: str,
    made: Mapping[str, Mapping[str, Any]],
    against: Mapping[str, Mapping[str, Any]],
    setting: str,
    seeds: int,
) -> dict[str, Any]:
    """Whether the optimizer matters: some Delta(T-N) differs from the first optimizer's, each at
    its best rate, by an interval that holds for all comparisons together. A comparison is left
    open where the best rate of either lies at the edge of its grid: a better one may lie outside.
    """
    first = next(iter(made))
    parts = []
    for name, of in made.items():
        if of["pooled"] is None:
            parts.append(f"{name} diverged")
            continue
        delta, eas = of["pooled"]["seeds_and_questions"], of["eas"]["difference"]
        edge = " (edge of its grid)" if of["grid_edge"] else ""
        parts.append(
            f"{name}{edge} {100 * delta['mean']:+.1f} {written_ends(delta, '.1f', 100)}, "
            f"EAS {eas['mean']:+.2f} over neutral"
        )
    open_ = [name for name in against if made[name]["grid_edge"] or made[first]["grid_edge"]]
    clear = [
        name
        for name, d in against.items()
        if name not in open_ and verdict(d["low"], d["high"]) != verdict(None, None)
    ]
    differ = f"; left open by a best rate at the edge of its grid: {', '.join(open_)}"
    differ = (differ if open_ else "") + f"; apart from {first}: {', '.join(clear) or 'none'}"
    return claim(
        f"paraphrase-transmission/optimizers-{content}-{kind}",
        f"The optimizer decides how much of the trait passes through paraphrases (Delta(T-N) of "
        f"some optimizer is not that of {first})",
        "this project's question", setting, "; ".join(parts) + differ, seeds,
        "reproduced at toy scale" if clear else "not reproduced",
    )  # fmt: skip
