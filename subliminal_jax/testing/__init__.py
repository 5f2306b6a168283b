"""Checks for an optimizer, a model or a vector of your own: those that the package's tests make.

    from subliminal_jax.testing import check_optimizer
    check_optimizer("my_rules:my_lion", rates=[1e-4, 3e-4, 1e-3])

A check raises AssertionError with one line that says what does not hold, and by how much.
`strategies` draws inputs for such checks with hypothesis, which the extra `test` installs; nothing
else here needs it.
"""

from subliminal_jax.testing.alignment import (
    check_activation_gradients,
    check_alignment_measures,
    check_steering,
)
from subliminal_jax.testing.optimizers import (
    check_compilation,
    check_optimizer,
    check_progress,
    check_resume,
    check_schedules,
    check_stacking,
    check_zero_gradients,
    measure_reach,
)

__all__ = [
    "check_activation_gradients",
    "check_alignment_measures",
    "check_compilation",
    "check_optimizer",
    "check_progress",
    "check_resume",
    "check_schedules",
    "check_stacking",
    "check_steering",
    "check_zero_gradients",
    "measure_reach",
]
