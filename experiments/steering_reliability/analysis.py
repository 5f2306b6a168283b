"""What `steering-reliability` claims of its sets and of the shipped world's traits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subliminal_jax.evaluation.statistics import (
    bootstrap_interval,
    mean_interval,
    paired_difference,
)
from subliminal_jax.runs.claims import claim, verdict
from subliminal_jax.steering.slopes import LEAST_SELF_STEERABILITY

ENOUGH = 0.99  # correlation of analytic and finite slopes at the smallest multipliers
BY_CHANCE = 0.025  # of rows that are not anti-steerable, how many may be clearly so by noise
# Kind of question -> the end of its claims' ids, and its name.
KINDS = {"compare": ("", "comparisons of two animals"), "like": ("-like", "likings of an animal")}


def of_world(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over traits, of each kind of question: the own vector's steerability, that minus a random
    vector's and minus the mean of the other traits' vectors, the anti-steerable share, and that
    of questions whose own slope is clear of zero from below."""
    out = {}
    for kind in dict.fromkeys(record["kind"] for record in records):
        mine = [record for record in records if record["kind"] == kind]
        own = [record["steerability"]["mean"] for record in mine]
        random = [record["random"]["steerability"]["mean"] for record in mine]
        out[kind] = {
            "traits": len(mine),
            "steerability": mean_interval(own).to_dict(),
            "against_random": paired_difference(own, random).to_dict(),
            **{  # shares near 0: far from symmetric
                share: bootstrap_interval(values).to_dict()
                for share, values in (
                    ("anti_steerable", [r["anti_steerable"]["mean"] for r in mine]),
                    ("clearly_anti_steerable", [r["clearly_anti_steerable"] for r in mine]),
                )
            },
        }
        others = [
            float(np.mean([s for t, s in r["by_trait"].items() if t != r["trait"]]))
            for r in mine
            if len(r["by_trait"]) > 1
        ]
        if len(others) == len(own):
            out[kind]["against_others"] = paired_difference(own, others).to_dict()
    return out


def claims(
    over: Mapping[str, Any] | None,
    world: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    names: tuple[str, str],
) -> list[dict[str, Any]]:
    """What the paper says and what came out; `records` are all that have `local` numbers, `names`
    the models of the sets and of the world.

    A model that its own vectors hardly steer cannot be judged by the paper's claims on them: where
    they do not beat random vectors, or their mean steerability is below what the paper's code takes
    as any (0.25 logits a multiplier), the claim needs large models.
    """
    made = []
    for kind in KINDS:
        if kind in world:
            made += _world_claims(world[kind], kind, names[1])
    if over is not None:
        made += _set_claims(over, names[0])
    smallest = [r["local"]["correlation"][0] for r in records]
    known = [r for r in smallest if r is not None]
    if known:
        made.append(
            claim(
                "steering-reliability/analytic",
                "One forward-mode derivative gives the per-sample steerability at small "
                f"multipliers (correlation over samples at least {ENOUGH} in every set)",
                "this package", f"{' and '.join(dict.fromkeys(names))}, {len(known)} sets",
                f"least {min(known):.4f}, median {np.median(known):.4f}", 1,
                "reproduced at toy scale" if min(known) >= ENOUGH else "not reproduced",
            )
        )  # fmt: skip
    return made


def _world_claims(of: Mapping[str, Any], kind: str, model: str) -> list[dict[str, Any]]:
    """That the vectors work on average, and that they work backwards on more questions than noise
    in the slopes explains; the second presupposes the first."""
    end, asked = KINDS[kind]
    setting = f"{model}, {asked}, {of['traits']} traits"
    own, anti, clear = (
        of["against_random"]["interval"], of["anti_steerable"], of["clearly_anti_steerable"]
    )  # fmt: skip
    works = own["low"] is not None and own["low"] > 0
    low, high = (None if clear[e] is None else clear[e] - BY_CHANCE for e in ("low", "high"))
    return [
        claim(
            f"steering-reliability/world{end}",
            "A trait's vector steers the choice between the trait and another animal (steerability "
            "minus that of a random vector of its norm)"
            if kind == "compare"
            else "A trait's vector steers whether one likes the trait, and not another animal "
            "(steerability minus that of a random vector of its norm)",
            "Sec. 4", setting,
            f"{own['mean']:+.2f} logits a multiplier [{_end(own['low'])}, {_end(own['high'])}]",
            1, verdict(own["low"], own["high"]),
        ),
        claim(
            f"steering-reliability/anti-steerable{end}",
            "A vector that works on average works backwards on more inputs than noise explains "
            f"(slope clear of zero from below; by chance at most {BY_CHANCE:.1%})",
            "Sec. 4.1", setting,
            f"{_share(clear)} clearly backwards, {_share(anti)} with a slope of at most 0"
            + ("" if works else "; the vectors do not work on average"),
            1, verdict(low, high) if works else "not reproduced",
        ),
    ]  # fmt: skip


def _set_claims(over: Mapping[str, Any], model: str) -> list[dict[str, Any]]:
    steered = over["against_random"]["interval"]
    clear = steered["low"] is not None and steered["low"] > 0
    beats = clear and over["steerability"]["mean"] > LEAST_SELF_STEERABILITY
    even = over["balanced"]
    setting = f"{model}, {over['sets']} sets of the model-written evaluations"
    made = [
        claim(
            "steering-reliability/sets",
            "Contrastive vectors steer their own sets (mean steerability minus that of random "
            "vectors of their norm)",
            "Sec. 4.1", setting,
            f"{steered['mean']:+.4f} logits a multiplier [{_end(steered['low'], 4)}, "
            f"{_end(steered['high'], 4)}]; letters weighted equally {_end(even['mean'], 4)} "
            f"[{_end(even['low'], 4)}, {_end(even['high'], 4)}]", 1,
            verdict(steered["low"], steered["high"]) if beats else "needs large models",
        )
    ]  # fmt: skip
    for shift in over["shifts"]:
        if (shift["vector"], shift["setting"]) != ("baseline", "USER_positive"):
            continue
        r = shift["correlation"]
        made.append(
            claim(
                "steering-reliability/id-ood",
                "Sets that are steerable in their own setting are steerable under another prompt "
                "(rank correlation over sets, plain to a persona before the question)",
                "Sec. 5", setting,
                f"rho {_end(r['mean'])} [{_end(r['low'])}, {_end(r['high'])}]", 1,
                verdict(r["low"], r["high"]) if beats else "needs large models",
            )
        )  # fmt: skip
    return made


def _end(value: float | None, digits: int = 2) -> str:
    return "none" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _share(share: Mapping[str, Any]) -> str:
    low, high = (_end(None if share[e] is None else 100 * share[e], 1) for e in ("low", "high"))
    return f"{100 * share['mean']:.1f}% [{low}, {high}]"
