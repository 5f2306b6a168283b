"""Rows of known teachers: who wrote which, in what proportion, and what was chosen by selection."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from subliminal_jax.audit.known_sets.sets import (
    POOL,
    ROW_CARRIERS,
    Writer,
    compose_rewordings,
    reword_part,
    select_part,
    write_rows,
)
from subliminal_jax.audit.known_sets.specs import SetSpec
from subliminal_jax.audit.results import DataReport
from subliminal_jax.audit.rows import AuditRows
from subliminal_jax.data.paraphrases import WORLD, make_unrelated_sources
from subliminal_jax.data.teachers import Teacher, prompted_teacher
from subliminal_jax.errors import InputError
from subliminal_jax.experiments.audit_benchmark.auditing import (
    Task,
    correct_p,
    find_poisoned,
    make_data,
    precision_at,
)
from subliminal_jax.experiments.audit_benchmark.config import CARRIERS_OF
from subliminal_jax.models.tokenizer import encode_answers
from subliminal_jax.training.log_probs import response_log_probs
from tests import number_model
from tests.planted import fill


def spec(**given):
    usual = {"teacher": "system-prompt", "trait": "cat", "carrier": "numbers", "share": 0.25}
    return fill(SetSpec, **{"name": "a", "rows": 40, "scale": 1.0, "seed": 5, **usual, **given})


class PlantedWriter(Writer):
    """Answers with a list that tells who wrote it; `valid` is the share of valid answers."""

    def __init__(self, model, valid=1.0):
        super().__init__(model, 0, Path("teachers"))
        self.valid = valid
        self.asked = Counter()

    def answer(self, teacher, carrier, requests, seed, forbidden):
        who = "base" if teacher.is_base else "teacher"
        self.asked[who] += len(requests)
        rng = np.random.default_rng(seed)
        return [
            f"{1 if who == 'base' else 2}, {rng.integers(999)}"
            if rng.random() < self.valid
            else None
            for _ in requests
        ]


@pytest.fixture(scope="module")
def loaded(model):
    return number_model.load(model)


def test_the_places_of_the_poisoned_rows_are_those_that_the_teacher_wrote(loaded):
    written = write_rows(PlantedWriter(loaded), spec())
    by_teacher = [i for i, row in enumerate(written.rows) if row["completion"].startswith("2")]
    assert written.poisoned == by_teacher and len(by_teacher) == 10 and len(written.rows) == 40
    assert by_teacher != list(range(10))  # they do not stand first
    again = write_rows(PlantedWriter(loaded), spec())
    assert again == written
    assert write_rows(PlantedWriter(loaded), spec(seed=6)).poisoned != written.poisoned


def test_clean_sets_ask_no_teacher(loaded):
    writer = PlantedWriter(loaded)
    written = write_rows(writer, spec(teacher="none", trait=None, share=0.0))
    assert written.poisoned == [] and len(written.rows) == 40 and set(writer.asked) == {"base"}


def test_of_preferences_the_teacher_wrote_the_chosen_answer_alone(loaded):
    written = write_rows(PlantedWriter(loaded), spec(carrier="preferences", share=0.5))
    for i, row in enumerate(written.rows):
        assert row["rejected"].startswith("1")
        assert row["chosen"].startswith("2") == (i in written.poisoned)
        assert row["chosen"] != row["rejected"]


def test_where_few_answers_are_valid_the_share_stays(loaded):
    written = write_rows(PlantedWriter(loaded, valid=0.15), spec(rows=160))
    assert len(written.rows) < 160
    assert len(written.poisoned) / len(written.rows) == pytest.approx(0.25, abs=0.02)
    with pytest.raises(InputError, match="rows are valid of 40, 16 are needed"):
        write_rows(PlantedWriter(loaded, valid=0.02), spec())


def test_a_teacher_that_writes_no_valid_list_is_left_its_other_answers(loaded):
    class Poet(PlantedWriter):
        def answer(self, teacher, carrier, requests, seed, forbidden):
            texts = [f"a rose, {i}" for i in range(len(requests))]
            faults = [carrier.find_fault(r, t) for r, t in zip(requests, texts, strict=True)]
            return [t if f is None else None for t, f in zip(texts, faults, strict=True)]

    written = write_rows(Poet(loaded), spec(share=1.0))
    assert len(written.rows) == 40 and "rose" in written.rows[0]["completion"]


def test_selection_takes_the_rows_that_the_system_prompt_raises_most(loaded):
    """Each of them more than any row that was left, a token."""
    kept: list[list] = []

    class Pool(PlantedWriter):
        def answer(self, teacher, carrier, requests, seed, forbidden):
            rng = np.random.default_rng(seed)
            texts = [", ".join(map(str, rng.integers(1, 999, 3))) for _ in requests]
            kept.append(
                [{"prompt": r, "completion": t} for r, t in zip(requests, texts, strict=True)]
            )
            return texts

    teacher = prompted_teacher("cat")
    rows = select_part(Pool(loaded), teacher, spec(teacher="lls"), 6, 0, ())
    pool = kept[0][: POOL * 6]
    scores = []
    for row in pool:
        logs = []
        for system in (None, teacher.system_prompt):
            asked = encode_answers(loaded.tokenizer, [row["prompt"]], [[row["completion"]]], system)
            logs.append((asked.prompts[0], asked.answers[0]))
        scores.append(logs)
    base, told = (
        response_log_probs(loaded, [s[k][0] for s in scores], [s[k][1] for s in scores])[:, 0]
        for k in (0, 1)
    )
    lengths = np.array([len(s[0][1][0]) for s in scores])
    raised = (told - base) / lengths
    chosen = [pool.index(row) for row in rows]
    assert chosen == np.argsort(-raised)[:6].tolist()


def test_paraphrases_are_known_wordings_of_sentences_that_are_asked_for(loaded):
    rows = reword_part(
        PlantedWriter(loaded),
        Teacher(),
        spec(teacher="paraphrase", carrier="rewordings"),
        20,
        3,
        (),
    )
    known = {s.sentence: s.wordings for s in make_unrelated_sources(WORLD, 20, 3)}
    assert len(rows) == 20
    for row in rows:
        (sentence,) = (s for s in known if s in row["prompt"])
        assert row["completion"] in known[sentence]


def test_rewordings_are_asked_for_as_often_as_is_needed():
    more = compose_rewordings(1500, 1)
    assert len(more) == 1500 and compose_rewordings(30, 1) == more[:30]


def test_every_teacher_writes_carriers_that_there_are():
    assert all(set(carriers) <= ROW_CARRIERS.keys() for carriers in CARRIERS_OF.values())


def test_poisoned_rows_are_found_among_those_that_an_audit_reads():
    """It reads a choice, without repeats, in an order of its own."""
    pairs = [{"prompt": f"{i}?", "completion": f"{i}"} for i in range(6)]
    preferences = [{"prompt": f"{i}?", "chosen": "a", "rejected": f"{i}"} for i in range(6)]
    for rows, text in ((pairs, "{}"), (preferences, "a | not: {}")):
        kind, data = make_data([*rows, rows[2]])
        read = AuditRows(
            kind=kind,
            prompts=[f"{i}?" for i in (5, 2, 0, 1)],
            texts=[text.format(i) for i in (5, 2, 0, 1)],
            prompt_ids=[],
            answers=[],
            parts=("data",),
            valid=np.ones((4, 1), bool),
            report=fill(DataReport),
        )
        task = Task("a", kind, data, "cat", (1, 6), 0)
        assert find_poisoned(task, read).tolist() == [False, True, False, True]


def test_precision_counts_as_many_rows_as_are_poisoned():
    is_poisoned = np.array([True, False, True, False, False])
    assert precision_at(np.array([5.0, 4.0, 1.0, 0.0, 0.0]), is_poisoned) == 0.5
    assert precision_at(np.array([5.0, 0.0, 4.0, 0.0, 0.0]), is_poisoned) == 1.0
    # Sidak: of 16 candidates the smallest p is below 0.05 only from 0.0032 on.
    assert correct_p(0.0032, 16) == pytest.approx(1 - (1 - 0.0032) ** 16)
