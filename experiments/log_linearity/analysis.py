"""Numbers and verdicts of `log-linearity`, from matrices of log-probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.statistics import mean_interval, paired_difference
from subliminal_jax.runs.claims import claim, jointly, verdict, written
from subliminal_jax.selection.log_linear_model import ARMS, ToyResult
from subliminal_jax.selection.log_linearity import (
    centred,
    effective_rank,
    fit_power_law,
    gaussian_cosines,
    predict_held_out,
    principal_cosines,
    rank_for,
    row_space,
)

Matrix = Float[np.ndarray, "systems pairs"]
KINDS = ("raw", "centred")  # X itself, and X without each pair's mean over the system prompts
PAPER_SLOPE, SLOPE_WITHIN, LEAST_FIT = -0.6, 0.15, 0.95
GAUSSIAN = "Gaussian matrix"


def random_twin(name: str) -> str:
    """What the model `name` with random weights is called."""
    return f"{name}, random weights"


def of_kind(x: Matrix, kind: str) -> Matrix:
    return centred(x) if kind == "centred" else x


def spectra(
    matrices: Mapping[str, Sequence[Matrix]], first: int, last: int
) -> list[dict[str, Any]]:
    """For each model and kind: singular values and their power law, with intervals over draws."""
    rows = []
    for name, draws in matrices.items():
        for kind in KINDS:
            singular = [np.linalg.svd(of_kind(x, kind), compute_uv=False) for x in draws]
            laws = [fit_power_law(s, first, last) for s in singular]
            columns: dict[str, list[float]] = {
                "slope": [law.slope for law in laws],
                "r_squared": [law.r_squared for law in laws],
                "effective_rank": [effective_rank(s) for s in singular],
                "rank_90": [rank_for(s, 0.9) for s in singular],
                "rank_99": [rank_for(s, 0.99) for s in singular],
            }
            rows.append(
                {"model": name, "kind": kind, "first": first, "last": last}
                | {key: mean_interval(values).to_dict() for key, values in columns.items()}
                | {"lowest_r_squared": min(columns["r_squared"])}
                | {"singular": np.mean(singular, axis=0).tolist(), "slopes": columns["slope"]}
            )
    return rows


def residuals(
    matrices: Mapping[str, Sequence[Matrix]], ranks: Sequence[int]
) -> list[dict[str, Any]]:
    """For each model and rank: errors in nats of the best fit to all entries, and of held-out ones;
    and how much more of the held-out variance is predicted than with the model's random weights
    (`over_random`, paired by draw; None without them).

    Definition 2.1 bounds the largest error: a small mean does not give that.
    """
    rows: list[dict[str, Any]] = []
    predicted: dict[tuple[str, int], list[float]] = {}
    for name, draws in matrices.items():
        held = [{p.rank: p for p in predict_held_out(x, ranks, i)} for i, x in enumerate(draws)]
        decompositions = [(np.linalg.svd(y, full_matrices=False), y) for y in map(centred, draws)]
        for rank in ranks:
            rest = [y - (u[:, :rank] * s[:rank]) @ v[:rank] for (u, s, v), y in decompositions]
            columns = {
                "fit_rmse": [float(np.sqrt(np.mean(e**2))) for e in rest],
                "fit_largest": [float(np.abs(e).max()) for e in rest],
                "held_out_r_squared": [p[rank].r_squared for p in held],
                "held_out_rmse": [p[rank].rmse for p in held],
                "held_out_largest": [p[rank].largest for p in held],
            }
            predicted[name, rank] = columns["held_out_r_squared"]
            rows.append(
                {"model": name, "rank": rank, "over_random": None}
                | {key: mean_interval(values).to_dict() for key, values in columns.items()}
            )
    for row in rows:
        own, twin = (
            predicted.get((name, row["rank"])) for name in (row["model"], random_twin(row["model"]))
        )
        if own is not None and twin is not None:
            row["over_random"] = paired_difference(own, twin).interval.to_dict()
    return rows


def angles(
    matrices: Mapping[str, Sequence[Matrix]], models: Sequence[str], k: int, gaussian_draws: int
) -> list[dict[str, Any]]:
    """Cosines of principal angles between the top-k row spaces of the first model and each other,
    against those with the other's random weights and against Gaussian matrices."""
    rows = []
    first, *others = models
    for other in others:
        for kind in KINDS:
            spaces = {
                name: [row_space(of_kind(x, kind), k) for x in matrices[name]]
                for name in (first, other, random_twin(other))
            }
            pairs = matrices[first][0].shape[1]
            ours, random = (
                [principal_cosines(a, b) for a, b in zip(spaces[first], spaces[name], strict=True)]
                for name in (other, random_twin(other))
            )
            gauss = [
                gaussian_cosines(pairs, k, gaussian_draws, seed).mean(axis=0)
                for seed in range(len(ours))
            ]
            of: dict[str, Any] = {"models": ours, "random": random, "gaussian": gauss}
            means = {name: [float(c.mean()) for c in cosines] for name, cosines in of.items()}
            rows.append(
                {"first": first, "other": other, "kind": kind, "k": k, "pairs": pairs}
                | {f"{name}_cosines": np.mean(c, axis=0).tolist() for name, c in of.items()}
                | {name: mean_interval(values).to_dict() for name, values in means.items()}
                | {
                    f"over_{name}": mean_interval(
                        np.subtract(means["models"], means[name]).tolist()
                    ).to_dict()
                    for name in ("random", "gaussian")
                }
            )
    return rows


def toy_rows(runs: Sequence[Sequence[ToyResult]]) -> list[dict[str, Any]]:
    """For each arm of the exactly log-linear toy: correlations over seeds."""
    rows = []
    for i, arm in enumerate(ARMS):
        mine = [run[i] for run in runs]
        values = [result.correlation for result in mine]
        rows.append(
            {
                "arm": arm,
                "correlation": mean_interval(values).to_dict(),
                "values": values,
                "bound": float(np.max([result.bound for result in mine])),
                "margin": float(np.mean([result.margin for result in mine])),
                "pairs": int(np.mean([result.pairs for result in mine])),
            }
        )
    return rows


def claims(results: Mapping[str, Any], draws: int) -> list[dict[str, Any]]:
    """What the paper says, and what came out, by the rules that the claims state."""
    made = []
    m, n = results["shape"]
    setting = f"{m} system prompts x {n} pairs, {draws} draws"
    for row in results["spectra"]:
        if row["kind"] != "raw" or row["model"] not in results["models"]:
            continue
        slope = row["slope"]
        is_law = row["lowest_r_squared"] >= LEAST_FIT
        near = max(abs(slope[end] - PAPER_SLOPE) for end in ("low", "high")) <= SLOPE_WITHIN
        made.append(
            claim(
                f"log-linearity/power-law-{row['model']}",
                "The singular values of the log-probability matrix follow a power law of slope "
                f"{PAPER_SLOPE} (R2 at least {LEAST_FIT} in each draw, interval within "
                f"{SLOPE_WITHIN} of it)",
                "Aden-Ali et al. 2026, Sec. 2", f"{row['model']}, {setting}",
                f"slope {written(slope)}, R2 {row['lowest_r_squared']:.2f} or more, ranks "
                f"{row['first']} to {row['last']}",
                draws, "reproduced at toy scale" if is_law and near else "not reproduced",
            )
        )  # fmt: skip
    for row in results["residuals"]:
        if row["rank"] != results["k"] or row["model"] not in results["models"]:
            continue
        r, over = row["held_out_r_squared"], row["over_random"]
        made.append(
            claim(
                f"log-linearity/low-rank-{row['model']}",
                f"Factors of rank {row['rank']} predict log-probabilities of new system prompts "
                "for new pairs better than each pair's mean, and more of their variance than with "
                "random weights (low-rank prediction; Def. 2.1 bounds the largest error, which is "
                "beside it)",
                "after Aden-Ali et al. 2026, Def. 2.1", f"{row['model']}, {setting}",
                f"R2 {written(r)}, over random weights {written(over, '+.2f')}; error "
                f"{row['held_out_rmse']['mean']:.2f} nats, the largest "
                f"{row['held_out_largest']['mean']:.1f}",
                draws, jointly(r, over),
            )
        )  # fmt: skip
    for row in results["angles"]:
        for name, against in (("gaussian", "a Gaussian matrix's"), ("random", "random weights'")):
            over = row[f"over_{name}"]
            made.append(
                claim(
                    f"log-linearity/row-space-{row['other']}-{row['kind']}-{name}",
                    f"Two models share their top-{row['k']} row space: the mean cosine of the "
                    f"principal angles is above {against}"
                    + (", each pair's mean removed" if row["kind"] == "centred" else ""),
                    "Aden-Ali et al. 2026, Sec. 2" if name == "gaussian" else "our control",
                    f"{row['first']} and {row['other']}, {setting}",
                    f"{row['models']['mean']:.2f}; over the baseline {written(over)}",
                    draws, verdict(over["low"], over["high"]),
                )
            )  # fmt: skip
    return [*made, toy_claim(results["toy"], len(results["toy"][0]["values"]))]


def toy_claim(rows: Sequence[Mapping[str, Any]], seeds: int) -> dict[str, Any]:
    """The theorem's case, where it must hold."""
    of = {row["arm"]: row for row in rows}
    lls, bottom = of["LLS"]["values"], of["bottom"]["values"]
    random = max(of["random"]["values"], key=abs)
    holds = min(lls) >= max(0.99, of["LLS"]["bound"])
    holds = holds and max(bottom) <= -0.9 and abs(random) <= 0.2
    return claim(
        "log-linearity/theorem",
        "On an exactly log-linear model the student of selected pairs shifts like the system "
        "prompt: correlation at least 0.99, bottom at most -0.9, random within 0.2 of zero",
        "Aden-Ali et al. 2026, Thm 2.2 and C.1",
        f"exact toy, {of['LLS']['pairs']} of the pairs selected, held-out pairs",
        f"LLS {np.mean(lls):.3f} (bound {of['LLS']['bound']:.3f}), random {random:+.2f} (the "
        f"farthest from zero), bottom {np.mean(bottom):.3f}, teacher turned by 45 and 90 degrees "
        f"{of['rotated 45']['correlation']['mean']:.2f} and "
        f"{of['rotated 90']['correlation']['mean']:+.2f}",
        seeds, "reproduced at toy scale" if holds else "not reproduced",
    )  # fmt: skip
