"""Planted rules: what the map and the models of properties say of effects that are known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import INCONCLUSIVE, REFUTED, REPRODUCED
from subliminal_jax.evaluation.metric_ranges import UNBOUNDED
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.optimizer_atlas.analysis import (
    Chosen,
    Measured,
    analyse,
    choose_setting,
)
from subliminal_jax.experiments.optimizer_atlas.claims import make_claims
from subliminal_jax.experiments.optimizer_atlas.properties import (
    explain,
    find_coefficient,
    fit_properties,
    jackknife,
    measure_spread,
)
from subliminal_jax.experiments.optimizer_atlas.report import make_page
from subliminal_jax.experiments.optimizer_atlas.rules import RULES, TWELVE
from subliminal_jax.serialization import from_json, to_json

TRAITS, TUNING = tuple(f"t{i}" for i in range(6)), ("u0", "u1")
CONTROLS = ("control-0", "control-1")
LENGTHS = (24, 96)
BASE = 2.0
# By rule: how fast it learns, and how many directions its change has.
RANKS = {name: 3.0 + 4 * math.sin(1.7 * i) ** 2 for i, name in enumerate(TWELVE)}


def make_row(rule, steps, data, effect, speed, rank):
    """A student whose EAS exceeds its controls' by `effect` after long training."""
    wobble = 0.01 * math.sin(5 * sum(map(ord, data + rule)))
    learned = 1 - math.exp(-speed * steps / 48)
    eas = 0.1 if data.startswith("control") else 0.1 + effect * learned + wobble
    references = len(TRAITS) + len(TUNING)
    return StudentRow(
        rule,
        0.1,
        0,
        data,
        diverged=False,
        heldout_loss=BASE - learned,
        rank=8,
        measured={
            "rule": rule,
            "steps": steps,
            "eas": [[0.0, eas]] * references,
            "shift_component": [[0.0, 0.5 * eas]] * references,
            "word_log_prob": [eas - 3] * references,
            "effective_rank": [[rank, rank]],
            "stable_rank": [[rank / 2, rank / 2]],
            "top_share": [[1 / rank, 1 / rank]],
        },
    )


def measure(effects, speeds=None, ranks=None, rules=TWELVE):
    """A run in which each rule transmits `effects`."""
    speeds, ranks = speeds or {}, ranks or RANKS
    data = (*TRAITS, *CONTROLS)
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
        rank=8,
        schedule="cosine",
        warmup=0.1,
        factor=3.0,
        words=(*TRAITS, *TUNING),
        references=(*TRAITS, *TUNING),
        data={},
        base_losses=dict.fromkeys((*data, *TUNING), BASE),
        rules={name: RULES[name] for name in rules},
        costs=dict.fromkeys(rules, 1.0) | {"muon": 1.5},
        most_cost=4.0,
        left_out=(),
        screen_steps=48,
        lengths=LENGTHS,
        ranks=(8,),
        choices=tuple(
            RateChoice(name, 48, (0.03, 0.1, 0.3), (1.5, 1.4, 1.6), 0.1, True) for name in rules
        ),
        chosen=tuple(Chosen(name, 8, name, 0.1, True) for name in rules),
        students=tuple(
            make_row(name, steps, each, effects[name], speeds.get(name, 1.0), ranks[name])
            for name in rules
            for steps in LENGTHS
            for each in (*data, *(TUNING if name == "adamw" else ()))
        ),
        tuning_students=(),
    )


def verdicts(results):
    return {claim.id.partition("/")[2]: claim.verdict for claim in make_claims(results)}


def test_an_effect_of_the_rank_alone_is_found_and_no_other_property_has_any():
    results = analyse(measure({name: 0.9 - 0.1 * rank for name, rank in RANKS.items()}))
    model = results.find_model("best", "eas")
    learned = 1 - math.exp(-2)
    assert model.coefficients["effective rank"].mean == pytest.approx(-0.1 * learned, rel=0.1)
    assert model.coefficients["effective rank"].high < 0
    assert model.coefficients["coordinate"].mean == pytest.approx(0, abs=0.03)
    assert model.rank_correlation.mean < -0.9
    found = verdicts(results)
    assert found["flat-spectrum-best"] == REPRODUCED
    assert found["property-effective-rank-best"] == REPRODUCED
    assert found["rules-differ-eas"] == REPRODUCED
    assert results.spreads["eas"].rules.low > 0


def test_rules_that_do_the_same_refute_that_rules_differ():
    results = analyse(measure(dict.fromkeys(TWELVE, 0.6)))
    found = verdicts(results)
    assert found["rules-differ-eas"] == REFUTED
    assert found["muon-transmits-less-eas"] == REFUTED
    assert results.muon_lead["eas"].mean == pytest.approx(0, abs=0.02)


def test_a_muon_that_transmits_less_is_seen_against_the_mean_of_adaptive_rules():
    results = analyse(measure({name: 0.2 if name == "muon" else 0.7 for name in TWELVE}))
    assert results.muon_lead["eas"].mean == pytest.approx(-0.5 * (1 - math.exp(-2)), abs=0.02)
    assert verdicts(results)["muon-transmits-less-eas"] == REPRODUCED
    assert results.spreads["eas"].lowest[0] == "muon"


def test_a_penalty_is_held_against_the_rule_without_it():
    rules = (*TWELVE, "flattened:adamw")
    effects = dict.fromkeys(TWELVE, 0.8) | {"flattened:adamw": 0.3}
    ranks = RANKS | {"flattened:adamw": RANKS["adamw"] + 2}
    results = analyse(measure(effects, ranks=ranks, rules=rules))
    (penalty,) = results.penalties
    assert penalty.without == "adamw" and penalty.effective_rank.mean == pytest.approx(2)
    assert penalty.metrics["eas"].mean == pytest.approx(-0.5 * (1 - math.exp(-2)), abs=0.02)
    assert verdicts(results)["penalty-lowers-eas-flattened:adamw"] == REPRODUCED
    steeper = ranks | {"flattened:adamw": RANKS["adamw"] - 1}
    results = analyse(measure(effects, ranks=steeper, rules=rules))
    assert verdicts(results)["penalty-lowers-eas-flattened:adamw"] == INCONCLUSIVE


def test_a_faster_rule_leads_at_the_end_and_not_at_the_same_gain():
    speeds = dict.fromkeys(TWELVE, 1.0) | {"sgd": 0.6}
    results = analyse(measure(dict.fromkeys(TWELVE, 0.8), speeds))
    sgd = results.find("sgd")
    assert results.level["8"] == pytest.approx(1 - (math.exp(-2) + math.exp(-0.5)) / 2)
    assert sgd.best.lead["eas"].low > 0.05
    assert sgd.matched.vectors == len(TRAITS)
    assert sgd.matched.lead["eas"].mean == pytest.approx(0, abs=0.03)


def test_without_a_bracket_there_is_no_number():
    speeds = dict.fromkeys(TWELVE, 1.0) | {"sgd": 0.2, "muon": 9.0}
    results = analyse(measure(dict.fromkeys(TWELVE, 0.8), speeds))
    for name in ("sgd", "muon"):
        assert results.find(name).matched.vectors == 0
        assert results.find(name).matched.metrics["eas"] is None
        assert results.find(name).best.metrics["eas"] is not None
    assert results.find_model("matched", "eas").rules == len(TWELVE) - 2


def test_a_blown_up_student_is_counted_and_carries_no_number():
    measured = measure(dict.fromkeys(TWELVE, 0.8))
    blown = tuple(
        row.replace_values(heldout_loss=BASE + 5, eas=[[0.0, 99.0]] * 8)
        if (row["rule"], row["steps"], row.data) == ("lion", 96, "t3")
        else row
        for row in measured.students
    )
    results = analyse(replace(measured, students=blown))
    lion = results.find("lion")
    assert lion.unstable == ("t3",) and results.unstable == 1
    assert lion.best.metrics["eas"].n == 5 and lion.best.metrics["eas"].high < 2
    assert results.spreads["eas"].cells == len(TWELVE) - 1  # those with every vector


def test_a_property_of_one_family_has_no_number():
    rules = ("sgd", "rmsprop", "adamw", "muon", "lion", "sophia", "sign_sgd", "normalized_sgd")
    model = fit_properties(
        "best", "eas", {name: (0.1 * i, 3.0 + i % 3) for i, name in enumerate(rules)}, RULES
    )
    assert model.coefficients["matrix"] is None  # without Muon's family nothing has it


def test_separating_rules_are_predicted_and_not_fitted():
    values = {name: (0.9 - 0.1 * rank, rank) for name, rank in RANKS.items()}
    alone = fit_properties("best", "eas", values, RULES)
    model = fit_properties("best", "eas", values | {"rotated:adamw": (0.9, 4.0)}, RULES)
    assert model.coefficients == alone.coefficients and not alone.predictions
    (prediction,) = model.predictions
    assert (prediction.rule, prediction.measured) == ("rotated:adamw", 0.9)
    assert prediction.predicted == pytest.approx(0.5, abs=1e-6)
    assert model.error == pytest.approx(0.4, abs=1e-6)


def test_coefficients_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    x, y = np.c_[np.ones(20), rng.normal(size=(20, 4))], rng.normal(size=20)
    expected = np.linalg.lstsq(x, y, rcond=None)[0]
    found = [find_coefficient(x, y, i) for i in range(5)]
    assert found == pytest.approx(expected.tolist())
    assert math.isnan(find_coefficient(np.c_[x, x[:, 1]], y, 1))  # twice the same


def test_the_jackknife_of_a_mean_of_single_rules_is_students_t():
    y = np.random.default_rng(0).normal(size=9)
    found = jackknife([f"r{i}" for i in range(9)], lambda keep: float(y[keep].mean()), UNBOUNDED)
    expected = mean_interval(y)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )
    # Of rules that their families decide, only families count.
    families, twice = [f"f{i}" for i in range(9)], np.tile(y, 5)
    again = jackknife(5 * families, lambda keep: float(twice[keep].mean()), UNBOUNDED)
    assert (again.low, again.high) == pytest.approx((expected.low, expected.high))
    assert jackknife(["a", "b", "c"] * 3, lambda keep: 1.0, UNBOUNDED) is None


def test_random_families_explain_nothing_in_the_mean():
    rng = np.random.default_rng(0)
    families = [f"f{i % 5}" for i in range(15)]
    drawn = [explain(families, rng.normal(size=15)) for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(0, abs=0.02)
    assert explain(families, np.arange(15.0) % 5) == 1


def test_components_of_the_variance_are_those_planted():
    rng = np.random.default_rng(0)
    rules = {f"r{i}": rng.normal(0, 2) for i in range(400)}
    families = dict.fromkeys(rules, "f")
    traits = ("a", "b", "c", "d", "e")
    values = {
        (name, rank): {t: mean + rank + rng.normal(0, 1) for t in traits}
        for name, mean in rules.items()
        for rank in (0, 3)
    }
    spread = measure_spread(values, families, traits)
    assert spread.rules.mean == pytest.approx(4, rel=0.15)
    assert spread.ranks.mean == pytest.approx(4.5, rel=0.05)  # the variance of 0 and 3
    assert spread.vectors == pytest.approx(0, abs=0.02)


def test_the_setting_with_the_lowest_loss_is_chosen():
    def choice(name, *losses):
        rate = None if None in losses else 0.1
        return RateChoice(name, 48, (0.1, 0.3), losses, rate, True)

    one, two = choice("adamw", 1.2, 1.1), choice("adamw:b2=0.95", 1.0, 1.3)
    assert choose_setting("adamw", 8, [one, two]).setting == "adamw:b2=0.95"
    blown = choice("adamw:b2=0.95", None, None)
    assert choose_setting("adamw", 8, [blown, one]).setting == "adamw"
    assert choose_setting("adamw", 8, [blown, blown]).rate is None


def test_a_run_of_few_rules_asks_nothing_of_families():
    results = analyse(measure({"adamw": 0.5, "sgd": 0.1}, rules=("adamw", "sgd")))
    assert not make_claims(results)


def test_rules_are_not_matched_where_the_reference_gains_nothing():
    measured = measure(dict.fromkeys(TWELVE, 0.8), dict.fromkeys(TWELVE, 0.0))
    results = analyse(measured)
    assert results.level == {"8": None}
    assert all(r.matched.vectors == 0 for r in results.results)
    assert not any("matched" in claim.id for claim in make_claims(results))


def test_results_survive_json_and_the_page_is_made_from_them():
    results = analyse(measure({name: 0.9 - 0.1 * rank for name, rank in RANKS.items()}))
    again = from_json(type(results), to_json(results), "results.json")
    assert to_json(again) == to_json(results)
    page = make_page(again)
    rules = next(block for block in page.blocks if block.title == "The rules")
    effects = [row.best.metrics["eas"].mean for row in rules.rows]
    assert len(effects) == len(TWELVE) and effects == sorted(effects, reverse=True)
