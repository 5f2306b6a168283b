from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.distil_vectors.analysis import (
    METRICS,
    AgainstControls,
    DistilledVector,
    LayerChoice,
    Measured,
    analyse,
    compare_vectors,
)
from subliminal_jax.experiments.distil_vectors.claims import NO_NUMBER, make_claims
from tests.planted import fill

DRAWS = ("control-0", "control-1", "control-2")


def make_vectors(effect=0.3, noise=0.05):
    """Trait and random vectors at two layers and norms; `effect` over controls, which differ by
    draw."""
    rng = np.random.default_rng(0)

    def hold(size: float) -> AgainstControls:
        controls = {draw: float(noise * rng.normal()) for draw in DRAWS}
        return AgainstControls(size + float(noise * rng.normal()), controls)

    return [
        fill(
            DistilledVector,
            data=f"{kind}-{i}-{norm}",
            vector=f"{kind}-{i}",
            kind=kind,
            layer=layer,
            norm=norm,
            **{metric: hold(effect if kind == "trait" else effect / 10) for metric in METRICS},
        )
        for kind in ("trait", "random")
        for i in range(5)
        for layer in (1, 2)
        for norm in (0.3, 0.6)
    ]  # fmt: skip


def make_measured(vectors, **changes):
    choices = tuple(fill(LayerChoice, layer=layer, rate=0.1) for layer in (1, 2))
    measured = fill(
        Measured,
        model="toy",
        steps=4,
        kinds=("trait", "random"),
        tuning_vectors=("owl",),
        choices=choices,
        vectors=tuple(vectors),
    )
    return replace(measured, **changes)


def claims(vectors, **changes):
    results = analyse(make_measured(vectors, **changes))
    return {claim.id.partition("/")[2]: claim for claim in make_claims(results)}


def verdicts(vectors, **changes):
    return {name: claim.verdict for name, claim in claims(vectors, **changes).items()}


def test_the_unit_is_the_vector_whatever_its_layers_and_norms():
    vectors = [v for v in make_vectors() if v.kind == "trait"]
    compared = compare_vectors(vectors, "eas")
    assert compared.difference is not None and compared.difference.n == 5
    own = [v.eas for v in vectors if v.vector == "trait-3"]
    assert len(own) == 4
    expected = np.mean([each.student - np.mean([*each.controls.values()]) for each in own])
    assert compared.by_data["trait-3"].interval.mean == pytest.approx(expected)


def test_a_draw_without_a_sound_control_at_one_layer_is_left_out_everywhere():
    vectors = [v for v in make_vectors() if v.kind == "trait"]

    def lose(held: AgainstControls, draws: tuple[str, ...]) -> AgainstControls:
        return replace(held, controls={d: x for d, x in held.controls.items() if d not in draws})

    one = [replace(v, eas=lose(v.eas, DRAWS[:1])) if v.layer == 2 else v for v in vectors]
    all_layers = [replace(v, eas=lose(v.eas, DRAWS[:1])) for v in vectors]
    assert compare_vectors(one, "eas") == compare_vectors(all_layers, "eas")
    none = [replace(v, eas=lose(v.eas, DRAWS)) if v.layer == 2 else v for v in vectors]
    assert compare_vectors(none, "eas").difference is None


def test_claims_follow_the_numbers():
    above = verdicts(make_vectors())
    assert above["trait-eas"] == above["trait-loss"] == REPRODUCED
    assert above["behaviour"] == INCONCLUSIVE  # random vectors change it, too, if ten times less
    alike = [
        v
        if v.kind == "trait" or v.variation is None
        else replace(v, variation=replace(v.variation, student=v.variation.student - 0.03))
        for v in make_vectors(noise=0.01)
    ]
    assert verdicts(alike)["behaviour"] == REPRODUCED
    below = verdicts(make_vectors(-0.3))
    assert below["trait-eas"] == below["trait-loss"] == below["behaviour"] == CONTRADICTED
    only_random = [v for v in make_vectors() if v.kind == "random"]
    assert list(verdicts(only_random, kinds=("random",))) == ["random-eas", "random-loss"]


def test_claims_without_a_number_stay_and_count_the_unstable():
    rows = [
        StudentRow(
            "adamw",
            0.1,
            0,
            f"{kind}-0",
            diverged=False,
            heldout_loss=5.0,
            base_loss=2.0,
            measured={"layer": 1, "kind": kind},
        )
        for kind in ("trait", "random", "control")
    ]
    random = [v for v in make_vectors() if v.kind == "random"]
    made = claims(random, students=tuple(rows))
    assert made["trait-eas"].verdict == made["behaviour"].verdict == INCONCLUSIVE
    assert made["trait-eas"].number == made["behaviour"].number == NO_NUMBER
    assert made["trait-eas"].unstable == made["random-eas"].unstable == 2
    assert made["behaviour"].unstable == 3 and made["random-eas"].seeds == 5


def test_the_setting_says_how_rates_were_chosen():
    assert "chosen on 1 other vectors" in claims(make_vectors())["trait-eas"].setting
    given = claims(make_vectors(), tuning_vectors=())["trait-eas"].setting
    assert "rate as given" in given and "chosen" not in given


def test_pooled_has_a_row_for_each_kind_layer_and_norm():
    pooled = analyse(make_measured(make_vectors())).pooled
    assert len({(group.kind, group.layer, group.norm) for group in pooled}) == len(pooled) == 8
    assert all(group.vectors == 5 for group in pooled)
