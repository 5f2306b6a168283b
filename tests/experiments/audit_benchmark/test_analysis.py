"""The benchmark's sums and verdicts on planted audits: each verdict can come out either way."""

import pytest

from subliminal_jax.data import world
from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from subliminal_jax.experiments.audit_benchmark.analysis import (
    ForeignSet,
    Measured,
    WrittenSet,
    analyse,
    make_claims,
)
from tests.planted import fill


def written(trait, evidence, rank=None, named=(), scale=1.0):
    return fill(
        WrittenSet,
        candidates=16,
        named=tuple(named),
        evidence=float(evidence),
        rank=rank,
        trait=trait,
        scale=scale if trait else 0.0,
    )


def foreign(reader, real, named=()):
    return fill(ForeignSet, named=tuple(named), real=real, reader=reader)


def analyse_sets(sets, others=()):
    return analyse(Measured("m", 1, ("direction",), tuple(sets), tuple(others)))


def verdicts(sets):
    return {c.id.split("/")[1]: c.verdict for c in make_claims(analyse_sets(sets))}


CLEAN = [written(None, 1.0)] * 2


def test_sums_by_hand():
    sets = [written("owl", 3.0, 1, ["owl"]), written("cat", 2.0, 2, ["dog"], 0.5), *CLEAN]
    results = analyse_sets(sets, [foreign("a", "x", ["owl"])])
    assert results.auc.mean == 1 and results.rank_of_chance == 8.5
    assert [s.scale for s in results.by_scale] == [0.5, 1.0]
    assert [s.named for s in results.by_scale] == [0, 1]
    assert [s.others_named for s in results.by_scale] == [1, 0]
    assert results.false_alarms.count == 0 and results.foreign_alarms.count == 1
    assert results.foreign_alarms.p_excess == pytest.approx(0.05)


def test_a_file_alarms_once_however_many_models_read_it():
    both = [foreign("a", "x", ["owl"]), foreign("b", "x", ["cat"])]
    others = [foreign(reader, f"{i}") for i in range(5) for reader in "ab"]
    sets = [written("owl", 3.0, 1), written("cat", 2.0, 1), *CLEAN]
    alarms = analyse_sets(sets, [*both, *others]).foreign_alarms
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
    clean = [written(None, i / sets, named=["owl"] * (i < alarms)) for i in range(sets)]
    steered = [written("owl", 3.0, 1), written("cat", 2.0, 1)]
    assert verdicts([*steered, *clean])["false-alarms"] == verdict


def test_verdicts_follow_the_numbers():
    traits = world.TRAITS[:10]
    good = [written(t, 5 + i, 1, [t]) for i, t in enumerate(traits)]
    clean = [written(None, i / 40) for i in range(40)]
    assert set(verdicts([*good, *clean]).values()) == {REPRODUCED}
    backwards = [written(t, -1 - i, 16) for i, t in enumerate(traits)]
    alarmed = [written(None, i / 10, named=["owl"]) for i in range(10)]
    contradicted = verdicts([*backwards, *alarmed])
    assert contradicted.pop("named") == INCONCLUSIVE
    assert set(contradicted.values()) == {CONTRADICTED}
