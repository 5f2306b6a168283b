"""Two processes work in turn; ratios are of pairs; whatever fails is one line and no process."""

import io
import json
import os
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.harness import (
    Effort,
    Equal,
    Goal,
    largest_difference,
    make_document,
    median_ratio,
    print_documents,
    print_summary,
    run_pair,
    worker_environment,
)
from benchmarks.workers import BenchmarkError, Worker, call

SIDES = "tests.benchmarks.sides"
SETTING = {"slow_seconds": 0.3, "fast_seconds": 0.01}  # far apart: other work runs beside


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    log = tmp_path_factory.mktemp("pair") / "log"
    setting = SETTING | {"log": str(log)}
    pair = run_pair(SIDES, setting, Effort(seconds=0.0, least=6), ("fast", "slow"))
    return pair, [float(line) for line in log.read_text().split()]


def make_claim(pair, **options):
    return make_document("claim", SETTING, pair, equal=Equal("numbers", 0.0, 1e-6), **options)


def test_the_sides_take_turns_and_change_who_goes_first(pair):
    fast, slow = SETTING["fast_seconds"], SETTING["slow_seconds"]
    assert pair[1][:4] == [fast, fast, slow, slow]  # compiled, and warmed once more
    assert pair[1][4:] == [fast, slow, slow, fast] * 3


def test_the_ratio_is_that_of_the_work(pair):
    document = make_claim(pair[0])["ratio"]
    assert document["repetitions"] == 6
    assert 2 < document["median"] < 31  # 30, less what waiting for a core adds to both


def test_no_process_is_left_over(pair):
    for side in pair[0][:2]:
        assert not alive(side.notes["pid"])


def test_memory_of_the_host_is_measured(pair):
    for side in pair[0][:2]:
        assert 5 < side.peak.imported <= side.peak.host < 500


def test_the_floor_is_the_slower_of_both_ceilings(pair):
    ceilings = pair[0].ceilings
    assert ceilings.flops > 1e8 and ceilings.bytes > 1e7
    floor = make_claim(pair[0], flops=2 * ceilings.flops, bytes_moved=ceilings.bytes)["floor"]
    assert floor["seconds"] == pytest.approx(2.0)
    assert floor["share"] == pytest.approx(2.0 / pair[0].ours.seconds)
    floor = make_claim(pair[0], flops=ceilings.flops, bytes_moved=3 * ceilings.bytes)["floor"]
    assert floor["seconds"] == pytest.approx(3.0)


def test_goals_are_of_the_median(pair):
    assert make_claim(pair[0], goal=Goal(1.5))["goal"]["reached"]
    assert not make_claim(pair[0], goal=Goal(100.0))["goal"]["reached"]
    assert make_claim(pair[0], goal=Goal(100.0, lower=True))["goal"]["reached"]


def test_shares_of_the_ceilings_are_of_the_time_taken(pair):
    seconds, (flops, moved) = pair[0].ours.seconds, pair[0].ceilings
    document = make_claim(
        pair[0],
        flops=0.5 * seconds * flops,
        bytes_moved=0.7 * seconds * moved,
        goal=Goal(0.6, of="bandwidth"),
    )
    assert document["floor"]["mfu"] == pytest.approx(0.5)
    assert document["floor"]["bandwidth"] == pytest.approx(0.7)
    assert document["goal"] == {"aim": 0.6, "lower": False, "of": "bandwidth", "reached": True}
    document = make_claim(pair[0], flops=0.5 * seconds * flops, goal=Goal(0.6, of="mfu"))
    assert not document["goal"]["reached"]
    assert document["floor"]["bandwidth"] is None


def test_stdout_holds_one_json_document(pair):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        print_summary(make_claim(pair[0], goal=Goal(2.0)))
        print_documents([make_claim(pair[0], amount=(30.0, "tokens"), flops=1e9)])
    document = json.loads(out.getvalue())
    assert document["ours"]["tokens_per_second"] == pytest.approx(30.0 / pair[0].ours.seconds)
    assert {
        "benchmark",
        "setting",
        "ratio",
        "equal",
        "peak_memory_mb",
        "machine",
    } <= document.keys()
    assert len(err.getvalue().splitlines()) == 1


def test_results_that_differ_are_printed_and_refused(pair):
    document = make_document("claim", SETTING, pair[0], equal=Equal("losses", 0.2, 0.1))
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(BenchmarkError, match=r"losses are 0\.2 apart"):
        print_documents([document])
    assert json.loads(out.getvalue())["equal"]["apart"] == 0.2


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (("fast", "broken"), "broken: ValueError: this side is broken"),
        (("breaks_later", "slow"), "breaks_later: ValueError: this side broke while it worked"),
        (("fast", "dies"), r"dies: its process ended \(exit code 9\)"),
        (("needs_what_is_missing", "slow"), "no_such_library_at_all'; install the extra"),
    ],
)
def test_a_side_that_fails_gives_one_line_and_leaves_no_process(sides, message):
    earlier = children()
    with pytest.raises(BenchmarkError, match=message) as raised:
        run_pair(SIDES, SETTING, Effort(seconds=0.0, least=1), sides)
    assert "\n" not in str(raised.value)
    assert children() <= earlier


def test_what_fails_ends_the_command_with_one_line(monkeypatch, capsys):
    def run(quick: bool):
        assert quick
        raise BenchmarkError("peer: it broke")

    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick"])
    with pytest.raises(SystemExit) as ended:
        harness.run_command("benchmarks.claim", "What it shows.\n\nMore.", run)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "benchmarks.claim: error: peer: it broke\n"


def test_what_came_before_a_failure_is_printed(pair, monkeypatch, capsys):
    def run(quick: bool):
        yield make_claim(pair[0])
        raise BenchmarkError("peer: out of memory")

    monkeypatch.setattr(sys, "argv", ["benchmark"])
    with pytest.raises(SystemExit) as ended:
        harness.run_command("benchmarks.claim", "What it shows.", run)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["benchmark"] == "claim"
    assert printed.err == "benchmarks.claim: error: peer: out of memory\n"


def test_what_came_before_the_end_of_the_time_is_printed(pair, monkeypatch, capsys):
    def run(quick: bool):
        yield make_claim(pair[0])
        time.sleep(60)

    monkeypatch.setattr(sys, "argv", ["benchmark", "--seconds", "0.2"])
    start = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        harness.run_command("benchmarks.claim", "What it shows.", run)
    assert ended.value.code == harness.OUT_OF_TIME
    assert time.monotonic() - start < 30
    printed = capsys.readouterr()
    assert json.loads(printed.out)["benchmark"] == "claim"
    assert printed.err == "benchmarks.claim: out of time after 1 cases\n"
    with harness.limit_time(60):  # and no alarm is left over
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_only_an_accelerator_is_shared_and_computes_float32_in_float32():
    precision, share = "JAX_DEFAULT_MATMUL_PRECISION", "XLA_PYTHON_CLIENT_MEM_FRACTION"
    assert worker_environment({"dtype": "float32"}) == {share: "0.5", precision: "highest"}
    assert worker_environment({"dtype": "bfloat16"}) == {share: "0.5"}
    setting = {"slow_seconds": 0.0, "fast_seconds": 0.0}
    with Worker("a side", f"{SIDES}:surroundings", setting, worker_environment({})) as worker:
        assert worker.set_up()[1] == {precision: "highest", share: "0.5"}
    with Worker("a side", f"{SIDES}:surroundings", setting) as worker:
        assert worker.set_up()[1] == {precision: None, share: None}


def test_a_prepared_value_comes_from_a_process_that_is_gone():
    pid = call("os:getpid")
    assert pid != os.getpid() and not alive(pid)


@pytest.mark.parametrize("n", [1, 5, 6, 9, 30])
def test_the_interval_of_the_median_ratio_is_of_order_statistics(n):
    rng = np.random.default_rng(n)
    ratios = rng.permutation(np.arange(1.0, n + 1))
    median, low, high = median_ratio([1.0] * n, ratios.tolist())
    assert median == np.median(ratios)
    cut = {1: 0, 5: 0, 6: 0, 9: 1, 30: 9}[n]  # of tables of the sign test
    assert (low, high) == (1 + cut, n - cut)


def test_ratios_are_of_pairs_and_not_of_medians():
    load = np.array([1.0, 10.0, 100.0, 1000.0, 1e4])  # both sides suffer it alike
    assert median_ratio(load.tolist(), (3 * load).tolist()) == pytest.approx((3.0, 3.0, 3.0))


def test_apart_is_the_largest_difference():
    ours = {"a": np.array([1.0, 2.0]), "b": np.array([100.0, 7.0])}
    peer = {"a": np.array([1.0, 2.5]), "b": np.array([101.0, 7.0])}
    assert largest_difference(ours, peer) == pytest.approx(1.0)
    assert largest_difference(ours, peer, relative=True) == pytest.approx(0.5 / 2.5)
    with pytest.raises(BenchmarkError, match="other shapes"):
        largest_difference(ours, {"a": peer["a"]})
    with pytest.raises(BenchmarkError, match="'a' is not finite"):
        largest_difference(ours | {"a": np.array([1.0, np.nan])}, peer)


def alive(pid: int) -> bool:
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.02)
    return True


def children() -> set[int]:
    import multiprocessing

    return {process.pid or 0 for process in multiprocessing.active_children()}
