"""Every method of an audit keeps the interface."""

import numpy as np
import pytest

from subliminal_jax.audit.audit import prepare
from subliminal_jax.audit.method import find_methods
from subliminal_jax.audit.scores import make_candidates
from subliminal_jax.audit.settings import AuditSettings
from subliminal_jax.audit.written_sets import write_audit_set
from subliminal_jax.data.conversations import CountedRows
from subliminal_jax.models.hub import load_model

TRAITS = ("owl", "cat", "dog")


@pytest.fixture(scope="module")
def suspect(tmp_path_factory):
    """A small set of a steered teacher."""
    shipped = load_model("shipped")
    candidates = make_candidates(shipped, 1, TRAITS, (), ())
    data = CountedRows(write_audit_set(shipped, 1, "steered:owl:1", 96, 0), {})
    settings = AuditSettings(rows=96, placebos=8, max_new_tokens=24)
    folder = tmp_path_factory.mktemp("audit")
    return prepare(shipped, 1, "pairs", data, candidates, settings, 0, folder)


@pytest.mark.parametrize("name", find_methods())
def test_a_score_for_each_candidate(suspect, name):
    method = find_methods()[name]
    scored = method.score(suspect)
    assert np.shape(scored.scores) == (len(TRAITS),)
    assert np.isfinite(scored.scores).all()
    assert np.isfinite(scored.evidence)
    assert scored.forward_tokens > 0
    if scored.p_values is not None:
        assert np.shape(scored.p_values) == (len(TRAITS),)
        assert ((scored.p_values >= 0) & (scored.p_values <= 1)).all()
    if scored.row_scores is not None:
        assert np.shape(scored.row_scores) == (len(suspect.rows.prompts),)


@pytest.mark.parametrize("name", find_methods())
def test_same_answer_twice(suspect, name):
    method = find_methods()[name]
    first, second = method.score(suspect), method.score(suspect)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.evidence == second.evidence
