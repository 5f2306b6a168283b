"""The floor of sampling against counting token by token."""

import pytest

from benchmarks.generate import count_work
from tests.tiny_configs import UNLIKE


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_work_is_that_of_each_token_in_turn(dtype, size):
    P, N, batch, calls = 4, 3, 2, 5
    weights = 3 * 12 * ((4 + 4 + 2 + 2) * 5 + 3 * 7)
    flops = moved = 0
    for position in range(P + N - 1):
        flops += 2 * weights + 2 * 2 * 3 * 4 * 5 * (position + 1)
    flops += N * 2 * 50 * 12
    for step in range(N):
        moved += weights + 50 * 12
        if step > 0:  # reads keys and values of all so far, its own token's among them
            moved += batch * 2 * 3 * 2 * 5 * (P + step)
    moved += batch * 2 * 3 * 2 * 5 * (P + N - 1)  # each is written once
    setting = {"prompt": P, "new": N, "batch": batch, "calls": calls, "dtype": dtype}
    work = count_work(UNLIKE, setting)
    assert work[0] == batch * calls * flops
    assert work[1] == calls * size * moved
