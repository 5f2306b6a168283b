"""Comparisons of runs: what differs, and differences with the interval of two samples."""

import json

import numpy as np
import pytest
from scipy import stats

from subliminal_jax.cli import main
from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.evaluation.two_samples import difference_interval
from subliminal_jax.files import write_json
from subliminal_jax.runs.comparing import RunContent, compare_runs
from subliminal_jax.serialization import to_json


def student(seed, eas, *, rate=0.1, loss=1.0, data="steered", **more):
    own = {"optimizer": "sgd", "learning_rate": rate, "seed": seed, "data": data}
    return {**own, "diverged": False, "heldout_loss": loss, "eas": eas, **more}


FIRST = RunContent(
    {"experiment": "optimizer-comparison", "rank": 8, "steps": 64, "optimizers": ["sgd"]},
    {
        "arms": [
            *(student(i, eas) for i, eas in enumerate((0.1, 0.2, 0.3))),
            *(student(i, 0.9, rate=0.2, loss=2.0) for i in range(3)),
            *(student(i, -0.1, data="control", words=[1, 2]) for i in range(3)),
        ],
        "gap": to_json(mean_interval([1.0, 2.0, 4.0])),
        "claims": [{"id": "a/b", "number": "+1", "verdict": "not reproduced"}],
    },
)
SECOND = RunContent(
    {**FIRST.settings, "rank": 4, "layer": 1},
    {
        "arms": [student(i, eas, rate=0.3) for i, eas in enumerate((0.5, 0.7))],
        "nested": {"gap": to_json(mean_interval([1.0, 2.0]))},
        "claims": [],
    },
)


def test_settings_that_differ_are_named_with_their_values():
    settings = compare_runs(["a", "b"], [FIRST, SECOND]).settings
    assert {s.name: s.values for s in settings} == {"rank": (8, 4), "layer": (None, 1)}


def test_students_at_each_runs_best_rate_are_compared():
    outcomes = compare_runs(["a", "b"], [FIRST, SECOND]).outcomes
    (eas,) = (o for o in outcomes if (o.data, o.column) == ("steered", "eas"))
    assert eas.rates == (0.1, 0.3)
    assert [m.mean for m in eas.means] == pytest.approx([0.2, 0.6])
    assert eas.differences == (None, difference_interval([0.5, 0.7], [0.1, 0.2, 0.3]))
    (control,) = (o for o in outcomes if (o.data, o.column) == ("control", "eas"))
    assert control.means[1] is None and control.differences == (None, None)
    assert {o.column for o in outcomes} == {"eas", "heldout_loss"}


def test_claims_and_intervals_of_one_run_have_no_counterpart():
    comparison = compare_runs(["a", "b"], [FIRST, SECOND])
    (claim,) = comparison.claims
    assert (claim.numbers, claim.verdicts) == (("+1", None), ("not reproduced", None))
    assert [e.name for e in comparison.estimates] == ["gap", "nested.gap"]
    assert comparison.estimates[0].values == (mean_interval([1.0, 2.0, 4.0]), None)


def test_the_interval_is_welchs():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 3, 7), rng.normal(0, 1, 4)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    interval = difference_interval(list(a), list(b), 0.9)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.mean == pytest.approx(a.mean() - b.mean()) and interval.n == 11
    assert np.isnan(difference_interval([1.0], [2.0, 3.0]).low)
    same = difference_interval([1.0, 1.0], [3.0, 3.0])
    assert (same.low, same.high) == (-2.0, -2.0)


@pytest.fixture
def folders(tmp_path):
    for name, run in (("a", FIRST), ("b", SECOND), ("same", FIRST)):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "config.json", run.settings)
        write_json(tmp_path / name / "results.json", run.results)
    return [str(tmp_path / name) for name in ("a", "b", "same")]


def test_the_command_prints_tables_and_json(folders, capsys):
    first, second, same = folders
    main(["compare", first, second])
    shown = capsys.readouterr().out
    assert "Settings that differ" in shown and "difference to 1, of 2: b" in shown
    main(["compare", first, second, "--json"])
    found = json.loads(capsys.readouterr().out)
    expected = compare_runs([first, second], [FIRST, SECOND])
    assert found == json.loads(json.dumps(to_json(expected)))
    main(["compare", first, same])
    assert "all settings are the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("runs", "said"),
    [(1, "at least two"), (0, "nowhere: no such"), (2, "no finished run"), (3, "twice")],
)
def test_what_is_no_run_is_refused(folders, tmp_path, runs, said, capsys):
    (tmp_path / "empty").mkdir()
    named = {
        0: ["nowhere", folders[0]],
        1: folders[:1],
        2: [folders[0], str(tmp_path / "empty")],
        3: [folders[0], folders[0]],
    }
    with pytest.raises(SystemExit) as stop:
        main(["compare", *named[runs]])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and error.count("\n") == 1
