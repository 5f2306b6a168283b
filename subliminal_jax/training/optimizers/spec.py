"""From a name with hyper-parameters, such as ``adamw:b1=0.8``, to an optimizer."""

import hashlib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import optax
from jaxtyping import PyTree

from subliminal_jax.errors import InputError
from subliminal_jax.training.optimizers.entries import Entry, Hyper, HyperValue
from subliminal_jax.training.optimizers.registry import (
    OPTIMIZERS,
    Builder,
    check_builder,
    get_builder_entry,
    import_builder,
    join_names,
    unknown_name_message,
)
from subliminal_jax.training.optimizers.rules import LearningRate
from subliminal_jax.training.optimizers.stacking import (
    cast_like,
    copy_arrays,
    lift,
    restack,
    unstack,
)


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
    """An optimizer and the hyper-parameters that differ from its defaults.

    Hashable, so that it can be static under jit. The overrides, given as values or as text, are
    sorted by name and have the types of the defaults. Raises InputError on a name or a
    hyper-parameter that is unknown, on a value that cannot be read or is out of range, and on a
    builder that does not build.

    Attributes:
      name: of `OPTIMIZERS`; with a `builder` any name, which tells it apart in results.
      hyper: pairs of a name and a value.
      builder: `builder(learning_rate, **hyper) -> optax.GradientTransformation`, for a rule that is
        not registered; it is lifted to one leaf a layer and one matrix a projection.
    """

    name: str
    hyper: tuple[tuple[str, HyperValue | str], ...] = ()
    builder: Builder | None = None

    def __post_init__(self) -> None:
        known = self._parameters()
        names = [name for name, _ in self.hyper]
        for name in names:
            if name not in known:
                raise InputError(
                    unknown_name_message(f"hyper-parameter of {self.name}", name, known)
                )
            if names.count(name) > 1:
                raise InputError(f"{self.name}: {name} is given twice; give it once")
        values = {
            name: known[name].read(value, f"{self.name}: {name}={_text(value)}")
            for name, value in self.hyper
        }
        object.__setattr__(self, "hyper", tuple(sorted(values.items())))
        if self.builder is not None and values:
            check_builder(self.builder, self.label, {**self.entry.defaults, **values})

    @classmethod
    def parse(cls, text: str) -> "OptimizerSpec":
        """The spec that `text` describes.

        Of a registered optimizer: its name, or ``name:key=value,key=value``. Of a function of a
        module that is installed or lies in the current folder: ``package.module:function``, or
        ``package.module:function,key=value``.
        """
        name, colon, rest = (piece.strip() for piece in text.partition(":"))
        parts = [part.strip() for part in rest.split(",")] if colon else []
        builder = None
        if name not in OPTIMIZERS and parts and re.fullmatch(r"[^\W\d]\w*", parts[0]):
            builder = import_builder(name, parts[0])
            name = f"{name}:{parts.pop(0)}"
        spec = cls(name, builder=builder)
        pairs: list[tuple[str, HyperValue | str]] = []
        for part in parts:
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if not (key and equals and value):
                form = f"{name},key=value" if builder else "name:key=value,key=value"
                raise InputError(
                    f"cannot read {part!r} in optimizer {text!r}; write it as {form}, with keys "
                    f"among {join_names(spec.entry.hyper)}"
                )
            pairs.append((key, value))
        return cls(name, tuple(pairs), builder)

    @classmethod
    def from_builder(cls, builder: Builder) -> "OptimizerSpec":
        """The spec of a user's builder, called by its function's name."""
        function = builder.func if isinstance(builder, partial) else builder
        return cls(getattr(function, "__name__", type(function).__name__), builder=builder)

    @property
    def label(self) -> str:
        """What tells it apart in results; where it is registered or of a module, the text that
        `parse` turns into this spec."""
        pairs = ",".join(f"{name}={_text(value)}" for name, value in self.hyper)
        separator = "," if ":" in self.name else ":"
        return f"{self.name}{separator}{pairs}" if pairs else self.name

    @property
    def entry(self) -> Entry:
        """What is known of the optimizer."""
        if self.builder is not None:
            return get_builder_entry(self.builder, self.name)
        if self.name not in OPTIMIZERS:
            raise InputError(unknown_name_message("optimizer", self.name, OPTIMIZERS))
        return OPTIMIZERS[self.name]

    @property
    def identity(self) -> Any:
        """Equal for specs of one rule, whether or not they name values that are the defaults."""
        hyper = {**self.entry.defaults, **dict(self.hyper)}
        return self.name, self.builder, tuple(sorted(hyper.items()))

    def _parameters(self) -> Mapping[str, Hyper]:
        hyper = self.entry.hyper
        return {name: x for name, x in hyper.items() if isinstance(x, Hyper)}


def make_spec(optimizer: OptimizerSpec | Builder | str) -> OptimizerSpec:
    """The spec of a text (`OptimizerSpec.parse`), of a builder, or the spec itself."""
    if isinstance(optimizer, OptimizerSpec):
        return optimizer
    if isinstance(optimizer, str):
        return OptimizerSpec.parse(optimizer)
    return OptimizerSpec.from_builder(optimizer)


def digest_sources(optimizers: Sequence[str]) -> dict[str, str]:
    """The SHA-256 (its first 16 digits) of the file that defines each optimizer of a user's module,
    by `package.module:function`; none for registered ones and for names that are no optimizers."""
    digests = {}
    for text in optimizers:
        try:
            spec = OptimizerSpec.parse(text)
            file = inspect.getsourcefile(inspect.unwrap(spec.builder)) if spec.builder else None
        except (InputError, TypeError):  # an arm of an experiment, or a builder without a file
            continue
        if file is not None:
            digests[spec.name] = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
    return digests


def make_optimizer(
    optimizer: OptimizerSpec | Builder | str,
    learning_rate: LearningRate,
    *,
    total_steps: int | None = None,
) -> Optimizer:
    """The optimizer of a spec, its text, or a builder, at `learning_rate`.

    The rate is a float, a scalar array (also a traced one, so this may be called inside jit and
    vmap) or a schedule ``count -> rate`` with the count from 0, which may close over a traced
    scalar. `total_steps` is read by the optimizers that have a schedule of their own (ademamix).
    Raises InputError on a negative or non-finite float.
    """
    spec = make_spec(optimizer)
    entry = spec.entry
    if isinstance(learning_rate, float | int) and not 0 <= learning_rate < math.inf:
        raise InputError(
            f"learning rate {learning_rate} of {spec.label}: give a finite number that is not "
            f"negative, such as {(*entry.grid, 1e-3)[0]}"
        )
    hyper: dict[str, Any] = {**entry.defaults, **dict(spec.hyper)}
    if entry.wants_total_steps:
        hyper["total_steps"] = total_steps
    rule = optax.with_extra_args_support(entry.build(learning_rate, **hyper))
    if not entry.stacked:
        rule = lift(rule)

    def init(params: PyTree) -> PyTree:
        return copy_arrays(rule.init(params))

    def update(grads: PyTree, state: PyTree, params: PyTree, **extra: Any) -> tuple[PyTree, PyTree]:
        if missing := entry.needs - extra.keys():
            raise TypeError(f"update of {spec.name} needs the arguments {join_names(missing)}")
        updates, new_state = rule.update(grads, state, params, **extra)
        return cast_like(updates, params), cast_like(new_state, state)

    def eval_params(params: PyTree, state: PyTree) -> PyTree:
        if entry.stacked:
            return entry.eval_params(params, state)
        return restack(entry.eval_params(unstack(params), state), params)

    return Optimizer(init, update, eval_params)


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


def _text(value: HyperValue | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()
