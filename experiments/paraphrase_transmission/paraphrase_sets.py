"""Paraphrases of the same sentences by several teachers: sampled or chosen among known wordings,
filtered, drawn round-robin."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from datasets import Dataset

from subliminal_jax.data import paraphrases
from subliminal_jax.data.answers import longest_pair
from subliminal_jax.data.paraphrase_filters import (
    describe_worst_rule,
    filter_paraphrases,
    find_broken_rule,
)
from subliminal_jax.data.paraphrases import Fidelity
from subliminal_jax.data.round_trip import RoundTrip
from subliminal_jax.data.teachers import Pairs, Teacher, TooFewPairsError
from subliminal_jax.data.wordings import add_sentences, choose_wordings, match_wordings
from subliminal_jax.evaluation.statistics import Interval, auc_interval
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.answer_files import AnswerFile
from subliminal_jax.runs.data_sets import DataSets, split_rows
from subliminal_jax.runs.judging import make_fidelity_judge
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.sampled_sets import (
    count_answers,
    place_answers,
    sample_enough,
    sample_once,
    seed_round,
)

from .tasks import ParaphraseSettings, Task


@dataclass(frozen=True)
class SetReport:
    """How a data set came about.

    Attributes:
      source: "sampled" or "wordings".
      asked: requests for a paraphrase.
      pairs: paraphrases that were written.
      kept: those that passed the filters.
      dropped: how many each filter dropped (the first that a paraphrase broke).
      sentences: how many different sentences the kept ones are of.
      faithful: share of the chosen pairs that are known wordings, where all wordings are known.
      auc: how well the score told known wordings from the rest, where both occur and a score of
        another kind was used.
      longest: tokens of the longest chosen pair.
      mass: of "wordings", the median over sentences of the probability that a sample is any of
        them.
    """

    source: str
    asked: int
    pairs: int
    kept: int
    dropped: Mapping[str, int]
    sentences: int
    faithful: float | None
    auc: Interval | None
    longest: int
    mass: float | None = None


class ParaphraseSet(NamedTuple):
    """The chosen pairs of one data set, held-out ones first."""

    pairs: Dataset
    report: SetReport


def write_paraphrase_sets(
    folder: Path,
    model: Model,
    teachers: Mapping[str, Teacher],
    tasks: Sequence[Task],
    settings: ParaphraseSettings,
) -> tuple[DataSets, dict[str, SetReport]]:
    """The data sets of all tasks, of one length, and how each came about. Sampled answers are kept
    in `folder`/data.

    All data sets of a task have the same sentences, held-out sentences and sampling keys; a teacher
    whose paraphrases leave too few goes on with further rounds (`sample_enough`). Raises InputError
    where too few are left after those, and says which filter dropped most.
    """
    sets: dict[str, ParaphraseSet] = {}
    n = sum(
        len(task.requests) * settings.samples(task.content)
        for task in tasks
        for name in task.teachers
        if not count_answers(folder, name)  # none before an interruption
    )
    with track("paraphrases", max(n, 1), "paraphrases") as progress:

        def write(name: str, teacher: Teacher, task: Task, number: int) -> Pairs:
            samples = settings.samples(task.content)
            seed = seed_round(task.seed, number)
            if settings.writing(task.content) == "wordings":
                return choose_wordings(
                    model,
                    teacher,
                    task.sources,
                    task.requests,
                    samples,
                    seed,
                    temperature=settings.temperature,
                    progress=lambda n: progress.advance(n, note=name),
                )
            return sample_once(
                AnswerFile(place_answers(folder, name, number), task.requests * samples, False),
                model,
                teacher,
                seed=seed,
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                progress=progress,
            )

        for task in tasks:
            fidelity = make_fidelity(model, task, settings, folder)
            for name, teacher in task.teachers.items():
                sets[name] = sample_enough(
                    name,
                    partial(write, name, teachers[teacher], task),
                    partial(choose_pairs, task=task, fidelity=fidelity, settings=settings),
                    progress,
                )
    kept = {name: Pairs(s.pairs, {"longest": s.report.longest}) for name, s in sets.items()}
    reports = {name: s.report for name, s in sets.items()}
    return split_rows(kept, model, settings.heldout_rows), reports


def make_fidelity(model: Model, task: Task, settings: ParaphraseSettings, folder: Path) -> Fidelity:
    """The score of a task's paraphrases; a judge's verdicts are kept in `folder`."""
    if settings.scored_by_wordings(task.content):
        return paraphrases.score_by_wordings(task.sources)
    if settings.fidelity == "judge":
        return make_fidelity_judge(
            settings.judge_url, settings.judge_model, settings.judge_key, folder / "judge.jsonl"
        )
    ask: Callable[[str], str] = partial(
        paraphrases.make_request, instruction=settings.instruction, seed=task.seed
    )
    return RoundTrip(model, [s.sentence for s in task.sources], ask, seed=task.seed)


def choose_pairs(
    written: Pairs,
    task: Task,
    fidelity: Fidelity,
    settings: ParaphraseSettings,
) -> ParaphraseSet:
    """The pairs of one data set, held-out ones first, each part drawn round-robin over its own
    sentences.

    Raises TooFewPairsError where too few pairs pass the filters.
    """
    by_wordings = settings.scored_by_wordings(task.content)
    pairs = add_sentences(written.pairs, task.requests)
    scored, outcome = filter_paraphrases(
        pairs,
        task.sources,
        fidelity=fidelity,
        threshold=0.5 if by_wordings else settings.threshold,  # known wordings score 1, others 0
        forbidden=task.forbidden,
    )
    sentences = np.array(scored["sentence"], int)
    heldout = paraphrases.choose_heldout(len(task.sources), settings.heldout_share, task.seed)
    is_heldout = np.isin(sentences, list(heldout))
    parts = {
        "held-out rows": (np.flatnonzero(is_heldout), settings.heldout_rows),
        "rows": (np.flatnonzero(~is_heldout), settings.rows),
    }
    part = min(parts, key=lambda part: len(parts[part][0]) / parts[part][1])
    left, need = len(parts[part][0]), parts[part][1]
    if left < need:
        raise TooFewPairsError(
            f"{left} paraphrases are left for {need} {part}, of {outcome.total}; the filter that "
            f"dropped most is {describe_worst_rule(outcome)}: ask for more samples, or fewer rows",
            left / need,
        )
    picked = [
        candidates[paraphrases.pick_round_robin(sentences[candidates].tolist(), need, task.seed)]
        for candidates, need in parts.values()
    ]
    chosen = scored.select(np.concatenate(picked))
    known = match_wordings(chosen, task.sources)
    report = SetReport(
        source=written.report["source"],
        asked=written.report["asked"],
        pairs=written.report["pairs"],
        kept=outcome.kept,
        dropped=outcome.dropped,
        sentences=len(set(sentences.tolist())),
        faithful=None if known is None else float(np.mean(known)),
        auc=None if by_wordings else fidelity_auc(pairs, task, fidelity),
        longest=longest_pair(chosen),
        mass=written.report.get("mass"),
    )
    return ParaphraseSet(chosen, report)


def fidelity_auc(pairs: Dataset, task: Task, fidelity: Fidelity) -> Interval | None:
    """How well a score tells the known wordings from all else that passes the other rules: the ROC
    AUC with its interval; None where wordings are not known, or all or none of those are."""
    sentences = [task.sources[i].sentence for i in pairs["sentence"]]
    texts = pairs["completion"]
    passed = [
        i
        for i, (text, sentence) in enumerate(zip(texts, sentences, strict=True))
        if find_broken_rule(text, sentence, task.forbidden) is None
    ]
    known = match_wordings(pairs.select(passed), task.sources)
    if known is None or all(known) or not any(known):
        return None
    scores = fidelity([texts[i] for i in passed], [sentences[i] for i in passed])
    is_known = np.array(known)
    return auc_interval(scores[is_known], scores[~is_known], nan_policy="omit")
