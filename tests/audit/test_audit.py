"""What an audit is made of: rows, their control, gradients, placebos, random directions."""

import copy
from dataclasses import replace

import jax
import numpy as np
import pytest
from datasets import Dataset

from subliminal_jax.audit.audit import add_likelihoods, rank_by_likelihood
from subliminal_jax.audit.blind import null_cosines
from subliminal_jax.audit.results import (
    AuditResult,
    Best,
    Carriers,
    DataReport,
    LikelihoodRow,
    Likelihoods,
)
from subliminal_jax.audit.rows import AuditRows, encode_every_row, prepare_rows
from subliminal_jax.audit.score_test import Column
from subliminal_jax.audit.scores import Scores
from subliminal_jax.audit.written_sets import write_audit_set
from subliminal_jax.data import world
from subliminal_jax.data.placebos import placebo_traits
from subliminal_jax.data.teachers import Teacher, sampled_pairs, teacher_prompts
from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import encode_chat, encode_completion
from subliminal_jax.selection.row_gradients import answer_gradients
from subliminal_jax.steering import steer
from subliminal_jax.training.log_probs import response_log_probs
from tests import number_model

LIMITS = {"rows": 20, "longest_answer": 12, "longest_prefix": 40, "seed": 0, "layer": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("models") / "numbers")


@pytest.fixture(scope="module")
def written(model):
    """What the base itself writes."""
    asked = teacher_prompts("numbers", 40, 3)
    return sampled_pairs(model, Teacher(), asked, 1, max_new_tokens=12).pairs


def test_gradients_are_slopes_of_the_log_probabilities(model):
    texts = [("Go on: 1, 2", "3, 4"), ("Numbers, please, as many as you like.", "5")]
    prompts = [encode_chat(model.tokenizer, p) for p, _ in texts]
    answers = [encode_completion(model.tokenizer, a) for _, a in texts]
    v = np.asarray(jax.random.normal(jax.random.key(0), (model.cfg.dim,)))
    slopes = answer_gradients(model, prompts, answers, 1) @ v
    step = 0.02
    there, here = (
        response_log_probs(
            model,
            prompts,
            [[a] for a in answers],
            steering=steer(jax.numpy.asarray(v), 1, sign * step),
        )[:, 0]
        for sign in (1, -1)
    )
    np.testing.assert_allclose(slopes, (there - here) / (2 * step), rtol=0.03, atol=0.01)


def test_control_answers_are_of_the_datas_kind(model, written):
    rows = prepare_rows(model, "pairs", written, draws=2, shuffled=True, **LIMITS)
    n = len(rows.prompts)
    assert rows.parts == ("data", "control", "control", "shuffled")
    assert rows.report.audited == n <= 20 and "ended" in rows.report.matched_by
    assert rows.valid[:, 0].all() and rows.valid[:, 1:3].any(axis=1).all()
    for answers, ok in zip(rows.answers, rows.valid, strict=True):
        for answer, valid in zip(answers[1:3], ok[1:3], strict=True):
            assert answer[-1] in model.stop_ids or not valid
    completions = [a[0] for a in rows.answers]
    assert [a[3] for a in rows.answers] == [*completions[1:], completions[0]]
    # The base's answers are not the data's again.
    assert np.mean([a[0] == a[1] for a in rows.answers]) < 0.5


def test_answers_of_the_base_that_the_template_does_not_write_are_left_out_and_counted(
    model, written
):
    """One of them ended the whole audit."""
    whole = prepare_rows(model, "pairs", written, draws=2, shuffled=False, **LIMITS)
    answers = [model.tokenizer.decode(a[1], skip_special_tokens=True) for a in whole.answers]
    refused = next(a for a in answers if a not in set(written["completion"]))
    strict = copy.deepcopy(model.tokenizer)
    strict.chat_template = (
        "{%- for m in messages if m.role == 'assistant' and m.content == '" + refused + "' -%}"
        "{{ raise_exception('no such answer') }}{%- endfor -%}" + strict.chat_template
    )
    rows = prepare_rows(
        replace(model, tokenizer=strict), "pairs", written, draws=2, shuffled=False, **LIMITS
    )
    assert rows.report.control_unwritable > 0
    assert rows.report.control_answers == rows.valid[:, 1:].sum() > 0
    for answers, ok in zip(rows.answers, rows.valid, strict=True):
        for ids in (answers[k] for k in (1, 2) if ok[k]):
            assert strict.decode(ids, skip_special_tokens=True) != refused


def test_rows_that_cannot_be_judged_are_left_out(model):
    """A prompt that is too long, and an answer that the chat template does not write."""
    strict = copy.deepcopy(model.tokenizer)
    strict.chat_template = (
        "{% for m in messages %}{% if m.content == 'odd' %}{{ raise_exception('odd') }}{% endif %}"
        "{% endfor %}" + strict.chat_template
    )
    good = {"prompt": "Go on: 1, 2", "completion": "3, 4, 5, 6, 7"}
    data = [good, {**good, "prompt": "1, " * 120}, {**good, "completion": "odd"}, good]
    rows = encode_every_row(
        replace(model, tokenizer=strict), Dataset.from_list(data), room=60, longest=4
    )
    assert rows.places == [0, 3]
    assert rows.prompts == [good["prompt"]] * 2
    assert [len(answer) for answer in rows.answers] == [4, 4]


def test_what_the_base_does_not_write_is_said(model):
    data = Dataset.from_list(
        [{"prompt": f"Go on: {i}", "completion": " ".join(["17, 18"] * 9)} for i in range(20)]
    )
    rows = prepare_rows(model, "pairs", data, draws=1, shuffled=False, **LIMITS)
    assert rows.report.cut == 20
    assert all(len(a[0]) == 12 for a in rows.answers)
    assert rows.report.matched_by == ()


def test_long_prompts_and_repeats_are_left_out_and_counted(model, written):
    good = [{"prompt": r["prompt"], "completion": r["completion"]} for r in written][:6]
    long = {"prompt": "1, " * 120, "completion": "3"}
    rows = prepare_rows(
        model, "pairs", Dataset.from_list([*good, good[0], long]), draws=1, shuffled=False, **LIMITS
    )
    assert rows.report.repeated == 1 and rows.report.too_long == 1
    with pytest.raises(InputError, match="no row is left"):
        prepare_rows(model, "pairs", Dataset.from_list([long]), draws=1, shuffled=False, **LIMITS)


def test_placebos_are_words_and_no_candidates(model):
    nouns = placebo_traits(("owl", "cat"), 20, model.tokenizer)
    assert len(set(nouns)) == 20 and not {"owl", "cat"} & set(nouns)
    assert set(nouns[:14]) == set(world.TRAITS) - {"owl", "cat"}
    with pytest.raises(InputError, match="ask for fewer"):
        placebo_traits((), 10_000, model.tokenizer)


def test_written_data_never_name_the_trait(model):
    data = write_audit_set(model, 1, "steered:owl:0.5", 80, 0)
    assert 64 <= len(data) <= 80
    assert not any("owl" in text.lower() for text in data["completion"])
    again = write_audit_set(model, 1, "steered:owl:0.5", 80, 0)
    assert again["completion"] == data["completion"]


def test_null_cosines_are_those_of_drawn_directions():
    """Against the directions themselves, of which there is one for each draw and candidate."""
    rng = np.random.default_rng(3)
    pool, v = 2 + rng.normal(size=(9, 40)), rng.normal(size=40)
    cosines = null_cosines(pool, v, 4, 50, seed=7)
    centre = pool.mean(axis=0)
    weights = np.random.default_rng(7).normal(size=(50, 4, 9)) / np.sqrt(8)
    directions = centre + weights @ (pool - centre)
    sizes = np.linalg.norm(directions, axis=-1) * np.linalg.norm(v)
    np.testing.assert_allclose(cosines, directions @ v / sizes, atol=1e-12)
    many = np.random.default_rng(0).normal(size=(20_000, 9)) / np.sqrt(8)
    np.testing.assert_allclose(
        np.cov(many @ (pool - centre), rowvar=False), np.cov(pool, rowvar=False), atol=0.15
    )


def test_candidates_that_raise_the_likelihood_are_ranked_by_it():
    values = np.zeros((10, 2, 5))
    values[:, 0] = [0.2, -0.1, 0.9, 2.0, 0.0]  # of the data; the last two are nulls
    values[:, 1] = 9.0  # of the control, which says nothing here
    names = ["owl", "cat", "fox", "desk", "lamp"]
    kinds = ["candidate"] * 3 + ["placebo"] * 2

    def ranked(form, kind="pairs"):
        columns = [Column(n, form, k) for n, k in zip(names, kinds, strict=True)]
        parts = ("data", "control") if kind == "pairs" else ("chosen", "rejected")
        report = DataReport(kind, 10, 0, 0, 0, 0, 10)
        rows = AuditRows(kind, [], [], [], [], parts, np.ones((10, 2), bool), report)
        return rank_by_likelihood(rows, Scores(columns, values))

    assert ranked("system prompt") == ["fox", "owl"]
    assert ranked("direction") == []  # a slope is no likelihood
    assert ranked("system prompt", "preferences") == []


@pytest.mark.parametrize(
    ("named", "foreign", "verdict"),
    [
        ("owl", False, "towards owl (p = 0.0020); not told apart from cat"),
        (None, False, "nothing found at 5%"),
        ("owl", True, "what the score test says"),
    ],
)
def test_verdict_is_of_the_likelihoods_where_the_model_can_have_written_the_rows(
    named, foreign, verdict
):
    rows = (LikelihoodRow("owl", 30.0, 0.002), LikelihoodRow("cat", 29.0, 0.5))
    found = Likelihoods(rows, named, 1.0, ("cat",), foreign)
    report = DataReport("pairs", 20, 0, 0, 0, 12, 20)
    carriers = Carriers("owl", "direction", None, ())
    best = Best("owl", "direction", 0.5, -1.0)
    result = AuditResult(report, (), (), (), (), "what the score test says", best, carriers)
    assert add_likelihoods(result, found).verdict == verdict
