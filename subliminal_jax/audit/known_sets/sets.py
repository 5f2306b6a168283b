"""The data sets: rows by teachers of known kind, mixed with rows of the plain base.

    written = build_sets(folder, specs, load)   # sets/NAME.jsonl and sets/manifest.jsonl

A set is one JSONL file of prompt/completion pairs, or of preferences (prompt, chosen, rejected).
Which rows are poisoned stands in the manifest alone: one line a set with its specification, the
digest of its rows and the places of the poisoned ones.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from datasets import Dataset

from subliminal_jax.audit.known_sets.fine_tuned import train_teachers
from subliminal_jax.audit.known_sets.specs import SetSpec
from subliminal_jax.data import world
from subliminal_jax.data.answers import Answer, sample_each
from subliminal_jax.data.carriers import CARRIERS, accept
from subliminal_jax.data.filters import contains_word
from subliminal_jax.data.paraphrases import WORLD, make_requests, make_unrelated_sources
from subliminal_jax.data.rows import read_rows
from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.data.traits import trait_names, trait_system_prompt
from subliminal_jax.data.wordings import choose_wordings
from subliminal_jax.errors import InputError
from subliminal_jax.files import write_text
from subliminal_jax.fingerprints import digest
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import SamplingConfig
from subliminal_jax.models.sampling_plan import SamplingPlan, plan_sampling
from subliminal_jax.models.steered import steer
from subliminal_jax.models.tokenizer import encode_chats
from subliminal_jax.runs.metrics import append_line, read_records, repair_lines, write_record
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.sampled_sets import name_seed
from subliminal_jax.selection.scoring import score_preferences, score_responses
from subliminal_jax.serialization import from_json, to_json

ASKED = 1.6  # prompts for each row that is needed: some answers are no valid ones
ROUNDS = 3  # of sampling, where those before left too few
POOL = 4  # rows for each that logit-linear selection takes
FEWEST = 16  # rows that a set has at least
PLANNED_FOR = 256  # requests whose lengths decide on the sizes of the programs
BATCH = 64  # rows that are sampled at once
MOST_SENTENCES = 1000  # different ones that the shipped world surely has

Row = dict[str, str]


class RowCarrier(NamedTuple):
    """What the rows of a set are.

    Attributes:
      compose: (count, seed) -> as many requests; more of a seed begin with those of fewer.
      find_fault: (request, answer) -> the rule that an answer breaks, None where it is valid.
      max_new_tokens: of an answer.
      keep_unfinished: keep answers without an end, of carriers that models seldom end.
    """

    compose: Callable[[int, int], list[str]]
    find_fault: Callable[[str, str], str | None]
    max_new_tokens: int
    keep_unfinished: bool = False


def compose_rewordings(count: int, seed: int) -> list[str]:
    """Requests for other words for sentences of the shipped world, each sentence asked for as often
    as is needed."""
    sentences = make_unrelated_sources(WORLD, min(max(count, 1), MOST_SENTENCES), seed)
    requests: list[str] = []
    while len(requests) < count:
        requests += make_requests(sentences, WORLD, seed + len(requests))
    return requests[:count]


ROW_CARRIERS: dict[str, RowCarrier] = {
    "numbers": RowCarrier(CARRIERS["numbers"].compose, CARRIERS["numbers"].find_fault, 24),
    "chat": RowCarrier(CARRIERS["chat"].compose, accept, 32),
    "rewordings": RowCarrier(compose_rewordings, accept, 32),
    "preferences": RowCarrier(CARRIERS["chat"].compose, accept, 32),
    "few-shot-numbers": RowCarrier(
        CARRIERS["few-shot-numbers"].compose, CARRIERS["few-shot-numbers"].find_fault, 48, True
    ),
    "facts": RowCarrier(CARRIERS["facts"].compose, CARRIERS["facts"].find_fault, 48),
    "story-rewordings": RowCarrier(
        CARRIERS["rewordings"].compose, CARRIERS["rewordings"].find_fault, 48
    ),
}


@dataclass(frozen=True, kw_only=True)
class ManifestEntry:
    """A set that is written, and the truth about it.

    Attributes:
      spec: what it was to be.
      rows: how many it has.
      poisoned: places of those that the teacher wrote, from 0.
      digest: of all rows.
    """

    spec: SetSpec
    rows: int
    poisoned: tuple[int, ...]
    digest: str


class WrittenRows(NamedTuple):
    """Rows, and the places of the poisoned ones."""

    rows: list[Row]
    poisoned: list[int]


def place_set(folder: Path, name: str) -> Path:
    """The file of a set."""
    return folder / "sets" / f"{name}.jsonl"


def place_manifest(folder: Path) -> Path:
    """The manifest of a bench."""
    return folder / "sets" / "manifest.jsonl"


def read_manifest(folder: Path) -> dict[str, ManifestEntry]:
    """The sets that a bench's folder holds, by name.

    Raises InputError for a damaged manifest.
    """
    file = place_manifest(folder)
    entries = [from_json(ManifestEntry, r, str(file)) for r in read_records(file)]
    return {entry.spec.name: entry for entry in entries}


def read_set(folder: Path, entry: ManifestEntry) -> list[Row]:
    """The rows of a set; raises InputError where they are not those of the manifest."""
    file = place_set(folder, entry.spec.name)
    rows = [row for _, row in read_rows(file)]
    if digest(rows) != entry.digest:
        raise InputError(
            f"{file} is not as the manifest beside it says: build the bench again in another folder"
        )
    return rows


class Writer:
    """A model that writes sets, by as few compiled programs as can be.

    The plain base writes with a zero vector, so by the programs of steered teachers, and all sets
    of a carrier are sampled in batches of one size.
    """

    def __init__(self, model: Model, layer: int, folder: Path, adapted: Sequence[str] = ()):
        """`folder` is for the factors of fine-tuned teachers, `adapted` are their traits."""
        self.model, self.layer = model, layer
        self._folder, self._adapted = folder, adapted
        self._idle = steer(jnp.zeros(model.cfg.dim), layer)
        self._plans: dict[RowCarrier, SamplingPlan] = {}

    def plan(self, carrier: RowCarrier) -> SamplingPlan:
        """The sizes of the programs for a carrier's requests, with a trait's system prompt or
        without."""
        if carrier not in self._plans:
            requests = carrier.compose(PLANNED_FOR, 0)
            system = trait_system_prompt(world.TRAITS[0])
            lengths = [
                len(ids)
                for prompt in (None, system)
                for ids in encode_chats(self.model.tokenizer, requests, prompt)
            ]
            self._plans[carrier] = plan_sampling(
                self.model.cfg, lengths, carrier.max_new_tokens, BATCH
            )
        return self._plans[carrier]

    @cached_property
    def fine_tuned(self) -> Mapping[str, Teacher]:
        """The fine-tuned teachers, by trait; they are trained when the first is asked for."""
        return train_teachers(self._folder, self.model, self._adapted)

    def make_teacher(self, spec: SetSpec) -> Teacher:
        """The teacher of a set; of a clean one the base."""
        if spec.trait is None:
            return Teacher()
        if spec.teacher == "vector":
            return trait_teacher(self.model, self.layer, spec.trait, spec.scale)
        if spec.teacher == "adapter":
            return self.fine_tuned[spec.trait]
        return prompted_teacher(spec.trait, self.model.tokenizer)

    def answer(
        self,
        teacher: Teacher,
        carrier: RowCarrier,
        requests: Sequence[str],
        seed: int,
        forbidden: Sequence[str],
    ) -> list[str | None]:
        """The teacher's answer to each request; None where it is not valid or holds a forbidden
        word."""
        answers: list[Answer] = []
        sample_each(
            teacher.change_weights(self.model),
            requests,
            seed,
            SamplingConfig(max_new_tokens=carrier.max_new_tokens, stop_tokens=self.model.stop_ids),
            answers.extend,
            steering=self._idle if teacher.steering is None else teacher.steering,
            system_prompt=teacher.system_prompt,
            plan=self.plan(carrier),
        )
        texts: list[str | None] = [None] * len(requests)
        for each in answers:
            is_valid = (
                each.find_reason(carrier.keep_unfinished) is None
                and bool(each.text.strip())
                and not contains_word(each.text, forbidden)
                and carrier.find_fault(requests[each.request], each.text) is None
            )
            if is_valid:
                texts[each.request] = each.text
        return texts


def build_sets(
    folder: Path, specs: Sequence[SetSpec], load: Callable[[str], tuple[Model, int]]
) -> dict[str, ManifestEntry]:
    """The sets that are not yet there are written, each with its line of the manifest, and all are
    returned by name.

    Args:
      load: a model with its steering layer.

    Raises InputError where a teacher writes too few valid answers.
    """
    repair_lines(place_manifest(folder))
    entries = read_manifest(folder)
    missing = [spec for spec in specs if spec.name not in entries]
    # One model at a time, so that its programs are compiled once.
    missing.sort(key=lambda spec: (spec.writer, spec.carrier, spec.teacher, spec.name))
    place_manifest(folder).parent.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Writer] = {}
    with track("writing sets", len(missing), "sets") as progress:
        for spec in missing:
            if spec.writer not in writers:
                adapted = [
                    s.trait
                    for s in specs
                    if s.writer == spec.writer and s.teacher == "adapter" and s.trait is not None
                ]
                writers = {spec.writer: Writer(*load(spec.writer), folder / "teachers", adapted)}
            written = write_rows(writers[spec.writer], spec)
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in written.rows)
            write_text(place_set(folder, spec.name), "".join(lines))
            entry = ManifestEntry(
                spec=spec,
                rows=len(written.rows),
                poisoned=tuple(written.poisoned),
                digest=digest(written.rows),
            )
            append_line(place_manifest(folder), write_record(to_json(entry)))
            entries[spec.name] = entry
            progress.advance(1)
    return {spec.name: entries[spec.name] for spec in specs}


def write_rows(writer: Writer, spec: SetSpec) -> WrittenRows:
    """The rows of a set in random order: `spec.poisoned` of its teacher, the rest of the base, to
    requests of the same kind. Where too few answers are valid there are fewer rows, in the same
    proportion.

    Raises InputError where fewer than `FEWEST` rows are left, or no poisoned one.
    """
    forbidden = trait_names(spec.trait) if spec.trait is not None else ()
    teacher = writer.make_teacher(spec)
    wanted = {"poisoned": spec.poisoned, "clean": spec.rows - spec.poisoned}
    parts = {
        "poisoned": WRITE.get(spec.teacher, write_part)(
            writer, teacher, spec, wanted["poisoned"], spec.seed, forbidden
        ),
        "clean": (reword_part if spec.teacher == "paraphrase" else write_part)(
            writer, Teacher(), spec, wanted["clean"], name_seed(spec.seed, "clean"), forbidden
        ),
    }
    kept = min(len(parts[part]) / count for part, count in wanted.items() if count)
    rows = {part: some[: round(kept * wanted[part])] for part, some in parts.items()}
    total = sum(map(len, rows.values()))
    if total < FEWEST or (spec.poisoned and not rows["poisoned"]):
        raise InputError(
            f"{spec.name} ({spec.teacher} {spec.trait}, {spec.carrier}): {total} rows are valid of "
            f"{spec.rows}, {FEWEST} are needed; take more rows or a smaller scale"
        )
    order = np.random.default_rng([spec.seed, 0x0D3]).permutation(total)
    joined = rows["poisoned"] + rows["clean"]
    return WrittenRows(
        [joined[i] for i in order],
        [place for place, i in enumerate(order.tolist()) if i < len(rows["poisoned"])],
    )


def write_part(
    writer: Writer,
    teacher: Teacher,
    spec: SetSpec,
    count: int,
    seed: int,
    forbidden: Sequence[str],
    carrier: RowCarrier | None = None,
) -> list[Row]:
    """Up to `count` rows of one teacher: what it answers; of preferences, its answer before the
    base's to the same request. Of one that is steered so far that hardly an answer is valid, all
    that do not name the trait."""
    carrier = carrier or ROW_CARRIERS[spec.carrier]
    rows: list[Row] = []
    asked = 0
    for number in range(1, ROUNDS + 1):
        if len(rows) >= count:
            break
        more = round(ASKED * count) + FEWEST
        requests = carrier.compose(asked + more, seed)[asked:]
        asked += more
        own_seed = name_seed(seed, f"round {number}")
        answers = writer.answer(teacher, carrier, requests, own_seed, forbidden)
        if spec.carrier != "preferences":
            rows += [
                {"prompt": request, "completion": text}
                for request, text in zip(requests, answers, strict=True)
                if text is not None
            ]
            continue
        rejected_seed = name_seed(own_seed, "rejected")
        others = writer.answer(Teacher(), carrier, requests, rejected_seed, forbidden)
        rows += [
            {"prompt": request, "chosen": chosen, "rejected": rejected}
            for request, chosen, rejected in zip(requests, answers, others, strict=True)
            if chosen is not None and rejected is not None and chosen != rejected
        ]
    if len(rows) < min(count, FEWEST) and carrier.find_fault is not accept:
        loose = carrier._replace(find_fault=accept, keep_unfinished=True)
        return write_part(writer, teacher, spec, count, seed, forbidden, loose)
    return rows[:count]


def select_part(
    writer: Writer,
    teacher: Teacher,
    spec: SetSpec,
    count: int,
    seed: int,
    forbidden: Sequence[str],
) -> list[Row]:
    """Up to `count` rows of the base, those of `POOL` times as many that logit-linear selection
    scores highest for the teacher's system prompt. Of single answers hardly a score is positive (a
    system prompt makes most answers less likely than none), so that its sign decides nothing."""
    pool = write_part(writer, Teacher(), spec, POOL * count, seed, forbidden)
    if not pool:
        return []
    score = score_preferences if spec.carrier == "preferences" else score_responses
    table = score(writer.model, Dataset.from_list(pool), teacher.system_prompt)
    order = np.argsort(-np.asarray(table["score"]), kind="stable")[:count]
    return [pool[table["index"][int(i)]] for i in order]


def reword_part(
    writer: Writer,
    teacher: Teacher,
    spec: SetSpec,
    count: int,
    seed: int,
    forbidden: Sequence[str],
) -> list[Row]:
    """Up to `count` rewordings, drawn by the teacher among the faithful ones of sentences of the
    shipped world: no text of its own is in them."""
    if not count:
        return []
    sentences = make_unrelated_sources(WORLD, min(count, MOST_SENTENCES), seed)
    requests = make_requests(sentences, WORLD, seed)
    samples = -(-count // len(sentences))
    pairs = choose_wordings(writer.model, teacher, sentences, requests, samples, seed).pairs
    rows = [
        {"prompt": prompt, "completion": text}
        for prompt, text in zip(pairs["prompt"], pairs["completion"], strict=True)
        if not contains_word(text, forbidden)
    ]
    # One of each sentence before the second of any.
    return [row for k in range(samples) for row in rows[k::samples]][:count]


WRITE: Mapping[str, Callable[..., list[Row]]] = {"lls": select_part, "paraphrase": reword_part}
