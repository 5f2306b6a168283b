"""What an audit reads: a data set's rows, and what the base itself answers to their prompts."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from datasets import Dataset
from jaxtyping import Bool

from subliminal_jax.data.filters import number_filter
from subliminal_jax.data.pairs import read_pairs
from subliminal_jax.data.preferences import read_preferences
from subliminal_jax.data.rows import numbered_rows
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.tokenizer import encode_chat, encode_completion
from subliminal_jax.runs.progress import track

Kind = Literal["pairs", "preferences"]
FIELDS = {"pairs": ("completion", "response"), "preferences": ("chosen", "rejected")}


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
    report: dict[str, Any]

    def part(self, name: str) -> int:
        """The first place of a part among each row's answers."""
        return self.parts.index(name)


def kind_of(source: str | Path) -> Kind:
    """Whether the rows of a file are prompt/completion pairs or preferences, by their fields.

    What is no file (a hub name) counts as pairs. Raises InputError where both kinds are in it, and
    for a row with neither.
    """
    path = Path(source)
    if not path.is_file():
        return "pairs"
    found: dict[str, int] = {}
    for number, row in numbered_rows(path):
        kinds = [k for k, names in FIELDS.items() if isinstance(row, dict) and row.keys() & names]
        if len(kinds) != 1:
            fields = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise InputError(
                f"{path}, row {number}: expected either a completion or a chosen and a rejected "
                f"answer, found {fields}"
            )
        found.setdefault(kinds[0], number)
        if len(found) > 1:
            where = ", ".join(f"{kind} from row {first}" for kind, first in found.items())
            raise InputError(f"{path} mixes two kinds of data ({where}): audit each for itself")
    if not found:
        raise InputError(f"{path} holds no rows: give at least one")
    return "pairs" if "pairs" in found else "preferences"


def read_data(source: str | Path) -> tuple[Kind, Dataset]:
    """The kind of a data set and its rows; raises InputError as `kind_of` and the readers do."""
    kind = kind_of(source)
    return kind, read_pairs(source) if kind == "pairs" else read_preferences(source)


def prepare(
    model: Model,
    kind: Kind,
    data: Dataset,
    *,
    rows: int,
    longest_answer: int,
    longest_prefix: int,
    draws: int,
    seed: int,
    shuffled: bool,
) -> AuditRows:
    """A random choice of `rows` rows, without repeats, as token ids, with the base's own answers.

    Answers are cut after `longest_answer` tokens, the base's as the data's. Rows whose prompt
    leaves no room for that and for `longest_prefix` tokens of a system prompt are left out.

    Raises InputError where no row is left.
    """
    fields = ("completion",) if kind == "pairs" else ("chosen", "rejected")
    unique = {tuple(row[f] for f in ("prompt", *fields)): None for row in data}
    order = np.random.default_rng(seed).permutation(len(unique))
    listed = list(unique)
    room = model.cfg.context - longest_prefix - longest_answer
    kept: list[tuple[tuple[str, ...], list[int]]] = []
    too_long = 0
    for i in order:
        if len(kept) == rows:
            break
        ids = encode_chat(model.tokenizer, listed[i][0])
        if len(ids) > room:
            too_long += 1
        else:
            kept.append((listed[i], ids))
    if not kept:
        raise InputError(
            f"no row is left: all {too_long} prompts are longer than the {max(room, 0)} tokens "
            f"that the context of {model.name}, {model.cfg.context}, leaves beside system prompt "
            "and answer; take a model with a longer context"
        )
    prompts = [row[0] for row, _ in kept]
    prompt_ids = [tokens for _, tokens in kept]
    whole = [[encode_completion(model.tokenizer, t) for t in row[1:]] for row, _ in kept]
    longest = min(longest_answer, max(len(a) for row in whole for a in row))
    answers = [[a[:longest] for a in row] for row in whole]
    report = {
        "kind": kind,
        "rows": len(data),
        "repeated": len(data) - len(unique),
        "too_long": too_long,
        "cut": sum(len(a) > longest for row in whole for a in row),
        "longest": longest,
    }
    texts = [" | not: ".join(row[1:]) for row, _ in kept]
    if kind == "preferences":
        valid = np.ones((len(kept), 2), bool)
        report["audited"] = len(kept)
        return AuditRows(kind, prompts, texts, prompt_ids, answers, fields, valid, report)
    control, ok, matching = matched_control(
        model,
        prompt_ids,
        [row[1] for row, _ in kept],
        longest,
        draws,
        seed,
        whole=report["cut"] == 0,
    )
    own = [row[0] for row in answers]
    stays = np.flatnonzero(ok.any(axis=1))
    report |= {**matching, "audited": len(stays)}
    parts = ("data", *["control"] * draws)
    each = [[own[i], *control[i]] for i in stays]
    valid = np.concatenate([np.ones((len(stays), 1), bool), ok[stays]], axis=1)
    if shuffled and len(stays) > 1:
        # A cycle, so that no row keeps its own completion.
        each = [[*a, own[stays[(j + 1) % len(stays)]]] for j, a in enumerate(each)]
        parts = (*parts, "shuffled")
        valid = np.concatenate([valid, np.ones((len(stays), 1), bool)], axis=1)
    prompts, texts = ([x[i] for i in stays] for x in (prompts, texts))
    prompt_ids = [prompt_ids[i] for i in stays]
    return AuditRows(kind, prompts, texts, prompt_ids, each, parts, valid, report)


def matched_control(
    model: Model,
    prompt_ids: Sequence[list[int]],
    completions: Sequence[str],
    longest: int,
    draws: int,
    seed: int,
    *,
    whole: bool,
) -> tuple[list[list[list[int]]], Bool[np.ndarray, "rows draws"], dict[str, Any]]:
    """What the base answers to the same prompts, which of that counts, and how it was matched.

    Where all of the data's answers end within `longest` tokens (`whole`), or all are valid number
    lists, only such answers of the base count, unless that leaves less than half of them: then the
    base does not write such data, and only the placebos speak. The base's answers are decoded and
    encoded again, as the data's were.
    """
    sampling = SamplingConfig(max_new_tokens=longest, stop_tokens=model.stop_ids)
    asked = [p for p in prompt_ids for _ in range(draws)]
    # Not the seed's own keys: data that were made here with this seed would be drawn alike.
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(b"control"))
    with track("the base's own answers", len(asked), "answers") as progress:
        samples = generate(
            model.params, asked, model.cfg, key, sampling, pad_token=model.pad_id,
            progress=progress.advance,
        )  # fmt: skip
    ids: list[list[int]] = []
    ended, listed, filled = (np.zeros(len(asked), bool) for _ in range(3))
    for i, (tokens, n) in enumerate(zip(samples.tokens, samples.lengths, strict=True)):
        answer = tokens[:n].tolist()
        ended[i] = bool(answer) and answer[-1] in model.stop_ids
        text = model.tokenizer.decode(answer[:-1] if ended[i] else answer, skip_special_tokens=True)
        again = encode_completion(model.tokenizer, text) if text else []
        if not ended[i] and len(again) > 1:
            again = again[:-1]
        filled[i] = bool(text) and len(again) > 0
        listed[i] = number_filter(text)
        ids.append(again[:longest])
    ok = filled.copy()
    rules = {
        "ended": (ended, whole),
        "number lists": (listed, all(number_filter(text) for text in completions)),
    }
    used = []
    for name, (holds, of_data) in rules.items():
        if of_data and (ok & holds).sum() >= len(asked) / 2:
            ok &= holds
            used.append(name)
    if not ok.any():
        raise InputError(f"{model.name} answers none of the prompts: is it a chat model?")
    of_rows = ok.reshape(-1, draws)
    control = []
    for i in range(len(prompt_ids)):
        mine = ids[i * draws : (i + 1) * draws]
        filler = next((a for a, good in zip(mine, of_rows[i], strict=True) if good), [])
        control.append([a if good else filler for a, good in zip(mine, of_rows[i], strict=True)])
    report = {
        "control_answers": int(ok.sum()),
        "control_kept": float(ok.mean()),
        "matched_by": used,
        "unmatched": [name for name, (_, data) in rules.items() if data and name not in used],
    }
    return control, of_rows, report
