"""From the cosines of a teacher's gradients to the numbers and claims of `gradient-alignment`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation import margins
from subliminal_jax.evaluation.claim_settings import describe_setting
from subliminal_jax.evaluation.claims import Claim, Evidence, Margin, Presupposition
from subliminal_jax.evaluation.metric_ranges import COSINE, SHARE, UNBOUNDED
from subliminal_jax.evaluation.statistics import Interval, mean_interval

from .cosines import CurvePoint, PooledCosines, SingleRows, crossed
from .outliers import Outliers

COMPONENT = Margin(0.02, "a fiftieth of one row's gradient")
TENTH_SHARE = Margin(0.02, "a fiftieth of the gradient")


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      model: the model's name.
      layer: the steering layer.
      layers: blocks of the model.
      traits: one teacher of each kind for each.
      teachers: kinds of teachers.
      carrier: what they wrote, in words.
      draws: disjoint parts of the rows.
      largest_n: rows of a draw.
      noise_rows: rows of a draw on which the gradients of LoRA's factors are taken.
      chance_share: the mean squared cosine of a random direction with the vector.
      vector_norms: of each trait's vector, by layer.
      data: how each data set came about.
      pooled: cosines of mean gradients, for every teacher, draw, position and block.
      rows: the same of single rows.
      curves: cosines at the steering layer against the number of rows.
      outliers: what the gradient of LoRA's factors holds, for every teacher and draw.
    """

    model: str
    layer: int
    layers: int
    traits: tuple[str, ...]
    teachers: tuple[str, ...]
    carrier: str
    draws: int
    largest_n: int
    noise_rows: int
    chance_share: float
    vector_norms: Mapping[str, tuple[float, ...]]
    data: Mapping[str, Mapping[str, Any]]
    pooled: tuple[PooledCosines, ...]
    rows: tuple[SingleRows, ...]
    curves: tuple[CurvePoint, ...]
    outliers: tuple[Outliers, ...]


@dataclass(frozen=True)
class LayerCosines:
    """The numbers of `PooledCosines` of one kind of teacher, over draws and traits."""

    teacher: str
    position: str
    layer: int
    difference: Interval
    teacher_alone: Interval
    clean: Interval
    control: Interval
    other_vectors: Interval | None
    share: Interval
    along: Interval
    control_along: Interval


@dataclass(frozen=True)
class SingleRowMeans:
    """Over traits, at the steering layer: the cosine of single rows with its standard error, and
    the share of their squared norm along the vector."""

    cosine: float
    cosine_stderr: float
    share: float


@dataclass(frozen=True)
class OutlierMeans:
    """The numbers of `Outliers` of one teacher, over draws; NaN where no draw has one.

    `component_in_top_tenth` is a ratio of sums: the component of one draw may be next to nothing.
    """

    teacher: str
    trait: str
    excess_kurtosis: float
    hill_index: float
    noise_scale: float
    mass_in_top_percent: float
    mass_in_top_tenth: float
    component_in_top_tenth: float
    median_signal_to_noise: float
    cosine_difference: float
    cosine_teacher: float
    cosine_clean: float


_AVERAGED = (
    "excess_kurtosis",
    "hill_index",
    "noise_scale",
    "mass_in_top_percent",
    "mass_in_top_tenth",
    "cosine_difference",
    "cosine_teacher",
    "cosine_clean",
)


@dataclass(frozen=True)
class Tenths:
    """Shares by tenth of the coordinates, the largest first, over one kind's traits and draws."""

    mass: tuple[float, ...]
    component: tuple[float, ...]


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      by_layer: by kind of teacher, position and block.
      single_rows: by kind of teacher, position and data ("teacher" or "clean").
      outlier_means: by kind of teacher and trait.
      tenths: by kind of teacher.
    """

    by_layer: tuple[LayerCosines, ...]
    single_rows: Mapping[str, Mapping[str, Mapping[str, SingleRowMeans]]]
    outlier_means: tuple[OutlierMeans, ...]
    tenths: Mapping[str, Tenths]

    def at_steering_layer(self, kind: str) -> dict[str, LayerCosines]:
        """The cosines at the steering layer, by position."""
        return {
            row.position: row
            for row in self.by_layer
            if (row.teacher, row.layer) == (kind, self.layer)
        }


def analyse(measured: Measured) -> Results:
    """Intervals and means over draws and traits."""
    return Results(
        **vars(measured),
        by_layer=tuple(pool_layers(measured)),
        single_rows=average_single_rows(measured),
        outlier_means=tuple(average_outliers(measured)),
        tenths={kind: average_tenths(measured, kind) for kind in measured.teachers},
    )


def pool_layers(measured: Measured) -> Iterable[LayerCosines]:
    """Every kind of teacher, position and block, with intervals over draws and traits."""
    ranges = {
        **dict.fromkeys(("difference", "teacher_alone", "clean", "control"), COSINE),
        "share": SHARE,
        **dict.fromkeys(("along", "control_along"), UNBOUNDED),
    }
    if len(measured.traits) > 1:
        ranges["other_vectors"] = COSINE
    keys = dict.fromkeys((row.teacher, row.position, row.layer) for row in measured.pooled)
    for key in keys:
        intervals: dict[str, Any] = {"other_vectors": None}
        for name, within in ranges.items():
            pooled = pooled_matrix(measured, *key, attrgetter(name))
            intervals[name] = within.clip(crossed(pooled))
        yield LayerCosines(*key, **intervals)


def pooled_matrix(
    measured: Measured,
    kind: str,
    position: str,
    layer: int,
    number: Callable[[PooledCosines], float],
) -> Float[np.ndarray, "traits draws"]:
    """One number of the pooled cosines for each trait and draw."""
    rows = [
        row
        for row in measured.pooled
        if (row.teacher, row.position, row.layer) == (kind, position, layer)
    ]
    return np.array([[number(row) for row in rows if row.trait == t] for t in measured.traits])


def average_single_rows(
    measured: Measured,
) -> dict[str, dict[str, dict[str, SingleRowMeans]]]:
    """Means over traits at the steering layer, by kind of teacher, position and data."""
    groups: dict[tuple[str, str, str], list[SingleRows]] = {}
    for row in measured.rows:
        if row.layer == measured.layer:
            groups.setdefault((row.teacher, row.position, row.data), []).append(row)
    table: dict[str, dict[str, dict[str, SingleRowMeans]]] = {}
    for (kind, position, data), rows in groups.items():
        squared_errors = [row.cosine_stderr**2 for row in rows]
        table.setdefault(kind, {}).setdefault(position, {})[data] = SingleRowMeans(
            cosine=float(np.mean([row.cosine for row in rows])),
            cosine_stderr=float(np.sqrt(np.mean(squared_errors) / len(rows))),
            share=float(np.mean([row.share for row in rows])),
        )
    return table


def average_outliers(measured: Measured) -> Iterable[OutlierMeans]:
    """Means over draws, by kind of teacher and trait."""
    for kind in measured.teachers:
        for trait in measured.traits:
            rows = [r for r in measured.outliers if (r.teacher, r.trait) == (kind, trait)]
            means = {name: _mean_of_finite(map(attrgetter(name), rows)) for name in _AVERAGED}
            yield OutlierMeans(
                kind,
                trait,
                component_in_top_tenth=component_in_top_tenth(rows),
                median_signal_to_noise=float(np.mean([r.signal_to_noise[1] for r in rows])),
                **means,
            )


def average_tenths(measured: Measured, kind: str) -> Tenths:
    """Ratios of sums over traits and draws."""
    rows = [row for row in measured.outliers if row.teacher == kind]
    weights = [row.squared_norm for row in rows]
    mass = np.average([row.mass_by_tenth for row in rows], axis=0, weights=weights)
    components = np.array([row.component for row in rows])[:, None]
    shares = np.array([row.component_by_tenth for row in rows])
    component = (shares * components).sum(axis=0) / components.sum()
    return Tenths(tuple(mass.tolist()), tuple(component.tolist()))


def mass_in_top_tenth(rows: Sequence[Outliers]) -> float:
    """The share of the squared gradient in its largest tenth of coordinates, over all rows."""
    return float(
        sum(row.mass_in_top_tenth * row.squared_norm for row in rows)
        / sum(row.squared_norm for row in rows)
    )


def component_in_top_tenth(rows: Sequence[Outliers]) -> float:
    """The share of the component in that tenth, as a ratio of sums over all rows."""
    return float(
        sum(row.component_in_top_tenth * row.component for row in rows)
        / sum(row.component for row in rows)
    )


def _mean_of_finite(values: Iterable[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def make_claims(results: Results) -> list[Claim]:
    """The paper's statements against the numbers, at the steering layer and the last prompt token.

    Effects are held against zero by a two-way t over draws and traits: the component along v at
    the largest N minus the control's (not the cosines: that of pure noise does not shrink with N),
    the cosine at the largest N minus that of one row, and for the outliers the share of the squared
    gradient in its largest tenth minus their share of the component.
    """
    return [claim for kind in results.teachers for claim in _kind_claims(results, kind)]


def _kind_claims(results: Results, kind: str) -> list[Claim]:
    n = results.largest_n
    curves = {
        (point.data, point.n): np.array(point.values, float)
        for point in results.curves
        if (point.teacher, point.position) == (kind, "tag")
    }
    largest, one = curves["difference", n], curves["difference", 1]
    excess = pooled_matrix(
        results, kind, "tag", results.layer, lambda row: row.along - row.control_along
    )
    aligned, rise = crossed(excess), COSINE.difference().clip(crossed(largest - one))
    cosine, first, control = (
        COSINE.clip(crossed(values)) for values in (largest, one, curves["control", n])
    )
    draws = [
        [row for row in results.outliers if (row.teacher, row.draw) == (kind, draw)]
        for draw in range(results.draws)
    ]
    mass = np.array([mass_in_top_tenth(rows) for rows in draws])
    signal = np.array([component_in_top_tenth(rows) for rows in draws])
    gap = mean_interval(mass - signal)
    setting = describe_setting(
        model=results.model,
        layer=results.layer,
        vectors=f"vectors of {len(results.traits)} traits",
        carrier=f"{results.draws} draws of {n} rows ({results.carrier}) of {kind} teachers, {{}}",
        students=None,
    )
    return [
        Claim(
            id=f"gradient-alignment/aligned-{kind}",
            claim="cos(g_clean - g_teacher, v_teacher) is positive, above that of clean data",
            section="Blank et al. 2026, figure 7, a",
            setting=setting.format("gradients at the last prompt token"),
            number=f"{cosine:.3f} at N = {n}, clean {control:.3f}; component in units of one row's "
            f"gradient, less that of clean data {aligned:.3f}",
            seeds=results.draws,
            evidence=Evidence(
                aligned,
                margin=COMPONENT,
                presupposes=(Presupposition("a cosine above zero", cosine, to_refute=None),),
            ),
            model=results.model,
        ),
        Claim(
            id=f"gradient-alignment/rises-with-n-{kind}",
            claim="the cosine rises with the number N of gradients that are averaged",
            section="Blank et al. 2026, figure 7, a",
            setting=setting.format("gradients at the last prompt token"),
            number=f"{first:.3f} at N = 1, {cosine:.3f} at N = {n}; rise {rise:.3f}",
            seeds=results.draws,
            evidence=Evidence(rise, margin=margins.COSINE),
            model=results.model,
        ),
        Claim(
            id=f"gradient-alignment/outliers-{kind}",
            claim="the largest coordinates of the parameter gradient hold most of its size, but "
            "not the signal",
            section="Blank et al. 2026, section 6",
            setting=setting.format("LoRA factors B at the start, largest tenth"),
            number=f"{mass.mean():.0%} of the squared gradient, {signal.mean():.0%} of the "
            f"component of g_clean - g_teacher; difference {gap:.3f}",
            seeds=results.draws,
            evidence=Evidence(
                gap,
                margin=TENTH_SHARE,
                presupposes=(
                    Presupposition(
                        "they hold most of its size",
                        SHARE.clip(mean_interval(mass)),
                        0.5,
                        to_refute=None,
                    ),
                    Presupposition(
                        "less than half of the signal", -mean_interval(signal), -0.5, to_refute=None
                    ),
                ),
            ),
            model=results.model,
        ),
    ]
