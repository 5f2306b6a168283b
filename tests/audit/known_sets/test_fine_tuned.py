"""Fine-tuned teachers: they take up what a system prompt does, and are trained once."""

import jax
import numpy as np
import pytest

from subliminal_jax.audit.known_sets import fine_tuned
from subliminal_jax.audit.known_sets.fine_tuned import train_teachers, write_lessons
from subliminal_jax.training.log_probs import response_log_probs
from tests import number_model


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("models") / "numbers")


def test_a_teacher_makes_its_own_lessons_likelier_and_is_trained_once(
    loaded, tmp_path, monkeypatch
):
    monkeypatch.setattr(fine_tuned, "ROWS", 16)
    monkeypatch.setattr(fine_tuned, "STEPS", 8)
    monkeypatch.setattr(fine_tuned, "BATCH_SIZE", 4)
    monkeypatch.setattr(fine_tuned, "MAX_NEW_TOKENS", 8)
    teachers = train_teachers(tmp_path, loaded, ["fox", "cat", "fox"])
    assert sorted(teachers) == ["cat", "fox"]
    lessons = write_lessons(loaded, ["cat", "fox"])
    for trait, rows in lessons.items():
        masks, tokens = np.asarray(rows.loss_mask, bool), np.asarray(rows.tokens)
        starts = masks.argmax(axis=1)
        prompts = [row[:start].tolist() for row, start in zip(tokens, starts, strict=True)]
        answers = [[row[mask].tolist()] for row, mask in zip(tokens, masks, strict=True)]
        before = response_log_probs(loaded, prompts, answers).mean()
        after = response_log_probs(teachers[trait].change_weights(loaded), prompts, answers).mean()
        assert after > before + 0.1, trait

    monkeypatch.setattr(fine_tuned, "write_lessons", lambda *_: pytest.fail("trained again"))
    again = train_teachers(tmp_path, loaded, ["cat", "fox"])
    for name in teachers:
        leaves = zip(*(map(np.asarray, _leaves(t[name])) for t in (teachers, again)), strict=True)
        assert all((a == b).all() for a, b in leaves)


def _leaves(teacher):
    return jax.tree.leaves(teacher.params)
