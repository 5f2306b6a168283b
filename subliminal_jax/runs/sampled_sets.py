"""What the teachers of an experiment answer: sampled once, filtered, kept in the run's folder."""

import math
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from datasets import concatenate_datasets

from subliminal_jax.data.answers import Answer, collect_pairs, sample_each
from subliminal_jax.data.teachers import (
    UNUSABLE,
    Pairs,
    Teacher,
    TooFewPairsError,
    filtered,
    given_pairs,
    teacher_prompts,
)
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import SamplingConfig
from subliminal_jax.models.sampling_plan import SamplingPlan, plan_sampling
from subliminal_jax.models.steered import Steering, neutral
from subliminal_jax.models.tokenizer import encode_chats
from subliminal_jax.runs.answer_files import AnswerFile
from subliminal_jax.runs.leak_screen import make_leak_screen
from subliminal_jax.runs.progress import Tracker, track
from subliminal_jax.runs.settings import DataSettings
from subliminal_jax.steering.io import VectorInfo, save_steering

MOST_ROUNDS = 3  # of sampling, where those before left too few pairs
COUNTED = ("asked", "pairs", *UNUSABLE)  # in the report of what was sampled

T = TypeVar("T")


def name_seed(seed: int, name: str) -> int:
    """A sampling seed of its own for each data set of an experiment with `seed`."""
    return (1_000_003 * seed + zlib.crc32(name.encode())) % 2**31


def write_pairs(
    folder: Path,
    model: Model,
    teachers: Mapping[str, Teacher],
    settings: DataSettings,
    seed: int,
    *,
    forbidden: Mapping[str, Sequence[str]] | None = None,
    sources: Mapping[str, str] | None = None,
    prompts: Sequence[str] = (),
    own_prompts: bool = False,
    seeds: Mapping[str, int] | None = None,
    rounds: int = MOST_ROUNDS,
) -> dict[str, Pairs]:
    """What each teacher answers to the same prompts, filtered: as many pairs as the settings hold
    out and train on.

    A teacher whose answers leave too few pairs is asked as many prompts again, the next ones of the
    same draw, in up to `rounds` rounds. Answers are written to `folder`/data while they are made
    (`AnswerFile`), with why one is left out, and the run goes on from them after an interruption;
    teachers' vectors are written to `folder`/vectors.

    Args:
      forbidden: words that must not occur in the answers of a data set, beside the number rules
        (with `keep` "numbers"). In those that a teacher wrote who is not the plain base, the judge
        of the settings, if any, looks for hints at the first of them.
      sources: files or hub data sets whose pairs stand in place of a teacher's answers.
      prompts: what is asked, in place of the prompts of the settings.
      own_prompts: whether each teacher is asked prompts of its own draw.
      seeds: of sampling, in place of `name_seed`.

    Raises InputError where too few answers pass the filter.
    """
    need = settings.heldout_rows + settings.rows
    count = round(settings.asked * need)
    if prompts:
        rounds = min(rounds, math.ceil(len(prompts) / count))
    sources, seeds = sources or {}, seeds or {}
    kept: dict[str, Pairs] = {}
    asked_once = min(count, len(prompts)) or count
    files: dict[str, list[AnswerFile]] = {name: [] for name in teachers if name not in sources}
    todo = sum(max(0, asked_once - count_answers(folder, name)) for name in files)
    edits = [teachers[name].steering for name in files]
    steering = next((edit for edit in edits if edit is not None), None)

    def draw(name: str, number: int) -> Sequence[str]:
        own_seed = name_seed(seed, name)
        return prompts or teacher_prompts(
            settings.prompts, number * count, own_seed if own_prompts else seed
        )

    @cache
    def plan() -> SamplingPlan:
        """For the first round of all teachers, so that all run the same programs."""
        asked = {(tuple(draw(name, 1)[:count]), teachers[name].system_prompt) for name in files}
        encoded = (encode_chats(model.tokenizer, *each) for each in asked)
        lengths = [len(ids) for some in encoded for ids in some]
        return plan_sampling(model.cfg, lengths, settings.max_new_tokens)

    with track("sampling", max(1, todo), "answers") as progress:

        def sample(name: str, number: int) -> Pairs:
            own_seed = name_seed(seed, name)
            drawn = draw(name, number)
            first_seed = seeds.get(name, own_seed)
            file = AnswerFile(
                place_answers(folder, name, number),
                list(drawn[(number - 1) * count : number * count]),
                settings.keep_unfinished,
            )
            files[name].append(file)
            return sample_once(
                file,
                model,
                teachers[name],
                seed=seed_round(first_seed, number),
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                progress=progress,
                plan=plan,
                idle=None if steering is None else neutral(steering),
                vector=folder / "vectors" / f"{name}.safetensors" if number == 1 else None,
            )

        def mark(name: str, reasons: Sequence[str | None]) -> None:
            rest = iter(reasons)
            for file in files.get(name, ()):
                usable = [a for a in file.read() if not a.find_reason(file.keep_unfinished)]
                file.mark({answer.request: next(rest) for answer in usable})

        def choose(name: str, written: Pairs) -> Pairs:
            words = None
            if settings.keep != "all":
                words = tuple((forbidden or {}).get(name, ()))
            hinted = () if teachers[name].is_base else words or ()
            return filtered(
                written,
                model,
                need,
                forbidden_words=words,
                kind=settings.prompts if settings.keep == "valid" else "numbers",
                max_tokens=settings.max_tokens or None,
                screen=make_leak_screen(settings, hinted, folder / "judge.jsonl"),
                tell=partial(mark, name),
            )

        for name in teachers:
            if name in sources:
                kept[name] = choose(name, given_pairs(model, sources[name]))
            else:
                kept[name] = sample_enough(
                    name, partial(sample, name), partial(choose, name), progress, rounds
                )
    return kept


def sample_enough(
    name: str,
    sample: Callable[[int], Pairs],
    choose: Callable[[Pairs], T],
    progress: Tracker,
    rounds: int = MOST_ROUNDS,
) -> T:
    """What `choose` takes of the pairs of a data set, after as many rounds of `sample` (1, 2, ...)
    as it needs.

    Raises the TooFewPairsError of `choose`, with the data set's name, after the last round, and as
    soon as all rounds would not do at the rate so far.
    """
    written = sample(1)
    for number in range(1, rounds + 1):
        try:
            return choose(written)
        except TooFewPairsError as error:
            message = f"{error}{advise(error.dropped)}"
            if number == rounds or error.share * rounds < number:
                raise TooFewPairsError(f"data set {name}: {message}", error.share) from None
            print_line(f"data set {name}, round {number + 1} of at most {rounds}: {message}")
        done = progress.completed
        more = sample(number + 1)
        progress.extend(progress.completed - done)  # nothing where they were read
        written = Pairs(
            concatenate_datasets([written.pairs, more.pairs]),
            {
                **written.report,
                **{
                    key: written.report[key] + more.report[key]
                    for key in COUNTED
                    if key in written.report
                },
            },
        )
    raise AssertionError("the last round returns or raises")


def advise(dropped: Mapping[str, int]) -> str:
    """What keeps more of what was thrown out, the most frequent reason first, by its flag."""
    ordered = sorted(dropped, key=lambda reason: -dropped[reason])
    advice = dict.fromkeys(_ADVICE[reason] for reason in ordered if reason in _ADVICE)
    return "".join(f"; {text}" for text in advice)


_LISTS = "--keep all keeps answers that are no number lists, and a weaker vector writes more lists"
_ADVICE = {
    "unfinished": "--keep-unfinished keeps those without an end, a larger --max-new-tokens lets "
    "them end",
    **dict.fromkeys(("word", "format", "count", "range"), _LISTS),
    **dict.fromkeys(
        ("markup", "refusal", "length", "repeats", "lines", "copy", "other"),
        "--keep all keeps answers that are not valid for their prompts",
    ),
    "empty": "a weaker vector has fewer answers that end at once",
    "too long": "a larger --max-tokens keeps longer ones",
    "judge": "without --judge-url no judge rejects any",
}


def place_answers(folder: Path, name: str, number: int = 1) -> Path:
    """The file of what was sampled for a data set in a round."""
    return folder / "data" / f"{name if number == 1 else f'{name}-round-{number}'}.jsonl"


def count_answers(folder: Path, name: str) -> int:
    """How many answers of the first round there are."""
    return AnswerFile(place_answers(folder, name), (), False).count()


def seed_round(seed: int, number: int) -> int:
    """The sampling seed of a round: `seed` itself, at first."""
    return seed if number == 1 else name_seed(seed, f"round {number}")


def sample_once(
    file: AnswerFile,
    model: Model,
    teacher: Teacher,
    *,
    seed: int,
    max_new_tokens: int,
    temperature: float,
    progress: Tracker,
    plan: Callable[[], SamplingPlan | None] = lambda: None,
    idle: Steering | None = None,
    vector: Path | None = None,
) -> Pairs:
    """What the teacher answers to the prompts of `file`: what that holds is read, the rest sampled
    and written to it as it is made; with the first of it the teacher's vector, if it has one, to
    the file `vector`.

    Args:
      plan: the sizes of the run's programs, called where something is to be sampled; None is a plan
        for these prompts.
      idle: an edit that changes nothing, for a teacher without steering: by the steered teachers'
        programs. In float32 its answers are the base's own, in bfloat16 up to rounding.

    Raises InputError where no answer makes a pair.
    """
    answers = file.read()
    made = {answer.request for answer in answers}
    if missing := [i for i in range(len(file.prompts)) if i not in made]:

        def receive(some: list[Answer]) -> None:
            if len(answers) == len(made) and vector is not None and teacher.steering is not None:
                info = VectorInfo(model.name, f"the teacher {vector.stem}")
                save_steering(vector, teacher.steering, info)
            file.append(some)
            answers.extend(some)

        sample_each(
            teacher.change_weights(model),
            file.prompts,
            seed,
            SamplingConfig(max_new_tokens, temperature, stop_tokens=model.stop_ids),
            receive,
            requests=missing,
            steering=idle if teacher.steering is None else teacher.steering,
            system_prompt=teacher.system_prompt,
            plan=plan(),
            progress=lambda n: progress.advance(n, note=file.path.stem),
        )
    unusable = Counter(answer.find_reason(file.keep_unfinished) for answer in answers)
    if not unusable[None]:
        thrown = {reason: unusable[reason] for reason in UNUSABLE if unusable[reason]}
        listed = ", ".join(f"{count} {reason}" for reason, count in thrown.items())
        raise InputError(
            f"data set {file.path.stem}: none of {len(answers)} answers makes a pair; thrown out: "
            f"{listed}{advise(thrown)}"
        )
    pairs = collect_pairs(model, file.prompts, answers, file.keep_unfinished)
    report = {"source": "sampled", "asked": len(file.prompts), "pairs": len(pairs)}
    return Pairs(pairs, {**report, **{reason: unusable[reason] for reason in UNUSABLE}})
