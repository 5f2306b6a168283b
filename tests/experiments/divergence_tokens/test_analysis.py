"""What the analysis of `divergence-tokens` says of planted effects."""

from collections.abc import Mapping

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REFUTED, REPRODUCED, Claim
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_kinds import KindChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.divergence_tokens.analysis import Measured, Results, analyse
from subliminal_jax.experiments.divergence_tokens.claims import make_claims
from subliminal_jax.experiments.divergence_tokens.config import ARMS
from subliminal_jax.experiments.divergence_tokens.report import make_page
from subliminal_jax.experiments.divergence_tokens.token_sets import TokenGradients
from subliminal_jax.reporting.tables import Table
from tests.pages import read_table
from tests.planted import fill

TRAITS = tuple(f"t{i}" for i in range(8))
DRAWS = tuple(f"control-{i}" for i in range(4))


def make_results(
    eas: Mapping[str, float],
    sgd: Mapping[str, float] | None = None,
    held: float = 0.5,
    unstable: tuple[str, str] = ("", ""),
) -> Results:
    """AdamW's students of each arm with this EAS on average, SGD's with another (or the same);
    controls about zero. Divergence tokens are a tenth of the tokens and hold `held` of the
    component along the vector; `unstable` is the arm and data set of a student that blew up."""
    rng = np.random.default_rng(0)
    rows, choices = [], []
    for optimizer, values in (("adamw", eas), ("sgd", sgd or eas)):
        for arm in ARMS:
            choice = RateChoice(optimizer, 4, (0.05, 0.1, 0.2), (0.95, 0.9, 0.95), 0.1, True)
            choices.append(KindChoice("lora", None, choice, arm))
            for i, name in enumerate((*TRAITS, *DRAWS)):
                mean = values[arm] if name in TRAITS else 0.0
                noise = 0.02 * rng.standard_normal(len(TRAITS))
                lost = (arm, name) == unstable
                row = StudentRow(
                    *(optimizer, 0.1, i, name, False),
                    heldout_loss=2.0 if lost else 0.9,
                    base_loss=1.0,
                    measured={
                        "word_log_prob": (-2.0 + noise).tolist(),
                        "eas": [[mean + x] for x in noise],
                        "shift_component": [[mean / 2 + x] for x in noise],
                        "adapter": "lora",
                        "objective": arm,
                        "all_tokens_loss": 0.95,
                    },
                )
                rows.append(row)
    shares = held + np.linspace(-0.02, 0.02, len(TRAITS))
    return analyse(
        fill(
            Measured,
            adapters=("lora",),
            optimizers=("adamw", "sgd"),
            traits=TRAITS,
            controls=DRAWS,
            words=TRAITS,
            references=TRAITS,
            arms=ARMS,
            counterfactual_traits=TRAITS,
            base_losses=dict.fromkeys((*TRAITS, *DRAWS), 1.0),
            choices=tuple(choices),
            students=tuple(rows),
            gradients=tuple(
                TokenGradients(trait, 1000, 100, 4.0, 0.4, 2.0, 2.0 * share, 10, 1)
                for trait, share in zip(TRAITS, shares, strict=True)
            ),
        )
    )


def judge(results: Results) -> dict[str, Claim]:
    return {claim.id.partition("/")[2]: claim for claim in make_claims(results)}


AS_REPORTED = {
    "all": 0.6,
    "masked": 0.02,
    "random-masked": 0.58,
    "alone": 0.59,
    "random-alone": 0.2,
    "weighted": 0.62,
}


def test_tokens_that_carry_all_are_found():
    claims = judge(make_results(AS_REPORTED))
    for name in ("masking-lowers", "masking-removes", "alone-beats-random", "alone-keeps"):
        assert claims[f"{name}-eas"].verdict == REPRODUCED, name
        assert claims[f"{name}-eas-sgd"].verdict == REPRODUCED, name
        assert claims[f"{name}-eas"].section.startswith("Schrodi et al. 2025, arXiv 2509.23886")
        assert claims[f"{name}-eas-sgd"].section == "our own question"
        # In the planted students the share of the vector is half of EAS.
        assert claims[f"{name}-shift-component"].verdict == REPRODUCED, name
    # The trait itself does not move, so there is nothing to lower.
    assert claims["masking-lowers-word-log-prob"].verdict == INCONCLUSIVE
    assert claims["component-held"].verdict == REPRODUCED
    assert claims["square-held"].verdict == REFUTED  # a tenth of both


def test_tokens_like_any_other_are_found_to_be_so():
    shared = dict.fromkeys(ARMS, 0.6) | {"alone": 0.3, "random-alone": 0.31}
    claims = judge(make_results(shared, held=0.1))
    assert claims["masking-lowers-eas"].verdict == REFUTED
    assert claims["masking-removes-eas"].verdict == CONTRADICTED
    assert claims["alone-beats-random-eas"].verdict == REFUTED
    assert claims["alone-keeps-eas"].verdict == CONTRADICTED
    assert claims["component-held"].verdict == REFUTED


def test_without_transmission_nothing_is_refuted():
    claims = judge(make_results(dict.fromkeys(ARMS, 0.0)))
    for name in ("masking-lowers", "masking-removes", "alone-beats-random", "alone-keeps"):
        assert claims[f"{name}-eas"].verdict == INCONCLUSIVE, name


@pytest.mark.parametrize(
    ("alone", "verdict"), [(0.58, REPRODUCED), (0.3, REFUTED), (0.0, CONTRADICTED)]
)
def test_adamws_lead_is_of_rare_tokens_where_it_is_gone_without_the_others(alone, verdict):
    """AdamW leads by 0.3 on all tokens; planted is what SGD reaches on divergence tokens alone."""
    sgd = {arm: value - 0.3 for arm, value in AS_REPORTED.items()} | {"alone": alone}
    if verdict == CONTRADICTED:
        sgd["alone"] = AS_REPORTED["alone"] - 0.6
    results = make_results(AS_REPORTED, sgd)
    assert judge(results)["lead-of-rare-tokens-eas"].verdict == verdict
    [lead] = [lead for lead in results.leads if lead.metric == "eas"]
    assert lead.by_arm["all"].mean == pytest.approx(0.3, abs=0.03)


def test_a_student_that_blew_up_is_left_out_of_its_arm_alone():
    results = make_results(AS_REPORTED, unstable=("masked", "t3"))
    arms = {(arm.arm, arm.optimizer): arm for arm in results.results}
    assert arms["masked", "adamw"].unstable == ("t3",) == arms["masked", "sgd"].unstable
    assert arms["alone", "adamw"].unstable == ()
    counts = {(c.arm, c.other): len(c.values) for c in results.contrasts if c.metric == "eas"}
    assert counts["masked", "random-masked"] == 7 and counts["alone", "random-alone"] == 8


def test_the_page_has_every_arm_and_what_tokens_hold():
    page = make_page(make_results(AS_REPORTED))
    tables = {block.title: block for block in page.blocks if isinstance(block, Table)}
    arms = read_table(tables["By the tokens in the loss"])
    assert len(arms) == 2 * len(ARMS)
    assert arms[1]["tokens in the loss"] == "divergence tokens masked"
    held = read_table(tables["What divergence tokens hold of the base's gradient"])
    assert held[0]["of tokens"].startswith("10.0") and len(held) == 1 + len(TRAITS)
