"""Which rows did the named candidate's teacher write, and what do students of the others become?

With r_i the ratio of row i's probability under the teacher that the likelihoods found to that under
the base, corrected for the filter, and pi the share of the rows that it wrote (`fits.separate`),
the probability that it wrote row i is

    pi r_i / (1 - pi + pi r_i).

Rows where it is high are flagged. Short students (`short_students.py`) of all rows, of those that
are left and of as many at random show what leaving the flagged ones out is worth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

from subliminal_jax.audit.method import Suspect
from subliminal_jax.audit.names import ask_for_names, log_rates
from subliminal_jax.audit.results import (
    CleanedData,
    FoundTeacher,
    Likelihoods,
    RankedRow,
    ShortStudent,
)
from subliminal_jax.audit.rows import EveryRow, encode_every_row
from subliminal_jax.audit.scores import Candidate, compute_once
from subliminal_jax.audit.settings import CleaningSettings
from subliminal_jax.audit.short_students import (
    ADAPTER,
    BATCH_SIZE,
    RATE,
    STEPS,
    make_idle_factors,
    train_factors,
)
from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.data.conversations import CountedRows
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.fingerprints import digest, weights_digest
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.models.tokenizer import change_system_prompt
from subliminal_jax.rounding import round_up_width
from subliminal_jax.runs.progress import track
from subliminal_jax.training.adapters import Trainable, attach
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.log_probs import response_log_probs

SHOWN = 10  # rows of the highest posteriors
PIECE = 4096  # rows whose log-probabilities are kept together
SEEDS = 4  # of short students of the same rows
LONGEST_SHOWN = 200  # characters of a prompt or an answer


def clean_data(
    suspect: Suspect,
    data: CountedRows,
    found: Likelihoods,
    settings: CleaningSettings,
    room: int,
) -> CleanedData:
    """Which rows of a file are flagged, and what short students become where some are and some are
    left. Rows whose prompt has more than `room` tokens are not judged."""
    total = len(data.rows) + sum(data.dropped.values())
    nothing = CleanedData(None, total, total, settings.flag_above, (), 0.0, 0.0, (), "")
    candidate = next((c for c in suspect.candidates if c.name == found.named), None)
    if candidate is None or found.teacher is None:
        return replace(nothing, outcome="no file is written: no candidate is named")
    rows = encode_every_row(suspect.model, data.rows, room, suspect.rows.report.longest)
    posteriors = find_posteriors(
        measure_gains(suspect, candidate, rows, found.teacher), found.teacher
    )
    is_flagged = posteriors >= settings.flag_above
    order = np.argsort(-posteriors, kind="stable").tolist()
    numbers = [data.numbers[place] for place in rows.places]
    completions = list(data.rows["completion"])
    cleaned = CleanedData(
        named=candidate.name,
        rows=total,
        unjudged=total - len(posteriors),
        above=settings.flag_above,
        flagged=tuple(numbers[i] for i in order if is_flagged[i]),
        teacher_flagged=float(posteriors[is_flagged].sum()),
        teacher_rest=float(posteriors[~is_flagged].sum()),
        highest=tuple(
            RankedRow(
                number=numbers[i],
                posterior=float(posteriors[i]),
                prompt=rows.prompts[i][:LONGEST_SHOWN],
                answer=completions[rows.places[i]][:LONGEST_SHOWN],
            )
            for i in order[:SHOWN]
        ),
        outcome="",
    )
    cleaned = replace(cleaned, outcome=describe_outcome(cleaned, settings))
    if not (cleaned.leaves_some and settings.retrain):
        return cleaned
    try:
        return replace(cleaned, students=retrain(suspect, candidate, rows, is_flagged))
    except InputError as error:  # the name is no word to ask for; a student diverges
        return replace(cleaned, no_students=str(error))


def describe_outcome(cleaned: CleanedData, settings: CleaningSettings) -> str:
    """Whether the rest is written, in words."""
    flagged, above = len(cleaned.flagged), f"{settings.flag_above:g}"
    if cleaned.leaves_some:
        left = cleaned.rows - flagged
        return f"{left} of {cleaned.rows} rows are written to {settings.write_clean}"
    if flagged:
        return f"no file is written: all {flagged} rows that could be judged are flagged"
    return f"no file is written: no row has a probability of {above} or more"


def find_posteriors(
    gains: Float[np.ndarray, " rows"], teacher: FoundTeacher
) -> Float[np.ndarray, " rows"]:
    """The probability that the teacher wrote each row, by what it adds to the rows'
    log-probabilities (nats)."""
    prior = np.log(teacher.share) - np.log1p(-teacher.share)
    return scipy.special.expit(prior + gains - teacher.log_rate)


def measure_gains(
    suspect: Suspect, candidate: Candidate, rows: EveryRow, found: FoundTeacher
) -> Float[np.ndarray, " rows"]:
    """What the candidate's teacher adds to the log-probability of each row, in nats. What was read
    is kept in the folder, piece by piece."""
    model, layer = suspect.model, suspect.layer
    idle = steer(jnp.zeros(model.cfg.dim), layer, 0.0)
    prompts, teacher = rows.prompt_ids, idle
    if found.strength is not None:
        teacher = steer(jnp.asarray(candidate.vector, jnp.float32), layer, found.strength)
    elif candidate.system_prompt is not None:
        prompts = change_system_prompt(
            model.tokenizer, rows.prompts, rows.prompt_ids, candidate.system_prompt
        )
    weights, count = weights_digest(model.params), len(rows.answers)
    with track("every row", 2 * count, "rows") as progress:

        def read(
            name: str, prompts: Sequence[Sequence[int]], steering: Steering, part: slice
        ) -> Float[np.ndarray, " rows"]:
            asked, answers = prompts[part], [[answer] for answer in rows.answers[part]]
            edit = (np.asarray(steering.vectors), float(steering.scale), layer)
            return compute_once(
                suspect.folder / f"every-row-{name}-{part.start}.npz",
                digest(weights, asked, answers, *edit),
                lambda: response_log_probs(
                    model, asked, answers, steering=steering, progress=progress.advance
                )[:, 0],
                progress.advance,
            ).astype(float)

        parts = [slice(start, start + PIECE) for start in range(0, count, PIECE)]
        pieces = [
            read("teacher", prompts, teacher, part) - read("base", rows.prompt_ids, idle, part)
            for part in parts
        ]
    return np.concatenate(pieces)


def retrain(
    suspect: Suspect, candidate: Candidate, rows: EveryRow, is_flagged: Bool[np.ndarray, " rows"]
) -> tuple[ShortStudent, ...]:
    """Students of all rows, of the rest and of as many at random: how much likelier the candidate's
    name is to them than to the base. Each seed has another draw of batches and of random rows; one
    program trains all.

    Raises InputError for a candidate whose name is no word, and for a student that diverges.
    """
    model, seed = suspect.model, suspect.seed
    questions = ask_for_names(suspect._replace(candidates=[candidate], placebos=[])).questions
    data = pad_rows(suspect, rows, choose_rows(np.flatnonzero(~is_flagged), len(is_flagged), seed))
    arms = [
        Arm("adamw", RATE, (seed + i) % 2**32, name)
        for i in range(SEEDS)
        for name in ("all", "rest", f"random {i}")
    ]

    def ask(factors: Trainable) -> float:
        on_device = jax.tree.map(jnp.asarray, factors)
        params, _ = attach(model.params, on_device, model.cfg, ADAPTER)
        return float(log_rates(params, model.cfg, questions, 1, None)[0])

    def train() -> Float[np.ndarray, " arms"]:
        base, rises = ask(make_idle_factors(model)), []
        for factors in train_factors(model, data, arms):
            rises.append(ask(factors) - base)
            progress.advance(1)
        return np.array(rises)

    mark = digest(
        weights_digest(model.params),
        *[np.asarray(batch.tokens) for batch in data.values()],
        (candidate.name, seed, SEEDS, STEPS, BATCH_SIZE, RATE),
    )
    file = suspect.folder / f"students-{mark[:16]}.npz"
    with track("students of all rows and of the rest", len(arms), "students") as progress:
        rises = compute_once(file, mark, train, progress.advance)
    of_all, of_rest, of_random = rises.reshape(SEEDS, 3).T
    left = int((~is_flagged).sum())
    return (
        ShortStudent(
            "all rows", len(is_flagged), mean_interval(of_all), mean_interval(of_all - of_random)
        ),
        ShortStudent("the rest", left, mean_interval(of_rest), mean_interval(of_rest - of_random)),
        ShortStudent("as many at random", left, mean_interval(of_random), None),
    )


def choose_rows(
    rest: Int[np.ndarray, " rest"], count: int, seed: int
) -> dict[str, Int[np.ndarray, " places"]]:
    """The rows of each data set of the students: of all, of the rest, and for each seed of as many
    at random. All sets have one length, in which the rows of a smaller one come about equally
    often; no more than the students see."""
    rng = np.random.default_rng(seed)
    length = min(count, STEPS * BATCH_SIZE)
    chosen = {"all": rng.permutation(count), "rest": rng.permutation(rest)}
    chosen |= {f"random {i}": rng.permutation(count)[: len(rest)] for i in range(SEEDS)}
    return {name: np.resize(places, length) for name, places in chosen.items()}


def pad_rows(
    suspect: Suspect, rows: EveryRow, chosen: Mapping[str, Int[np.ndarray, " places"]]
) -> dict[str, Batch]:
    """The data sets of the students, by name."""
    pairs = zip(rows.prompt_ids, rows.answers, strict=True)
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    width = min(round_up_width(longest), suspect.model.cfg.context)
    return {
        name: pad_pairs(
            [rows.prompt_ids[i] for i in places],
            [rows.answers[i] for i in places],
            width,
            pad_id=suspect.model.pad_id,
        )
        for name, places in chosen.items()
    }
