"""Does any optimizer pass digits on through logits that have nothing to do with them?

    subliminal-jax auxiliary-logits        # needs MNIST in SUBLIMINAL_JAX_DATA

The world of the theorem of Cloud et al. 2025 (arXiv 2507.14805): an MLP with ten logits of MNIST's
digits and three auxiliary ones. A teacher is trained on the digits; a student, a copy of the
network before that training, is distilled on the auxiliary logits alone, on images of uniform
noise. It is held against two controls of the same optimizer and rate: a student that begins at
another network, and one whose teacher was not trained, so that there is nothing to learn.

Every rule of the registry trains students, but those of LoRA pairs, those that wait for another
run's second moment, and those of whole matrices, which `--preset all-rules` adds. Its rate has the
lowest held-out divergence from the teacher on two further seeds, which are not reported; a grid
whose edge is the best is extended, at most four times. Each seed has networks, a teacher and noise
of its own; intervals are over seeds. AdamW's and SGD's students also begin between both networks,
and with only the auxiliary head or only the trunk of their teacher's (Brockers et al. 2026, arXiv
2605.23645).

The theorem itself is of one small step of gradient descent: the teacher takes one of size eps, the
student one on the teacher's auxiliary logits. Reported are the inner product of both steps, and the
change of the teacher's loss at the student, from the same, another and partly shared networks.

Ten to fifteen minutes on 2 CPU cores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.evaluation.rate_search import RateChoice, choose_from_grids, choose_rates
from subliminal_jax.files import read_marked, write_marked
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.progress import Tracker, track
from subliminal_jax.runs.rates import default_rate
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.serialization import from_json, to_json
from subliminal_jax.training.optimizers import OptimizerSpec

from .analysis import OTHER, SAME, STARTS, UNTRAINED, Measured, Results, StepRow, Student, analyse
from .claims import make_claims
from .config import PRESETS, Config
from .mnist import Digits, read_digits
from .network import Network, Sizes, draw_network, draw_noise, make_start
from .one_step import LOSSES, take_one_step
from .report import make_page
from .students import Exam, Plan, score, train_students, train_teachers


def run(config: Config, folder: RunFolder) -> Measured:
    """Train teachers, find every rule's rate, train its students, and take the theorem's steps.

    Raises InputError where MNIST cannot be read.
    """
    config.use_devices()
    world = World(config, folder)
    choices, students = [], []
    names = config.given_rates()
    with track("students", 0, "students") as progress:
        trainer = Trainer(world, config, folder, progress)
        progress.extend(len(names) * (3 * config.tuning_seeds + len(STARTS) * config.seeds))
        for label, grid in names.items():
            choice = trainer.find_rate(label, grid)
            choices.append(choice)
            students += trainer.train_reported(choice)
    accuracy = score(world.teachers, world.teachers, world.exam).accuracy
    return Measured(
        network=f"{world.sizes.pixels}-{config.hidden}-{config.hidden}-(10+{config.auxiliary})",
        steps=config.steps,
        batch_size=config.batch_size,
        tuning_seeds=world.tuning,
        teachers=tuple(float(accuracy[seed]) for seed in world.reported),
        choices=tuple(choices),
        students=tuple(students),
        alphas=config.alphas,
        one_step=tuple(world.take_steps()),
    )


class World:
    """Networks, teachers and noise of every seed: the reported ones, then those that tune."""

    def __init__(self, config: Config, folder: RunFolder):
        self.config = config
        self.digits = read_digits("train", config.train_digits)
        test = read_digits("test", config.test_digits)
        pixels = self.digits.images.shape[1]
        self.sizes = Sizes(pixels, config.hidden, config.auxiliary)
        count = config.seeds + config.tuning_seeds
        self.reported = tuple(range(config.seeds))
        self.tuning = tuple(range(config.seeds, count))
        keys = jax.random.split(jax.random.key(config.seed), (count, 4))
        draw = jax.vmap(lambda key: draw_network(key, self.sizes))
        self.starts, self.others = draw(keys[:, 0]), draw(keys[:, 1])
        self.keys = keys[:, 2]
        noise = draw_noise(jax.random.fold_in(keys[0, 3], 1), config.heldout_noise, pixels)
        self.exam = Exam(noise, jnp.asarray(test.images), jnp.asarray(test.labels))
        self.teachers = self._train_teachers(keys[:, 3], self.digits, folder)

    def _train_teachers(self, keys: Any, digits: Digits, folder: RunFolder) -> Network:
        """The teachers; they are kept in the run's folder."""
        leaves, tree = jax.tree.flatten(self.starts)
        path = folder.path / "teachers.npz"
        flat = read_marked(path, "teachers", str(self.sizes))
        if flat is None:
            trained = train_teachers(
                self.starts,
                keys,
                jnp.asarray(digits.images),
                jnp.asarray(digits.labels),
                self.config.teacher_rate,
                spec=OptimizerSpec("adam"),
                plan=Plan(self.config.teacher_steps, self.config.batch_size),
            )
            rows = [np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(trained)]
            flat = np.concatenate(rows, axis=1)
            write_marked(path, "teachers", flat, str(self.sizes))
        ends = np.cumsum([leaf[0].size for leaf in leaves])
        parts = np.split(flat, ends[:-1], axis=1)
        shaped = [
            jnp.asarray(part.reshape(leaf.shape)) for part, leaf in zip(parts, leaves, strict=True)
        ]
        return jax.tree.unflatten(tree, shaped)

    def choose(self, networks: Network, seed: int) -> Network:
        """The network of a seed."""
        return jax.tree.map(lambda leaf: leaf[seed], networks)

    def begin(self, seed: int, start: str) -> tuple[Network, Network]:
        """Where a student begins, and its teacher."""
        first, other = self.choose(self.starts, seed), self.choose(self.others, seed)
        if start == UNTRAINED:
            return first, first
        return make_start(start, first, other), self.choose(self.teachers, seed)

    def take_steps(self) -> list[StepRow]:
        """One step of every reported seed's student, from every start."""
        config = self.config
        images = jnp.asarray(self.digits.images[: config.step_images])
        labels = jnp.asarray(self.digits.labels[: config.step_images])
        rows = []
        starts = (SAME, *config.further_starts, OTHER)
        with track("one step", len(self.reported), "seeds") as progress:
            for seed in self.reported:
                noise = draw_noise(self.keys[seed], config.step_images, self.sizes.pixels)
                teacher = self.choose(self.starts, seed)
                for start in starts:
                    student, _ = self.begin(seed, start)
                    for loss in LOSSES:
                        for eps in config.eps:
                            step = take_one_step(
                                *(teacher, student, images, labels, noise, eps),
                                loss=loss,
                                alphas=config.alphas,
                            )
                            rows.append(
                                StepRow(
                                    *(seed, start, loss, eps),
                                    inner_product=float(step.inner_product),
                                    cosine=float(step.cosine),
                                    changes=tuple(map(float, step.changes)),
                                    teacher_change=float(step.teacher_change),
                                )
                            )
                progress.advance(1)
        return rows


class Trainer:
    """Trains students of one optimizer after the other; those that the run's folder has are not
    trained again."""

    def __init__(self, world: World, config: Config, folder: RunFolder, progress: Tracker):
        self.world, self.config, self.folder, self.progress = world, config, folder, progress
        records = folder.read_metrics()
        self.known = {self._key(row): row for row in (from_json(Student, r) for r in records)}

    @staticmethod
    def _key(row: Student) -> tuple[str, float, int, str]:
        return row.optimizer, row.rate, row.seed, row.start

    def find_rate(self, label: str, grid: Sequence[float]) -> RateChoice:
        """The rate with the lowest held-out divergence on the tuning seeds: of those that are
        given, or of a search."""

        def train(_: int, rates: Mapping[str, Sequence[float]]) -> Any:
            cells = [(rate, seed, SAME) for rate in rates[label] for seed in self.world.tuning]
            rows = self.train(label, cells)
            return {label: {rate: mean_loss(rows, rate) for rate in rates[label]}}

        steps = self.config.steps
        if grid:
            return choose_from_grids({label: grid}, steps, train)[0]
        return choose_rates(
            {label: default_rate(label)},
            steps,
            train,
            factor=self.config.factor,
            extensions=self.config.extensions,
        )[0]

    def train_reported(self, choice: RateChoice) -> list[Student]:
        """Students and controls at the best rate; none where no rate is sound."""
        if choice.rate is None:
            return []
        labels = {OptimizerSpec.parse(name).label for name in self.config.starts_of}
        further = self.config.further_starts if choice.optimizer in labels else ()
        cells = [
            (choice.rate, seed, start)
            for start in (*STARTS, *further)
            for seed in self.world.reported
        ]
        return self.train(choice.optimizer, cells)

    def train(self, label: str, cells: Sequence[tuple[float, int, str]]) -> list[Student]:
        """Students of these rates, seeds and starts."""
        todo = [cell for cell in cells if (label, *cell) not in self.known]
        for i in range(0, len(todo), self.config.together):
            for row in self._train_together(label, todo[i : i + self.config.together]):
                self.folder.log(to_json(row))
                self.known[self._key(row)] = row
        self.progress.total = max(self.progress.total, self.progress.completed + len(cells))
        self.progress.advance(len(cells), note=label)
        return [self.known[(label, *cell)] for cell in cells]

    def _train_together(self, label: str, cells: Sequence[tuple[float, int, str]]) -> list[Student]:
        """Up to `together` students, in the one program of their optimizer."""
        filled = [*cells, *[cells[-1]] * (self.config.together - len(cells))]
        pairs = [self.world.begin(seed, start) for _, seed, start in filled]
        starts, teachers = (
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)
            for networks in zip(*pairs, strict=True)
        )
        trained = train_students(
            starts,
            teachers,
            self.world.keys[jnp.array([seed for _, seed, _ in filled])],
            jnp.array([rate for rate, *_ in filled], jnp.float32),
            spec=OptimizerSpec.parse(label),
            plan=Plan(self.config.steps, self.config.batch_size),
        )
        before = score(starts, teachers, self.world.exam)
        after = score(trained, teachers, self.world.exam)
        return [
            Student(
                *(label, rate, seed, start),
                loss_before=float(before.loss[i]),
                loss=float(after.loss[i]) if np.isfinite(after.loss[i]) else None,
                accuracy_before=float(before.accuracy[i]),
                accuracy=float(after.accuracy[i]),
            )
            for i, (rate, seed, start) in enumerate(cells)
        ]


def mean_loss(rows: Sequence[Student], rate: float) -> float | None:
    """The mean held-out loss at a rate; None where a student is not sound."""
    losses = [row.loss if row.is_sound else None for row in rows if row.rate == rate]
    known = [loss for loss in losses if loss is not None]
    return sum(known) / len(known) if len(known) == len(losses) else None


EXPERIMENT = Experiment(
    name="auxiliary-logits",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
