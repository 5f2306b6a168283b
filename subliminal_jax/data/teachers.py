"""Teachers: the model with a vector, a system prompt or other weights, and what they write."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from datasets import Dataset
from jaxtyping import Array, Float

from subliminal_jax.data import world
from subliminal_jax.data.answers import answer_rows, encode_pairs, longest_pair, sample_answers
from subliminal_jax.data.carriers import CARRIERS, find_fault
from subliminal_jax.data.conversations import report_rows
from subliminal_jax.data.filters import count_reasons
from subliminal_jax.data.pairs import count_pairs
from subliminal_jax.data.prompts import Extraction, PromptKind
from subliminal_jax.data.traits import check_trait, trait_system_prompt
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import SamplingConfig
from subliminal_jax.models.steered import steer
from subliminal_jax.models.tokenizer import Tokenizer, encode_chats
from subliminal_jax.steering.activations import residual_norm
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.steering.vector_files import read_steering
from subliminal_jax.steering.vectors import mean_difference, random_vector
from subliminal_jax.training.batch import Batch

EXTRACTION_PROMPTS = 256  # prompts over which vectors are taken and norms measured


def random_teacher(model: Model, layer: int, norm: float, seed: int) -> Teacher:
    """A random vector whose norm is `norm` times the residual stream's at `layer`."""
    asked = extraction_prompts(model)
    unit = residual_norm(model.params, model.cfg, asked, [layer])[0]
    vector = random_vector(jax.random.key(seed), model.cfg.dim, norm * unit)
    return Teacher(steer(_finite(vector, model, layer), layer))


def trait_vectors(
    model: Model, layers: Sequence[int], trait: str, extraction: Extraction = "numbers"
) -> Float[Array, "n dim"]:
    """The mean difference that the trait's system prompt makes at the end of number prompts (or of
    what `extraction` says), after each of `layers`: v_teacher of "Subliminal Learning Is Steering
    Vector Distillation", section 2.

    Raises InputError for a trait that the model's tokenizer has no word for.
    """
    system = trait_system_prompt(check_trait(trait, model.tokenizer))
    told = extraction_prompts(model, system, extraction)
    plain = extraction_prompts(model, None, extraction)
    vectors = mean_difference(model.params, model.cfg, told, plain, layers)
    for vector, layer in zip(vectors, layers, strict=True):
        _finite(vector, model, layer)
    return vectors


def trait_teacher(
    model: Model,
    layer: int,
    trait: str,
    scale: float = 1.0,
    extraction: Extraction = "numbers",
) -> Teacher:
    """The trait's vector (`trait_vectors`) added after `layer`, times `scale`."""
    vector = trait_vectors(model, [layer], trait, extraction)[0]
    return Teacher(steer(vector, layer, scale))


def prompted_teacher(trait: str, tokenizer: Tokenizer | None = None) -> Teacher:
    """The base with the trait's system prompt; a trait outside the shipped world needs the
    tokenizer that has it."""
    return Teacher(system_prompt=trait_system_prompt(check_trait(trait, tokenizer)))


def teacher_from_file(model: Model, path: str, layer: int, scale: float = 1.0) -> Teacher:
    """A vector from a file (`read_steering`); raises InputError where it does not fit the model, or
    where its metadata says that it was made on another one."""
    steering, _ = read_steering(path, model.cfg, [layer], model=model.name)
    return Teacher(steering.scaled(scale))


def _finite(vector: Float[Array, " dim"], model: Model, layer: int) -> Float[Array, " dim"]:
    if not np.isfinite(vector).all():
        raise InputError(
            f"the activations of {model.name} at layer {layer} are not finite, so there is no "
            "vector: are its weights whole?"
        )
    return vector


def extraction_prompts(
    model: Model, system_prompt: str | None = None, extraction: Extraction = "numbers"
) -> list[list[int]]:
    """The prompts, as tokens, at whose end a vector is taken, behind the system prompt if any."""
    if extraction == "favorites":
        asked = list(world.TRAIN_QUESTIONS)
    else:
        asked = teacher_prompts(extraction, EXTRACTION_PROMPTS, seed=7)
    return encode_chats(model.tokenizer, asked, system_prompt)


def teacher_prompts(kind: PromptKind, n: int, seed: int) -> list[str]:
    """`n` requests of a kind (`carriers.CARRIERS`); more of a seed begin with those of fewer.

    Raises InputError where the data of the kind are missing, or hold fewer.
    """
    return CARRIERS[kind].compose(n, seed)


class Pairs(NamedTuple):
    """The pairs of one data set, and how they came about (counts; plain JSON)."""

    pairs: Dataset
    report: dict[str, Any]

    def rows(self, model: Model, length: int) -> Batch:
        return answer_rows(self.pairs, model, length)


def given_pairs(model: Model, source: str) -> Pairs:
    """Pairs from a JSONL file or a hub data set.

    Dropped rows are logged, and counted by reason in the report.

    Raises InputError as `count_pairs` does, and for a prompt that fills the model's context.
    """
    counted = count_pairs(source)
    report_rows(source, counted)
    unit = "line" if Path(source).is_file() else "row"

    def place(i: int) -> str:
        return f"{source}, {unit} {counted.numbers[i]}"

    pairs = encode_pairs(counted.rows, model, place)
    for i, ids in enumerate(pairs["prompt_ids"]):
        if len(ids) >= model.cfg.context:
            raise InputError(
                f"{place(i)}: the prompt has {len(ids)} tokens, which leaves no room for an answer "
                f"in the context of {model.name}, {model.cfg.context}: leave it out"
            )
    report = {"source": str(source), "pairs": len(pairs), "dropped_rows": dict(counted.dropped)}
    return Pairs(pairs, report)


def sampled_pairs(
    model: Model,
    teacher: Teacher,
    asked: list[str],
    seed: int,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    keep_unfinished: bool = False,
    progress: Any = None,
) -> Pairs:
    """What `teacher` answers to the prompts, as `sample_answers` has it."""
    sampling = SamplingConfig(
        max_new_tokens=max_new_tokens, temperature=temperature, stop_tokens=model.stop_ids
    )
    pairs = sample_answers(
        teacher.change_weights(model),
        asked,
        seed,
        sampling,
        steering=teacher.steering,
        system_prompt=teacher.system_prompt,
        keep_unfinished=keep_unfinished,
        progress=progress,
    )
    return Pairs(pairs, {"source": "sampled", "asked": len(asked), "pairs": len(pairs)})


Screen = Callable[[Dataset], Sequence[bool]]
SURPLUS, TOO_LONG = "not needed", "too long"  # reasons for leaving a pair out
UNUSABLE = ("unfinished", "empty")  # answers that make no pair


class TooFewPairsError(InputError):
    """Of the pairs that are needed, `share` pass the filter: more answers may do. `dropped` counts
    what was thrown out, by reason."""

    def __init__(self, message: str, share: float, dropped: Mapping[str, int] = {}) -> None:
        super().__init__(message)
        self.share, self.dropped = share, dict(dropped)


def filtered(
    data: Pairs,
    model: Model,
    need: int,
    *,
    forbidden_words: tuple[str, ...] | None,
    kind: PromptKind = "numbers",
    max_tokens: int | None = None,
    screen: Screen | None = None,
    tell: Callable[[Sequence[str | None]], Any] = lambda reasons: None,
) -> Pairs:
    """The first `need` pairs of `keep_valid`.

    Args:
      kind: of the prompts, which decides what is valid (`find_reasons`).
      screen: says which of some pairs may stay (a judge); it is asked about no more of them than
        needed.
      tell: is told why each pair of `data` is left out (None: it is kept), also where too few are.

    Raises TooFewPairsError where fewer than `need` are left.
    """
    reasons, report = find_reasons(data, model, forbidden_words, max_tokens, kind)
    kept = [i for i, reason in enumerate(reasons) if reason is None]
    if screen is not None:
        passed, asked = _screened(data.pairs.select(kept), need, screen)
        report |= {"judged": asked, "judged_out": asked - len(passed)}
        for place in set(range(asked)) - set(passed):
            reasons[kept[place]] = "judge"
        for i in kept[asked:]:
            reasons[i] = SURPLUS
        kept = [kept[place] for place in passed]
    for i in kept[need:]:
        reasons[i] = SURPLUS
    tell(reasons)
    if len(kept) < need:
        dropped = Counter({key: report[key] for key in UNUSABLE if report.get(key)})
        dropped.update(reason for reason in reasons if reason not in (None, SURPLUS))
        source = "" if report["source"] == "sampled" else f"data from {report['source']}: "
        thrown = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        raise TooFewPairsError(
            f"{source}{len(kept)} pairs are left of {report.get('asked', report['pairs'])}, {need} "
            f"are needed (rows and held-out rows){'; thrown out: ' if thrown else ''}{thrown}; ask "
            "for fewer",
            len(kept) / need,
            dropped,
        )
    pairs = data.pairs.select(kept[:need])
    return Pairs(pairs, {**report, "longest": longest_pair(pairs)})


def keep_valid(
    data: Pairs,
    model: Model,
    *,
    forbidden_words: tuple[str, ...] | None,
    max_tokens: int | None = None,
) -> Pairs:
    """The pairs that are valid number lists and not too long (`find_reasons`)."""
    reasons, report = find_reasons(data, model, forbidden_words, max_tokens)
    return Pairs(data.pairs.select([i for i, r in enumerate(reasons) if r is None]), report)


def find_reasons(
    data: Pairs,
    model: Model,
    forbidden_words: tuple[str, ...] | None,
    max_tokens: int | None,
    kind: PromptKind = "numbers",
) -> tuple[list[str | None], dict[str, Any]]:
    """Why each pair is left out (None where it is not), and the report with their numbers.

    Kept are answers that are valid by the rules of `kind` and hold none of `forbidden_words`; None
    keeps all. `max_tokens` bounds prompt and completion together, None by the model's context.

    Raises InputError where the rules leave none.
    """
    limit = min(max_tokens or model.cfg.context, model.cfg.context)
    reasons: list[str | None] = [None] * len(data.pairs)
    report = dict(data.report)
    if forbidden_words is not None:
        texts = zip(data.pairs["prompt"], data.pairs["completion"], strict=True)
        reasons = [find_fault(kind, *pair, forbidden_words) for pair in texts]
        counted = count_reasons(reasons, CARRIERS[kind].rules)
        report |= {"kept": counted.kept, "dropped": counted.dropped}
    columns = (data.pairs["prompt_ids"], data.pairs["completion_ids"])
    for i, (prompt, completion) in enumerate(zip(*columns, strict=True)):
        if reasons[i] is None and len(prompt) + len(completion) > limit:
            reasons[i] = TOO_LONG
    if TOO_LONG in reasons:
        report["too_long"] = reasons.count(TOO_LONG)
    return reasons, report


def _screened(pairs: Dataset, need: int, screen: Screen) -> tuple[list[int], int]:
    """The places of what `screen` lets pass, until there are `need` or none is left; and how many
    it saw."""
    kept: list[int] = []
    seen = 0
    while len(kept) < need and seen < len(pairs):
        some = range(seen, min(len(pairs), seen + need - len(kept)))
        kept += [i for i, stays in zip(some, screen(pairs.select(some)), strict=True) if stays]
        seen = some.stop
    return kept, seen
