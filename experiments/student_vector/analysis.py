"""The paper's statements on students' vectors (its section 3) against the numbers of a run.

Every effect is a difference held against zero by a two-way t over seeds and traits.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.statistics import crossed_interval
from subliminal_jax.reporting.tables import Column, format_cell
from subliminal_jax.runs.claims import claim, verdict

Matrix = Float[np.ndarray, "seeds traits"]
TEACHERS = {
    "steered": "steered teacher",
    "prompted": "system-prompted teacher",
}


def claims(results: Mapping[str, Any], seeds: int) -> list[dict[str, Any]]:
    """A claim of which no seed is left to all traits (students diverged) is left out."""
    of = {kind: {k: np.array(v) for k, v in x.items()} for kind, x in results["final"].items()}
    kind = results["kind"]
    setting = f"{results['model']}, {TEACHERS[kind]}, block {results['layer']}"
    stated: list[dict[str, Any]] = []

    def state(
        id: str, text: str, section: str, effect: Matrix, number: str, where: str = setting
    ) -> None:
        found = crossed(effect)
        stated.append(
            claim(f"student-vector/{id}", text, section, where, f"{number}; difference "
                  f"{percent(found) if id in RATES else plain(found)}", seeds,
                  verdict(found["low"], found["high"]))
        )  # fmt: skip

    student, control = of[kind], of["control"]
    if student["eas"].shape == control["eas"].shape and student["eas"].size:
        state(
            "eas",
            "the student's mean shift aligns with its teacher's vector, a control student's does "
            "not",
            "section 3, figure 2",
            student["eas"] - control["eas"],
            f"EAS {plain(crossed(student['eas']))}, control {plain(crossed(control['eas']))}",
        )
    steered = of["steered"]
    if steered["rate"].shape == control["rate"].shape and steered["rate"].size:
        state(
            "teacher-sufficiency",
            "adding the vector to the teacher suffices for its students to take up the trait",
            "section 3",
            steered["rate"] - control["rate"],
            f"trait rate {percent(crossed(steered['rate']))}, control "
            f"{percent(crossed(control['rate']))}",
            f"{results['model']}, steered teacher, block {results['layer']}",
        )
    prompted = of["prompted"]
    own = np.mean(list(results["base_component"].values()))
    for kind_without, how in (
        ("projected", f"projected out (the base has {own:.1f} |v| along it)"),
        ("subtracted", "subtracted"),
    ):
        less = of[kind_without]
        if prompted["eas"].shape != less["eas"].shape or not prompted["eas"].size:
            continue
        where = f"{results['model']}, system-prompted teacher, vector {how}"
        state(
            f"teacher-necessity-eas-{kind_without}",
            "without the vector in the teacher its students' shift no longer aligns with it",
            "section 3",
            prompted["eas"] - less["eas"],
            f"EAS {plain(crossed(prompted['eas']))} with it, {plain(crossed(less['eas']))} without",
            where,
        )
        state(
            f"teacher-necessity-{kind_without}",
            "without the vector in the teacher its students do not take up the trait",
            "section 3",
            prompted["rate"] - less["rate"],
            f"trait rate {percent(crossed(prompted['rate']))} with it, "
            f"{percent(crossed(less['rate']))} without",
            where,
        )
    factor = results["sufficiency"][0]["factor"]
    gain = {
        row["source"]: np.array(row["values"])
        for row in results["sufficiency"]
        if (row["read"], row["layers"], row["positions"]) == ("last", "all", "prompt")
        and row["factor"] == factor
    }
    state(
        "student-sufficiency",
        f"the student's vector, {factor:g} times, makes the base say the trait",
        "section 3",
        gain["student"] - gain["random"],
        f"trait rate {percent(crossed(gain['student']))} above the base's, a random vector of the "
        f"same norms {percent(crossed(gain['random']))}",
        f"{setting}, added after all blocks at prompt tokens",
    )
    rates = {name: np.array(values) for name, values in results["necessity"].items()}
    lost = rates["student"] - rates["teacher's"]
    chance = rates["student"] - rates["random"]
    excess = rates["student"] - rates["control"]
    text = (
        f"it loses {percent(crossed(lost))} of a trait rate {percent(crossed(excess))} above the "
        f"control's, and {percent(crossed(chance))} along a random vector"
    )
    where = f"{setting}, component along the teacher's vector replaced in all blocks"
    state(
        "student-necessity",
        "a student with the base's component along the vector says the trait less",
        "section 3",
        lost - chance,
        text,
        where,
    )
    state(
        "student-necessity-half",
        "replacing the component removes more than half of the student's trait rate",
        "section 3",
        lost - 0.5 * excess,
        text + "; lost less half of what it had gained",
        where,
    )
    return stated


RATES = (
    "teacher-sufficiency", "teacher-necessity-projected", "teacher-necessity-subtracted",
    "student-sufficiency", "student-necessity", "student-necessity-half",
)  # fmt: skip


def crossed(values: Matrix) -> dict[str, Any]:
    """Mean and two-way t interval over seeds and traits."""
    return crossed_interval(values).to_dict()


def percent(interval: Mapping[str, Any]) -> str:
    return format_cell(interval, Column("", "", "rate", digits=1))


def plain(interval: Mapping[str, Any]) -> str:
    return format_cell(interval, Column("", "", "number", digits=2))
