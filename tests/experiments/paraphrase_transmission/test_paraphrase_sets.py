"""The data sets of paraphrases: what students see of them, and how they are drawn."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.data.teachers import Teacher, prompted_teacher
from subliminal_jax.errors import InputError
from subliminal_jax.experiments.paraphrase_transmission.paraphrase_sets import (
    write_paraphrase_sets,
)
from subliminal_jax.experiments.paraphrase_transmission.tasks import ParaphraseSettings, make_tasks
from subliminal_jax.models.tokenizer import encode_chat, encode_completion
from tests import number_model

SETTINGS = ParaphraseSettings(
    sentences=24, unrelated_samples=4, contradictory_samples=4, unrelated_writing="wordings",
    rows=30, heldout_rows=6, heldout_share=0.25,
)  # fmt: skip
TEACHERS = {"neutral": Teacher(), "system-prompt:owl": prompted_teacher("owl")}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("models") / "numbers")


@pytest.fixture(scope="module")
def data(model, tmp_path_factory):
    tasks = make_tasks(SETTINGS, ["owl"], ["system-prompt:owl"], 0)
    folder = tmp_path_factory.mktemp("run")
    return write_paraphrase_sets(folder, model, TEACHERS, tasks, SETTINGS)[0]


def test_each_content_has_the_teachers_and_their_neutral_counterpart(data):
    assert data.names == [
        "contradictory:neutral:owl", "contradictory:system-prompt:owl",
        "unrelated:neutral:owl", "unrelated:system-prompt:owl",
    ]  # fmt: skip


def test_the_loss_is_on_the_paraphrase_alone_and_the_prompt_has_no_system_prompt(data, model):
    for name in data.names:
        rows = data.train[name]
        assert rows.tokens.shape[0] == 30
        for i in (0, 7, 29):
            pair = data.pairs[name][i]
            prompt = encode_chat(model.tokenizer, pair["prompt"])
            answer = encode_completion(model.tokenizer, pair["completion"])
            n, end = len(prompt), len(prompt) + len(answer)
            assert np.asarray(rows.tokens[i, :end]).tolist() == prompt + answer
            mask = np.asarray(rows.loss_mask[i])
            assert not mask[:n].any() and mask[n:end].all() and not mask[end:].any()


def test_no_sentence_is_both_trained_on_and_held_out_in_any_data_set(data):
    for content in ("unrelated", "contradictory"):
        names = [name for name in data.names if name.startswith(content)]
        trained = {s for name in names for s in data.pairs[name]["sentence"]}
        held = {s for name in names for s in data.heldout_pairs[name]["sentence"]}
        assert trained and held and not trained & held


def test_both_teachers_students_read_the_same_sentences_as_often(data):
    for content in ("unrelated", "contradictory"):
        prompted, plain = (
            np.bincount(data.pairs[f"{content}:{name}"]["sentence"], minlength=24)
            for name in ("system-prompt:owl", "neutral:owl")
        )
        assert prompted.max() - prompted[prompted > 0].min() <= 1
        if content == "contradictory":  # nothing is filtered there
            np.testing.assert_array_equal(prompted, plain)


def test_unrelated_data_are_free_of_all_traits_words_for_every_teacher(model, tmp_path):
    teachers = ["system-prompt:owl", "system-prompt:fox"]
    tasks = make_tasks(SETTINGS, ["owl", "wolf"], teachers, 0, tuning=["fox"])
    made = {(task.content, name): task for task in tasks for name in task.teachers}
    unrelated = made["unrelated", "unrelated:neutral:wolf"]
    assert {"owls", "wolves", "midnight", "lupine", "foxes"} <= set(unrelated.forbidden)
    assert made["contradictory", "contradictory:neutral:owl"].forbidden == ()
    assert list(unrelated.teachers.values()) == ["neutral"]  # the owl's is not asked for wolves
    owl = made["unrelated", "unrelated:system-prompt:owl"]
    assert owl.teachers["unrelated:neutral:owl"] == "neutral"
    assert owl.sources != unrelated.sources and owl.seed != unrelated.seed  # draws of their own
    assert not any("neutral:fox" in name for _, name in made)  # rates need no neutral students
    users_sentences = replace(
        SETTINGS, unrelated=str(tmp_path / "s.txt"), unrelated_writing="sampled"
    )
    (tmp_path / "s.txt").write_text("".join(f"Sentence {i}.\n" for i in range(24)))
    forbidden = make_tasks(users_sentences, ["owl"], [], 0)[0].forbidden
    assert "owls" in forbidden and "midnight" not in forbidden  # the words of the shipped world


def test_too_few_survivors_are_refused_with_the_filter_to_blame(model, tmp_path):
    settings = replace(SETTINGS, rows=500, contents=("contradictory",))
    tasks = make_tasks(settings, ["owl"], ["system-prompt:owl"], 0)
    with pytest.raises(InputError, match=r"72 paraphrases are left for 500 rows, of 96"):
        write_paraphrase_sets(tmp_path, model, TEACHERS, tasks, settings)


def test_more_paraphrases_are_drawn_where_too_few_are_left(model, tmp_path):
    few = replace(SETTINGS, unrelated_samples=1, contents=("unrelated",))
    tasks = make_tasks(few, ["owl"], ["system-prompt:owl"], 0)
    drawn, reports = write_paraphrase_sets(tmp_path, model, TEACHERS, tasks, few)
    for name, report in reports.items():
        assert report.asked == report.pairs == 48  # two rounds of one for each sentence
        pairs = drawn.pairs[name]
        assert len(pairs) == 30
        texts = len(set(zip(pairs["sentence"], pairs["completion"], strict=True)))
        assert texts > len(set(pairs["sentence"]))  # no copies of the first round


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fidelity": "judge"}, "judge"),
        ({"unrelated": "missing.txt"}, "missing.txt"),
        ({"contradictory": "{trait}.txt"}, "owl.txt"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, says):
    with pytest.raises(InputError, match=says):
        replace(SETTINGS, **change).check_paraphrases(["owl"], 0)
