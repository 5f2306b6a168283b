"""How weak a teacher an audit by likelihood can tell from the base, known before it runs."""

import numpy as np
import scipy

from subliminal_jax.audit.fits import mix
from subliminal_jax.audit.methods.likelihood import (
    LIKELIEST,
    PLACEBOS,
    RIVALS,
    STRENGTHS,
    TEMPERATURES,
)
from subliminal_jax.audit.results import Outlook
from subliminal_jax.audit.rows import AuditRows
from subliminal_jax.audit.settings import AuditSettings

LEVEL, POWER = 0.05, 0.8
QUARTER = 0.25  # of the rows, the second share that is stated
NODES = 60  # of the Gauss-Hermite rule
LARGEST = 50.0  # nats a row


def detectable_gain(
    rows: int, tests: int, share: float = 1.0, level: float = LEVEL, power: float = POWER
) -> float | None:
    """The gain k in nats a row at which the test of exchanged rows finds a teacher with this power;
    None where it finds none.

    k is the mean log-ratio of a teacher's row to the base (their Kullback-Leibler divergence), and
    the teacher wrote a share of the rows. The log-ratio is taken as normal: a small shift of a
    model makes it N(k, 2k) over the teacher's rows and N(-k, 2k) over the base's, since its
    exponential has mean 1 there. A row's part is f = log(1 - share + share exp(log-ratio)). The
    statistic, the sum of d = f(row) - f(base's answer) over its root sum of squares, is about
    normal under exchanged signs; under the teacher, t = sqrt(rows) mean(d) / sd(d) is normal around
    sqrt(rows) effect, and the statistic is t / sqrt(1 + t^2 / rows). At share 1 the effect is 2k /
    sqrt(4k) = sqrt(k), so that k = (critical t + quantile of the power)^2 / rows.

    Left out: a direction or a strength that is not the teacher's; that the test takes the largest
    statistic over shares and strengths; the tests against placebos, other temperatures, rivals and
    foreign rows. So it is the least that can be found, not what will be.

    Source: ours; Neyman and Pearson's test between two normal distributions.

    Args:
      tests: candidates that the level is corrected for (Sidak).
    """
    critical = scipy.stats.norm.isf(1 - (1 - level) ** (1 / tests))
    if critical**2 >= rows:
        return None
    t = critical / np.sqrt(1 - critical**2 / rows) + scipy.stats.norm.ppf(power)
    wanted = t / np.sqrt(rows)
    if _effect(LARGEST, share) < wanted:
        return None
    return float(scipy.optimize.brentq(lambda k: _effect(k, share) - wanted, 1e-9, LARGEST))


def _effect(gain: float, share: float) -> float:
    """The mean of a row's difference over its standard deviation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    base, teacher = (mix(mean + np.sqrt(2 * gain) * nodes, share) for mean in (-gain, gain))
    base_mean, mean = weights @ base, weights @ ((1 - share) * base + share * teacher)
    base_square = weights @ base**2
    square = weights @ ((1 - share) * base**2 + share * teacher**2)
    return float((mean - base_mean) / np.sqrt(square - mean**2 + base_square - base_mean**2))


def make_outlook(rows: AuditRows, candidates: int, tests: int, settings: AuditSettings) -> Outlook:
    """What an audit of these rows costs and can find; `tests` as in `detectable_gain`."""
    part = rows.part("chosen" if rows.kind == "preferences" else "data")
    n = len(rows.prompts)
    gain = quarter = None
    if settings.likelihood:
        gain = detectable_gain(n, tests)
        if rows.kind == "pairs":
            quarter = detectable_gain(n, tests, QUARTER)
    return Outlook(
        rows=n,
        tokens=float(np.mean([len(answers[part]) for answers in rows.answers])),
        passes=count_passes(candidates, settings),
        tests=tests,
        gain=gain,
        gain_quarter=quarter,
        level=LEVEL,
        power=POWER,
    )


def count_passes(candidates: int, settings: AuditSettings) -> int:
    """Forward passes over the rows and the base's answers, at most; a gradient counts as three.
    Sampling and the training of the blind vector are left out."""
    passes = 0
    if "system prompt" in settings.forms:
        passes += 1 + candidates + settings.placebos
    if "direction" in settings.forms:
        passes += 3
    if settings.likelihood:
        placebos = min(PLACEBOS, settings.placebos)
        further = min(LIKELIEST, candidates) + min(RIVALS, placebos)
        passes += 1 + len(TEMPERATURES) + candidates + placebos
        passes += 1  # the likeliest teacher's own answers, under the base and under itself
        passes += further * (len(STRENGTHS) + 1)
    return passes


def describe_outlook(outlook: Outlook) -> str:
    """In one line."""
    text = f"{outlook.rows} rows of {outlook.tokens:.0f} tokens, some {outlook.passes} passes"
    if outlook.gain is None:
        return text
    text += (
        f": at best, a teacher that makes its rows likelier by {outlook.gain:.2g} nats each is "
        f"told from the base at {outlook.level:.0%} over {outlook.tests} candidates in "
        f"{outlook.power:.0%} of cases"
    )
    if outlook.gain_quarter is not None:
        text += f"; one that wrote a quarter of the rows, at {outlook.gain_quarter:.2g} nats"
    return text
