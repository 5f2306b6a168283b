"""The paper's two statements about teacher vectors; the second for each kind of student."""

from subliminal_jax.evaluation import margins
from subliminal_jax.evaluation.claim_settings import describe_setting
from subliminal_jax.evaluation.claims import Claim, Evidence, Presupposition
from subliminal_jax.evaluation.student_kinds import KIND_NAMES, describe_arm

from .analysis import Arm, Results


def make_claims(results: Results) -> list[Claim]:
    """Vectors elicit their traits, and those that they elicit more pass more."""
    return [elicitation_claim(results), *(prediction_claim(results, arm) for arm in results.arms)]


def elicitation_claim(results: Results) -> Claim:
    """Steered against a random vector of the same norm, over traits."""
    elicitation = results.elicitation
    number = "no setting keeps off-topic mentions within 10%"
    if elicitation is not None:
        number = (
            f"P(trait) {elicitation.base:.2f} base, {elicitation.steered:.2f} steered, "
            f"{elicitation.prompted:.2f} prompted; steered minus random vector "
            f"{elicitation.gain:+.2f}"
        )
        if elicitation.share is not None:
            number += f"; {elicitation.share:.0%} of the prompt's rise"
    return Claim(
        id="teacher-vector/elicits",
        claim="Adding the vector of a system prompt, without the prompt, elicits the trait",
        section="Blank et al. 2026, section 2",
        setting=describe_setting(
            model=results.model,
            layer="after the best block, at the best scale, of each by the paper's rule",
            vectors=f"vectors of {len(results.traits)} traits",
            carrier="held-out favourite questions",
            students=None,
        ),
        number=number,
        seeds=len(results.traits) if elicitation is None else elicitation.traits,
        evidence=Evidence(
            None if elicitation is None else elicitation.gain, "above", margin=margins.TRAIT_RATE
        ),
        model=results.model,
    )


def prediction_claim(results: Results, arm: Arm) -> Claim:
    """The rank correlation over traits; it presupposes that these students name the trait more
    often than their controls."""
    prediction, predictor = arm.prediction, arm.prediction.teacher_gain
    auc = f"AUC {predictor.auc:.2f}"
    if prediction.transmitted in (0, prediction.traits):
        auc = f"{prediction.transmitted} of {prediction.traits} traits are transmitted"
    rise = arm.metrics["word_rate"].difference
    number = "no sound student and control"
    if rise is not None:
        number = (
            f"Spearman {predictor.rate:.2f}; {auc}; P(trait) {100 * rise.mean:+.1f} points "
            f"{(100 * rise).format_ends('.1f')} over the controls"
        )
    return Claim(
        id=f"teacher-vector/predicts-transmission-{arm.adapter}",
        claim="Traits that the vector elicits more are transmitted more to students "
        f"({KIND_NAMES[arm.adapter]})",
        section="Blank et al. 2026, figure 5, a",
        setting=describe_arm(
            results,
            arm,
            f"vectors of {len(results.traits)} traits at scale {results.scale:g}",
            f"{results.rows} filtered number lists each",
        ),
        number=number,
        seeds=prediction.traits,
        evidence=Evidence(
            predictor.rate if prediction.traits else None,
            "above",
            margin=margins.RANK_CORRELATION,
            presupposes=(
                Presupposition(
                    "the students name the trait more often",
                    rise,
                    to_refute=margins.TRAIT_RATE.size,
                ),
            ),
        ),
        unstable=len(arm.unstable),
        model=results.model,
    )
