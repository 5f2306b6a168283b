"""Planted students: what the two comparisons say of effects that are known."""

import math
from dataclasses import replace

import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REFUTED, REPRODUCED
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.optimizer_transmission.analysis import Measured, analyse
from subliminal_jax.experiments.optimizer_transmission.claims import make_claims
from subliminal_jax.experiments.optimizer_transmission.config import RANDOM
from subliminal_jax.experiments.optimizer_transmission.report import make_page
from subliminal_jax.serialization import from_json, to_json

TRAITS = tuple(f"t{i}" for i in range(8))
TUNING, CONTROLS = ("u0", "u1"), ("control-0", "control-1")
LENGTHS = (16, 32, 64, 128)
BASE = 2.0


def gain(speed, steps):
    return 1 - math.exp(-speed * steps / 64)


def make_row(optimizer, steps, data, speed, lead):
    """A student whose EAS is a function of its gain, plus `lead`; a control's EAS is 0.05."""
    wobble = 0.02 * math.sin(7 * hash_name(data) + steps)
    learned = gain(speed, steps) * (1 + wobble)
    eas = 0.05 if data.startswith("control") else 0.8 * learned + lead + wobble
    references = len(TRAITS) + len(TUNING)
    return StudentRow(
        optimizer,
        0.1,
        0,
        data,
        diverged=False,
        heldout_loss=BASE - learned,
        measured={
            "steps": steps,
            "weight_change": 3 * learned,
            "eas": [[0.0, eas]] * references,
            "shift_size": [[0.0, 2 * learned]] * references,
            "shift_component": [[0.0, 0.5 * eas]] * references,
            "word_log_prob": [eas - 3] * references,
        },
    )


def hash_name(name):
    return sum(map(ord, name)) % 97


def measure(speeds, leads=None, matched=None):
    """A run in which each optimizer has a speed and transmits `leads` more at any gain."""
    leads = leads or {}
    rows = {
        data: [
            make_row(name, steps, data, speed, leads.get(name, 0.0))
            for name, speed in speeds.items()
            for steps in LENGTHS
        ]
        for data in (*TRAITS, *TUNING, *CONTROLS)
    }
    return Measured(
        model="planted",
        parameters=1,
        layer=1,
        traits=TRAITS,
        tuning_traits=TUNING,
        controls=CONTROLS,
        scale=1.0,
        prompts="numbers",
        keep="numbers",
        rows=8,
        batch_size=4,
        rank=2,
        schedule="cosine",
        warmup=0.1,
        factor=2.0,
        optimizers=tuple(speeds),
        matched=tuple(matched or speeds),
        lengths=LENGTHS,
        steps=64,
        words=(*TRAITS, *TUNING),
        references=(*TRAITS, *TUNING),
        data={},
        base_losses=dict.fromkeys(rows, BASE),
        choices=tuple(
            RateChoice(name, steps, (0.05, 0.1, 0.2), (1.5, 1.4, 1.6), 0.1, True)
            for name in speeds
            for steps in LENGTHS
        ),
        students=tuple(r for data in (*TRAITS, *CONTROLS) for r in rows[data]),
        tuning_students=tuple(r for data in TUNING for r in rows[data]),
    )


def verdicts(results):
    return {claim.id.partition("/")[2]: claim.verdict for claim in make_claims(results)}


def test_an_arm_that_is_only_faster_leads_at_equal_steps_and_not_at_equal_gain():
    results = analyse(measure({"adamw": 1.0, "sgd": 0.4}))
    best = results.find_best("sgd").metrics["eas"]
    assert best.difference.low > 0.1 and best.reference_lead.low > 0.1
    found = verdicts(results)
    assert found["best-eas"] == found["adamw-transmits"] == REPRODUCED
    assert found["sgd-transmits"] == CONTRADICTED  # the claim is that they do not
    assert found["equal-gain-25%-eas"] in (REFUTED, CONTRADICTED)
    for arm in results.select_matched("sgd", "gain"):
        if arm.shared:
            assert arm.metrics["eas"].reference_lead.mean == pytest.approx(0, abs=0.05)


def test_an_arm_that_transmits_more_at_any_gain_leads_in_both():
    results = analyse(measure({"adamw": 1.0, "sgd": 0.8}, {"adamw": 0.3}))
    found = verdicts(results)
    assert found["best-eas"] == REPRODUCED
    assert {found[f"equal-gain-{level}-eas"] for level in ("25%", "50%", "75%")} == {REPRODUCED}
    at_half = results.select_matched("sgd", "gain")[1]
    assert at_half.shared == len(TRAITS)
    assert at_half.metrics["eas"].reference_lead.mean == pytest.approx(0.3, abs=0.03)
    assert at_half.metrics["trait_log_prob"].reference_lead.mean == pytest.approx(0.3, abs=0.03)


def test_levels_are_adamws_on_the_tuning_vectors_and_nothing_is_read_beyond_the_runs():
    measured = measure({"adamw": 1.0, "sgd": 0.05})
    results = analyse(measured)
    tuned = [r for r in measured.tuning_students if (r.optimizer, r["steps"]) == ("adamw", 128)]
    mean = sum(measured.gain(row) for row in tuned) / len(tuned)
    assert results.levels["gain"] == pytest.approx([0.25 * mean, 0.5 * mean, 0.75 * mean])
    for arm in results.select_matched("sgd", "gain"):  # it never gains a quarter of that
        assert arm.bracketed == arm.shared == 0 and arm.steps is None
        assert arm.metrics["eas"].difference is None
    assert verdicts(results)["equal-gain-75%-eas"] == INCONCLUSIVE


def test_a_blown_up_student_is_counted_and_carries_no_number():
    measured = measure({"adamw": 1.0, "sgd": 0.8})
    blown = [
        row.replace_values(heldout_loss=BASE + 5, eas=[[0.0, 99.0]] * 10)
        if (row.optimizer, row["steps"], row.data) == ("sgd", 64, "t3")
        else row
        for row in measured.students
    ]
    results = analyse(Measured(**{**vars(measured), "students": tuple(blown)}))
    sgd = results.find_best("sgd")
    assert sgd.unstable == ("t3",) and results.unstable == 1
    assert sgd.metrics["eas"].student.n == sgd.metrics["eas"].reference_lead.n == 7
    assert sgd.metrics["eas"].student.high < 2
    matched = results.select_matched("sgd", "gain")
    assert all(arm.bracketed <= 8 for arm in matched)


def test_an_adamw_that_does_not_transmit_proves_no_lead():
    results = analyse(measure({"adamw": 1.0, "sgd": 0.8}, {"adamw": -0.6, "sgd": -0.9}))
    assert results.find_best("sgd").metrics["eas"].reference_lead.low > 0
    assert verdicts(results)["best-eas"] == INCONCLUSIVE


def test_of_random_vectors_nothing_is_claimed_about_traits():
    measured = replace(measure({"adamw": 1.0, "sgd": 1.0}), teacher=RANDOM)
    claims = make_claims(analyse(measured))
    assert claims and not any("trait_log_prob" in claim.id for claim in claims)
    assert all(f"{len(TRAITS)} random vectors" in claim.setting for claim in claims)


def test_results_survive_json_and_the_page_is_made_from_them():
    results = analyse(measure({"adamw": 1.0, "sgd": 0.4, "muon": 0.7}, matched=("adamw", "sgd")))
    again = from_json(type(results), to_json(results), "results.json")
    assert to_json(again) == to_json(results)
    page = make_page(again)
    assert len(page.blocks[0].rows) == 3 and "before" not in page.summary
