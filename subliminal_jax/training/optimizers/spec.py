"""From a name with hyper-parameters, such as ``adamw:b1=0.8``, to an optimizer."""

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import optax
from jaxtyping import PyTree

from subliminal_jax.errors import InputError
from subliminal_jax.training.optimizers.registry import OPTIMIZERS, Entry, Hyper
from subliminal_jax.training.optimizers.rules import LearningRate
from subliminal_jax.training.optimizers.stacking import as_owned

# Weights of the past in a running mean, and shares of the coordinates: at 1 nothing would move.
BELOW_ONE = {"b1", "b2", "b3", "beta", "rho", "decay", "decay_rate", "momentum", "adam_b1",
             "adam_b2", "share", "bottom"}  # fmt: skip
# Divisors: at 0 a coordinate without a gradient (LoRA's a at the first step) would become NaN.
ABOVE_ZERO = {"eps", "estim_lr0", "reps_rel", "update_interval", "clipping_threshold",
              "clip_threshold"}  # fmt: skip


class Optimizer(NamedTuple):
    """An optimizer over parameter trees whose "layers" leaves are stacked on axis 0.

    ``init(params) -> state``; ``update(grads, state, params, **extra) -> (updates, state)``, the
    updates being added to the parameters; ``eval_params(params, state) -> params``, the point to
    evaluate at (the parameters themselves, but for schedule-free). `update` ignores the extra
    arguments that the rule does not use, and raises TypeError without those that it needs
    (``OPTIMIZERS[name].needs``). The state is a tree of arrays, none of which shares its buffer
    with the parameters.
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[..., tuple[PyTree, PyTree]]
    eval_params: Callable[[PyTree, PyTree], PyTree]


@dataclass(frozen=True)
class OptimizerSpec:
    """A name of `OPTIMIZERS` and the hyper-parameters that differ from its defaults.

    Hashable, so that it can be static under jit. The overrides, given as values or as text, are
    sorted by name and have the types of the defaults. Raises InputError on a name or a
    hyper-parameter that is unknown, and on a value that cannot be read or is out of range.
    """

    name: str
    hyper: tuple[tuple[str, Hyper | str], ...] = ()

    def __post_init__(self) -> None:
        defaults = _entry(self.name).defaults
        names = [name for name, _ in self.hyper]
        for name in names:
            if name not in defaults:
                raise InputError(_unknown(f"hyper-parameter of {self.name}", name, defaults))
            if names.count(name) > 1:
                raise InputError(f"{self.name}: {name} is given twice; give it once")
        typed = ((name, _typed(self.name, name, v, defaults[name])) for name, v in self.hyper)
        object.__setattr__(self, "hyper", tuple(sorted(typed)))

    @classmethod
    def parse(cls, text: str) -> "OptimizerSpec":
        """The spec that `text` describes: a name, or ``name:key=value,key=value``."""
        name, colon, rest = text.strip().partition(":")
        default = _entry(name.strip()).defaults
        pairs: list[tuple[str, Hyper | str]] = []
        for part in rest.split(",") if colon else ():
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if not (key and equals and value):
                raise InputError(
                    f"cannot read {part.strip()!r} in optimizer {text!r}; write it as "
                    f"name:key=value,key=value, with keys among {_listed(default)}"
                )
            pairs.append((key, value))
        return cls(name.strip(), tuple(pairs))

    @property
    def label(self) -> str:
        """The text that `parse` turns into this spec."""
        pairs = ",".join(f"{name}={_text(value)}" for name, value in self.hyper)
        return f"{self.name}:{pairs}" if pairs else self.name

    @property
    def entry(self) -> Entry:
        """The row of `OPTIMIZERS`."""
        return OPTIMIZERS[self.name]


def make_optimizer(
    spec: OptimizerSpec, learning_rate: LearningRate, *, total_steps: int | None = None
) -> Optimizer:
    """The optimizer of `spec` at `learning_rate`.

    The rate is a float, a scalar array (also a traced one, so this may be called inside jit and
    vmap) or a schedule ``count -> rate`` with the count from 0, which may close over a traced
    scalar. `total_steps` is read by the optimizers that have a schedule of their own (ademamix).
    Raises InputError on a negative or non-finite float.
    """
    if isinstance(learning_rate, float | int) and not 0 <= learning_rate < math.inf:
        raise InputError(
            f"learning rate {learning_rate} of {spec.label}: give a finite number that is not "
            f"negative, such as {default_grid(spec.name)[0]}"
        )
    entry = spec.entry
    hyper: dict[str, Any] = {**entry.defaults, **dict(spec.hyper)}
    if entry.wants_total_steps:
        hyper["total_steps"] = total_steps
    rule = optax.with_extra_args_support(entry.build(learning_rate, **hyper))

    def init(params: PyTree) -> PyTree:
        return as_owned(rule.init(params))

    def update(grads: PyTree, state: PyTree, params: PyTree, **extra: Any) -> tuple[PyTree, PyTree]:
        if missing := entry.needs - extra.keys():
            raise TypeError(f"update of {spec.name} needs the arguments {_listed(missing)}")
        updates, new_state = rule.update(grads, state, params, **extra)
        return as_owned(updates, like=params), as_owned(new_state, like=state)

    return Optimizer(init, update, entry.eval_params)


def default_grid(name: str) -> tuple[float, ...]:
    """Learning rates to try for LoRA training, ascending in half decades."""
    return _entry(name).grid


def describe() -> list[dict[str, str]]:
    """One row an optimizer, as text, for a table."""
    return [
        {
            "name": name,
            "kind": entry.kind,
            "paper": entry.paper,
            "defaults": ", ".join(f"{k}={_text(v)}" for k, v in entry.defaults.items()),
            "learning rate": entry.learning_rate,
            "grid": " ".join(f"{rate:g}" for rate in entry.grid),
            "needs": ", ".join(sorted(entry.needs)),
            "note": entry.note,
        }
        for name, entry in OPTIMIZERS.items()
    ]


def _entry(name: str) -> Entry:
    if name not in OPTIMIZERS:
        raise InputError(_unknown("optimizer", name, OPTIMIZERS))
    return OPTIMIZERS[name]


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ";"
    return f"unknown {what} {name!r}{hint} known: {_listed(known)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _text(value: Hyper | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _typed(optimizer: str, name: str, value: Hyper | str, default: Hyper) -> Hyper:
    """`value` (a value, or its text) with the type of `default`."""
    text = _text(value).strip()
    where = f"{optimizer}: {name}={text}"
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise InputError(f"{where}: expected true or false")
        return text.lower() == "true"
    whole = isinstance(default, int)
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        expected = "a whole number" if whole else "a number"
        raise InputError(f"{where}: expected {expected}, such as {default}") from None
    limit = 1 if name in BELOW_ONE else math.inf
    if not 0 <= number < limit or (number == 0 and name in ABOVE_ZERO):
        least = "more than" if name in ABOVE_ZERO else "at least"
        raise InputError(f"{where}: must be {least} 0 and less than {limit}")
    return number
