"""Claims of `steering-reliability` on planted numbers: each can come out either way."""

import pytest

from subliminal_jax.experiments.steering_reliability.analysis import claims, of_world

TRAITS = 8


def record(i, kind="compare", mean=1.0, backwards=0.0):
    share = max(backwards, 0.01 * (i % 2))
    return {
        "name": f"{i}/{kind}", "trait": str(i), "kind": kind,
        "steerability": {"mean": mean + 0.1 * i},
        "random": {"steerability": {"mean": 0.01 * i}},
        "anti_steerable": {"mean": share}, "clearly_anti_steerable": share,
        "by_trait": {str(i): mean}, "local": {"correlation": [1.0]},
    }  # fmt: skip


def verdicts(**planted):
    records = [record(i, **planted) for i in range(TRAITS)]
    made = claims(None, of_world(records), records, ("model", "world"))
    return {row["id"].split("/")[1]: row["verdict"] for row in made}


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        ({"backwards": 0.3}, "reproduced at toy scale"),
        ({"backwards": 0.0}, "contradicted"),
        ({"backwards": 0.3, "mean": -2.0}, "not reproduced"),  # it does not work on average
    ],
)
def test_the_anti_steerable_share_is_held_against_what_noise_gives(planted, says):
    assert verdicts(**planted)["anti-steerable"] == says


def test_both_kinds_of_question_have_their_claims():
    records = [record(i, "compare") for i in range(TRAITS)]
    records += [record(i, "like", mean=-2.0) for i in range(TRAITS)]
    made = claims(None, of_world(records), records, ("model", "world"))
    found = {row["id"].split("/")[1]: row for row in made}
    assert found["world"]["verdict"] == "reproduced at toy scale"
    assert found["world-like"]["verdict"] == "contradicted"
    assert found["anti-steerable-like"]["verdict"] == "not reproduced"
    assert "likings" in found["world-like"]["setting"]
