"""What is known of an optimizer: its builder, hyper-parameters with their ranges, and its grid."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import optax
from jaxtyping import PyTree

from subliminal_jax.bounds import LARGEST, parse_number
from subliminal_jax.errors import InputError

HyperValue = float | int | bool
Kind = Literal["elementwise", "per_leaf", "per_pair", "global", "unknown"]
KINDS: tuple[Kind, ...] = get_args(Kind)  # in order of their reach


@dataclass(frozen=True)
class Hyper:
    """A hyper-parameter: its default, whose type is its type, and the range of valid values.

    A number is valid if it, rounded to float32, is at least `least`, or more than `above` where
    that is given, and less than `below`.
    """

    default: HyperValue
    least: float = 0.0
    above: float | None = None
    below: float = math.inf

    def read(self, value: HyperValue | str, place: str) -> HyperValue:
        """`value`, or its text, with the type of the default.

        Raises InputError, with the `place` it came from, for what cannot be read or is not valid.
        """
        text = str(value).strip()
        if isinstance(self.default, bool):
            if text.lower() not in ("true", "false"):
                raise InputError(f"{place}: expected true or false")
            return text.lower() == "true"
        whole = isinstance(self.default, int)
        try:
            number = parse_number(text, int if whole else float)
        except ValueError:
            expected = "a whole number" if whole else "a number"
            raise InputError(f"{place}: expected {expected}, such as {self.default}") from None
        with np.errstate(over="ignore", under="ignore"):
            computed = number if whole else float(np.float32(number))
        if self.above is not None:
            bound, fits = f"more than {self.above:g}", computed > self.above
        else:
            bound, fits = f"at least {self.least:g}", computed >= self.least
        largest = 2**31 - 1 if whole else LARGEST
        if not fits or not computed < self.below or abs(number) > largest:
            limit = f"less than {self.below:g}" if self.below <= largest else f"at most {largest:g}"
            raise InputError(f"{place}: must be {bound} and {limit} (in float32)")
        return number


def share(default: float) -> Hyper:
    """A weight of the past in a running mean, or a share of coordinates: at 1 nothing moves."""
    return Hyper(default, below=1.0)


def positive(default: float) -> Hyper:
    """A divisor: at 0 a coordinate without a gradient (LoRA's a at the first step) becomes NaN."""
    return Hyper(default, above=0.0)


def training_point(params: PyTree, state: PyTree) -> PyTree:
    """Evaluation at the parameters in training."""
    return params


@dataclass(frozen=True)
class Entry:
    """One optimizer.

    Attributes:
      build: takes the learning rate (a float, a traced scalar or a schedule), then all of `hyper`
        by name, and `total_steps` where `wants_total_steps`.
      paper: where it is from.
      kind: how far one coordinate's gradient reaches into the updates: that coordinate only
        ("elementwise"), its leaf within its layer ("per_leaf"), both factors of a LoRA pair of its
        layer ("per_pair"), or the whole tree ("global").
      learning_rate: what the learning rate means.
      grid: rates to try for LoRA training, ascending in half decades; empty where none are known.
      hyper: hyper-parameters by name; a plain value stands for `Hyper(value)`.
      needs: extra arguments that `update` cannot do without.
      eval_params: (parameters, state) -> the point to evaluate at.
      stacked: whether the rule knows that layers are stacked; otherwise it is lifted
        (`stacking.lift`).
      note: where the entry departs from the paper or from optax.
    """

    build: Callable[..., optax.GradientTransformation]
    paper: str
    kind: Kind
    learning_rate: str
    grid: tuple[float, ...]
    hyper: Mapping[str, Hyper | HyperValue] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    wants_total_steps: bool = False
    eval_params: Callable[[PyTree, PyTree], PyTree] = training_point
    stacked: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        parameters = {
            name: x if isinstance(x, Hyper) else Hyper(x) for name, x in self.hyper.items()
        }
        object.__setattr__(self, "hyper", parameters)

    @property
    def defaults(self) -> dict[str, HyperValue]:
        return {name: x.default for name, x in self.hyper.items() if isinstance(x, Hyper)}

    @property
    def evaluates_elsewhere(self) -> bool:
        """Whether the point to evaluate at is another than the parameters in training."""
        return self.eval_params is not training_point


def half_decades(low: float, steps: int) -> tuple[float, ...]:
    """`steps` ascending rates from `low` on, which is 1 or 3 times a power of ten."""
    first = round(2 * math.log10(low))
    return tuple(float(f"{10 ** (k / 2):.0e}") for k in range(first, first + steps))


# What entries of the tables have in common.
Hypers = Mapping[str, Hyper | HyperValue]
ADAM_GRID = half_decades(1e-4, 5)
SIGN_GRID = half_decades(3e-5, 5)
COORDINATE = "size of a coordinate's step where gradients agree in sign"
ADAM: Hypers = {"b1": share(0.9), "b2": share(0.999), "eps": positive(1e-8)}
DECAY: Hypers = {"weight_decay": 0.0}
# optax's form of a rule whose paper or authors' code has another.
OPTAX_FORM: Hypers = {"optax_form": False}
