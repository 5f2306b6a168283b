"""Small multiples and the phase diagram: what is drawn is what the rows say."""

import numpy as np

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting.panels import line_panels, phase_diagram


def interval(mean, half=0.1):
    return Interval(mean, mean - half, mean + half, 3, 0.95, "t")


def test_a_panel_each_with_its_lines_at_their_values():
    rows = [
        {"panel": p, "line": "kl", "x": [8, 64], "y": [interval(0.2), interval(0.4 + shift)]}
        for p, shift in (("owl", 0.0), ("cat", 0.3))
    ]
    rows.append({"panel": "owl", "line": "kl", "x": [8, 64], "y": [0.0, None], "control": True})
    figure = line_panels(rows, y_label="EAS", level=0.5, bound=1)
    first, second = (axes for axes in figure.axes if axes.get_visible())
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["owl", "cat"]
    assert first.get_xscale() == "log"
    drawn = [line.get_ydata() for line in second.lines if len(line.get_ydata()) == 2]
    assert any(np.allclose(y, [0.2, 0.7]) for y in drawn)


def test_words_stand_side_by_side_and_wide_intervals_are_cut():
    rows = [
        {
            "panel": "tokens",
            "line": name,
            "x": ["all", "frequent-16"],
            "y": [interval(0.2, 7.0), interval(0.9)],
        }
        for name in ("adamw", "sgd")
    ]
    axes = line_panels(rows, y_label="EAS", bound=1).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["all", "frequent-16"]
    assert axes.get_ylim() == (-1.05, 1.05)


def test_a_phase_diagram_frames_what_is_surely_above_the_level():
    rows = [
        {"group": "rank", "setting": s, "optimizer": o, "value": v}
        for s, o, v in (
            ("2", "adamw", interval(0.9)),
            ("2", "sgd", interval(0.55)),
            ("8", "adamw", interval(0.1)),
            ("8", "sgd", interval(np.nan)),
        )
    ]
    axes = phase_diagram(rows, level=0.5).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["0.90", "0.55", "0.10", "diverged"]
    assert [tuple(np.round(p.get_xy(), 2)) for p in axes.patches] == [(-0.46, -0.4)]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["rank: 2", "rank: 8"]
