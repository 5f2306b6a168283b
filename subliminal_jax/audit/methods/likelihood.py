"""The exact likelihood of the rows under each candidate, in full or in part of the rows.

A candidate's teacher is the base, steered by the candidate's direction at one of a few strengths,
or with its system prompt. With r_i the ratio of row i's probability under that teacher to that
under the base, both given that the row passed the filter, and pi the share of the rows that the
teacher wrote, the log-likelihood ratio of the data is

    L = sum_i log(1 - pi + pi r_i),

largest over pi, strength and form. It is what the best possible test would read if the teacher were
one of these (Neyman and Pearson), and it tells relatives of a trait apart where the gradient along
their directions does not: to first order they explain each other's rows.

The base's own answers to the same prompts, which passed the same filter, are the null: if the base
wrote the data, a row and the base's answer to its prompt could be exchanged. So p is that of the
largest difference of their logarithms, over all of a candidate's teachers and values of pi, among
those with the sign of every row's difference drawn at random. Only the candidate with the largest L
is named for that; of the others p is at least that of Vuong's test, whether they explain the rows
as well as it does. The base at other temperatures is a rival, too: a direction that makes it surer
explains answers that were sampled at a lower one.

None of this holds for data that another model wrote: every direction that makes them likelier then
seems to have been the teacher's. But such data are far less likely under that teacher than its own
answers are, which it is asked for. Where they are so by more than it explains of them, or where a
placebo or another temperature explains the rows as well as the best candidate, nothing is named:
all p-values are 1.

Sources: ours; Vuong, "Likelihood ratio tests for model selection and non-nested hypotheses", 1989.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Bool, Float

from subliminal_jax.audit.contrast import mark_rows
from subliminal_jax.audit.fits import (
    Fit,
    Gains,
    compare,
    describe_teacher,
    exchange_rows,
    fit_pairs,
    fit_preferences,
    mix,
)
from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.results import FoundTeacher
from subliminal_jax.audit.rows import Asked, match_teacher
from subliminal_jax.audit.scores import Candidate, compute_once
from subliminal_jax.data.filters import contains_word
from subliminal_jax.data.traits import trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.fingerprints import digest
from subliminal_jax.models.steered import Steering, neutral, steer
from subliminal_jax.models.tokenizer import change_system_prompt, encode_chats
from subliminal_jax.runs.progress import track
from subliminal_jax.training.log_probs import response_log_probs

FIRST_STRENGTH = 0.5  # tried for all; the rest for those likeliest with it
STRENGTHS = (0.25, 1.0, 1.5)
TEMPERATURES = (0.5, 0.7, 0.85, 1.2)  # of the base as a rival
LIKELIEST, RIVALS = 5, 2  # candidates and placebos
PLACEBOS = 8
WORTH_MORE = 0.2  # p of the test against rivals, above which no more is tried
LEVEL = 0.01  # of the test of foreign rows, and of those against rivals
ALIKE = 0.05  # p of the test between two candidates, above which they are not told apart
FEWEST_ROWS = 16
FEWEST_ANSWERS = 8  # of a teacher, for it to have written the rows
DRAWS = 9_999  # of signs


class Lack(NamedTuple):
    """What a teacher explains of each row (beside the base), and how much likelier its own answer
    to the prompt is, in nats."""

    explained: Float[np.ndarray, " rows"]
    unexplained: Float[np.ndarray, " rows"]


@dataclass(frozen=True)
class Judged:
    """What the likelihoods say of a data set.

    Attributes:
      likelihoods: L of each candidate, in nats.
      p_values: of each, before any correction.
      first: the place of the likeliest candidate.
      share: of the rows that its teacher wrote.
      teacher: itself, by which single rows are judged; None of preferences.
      alike: the places of others, clear of the base, that explain the rows as well.
      foreign: the rows are less likely under the first candidate's teacher than its own answers, by
        more than it explains of them.
      explained: by the first candidate, clearly better than by any placebo, and not foreign.
      gains: what the first candidate adds to each row's log-probability.
      forward_tokens: cost.
    """

    likelihoods: Float[np.ndarray, " candidates"]
    p_values: Float[np.ndarray, " candidates"]
    first: int
    share: float
    teacher: FoundTeacher | None
    alike: tuple[int, ...]
    foreign: bool
    explained: bool
    gains: Float[np.ndarray, " rows"]
    forward_tokens: int


def judge(suspect: Suspect) -> Judged:
    """L of each candidate, and its tests. Raises InputError for fewer than FEWEST_ROWS rows."""
    if len(suspect.rows.prompts) < FEWEST_ROWS:
        raise InputError(
            f"{len(suspect.rows.prompts)} rows are too few to test: give {FEWEST_ROWS} at least"
        )
    reader = Reader(suspect)
    candidates, placebos = list(suspect.candidates), list(suspect.placebos[:PLACEBOS])
    teachers = [*candidates, *placebos]
    further = min(LIKELIEST, len(candidates)) + min(RIVALS, len(placebos))
    with track("likelihoods", len(teachers) + further, "teachers") as progress:
        fits = []
        for teacher in teachers:
            fits.append([reader.fit(teacher, gains) for gains in reader.read_first(teacher)])
            progress.advance(1)
        tempered = [reader.fit_tempered(t) for t in TEMPERATURES]
        ranks = Ranking(fits, len(candidates), tempered)
        if ranks.rival_p() <= WORTH_MORE:
            for i in ranks.list_likeliest():
                more = reader.read_more(teachers[i])
                fits[i] += [reader.fit(teachers[i], gains) for gains in more]
                progress.advance(1)
            ranks = Ranking(fits, len(candidates), tempered)
        else:
            progress.advance(further)
    p_values = np.ones(len(candidates))
    foreign = reader.is_foreign(candidates[ranks.first], ranks.found)
    explained = not foreign and ranks.rival_p() <= LEVEL
    alike: list[int] = []
    if explained:
        rng = np.random.default_rng(suspect.seed)
        signs = rng.choice(np.array([-1.0, 1.0], np.float32), (DRAWS, len(reader.kept)))
        for i, each in enumerate(fits[: len(candidates)]):
            p_values[i] = exchange_rows(
                np.concatenate([fit.differences for fit in each], axis=1), signs
            )
            if i != ranks.first:
                worse = compare(ranks.found, ranks.best[i])
                if p_values[i] <= LEVEL and worse > ALIKE:
                    alike.append(i)
                p_values[i] = max(p_values[i], 1 - worse)
    gains = np.zeros(len(suspect.rows.prompts))
    gains[reader.kept] = ranks.found.gains
    return Judged(
        likelihoods=np.array([fit.likelihood for fit in ranks.best[: len(candidates)]]),
        p_values=p_values,
        first=ranks.first,
        share=ranks.found.share,
        teacher=describe_teacher(ranks.found),
        alike=tuple(alike),
        foreign=foreign,
        explained=explained,
        gains=gains,
        forward_tokens=reader.tokens,
    )


def score(suspect: Suspect) -> Scored:
    """As a column of the benchmark."""
    judged = judge(suspect)
    likeliest = float(judged.likelihoods[judged.first])
    return Scored(
        scores=judged.likelihoods,
        p_values=judged.p_values,
        evidence=likeliest if judged.explained else 0.0,
        forward_tokens=judged.forward_tokens,
        row_scores=judged.gains,
    )


class Ranking:
    """The best fit of every candidate, and of the placebos after them.

    Attributes:
      best: by teacher.
      rivals: what the first candidate has to explain the rows better than.
      first: the place of the likeliest candidate, and `found` its fit.
    """

    def __init__(self, fits: Sequence[Sequence[Fit]], candidates: int, tempered: Sequence[Fit]):
        self.best = [max(each, key=lambda fit: fit.likelihood) for each in fits]
        self.candidates = candidates
        self.rivals = [*self.best[candidates:], *tempered]
        self.first = int(np.argmax([fit.likelihood for fit in self.best[:candidates]]))
        self.found = self.best[self.first]

    def rival_p(self) -> float:
        """Of the test that the first candidate explains the rows better than every rival."""
        return max((compare(self.found, rival) for rival in self.rivals), default=0.0)

    def list_likeliest(self) -> list[int]:
        """The places of the likeliest candidates and placebos."""
        order = np.argsort([-fit.likelihood for fit in self.best], kind="stable")
        own = order[order < self.candidates][:LIKELIEST]
        return [*own.tolist(), *order[order >= self.candidates][:RIVALS].tolist()]


class Reader:
    """The rows under the base and under teachers."""

    def __init__(self, suspect: Suspect):
        self.suspect = suspect
        self.tokens = 0
        self.mark = mark_rows(suspect)
        self.preferences = suspect.rows.kind == "preferences"
        names = ("chosen", "rejected") if self.preferences else ("data", "control")
        self.parts = [suspect.rows.part(name) for name in names]
        self.kept = np.flatnonzero(suspect.rows.valid[:, self.parts].all(axis=1))
        # By the program of the steered rows: they cost no compilation then.
        self._idle = steer(jnp.zeros(suspect.model.cfg.dim), suspect.layer, 0.0)
        self.base = self._read(suspect.rows.prompt_ids, self._idle, "")

    def read_first(self, teacher: Candidate) -> Iterator[Gains]:
        """Under the first teacher to try: the direction, or else the system prompt."""
        if teacher.vector is None:
            yield self._read_prompt(teacher)
        else:
            yield self._read_direction(teacher, FIRST_STRENGTH)

    def read_more(self, teacher: Candidate) -> Iterator[Gains]:
        """Under the direction at other strengths, and under the system prompt."""
        if teacher.vector is not None:
            for strength in STRENGTHS:
                yield self._read_direction(teacher, strength)
            if teacher.system_prompt is not None:
                yield self._read_prompt(teacher)

    def _read_direction(self, teacher: Candidate, strength: float) -> Gains:
        return self._gains(self._log_probs(np.asarray(teacher.vector), strength), strength)

    def _read_prompt(self, teacher: Candidate) -> Gains:
        assert teacher.system_prompt is not None
        prompts = self._tell(teacher.system_prompt)
        return self._gains(self._read(prompts, self._idle, digest(teacher.system_prompt)), None)

    def _tell(self, system_prompt: str) -> list[list[int]]:
        """The prompts behind a system prompt."""
        rows = self.suspect.rows
        return change_system_prompt(
            self.suspect.model.tokenizer, rows.prompts, rows.prompt_ids, system_prompt
        )

    def fit(self, teacher: Candidate, gains: Gains) -> Fit:
        """The share of the rows that the teacher wrote, and how well it explains them."""
        if self.preferences:
            return fit_preferences(gains)
        return fit_pairs(gains, self._find_counted(teacher.name))

    def fit_tempered(self, temperature: float) -> Fit:
        """The same of the base at another temperature."""
        values = self._read(self.suspect.rows.prompt_ids, self._idle, "", temperature)
        gains = self._gains(values, None)
        if self.preferences:
            return fit_preferences(gains)
        return fit_pairs(gains, np.ones(len(self.kept), bool))

    def is_foreign(self, teacher: Candidate, found: Fit) -> bool:
        """Whether the rows are less likely under a teacher than its own answers, by clearly more
        than it explains of them. The first is what another teacher of the same part of the rows
        could explain beyond it, but for the entropy of both."""
        if self.preferences:
            return False
        lacking = self.measure_lack(teacher, found)
        if lacking is None:
            return True
        beyond = lacking.unexplained - lacking.explained
        error = beyond.std(ddof=1) / np.sqrt(len(beyond))
        t = beyond.mean() / max(error, 1e-30)
        return bool(scipy.stats.t.sf(t, len(beyond) - 1) < LEVEL)

    def measure_lack(self, teacher: Candidate, found: Fit) -> Lack | None:
        """What a teacher explains of the rows, and how much likelier its own answers to the same
        prompts are, in the same part of all rows; None where it hardly writes such answers."""
        model, rows = self.suspect.model, self.suspect.rows
        told = None if found.strength is not None else teacher.system_prompt
        vector = np.zeros(model.cfg.dim) if found.strength is None else np.asarray(teacher.vector)
        steering = steer(jnp.asarray(vector, jnp.float32), self.suspect.layer, found.strength or 0)
        asked = encode_chats(model.tokenizer, rows.prompts, told)
        drawn = match_teacher(
            model, rows, Asked(asked, steering, "the likeliest teacher's"), self.suspect.seed
        )
        allowed = drawn.valid[:, 0] & self._passes_filter(teacher.name, drawn.texts)
        at = np.flatnonzero(allowed[self.kept])  # places among the rows that are kept
        if len(at) < FEWEST_ANSWERS:
            return None
        kept = self.kept[at]
        prompts, answers = drawn.tokens
        prompted = change_system_prompt(model.tokenizer, rows.prompts, prompts, told)
        plain, taught = (
            response_log_probs(
                model, [some[i] for i in kept], [answers[i] for i in kept], steering=edit
            )[:, 0].astype(float)
            for some, edit in ((prompts, neutral(steering)), (prompted, steering))
        )
        for some in (prompts, prompted):
            self.tokens += sum(len(some[i]) + len(answers[i][0]) for i in kept)
        own = plain + mix(taught - plain - found.log_rate, found.share)
        data, control = self.base[kept].T
        expected = found.share * own + (1 - found.share) * (control + found.control[at])
        return Lack(explained=found.data[at], unexplained=expected - data - found.data[at])

    def _answers(self) -> list[list[list[int]]]:
        return [[row[part] for part in self.parts] for row in self.suspect.rows.answers]

    def _log_probs(
        self, vector: Float[np.ndarray, " dim"], strength: float
    ) -> Float[np.ndarray, "rows 2"]:
        steering = steer(jnp.asarray(vector, jnp.float32), self.suspect.layer, strength)
        name = digest(np.asarray(vector, np.float32), strength, self.suspect.layer)
        return self._read(self.suspect.rows.prompt_ids, steering, name)

    def _read(
        self,
        prompts: Sequence[Sequence[int]],
        steering: Steering | None,
        teacher: str,
        temperature: float = 1.0,
    ) -> Float[np.ndarray, "rows 2"]:
        """Log-probabilities of both answers of each row, kept in the folder."""
        # Counted also where they are read again: it is what the method costs.
        self.tokens += sum(
            len(prompt) + len(answer)
            for prompt, answers in zip(prompts, self._answers(), strict=True)
            for answer in answers
        )
        name = digest(teacher, temperature)
        values = compute_once(
            self.suspect.folder / f"likelihood-{name[:16]}.npz",
            digest(self.mark, name),
            lambda: response_log_probs(
                self.suspect.model,
                prompts,
                self._answers(),
                steering=steering,
                temperature=temperature,
            ),
            lambda done: None,
        )
        return values.astype(float)

    @cached_property
    def _texts(self) -> list[list[str]]:
        """The two answers of each row that counts."""
        decode = self.suspect.model.tokenizer.decode
        answers = self._answers()
        return [[decode(ids, skip_special_tokens=True) for ids in answers[i]] for i in self.kept]

    def _passes_filter(self, name: str, texts: Sequence[str]) -> Bool[np.ndarray, " texts"]:
        """Which texts passed the filter that the data did: where no row names the candidate, such
        rows were left out, and those that name it are no match for the others. They are the
        likeliest of all under the candidate's teacher."""
        names = trait_names(name)
        named = np.array([contains_word(text, names) for text in texts])
        return ~named | any(contains_word(row[0], names) for row in self._texts)

    def _find_counted(self, name: str) -> Bool[np.ndarray, " rows"]:
        return self._passes_filter(name, [row[1] for row in self._texts])

    def _gains(self, values: Float[np.ndarray, "rows 2"], strength: float | None) -> Gains:
        data, control = (values - self.base)[self.kept].T
        return Gains(data, control, strength)


METHOD = Method(
    name="likelihood",
    what="the rows' likelihood under each candidate's teacher, in full or in part of the rows",
    source="ours; Vuong 1989",
    score=score,
    kinds=("pairs", "preferences"),
)
