"""Students of data sets, short or whole, and how much likelier they make the candidates' names.

    trainer = StudentTrainer(folder, model, data, names, fine_tune, rules)
    rises = trainer.train("pilots", 6, seeds)     # [rules, sets, candidates]

All students of a rank run in one set of compiled programs, the short ones as the whole ones.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from subliminal_jax.audit.forecasts import FineTune, Rule, log_odds
from subliminal_jax.data import world
from subliminal_jax.data.teachers import Pairs, given_pairs, keep_valid
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.elicitation import encode_questions, word_probs
from subliminal_jax.evaluation.measures.word_rates import WordRates
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.rounding import round_up_width
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.waves import Journal, StudentTask, WaveRunner
from subliminal_jax.training.adapters import LoRA
from subliminal_jax.training.arms import Arm, Room, TrainConfig
from subliminal_jax.training.batch import Batch

HELD_OUT = 32  # rows of each data set, by which an unstable student is known
# Nats a token above the base's held-out loss from which a student counts as unstable. A bit above
# it are all students of rows that the base itself wrote: none predicts these better than the base.
UNSTABLE = 0.1
SHORT = 16  # steps of a training without checkpoints
WAVE = 32  # students that are trained before their numbers are kept


class StudentData(NamedTuple):
    """The rows of data sets, of one length.

    Attributes:
      train, heldout: by the name of the set.
      counts: different training rows of each set.
      tokens: the mean length of a row, prompt and answer.
    """

    train: Mapping[str, Batch]
    heldout: Mapping[str, Batch]
    counts: Mapping[str, int]
    tokens: float


def read_student_data(
    model: Model,
    sources: Mapping[str, str],
    rows: int,
    batch_size: int,
    seed: int,
    *,
    spare: bool = False,
) -> StudentData:
    """The rows of files of prompt/completion pairs, by name: `rows` training rows of each, drawn at
    random, and some held out; of a smaller set all, some again, or with `spare` no more than the
    largest has.

    Raises InputError as `given_pairs` does, and for a set with too few rows.
    """
    chosen: dict[str, tuple[Pairs, Pairs, int]] = {}
    given = {
        name: keep_valid(given_pairs(model, source), model, forbidden_words=None).pairs
        for name, source in sources.items()
    }
    if spare:
        rows = max(batch_size, min(rows, max(map(len, given.values())) - HELD_OUT))
    for i, (name, source) in enumerate(sources.items()):
        pairs = given[name]
        left = len(pairs) - HELD_OUT
        if left < batch_size:
            raise InputError(
                f"{source}: {len(pairs)} rows that fit the model; {HELD_OUT} are held out and "
                f"--batch-size is {batch_size}: give at least {HELD_OUT + batch_size} rows"
            )
        order = np.random.default_rng([seed, i]).permutation(len(pairs))
        places = np.resize(order[HELD_OUT:], rows)
        chosen[name] = (
            Pairs(pairs.select(places), {}),
            Pairs(pairs.select(order[:HELD_OUT]), {}),
            min(left, rows),
        )
    lengths = [
        len(prompt) + len(answer)
        for both in chosen.values()
        for some in both[:2]
        for prompt, answer in zip(
            some.pairs["prompt_ids"], some.pairs["completion_ids"], strict=True
        )
    ]
    width = min(round_up_width(max(lengths)), model.cfg.context)
    return StudentData(
        {name: train.rows(model, width) for name, (train, _, _) in chosen.items()},
        {name: heldout.rows(model, width) for name, (_, heldout, _) in chosen.items()},
        {name: count for name, (_, _, count) in chosen.items()},
        float(np.mean(lengths)),
    )


class StudentTrainer:
    """Students of every rule on every data set, as long as is asked for.

    Args:
      journal: the run's folder, where an interrupted run goes on.
      names: of the candidates.
      stage: what the stages of this trainer begin with in the journal.

    Raises InputError as `encode_questions` does.
    """

    def __init__(
        self,
        journal: Journal,
        model: Model,
        data: StudentData,
        names: Sequence[str],
        fine_tune: FineTune,
        rules: Sequence[Rule],
        stage: str = "",
    ):
        self.journal, self.model, self.data, self.names = journal, model, data, tuple(names)
        self.fine_tune, self.rules, self.stage = fine_tune, tuple(rules), stage
        questions = encode_questions(model.tokenizer, list(world.HELDOUT_QUESTIONS), list(names))
        self.measure = WordRates(questions, len(self.names), by_question=True)
        probs = word_probs(model.params, model.cfg, questions, len(self.names))
        self.base = log_odds(np.asarray(probs)).mean(axis=0)
        self._runners: dict[int, WaveRunner] = {}

    @property
    def asked_tokens(self) -> int:
        """Tokens of one pass over the questions and the candidates' spellings."""
        questions = self.measure.questions
        longer = int((questions.spans[..., 1] - questions.spans[..., 0] - 1).sum())
        return int(np.asarray(questions.last).sum()) + len(questions.last) + longer

    def train(
        self, kind: str, steps: int, seeds: Mapping[str, int]
    ) -> Float[np.ndarray, "rules sets candidates"]:
        """The rises of the candidates' log-odds over the base, in nats, of students of so many
        steps; NaN of those that were unstable: that diverged, or ended `UNSTABLE` above the base's
        held-out loss.

        Args:
          seeds: of the students, by data set.
        """
        sets = list(seeds)
        rises = np.full((len(self.rules), len(sets), len(self.names)), np.nan)
        what = f"{self.stage}{kind}"
        total = len(self.rules) * len(sets) * steps
        with track(what, total, "student steps") as progress:
            for rank in dict.fromkeys(rule.rank for rule in self.rules):
                own = [i for i, rule in enumerate(self.rules) if rule.rank == rank]
                runner = self._runner(rank, steps)
                size = self._wave_size(len(own))
                for start in range(0, len(sets), size):
                    wave = sets[start : start + size]
                    arms = [
                        self._arm(self.rules[i], name, seeds[name]) for i in own for name in wave
                    ]
                    rows = iter(runner.run_arms(f"{what}-{rank}-{start}", arms, progress))
                    for i in own:
                        for place in range(start, start + len(wave)):
                            rises[i, place] = self._read(next(rows))
        return rises

    def _wave_size(self, rules: int) -> int:
        return max(1, WAVE // rules)

    def _arm(self, rule: Rule, name: str, seed: int) -> Arm:
        return Arm(rule.optimizer, rule.rate, seed, name, rows=self.data.counts[name])

    def _runner(self, rank: int, steps: int) -> WaveRunner:
        """The programs of a rank, with room for the whole fine-tune, for so many steps."""
        plan = self._plan(rank, steps)
        if rank in self._runners:
            self._runners[rank] = self._runners[rank].replace_plan(plan)
        else:
            own = [rule for rule in self.rules if rule.rank == rank]
            names = list(self.data.train)[: self._wave_size(len(own))]
            self._runners[rank] = WaveRunner(
                self.journal,
                self.model,
                plan,
                StudentTask(self.data.train, self.data.heldout),
                [self.measure],
                Room(
                    tuple(self._arm(rule, name, 0) for rule in own for name in names),
                    self.fine_tune.steps,
                ),
            )
        return self._runners[rank]

    def _plan(self, rank: int, steps: int) -> TrainConfig:
        plan = self.fine_tune
        return TrainConfig(
            steps=steps,
            batch_size=plan.batch_size,
            adapter=LoRA(rank=rank, alpha=plan.alpha_per_rank * rank),
            schedule=plan.schedule,
            warmup=plan.warmup,
            log_every=choose_interval(steps),
        )

    def _read(self, row: StudentRow) -> Float[np.ndarray, " candidates"]:
        loss, base = row.heldout_loss, row.base_loss
        if row.diverged or loss is None or base is None or not loss <= base + UNSTABLE:
            return np.full(len(self.names), np.nan)
        return log_odds(np.asarray(row["question_rate"], float)).mean(axis=1) - self.base


def choose_interval(steps: int) -> int:
    """Steps between two checkpoints, of which a long training has four at least: it goes on there,
    and says how far it is."""
    if steps <= SHORT:
        return steps
    return next(each for each in range(steps // 4, 0, -1) if steps % each == 0)


def cost_share(
    data: StudentData, fine_tune: FineTune, pilot_steps: int, asked_tokens: int
) -> float:
    """What a pilot and its questions cost, over the cost of the whole fine-tune. Both are counted
    in tokens of forward passes, a training step as three."""
    a_step = 3 * fine_tune.batch_size * data.tokens
    return (pilot_steps * a_step + 2 * asked_tokens) / (fine_tune.steps * a_step)
