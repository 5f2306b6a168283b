from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from subliminal_jax.experiments.distil_vectors.analysis import (
    METRICS,
    DistilledVector,
    LayerStudents,
    Measured,
    Paired,
    analyse,
    average_norms,
    make_claims,
    matrices,
)
from tests.planted import fill


def vectors(effect=0.3, noise=0.05, seeds=3):
    """Trait and random vectors at two layers and norms; `effect` over controls, seeds differ."""
    rng = np.random.default_rng(0)

    def pair(size: float) -> Paired:
        control = rng.normal(size=seeds) * noise
        student = control + size + noise * rng.normal(size=seeds)
        return Paired(tuple(student), tuple(control))

    return [
        fill(
            DistilledVector,
            data=f"{kind}-{i}-{norm}",
            vector=f"{kind}-{i}",
            kind=kind,
            layer=layer,
            norm=norm,
            **{metric: pair(effect if kind == "trait" else effect / 10) for metric in METRICS},
        )
        for kind in ("trait", "random")
        for i in range(2)
        for layer in (1, 2)
        for norm in (0.3, 0.6)
    ]  # fmt: skip


def measured(vectors, seeds=3):
    layers = tuple(LayerStudents(layer, 0.1, (0.1,)) for layer in (1, 2))
    return fill(Measured, model="toy", steps=4, seeds=seeds, layers=layers, vectors=tuple(vectors))


def verdicts(vectors):
    claims = make_claims(analyse(measured(vectors)))
    return {claim.id.partition("/")[2]: claim.verdict for claim in claims}


def test_norms_of_a_vector_are_averaged_and_layers_are_not():
    values = np.subtract(*matrices(vectors(), "eas"))
    assert values.shape == (3, 16)
    averaged = average_norms(vectors(), values)
    assert averaged.shape == (3, 8)
    np.testing.assert_allclose(averaged[:, 0], values[:, :2].mean(axis=1))
    assert averaged.mean() == pytest.approx(values.mean())


def test_claims_follow_the_numbers():
    above = verdicts(vectors())
    assert above["trait-eas"] == REPRODUCED
    assert above["behaviour"] == INCONCLUSIVE  # random vectors change it, too, if ten times less
    alike = [
        v
        if v.kind == "trait"
        else replace(v, variation=Paired(v.variation.control, v.variation.control))
        for v in vectors()
    ]
    assert verdicts(alike)["behaviour"] == REPRODUCED
    below = verdicts(vectors(-0.3))
    assert below["trait-eas"] == below["trait-loss"] == below["behaviour"] == CONTRADICTED
    random = verdicts([v for v in vectors() if v.kind == "random"])
    assert list(random) == ["random-eas", "random-loss"]


def test_a_single_seed_has_no_claim_on_behaviour():
    results = analyse(measured(vectors(seeds=1), seeds=1))
    assert results.behaviour is None
    assert not any(claim.id.endswith("behaviour") for claim in make_claims(results))


def test_pooled_has_a_row_for_each_kind_layer_and_norm():
    pooled = analyse(measured(vectors())).pooled
    assert len({(group.kind, group.layer, group.norm) for group in pooled}) == len(pooled) == 8
    assert all(group.vectors == 2 for group in pooled)
    eas = pooled[0].eas
    assert eas.difference.mean == pytest.approx(eas.student.mean - eas.control.mean)
