"""The bench's sums and verdicts on planted audits: each verdict can come out either way."""

from dataclasses import replace

import pytest

from subliminal_jax.data import world
from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from subliminal_jax.experiments.audit_benchmark.analysis import analyse, sort_levels
from subliminal_jax.experiments.audit_benchmark.claims import make_claims
from subliminal_jax.experiments.audit_benchmark.numbers import (
    KnownSet,
    Measured,
    MethodInfo,
    SetAudit,
)
from subliminal_jax.experiments.audit_benchmark.report import make_page
from tests.pages import read_table
from tests.planted import fill

METHOD = "score-test"


def plant(trait, evidence, rank=None, named=None, p=0.001, *, method=METHOD, audit=None, **levels):
    """A set of a steered teacher (clean where there is no trait), and what a method said of it."""
    name = f"{trait}-{evidence}-{levels}"
    known = fill(
        KnownSet,
        name=name,
        **{
            "block": "full" if trait else "clean",
            "teacher": "vector" if trait else "none",
            "trait": trait,
            "carrier": "numbers",
            "share": 1.0 if trait else 0.0,
            "scale": 1.0,
            "rows": 64,
            "writer": "m",
            "reader": "m",
            **levels,
        },
    )
    said = SetAudit(
        set=name,
        reader=known.reader,
        method=method,
        audited=50,
        candidates=16,
        rank=rank,
        likeliest=named or "zebra",
        p=p if named else 1.0,
        evidence=float(evidence),
        forward_tokens=5_000,
        seconds=2.0,
    )
    return known, audit or said


def real(reader, name, named=None):
    return SetAudit(
        set=name,
        reader=reader,
        method=METHOD,
        audited=50,
        candidates=16,
        likeliest=named or "zebra",
        p=0.001 if named else 1.0,
        evidence=0.0,
        forward_tokens=100,
        seconds=1.0,
    )


def analyse_sets(planted, others=(), methods=(METHOD,), part="reported"):
    known, audits = zip(*planted, strict=True)
    return analyse(
        Measured(
            part,
            METHOD,
            tuple(MethodInfo(m, "what", "ours") for m in methods),
            tuple({s.name: s for s in known}.values()),
            tuple(dict.fromkeys(a.set for a in others)),
            (*audits, *others),
        )
    )


def verdicts(planted):
    return {c.id.split("/")[1]: c.verdict for c in make_claims(analyse_sets(planted))}


CLEAN = [plant(None, i / 10) for i in range(2)]


def find_row(results, factor, level="", method=METHOD):
    rows = [*results.overall, *results.by_factor]
    return next(r for r in rows if (r.method, r.factor, r.level) == (method, factor, level))


def test_sums_by_hand():
    planted = [
        plant("owl", 3, 1, "owl"),
        plant("cat", 2, 2, "dog", scale=0.5),
        plant("dog", -1, 6, "dog", p=0.03, share=0.5, block="grid"),
        *CLEAN,
    ]
    results = analyse_sets(planted, [real("a", "x", "owl")])
    total = find_row(results, "all")
    assert total.auc.mean == pytest.approx(4 / 6)
    assert (total.sets, total.clean, total.rank.mean, total.chance) == (3, 2, 3, 8.5)
    assert total.named_1.mean == pytest.approx(1 / 3)
    assert total.named_5.mean == pytest.approx(2 / 3)
    assert (total.wrong_5, total.real_5.mean) == (1, 1)
    assert total.tokens == pytest.approx((5 * 100 + 2) / 6)
    # A share has no clean sets of its own: each is compared with all.
    assert find_row(results, "share of poisoned rows", "50%").auc.mean == 0
    assert find_row(results, "share of poisoned rows", "100%").auc.mean == 1
    assert [s.scale for s in results.strengths] == [0.5, 1.0]
    assert [s.named_1 for s in results.strengths] == [0, 1]
    assert [s.wrong_5 for s in results.strengths] == [1, 0]
    assert (results.full_named.mean, results.full_named.n) == (1, 1)
    assert results.clean_alarms.count == 0 and results.real_alarms.count == 1
    assert results.real_alarms.p_excess == pytest.approx(0.05)


def test_sets_that_differ_in_carrier_are_compared_with_clean_ones_of_theirs():
    planted = [
        plant("owl", 3, 1),
        plant("cat", 13, 1, carrier="chat", block="grid"),
        plant(None, 2),
        plant(None, 20, carrier="chat"),
    ]
    results = analyse_sets(planted)
    assert find_row(results, "carrier", "numbers").auc.mean == 1
    assert find_row(results, "carrier", "chat").auc.mean == 0
    assert results.steered.auc.mean == 1  # number lists against clean number lists


def test_what_a_method_refuses_is_counted_and_left_out():
    refused = SetAudit(
        set="", reader="m", method=METHOD, audited=5, candidates=16, refused="too few rows"
    )
    planted = [plant("owl", 3, 1, "owl"), *CLEAN]
    known, _ = plant("cat", 9)
    row = find_row(
        analyse_sets([*planted, (known, replace(refused, set=known.name))]),
        "all",
    )
    assert (row.sets, row.refused, row.named_5.mean) == (1, 1, 1)


def test_a_method_without_a_test_names_nothing():
    planted = [(k, replace(a, p=None, likeliest=None)) for k, a in [plant("owl", 3, 1), *CLEAN]]
    results = analyse_sets(planted)
    row = find_row(results, "all")
    assert row.named_1 is None and row.alarms_5 is None and row.auc.mean == 1
    assert {c.id.split("/")[1] for c in make_claims(results)} == {"auc", "rank"}


def test_a_row_a_method_and_no_claims_without_the_method_they_are_about():
    planted = [plant("owl", 3, 1, method="other"), *[plant(None, i, method="other") for i in "12"]]
    results = analyse_sets(planted, methods=("other",))
    assert [r.method for r in results.overall] == ["other"]
    assert make_claims(results) == []


def test_a_file_alarms_once_however_many_models_read_it():
    both = [real("a", "x", "owl"), real("b", "x", "cat")]
    others = [real(reader, f"{i}") for i in range(5) for reader in "ab"]
    planted = [plant("owl", 3, 1), plant("cat", 2, 1), *CLEAN]
    alarms = analyse_sets(planted, [*both, *others]).real_alarms
    assert (alarms.count, alarms.sets, alarms.audits) == (1, 6, 2)
    assert alarms.p_excess == pytest.approx(1 - 0.95**12)


@pytest.mark.parametrize(
    ("alarms", "sets", "verdict"),
    [
        (0, 3, INCONCLUSIVE),  # as well as 56% would give
        (0, 10, INCONCLUSIVE),
        (0, 40, REPRODUCED),  # at most 9%
        (2, 10, INCONCLUSIVE),
        (3, 10, CONTRADICTED),  # at least 11%
        (2, 100, REPRODUCED),  # at most 7%
    ],
)
def test_alarms_are_few_or_many_or_neither_is_shown(alarms, sets, verdict):
    clean = [plant(None, i / sets, named="owl" if i < alarms else None) for i in range(sets)]
    steered = [plant("owl", 3, 1), plant("cat", 2, 1)]
    assert verdicts([*steered, *clean])["false-alarms"] == verdict


@pytest.mark.parametrize(
    ("named", "alarms", "verdict"),
    [
        (8, 4, REPRODUCED),  # at most 9.8% of 100 clean sets
        (8, 5, INCONCLUSIVE),  # at most 11%
        (7, 0, INCONCLUSIVE),
        (3, 0, CONTRADICTED),  # at most 60% of 10
    ],
)
def test_eight_of_ten_at_full_strength(named, alarms, verdict):
    steered = [
        plant(t, 5 + i, 1, t if i < named else None) for i, t in enumerate(world.TRAITS[:10])
    ]
    clean = [plant(None, i / 100, named="owl" if i < alarms else None) for i in range(100)]
    assert verdicts([*steered, *clean])["named-full"] == verdict


def test_verdicts_follow_the_numbers():
    traits = world.TRAITS[:10]
    good = [plant(t, 5 + i, 1, t) for i, t in enumerate(traits)]
    clean = [plant(None, i / 40) for i in range(40)]
    assert set(verdicts([*good, *clean]).values()) == {REPRODUCED}
    backwards = [plant(t, -1 - i, 16) for i, t in enumerate(traits)]
    alarmed = [plant(None, i / 10, named="owl") for i in range(10)]
    contradicted = verdicts([*backwards, *alarmed])
    assert contradicted.pop("named") == INCONCLUSIVE
    assert set(contradicted.values()) == {CONTRADICTED}


def test_a_hidden_part_prints_its_truth_and_others_do_not():
    planted = [plant("owl", 3, 1, "owl"), *CLEAN]
    printed = {
        part: {t.title for t in make_page(analyse_sets(planted, part=part)).printed}
        for part in ("hidden", "reported")
    }
    assert printed["hidden"] - printed["reported"] == {"The truth, and what was found"}
    truth = make_page(analyse_sets(planted, part="hidden")).printed[-1]
    assert read_table(truth)[0]["trait"] == "owl"
    assert read_table(truth)[0]["smallest p"] == "owl"


def test_levels_in_order():
    assert sort_levels(["1%", "100%", "30%"]) == ["100%", "30%", "1%"]
    assert sort_levels(["vector", "adapter"]) == ["adapter", "vector"]
    assert sort_levels(["512", "8192"]) == ["8192", "512"]
