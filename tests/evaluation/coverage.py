"""How often the intervals over vectors hold the mean, by shape of the effect and number of vectors.

    python -m tests.evaluation.coverage

prints a table: of 95% intervals of Student's t and of `vector_interval` the share that holds the
mean, and the share that lies whole below it (wanted: 2.5%); and of `control_difference` the same,
with four controls that have something in common over all vectors. A second table does so for tables
of seeds and vectors: `crossed_interval`, and the two-way t without its correction of skewness.
"""

import functools

import numpy as np
from scipy import stats

from subliminal_jax.evaluation import hall
from subliminal_jax.evaluation.over_vectors import control_difference, vector_interval
from subliminal_jax.evaluation.statistics import crossed_interval, mean_interval

# By name: a function (rng, size) -> values, and their mean.
SHAPES = {
    "normal": (lambda rng, size: rng.normal(0.3, 0.3, size), 0.3),
    "heavy tails (t, 3 degrees)": (lambda rng, size: 0.3 + 0.2 * rng.standard_t(3, size), 0.3),
    "skewed (exponential)": (lambda rng, size: rng.exponential(0.3, size), 0.3),
    "very skewed (log-normal)": (lambda rng, size: rng.lognormal(0, 1, size), np.exp(0.5)),
    "one vector in four": (lambda rng, size: _mixture(rng, size, 0.25), 0.25),
    "one vector in two": (lambda rng, size: _mixture(rng, size, 0.5), 0.5),
    "three vectors in four": (lambda rng, size: _mixture(rng, size, 0.75), 0.75),
}
CONTROLS, COMMON, CHANCE = 4, 0.1, 0.1


def _mixture(rng, size, share):
    has_effect = rng.random(size) < share
    return has_effect * rng.normal(1.0, 0.3, size) + rng.normal(0.0, 0.1, size)


@functools.cache
def simulate(shape, vectors, method, samples=2000):
    """(share of intervals that hold the mean, share that lie whole below it)."""
    draw, mean = SHAPES[shape]
    rng = np.random.default_rng(0)
    held = below = 0
    for _ in range(samples):
        values = draw(rng, vectors)
        if method == "t":
            interval = mean_interval(values)
        elif method == "vector_interval":
            interval = vector_interval(values)
        else:
            common = rng.normal(0, COMMON, (CONTROLS, 1))
            controls = common + rng.normal(0, CHANCE, (CONTROLS, vectors))
            interval = control_difference(values, controls)
        held += interval.low <= mean <= interval.high
        below += interval.high < mean
    return held / samples, below / samples


@functools.cache
def simulate_crossed(shape, seeds, vectors, common, uncorrected=False, samples=1000):
    """The same of `crossed_interval`, where students of one seed have something in common with the
    spread `common` (that of vectors is about 0.3); `uncorrected` of the plain two-way t."""
    draw, mean = SHAPES[shape]
    rng = np.random.default_rng(0)
    held = below = 0
    for _ in range(samples):
        of_seeds = rng.normal(0, common, (seeds, 1))
        values = draw(rng, vectors) + of_seeds + rng.normal(0, CHANCE, (seeds, vectors))
        interval = crossed_interval(values)
        low, high = interval.low, interval.high
        if uncorrected:
            t = stats.t.ppf(0.975, interval.degrees)
            error = (interval.mean - low) / hall.invert(t, interval.skewness, vectors)
            low, high = interval.mean - t * error, interval.mean + t * error
        held += low <= mean <= high
        below += high < mean
    return held / samples, below / samples


def print_crossed():
    print("| shape | seeds x vectors | in common | two-way t | below | corrected | below |")
    print("|---|---|---|---|---|---|---|")
    for shape in ("normal", "skewed (exponential)", "one vector in four"):
        for seeds, vectors in ((3, 3), (3, 5), (3, 8), (3, 16)):
            for common in (0.0, 0.1, 0.3):
                cells = [
                    f"{share:.1%}"
                    for uncorrected in (True, False)
                    for share in simulate_crossed(shape, seeds, vectors, common, uncorrected)
                ]
                print(f"| {shape} | {seeds} x {vectors} | {common} | {' | '.join(cells)} |")


if __name__ == "__main__":
    print("| shape | vectors | t | below | vector_interval | below | control_difference | below |")
    print("|---|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        for vectors in (3, 5, 8):
            cells = [
                f"{share:.1%}"
                for method in ("t", "vector_interval", "control_difference")
                for share in simulate(shape, vectors, method)
            ]
            print(f"| {shape} | {vectors} | {' | '.join(cells)} |")
    print()
    print_crossed()
