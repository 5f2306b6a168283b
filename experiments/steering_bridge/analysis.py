"""From training back to steering: what a vector does to students of its teacher, and whether its
reliability on single inputs tells which vectors are transmitted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from subliminal_jax.data.contrastive_prompts import encode_contrasts
from subliminal_jax.data.contrastive_world import world_contrasts
from subliminal_jax.evaluation.statistics import crossed_interval, spearman_interval
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.runs.claims import claim, verdict
from subliminal_jax.steering.contrasts import Contrasts
from subliminal_jax.steering.propensity import MULTIPLIERS, propensities
from subliminal_jax.steering.slopes import anti_steerable, per_sample_slopes


class Steered(NamedTuple):
    """A vector on one model, over comparisons of its trait with every other animal: the mean
    propensity without it (logits), the mean slope (logits a multiplier), and the share of
    comparisons on which the slope is not positive."""

    preference: float
    steerability: float
    anti_steerable: float


def comparisons(trait: str, model: Model) -> Contrasts:
    """The trait against every other animal of the shipped world, in both orders."""
    pairs = [pair for pair in world_contrasts(trait).pairs if pair.says is None]
    return encode_contrasts(pairs, model.tokenizer, system_prompt=None, source=trait)


def steered(
    model: Model,
    params: Params,
    rows: Contrasts,
    vector: Float[np.ndarray, " dim"],
    layer: int,
) -> Steered:
    """What `vector` does to `params`, the base's or a student's."""
    m = propensities(params, model.cfg, rows, np.asarray(vector)[None, None], [layer])[:, 0]
    slopes = per_sample_slopes(m, MULTIPLIERS).slope
    zero = MULTIPLIERS.index(0.0)
    return Steered(float(m[:, zero].mean()), float(slopes.mean()), float(anti_steerable(slopes)))


def differences(
    students: Mapping[str, Sequence[Steered]], controls: Mapping[str, Sequence[Steered]]
) -> dict[str, Any]:
    """Of each measure: students minus controls of the same seed, by trait and pooled over traits
    and seeds (two-way t)."""
    out: dict[str, Any] = {}
    for i, name in enumerate(Steered._fields):
        values = np.array(
            [[a[i] - b[i] for a, b in zip(students[t], controls[t], strict=True)] for t in students]
        )  # [traits, seeds]
        out[name] = {
            "pooled": crossed_interval(values.T).to_dict(),
            "traits": dict(zip(students, values.tolist(), strict=True)),
        }
    return out


def prediction(
    base: Mapping[str, Steered], found: Mapping[str, Any], log_prob: Mapping[str, float]
) -> dict[str, Any]:
    """Rank correlations over traits: of the base's steerability and of its reliability (the share
    of inputs on which the vector does not work backwards) with what was transmitted, by the
    preference in comparisons and by log P(trait)."""
    traits = list(base)
    moved = {
        "preference": [float(np.mean(found["preference"]["traits"][t])) for t in traits],
        "log_prob": [log_prob[t] for t in traits],
    }
    known = {
        "steerability": [base[t].steerability for t in traits],
        "reliability": [1 - base[t].anti_steerable for t in traits],
    }
    return {
        f"{a}-{b}": spearman_interval(x, y).to_dict()
        for a, x in known.items()
        for b, y in moved.items()
    }


def claims(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Verdicts by 95% intervals: over traits and seeds for differences, over traits for ranks."""
    setting = (
        f"{results['model']}, {len(results['traits'])} traits, {results['adapter']} students of "
        f"steered teachers' numbers, {results['optimizer']} {results['learning_rate']:g}, best of "
        f"{', '.join(f'{rate:g}' for rate in results['grid'])}"
    )
    seeds = results["seeds"]
    found = results["differences"]
    preference, steerability = (found[n]["pooled"] for n in ("preference", "steerability"))
    least, most = steerability["low"], steerability["high"]
    rank = results["prediction"]["steerability-preference"]
    reliable = results["prediction"]["reliability-preference"]
    decided, ties = _ties([1 - of["anti_steerable"] for of in results["base"].values()])
    return [
        claim(
            "steering-bridge/preference",
            "A student of a vector's teacher prefers the trait in comparisons that it never saw "
            "(propensity, student minus control)",
            "this project's question", setting, _text(preference, "logits"), seeds,
            verdict(preference["low"], preference["high"]),
        ),
        claim(
            "steering-bridge/steerability",
            "Learning from a vector's teacher changes how steerable the model is by that vector "
            "(steerability, student minus control)",
            "this project's question", setting, _text(steerability, "logits a multiplier"), seeds,
            "reproduced at toy scale" if least > 0 or most < 0 else "not reproduced",
        ),
        claim(
            "steering-bridge/steerability-predicts",
            "Vectors that steer the base more are transmitted more (rank correlation over traits "
            "with the students' preference)",
            "this project's question", setting, _text(rank, "Spearman"), seeds,
            verdict(_known(rank["low"]), _known(rank["high"])),
        ),
        claim(
            "steering-bridge/reliability-predicts",
            "Vectors that work on more inputs are transmitted more (rank correlation over traits; "
            "share of inputs on which the vector does not work backwards)",
            "this project's question", setting, _text(reliable, "Spearman") + ties, seeds,
            verdict(_known(reliable["low"]), _known(reliable["high"]))
            if decided
            else "not reproduced",
        ),
    ]  # fmt: skip


def _ties(values: Sequence[float]) -> tuple[bool, str]:
    """Whether at most half of the values are the same, and what to say of those that are: among
    ties there is nothing to rank, and the interval of a rank correlation knows nothing of them."""
    value, tied = Counter(values).most_common(1)[0]
    if tied == 1:
        return True, ""
    said = f"; {tied} of {len(values)} traits tie at {value:.2f}"
    decided = 2 * tied <= len(values)
    return decided, said if decided else f"{said}, so this is undecided"


def _known(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _text(interval: Mapping[str, Any], unit: str) -> str:
    low, high = (_known(interval[end]) for end in ("low", "high"))
    mean = _known(interval["mean"])
    if mean is None or low is None or high is None:
        return f"{unit}: none (a side does not vary)"
    return f"{mean:+.3f} [{low:.3f}, {high:.3f}] {unit}"
