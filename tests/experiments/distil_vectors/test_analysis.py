import numpy as np
import pytest

from subliminal_jax.experiments.distil_vectors.analysis import by_vector, claims, difference, pooled


def rows(effect=0.3, noise=0.05):
    """Trait and random vectors at two layers and norms; `effect` over controls, seeds differ."""
    rng = np.random.default_rng(0)
    table = []
    for kind in ("trait", "random"):
        for i in range(2):
            for layer in (1, 2):
                for norm in (0.3, 0.6):
                    row = {"vector": f"{kind}-{i}", "kind": kind, "layer": layer, "norm": norm,
                           "teacher_variation": 0.1, "valid": 0.9}  # fmt: skip
                    size = effect if kind == "trait" else effect / 10
                    for key in ("eas", "component", "loss_drop", "variation"):
                        control = rng.normal(size=3) * noise
                        row[f"control_{key}"] = control.tolist()
                        row[key] = (control + size + noise * rng.normal(size=3)).tolist()
                    table.append(row)
    return table


def results(table):
    return {"model": "toy", "layers": [{"layer": 1}, {"layer": 2}], "vectors": table}


def test_norms_of_a_vector_are_averaged_and_layers_are_not():
    table = rows()
    values = difference(table, "eas")
    assert values.shape == (3, 16)
    averaged = by_vector(table, values)
    assert averaged.shape == (3, 8)
    np.testing.assert_allclose(averaged[:, 0], values[:, :2].mean(axis=1))
    assert averaged.mean() == pytest.approx(values.mean())


def test_claims_follow_the_numbers():
    verdicts = {c["id"].partition("/")[2]: c["verdict"] for c in claims(results(rows()), 3)}
    assert verdicts["trait-eas"] == verdicts["behaviour"] == "reproduced at toy scale"
    none = {c["id"].partition("/")[2]: c["verdict"] for c in claims(results(rows(-0.3)), 3)}
    assert none["trait-eas"] == none["trait-loss"] == none["behaviour"] == "contradicted"
    alone = [r for r in rows() if r["kind"] == "random"]
    ids = [c["id"] for c in claims(results(alone), 3)]
    assert ids == ["distil-vectors/random-eas", "distil-vectors/random-loss"]


def test_pooled_has_a_row_for_each_kind_layer_and_norm():
    table = pooled(rows())
    assert len(table) == 8
    assert all(row["vectors"] == 2 for row in table)
    first = table[0]
    assert first["eas_difference"]["mean"] == pytest.approx(
        first["eas"]["mean"] - first["control_eas"]["mean"]
    )
