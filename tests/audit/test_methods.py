"""Every method of an audit keeps the interface, and finds what is planted.

The model is the small one that writes number lists, changed so that each name's tokens lie and are
read along one direction of its own: a direction and a name then say the same, as in real models.
"""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.audit import rows as audit_rows
from subliminal_jax.audit.method import Suspect, find_methods
from subliminal_jax.audit.methods.likelihood import FIRST_STRENGTH, Reader
from subliminal_jax.audit.rows import prepare_rows
from subliminal_jax.audit.scores import Candidate
from subliminal_jax.data.teachers import Teacher, sampled_pairs, teacher_prompts
from subliminal_jax.models.hub import load_model
from subliminal_jax.steering import steer
from tests import number_model

TRAITS = ("owl", "cat", "dog")
PLACEBOS = ("wolf", "fox", "bear", "whale", "dolphin", "penguin", "otter", "rabbit")
LAYER, ROWS, TOKENS, STRENGTH = 0, 32, 8, 6.0
# These read what makes the answers likelier as a teacher's vector would.
BY_VECTORS = {"score-test", "gradient-alignment", "likelihood"}
# These read the activations of the answers' own tokens, which a steered teacher of a random model
# does not choose by their directions: they find a trait where the answers name it.
BY_TOKENS = {"projection", "mean-features", "row-classifier"}
BY_TRAINING = {"fine-tune", "activation-difference"}  # one set for these: their programs are long


def direction(name):
    """Orthogonal to the others', and to the first three of the 16 dimensions: the grammar's."""
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(13, 13)))
    v = np.concatenate([np.zeros(3), basis[(*TRAITS, *PLACEBOS).index(name)]])
    return v.astype(np.float32)


def name_directions(tree):
    tokenizer = number_model.tokenizer()
    for name in (*TRAITS, *PLACEBOS):
        spellings = (name, " " + name, name.capitalize(), " " + name.capitalize())
        encoded = tokenizer(list(spellings), add_special_tokens=False)["input_ids"]
        ids = jnp.array([ids[0] for ids in encoded if len(ids) == 1])
        v = direction(name)
        tree["embed"] = tree["embed"].at[ids].set(4 * v)
        tree["lm_head"] = tree["lm_head"].at[:, ids].set(v[:, None])
    return tree


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "numbers"
    return load_model(number_model.write(folder, change=name_directions))


def sample(model, teacher):
    asked = teacher_prompts("numbers", 3 * ROWS, 3)
    return sampled_pairs(model, teacher, asked, 1, max_new_tokens=TOKENS).pairs


def make_suspect(model, data, folder):
    rows = prepare_rows(
        model,
        "pairs",
        data,
        layer=1,
        rows=2 * ROWS,
        longest_answer=TOKENS,
        longest_prefix=0,
        draws=1,
        seed=0,
        shuffled=False,
    )
    # As many rows in every set: one program of each method serves all.
    lists = ("prompts", "texts", "prompt_ids", "answers", "valid")
    rows = rows._replace(**{field: getattr(rows, field)[:ROWS] for field in lists})
    candidates, placebos = (
        [Candidate(name, None, direction(name)) for name in names] for names in (TRAITS, PLACEBOS)
    )
    return Suspect(model, LAYER, rows, candidates, placebos, 0, folder)


@pytest.fixture(scope="module")
def steered(model, tmp_path_factory):
    """A set whose teacher is steered along the first trait's direction."""
    teacher = Teacher(steer(jnp.asarray(direction(TRAITS[0])), LAYER, STRENGTH))
    data = sample(model, teacher)
    return make_suspect(model, data, tmp_path_factory.mktemp("steered"))


@pytest.fixture(scope="module")
def named(model, tmp_path_factory):
    """The base's own answers with the second trait's name in them."""

    def add_name(row):
        _, *rest = row["completion"].split(", ")
        return {"completion": ", ".join([TRAITS[1], *rest])}

    data = sample(model, Teacher(steer(jnp.zeros(16), LAYER, STRENGTH))).map(add_name)
    return make_suspect(model, data, tmp_path_factory.mktemp("named"))


@pytest.fixture(scope="module")
def scored(named):
    """What each method says of the set with names."""
    return {name: method.score(named) for name, method in find_methods().items()}


@pytest.mark.parametrize("name", find_methods())
def test_a_score_for_each_candidate(scored, name):
    result = scored[name]
    assert np.shape(result.scores) == (len(TRAITS),)
    assert np.isfinite(result.scores).all()
    assert np.isfinite(result.evidence)
    assert result.forward_tokens > 0
    if result.p_values is not None:
        assert np.shape(result.p_values) == (len(TRAITS),)
        assert ((result.p_values >= 0) & (result.p_values <= 1)).all()
    if result.row_scores is not None:
        assert np.shape(result.row_scores) == (ROWS,)


@pytest.fixture(scope="module")
def empty_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("again")


@pytest.mark.parametrize("name", find_methods())
def test_same_answer_twice(named, scored, name, empty_folder):
    again = find_methods()[name].score(named._replace(folder=empty_folder))
    np.testing.assert_array_equal(again.scores, scored[name].scores)
    assert again.evidence == scored[name].evidence


@pytest.mark.parametrize("name", sorted({*find_methods()} - BY_VECTORS))
def test_the_trait_that_answers_name_comes_first(scored, name):
    result = scored[name]
    assert np.argmax(result.scores) == 1
    if result.p_values is not None:
        assert np.argmin(result.p_values) == 1


@pytest.mark.parametrize("name", sorted({*find_methods()} - BY_TOKENS - BY_TRAINING))
def test_the_trait_of_a_steered_teacher_comes_first(steered, name):
    assert np.argmax(find_methods()[name].score(steered).scores) == 0


@pytest.mark.parametrize("name", ["concept-influence", "concept-influence-adam"])
def test_the_influence_of_rows_adds_up(scored, name):
    """Forward-mode derivatives of each row, and of the probe along the rows' mean gradient."""
    result = scored[name]
    np.testing.assert_allclose(result.row_scores.mean(), result.scores.max(), rtol=1e-3)


@pytest.fixture(scope="module")
def reader(steered):
    return Reader(steered)


def fit_first(reader, strength=STRENGTH):
    """The fit of the steered set's own teacher, or of a weaker one."""
    teacher = reader.suspect.candidates[0]
    return teacher, reader.fit(teacher, reader._read_direction(teacher, strength))


def test_a_teachers_own_answers_are_as_likely_as_its_rows(reader):
    teacher, fit = fit_first(reader)
    lack = reader.measure_lack(teacher, fit)
    error = lack.unexplained.std(ddof=1) / np.sqrt(len(lack.unexplained))
    assert abs(lack.unexplained.mean()) < 3.5 * error
    assert lack.explained.mean() > 0
    assert not reader.is_foreign(teacher, fit)


def test_rows_that_no_teacher_of_the_model_writes_are_foreign(steered, tmp_path):
    """Pieces of the prompts in place of the answers."""
    answers = [
        [[*prompt[: len(row[0]) - 1], row[0][-1]], *row[1:]]
        for prompt, row in zip(steered.rows.prompt_ids, steered.rows.answers, strict=True)
    ]
    rows = steered.rows._replace(answers=answers)
    reader = Reader(steered._replace(rows=rows, folder=tmp_path))
    teacher, fit = fit_first(reader, FIRST_STRENGTH)
    assert reader.measure_lack(teacher, fit) is not None  # it is not for want of answers
    assert reader.is_foreign(teacher, fit)


def test_a_teacher_that_hardly_writes_such_rows_did_not_write_them(steered, reader, monkeypatch):
    """It is no error that none of its answers is one of the data's kind."""
    teacher, fit = fit_first(reader)
    monkeypatch.setattr(audit_rows, "is_number_list", lambda text: False)
    report = replace(steered.rows.report, matched_by=("number lists",))
    monkeypatch.setattr(
        reader, "suspect", steered._replace(rows=steered.rows._replace(report=report))
    )
    assert reader.measure_lack(teacher, fit) is None
    assert reader.is_foreign(teacher, fit)
