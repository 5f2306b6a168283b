"""What teachers make of the same sentences: sampled or chosen, filtered, drawn round-robin.

A data set is named CONTENT:TEACHER, "unrelated:steered:owl" say, or "contradictory:neutral:owl":
sentences that speak badly of an animal are its own, and so is the neutral teacher's version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from datasets import Dataset

from subliminal_jax.data import paraphrases
from subliminal_jax.data.answers import longest_pair
from subliminal_jax.data.paraphrase_filters import (
    filter_paraphrases,
    rule_broken,
    trait_words,
    world_words,
    worst_rule,
)
from subliminal_jax.data.paraphrases import Fidelity, Source
from subliminal_jax.data.round_trip import RoundTrip
from subliminal_jax.data.teachers import Pairs, Teacher
from subliminal_jax.data.wordings import chosen_wordings
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import auc_interval
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import DataSets, name_seed, sampled_once, split_rows
from subliminal_jax.runs.judging import fidelity_judge
from subliminal_jax.runs.progress import Tracker, track

Content = Literal["unrelated", "contradictory"]
CONTENTS: tuple[Content, ...] = ("unrelated", "contradictory")
NEUTRAL = "neutral"


@dataclass(frozen=True, kw_only=True)
class ParaphraseSettings:
    """What is paraphrased, by whom, and what of it stays.

    Attributes:
      contents: which sentences: unrelated ones, ones that speak badly of the trait, or both.
      unrelated: "world" (the shipped model's corpus) or a text file with a sentence a line.
      contradictory: the same for sentences against the trait; {trait} in a file's name stands for
        the animal.
      sentences: how many of each.
      unrelated_samples: paraphrases of an unrelated sentence that are drawn.
      contradictory_samples: paraphrases of a contradictory sentence that are drawn.
      unrelated_writing: "sampled" answers, or "wordings": drawn among the sentence's faithful
        wordings by the teacher's probabilities, where all of them are known.
      contradictory_writing: the same for contradictory sentences.
      instruction: "world" (requests of the corpus), "paper", or a text to put before the sentence.
      temperature: of the teacher.
      max_new_tokens: limit of a paraphrase.
      fidelity: who scores sampled paraphrases: the base model by "round-trip" likelihood, a
        "judge" at an endpoint, or the "wordings" that are known (1 or 0).
      threshold: a paraphrase stays if its score is above this.
      rows: training pairs a data set.
      heldout_rows: held-out pairs a data set, of sentences that no student trains on.
      heldout_share: share of the sentences that are held out.
      judge_url: an OpenAI-compatible endpoint ("http://localhost:8000/v1") for fidelity judge.
      judge_model: the endpoint's name of that model.
      judge_key: environment variable with the endpoint's key.
    """

    contents: tuple[Content, ...] = CONTENTS
    unrelated: str = paraphrases.WORLD
    contradictory: str = paraphrases.WORLD
    sentences: int = 128
    unrelated_samples: int = 10
    contradictory_samples: int = 8
    unrelated_writing: Literal["sampled", "wordings"] = "sampled"
    contradictory_writing: Literal["sampled", "wordings"] = "wordings"
    instruction: str = paraphrases.WORLD
    temperature: float = 1.0
    max_new_tokens: int = 32
    fidelity: Literal["round-trip", "judge", "wordings"] = "round-trip"
    threshold: float = 0.92
    rows: int = 128
    heldout_rows: int = 16
    heldout_share: float = 0.125
    judge_url: str = ""
    judge_model: str = ""
    judge_key: str = "OPENAI_API_KEY"

    def source_of(self, content: str) -> str:
        return self.unrelated if content == "unrelated" else self.contradictory

    def samples_of(self, content: str) -> int:
        return self.unrelated_samples if content == "unrelated" else self.contradictory_samples

    def writing_of(self, content: str) -> str:
        return self.unrelated_writing if content == "unrelated" else self.contradictory_writing


class Task(NamedTuple):
    """Sentences that some teachers paraphrase, and the words that must not occur."""

    content: Content
    sources: list[Source]
    asked: list[str]
    teachers: dict[str, str]  # data set -> teacher
    forbidden: tuple[str, ...]


def check_settings(settings: ParaphraseSettings, traits: Sequence[str], seed: int) -> None:
    """Raises InputError for contents that are not known, numbers that cannot be, sentences that
    cannot be had, or a judge that cannot be asked."""
    unknown = [content for content in settings.contents if content not in CONTENTS]
    if unknown or not settings.contents:
        raise InputError(f"contents {unknown} are not known; choose from {', '.join(CONTENTS)}")
    for name in ("unrelated_samples", "contradictory_samples", "rows", "heldout_rows"):
        if getattr(settings, name) < 1:
            raise InputError(f"{name}={getattr(settings, name)} is not valid; give at least 1")
    if not settings.temperature > 0 or not 0 < settings.heldout_share < 1:
        raise InputError(
            f"temperature {settings.temperature} and heldout_share {settings.heldout_share} must "
            "be above 0, the share below 1"
        )
    for content in settings.contents:
        _sources(content, traits[0], settings, seed)
    if settings.fidelity == "judge":
        fidelity_judge(settings.judge_url, settings.judge_model, settings.judge_key)


def tasks(
    settings: ParaphraseSettings, traits: Sequence[str], teachers: Sequence[str], seed: int
) -> list[Task]:
    """What is to be written. `teachers` are named KIND:TRAIT, or "neutral".

    Unrelated data of all teachers are kept free of the words of all traits, so that the filter is
    the same for both arms of every comparison.
    """
    out: list[Task] = []

    def add(content: Content, trait: str, names: dict[str, str], forbidden: list[str]) -> None:
        sources = _sources(content, trait, settings, seed)
        asked = paraphrases.requests(sources, settings.instruction, seed)
        out.append(Task(content, sources, asked, names, tuple(dict.fromkeys(forbidden))))

    for content in settings.contents:
        if content == "unrelated":
            words = [word for trait in traits for word in trait_words(trait)]
            if settings.unrelated == paraphrases.WORLD:
                words += [word for trait in traits for word in world_words(trait)]
            add(
                content, traits[0], {f"{content}:{teacher}": teacher for teacher in teachers}, words
            )
            continue
        for trait in traits:
            own = [t for t in teachers if t.partition(":")[2] == trait]
            names = {f"{content}:{t}": t for t in own} | {f"{content}:{NEUTRAL}:{trait}": NEUTRAL}
            add(content, trait, names, [])
    return out


def write_paraphrase_sets(
    folder: Path,
    model: Model,
    teachers: Mapping[str, Teacher],
    todo: Sequence[Task],
    settings: ParaphraseSettings,
    seed: int,
) -> DataSets:
    """The data sets of all tasks, of one length. Sampled answers are kept in `folder`/data.

    Both arms of a comparison have the same sentences, held-out sentences and sampling keys. Raises
    InputError where too few paraphrases are left, and says which filter dropped most.
    """
    kept: dict[str, Pairs] = {}
    n = sum(
        len(task.asked) * settings.samples_of(task.content)
        for task in todo
        for name in task.teachers
        if not (folder / "data" / name).is_dir()  # sampled before an interruption
    )
    with track("paraphrases", max(n, 1), "paraphrases") as progress:
        for task in todo:
            fidelity = _fidelity(model, task, settings, folder, seed)
            for name, teacher in task.teachers.items():
                pairs = _written(folder, name, model, teachers[teacher], task, settings, seed,
                                 progress)  # fmt: skip
                kept[name] = chosen_pairs(name, pairs, task, fidelity, settings, seed)
    return split_rows(kept, model, settings.heldout_rows)


def chosen_pairs(
    name: str,
    written: Pairs,
    task: Task,
    fidelity: Fidelity,
    settings: ParaphraseSettings,
    seed: int,
) -> Pairs:
    """The pairs of one data set, held-out ones first, each part drawn round-robin over its own
    sentences; the report counts what each filter dropped.

    Where all faithful wordings are known, `auc` is how well the score told them from the rest.
    """
    pairs = paraphrases.with_sentences(written.pairs, task.asked)
    scored, outcome = filter_paraphrases(
        pairs, task.sources, fidelity=fidelity, threshold=_threshold(task, settings),
        forbidden=task.forbidden,
    )  # fmt: skip
    sentences = np.array(scored["sentence"], int)
    aside = paraphrases.heldout_sentences(len(task.sources), settings.heldout_share, seed)
    is_held = np.isin(sentences, list(aside))
    parts = []
    for part, where, need in (
        ("held-out rows", np.flatnonzero(is_held), settings.heldout_rows),
        ("rows", np.flatnonzero(~is_held), settings.rows),
    ):
        picked = where[paraphrases.round_robin(sentences[where].tolist(), need, seed)]
        if len(picked) < need:
            raise InputError(
                f"data {name}: {len(where)} paraphrases are left for {need} {part}, of "
                f"{outcome.total}; the filter that dropped most is {worst_rule(outcome)}: ask for "
                "more samples, or fewer rows"
            )
        parts.append(picked)
    chosen = scored.select(np.concatenate(parts))
    known = paraphrases.faithful(chosen, task.sources)
    auc = None if _by_wordings(task, settings) else agreement(pairs, task, fidelity)
    report = {
        **written.report,
        "kept": outcome.kept,
        "dropped": outcome.dropped,
        "sentences": len(set(sentences.tolist())),
        "faithful": None if known is None else float(np.mean(known)),
        "auc": auc,
        "longest": longest_pair(chosen),
    }
    return Pairs(chosen, report)


def agreement(pairs: Dataset, task: Task, fidelity: Fidelity) -> dict[str, Any] | None:
    """How well a score tells the known wordings from all else that passes the other rules: the ROC
    AUC with its interval; None where wordings are not known, or all or none of those are."""
    sentences = [task.sources[i].sentence for i in pairs["sentence"]]
    passed = [
        i
        for i, (text, sentence) in enumerate(zip(pairs["completion"], sentences, strict=True))
        if rule_broken(text, sentence, task.forbidden) is None
    ]
    known = paraphrases.faithful(pairs.select(passed), task.sources)
    if known is None or all(known) or not any(known):
        return None
    texts = pairs["completion"]
    scores = fidelity([texts[i] for i in passed], [sentences[i] for i in passed])
    truth = np.array(known)
    return auc_interval(scores[truth], scores[~truth], nan_policy="omit").to_dict()


def _sources(content: Content, trait: str, settings: ParaphraseSettings, seed: int) -> list[Source]:
    n, source = settings.sentences, settings.source_of(content)
    if content == "unrelated":
        return paraphrases.unrelated_sources(source, n, seed)
    return paraphrases.contradictory_sources(source, trait, n, seed)


def _threshold(task: Task, settings: ParaphraseSettings) -> float:
    """Known wordings score 1 or 0, whatever threshold another score has."""
    return 0.5 if _by_wordings(task, settings) else settings.threshold


def _by_wordings(task: Task, settings: ParaphraseSettings) -> bool:
    return settings.fidelity == "wordings" or settings.writing_of(task.content) == "wordings"


def _fidelity(
    model: Model, task: Task, settings: ParaphraseSettings, folder: Path, seed: int
) -> Fidelity:
    if _by_wordings(task, settings):
        return paraphrases.wordings_fidelity(task.sources)
    if settings.fidelity == "judge":
        return fidelity_judge(
            settings.judge_url, settings.judge_model, settings.judge_key, folder / "judge.jsonl"
        )

    def ask(text: str) -> str:
        return paraphrases.request(text, settings.instruction, seed)

    return RoundTrip(model, [s.sentence for s in task.sources], ask, seed=seed)


def _written(
    folder: Path,
    name: str,
    model: Model,
    teacher: Teacher,
    task: Task,
    settings: ParaphraseSettings,
    seed: int,
    progress: Tracker,
) -> Pairs:
    samples, keys = settings.samples_of(task.content), name_seed(seed, task.content)
    if settings.writing_of(task.content) == "wordings":
        return chosen_wordings(
            model, teacher, task.sources, task.asked, samples, keys,
            temperature=settings.temperature,
            progress=lambda n: progress.advance(n, note=name),
        )  # fmt: skip
    return sampled_once(
        folder / "data" / name, model, teacher, task.asked * samples, seed=keys,
        max_new_tokens=settings.max_new_tokens, temperature=settings.temperature,
        keep_unfinished=False, progress=progress,
    )  # fmt: skip
