"""A plot shows its rows: every number is on it, gaps are gaps, colours stay with their name."""

import math

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import png
from subliminal_jax.reporting.style import assign_styles

NAMES = ["sgd", "adamw", "novel"]
CURVES = [
    {
        "optimizer": "adamw",
        "x": [0, 1, 2],
        "mean": [0.0, None, 0.8],
        "low": [0, None, 0.7],
        "high": [0, None, 0.9],
    },
    {"optimizer": "sgd", "x": [0, 1, 2], "mean": [0.0, 0.2, 0.3]},
    {"optimizer": "sgd", "data": "control", "x": [0, 1, 2], "mean": [0.0, 0.01, 0.0]},
]
ARMS = [
    {
        "optimizer": name,
        "learning_rate": rate,
        "seed": seed,
        "data": data,
        "diverged": lost,
        "eas": None if lost else rate * (seed + 1),
    }
    for name, rates in (("adamw", (1e-3, 1e-2)), ("sgd", (0.1, 1.0)))
    for rate in rates
    for seed in range(3)
    for data in ("steered", "control")
    for lost in [rate == 1.0]
]
BEST = [
    {
        "optimizer": "adamw",
        "learning_rate": 1e-2,
        "control_trait_rate": 0.1,
        "trait_rate": Interval(0.5, 0.4, 0.7, 3, 0.95, "t"),
    },
    {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "control_trait_rate": None,
        "trait_rate": Interval(0.2, math.nan, math.nan, 1, 0.95, "t"),
    },
]
ALIGNMENT = [
    {"n": n, "cosine": 0.1 * i, "stderr": 0.05 if n < 64 else None, "data": data}
    for data in ("steered", "control")
    for i, n in enumerate((1, 2, 4, 8, 16, 32, 64, 100))
]
DECILES = [
    {"optimizer": name, "gradient_mass": [0.1] * 10, "steering_component": [-0.1, *[0.1] * 9]}
    for name in ("adamw", "sgd", "novel", "lion")
]


def lines(figure):
    return figure.axes[0].get_lines()


def with_data(figure, x, y):
    def same(drawn, expected):
        drawn = np.asarray(drawn, float)
        return drawn.shape == np.shape(expected) and np.allclose(drawn, expected, equal_nan=True)

    return [
        line for line in lines(figure) if same(line.get_xdata(), x) and same(line.get_ydata(), y)
    ]


def test_curves_draw_every_mean_and_leave_gaps():
    figure = plots.curves(CURVES)
    (adamw,) = with_data(figure, [0, 1, 2], [0.0, np.nan, 0.8])
    (sgd,) = with_data(figure, [0, 1, 2], [0.0, 0.2, 0.3])
    (control,) = with_data(figure, [0, 1, 2], [0.0, 0.01, 0.0])
    assert adamw.get_color() != sgd.get_color() == control.get_color()
    assert control.get_linewidth() < sgd.get_linewidth()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["adamw", "sgd", "controls"]


def test_learning_rates_have_their_seeds_their_mean_and_their_losses():
    figure = plots.learning_rate_curves(ARMS, best=BEST)
    assert with_data(figure, [1e-3] * 3, [1e-3, 2e-3, 3e-3])
    assert with_data(figure, [1e-3, 1e-2], [2e-3, 2e-2])
    assert with_data(figure, [0.1, 1.0], [0.2, np.nan])
    crosses = [line for line in lines(figure) if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [1.0]
    rings = [line for line in lines(figure) if line.get_markersize() == 13]
    assert sorted(line.get_xdata()[0] for line in rings) == [1e-2, 0.1]
    assert figure.axes[0].get_xscale() == "log"


def test_bars_have_the_height_of_their_rates_and_intervals_where_there_are_any():
    figure = plots.paired_bars(BEST, references={"teacher": 0.9})
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    np.testing.assert_array_equal(heights, [0.5, 0.1, 0.2, np.nan])
    (error,) = figure.axes[0].containers[1].get_children()[-1:]
    np.testing.assert_allclose(error.get_segments()[0][:, 1], [0.4, 0.7])
    assert "teacher" in [text.get_text() for text in figure.axes[0].texts]


def test_cosines_are_sorted_by_n_and_the_largest_n_is_named():
    figure = plots.cosine_against_n(ALIGNMENT[::-1])
    expected = [row["cosine"] for row in ALIGNMENT[:8]]
    assert len(with_data(figure, [1, 2, 4, 8, 16, 32, 64, 100], expected)) == 2
    assert 100 in figure.axes[0].xaxis.get_majorticklocs()


def test_deciles_have_one_panel_an_optimizer():
    figure = plots.decile_bars(DECILES)
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in visible] == [r["optimizer"] for r in DECILES]
    heights = [bar.get_height() for bar in visible[1].patches]
    assert heights == [*[0.1] * 10, -0.1, *[0.1] * 9]


DRAWN = {
    "curves": (plots.curves, CURVES),
    "learning_rate_curves": (plots.learning_rate_curves, ARMS),
    "paired_bars": (plots.paired_bars, BEST),
    "cosine_against_n": (plots.cosine_against_n, ALIGNMENT),
    "decile_bars": (plots.decile_bars, DECILES),
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("empty", [False, True])
def test_rows_and_no_rows_render_without_touching_the_settings(name, empty):
    plot, rows = DRAWN[name]
    settings = dict(matplotlib.rcParams)
    assert png(plot([] if empty else rows)).startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == settings


def test_a_name_keeps_its_style_in_any_order_and_well_known_ones_among_others():
    assert assign_styles(NAMES) == assign_styles(NAMES[::-1])
    few, more = assign_styles(["adamw", "sgd"]), assign_styles(["adam", *NAMES, "sgd"])
    assert few["adamw"] == more["adamw"]
    assert few["sgd"] == more["sgd"]


def test_forty_arms_are_all_told_apart():
    styles = assign_styles([*(f"arm {i}" for i in range(38)), "adamw", "sgd"]).values()
    assert len({(style.color, style.marker) for style in styles}) == 40
    assert len({(style.color, str(style.dash)) for style in styles}) == 40


def test_the_same_styles_colour_every_plot():
    styles = assign_styles(["adamw", "sgd", "zeta"])
    bars = plots.paired_bars(BEST, styles=styles).axes[0].patches
    (line,) = with_data(plots.curves(CURVES, styles=styles), [0, 1, 2], [0.0, 0.2, 0.3])
    assert to_hex(bars[2].get_facecolor()) == to_hex(line.get_color())
