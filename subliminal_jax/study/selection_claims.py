"""What the paper on logit-linear selection states, and the verdicts on it."""

from collections.abc import Mapping
from typing import Any

from subliminal_jax.study.claims import claim, verdict

PAPER = "Aden-Ali et al. 2026"


def claims(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Verdicts by the two-way t over targets and seeds of differences that are paired by
    seed: selected minus random pairs, and random minus lowest scores for the opposite. With more
    than one optimizer, each has rows of its own, and AdamW is held against SGD.
    """
    crossed = results["student"] != results["model"]
    suffix = f"-{results['model'].split('/')[-1]}" if results["model"] != "shipped" else ""
    suffix += f"-to-{results['student'].split('/')[-1]}" if crossed else ""
    whose = "another model's" if crossed else "its own model's"
    several = len(results["optimizers"]) > 1
    out = []
    for optimizer, made in results["optimizers"].items():
        grid = results["grids"][optimizer]
        setting = (
            f"{results['model']} selects, {results['student']} is trained ({results['adapter']}), "
            f"{len(results['targets'])} {results['kind']}, pairs: {results['pairs']}, {optimizer}, "
            f"best of {len(grid)} rates by held-out loss"
        )
        tail = (f"-{optimizer}" if several else "") + suffix

        def one(
            name: str, text: str, source: str, metric: str, arm: str, sign: int,
            made: Any = made, setting: str = setting, tail: str = tail,
        ) -> None:  # fmt: skip
            found = made["differences"].get(arm, {}).get(metric)
            if found is None:
                return
            values = ", ".join(
                f"{_value(of[metric])} {_NAMES[a]}"
                for a, of in made["arms"].items()
                if of[metric] is not None
            )
            d = found["pooled"]
            number = f"{values}; difference {_value(found)}"
            out.append(
                claim(
                    f"logit-linear-selection/{name}{tail}", text, f"{PAPER}, {source}", setting,
                    number, results["seeds"], verdict(d["low"], d["high"], sign),
                )
            )  # fmt: skip

        one(
            "correlation",
            f"A student of pairs selected by {whose} scores shifts pairs that were never selected "
            "as the system prompt does, one of random pairs less so (Corr, uncentred)",
            "Thm 2.2", "cosine", "random", 1,
        )  # fmt: skip
        one(
            "bottom",
            "A student of the pairs with the lowest scores shifts them the other way",
            "Thm 2.2", "cosine", "bottom", 1,
        )  # fmt: skip
        one(
            "mentions",
            "The target's share of the animals that its answers mention rises over that of random "
            "pairs",
            "Sec. 4.1", "share", "random", 1,
        )  # fmt: skip
        one(
            "rate",
            "Its answers show the target more often than those of random pairs",
            "Sec. 4", "rate", "random", 1,
        )  # fmt: skip
        one(
            "favorite",
            "It names the target as its favourite animal more often than one of random pairs",
            "not tested there", "word_rate", "random", 1,
        )  # fmt: skip
    return out + _between_optimizers(results, suffix)


def _between_optimizers(results: Mapping[str, Any], suffix: str) -> list[dict[str, Any]]:
    """AdamW over SGD: does the optimizer matter here, as it does for steering vectors?"""
    labels = list(results["optimizers"])
    if "adamw" not in labels or "sgd" not in labels:
        return []
    out = []
    for metric, name in (("cosine", "correlation"), ("share", "mentions"), ("word_rate", "rate")):
        found = results["between"].get(metric)
        if found is None:
            continue
        d = found["pooled"]
        each = ", ".join(
            f"{label} {_value(of['arms']['lls'][metric])}"
            for label, of in results["optimizers"].items()
            if of["arms"]["lls"][metric] is not None
        )
        out.append(
            claim(
                f"logit-linear-selection/adamw-over-sgd-{name}{suffix}",
                "The optimizer matters here, too: AdamW's students take up more of the target than "
                "SGD's, each at its best rate",
                "Blank et al. 2026, of steering vectors",
                f"{results['student']}, DPO on selected pairs, "
                + ", ".join(f"{k}: {', '.join(map(str, v))}" for k, v in results["grids"].items()),
                f"adamw - sgd {_value(found)}; {each}",
                results["seeds"], verdict(d["low"], d["high"]),
            )
        )  # fmt: skip
    return out


_NAMES = {"lls": "selected", "random": "random", "bottom": "lowest"}


def _value(found: Mapping[str, Any]) -> str:
    of = found["pooled"]
    return f"{of['mean']:.2f} [{of['low']:.2f}, {of['high']:.2f}]"
