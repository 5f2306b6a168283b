"""Cosines of planted gradients: the sign, the scale, and what they are averaged over."""

import numpy as np
import pytest

from subliminal_jax.experiments.gradient_alignment.cosines import (
    POSITIONS,
    Cosines,
    DrawGradients,
)

LAYERS, ROWS, DIM = 2, 16, 6


@pytest.fixture(scope="module")
def cosines():
    """Two traits over two draws; the teacher's rows differ from the clean ones by -v exactly."""
    rng = np.random.default_rng(0)
    vectors = {t: rng.normal(size=(LAYERS, DIM)).astype(np.float32) for t in ("owl", "wolf")}
    cosines = Cosines(vectors, layer=1, row_batch=4)
    for draw in range(2):
        shape = (len(POSITIONS), LAYERS, ROWS, DIM)
        clean, again = rng.normal(size=(2, *shape)).astype(np.float32)
        for trait, v in vectors.items():
            gradients = DrawGradients(clean - v[None, :, None], clean, again)
            cosines.add("steered", trait, draw, gradients)
    return cosines


def test_gradients_that_differ_by_the_vector_have_a_cosine_of_one_in_the_papers_sign(cosines):
    for row in cosines.pooled:
        assert row.difference == pytest.approx(1, abs=1e-5)
        assert row.share == pytest.approx(1, abs=1e-5)
        norm = np.linalg.norm(cosines.vectors[row.trait][row.layer])
        assert row.along * row.norm_clean_row == pytest.approx(norm, rel=1e-4)  # float32 sums
        assert abs(row.control) < 1
    for point in cosines.curves():
        if point.data == "difference":
            assert point.cosine.mean == pytest.approx(1, abs=1e-5)
    assert {point.n for point in cosines.curves()} == {1, 2, 4, 8, 16}


def test_the_other_traits_vector_has_the_cosine_of_the_two_vectors(cosines):
    for row in cosines.pooled:
        a, b = (v[row.layer] for v in cosines.vectors.values())
        expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert row.other_vectors == pytest.approx(expected, abs=1e-5)


def test_single_rows_count_every_batch_of_every_draw(cosines):
    rows = cosines.single_rows()
    assert {row.batches for row in rows} == {2 * ROWS // 4}
    for row in rows:
        assert 0 <= row.share <= 1 and row.cosine_stderr > 0 and row.norm > 0
        assert row.share >= row.cosine**2 - 1e-9  # mean of squares and square of the mean
