"""Many students in one compiled program over one frozen base.

A student is a point (optimizer, learning rate, seed, data set, rank). Their trainable trees carry
a leading student axis; one mapped forward and backward pass serves all of them, then the students
of each optimizer are updated together, every one with its own rate. A student whose loss is no
longer finite is frozen where it was and marked; it does not affect the others.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.memory import check_fits, device_bytes
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.mesh import gather_to_host, replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training import placement
from subliminal_jax.training.adapters import (
    Adapter,
    LoRA,
    Trainable,
    attach,
    init_trainable,
    pad_rank,
    unpad_rank,
)
from subliminal_jax.training.arms import (
    NO_ROOM,
    Arm,
    Group,
    Room,
    Span,
    TrainConfig,
    check_arms,
    group_arms,
)
from subliminal_jax.training.batch import Batch, max_targets
from subliminal_jax.training.forms import TREE, Kept, choose_form
from subliminal_jax.training.guards import NO_GUARD, Guard, Model, check_guard
from subliminal_jax.training.layout import Layout
from subliminal_jax.training.objectives import CrossEntropy, Objective, Selection
from subliminal_jax.training.optimizers import OptimizerSpec, make_optimizer
from subliminal_jax.training.slots import Inputs, fill_slots
from subliminal_jax.training.student_loss import Source, StudentLoss, make_source
from subliminal_jax.training.student_view import StudentMeasure, StudentView

SWEEP_METRICS = {"batch_loss", "gradient_norm", "diverged"}  # logged without any measure


class _Student(NamedTuple):
    """One student at one step."""

    rate: Float[Array, "*n"]
    scale: Float[Array, "*n"]
    selection: Selection


class State(NamedTuple):
    """Everything that a run needs to go on: a pytree of arrays, one entry a group. Weights are kept
    in the sweep's form (`training.forms`), as are the optimizer states of rules that take it."""

    trainables: tuple[Kept, ...]
    optimizer_states: tuple[Any, ...]
    diverged_at: Int[Array, " students"]  # the step (from 1), 0 while the student is sound
    step: Int[Array, ""]


@jax.jit
def _select(tree: Any, places: Int[Array, " selected"]) -> Any:
    """These entries of each leaf's leading axis, in one program for all leaves."""
    return jax.tree.map(lambda x: x[places], tree)


class Sweep:
    """The compiled programs of a sweep: `init`, `advance` by `log_every` steps, `evaluate`.

    Args:
      base: the frozen parameters.
      arms: the students; results come in this order.
      data: for each name that an arm uses, its rows [rows, time] (of a preference: [rows, 2,
        time]); all of the same shape.
      objective: what they minimise.
      measures: diagnostics of one student at logged steps, mapped over students inside the
        compiled program; their arrays are arguments of it.
      guard: the guard of training; evaluation and measures are without it.
      room: the waves that `replace_arms` is to serve with the same programs.

    Inside the programs "students" are slots, of which those without an arm are idle.
    `padding_share` is the share of the token slots of training that hold no token.

    Raises InputError for an unknown data name, a batch larger than the data, data that do not fit
    each other or the objective (`make_source`), or a guard that does not fit the data sets or an
    optimizer.
    """

    def __init__(
        self,
        base: Params,
        cfg: ModelConfig,
        arms: Sequence[Arm],
        data: dict[str, Batch],
        config: TrainConfig,
        *,
        objective: Objective = CrossEntropy(),
        measures: Sequence[StudentMeasure] = (),
        guard: Guard = NO_GUARD,
        room: Room = NO_ROOM,
    ):
        self.cfg, self.arms, self.config, self.room = cfg, tuple(arms), config, room
        self.names = sorted(data)
        check_arms(self.arms, self.names, config)
        source = make_source(
            base,
            data,
            self.names,
            cfg.vocab,
            objective,
            guard=guard,
            batch_size=config.batch_size,
        )
        check_guard(guard, self.names, [arm.optimizer for arm in self.arms + room.arms])
        self.groups = group_arms(self.arms, config.adapter, room.arms)
        self.slots = sum(g.slots for g in self.groups)
        placement.check_rows(self.slots, config.batch_size // config.accumulation)
        self.rank = max((g.rank or 0 for g in self.groups), default=0)
        self.form = choose_form(self._shapes(base), self.groups, guard)
        self.loss = StudentLoss(cfg, self._adapter, config.remat, config.accumulation)
        self._place = partial(placement.place_students, cfg=cfg, adapter=self._adapter)
        self._fill_slots(source, tuple(measures))
        self.fits_memory = False  # known once `training.memory_plan` has seen the program
        self.set_at_once(config.students_at_once)

    def set_at_once(self, students: int | None) -> None:
        """How many students share a pass (`TrainConfig.students_at_once`), for programs that are
        compiled from now on."""
        self._map = partial(placement.map_students, at_once=students)
        self._init = jax.jit(self._init_fn)
        self._advance: Any = jax.jit(self._advance_fn, donate_argnums=0)
        self._evaluate = jax.jit(self._evaluate_fn, static_argnames="max_targets")
        self._eval_params = jax.jit(self._replicate_eval_params_fn)
        self._eval_student = jax.jit(self._eval_student_fn, static_argnums=0)

    def replace_arms(self, arms: Sequence[Arm], config: TrainConfig | None = None) -> "Sweep":
        """The same compiled programs for other rates, seeds and data sets; with `config` also for
        another number of steps and another interval of logging.

        Raises InputError unless the arms have the same optimizers and ranks, as often as here or as
        there is room for, for more steps than there is room for, and for a `config` that differs in
        anything else.
        """
        other = copy.copy(self)
        other.arms = tuple(arms)
        if config is not None:
            self._check_config(config)
            other.config = config
        check_arms(other.arms, self.names, other.config)
        other.groups = group_arms(other.arms, self.config.adapter, self.room.arms)
        shapes = [[(g.spec, g.rank, g.slots) for g in s.groups] for s in (self, other)]
        if shapes[0] != shapes[1]:
            raise InputError(
                "replace_arms needs the same optimizers and ranks, as often and in order"
            )
        inputs = self._inputs
        other._fill_slots(inputs.source, inputs.measures, inputs.layout)
        return other

    @property
    def is_measured(self) -> bool:
        """Whether students are measured at logged steps."""
        return bool(self._inputs.measures)

    # -- the three programs ------------------------------------------------------------------

    def init(self) -> State:
        """The state before the first step; a student's start depends on its seed and rank alone.

        Raises InputError where the students' weights and optimizer states do not fit the memory.
        """
        leaves = jax.tree.leaves(jax.eval_shape(self._init, self._inputs))
        check_fits(
            f"the state of {self.slots} students (weights and optimizer states)",
            sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
            device_bytes(),
            "train fewer at once, with a lower rank, or with an optimizer that keeps less",
        )
        return self._init(self._inputs)

    def compile(self, state: State) -> jax.stages.Compiled:
        """Compile the program of `advance` ahead of the first step from such a state, and use it
        from then on. What is returned tells the memory that it needs."""
        of_state, of_inputs = jax.tree.structure(state), jax.tree.structure(self._inputs)

        # Of leaves alone: to describe its arguments JAX fills their dataclasses with descriptions.
        def _advance_fn(state: list[Array], inputs: list[Array], steps: Array) -> Any:
            trees = jax.tree.unflatten(of_state, state), jax.tree.unflatten(of_inputs, inputs)
            return self._advance_fn(*trees, steps)

        jitted = jax.jit(_advance_fn, donate_argnums=0)
        leaves = map(jax.tree.leaves, (state, self._inputs))
        program = jitted.lower(*leaves, np.int32(0)).compile()
        self._advance = lambda state, inputs, steps: program(
            jax.tree.leaves(state), jax.tree.leaves(inputs), steps
        )
        return program

    def advance(self, state: State) -> tuple[State, dict[str, Array]]:
        """`log_every` steps. The state given is consumed. Metrics have a leading student axis,
        in the order of the arms; `batch_loss` is the mean over these steps, `gradient_norm` the
        last step's before clipping."""
        state, metrics = self._advance(state, self._inputs, np.int32(self.config.log_every))
        return state, self._to_arm_order(metrics)

    def measure(self, state: State) -> tuple[State, dict[str, Array]]:
        """The metrics of `advance` without a step, by the same program: before the first step there
        is no loss of a batch (NaN), and gradients and updates are zero."""
        state, metrics = self._advance(state, self._inputs, np.int32(0))
        return state, self._to_arm_order(metrics)

    def evaluate(
        self,
        state: State,
        heldout: Mapping[str, Batch],
        objective: Objective = CrossEntropy(),
    ) -> Float[Array, " students"]:
        """The loss of each student (at its evaluation parameters) on held-out rows of its data.

        `objective` may be another than that of training; what it holds is of the rows of `heldout`.
        Raises InputError as the data sets of a sweep do.
        """
        base, vocab = self._inputs.source.base, self.cfg.vocab
        source = make_source(base, heldout, self.names, vocab, objective)
        losses = self._evaluate(state, self._inputs, source, max_targets=max_targets(source.data))
        return self._to_arm_order(losses)

    def diverged_at(self, state: State) -> np.ndarray:
        """The step (from 1) at which each arm's loss or weights became non-finite; 0: never."""
        return gather_to_host(state.diverged_at)[self._places]

    def students(self, state: State) -> Trainable:
        """Every student's evaluation parameters, stacked in the order of the arms."""
        return self._to_arm_order(self._eval_params(state))

    def student(self, state: State, arm: int) -> Trainable:
        """The evaluation parameters of one arm on the host, of its own rank. The others' are not
        copied, so this takes the memory of a single student."""
        place = int(self._places[arm])
        parts = zip(self._parts(), state.trainables, state.optimizer_states, strict=True)
        for (g, part), trainables, states in parts:
            if part.start <= place < part.stop:
                tree = self._eval_student(g.spec, trainables, states, np.int32(place - part.start))
                return jax.tree.map(gather_to_host, tree)
        raise IndexError(f"arm {arm} of {len(self.arms)}")

    def map_students(
        self, f: Callable[[Any, Params, Steering | None], Any]
    ) -> Callable[[State, Any], Any]:
        """Compile `f(inputs, params, steering)` over all students; results in the arms' order."""

        @jax.jit
        def run(state: State, inputs: Inputs, argument: Any) -> Any:
            def one(shared: tuple[Inputs, Any], x: tuple[Kept, Array]) -> Any:
                return f(shared[1], *self._model(shared[0], x[1])(self.form.unpack(x[0])))

            x = (self._eval_params_fn(state), self._scales)
            return replicate(self._map(one, (inputs, argument), x, busy=self._busy(inputs)))

        return lambda state, argument: self._to_arm_order(run(state, self._inputs, argument))

    def _check_config(self, config: TrainConfig) -> None:
        """Raises InputError for a plan that these programs do not train by."""
        own, room = self.config, self._inputs.orders.shape[1]
        if replace(config, steps=own.steps, log_every=own.log_every) != own:
            raise InputError("replace_arms needs the same plan but for steps and log_every")
        if config.steps > room:
            raise InputError(f"replace_arms has room for {room} steps, not for {config.steps}")
        for g in self.groups:
            if config.steps != own.steps and g.spec.entry.wants_total_steps:
                raise InputError(f"replace_arms: {g.spec.label} needs {own.steps} steps as before")

    # -- inside the programs -----------------------------------------------------------------

    def _fill_slots(
        self, source: Source, measures: tuple[StudentMeasure, ...], at_least: Layout | None = None
    ) -> None:
        """Set the arrays of the arms. `at_least` is an earlier layout whose programs are to
        be used again."""
        self._inputs, self._places, self.padding_share = fill_slots(
            self.arms,
            self.groups,
            self.names,
            source,
            self.cfg,
            self.config,
            room=self.room,
            measures=measures,
            at_least=at_least,
        )

    def _to_arm_order(self, tree: Any) -> Any:
        """Reorder leaves [students, ...] from the order of the groups to that of the arms."""
        return _select(tree, self._places)

    @property
    def _adapter(self) -> Adapter:
        adapter = self.config.adapter
        return replace(adapter, rank=self.rank) if isinstance(adapter, LoRA) else adapter

    @property
    def _scales(self) -> Float[Array, " students"]:
        adapter = self.config.adapter
        if not isinstance(adapter, LoRA):
            return jnp.ones((self.slots,))
        ranks = [g.rank or adapter.rank for g in self.groups for _ in range(g.slots)]
        return jnp.asarray([adapter.scale_of(rank) for rank in ranks], jnp.float32)

    def _busy(self, inputs: Inputs) -> Bool[Array, " students"] | None:
        """Which slots hold a student; None where all programs of the sweep have no idle ones."""
        return inputs.busy if self.room.arms else None

    def _model(self, inputs: Inputs, scale: Array) -> Model:
        """A function from a student's trainable tree to its (params, steering)."""
        return lambda tree: attach(inputs.source.base, tree, self.cfg, self._adapter, scale)

    def _shapes(self, base: Params) -> Trainable:
        """The shapes of one student's tree."""
        start = partial(init_trainable, cfg=self.cfg, adapter=self._adapter)
        return jax.eval_shape(start, jax.random.key(0), base)

    def _init_fn(self, inputs: Inputs) -> State:
        weights, students = self._draw(inputs), []
        for g, part in self._parts():

            def init_state(rate: Array, kept: Kept, spec: OptimizerSpec = g.spec) -> Any:
                optimizer = self._optimizer(spec, rate, inputs.span)
                return optimizer.init(self.form.show(spec, kept))

            kept = weights[part.start]
            states = jax.vmap(init_state)(inputs.rates[part], kept)
            students.append(self._place(kept, states, total_students=self.slots))
        trainables, all_states = zip(*students, strict=True)
        never = jnp.zeros((self.slots,), jnp.int32)
        return State(trainables, all_states, never, jnp.zeros((), jnp.int32))

    def _draw(self, inputs: Inputs) -> dict[int, Kept]:
        """The weights at the start as they are kept, of each group by its first slot. Groups of one
        rank are drawn together, since every draw is a long piece of the program."""
        ranks: dict[int | None, list[slice]] = {}
        for g, part in self._parts():
            ranks.setdefault(g.rank, []).append(part)
        weights = {}
        for rank, parts in ranks.items():
            adapter = self.config.adapter
            if isinstance(adapter, LoRA) and rank is not None:
                adapter = replace(adapter, rank=rank)

            def start(seed: Array, adapter: Adapter = adapter) -> Kept:
                base, key = inputs.source.base, jax.random.key(seed)
                tree = init_trainable(key, base, self.cfg, adapter)
                return self.form.pack(tree)

            drawn = jax.vmap(start)(jnp.concatenate([inputs.seeds[part] for part in parts]))
            first = 0
            for part in parts:
                drawn_here = slice(first, first + part.stop - part.start)
                weights[part.start] = jax.tree.map(lambda x, at=drawn_here: x[at], drawn)
                first = drawn_here.stop
        return weights

    def _advance_fn(
        self, state: State, inputs: Inputs, steps: Int[Array, ""]
    ) -> tuple[State, dict[str, Array]]:
        like = self._join(state.trainables)
        keep = bool(inputs.measures)
        blank = jax.tree.map(jnp.zeros_like, like)
        last: tuple = (blank, blank, like) if keep else ()

        def body(_, carry):
            state, _, total, _ = carry
            state, loss, norm, grads, updates, before = self._step(state, inputs)
            return state, (grads, updates, before) if keep else (), total + loss, norm

        zeros = jnp.zeros((self.slots,), jnp.float32)
        state, last, total, norm = jax.lax.fori_loop(0, steps, body, (state, last, zeros, zeros))
        sound = state.diverged_at == 0
        metrics = {
            "batch_loss": total / steps,
            "gradient_norm": norm,
            "diverged": ~sound,
        }
        if keep:
            grads, updates, before = last
            x = (
                self._eval_params_fn(state),
                before,
                grads,
                updates,
                inputs.data_sets,
                self._scales,
            )
            metrics |= self._map(self._measure_one, inputs, x, busy=self._busy(inputs))
        return state, replicate(metrics)

    def _measure_one(self, inputs: Inputs, x: tuple) -> dict[str, Array]:
        *kept, data_set, scale = x
        trainable, before, gradient, update = map(self.form.unpack, kept)
        view = StudentView(
            trainable, before, gradient, update, data_set, self._model(inputs, scale)
        )
        values: dict[str, Array] = {}
        for measure in inputs.measures:
            columns = measure.measure_student(view, self.cfg)
            if duplicates := columns.keys() & (values.keys() | SWEEP_METRICS):
                raise ValueError(f"two measures give {', '.join(sorted(duplicates))}")
            values |= columns
        return values

    def _step(self, state: State, inputs: Inputs) -> tuple:
        joined = self._join(state.trainables)
        students = _Student(
            inputs.rates,
            self._scales,
            Selection(
                inputs.data_sets,
                inputs.orders[:, state.step],
                inputs.layout.select_step(state.step),
            ),
        )

        def one(source: Source, x: tuple[Kept, _Student]) -> tuple[Array, Kept]:
            kept, student = x
            loss, gradient = self.loss.loss_and_gradient(
                source, self.form.unpack(kept), student.scale, student.selection
            )
            return loss, self.form.pack(gradient)

        busy = self._busy(inputs)
        losses, grads = self._map(one, inputs.source, (joined, students), busy=busy)
        norms = jax.vmap(optax.tree.norm)(grads)
        if self.config.clip is not None:
            shrink = jnp.minimum(1.0, self.config.clip / jnp.maximum(norms, 1e-30))
            grads = jax.tree.map(lambda g: g * shrink.reshape(-1, *[1] * (g.ndim - 1)), grads)
        joint = (students, grads, losses, inputs.busy & (state.diverged_at == 0))
        updated = []
        parts = zip(self._parts(), state.trainables, state.optimizer_states, strict=True)
        for (g, part), old, old_state in parts:
            student, gradient, loss, alive = jax.tree.map(lambda x, part=part: x[part], joint)
            if self.form is TREE:
                gradient = unpad_rank(gradient, old)
            x = (student, old, old_state, gradient, loss, alive)
            update = partial(self._update, g.spec)
            group_busy = None if busy is None else busy[part]
            runs_the_model = inputs.source.guard.projects or "obj_fn" in g.spec.entry.needs
            if runs_the_model:
                new, new_state, *rest = self._map(update, inputs, x, busy=group_busy)
            else:
                new, new_state, *rest = placement.vmap_students(update, inputs, x)
            updated.append((*self._place(new, new_state, total_students=self.slots), *rest))
        new_trainables, new_states, updates, ok = zip(*updated, strict=True)
        sound = replicate(jnp.concatenate(ok))
        step = state.step + 1
        diverged_at = jnp.where((state.diverged_at == 0) & ~sound, step, state.diverged_at)
        state = State(new_trainables, new_states, diverged_at, step)
        return state, losses, norms, grads, self._join(updates), joined

    def _update(
        self, spec: OptimizerSpec, inputs: Inputs, x: tuple
    ) -> tuple[Kept, Any, Kept, Bool[Array, ""]]:
        """(weights, optimizer state, update, whether the student is sound) after one step."""
        student, kept, optimizer_state, gradient, loss, alive = x
        trainable = self.form.show(spec, kept)

        def obj_fn(tree: Trainable) -> Array:  # for rules that sample the curvature (Sophia)
            return self.loss.loss(inputs.source, tree, student.scale, student.selection)

        optimizer = self._optimizer(spec, student.rate, inputs.span)
        update, new_state = optimizer.update(
            self.form.show(spec, gradient), optimizer_state, trainable, value=loss, obj_fn=obj_fn
        )
        model = self._model(inputs, student.scale)
        update = inputs.source.guard.project(update, trainable, student.selection.data_set, model)
        update = update if self.form.takes(spec) else self.form.pack(update)
        new = optax.apply_updates(kept, update)
        ok = alive & jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(new))
        new, new_state, update = jax.tree.map(
            partial(jnp.where, ok),
            (new, new_state, update),
            (kept, optimizer_state, jax.tree.map(jnp.zeros_like, update)),
        )
        return new, new_state, update, ok

    def _evaluate_fn(
        self, state: State, inputs: Inputs, source: Source, max_targets: int
    ) -> Float[Array, " students"]:
        at_once = self.config.batch_size // self.config.accumulation
        loss = partial(self.loss.heldout_loss, rows_at_once=at_once, max_targets=max_targets)
        students = (self._eval_params_fn(state), self._scales, inputs.data_sets)
        busy = self._busy(inputs)

        def one(source: Source, x: tuple[Kept, Array, Array]) -> Array:
            return loss(source, self.form.unpack(x[0]), *x[1:])

        return replicate(self._map(one, source, students, busy=busy))

    def _eval_params_fn(self, state: State) -> Kept:
        """All students' evaluation parameters as they are kept, in group order, padded to the
        largest rank."""
        points = (partial(self.form.eval_point, g.spec) for g in self.groups)
        parts = zip(points, state.trainables, state.optimizer_states, strict=True)
        return self._join([jax.vmap(point)(kept, old) for point, kept, old in parts])

    def _eval_student_fn(
        self, spec: OptimizerSpec, trainables: Kept, states: Any, i: Int[Array, ""]
    ) -> Trainable:
        """The evaluation parameters of student `i` of a group."""
        kept, state = jax.tree.map(lambda x: x[i], (trainables, states))
        return replicate(self.form.unpack(self.form.eval_point(spec, kept, state)))

    def _replicate_eval_params_fn(self, state: State) -> Trainable:
        """The trees of `_eval_params_fn`, every student replicated along the mesh's axis `data`."""
        return self._place(self.form.unpack(self._eval_params_fn(state)))[0]

    def _parts(self) -> Iterator[tuple[Group, slice]]:
        start = 0
        for g in self.groups:
            yield g, slice(start, start + g.slots)
            start += g.slots

    def _optimizer(self, spec: OptimizerSpec, rate: Array, span: Span) -> Any:
        return make_optimizer(
            spec, lambda count: self.config.rate(rate, count, span), total_steps=self.config.steps
        )

    def _join(self, trees: Sequence[Any]) -> Any:
        """One tree over all students from one a group; smaller ranks are padded with zeros."""
        if isinstance(self.config.adapter, LoRA) and self.form is TREE:
            trees = [pad_rank(tree, self.rank) for tree in trees]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)
