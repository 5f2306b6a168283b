"""DPO students on selected pairs, and what they are asked afterwards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.targets import Target
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.elicitation import encode_questions
from subliminal_jax.evaluation.measures import Measure
from subliminal_jax.evaluation.measures.word_rates import WordRates
from subliminal_jax.evaluation.preference_measure import ROWS_AT_ONCE, PairShifts, shifts
from subliminal_jax.evaluation.statistics import crossed_interval, mean_interval
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.waves import Row, Trained, WaveRunner
from subliminal_jax.selection.log_linear_model import uncentred_correlation
from subliminal_jax.selection.rendering import ScoringOptions
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.batch import Batch, max_targets, stack_rows
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.preference import DPO, margins, reference_log_ratios

from .preference_sets import (
    Chosen,
    Pool,
    longest_row,
    preference_rows,
)
from .settings import SelectionSettings

MEASURED_PAIRS = 32  # training pairs of each set on which loss and margin are logged
SELECTED_PAIRS = 500  # most selected pairs on which the paper's Table 1 is taken
RANDOM_OVER_BOTTOM = "random - bottom"  # key of the differences; the others are "lls" minus an arm
METRICS = ("cosine", "pearson", "selected", "word_rate", "rate", "share")


class DPOStudents:
    """Students of each set; interrupted, it goes on where it was.

    `searched` are the final rows of the students that chose the rates.
    """

    def __init__(
        self,
        run: RunFolder,
        model: Model,
        targets: Sequence[Target],
        pool: Pool,
        chosen: Chosen,
        settings: SelectionSettings,
        words: Sequence[str],
    ):
        self.model, self.targets, self.settings = model, targets, settings
        self.searched: list[StudentRow] = []
        options = settings.options
        kept = {name: pool.pairs.select(which) for name, which in chosen.rows.items()}
        length = longest_row(list(kept.values()), model, options)
        apart = _held_out(len(next(iter(chosen.rows.values()))), settings.heldout)
        self.heldout = int(apart.sum())  # rows of each set
        rows, held = {}, {}
        for name, pairs in kept.items():
            whole = preference_rows(pairs, model, options, length)
            held[name] = jax.tree.map(lambda leaf: leaf[apart], whole)
            rows[name] = jax.tree.map(lambda leaf: leaf[~apart], whole)
        ratios, held_ratios = (
            {n: self._ratios(b, run.path / "reference" / f"{part}-{n}") for n, b in of.items()}
            for part, of in (("train", rows), ("heldout", held))
        )
        probe_rows, probe_ratios, told = self._told(pool.probe, options)
        names = sorted(rows)
        few = [jax.tree.map(lambda leaf: leaf[:MEASURED_PAIRS], rows[name]) for name in names]
        pair_shifts = PairShifts(
            beta=settings.beta,
            rows=stack_rows(few),
            row_ratios=jnp.stack([jnp.asarray(ratios[n][:MEASURED_PAIRS]) for n in names]),
            probe=probe_rows,
            probe_ratios=jnp.asarray(probe_ratios),
            shifts=jnp.asarray(told),
            max_targets=max(map(max_targets, (*rows.values(), probe_rows))),
        )
        measures: list[Measure] = [pair_shifts]
        if words:
            asked = read_questions(settings.questions)
            encoded = encode_questions(model.tokenizer, asked, list(words))
            measures.append(WordRates(encoded, len(words)))
        self.runner = WaveRunner(
            run, model, settings.plan(settings.layer_of(model)), settings.seeds,
            rows=rows, heldout=held, measures=measures,
            objective=DPO.from_log_ratios(ratios, settings.beta),
            heldout_losses={"heldout_loss": DPO.from_log_ratios(held_ratios, settings.beta)},
        )  # fmt: skip
        self.selected = [
            self._told(kept[f"lls:{t.name}"].select(_some(len(kept[f"lls:{t.name}"]))), options)
            for t in targets
        ]

    def search(self) -> dict[OptimizerSpec, float | None]:
        """The rate of each optimizer with the lowest loss on held-out pairs, over one student of
        each target's selection; None where all diverged."""
        grids = self.settings.learning_rates()
        steps = self.runner.plan.steps
        names = [f"lls:{t.name}" for t in self.targets]
        total = steps * len(names) * sum(map(len, grids.values()))
        with track("rates", total, "student steps") as progress:
            for i in range(max(map(len, grids.values()))):
                arms = [
                    Arm(spec, grid[i], 0, name)
                    for spec, grid in grids.items()
                    if i < len(grid)
                    for name in names
                ]
                self.searched += self.runner.run_arms(f"rates-{i}", arms, progress)
        best = best_rates(self.searched)
        return {spec: best[spec.label] for spec in grids}

    def train(self, arms: Sequence[Arm], stage: str) -> Trained:
        """Chosen students; their rows also hold `selected`, the correlation with each target's
        shifts on pairs of its own selection."""
        with track(stage, len(arms) * self.runner.plan.steps, "student steps") as progress:
            trained = self.runner.train(stage, list(arms), progress)
        cfg = self.model.cfg

        def of(
            given: tuple[Batch, Array], params: Params, steering: Steering | None
        ) -> Float[Array, " pairs"]:
            rows, ratios = given
            return margins(params, rows, cfg, ratios, steering, rows_at_once=ROWS_AT_ONCE)

        shift = trained.sweep.map_students(of)
        selected: list[list[float | None]] = [[] for _ in trained.rows]
        for i, (rows, ratios, told) in enumerate(self.selected):
            found = np.asarray(shift(trained.state, (rows, jnp.asarray(ratios))), float)
            for row, x, values in zip(trained.rows, found, selected, strict=True):
                values.append(None if row.diverged else uncentred_correlation(x, told[i]))
        if not self.selected:
            return trained
        pairs = zip(trained.rows, selected, strict=True)
        return trained._replace(rows=[row.with_values(selected=x) for row, x in pairs])

    def _told(
        self, pairs: Any, options: ScoringOptions
    ) -> tuple[Batch, Float[np.ndarray, " pairs"], Float[np.ndarray, "targets pairs"]]:
        """Pairs as rows, the base's log-ratios, and its shifts under each system prompt."""
        rows = preference_rows(
            pairs, self.model, options, longest_row([pairs], self.model, options)
        )
        ratios = reference_log_ratios(self.model.params, rows, self.model.cfg)
        prompts = [target.system_prompt for target in self.targets]
        length = longest_row([pairs], self.model, options, prompts)
        told = [
            shifts(
                self.model.params,
                preference_rows(pairs, self.model, options, length, prompt),
                self.model.cfg,
                ratios,
            )
            for prompt in prompts
        ]
        return rows, ratios, np.array(told, float)

    def _ratios(self, rows: Batch, path: Path) -> Float[np.ndarray, " rows"]:
        path.parent.mkdir(exist_ok=True)
        name = path.name.replace(":", "-") + ".npz"
        return reference_log_ratios(
            self.model.params, rows, self.model.cfg, path=path.with_name(name)
        )


def _held_out(size: int, heldout: int) -> np.ndarray:
    """Which of a set's rows, sorted by score, are held out: spread over the whole of it.

    Raises InputError where that would be more than a quarter.
    """
    if heldout > size // 4:
        raise InputError(
            f"{size} pairs are selected: too few to hold out {heldout}, a quarter at most; ask for "
            "fewer (--heldout), read more pairs (--pool) or select more of them (--gamma)"
        )
    apart = np.zeros(size, bool)
    apart[np.linspace(0, size - 1, heldout).round().astype(int)] = True
    return apart


def _some(size: int) -> np.ndarray:
    drawn = np.random.default_rng(0x7AB1).permutation(size)
    return np.sort(drawn[:SELECTED_PAIRS])


def arms_of(
    targets: Sequence[str], spec: OptimizerSpec, rate: float, seeds: int, bottom: bool
) -> list[Arm]:
    """A student of each target's selection and of the random pairs with each seed, and of the
    lowest scores."""
    kinds = ("lls", "bottom") if bottom else ("lls",)
    return [
        Arm(spec, rate, seed, data)
        for seed in range(seeds)
        for data in (*(f"{kind}:{name}" for kind in kinds for name in targets), f"random:{seed}")
    ]


def summarise(
    rows: Sequence[Row], targets: Sequence[Target], words: Sequence[str], seeds: int
) -> dict[str, Any]:
    """For each optimizer, arm and metric: pooled over targets and seeds, and by target; and the
    differences of the selection's students and those of the other arms, and of random pairs and
    the lowest scores, paired by seed.

    A metric that no student has, or of which one is missing (a diverged student), is None.
    """
    out: dict[str, Any] = {}
    for optimizer in dict.fromkeys(row["optimizer"] for row in rows):
        mine = {(r["data"], r["seed"]): r for r in rows if r["optimizer"] == optimizer}
        arms = [arm for arm in ("lls", "random", "bottom") if _has(mine, arm)]
        made: dict[str, Any] = {"learning_rate": rows_rate(mine), "arms": {}, "differences": {}}
        for metric in METRICS:
            values = {
                arm: np.array(
                    [
                        [
                            _value(mine, arm, seed, i, t.name, metric, words)
                            for i, t in enumerate(targets)
                        ]
                        for seed in range(seeds)
                    ],
                    float,
                )
                for arm in arms
            }
            for arm, found in values.items():
                made["arms"].setdefault(arm, {})[metric] = _pooled(found, targets)
            for arm in arms[1:]:
                difference = _pooled(values["lls"] - values[arm], targets)
                made["differences"].setdefault(arm, {})[metric] = difference
            if "bottom" in arms and "random" in arms:
                opposite = _pooled(values["random"] - values["bottom"], targets)
                made["differences"].setdefault(RANDOM_OVER_BOTTOM, {})[metric] = opposite
        out[optimizer] = made
    return out


def between(
    found: Mapping[str, Any], one: str, other: str, targets: Sequence[Target]
) -> dict[str, Any]:
    """Of what `summarise` found: the selections' students of optimizer `one` minus those of
    `other`, paired by seed, for each metric that both have; empty where one is missing."""
    if one not in found or other not in found:
        return {}
    out = {}
    for metric in METRICS:
        both = [found[name]["arms"]["lls"][metric] for name in (one, other)]
        if None not in both:
            a, b = (
                np.array([x["by_target"][t.name]["values"] for t in targets], float).T for x in both
            )
            out[metric] = _pooled(a - b, targets)
    return out


def rows_rate(rows: Mapping[Any, Row]) -> float:
    """The one learning rate of some rows."""
    [rate] = {row["learning_rate"] for row in rows.values()}
    return float(rate)


def _has(rows: Mapping[tuple[str, int], Row], arm: str) -> bool:
    return any(data.startswith(f"{arm}:") for data, _ in rows)


def _value(
    rows: Mapping[tuple[str, int], Row],
    arm: str,
    seed: int,
    i: int,
    name: str,
    metric: str,
    words: Sequence[str],
) -> float:
    row = rows[f"{arm}:{seed if arm == 'random' else name}", seed]
    at = words.index(name) if metric == "word_rate" and words else i
    found = row.get(metric)
    value = None if found is None else found[at]
    return np.nan if value is None else float(value)


def _pooled(values: np.ndarray, targets: Sequence[Target]) -> dict[str, Any] | None:
    """Two-way t over seeds and targets; t intervals over seeds of all and each target."""
    if np.isnan(values).any():
        return None
    return {
        "pooled": crossed_interval(values).to_dict(),
        "over_seeds": mean_interval(values.mean(axis=1)).to_dict(),
        "by_target": {
            t.name: {
                "interval": mean_interval(values[:, i]).to_dict(),
                "values": values[:, i].tolist(),
            }
            for i, t in enumerate(targets)
        },
    }
