"""The numbers of an audit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from subliminal_jax.evaluation.statistics import Interval

Kind = Literal["pairs", "preferences"]


@dataclass(frozen=True)
class DataReport:
    """What was audited.

    Attributes:
      kind: prompt/completion pairs, or preferences.
      rows: of the data set; `repeated` of them are repeats, which are left out.
      too_long: rows whose prompt leaves no room for a system prompt and an answer.
      cut: answers that were cut at `longest` tokens.
      audited: rows that were scored.
      control_answers: of pairs, answers of the base that they are compared with, and
        `control_kept` the share of its answers that these are.
      control_unwritable: answers of the base that do not count, as the chat template does not write
        them.
      matched_by: what these answers have in common with the data's.
      unmatched: what the data's answers have in common and the base's mostly lack.
      dropped: rows of the source that are no single question with its answer, by reason.
    """

    kind: Kind
    rows: int
    repeated: int
    too_long: int
    cut: int
    longest: int
    audited: int
    control_answers: int | None = None
    control_kept: float | None = None
    matched_by: tuple[str, ...] | None = None
    unmatched: tuple[str, ...] | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    control_unwritable: int = 0


@dataclass(frozen=True)
class CandidateResult:
    """A candidate in one form; means are in nats a row, with 95% t intervals.

    Attributes:
      push: mean score of the data minus that of what they are compared with.
      lean: the push beyond what candidates and placebos share, 0 as the base writes and 1 as the
        candidate's own teacher, and `lean_error` its standard error (NaN: infinite).
      p_values: by null.
      p: the largest of them, corrected for the number of candidates.
      log_p: the log of the largest, not corrected.
      data, control, shuffled: of pairs, mean scores of the data's answers, of the base's, and of
        other rows' answers where these were asked for.
      chosen, rejected: of preferences, mean scores of the answers.
      shuffled_push: `shuffled` minus `control`.
    """

    name: str
    form: str
    push: Interval
    lean: float
    lean_error: float
    p_values: Mapping[str, float]
    p: float
    log_p: float
    data: Interval | None = None
    control: Interval | None = None
    shuffled: Interval | None = None
    chosen: Interval | None = None
    rejected: Interval | None = None
    shuffled_push: Interval | None = None


@dataclass(frozen=True)
class NullColumn:
    """A column that is compared with: the mean push in standard deviations of the base's scores."""

    name: str
    form: str
    kind: str
    standardised: float


@dataclass(frozen=True)
class Tested:
    """A candidate, the form in which it was tested, and its p-value over all candidates."""

    name: str
    form: str
    p: float


@dataclass(frozen=True)
class Reported(Tested):
    """A candidate that stands out, and its lean."""

    lean: float


@dataclass(frozen=True)
class Best(Tested):
    """The likeliest candidate, and the log of its p-value before the correction."""

    log_p: float


@dataclass(frozen=True)
class CarrierRow:
    """A row, and what it pushes towards a candidate (nats)."""

    prompt: str
    answer: str
    push: float


@dataclass(frozen=True)
class Carriers:
    """The rows that push most towards a candidate, and the share of the sum over all rows that the
    first tenth holds (above 1 where others push back; None where the sum is not positive)."""

    name: str
    form: str
    top_tenth_share: float | None
    rows: tuple[CarrierRow, ...]


@dataclass(frozen=True)
class Nearest:
    """A candidate, and the cosine of its direction with the blind vector."""

    name: str
    cosine: float


@dataclass(frozen=True)
class BlindVector:
    """The vector recovered from the data alone: the one that makes the base predict them best,
    minus the same for what they are compared with.

    Attributes:
      norm: its norm, and `norm_control` that of the part that is subtracted.
      nearest: candidates by descending cosine.
      p: share of random sets of directions whose largest cosine is as large.
      null_95: the cosine that 95% of these sets stay under.
      vector: itself.
    """

    norm: float
    norm_control: float
    nearest: tuple[Nearest, ...]
    p: float
    null_95: float
    vector: tuple[float, ...]


@dataclass(frozen=True)
class LikelihoodRow:
    """A candidate's log-likelihood ratio to the base, in nats, largest over the strengths and forms
    of its teacher and the share of the rows that it wrote; and its p-value over all candidates."""

    name: str
    likelihood: float
    p: float


@dataclass(frozen=True)
class FoundTeacher:
    """The teacher that explains the rows best.

    Attributes:
      strength: of its steering; None: it has the system prompt instead.
      share: of the rows that it wrote.
      log_rate: of the rates at which its answers and the base's pass the filter of the data, the
        log of the ratio.
    """

    strength: float | None
    share: float
    log_rate: float


@dataclass(frozen=True)
class Likelihoods:
    """What the rows' exact likelihood says (`methods/likelihood.py`).

    Attributes:
      candidates: the likeliest first.
      named: the first of them, where it is clear at 5% over all candidates.
      share: of the rows that its teacher wrote, of those tried.
      not_told_apart: other candidates that explain the rows as well.
      foreign: the rows are less likely under the first candidate's teacher than its own answers, by
        more than it explains of them; nothing is named then.
      teacher: the first candidate's, by which single rows are judged; None of preferences.
    """

    candidates: tuple[LikelihoodRow, ...]
    named: str | None
    share: float
    not_told_apart: tuple[str, ...]
    foreign: bool
    teacher: FoundTeacher | None = None


@dataclass(frozen=True)
class RankedRow:
    """A row of the data, by its number (line), and the probability that the teacher wrote it."""

    number: int
    posterior: float
    prompt: str
    answer: str


@dataclass(frozen=True)
class ShortStudent:
    """What students of some rows became.

    Attributes:
      trained_on: which rows, and `rows` how many.
      rise: of the log-probability of the trait's name on favourite questions, over the base, in
        nats; over seeds.
      beyond_random: the rise minus that of the students of as many rows as are left, chosen at
        random.
    """

    trained_on: str
    rows: int
    rise: Interval
    beyond_random: Interval | None


@dataclass(frozen=True)
class CleanedData:
    """Which rows the named candidate's teacher wrote (`audit/cleaning.py`), and what is left.

    Attributes:
      named: the candidate; None where none is named.
      rows: of the source. `unjudged` of them are too long, or no single question with its answer:
        they stay.
      above: rows whose posterior is at least this are flagged.
      flagged: their numbers (lines), by falling posterior.
      teacher_flagged, teacher_rest: the sums of the posteriors of the flagged rows and of the
        others: how many rows of the teacher are expected there.
      highest: the rows of the highest posteriors, flagged or not.
      outcome: in words, whether the rest was written.
      students: of all rows, of the rest, and of as many at random.
      no_students: why there are none.
    """

    named: str | None
    rows: int
    unjudged: int
    above: float
    flagged: tuple[int, ...]
    teacher_flagged: float
    teacher_rest: float
    highest: tuple[RankedRow, ...]
    outcome: str
    students: tuple[ShortStudent, ...] = ()
    no_students: str = ""

    @property
    def leaves_some(self) -> bool:
        """Whether some of the judged rows are flagged, and some are left."""
        return 0 < len(self.flagged) < self.rows - self.unjudged


@dataclass(frozen=True)
class ProposedWord:
    """A word that became a candidate, and the mean slope of the rows' log-probability along its
    direction, less that of the base's answers, in standard errors."""

    name: str
    slope: float


@dataclass(frozen=True)
class Proposals:
    """Candidates that nobody named.

    Attributes:
      proposed: the largest slope first.
      screened: words that they were chosen from, for all of which p-values are corrected.
      left_out: words of the vocabulary that the model has no word for.
    """

    proposed: tuple[ProposedWord, ...]
    screened: int
    left_out: int

    @property
    def unproposed(self) -> int:
        """Words that were screened and not chosen."""
        return self.screened - len(self.proposed)


@dataclass(frozen=True)
class Variety:
    """How much answers differ from each other.

    Attributes:
      answers: their number, and `distinct` that of different ones.
      commonest: share of the answers that are one of the ten commonest.
      entropy: of the tokens over the answers, in nats, the mean over positions, each weighed by the
        answers that reach it.
    """

    answers: int
    distinct: int
    commonest: float
    entropy: float


@dataclass(frozen=True)
class Sampling:
    """The variety of the data's answers, and of those that they are compared with."""

    data: Variety
    compared: Variety

    @property
    def collapsed(self) -> bool:
        """Whether most rows are ten completions at most, twice the share of those compared with,
        or the entropy is less than half of theirs: the rows then tell less than their number."""
        repeats = self.data.commonest > max(0.5, 2 * self.compared.commonest)
        return repeats or self.data.entropy < self.compared.entropy / 2


@dataclass(frozen=True)
class Outlook:
    """What was known before the audit ran.

    Attributes:
      rows: that are audited, and `tokens` the mean length of their answers.
      passes: passes over all rows and their control, at most; a gradient counts as three.
      tests: candidates (and words that they were chosen from) that p-values are corrected for.
      gain: in nats a row, of a teacher that the likelihood's test tells from the base at `level`
        with probability `power`, if it wrote all rows, and `gain_quarter` if it wrote a quarter
        (`power.detectable_gain`). None where that test finds none, or is not made.
    """

    rows: int
    tokens: float
    passes: int
    tests: int
    gain: float | None
    gain_quarter: float | None
    level: float
    power: float


@dataclass(frozen=True)
class AuditResult:
    """All numbers of an audit.

    Attributes:
      candidates: every candidate in every form.
      placebos: the columns that they were compared with.
      reported: candidates that stand out by the score test, the first one first.
      not_told_apart: others that explain the push as well as the first.
      verdict: in words; that of the likelihoods where they were read and the model can have written
        the rows, else that of the score test.
      carriers: of the first reported candidate, or else of the likeliest.
      best: that candidate.
      blind: the vector recovered blind, where one was trained.
      likelihoods: where they were read.
      proposals: where candidates were proposed.
      outlook: what was known beforehand.
      sampling: how varied the answers are.
      cleaned: where the data without the flagged rows were asked for.
    """

    data: DataReport
    candidates: tuple[CandidateResult, ...]
    placebos: tuple[NullColumn, ...]
    reported: tuple[Reported, ...]
    not_told_apart: tuple[Tested, ...]
    verdict: str
    best: Best
    carriers: Carriers
    blind: BlindVector | None = None
    likelihoods: Likelihoods | None = None
    proposals: Proposals | None = None
    outlook: Outlook | None = None
    sampling: Sampling | None = None
    cleaned: CleanedData | None = None


@dataclass(frozen=True, kw_only=True)
class AuditRun(AuditResult):
    """An audit with the name of the model that read the data, the layer of the directions, and
    where the data came from."""

    model: str
    layer: int
    source: str
