"""220 cases of the fuzzer, the same ones every time; `make fuzz N=3000` runs more."""

import pytest

from tests.fuzz.runner import FAULTS, run_cases, table

CASES = 220
pytestmark = [pytest.mark.slow, pytest.mark.parity]


def test_damaged_and_odd_inputs():
    for module in ("torch", "transformers", "peft", "gguf"):
        pytest.importorskip(module, reason="the fuzzer compares with what it reads")
    from tests.fuzz.families import FAMILIES

    share, rest = divmod(CASES, len(FAMILIES))
    cases = [(name, i) for k, name in enumerate(FAMILIES) for i in range(share + (k < rest))]
    # One worker: each imports torch and prepares the families anew, and the suite has another.
    results = list(run_cases(cases, workers=1))
    print(table(results))
    faults = [f"{r.case}: {r.outcome}: {r.message}" for r in results if r.outcome in FAULTS]
    assert not faults, "\n".join(faults)
    for name in FAMILIES:  # a family that refuses everything, or nothing, tests nothing
        outcomes = {r.outcome for r in results if r.family == name}
        assert outcomes == {"accepted", "refused"}, (name, outcomes)
