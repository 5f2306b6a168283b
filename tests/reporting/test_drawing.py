"""A picture in a page says the values of its points, where they are, in words."""

import pytest

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.drawing import draw_svg, find_points
from subliminal_jax.reporting.panels import line_panels
from subliminal_jax.reporting.style import AXIS, new_axes

EFFECT = Interval(0.5, 0.25, 0.75, 3, 0.95, "t")


def read_points(figure):
    draw_svg(figure, "picture")
    return find_points(figure)


def test_points_say_series_and_values_as_the_axes_write_them():
    figure = plots.forest(
        [
            {"label": "first", "group": "steered", "interval": EFFECT},
            {"label": "second", "group": "prompted", "interval": EFFECT},
        ],
        x_label="rise",
        percent=True,
    )
    said = {(point.series, point.x, point.y) for point in read_points(figure)}
    rises = ("rise: 25%", "rise: 50%", "rise: 75%")
    assert said == {("steered", x, "first") for x in rises} | {
        ("prompted", x, "second") for x in rises
    }


def test_a_label_of_panels_with_one_axis_is_said_of_each():
    rows = [
        {"panel": panel, "line": "adamw", "x": [8, 16], "y": [EFFECT, None]}
        for panel in ("small", "large")
    ]
    points = read_points(line_panels(rows, x_label="rank", y_label="EAS"))
    assert {(p.series, p.x, p.y) for p in points} == {
        (f"{panel}, adamw", "rank: 8", f"EAS: {value}")
        for panel in ("small", "large")
        for value in (0.25, 0.5, 0.75)  # the mean and the ends of its interval
    }


def test_bars_say_their_ends():
    rows = [{"optimizer": "adamw", "trait_rate": EFFECT, "control_trait_rate": 0.125}]
    said = {(point.series, point.x, point.y) for point in read_points(plots.paired_bars(rows))}
    assert ("student", "adamw", "answers that name the trait: 50%") in said
    assert ("its control", "adamw", "answers that name the trait: 12.5%") in said


def test_points_lie_where_the_picture_has_them():
    figure, axes = new_axes(width=4, height=2)
    axes.set_position((0, 0, 1, 1))
    figure.set_layout_engine("none")
    axes.set(xlim=(0, 4), ylim=(0, 2))
    axes.plot([1, 3], [0.5, float("nan")], "o")
    axes.plot([0, 4], [1, 1], color=AXIS)  # a reference line says nothing
    (point,) = read_points(figure)
    assert point.left + point.width / 2 == pytest.approx(72)
    assert point.top + point.height / 2 == pytest.approx(1.5 * 72)


def test_ids_and_references_begin_with_the_prefix_and_colours_follow_the_page():
    figure = plots.curves([{"optimizer": "adamw", "x": [0, 1], "mean": [0.0, 0.5]}])
    drawn = draw_svg(figure, "picture-7")
    assert 'id="picture-7-' in drawn and "var(--muted)" in drawn
    for mark in ('id="', "url(#", 'href="#'):
        parts = drawn.split(mark)[1:]
        assert parts and all(part.startswith("picture-7-") for part in parts)
    assert "<text" in drawn and "metadata" not in drawn
