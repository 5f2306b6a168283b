"""What is said of guards follows from the rows of students."""

import numpy as np
import pytest

from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_kinds import KindChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.blocking.analysis import (
    GuardResult,
    Measured,
    Results,
    analyse,
    share_of_pairs,
)
from subliminal_jax.experiments.blocking.cases import (
    STEP_CASES,
    UNGUARDED,
    control_name,
    make_cases,
)
from subliminal_jax.experiments.blocking.claims import make_claims
from tests.planted import fill

TRAITS = ("cat", "dog", "fox", "bear", "whale", "eagle")
DRAWS = ("control-0", "control-1", "control-2", "control-3")
CASES = (UNGUARDED, *make_cases((0.5,)))
EFFECTS = {
    "none": 0.02,
    "project": 0.001,
    "inoculate": 0.02,
    "drop 50%": 0.005,
    "drop 50% at random": 0.02,
    "project, blind": 0.03,
    "inoculate, blind": 0.0,
    "drop 50%, blind": 0.02,
}
CHOICE = RateChoice("adamw", 8, (0.01,), (2.9,), 0.01, False)


def make_results(
    noise=1e-4, task=None, diverged=(), unstable=(), adapters=("lora",), base=3.0
) -> Results:
    """Students whose P(trait) is 0.05 above zero, plus what their guard leaves (`EFFECTS`).

    Args:
      task: the share of the task that is kept, by case; otherwise 1.
      diverged: (case, data set) of students without numbers.
      unstable: (case, data set) of students above the base's loss.
    """
    rng = np.random.default_rng(0)
    rows = []
    for adapter in adapters:
        cases = CASES if adapter == adapters[0] else (UNGUARDED, *STEP_CASES)
        for case in cases:
            controls = DRAWS if case == UNGUARDED else map(control_name, TRAITS)
            for name in (*TRAITS, *(controls if case.controls or case == UNGUARDED else ())):
                effect = EFFECTS[case.name] if name in TRAITS else 0.0
                rates = 0.05 + effect + noise * rng.normal(size=len(TRAITS))
                gain = 0.1 * (task or {}).get(case.name, 1.0) + 1e-4 * rng.normal()
                loss = base - 0.1 if (case.name, name) not in unstable else base + 1.0
                lost = (case.name, name) in diverged
                columns = {
                    "word_rate": rates.tolist(),
                    "word_log_prob": np.log(abs(rates)).tolist(),
                    "eas": [[30 * effect]] * len(TRAITS),
                    "shift_component": [[20 * effect]] * len(TRAITS),
                    "clean_loss": base - gain,
                }
                values = dict.fromkeys(columns) if lost else columns
                measured = {"case": case.name, "adapter": adapter, **values}
                rows.append(
                    StudentRow(
                        optimizer="adamw",
                        learning_rate=0.01,
                        seed=0,
                        data=name,
                        diverged=lost,
                        heldout_loss=None if lost else loss,
                        measured=measured,
                    )
                )
    names = (*TRAITS, *DRAWS, *map(control_name, TRAITS))
    return analyse(
        fill(
            Measured,
            adapters=adapters,
            optimizers=("adamw",),
            traits=TRAITS,
            tuning_traits=("owl", "lion"),
            controls=DRAWS,
            words=TRAITS,
            references=TRAITS,
            base_losses=dict.fromkeys(names, base),
            choices=tuple(KindChoice(adapter, None, CHOICE) for adapter in adapters),
            cases=CASES,
            students=tuple(rows),
        )
    )


def find_row(results: Results, case: str) -> GuardResult:
    return next(row for row in results.main_table.rows if row.case == case)


def verdicts(results: Results) -> dict[str, str]:
    return {claim.id.removeprefix("blocking/"): claim.verdict for claim in make_claims(results)}


def test_verdicts_are_those_of_the_intervals():
    reproduced, refuted = "reproduced at toy scale", "refuted"
    assert verdicts(make_results(task={"project": 0.95, "inoculate": 0.5})) == {
        "transmits": reproduced,
        "project": reproduced,
        "project-share": reproduced,
        "inoculate": refuted,
        "inoculate-share": refuted,
        "project-blind": "contradicted",
        "project-blind-share": "contradicted",
        "inoculate-blind": reproduced,
        "inoculate-blind-share": reproduced,
        "drop-rows": reproduced,
        "drop-rows-blind": refuted,
        "project-keeps-the-task": reproduced,
        "inoculate-keeps-the-task": "contradicted",
    }


def test_noise_that_hides_an_effect_gives_no_verdict():
    outcome = verdicts(make_results(noise=0.1))
    assert outcome["transmits"] == outcome["project"] == "inconclusive"


def test_a_row_of_the_table_is_paired_by_trait():
    row = find_row(make_results(noise=0.0), "drop 50%")
    assert row.transmission.mean == pytest.approx(0.005)
    assert row.change.mean == pytest.approx(-0.015)
    assert row.control_shift.mean == pytest.approx(0)
    assert row.eas.mean == pytest.approx(0.15)
    assert row.component_change.mean == pytest.approx(20 * -0.015)
    assert row.over_random.mean == pytest.approx(-0.015)
    assert row.gain.mean == pytest.approx(1) and row.transmission.n == len(TRAITS)


def test_a_trait_that_lost_a_student_is_left_out():
    results = make_results(diverged={("project", "dog")})
    row = find_row(results, "project")
    assert row.change.n == len(row.transmission_values) == len(TRAITS) - 1
    assert results.main_table.unstable == 1


def test_a_lost_control_leaves_the_others():
    lost = find_row(make_results(diverged={("none", "control-1")}), "project")
    assert lost.transmission.n == len(TRAITS)
    assert lost.control_shift.n == len(TRAITS) - 2  # two traits' controls train on that draw


def test_a_guard_that_lost_all_students_has_no_numbers():
    results = make_results(diverged={("project", trait) for trait in TRAITS})
    row = find_row(results, "project")
    assert row.change is None and row.eas is None
    assert verdicts(results)["project"] == "inconclusive"


def test_a_student_above_the_bases_own_loss_carries_no_verdict_but_on_the_task():
    results = make_results(unstable={("project", trait) for trait in TRAITS})
    row = find_row(results, "project")
    assert row.change is None and row.component_change is None and row.task_gain is not None
    claims = {c.id.removeprefix("blocking/"): c for c in make_claims(results)}
    assert claims["project"].verdict == claims["project-share"].verdict == "inconclusive"
    assert claims["project-keeps-the-task"].verdict == "reproduced at toy scale"
    assert claims["project"].unstable == len(TRAITS)


def test_a_share_of_the_gain_allows_for_the_spread_of_both():
    gains = {"a": 3.0, "b": 3.5, "c": 4.0}
    even, spread = (share_of_pairs(gains, {"a": 6.0, "b": b, "c": 8.0}) for b in (7.0, 7.5))
    assert even.mean == pytest.approx(0.5) and spread.mean == pytest.approx(10.5 / 21.5)
    assert even.high - even.low == pytest.approx(0)
    assert spread.high - spread.low > 0.05
    assert share_of_pairs({"a": 1, "b": 1}, {"a": 1, "b": -1}) is None  # nothing to keep


def test_every_kind_of_student_has_a_table_of_its_own():
    both = make_results(adapters=("lora", "vector"))
    first, second = both.tables
    assert both.main_table == first == make_results().main_table and second.adapter == "vector"
    assert [row.case for row in second.rows] == ["none", "project", "inoculate"]
    assert all(row.over_random is None for row in second.rows)


def test_without_a_sound_rate_there_is_a_table_of_no_numbers():
    results = make_results(diverged={(c.name, n) for c in CASES for n in (*TRAITS, *DRAWS)})
    assert find_row(results, "none").transmission is None
    assert set(verdicts(results).values()) == {"inconclusive"}
