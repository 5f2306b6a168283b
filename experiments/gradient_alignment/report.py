"""The page of `gradient-alignment`, from its results alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.style import AXIS, NEUTRAL, PALETTE, legend_above, styled
from subliminal_jax.reporting.tables import Column, Table

from .analysis import Results

PANELS = {
    "tag": "last prompt token",
    "completion": "tokens that predict the answer",
    "all": "all tokens",
}
COLORS = {"steered": PALETTE[0], "system-prompt": PALETTE[1]}
PRINTED = ("teacher", "position", "row_teacher", "difference", "control", "other_vectors")


def make_page(results: Results) -> Page:
    """Cosines at the steering layer, against N and by block, and the outliers."""
    table = cosine_table(results)
    against_n = Picture(
        "cosine_against_n",
        "The vector appears when gradients are averaged",
        "Cosine of the mean of N differences (clean - teacher) with the teacher's vector; grey is "
        "a second set of clean lists in the teacher's place. Bands are 95% intervals over draws "
        "and traits.",
        draw_against_n(results),
    )
    by_layer = Picture(
        "cosine_by_layer",
        "Where in the depth",
        f"The same cosine at N = {results.largest_n} after each block, with the vector of that "
        "block; dashed: with the vectors of the other traits, which share the direction that any "
        "such system prompt has.",
        draw_by_layer(results),
    )
    deciles = Picture(
        "deciles",
        "Do the largest coordinates hold the signal?",
        "Coordinates of LoRA's B factors in ten groups by the size of their gradient on the "
        "teacher's lists: the share of that gradient's square, and the share of the component of "
        "(clean - teacher) along the gradient of the steering score.",
        draw_tenths(results),
    )
    return Page(
        title="Does the gradient on a teacher's data point along its vector?",
        summary=summarise(results),
        blocks=[
            table,
            against_n,
            by_layer,
            outlier_table(results),
            deciles,
            Text(describe_data(results), "The data"),
        ],
        printed=[replace(table, columns=[c for c in table.columns if c.key in PRINTED])],
    )


def summarise(results: Results) -> str:
    """What came out, in sentences that need no paper."""
    parts = [
        f"{results.model} reads number lists that teachers wrote, and lists that it wrote itself. "
        f"Its loss gradient after block {results.layer}, at the last prompt token, is averaged "
        f"over {results.largest_n} lists of each; the difference of the two is held against the "
        f"teacher's vector, for {len(results.traits)} traits and {results.draws} disjoint draws of "
        "lists."
    ]
    for kind in results.teachers:
        row = results.at_steering_layer(kind)["tag"]
        parts.append(
            f"With a {kind} teacher the cosine is {row.difference:.3f} (95% interval over draws "
            f"and traits); two sets of its own lists give {row.control:.3f}."
        )
    parts.append(
        "Positive means that a gradient step on the teacher's lists moves the residual stream "
        "along the vector: the cosine is that of g(clean) - g(teacher), as the paper quotes it; "
        "its code reports the opposite sign."
    )
    return " ".join(parts)


def cosine_table(results: Results) -> Table:
    """Single rows and means, by teacher and position at the steering layer."""
    rows = []
    for kind in results.teachers:
        for position, cosines in results.at_steering_layer(kind).items():
            teacher, clean = (results.single_rows[kind][position][d] for d in ("teacher", "clean"))
            rows.append(
                {
                    **vars(cosines),
                    "row_teacher": f"{teacher.cosine:.3f} ± {teacher.cosine_stderr:.3f}",
                    "row_clean": f"{clean.cosine:.3f} ± {clean.cosine_stderr:.3f}",
                    "share_teacher": teacher.share,
                }
            )
    columns = [
        Column("teacher", "teacher"),
        Column("position", "gradient at", labels=PANELS),
        Column("row_teacher", "one row, teacher's"),
        Column("row_clean", "one row, clean"),
        Column("share_teacher", "its share along v", "rate"),
        Column("difference", "clean - teacher", "number", digits=3),
        Column("control", "clean - clean", "number", digits=3),
        Column("along", "component", "number", digits=4),
        Column("control_along", "component, clean - clean", "number", digits=4),
        Column("teacher_alone", "teacher's alone", "number", digits=3),
        Column("clean", "clean alone", "number", digits=3),
        Column("other_vectors", "with other traits' vectors", "number", digits=3),
    ]
    caption = (
        f"Cosines with the teacher's vector after block {results.layer}, signed so that positive "
        "is towards the vector. One row: mean and standard error over batches of single rows. The "
        f"others: means over {results.largest_n} rows, with 95% intervals over draws and traits. A "
        f"random direction has a squared cosine of {results.chance_share:.2%} on average. The "
        "cosine of clean - clean is that of pure noise, which does not shrink with N; its "
        "component does (in units of the gradient norm of one clean row)."
    )
    return Table("Cosines at the steering layer", columns, rows, caption)


@styled
def draw_against_n(results: Results) -> Figure:
    """Cosine against N, one panel a position; the control of the last kind stands for all."""
    kinds = results.teachers
    sizes = sorted({point.n for point in results.curves})

    def draw(axes: Axes, position: str) -> None:
        series = [(kind, "difference", COLORS[kind]) for kind in kinds]
        for kind, data, color in [*series, (kinds[-1], "control", NEUTRAL)]:
            points = [
                point
                for point in results.curves
                if (point.teacher, point.position, point.data) == (kind, position, data)
            ]
            _draw_band(axes, [p.n for p in points], [p.cosine for p in points], color)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sizes[::-1][::3]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
        axes.set_xlabel("N, rows in the mean")

    return _draw_panels(draw, kinds, dashed=False)


@styled
def draw_by_layer(results: Results) -> Figure:
    """The cosine at the largest N after each block, one panel a position."""
    kinds, layers = results.teachers, range(results.layers)

    def draw(axes: Axes, position: str) -> None:
        for kind in kinds:
            rows = [r for r in results.by_layer if (r.teacher, r.position) == (kind, position)]
            _draw_band(axes, layers, [row.difference for row in rows], COLORS[kind])
            others = [row.other_vectors.mean for row in rows if row.other_vectors is not None]
            if others:
                axes.plot(layers, others, color=COLORS[kind], linestyle="--", linewidth=1.2)
            if kind == kinds[-1]:
                _draw_band(axes, layers, [row.control for row in rows], NEUTRAL)
        axes.set_xticks(layers if len(layers) < 8 else layers[:: len(layers) // 6])
        axes.set_xlabel("after block")

    return _draw_panels(draw, kinds, dashed=True)


def _draw_panels(
    draw: Callable[[Axes, str], None], kinds: Sequence[str], *, dashed: bool
) -> Figure:
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (position, title) in zip(panels, PANELS.items(), strict=True):
        axes.axhline(0, color=AXIS, linewidth=0.8)
        draw(axes, position)
        axes.set_title(title, fontsize=11, loc="left")
    panels[0].set_ylabel("cos(clean - teacher, v)")
    handles = {f"{kind} teacher": Line2D([], [], color=COLORS[kind], marker="o") for kind in kinds}
    handles["clean in its place"] = Line2D([], [], color=NEUTRAL, marker="o")
    if dashed:
        handles["other traits' vectors"] = Line2D([], [], color=NEUTRAL, linestyle="--")
    legend_above(figure, handles)
    return figure


def _draw_band(axes: Axes, x: Sequence[float], intervals: Sequence[Interval], color: str) -> None:
    mean, low, high = np.array([(i.mean, i.low, i.high) for i in intervals]).T
    axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    axes.plot(x, mean, color=color, marker="o", ms=4)


def outlier_table(results: Results) -> Table:
    """Tails of LoRA's gradient and where the signal sits, by teacher and trait."""
    columns = [
        Column("teacher", "teacher"),
        Column("trait", "trait"),
        Column("excess_kurtosis", "excess kurtosis", "number", digits=0),
        Column("hill_index", "Hill index", "number", digits=1),
        Column("mass_in_top_percent", "g² in top 1%", "rate", digits=0),
        Column("mass_in_top_tenth", "g² in top 10%", "rate", digits=0),
        Column("component_in_top_tenth", "signal in that 10%", "rate", digits=0),
        Column("median_signal_to_noise", "median |mean|/sd", "number", digits=2),
        Column("cosine_difference", "cos(clean - teacher, ∇S)", "number", digits=3),
        Column("cosine_teacher", "cos(-teacher, ∇S)", "number", digits=3),
        Column("cosine_clean", "cos(-clean, ∇S)", "number", digits=3),
    ]
    n = results.noise_rows
    caption = (
        "The mean gradient g of LoRA's B factors at the start (A's is zero), means over draws of "
        f"{n} rows. S is the steering score, the probe's mean activation along the vector; the "
        "signal is the component of clean - teacher along its gradient. Coordinates of pure noise "
        f"have a median |mean|/sd of {0.67 / n**0.5:.2f}."
    )
    title = "Outliers and signal in the parameters' gradient"
    return Table(title, columns, results.outlier_means, caption)


def draw_tenths(results: Results) -> Figure:
    """Shares by tenth for each kind of teacher, the smallest coordinates first."""
    rows = [
        {
            "optimizer": f"{kind} teacher",
            "gradient_mass": tenths.mass[::-1],
            "steering_component": tenths.component[::-1],
        }
        for kind, tenths in results.tenths.items()
    ]
    return plots.decile_bars(rows)


def describe_data(results: Results) -> str:
    """How many of each teacher's lists pass the filter."""
    return "\n\n".join(
        f"{name}: {report.get('kept', report['pairs'])} of {report['pairs']} lists pass the filter."
        for name, report in results.data.items()
    )
