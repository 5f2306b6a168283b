"""From a name with hyper-parameters, such as ``adamw:b1=0.8``, to an optimizer."""

import hashlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import optax
from jaxtyping import PyTree

from subliminal_jax.errors import InputError
from subliminal_jax.training.optimizers.entries import KINDS, Entry, Hyper, HyperValue
from subliminal_jax.training.optimizers.modifiers import MODIFIERS
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


Values = tuple[tuple[str, HyperValue | str], ...]


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer, the hyper-parameters that differ from its defaults, and what modifies it.

    Hashable, so that it can be static under jit. The overrides, given as values or as text, are
    sorted by name and have the types of the defaults. Raises InputError on a name or a
    hyper-parameter that is unknown, on a value that cannot be read or is out of range, and on a
    builder that does not build.

    Attributes:
      name: of `OPTIMIZERS`; with a `builder` any name, which tells it apart in results.
      hyper: pairs of a name and a value.
      builder: `builder(learning_rate, **hyper) -> optax.GradientTransformation`, for a rule that is
        not registered; it is lifted to one leaf a layer and one matrix a projection.
      modifiers: pairs of a name of `MODIFIERS` and its values; the first is the outermost.
    """

    name: str
    hyper: Values = ()
    builder: Builder | None = None
    modifiers: tuple[tuple[str, Values], ...] = ()

    def __post_init__(self) -> None:
        hyper = _read_values(self.name, self.hyper, self._parameters())
        object.__setattr__(self, "hyper", hyper)
        if self.builder is not None and hyper:
            check_builder(self.builder, self.label, {**self.entry.defaults, **dict(hyper)})
        modifiers: dict[str, Values] = {}
        for name, values in self.modifiers:
            if name not in MODIFIERS:
                raise InputError(unknown_name_message("modifier", name, MODIFIERS))
            if name in modifiers:
                raise InputError(f"{self.name}: {name} is given twice; give it once")
            modifiers[name] = _read_values(name, values, MODIFIERS[name].hyper)
        object.__setattr__(self, "modifiers", tuple(modifiers.items()))

    @classmethod
    def parse(cls, text: str) -> "OptimizerSpec":
        """The spec that `text` describes.

        Of a registered optimizer: its name, or ``name:key=value,key=value``. Of a function of a
        module that is installed or lies in the current folder: ``package.module:function``, or
        ``package.module:function,key=value``. Modifiers stand before either, and their values in
        brackets behind it: ``cautious:adamw``, ``by_factor:muon(a=0)``.
        """
        rule, brackets, inside = text.strip().partition("(")
        modifiers: dict[str, list[tuple[str, HyperValue | str]]] = {}
        while (head := [part.strip() for part in rule.split(":", 1)])[0] in MODIFIERS:
            if len(head) < 2:
                raise InputError(
                    f"optimizer {text!r}: {head[0]} modifies a rule; name one behind it, such as "
                    f"{head[0]}:adamw"
                )
            if head[0] in modifiers:
                raise InputError(f"optimizer {text!r}: {head[0]} is given twice; give it once")
            modifiers[head[0]], rule = [], head[1]
        if brackets:
            known = sorted({key for name in modifiers for key in MODIFIERS[name].hyper})
            for key, value in _read_pairs(inside.removesuffix(")"), text, "(key=value)", known):
                owner = next((n for n in modifiers if key in MODIFIERS[n].hyper), None)
                if owner is None or not inside.endswith(")"):
                    raise InputError(
                        f"cannot read ({inside!r} in optimizer {text!r}: brackets at the end hold "
                        f"values of modifiers, here among {join_names(known)}"
                    )
                modifiers[owner].append((key, value))
        spec = cls._parse_rule(rule)
        return replace(spec, modifiers=tuple((n, tuple(v)) for n, v in modifiers.items()))

    @classmethod
    def _parse_rule(cls, text: str) -> "OptimizerSpec":
        """The spec of a text without modifiers."""
        name, colon, rest = (piece.strip() for piece in text.partition(":"))
        parts = [part.strip() for part in rest.split(",")] if colon else []
        builder = None
        if name not in OPTIMIZERS and parts and re.fullmatch(r"[^\W\d]\w*", parts[0]):
            builder = import_builder(name, parts[0])
            name = f"{name}:{parts.pop(0)}"
        known = cls(name, builder=builder).entry.hyper
        form = f"{name},key=value" if builder else "name:key=value,key=value"
        pairs = _read_pairs(",".join(parts), text, form, known) if parts else ()
        return cls(name, pairs, builder)

    @classmethod
    def from_builder(cls, builder: Builder) -> "OptimizerSpec":
        """The spec of a user's builder, called by its function's name."""
        function = builder.func if isinstance(builder, partial) else builder
        return cls(getattr(function, "__name__", type(function).__name__), builder=builder)

    @property
    def label(self) -> str:
        """What tells it apart in results; where it is registered or of a module, the text that
        `parse` turns into this spec."""
        separator = "," if ":" in self.name else ":"
        rule = f"{self.name}{separator}{_join(self.hyper)}" if self.hyper else self.name
        own = [pair for _, values in self.modifiers for pair in values]
        before = "".join(f"{name}:" for name, _ in self.modifiers)
        return f"{before}{rule}({_join(own)})" if own else f"{before}{rule}"

    @property
    def entry(self) -> Entry:
        """What is known of the rule, and how far a gradient reaches with what modifies it."""
        if self.builder is not None:
            entry = get_builder_entry(self.builder, self.name)
        elif self.name in OPTIMIZERS:
            entry = OPTIMIZERS[self.name]
        else:
            raise InputError(unknown_name_message("optimizer", self.name, OPTIMIZERS))
        kinds = [entry.kind, *(MODIFIERS[name].kind for name, _ in self.modifiers)]
        return replace(entry, kind=max(kinds, key=KINDS.index))

    @property
    def identity(self) -> Any:
        """Equal for specs of one rule, whether or not they name values that are the defaults."""
        hyper = {**self.entry.defaults, **dict(self.hyper)}
        modifiers = tuple(
            (name, tuple(sorted({**MODIFIERS[name].defaults, **dict(values)}.items())))
            for name, values in self.modifiers
        )
        return self.name, self.builder, tuple(sorted(hyper.items())), modifiers

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
    for name, values in reversed(spec.modifiers):
        modifier = MODIFIERS[name]
        rule = modifier.wrap(rule, **{**modifier.defaults, **dict(values)})

    def init(params: PyTree) -> PyTree:
        return copy_arrays(rule.init(params))

    def update(grads: PyTree, state: PyTree, params: PyTree, **extra: Any) -> tuple[PyTree, PyTree]:
        if missing := entry.needs - extra.keys():
            raise TypeError(f"update of {spec.name} needs the arguments {join_names(missing)}")
        updates, new_state = rule.update(grads, state, params, **extra)
        return cast_like(updates, params), cast_like(new_state, state)

    def eval_params(params: PyTree, state: PyTree) -> PyTree:
        for _ in spec.modifiers:
            state = state.rule
        if entry.stacked:
            return entry.eval_params(params, state)
        return restack(entry.eval_params(unstack(params), state), params)

    return Optimizer(init, update, eval_params)


def _read_pairs(
    text: str, whole: str, form: str, known: Iterable[str]
) -> tuple[tuple[str, str], ...]:
    """The pairs of "key=value,key=value", a part of the optimizer `whole`."""
    pairs = []
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise InputError(
                f"cannot read {part.strip()!r} in optimizer {whole!r}; write it as {form}, with "
                f"keys among {join_names(known)}"
            )
        pairs.append((key, value))
    return tuple(pairs)


def _read_values(
    name: str, values: Values, known: Mapping[str, Hyper]
) -> tuple[tuple[str, HyperValue], ...]:
    """Sorted by name, with the types of the defaults; raises InputError as `OptimizerSpec`."""
    names = [key for key, _ in values]
    for key in names:
        if key not in known:
            raise InputError(unknown_name_message(f"hyper-parameter of {name}", key, known))
        if names.count(key) > 1:
            raise InputError(f"{name}: {key} is given twice; give it once")
    read = {key: known[key].read(value, f"{name}: {key}={_text(value)}") for key, value in values}
    return tuple(sorted(read.items()))


def describe() -> list[dict[str, Any]]:
    """One row an optimizer, of JSON's types."""
    return [
        {
            "name": name,
            "kind": entry.kind,
            "paper": entry.paper,
            "defaults": dict(entry.defaults),
            "learning rate": entry.learning_rate,
            "grid": list(entry.grid),
            "needs": sorted(entry.needs),
            "note": entry.note,
        }
        for name, entry in OPTIMIZERS.items()
    ]


def describe_modifiers() -> list[dict[str, Any]]:
    """One row a modifier, of JSON's types."""
    return [
        {
            "name": name,
            "what": " ".join((inspect.getdoc(modifier.wrap) or "").split("\n\n")[0].split()),
            "kind": modifier.kind,
            "defaults": dict(modifier.defaults),
            "paper": modifier.paper,
        }
        for name, modifier in MODIFIERS.items()
    ]


def _join(values: Iterable[tuple[str, HyperValue | str]]) -> str:
    return ",".join(f"{name}={_text(value)}" for name, value in values)


def _text(value: HyperValue | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()
