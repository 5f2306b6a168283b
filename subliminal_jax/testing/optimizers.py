"""What every optimizer has to do, whatever its rule.

All checks train one small tree, with stacked matrices, LoRA factors, norm gains and a table, on a
quadratic with noise. `optimizer` is anything that `make_spec` takes: a spec, a text such as
"adamw:b1=0.8" or "my_module:my_rule", or a builder. `rates` are learning rates that suit parameters
of a tenth in size; without them they are the default grid of a registered optimizer.
"""

import tempfile
from collections.abc import Sequence
from functools import cache, lru_cache, partial, reduce
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from subliminal_jax.errors import InputError
from subliminal_jax.training.checkpoints import Checkpoints
from subliminal_jax.training.optimizers import Builder, OptimizerSpec, make_optimizer, make_spec
from subliminal_jax.training.optimizers.entries import KINDS, Kind
from subliminal_jax.training.optimizers.stacking import restack, unstack

LAYERS, STEPS, TOTAL_STEPS = 2, 4, 10
LEAST_MOVEMENT = 1e-3  # of the parameters' norm: below it roundings are compared
PROGRESS = 0.7  # of the objective at the start

AnyOptimizer = OptimizerSpec | Builder | str


def check_optimizer(optimizer: AnyOptimizer, rates: Sequence[float] = ()) -> None:
    """Make all of this module's checks of an optimizer, cheapest first.

    Raises AssertionError at the first that fails, and InputError as `make_spec` does and where the
    optimizer has no default rates and none are given.
    """
    for check in (
        check_zero_gradients,
        check_compilation,
        check_progress,
        check_resume,
        check_stacking,
        check_schedules,
    ):
        check(optimizer, rates)


def check_stacking(optimizer: AnyOptimizer, rates: Sequence[float] = ()) -> None:
    """Stacked layers are trained like layers in leaves of their own: a norm, a row's mean or a
    singular vector is one of a layer and of a projection."""
    spec, rates = _read(optimizer, rates)
    rate = _middle(rates)
    split = unstack(make_parameters())
    state = jax.jit(_optimizer(spec, rate).init)(split)

    @jax.jit
    def step(split: PyTree, state: PyTree, gradients: PyTree) -> tuple[PyTree, PyTree]:
        def objective(tree: PyTree) -> Array:
            return quadratic(restack(tree, make_parameters()), coupling=0.0)

        updates, state = _optimizer(spec, rate).update(
            gradients, state, split, value=0.0, obj_fn=objective
        )
        return optax.apply_updates(split, updates), state

    params, stacked_state = _start(spec)
    for t in range(STEPS):
        gradients = _noisy_gradient(params, t)
        params, stacked_state = _step(spec)(params, stacked_state, gradients, rate)
        split, state = step(split, state, unstack(gradients))
        assert_same_point(restack(split, params), params, f"{spec.label}: stacked layers")
    if not float(_way(params)) > LEAST_MOVEMENT * float(optax.tree.norm(make_parameters())):
        raise AssertionError(f"{spec.label}: hardly moves in {STEPS} steps at the rate {rate:g}")


def check_schedules(optimizer: AnyOptimizer, rates: Sequence[float] = ()) -> None:
    """Students mapped over learning rates are each what it is alone, at a constant rate and with a
    schedule that closes over a traced one and counts from 0."""
    spec, rates = _read(optimizer, rates)
    gradients = [make_gradients(t) for t in range(3)]
    factors = np.array([0.5, 1.0, 0.25], np.float32)

    def train(rate: Any) -> PyTree:
        rule, params = _optimizer(spec, rate), make_parameters()

        def step(point: tuple[PyTree, PyTree], g: PyTree) -> tuple[tuple[PyTree, PyTree], None]:
            params, state = point
            updates, state = rule.update(
                g, state, params, value=0.0, obj_fn=lambda p: quadratic(p, coupling=0.0)
            )
            return (optax.apply_updates(params, updates), state), None

        stacked = jax.tree.map(lambda *x: jnp.stack(x), *gradients)
        return jax.lax.scan(step, (params, rule.init(params)), stacked)[0][0]

    def student(rate: Float[Array, ""]) -> list[PyTree]:
        return [train(rate), train(lambda count: rate * jnp.asarray(factors)[count])]

    some = list(rates[1:4] if len(rates) > 3 else rates)
    together = jax.jit(jax.vmap(student))(jnp.asarray(some))
    for i, rate in enumerate(some):
        for end, scale in zip(together, (np.ones_like(factors), factors), strict=True):
            params, state = _start(spec)
            for g, factor in zip(gradients, scale, strict=True):
                params, state = _step(spec)(params, state, g, float(rate * factor))
            what = "a schedule" if scale is factors else "a constant rate"
            one = jax.tree.map(lambda x, i=i: np.asarray(x)[i], end)
            assert_same_point(one, params, f"{spec.label}: mapped over rates, {what}, {rate:g}")


def check_resume(optimizer: AnyOptimizer, rates: Sequence[float] = ()) -> None:
    """Trained on from a state that was written to a checkpoint, it ends bit for bit as if it had
    not been."""
    spec, rates = _read(optimizer, rates)
    rate = _middle(rates)

    def train(point: tuple[PyTree, PyTree], steps: range) -> tuple[PyTree, PyTree]:
        for t in steps:
            point = _step(spec)(*point, make_gradients(t), rate)
        return point

    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(folder)
        checkpoints.save(2, train(_start(spec), range(2)))
        restored = checkpoints.restore(_start(spec))
        checkpoints.close()
    resumed, whole = train(restored, range(2, STEPS)), train(_start(spec), range(STEPS))
    for a, b in zip(*map(jax.tree.leaves, (resumed, whole)), strict=True):
        if not np.array_equal(a, b, equal_nan=True):
            raise AssertionError(f"{spec.label}: a resumed run ends elsewhere")


def check_zero_gradients(optimizer: AnyOptimizer, rates: Sequence[float] = ()) -> None:
    """Zero parameters and gradients, LoRA's first step (whose `a` alone is not zero, and has no
    gradient) and a rate of zero leave everything finite."""
    spec, rates = _read(optimizer, rates)
    zeros = jax.tree.map(jnp.zeros_like, make_parameters())
    start = jax.tree.map(jnp.zeros_like, zeros)
    start["layers"]["up"]["a"] = make_parameters()["layers"]["up"]["a"]
    params, state = _start(spec, start)
    for t in range(4):
        gradients = zeros if t < 2 else make_gradients(t)
        gradients["layers"]["up"]["a"] = jnp.zeros_like(gradients["layers"]["up"]["a"])
        rate = 0.0 if t in (0, 3) else _middle(rates)
        params, state = _step(spec)(params, state, gradients, rate)
        if not all(np.isfinite(x).all() for x in jax.tree.leaves((params, state))):
            raise AssertionError(f"{spec.label}: not finite after step {t + 1}, from zero")
    if not np.any(params["layers"]["up"]["b"]):
        raise AssertionError(f"{spec.label}: never leaves zero")


def check_progress(optimizer: AnyOptimizer, rates: Sequence[float] = ()) -> None:
    """At the middle of its rates it reduces a noisy quadratic within 200 steps."""
    spec, rates = _read(optimizer, rates)
    params, state = _start(spec)
    for t in range(200):
        params, state = _step(spec)(params, state, _noisy_gradient(params, t, 0.02), _middle(rates))
    end = _optimizer(spec, 0.1).eval_params(params, state)
    share = float(_objective(end)) / float(_objective(make_parameters()))
    if not share < PROGRESS:
        raise AssertionError(
            f"{spec.label}: 200 steps at the rate {_middle(rates):g} leave {share:.2f} of the "
            f"objective, more than {PROGRESS:g}"
        )


def check_compilation(optimizer: AnyOptimizer, rates: Sequence[float] = ()) -> None:
    """One program serves every step and rate, and all that it is given is donated and used."""
    spec, rates = _read(optimizer, rates)
    point = _start(spec)
    for t in range(STEPS):
        gradients = make_gradients(t)
        before, point = point, _step(spec)(*point, gradients, rates[t % len(rates)])
        if not all(x.is_deleted() for x in jax.tree.leaves(before[0])):
            raise AssertionError(f"{spec.label}: the parameters' memory is not used again")
        if any(x.is_deleted() for x in jax.tree.leaves((point, gradients))):
            raise AssertionError(f"{spec.label}: its state shares memory with the parameters")
    if (traces := _step(spec).traces) != 1:
        raise AssertionError(f"{spec.label}: its step is compiled {traces} times, not once")
    if any(x.weak_type for x in jax.tree.leaves(point[1])):
        raise AssertionError(f"{spec.label}: its state has a weak type")


def measure_reach(optimizer: AnyOptimizer, rates: Sequence[float] = ()) -> Kind:
    """How far the gradient of one coordinate reaches into the updates: that coordinate only
    ("elementwise"), its matrix within its layer ("per_leaf"), the LoRA pair of its layer
    ("per_pair"), or the whole tree ("global"). The farthest of a whole matrix and of a factor."""
    paths = (("layers", "q"), ("layers", "up", "a"))
    found = [_measure_reach_from(path, *_read(optimizer, rates)) for path in paths]
    return max(found, key=KINDS.index)


def _measure_reach_from(path: tuple[str, ...], spec: OptimizerSpec, rates: Sequence[float]) -> Kind:
    """The reach of a coordinate of the second layer's leaf at `path`."""

    def find(tree: PyTree) -> PyTree:
        return reduce(lambda part, name: part[name], path, tree)

    def set_coordinate(gradients: PyTree, value: float) -> PyTree:
        *place, last = path
        parent = reduce(lambda part, name: part[name], place, gradients)
        parent[last] = parent[last].at[1, 2, 1].set(value)
        return gradients

    ends = []
    for value in (0.3, -30.0):  # another sign for rules of signs, another size for norms
        params, state = _start(spec)
        values = [0.3, value, *[0.3] * 12]
        for seed, one in zip([7, 0, *[1] * 12], values, strict=True):
            gradients = set_coordinate(make_gradients(seed), one)
            params, state = _step(spec)(params, state, gradients, _middle(rates))
        ends.append(params)
    moved = jax.tree.map(lambda a, b: np.asarray(a != b), *ends)
    if not find(moved)[1, 2, 1]:
        raise AssertionError(f"{spec.label}: a hundredfold gradient changes nothing")
    in_leaf = int(find(moved)[1].sum())
    in_pair = sum(int(x[1].sum()) for x in jax.tree.leaves(moved["layers"][path[1]]))
    everywhere = sum(int(x.sum()) for x in jax.tree.leaves(moved))
    if everywhere > in_pair:
        return "global"
    if in_pair > in_leaf:
        return "per_pair"
    return "per_leaf" if in_leaf > 1 else "elementwise"


# -- the tree, the objective and one step ----------------------------------------------------------


def make_parameters() -> PyTree:
    """Parameters around 0.1 in size, LoRA's b at zero; small enough to compile fast."""
    params = jax.tree.map(lambda x: x / 3, _draw(0))
    params["layers"]["up"]["b"] = jnp.zeros_like(params["layers"]["up"]["b"])
    return params


def make_gradients(seed: int, scale: float = 0.3) -> PyTree:
    """Independent normal gradients of the standard deviation `scale`."""
    return jax.tree.map(lambda x: (scale / 0.3) * x, _draw(seed + 1))


def quadratic(params: PyTree, coupling: float = 0.02) -> Float[Array, ""]:
    """An objective whose Hessian couples the coordinates of a leaf; its minimum is off 0."""
    total = jnp.zeros(())
    for i, x in enumerate(jax.tree.leaves(params)):
        curvature = 0.3 + jnp.linspace(0, 1, x.size).reshape(x.shape)
        error = x - 0.1 * jnp.cos(i + jnp.arange(x.size)).reshape(x.shape)
        total += 0.5 * jnp.sum(curvature * error**2) + coupling * jnp.sum(error) ** 2
    return total


def assert_same_point(actual: PyTree, expected: PyTree, what: str, rtol: float = 1e-5) -> None:
    """Equality of two trees, leaf by leaf, in units of the leaf's way from `make_parameters`."""
    named = jax.tree_util.tree_leaves_with_path(expected)
    start = dict(jax.tree_util.tree_leaves_with_path(make_parameters()))
    for a, (path, e) in zip(jax.tree.leaves(actual), named, strict=True):
        way = float(np.abs(np.asarray(e) - start[path]).max())
        difference = float(np.abs(np.asarray(a) - np.asarray(e)).max())
        if not difference <= rtol * way + 1e-7:
            raise AssertionError(
                f"{what}: {jax.tree_util.keystr(path)} is {difference:.2g} off, where it has moved "
                f"by {way:.2g}"
            )


@cache
def _draw(seed: int) -> PyTree:
    shapes = {
        "embed": (7, 4),
        "layers": {
            "q": (LAYERS, 4, 6),
            "attn_norm": (LAYERS, 4),
            "up": {"a": (LAYERS, 4, 2), "b": (LAYERS, 2, 5)},
        },
        "final_norm": (4,),
    }
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    with jax.ensure_compile_time_eval():  # also where a function that is traced asks first
        return jax.tree.unflatten(structure, _draw_leaves(seed, tuple(leaves)))


@partial(jax.jit, static_argnums=1)
def _draw_leaves(seed: Int[Array, ""], shapes: tuple[tuple[int, ...], ...]) -> list[Array]:
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return [0.3 * jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)]


class _Step:
    """(params, state, gradients, rate) -> (params, state), compiled, with donated inputs.

    `traces` counts how often it was traced, and so compiled.
    """

    def __init__(self, spec: OptimizerSpec):
        self.spec, self.traces = spec, 0
        self.init = jax.jit(_optimizer(spec, 0.1).init)
        self._run = jax.jit(self._update, donate_argnums=(0, 1))

    def __call__(
        self, params: PyTree, state: PyTree, gradients: PyTree, rate: float
    ) -> tuple[PyTree, PyTree]:
        return self._run(params, state, gradients, jnp.float32(rate))

    def _update(
        self, params: PyTree, state: PyTree, gradients: PyTree, rate: Array
    ) -> tuple[PyTree, PyTree]:
        self.traces += 1
        # On a diagonal, the random signs of a Hessian's estimate do not matter.
        updates, state = _optimizer(self.spec, rate).update(
            gradients, state, params, value=0.0, obj_fn=lambda p: quadratic(p, coupling=0.0)
        )
        return optax.apply_updates(params, updates), state


@lru_cache(maxsize=64)
def _step(spec: OptimizerSpec) -> _Step:
    return _Step(spec)


def _start(spec: OptimizerSpec, params: PyTree | None = None) -> tuple[PyTree, PyTree]:
    """(params, state), whose memory may be donated."""
    params = jax.tree.map(jnp.copy, make_parameters() if params is None else params)
    return params, _step(spec).init(params)


_objective = jax.jit(quadratic)


@jax.jit
def _way(params: PyTree) -> Float[Array, ""]:
    return optax.tree.norm(optax.tree.sub(params, make_parameters()))


@jax.jit
def _add_gradient(params: PyTree, noise: PyTree, scale: Float[Array, ""]) -> PyTree:
    return jax.tree.map(lambda g, x: g + scale * x, jax.grad(quadratic)(params), noise)


def _noisy_gradient(params: PyTree, seed: int, scale: float = 0.3) -> PyTree:
    """That of `quadratic`, and normal noise of the standard deviation `scale`."""
    return _add_gradient(params, make_gradients(seed), np.float32(scale / 0.3))


def _optimizer(spec: OptimizerSpec, rate: Any) -> Any:
    return make_optimizer(spec, rate, total_steps=TOTAL_STEPS)


def _read(optimizer: AnyOptimizer, rates: Sequence[float]) -> tuple[OptimizerSpec, list[float]]:
    spec = make_spec(optimizer)
    rates = [float(rate) for rate in rates or spec.entry.grid]
    if not rates or any(b <= a for a, b in pairwise(rates)) or not 0 < rates[0] <= rates[-1] < 1e9:
        raise InputError(
            f"rates of {spec.label}: {rates or 'none'}; give positive ones in ascending order, "
            "such as rates=[1e-4, 1e-3, 1e-2]"
        )
    return spec, rates


def _middle(rates: Sequence[float]) -> float:
    return rates[len(rates) // 2]
