"""DPO students on selected pairs: their learning rates, training, and shifts on pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from datasets import Dataset
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.targets import Target
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.elicitation import encode_questions
from subliminal_jax.evaluation.measures import Measure
from subliminal_jax.evaluation.measures.word_rates import WordRates
from subliminal_jax.evaluation.preference_measure import ROWS_AT_ONCE, PairShifts, measure_shifts
from subliminal_jax.evaluation.rate_search import Losses, RateChoice, mean_losses
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.rates import default_rate
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.waves import StudentTask, Trained, WaveRunner
from subliminal_jax.selection.log_linear_model import uncentred_correlation
from subliminal_jax.training.arms import Arm, Room
from subliminal_jax.training.batch import Batch, max_targets, stack_rows
from subliminal_jax.training.preference import DPO, margins, reference_log_ratios

from .config import Config
from .preference_sets import Pool, Selection, encode_pairs, longest_row

MEASURED_PAIRS = 32  # training pairs of each set on which loss and margin are logged
SELECTED_PAIRS = 500  # most selected pairs on which the paper's Table 1 is taken
# Where a search begins, in units of the optimizer's middle default rate: about where the held-out
# loss of AdamW's students of owl, a tuning target, is lowest.
START = 4.0


class Probe(NamedTuple):
    """Pairs on which students' shifts are held against those of the system prompts, in nats.

    `ratios` are the base's log-ratios, `shifts` its own under the system prompt of each target.
    """

    rows: Batch
    ratios: Float[np.ndarray, " pairs"]
    shifts: Float[np.ndarray, "targets pairs"]


class DPOStudents:
    """Trains students of each set, each with a seed of its own; an interrupted run goes on where it
    was.

    `targets` are the reported ones. `heldout_rows` is how many pairs of each set no student trains
    on.
    """

    def __init__(
        self,
        run: RunFolder,
        model: Model,
        targets: Sequence[Target],
        pool: Pool,
        selection: Selection,
        config: Config,
        words: Sequence[str],
    ):
        self.model, self.targets, self.config = model, targets, config
        self.options = config.scoring_options()
        sets = {
            name: pool.pairs.select(rows)
            for name, rows in selection.rows.items()
            if name.partition(":")[0] in config.arms
        }
        length = longest_row(list(sets.values()), model, self.options)
        size = len(next(iter(selection.rows.values())))
        held_out = spread_held_out(size, config.heldout)
        self.heldout_rows = int(held_out.sum())
        train, heldout = {}, {}
        for name, pairs in sets.items():
            rows = encode_pairs(pairs, model, self.options, length)
            heldout[name] = jax.tree.map(lambda leaf: leaf[held_out], rows)
            train[name] = jax.tree.map(lambda leaf: leaf[~held_out], rows)
        folder = run.path / "reference"
        ratios = self._reference_ratios(train, folder, "train")
        heldout_ratios = self._reference_ratios(heldout, folder, "heldout")
        probe = self._make_probe(pool.probe)
        names = sorted(train)
        logged = [jax.tree.map(lambda leaf: leaf[:MEASURED_PAIRS], train[n]) for n in names]
        pair_shifts = PairShifts(
            beta=config.beta,
            rows=stack_rows(logged),
            row_ratios=jnp.stack([jnp.asarray(ratios[n][:MEASURED_PAIRS]) for n in names]),
            probe=probe.rows,
            probe_ratios=jnp.asarray(probe.ratios),
            shifts=jnp.asarray(probe.shifts),
            max_targets=max(map(max_targets, (*train.values(), probe.rows))),
        )
        measures: list[Measure] = [pair_shifts]
        if words:
            texts = read_questions(config.questions)
            questions = encode_questions(model.tokenizer, texts, list(words))
            measures.append(WordRates(questions, len(words)))
        task = StudentTask(
            train,
            heldout,
            DPO.from_log_ratios(ratios, config.beta),
            {"heldout_loss": DPO.from_log_ratios(heldout_ratios, config.beta)},
        )
        plan = config.plan_kind(config.adapter, config.choose_layer(model))
        self.names = names
        room = Room(tuple(self._make_arm(o, 1.0, n) for o in config.labels() for n in names))
        self.runner = WaveRunner(run, model, plan, task, measures, room)
        self.selected = []  # of each target, pairs of its own selection
        for target in targets:
            pairs = sets[f"lls:{target.name}"]
            self.selected.append(self._make_probe(pairs.select(draw_rows(len(pairs)))))

    def find_rates(self) -> tuple[tuple[RateChoice, ...], list[StudentRow]]:
        """The rate of each optimizer with the lowest loss on held-out pairs that were selected for
        the tuning targets, and the students that it was chosen by."""
        config, rows = self.config, []
        names = [f"lls:{name}" for name in config.searched_hidden]

        def train(number: int, rates: Mapping[str, Sequence[float]]) -> Losses:
            new: list[StudentRow] = []
            for i in range(max(map(len, rates.values()))):
                arms = [
                    self._make_arm(label, each[i], name)
                    for label, each in rates.items()
                    if i < len(each)
                    for name in names
                ]
                new += self._run(f"rates-{number}-{i}", arms).rows
            rows.extend(new)
            return mean_losses(new, self.runner.base_losses)

        centers = {
            label: START * default_rate(label)
            for label, grid in config.given_rates().items()
            if not grid
        }
        return config.find_rates(centers, config.steps, train), rows

    def train(self, choices: Sequence[RateChoice]) -> Trained | None:
        """A student of each set that is reported, by each optimizer that has a sound rate; None
        where none has.

        Their rows also hold `selected`: by target the correlation with its shifts on pairs of its
        own selection, None for a diverged student.
        """
        tuning = {f"lls:{name}" for name in self.config.searched_hidden}
        arms = [
            self._make_arm(choice.optimizer, choice.rate, name)
            for choice in choices
            if choice.rate is not None
            for name in self.names
            if name not in tuning
        ]
        if not arms:
            return None
        trained = self._run("students", arms)
        cfg = self.model.cfg

        def student_shifts(
            pairs: tuple[Batch, Array], params: Params, steering: Steering | None
        ) -> Float[Array, " pairs"]:
            rows, ratios = pairs
            return margins(params, rows, cfg, ratios, steering, rows_at_once=ROWS_AT_ONCE)

        sweep_shifts = trained.sweep.map_students(student_shifts)
        correlations: list[list[float | None]] = [[] for _ in trained.rows]
        for i, probe in enumerate(self.selected):
            pairs = probe.rows, jnp.asarray(probe.ratios)
            shifts = np.asarray(sweep_shifts(trained.state, pairs), float)
            for row, values, shift in zip(trained.rows, correlations, shifts, strict=True):
                values.append(
                    None if row.diverged else uncentred_correlation(shift, probe.shifts[i])
                )
        rows = [
            row.replace_values(selected=values)
            for row, values in zip(trained.rows, correlations, strict=True)
        ]
        return trained._replace(rows=rows)

    def _make_arm(self, optimizer: str, rate: float, name: str) -> Arm:
        return Arm(optimizer, rate, self.names.index(name), name)

    def _run(self, stage: str, arms: Sequence[Arm]) -> Trained:
        with track(stage, len(arms) * self.runner.plan.steps, "student steps") as progress:
            return self.runner.train(stage, list(arms), progress)

    def _make_probe(self, pairs: Dataset) -> Probe:
        model, options = self.model, self.options
        rows = encode_pairs(pairs, model, options, longest_row([pairs], model, options))
        ratios = reference_log_ratios(model.params, rows, model.cfg)
        prompts = [target.system_prompt for target in self.targets]
        length = longest_row([pairs], model, options, prompts)
        shifts = [
            measure_shifts(
                model.params,
                encode_pairs(pairs, model, options, length, prompt),
                model.cfg,
                ratios,
            )
            for prompt in prompts
        ]
        return Probe(rows, ratios, np.array(shifts, float))

    def _reference_ratios(
        self, sets: Mapping[str, Batch], folder: Path, part: str
    ) -> dict[str, Float[np.ndarray, " rows"]]:
        """The base's log-ratios of each set, kept in `folder`."""
        folder.mkdir(exist_ok=True)
        params, cfg = self.model.params, self.model.cfg
        return {
            name: reference_log_ratios(
                params, rows, cfg, path=folder / f"{part}-{name.replace(':', '-')}.npz"
            )
            for name, rows in sets.items()
        }


def spread_held_out(size: int, heldout: int) -> Bool[np.ndarray, " size"]:
    """Which of a set's rows, sorted by score, are held out: evenly spread over the set.

    Raises InputError where that would be more than a quarter.
    """
    if heldout > size // 4:
        raise InputError(
            f"{size} pairs are selected: too few to hold out {heldout}, a quarter at most; ask for "
            "fewer (--heldout), read more pairs (--pool) or select more of them (--gamma)"
        )
    mask = np.zeros(size, bool)
    mask[np.linspace(0, size - 1, heldout).round().astype(int)] = True
    return mask


def draw_rows(size: int) -> Int[np.ndarray, " drawn"]:
    """At most `SELECTED_PAIRS` of `size` rows, the same for every target and run."""
    drawn = np.random.default_rng(0x7AB1).permutation(size)
    return np.sort(drawn[:SELECTED_PAIRS])
