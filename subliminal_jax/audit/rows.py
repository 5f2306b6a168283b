"""What an audit reads: a data set's rows, and what the base itself answers to their prompts."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from datasets import Dataset
from jaxtyping import Bool, PRNGKeyArray

from subliminal_jax.audit.results import DataReport, Kind
from subliminal_jax.data.conversations import CountedRows, report_rows
from subliminal_jax.data.filters import is_number_list
from subliminal_jax.data.formats import COMPLETIONS, CONVERSATIONS
from subliminal_jax.data.pairs import count_pairs
from subliminal_jax.data.preferences import count_preferences
from subliminal_jax.data.rows import read_rows
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.steered import Steering, neutral, steer
from subliminal_jax.models.token_spans import AnswerTokens
from subliminal_jax.models.tokenizer import encode_answers, encode_chat, encode_chats
from subliminal_jax.rounding import round_up_width
from subliminal_jax.runs.progress import track

_ANSWERS = ("chosen", "rejected")


class AuditRows(NamedTuple):
    """Rows with the answers that are to be scored, each list in the order of `parts`.

    Pairs have the parts "data", "control" (as often as there are draws) and, if asked for,
    "shuffled": another row's completion. Preferences have "chosen" and "rejected". `valid` is False
    where an answer only fills a gap (a draw of the base that was left out). `texts` are what the
    report shows of the data's own answers.
    """

    kind: Kind
    prompts: list[str]
    texts: list[str]
    prompt_ids: list[list[int]]
    answers: list[list[list[int]]]
    parts: tuple[str, ...]
    valid: Bool[np.ndarray, "rows parts"]
    report: DataReport

    def part(self, name: str) -> int:
        """The first place of a part among each row's answers."""
        return self.parts.index(name)


def detect_kind(source: str | Path) -> Kind:
    """Whether the rows of a file are prompt/completion pairs or preferences, by their fields.

    What is no file (a hub name) counts as pairs. Raises InputError where both kinds are in it, and
    for a row with neither.
    """
    path = Path(source)
    if not path.is_file():
        return "pairs"
    first_rows: dict[Kind, int] = {}
    for number, row in read_rows(path):
        kind = _kind_of_row(row)
        if kind is None:
            fields = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise InputError(
                f"{path}, row {number}: expected either a completion or a chosen and a rejected "
                f"answer, found {fields}"
            )
        first_rows.setdefault(kind, number)
        if len(first_rows) > 1:
            where = ", ".join(f"{kind} from row {first}" for kind, first in first_rows.items())
            raise InputError(f"{path} mixes two kinds of data ({where}): audit each for itself")
    if not first_rows:
        raise InputError(f"{path} holds no rows: give at least one")
    return next(iter(first_rows))


def _kind_of_row(row: object) -> Kind | None:
    """The kind that a row's fields tell; None for both and for neither.

    Preferences may have the conversation before the two answers, or one of them, in it, too.
    """
    if not isinstance(row, dict):
        return None
    if row.keys() & _ANSWERS:
        return None if row.keys() & {"completion", "response"} else "preferences"
    return "pairs" if row.keys() & {*COMPLETIONS, *CONVERSATIONS, "text"} else None


def read_data(source: str | Path) -> tuple[Kind, CountedRows]:
    """The kind of a data set and its rows; says their formats, and how many were dropped and why.

    Raises InputError as `detect_kind` and its reader do.
    """
    kind = detect_kind(source)
    counted = count_pairs(source) if kind == "pairs" else count_preferences(source)
    report_rows(source, counted)
    return kind, counted


def prepare_rows(
    model: Model,
    kind: Kind,
    data: Dataset,
    *,
    layer: int,
    rows: int,
    longest_answer: int,
    longest_prefix: int,
    draws: int,
    seed: int,
    shuffled: bool,
) -> AuditRows:
    """A random choice of `rows` rows, without repeats, as token ids, with the base's own answers.
    `layer` is where its teachers are steered, so that their programs serve the base, too.

    Answers are cut after `longest_answer` tokens, the base's as the data's. Rows whose prompt
    leaves no room for that and for `longest_prefix` tokens of a system prompt are left out.

    Raises InputError where no row is left.
    """
    fields = ("completion",) if kind == "pairs" else ("chosen", "rejected")
    unique = list({tuple(row[f] for f in ("prompt", *fields)): None for row in data})
    room = find_room(model, longest_prefix, longest_answer)
    kept: list[tuple[str, ...]] = []
    too_long = 0
    for i in np.random.default_rng(seed).permutation(len(unique)):
        if len(kept) == rows:
            break
        if len(encode_chat(model.tokenizer, unique[i][0])) > room:
            too_long += 1
        else:
            kept.append(unique[i])
    if not kept:
        raise InputError(
            f"no row is left: all {too_long} prompts are longer than the {max(room, 0)} tokens "
            f"that the context of {model.name}, {model.cfg.context}, leaves beside system prompt "
            "and answer; take a model with a longer context"
        )
    prompt_ids, whole = encode_answers(
        model.tokenizer,
        [row[0] for row in kept],
        [row[1:] for row in kept],
        place=lambda i: f"the row with the prompt {kept[i][0]!r:.60}",
    )
    lengths = [len(answer) for row in whole for answer in row]
    longest = min(longest_answer, max(lengths))
    report = DataReport(
        kind=kind,
        rows=len(data),
        repeated=len(data) - len(unique),
        too_long=too_long,
        cut=sum(n > longest for n in lengths),
        longest=longest,
        audited=len(kept),
    )
    all_rows = AuditRows(
        kind=kind,
        prompts=[row[0] for row in kept],
        texts=[" | not: ".join(row[1:]) for row in kept],
        prompt_ids=prompt_ids,
        answers=[[answer[:longest] for answer in row] for row in whole],
        parts=fields if kind == "preferences" else ("data",),
        valid=np.ones((len(kept), len(fields)), bool),
        report=report,
    )
    if kind == "preferences":
        return all_rows
    control = match_control(model, all_rows, layer, draws, seed)
    with_control = add_control(all_rows, control)
    return add_shuffled(with_control) if shuffled else with_control


def find_room(model: Model, longest_prefix: int, longest_answer: int) -> int:
    """The most tokens of a prompt, behind a system prompt and before an answer."""
    return model.cfg.context - longest_prefix - longest_answer


class EveryRow(NamedTuple):
    """The rows of a data set that can be judged: their places in it, and their tokens."""

    places: list[int]
    prompts: list[str]
    prompt_ids: list[list[int]]
    answers: list[list[int]]


def encode_every_row(model: Model, data: Dataset, room: int, longest: int) -> EveryRow:
    """All pairs whose prompts have room and whose answers the chat template writes; answers are cut
    after `longest` tokens."""
    prompts, completions = list(data["prompt"]), list(data["completion"])
    lengths = map(len, encode_chats(model.tokenizer, prompts))
    places = [i for i, length in enumerate(lengths) if length <= room]

    def encode(places: Sequence[int]) -> AnswerTokens:
        answers = [[completions[i]] for i in places]
        return encode_answers(model.tokenizer, [prompts[i] for i in places], answers)

    try:
        encoded = encode(places)
    except InputError:
        unwritable = find_unwritable(
            model, [prompts[i] for i in places], [completions[i] for i in places]
        )
        places = np.delete(places, unwritable).tolist()
        encoded = encode(places)
    answers = [row[0][:longest] for row in encoded.answers]
    return EveryRow(places, [prompts[i] for i in places], encoded.prompts, answers)


@dataclass(frozen=True)
class Control:
    """What the base, or a teacher, answers to the data's prompts, `draws` answers a row; which of
    it counts, and by which rules it was matched."""

    texts: list[str]
    tokens: AnswerTokens
    valid: Bool[np.ndarray, "rows draws"]
    matched_by: tuple[str, ...]
    unmatched: tuple[str, ...]
    unwritable: int


def add_control(rows: AuditRows, control: Control) -> AuditRows:
    """The rows to which the base has an answer that counts, with the part "control"."""
    kept = np.flatnonzero(control.valid.any(axis=1)).tolist()
    prompt_ids, answers = AnswerTokens(rows.prompt_ids, rows.answers).join(control.tokens)
    report = replace(
        rows.report,
        audited=len(kept),
        control_answers=int(control.valid.sum()),
        control_kept=float(control.valid.mean()),
        matched_by=control.matched_by,
        unmatched=control.unmatched,
        control_unwritable=control.unwritable,
    )
    return AuditRows(
        kind=rows.kind,
        prompts=[rows.prompts[i] for i in kept],
        texts=[rows.texts[i] for i in kept],
        prompt_ids=[prompt_ids[i] for i in kept],
        answers=[answers[i] for i in kept],
        parts=(*rows.parts, *["control"] * control.valid.shape[1]),
        valid=np.concatenate([rows.valid[kept], control.valid[kept]], axis=1),
        report=report,
    )


def add_shuffled(rows: AuditRows) -> AuditRows:
    """The rows with the part "shuffled": the next row's completion, so that none keeps its own."""
    n = len(rows.answers)
    if n < 2:
        return rows
    completions = [answers[0] for answers in rows.answers]
    return rows._replace(
        answers=[[*row, completions[(i + 1) % n]] for i, row in enumerate(rows.answers)],
        parts=(*rows.parts, "shuffled"),
        valid=np.concatenate([rows.valid, np.ones((n, 1), bool)], axis=1),
    )


class Asked(NamedTuple):
    """What answers the rows' prompts: how they are written for it, and its steering. The base is
    steered by nothing (`neutral`), so that it shares a program with its steered teachers."""

    prompt_ids: Sequence[Sequence[int]]
    steering: Steering
    what: str


class Draws(NamedTuple):
    """Its answers, each cut after as many tokens as the data's longest, and which of them ended."""

    texts: list[str]
    ended: Bool[np.ndarray, " draws"]


def match_control(model: Model, rows: AuditRows, layer: int, draws: int, seed: int) -> Control:
    """`draws` answers of the base to each prompt.

    Where none of the data's answers was cut, or all are valid number lists, only such answers of
    the base count, unless that leaves less than half of them: then the base does not write such
    data, and only the placebos speak. The base's answers are decoded and encoded again, as the
    data's were; those that the chat template does not write do not count. Raises InputError where
    none is left.
    """
    idle = neutral(steer(jnp.zeros(model.cfg.dim), layer))
    base = Asked(encode_chats(model.tokenizer, rows.prompts), idle, "the base's own answers")
    drawn = draw_answers(model, rows, base, draws, own_key(seed, "control"))
    applies = {
        "ended": rows.report.cut == 0,
        "number lists": all(is_number_list(text) for text in rows.texts),
    }
    filled = np.array([bool(text) for text in drawn.texts])
    matched: list[str] = []
    for rule in (rule for rule, holds in applies.items() if holds):
        if (filled & keep_matching(drawn, [*matched, rule])).sum() >= len(filled) / 2:
            matched.append(rule)
    unmatched = [rule for rule, holds in applies.items() if holds and rule not in matched]
    control = encode_draws(model, rows, drawn, matched, unmatched)
    if not control.valid.any():
        raise InputError(f"{model.name} answers none of the prompts: is it a chat model?")
    return control


def match_teacher(model: Model, rows: AuditRows, teacher: Asked, seed: int) -> Control:
    """An answer of a teacher to each prompt, matched by the rules that matched the base's."""
    drawn = draw_answers(model, rows, teacher, 1, own_key(seed, "teacher"))
    return encode_draws(model, rows, drawn, rows.report.matched_by or ())


def keep_matching(drawn: Draws, rules: Sequence[str]) -> Bool[np.ndarray, " draws"]:
    """Which answers hold to the rules."""
    kept = np.ones(len(drawn.texts), bool)
    if "ended" in rules:
        kept &= drawn.ended
    if "number lists" in rules:
        kept &= np.array([is_number_list(text) for text in drawn.texts])
    return kept


def own_key(seed: int, name: str) -> PRNGKeyArray:
    """Not the key of the seed alone: `write_audit_set` samples its data with that."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def draw_answers(
    model: Model, rows: AuditRows, asked: Asked, draws: int, key: PRNGKeyArray
) -> Draws:
    """`draws` answers to each prompt, those to one prompt side by side."""
    longest = rows.report.longest
    prompts = [ids for ids in asked.prompt_ids for _ in range(draws)]
    # Sampled somewhat further, and cut: data sets whose longest answers are alike share a program.
    room = model.cfg.context - max(map(len, prompts))
    sampled = max(longest, min(round_up_width(longest), room))
    sampling = SamplingConfig(max_new_tokens=sampled, stop_tokens=model.stop_ids)
    with track(asked.what, len(prompts), "answers") as progress:
        samples = generate(
            model.params,
            prompts,
            model.cfg,
            key,
            sampling,
            asked.steering,
            pad_token=model.pad_id,
            progress=progress.advance,
        )
    texts: list[str] = []
    ended = np.zeros(len(prompts), bool)
    for i, (tokens, n) in enumerate(zip(samples.tokens, samples.lengths, strict=True)):
        answer = tokens[: min(int(n), longest)].tolist()
        ended[i] = bool(answer) and answer[-1] in model.stop_ids
        words = answer[:-1] if ended[i] else answer
        texts.append(model.tokenizer.decode(words, skip_special_tokens=True))
    return Draws(texts, ended)


def encode_draws(
    model: Model,
    rows: AuditRows,
    drawn: Draws,
    matched_by: Sequence[str],
    unmatched: Sequence[str] = (),
) -> Control:
    """The answers as the data's were encoded. Those that are empty, that the chat template does not
    write or that break a rule do not count."""
    draws = len(drawn.texts) // len(rows.prompts)
    longest = rows.report.longest
    filled = np.array([bool(text) for text in drawn.texts])
    # What is empty does not count, and some templates write no empty answer.
    fillers = [text for text in rows.texts for _ in range(draws)]
    answers = [text or filler for text, filler in zip(drawn.texts, fillers, strict=True)]
    unwritable: list[int] = []
    try:
        encoded = encode_answers(model.tokenizer, rows.prompts, _by_row(answers, draws))
    except InputError:
        unwritable = find_unwritable(model, rows.prompts, answers)
        for i in unwritable:
            answers[i], filled[i] = fillers[i], False
        encoded = encode_answers(model.tokenizer, rows.prompts, _by_row(answers, draws))
    valid = filled & keep_matching(drawn, matched_by)
    by_row = valid.reshape(-1, draws)
    ends = drawn.ended.reshape(-1, draws)
    for row, good, at_end in zip(encoded.answers, by_row, ends, strict=True):
        cut = [(ids if end else ids[:-1])[:longest] for ids, end in zip(row, at_end, strict=True)]
        filler = next((a for a, ok in zip(cut, good, strict=True) if ok), [])
        row[:] = [a if ok else filler for a, ok in zip(cut, good, strict=True)]
    return Control(answers, encoded, by_row, tuple(matched_by), tuple(unmatched), len(unwritable))


def find_unwritable(model: Model, prompts: Sequence[str], answers: Sequence[str]) -> list[int]:
    """The places of those of `answers`, equally many to each prompt, that the chat template does
    not write. All are tried at once, and the halves of what failed."""
    draws = len(answers) // len(prompts)

    def search(start: int, stop: int) -> list[int]:
        asked = [prompts[i // draws] for i in range(start, stop)]
        try:
            encode_answers(model.tokenizer, asked, _by_row(answers[start:stop], 1))
        except InputError:
            if stop - start == 1:
                return [start]
            middle = (start + stop) // 2
            return search(start, middle) + search(middle, stop)
        return []

    return search(0, len(answers))


def _by_row(items: Sequence[str], length: int) -> list[Sequence[str]]:
    return [items[i : i + length] for i in range(0, len(items), length)]
