"""The paper's statements on semantic and random vectors against the numbers of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.statistics import crossed_interval
from subliminal_jax.reporting.tables import Column, format_cell
from subliminal_jax.runs.claims import claim, verdict

from .distillation import difference_of_sets

Row = Mapping[str, Any]
METRICS = ("eas", "component", "loss_drop", "variation")
NAMES = {
    "trait": "trait vectors",
    "random": "random vectors",
    "centred": "centred trait vectors",
    "file": "vectors from files",
}


def difference(rows: Sequence[Row], metric: str) -> Float[np.ndarray, "seeds vectors"]:
    """The metric of students less that of the control student of the same seed."""
    return np.array([np.subtract(r[metric], r[f"control_{metric}"]) for r in rows], float).T


def by_vector(
    rows: Sequence[Row], values: Float[np.ndarray, "seeds rows"]
) -> Float[np.ndarray, "seeds vectors"]:
    """The mean over the norms of each vector at each layer: norms of one vector are not so many
    vectors, and an interval over them would be too narrow."""
    keys = [(r["vector"], r["layer"]) for r in rows]
    return np.stack(
        [values[:, [k == key for k in keys]].mean(axis=1) for key in dict.fromkeys(keys)],
        axis=1,
    )


def pooled(vectors: Sequence[Row]) -> list[dict[str, Any]]:
    """By kind, layer and norm: each metric of students, of controls, and their difference, with
    two-way t intervals over seeds and vectors."""
    table = []
    keys = dict.fromkeys((r["kind"], r["layer"], r["norm"]) for r in vectors)
    for kind, layer, norm in keys:
        mine = [r for r in vectors if (r["kind"], r["layer"], r["norm"]) == (kind, layer, norm)]
        row: dict[str, Any] = {"kind": kind, "layer": layer, "norm": norm, "vectors": len(mine)}
        for metric in METRICS:
            for key in (metric, f"control_{metric}"):
                row[key] = crossed(np.array([r[key] for r in mine], float).T)
            row[f"{metric}_difference"] = crossed(difference(mine, metric))
        row["teacher_variation"] = float(np.mean([r["teacher_variation"] for r in mine]))
        row["valid"] = float(np.mean([r["valid"] for r in mine]))
        table.append(row)
    return table


def claims(results: Mapping[str, Any], seeds: int) -> list[dict[str, Any]]:
    """Effects of students against the controls of their seeds, over all layers, with the mean over
    the norms of each vector.

    Behaviour: the answers' total variation to the control's less that among controls; claimed is
    that it is larger for trait vectors than for random ones.
    """
    of = {k: [r for r in results["vectors"] if r["kind"] == k] for k in ("trait", "random")}
    layers = ", ".join(str(p["layer"]) for p in results["layers"])
    stated = []
    for kind, rows in of.items():
        if not rows:
            continue
        names, norms = ({r[key] for r in rows} for key in ("vector", "norm"))
        setting = (
            f"{results['model']}, {len(names)} {NAMES[kind]} of {len(norms)} norms after blocks "
            f"{layers}"
        )
        section = "sections 4 and 5" if kind == "random" else "section 3, figure 6"
        eas, control = (
            by_vector(rows, np.array([r[key] for r in rows], float).T)
            for key in ("eas", "control_eas")
        )
        effect = crossed(eas - control)
        stated.append(
            claim(
                f"distil-vectors/{kind}-eas",
                f"students align with {NAMES[kind]} that they never saw",
                section,
                setting,
                f"EAS {_plain(crossed(eas))}, control {_plain(crossed(control))}; difference "
                f"{_plain(effect)}",
                seeds,
                verdict(effect["low"], effect["high"]),
            )
        )
        drop = crossed(by_vector(rows, difference(rows, "loss_drop")))
        stated.append(
            claim(
                f"distil-vectors/{kind}-loss",
                f"their loss on unseen text steered by {NAMES[kind]} falls",
                section,
                setting,
                f"falls by {_plain(drop, 4)} nats a token more than the control's",
                seeds,
                verdict(drop["low"], drop["high"]),
            )
        )
    if of["trait"] and of["random"] and seeds > 1:
        trait, random = (
            by_vector(of[k], difference(of[k], "variation")) for k in ("trait", "random")
        )
        apart = difference_of_sets(trait, random)
        stated.append(
            claim(
                "distil-vectors/behaviour",
                "random vectors are distilled without a recognisable change of behaviour, semantic "
                "ones change it",
                "sections 4 and 5",
                f"{results['model']}, answers to favourite-animal questions, blocks {layers}",
                "total variation to the control's answers beyond that among controls: "
                f"trait vectors {_plain(crossed(trait), 3)}, random vectors "
                f"{_plain(crossed(random), 3)}; difference {_plain(apart, 3)}",
                seeds,
                verdict(apart["low"], apart["high"]),
            )
        )
    return stated


def crossed(values: Float[np.ndarray, "seeds vectors"]) -> dict[str, Any]:
    """Mean and two-way t interval over seeds and vectors; a seed with a NaN (a single control has
    no other control to be compared with) is left out."""
    return crossed_interval(values, nan_policy="omit").to_dict()


def _plain(interval: Mapping[str, Any], digits: int = 2) -> str:
    return format_cell(interval, Column("", "", "number", digits=digits))
