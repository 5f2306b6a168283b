"""`teacher-choice` through the command line, and its choices on planted numbers."""

import json
from dataclasses import replace

import pytest

from subliminal_jax.experiments.teacher_choice.analysis import (
    CarrierRow,
    Measured,
    TriedVector,
    Written,
    analyse,
    choose_vector,
)
from tests.experiments.command import Command
from tests.pages import check_page
from tests.planted import fill

COMMAND = Command(
    "teacher-choice",
    "--carriers numbers chat --answers 8 --max-new-tokens 8 --selection-traits owl --traits cat "
    "--rivals dog --blocks 0 1 --extractions numbers --scales 1 4 --samples 1 --answer-tokens 4 "
    "--stem 'I like the'",
)


def test_every_part_has_its_numbers(results, folder):
    assert [(v["block"], v["scale"]) for v in results["tried"]] == [(0, 1), (0, 4), (1, 1), (1, 4)]
    assert results["chosen"] in results["tried"]
    assert all(v["damage"] > 0 for v in results["tried"])
    numbers, chat = results["carriers"]
    assert numbers["carrier"] == "numbers" and chat["base"]["valid"] == 1.0
    dropped = sum(numbers["base"]["dropped"].values())
    assert numbers["base"]["valid"] == pytest.approx(1 - dropped / 8)
    assert 0 < chat["teacher"]["divergence"] < chat["teacher"]["per_answer"]
    assert {(s["trait"], s["chosen_on"]) for s in results["sights"]} == {
        ("owl", True),
        ("cat", False),
    }
    stems = [s for s in results["sights"] if "stem" in s["measure"]]
    assert all(s["base"] < 0 and s["steered"] != s["base"] != s["prompted"] for s in stems)
    check_page(folder)


def test_an_interrupted_run_goes_on_with_the_parts_that_are_missing(results, folder, model_flags):
    (folder / "results.json").unlink()
    (folder / "parts" / "carrier-chat.json").unlink()
    vectors = folder / "parts" / "vectors.json"
    kept = json.loads(vectors.read_text())
    before = vectors.stat().st_mtime_ns
    assert COMMAND.run(folder, model_flags) == results
    assert vectors.stat().st_mtime_ns == before and json.loads(vectors.read_text()) == kept


def test_a_trait_that_is_chosen_on_is_not_shown(refuse):
    assert "--traits owl is also one of --selection-traits" in refuse("--traits owl")


def planted_vector(rise, damage):
    return TriedVector("numbers", 0, 1.0, (rise - 0.5, rise + 0.5), damage)


def test_the_vector_with_the_largest_rise_is_chosen_among_those_that_damage_little():
    weak, strong, wild = planted_vector(0.5, 0.1), planted_vector(2, 0.4), planted_vector(9, 3)
    assert choose_vector([weak, strong, wild], 0.5) == strong
    assert choose_vector([strong, wild], 0.3) == strong  # none is mild: the mildest


def planted_row(name, valid, per_answer):
    teacher = Written(8, valid, 0.0, 5.0, {}, per_answer / 5, per_answer)
    return CarrierRow(name, "lists", teacher, teacher)


@pytest.mark.parametrize(
    ("rise", "damage", "valid", "carrier", "passed"),
    [
        (1.5, 0.4, 0.6, "loud", True),
        (0.9, 0.4, 0.6, "loud", False),  # too weak
        (1.5, 0.6, 0.6, "loud", False),  # too wild
        (1.5, 0.4, 0.4, "quiet", True),  # the louder carrier is not valid
    ],
)
def test_the_gate_asks_for_a_rise_little_damage_and_a_valid_carrier(
    rise, damage, valid, carrier, passed
):
    measured = replace(
        fill(Measured, gate=1.0, most_damage=0.5, least_valid=0.5),
        chosen=planted_vector(rise, damage),
        carriers=(planted_row("quiet", 0.9, 1.0), planted_row("loud", valid, 4.0)),
    )
    results = analyse(measured)
    assert (results.chosen_carrier, results.passed) == (carrier, passed)
    none = analyse(replace(measured, carriers=(planted_row("bad", 0.1, 4.0),)))
    assert none.chosen_carrier is None and not none.passed
