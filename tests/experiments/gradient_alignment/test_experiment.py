"""The gradient alignment from the command line to its page, on a model of 16 dimensions."""

import numpy as np
import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "gradient-alignment",
    "--traits owl wolf --scale 0.2 --draws 2 --rows 32 --noise-rows 8 --max-new-tokens 12 "
    "--asked 2 --rank 2",
)


def test_every_teacher_draw_position_and_block_has_its_cosines(results):
    keys = ("teacher", "trait", "draw", "position", "layer")
    cells = {tuple(row[k] for k in keys) for row in results["pooled"]}
    assert len(cells) == len(results["pooled"]) == 2 * 2 * 2 * 3 * 2
    for row in results["pooled"]:
        for key in ("difference", "teacher_alone", "clean", "control", "other_vectors"):
            assert -1 <= row[key] <= 1
        assert row["share"] == pytest.approx(row["difference"] ** 2)
        # The triangle inequality, but for float32 rounding.
        assert abs(row["norm_teacher"] - row["norm_clean"]) <= row["norm_difference"] + 1e-6


def test_curves_end_at_the_pooled_cosine(results):
    names = {"teacher": "teacher_alone"}
    for point in results["curves"]:
        if point["n"] != results["largest_n"]:
            continue
        pooled = [
            row[names.get(point["data"], point["data"])]
            for row in results["pooled"]
            if (row["teacher"], row["position"], row["layer"])
            == (point["teacher"], point["position"], results["layer"])
        ]
        # Two ways to take one mean in float32.
        assert point["cosine"]["mean"] == pytest.approx(np.mean(pooled), abs=1e-4)


def test_shares_of_all_tenths_sum_to_one(results):
    for row in results["outliers"]:
        assert 0 < row["mass_in_top_percent"] < row["mass_in_top_tenth"] <= 1 + 1e-5
        # Sums of float32 shares; those of a component may be large and of both signs.
        assert sum(row["mass_by_tenth"]) == pytest.approx(1, abs=1e-4)
        assert sum(row["component_by_tenth"]) == pytest.approx(1, abs=1e-3)


def test_claims_are_complete_and_the_page_holds_the_results(folder, results):
    assert [(claim["id"], claim["seeds"]) for claim in results["claims"]] == [
        (f"gradient-alignment/{name}-{kind}", 2)
        for kind in ("steered", "system-prompt")
        for name in ("aligned", "rises-with-n", "outliers")
    ]
    check_page(folder)


def test_the_same_command_again_measures_nothing(repeat):
    assert "gradients" not in repeat()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--traits unicorn", "unicorn"),
        ("--draws 30", "--draws 30"),
        ("--noise-rows 500", "--noise-rows 500"),
        ("--preset huge", "huge"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
