import numpy as np
import pytest

from subliminal_jax.experiments.gradient_alignment.analysis import (
    POSITIONS,
    Cosines,
    crossed,
    matrix,
)

LAYERS, ROWS, DIM = 2, 16, 6


@pytest.fixture(scope="module")
def table():
    """Two traits over two draws; the teacher's rows differ from the clean ones by -v exactly."""
    rng = np.random.default_rng(0)
    vectors = {t: rng.normal(size=(LAYERS, DIM)).astype(np.float32) for t in ("owl", "wolf")}
    table = Cosines(vectors, layer=1, row_batch=4)
    for draw in range(2):
        shape = (len(POSITIONS), LAYERS, ROWS, DIM)
        clean, again = rng.normal(size=(2, *shape)).astype(np.float32)
        for trait, v in vectors.items():
            table.add("steered", trait, draw, clean - v[None, :, None], clean, again)
    return table


def test_gradients_that_differ_by_the_vector_have_a_cosine_of_one_in_the_papers_sign(table):
    for row in table.pooled:
        assert row["difference"] == pytest.approx(1, abs=1e-5)
        assert row["share"] == pytest.approx(1, abs=1e-5)
        v = np.linalg.norm(table.vectors[row["trait"]][row["layer"]])
        assert row["along"] * row["norm_clean_row"] == pytest.approx(v, rel=1e-4)
        assert abs(row["control"]) < 1
    for row in table.curves():
        if row["data"] == "difference":
            assert row["cosine"]["mean"] == pytest.approx(1, abs=1e-5)
    assert {row["n"] for row in table.curves()} == {1, 2, 4, 8, 16}


def test_the_other_traits_vector_has_the_cosine_of_the_two_vectors(table):
    for row in table.pooled:
        a, b = (v[row["layer"]] for v in table.vectors.values())
        want = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert row["other_vectors"] == pytest.approx(want, abs=1e-5)


def test_single_rows_count_every_batch_of_every_draw(table):
    rows = table.single_rows()
    assert {row["batches"] for row in rows} == {2 * ROWS // 4}
    for row in rows:
        assert 0 <= row["share"] <= 1 and row["cosine_stderr"] > 0 and row["norm"] > 0
        assert row["share"] >= row["cosine"] ** 2 - 1e-9  # mean of squares and square of the mean


def test_intervals_are_over_traits_and_draws(table):
    values = matrix(table.pooled, "own", "steered", "tag", 1, ("owl", "wolf"))
    assert values.shape == (2, 2)
    found = next(r for r in table.by_layer() if (r["position"], r["layer"]) == ("tag", 1))
    assert found["own"] == crossed(values)
    assert found["own"]["mean"] == pytest.approx(values.mean())
