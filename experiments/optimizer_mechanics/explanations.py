"""What has been proposed for the gap between AdamW and SGD, and what follows from each proposal.

Names of arms are those of `arms.list_arms`. [F] as in `subliminal_jax.runs.presets`.
"""

from collections.abc import Collection
from dataclasses import replace

from subliminal_jax.evaluation.metric_ranges import COSINE
from subliminal_jax.evaluation.verdicts import Explanation, Prediction

MASKED = tuple(f"sgd-masked-{share}" for share in ("0.1%", "1%", "10%"))
CLIPPED = tuple(f"sgd-quantile-clipped-{share}" for share in ("0.1%", "1%", "10%"))

# Measured differences that stand beside the arms.
MASS_OVER_SIGNAL = "top 1%: share of mass \N{MINUS SIGN} share of signal"
EQUAL_STEPS = "rank correlation of equal steps with alignment"

EXPLANATIONS: tuple[Explanation, ...] = (
    Explanation(
        "outlier dominance: the consistent component drowns in outlier gradients",
        "Blank et al. 2026",
        (
            Prediction("rescues", "SGD without its largest coordinates comes up to AdamW", MASKED),
            Prediction("rescues", "SGD with its largest coordinates clipped does", CLIPPED),
            Prediction(
                "rescues",
                "SGD without the bottom 10% of Adam's scales, or with the rest flat, does",
                ("frozen-map-zero-bottom", "frozen-map-flat-rest"),
            ),
            Prediction(
                "spares",
                "AdamW does not need the 10% of coordinates with the largest gradients",
                ("adamw-bottom-frozen", "adamw-bottom-zeroed"),
            ),
            Prediction(
                "measured",
                "the largest 1% of SGD's coordinates hold a smaller share of the signal than of "
                "the squared gradient",
                measured=MASS_OVER_SIGNAL,
            ),
        ),
    ),
    Explanation(
        "equalisation by a living statistic: transfer grows with it, frozen maps give less",
        "Feng 2026 [F]",
        (
            Prediction(
                "rescues",
                "a statistic that follows the gradient comes up to AdamW",
                ("rmsprop", "living-map-two-levels"),
            ),
            Prediction(
                "exceeds",
                "it gives more than the same rule with a frozen statistic",
                pairs=(
                    ("adamw", "frozen-map-momentum"),
                    ("rmsprop", "frozen-map"),
                    ("living-map-two-levels", "frozen-map-two-levels"),
                ),
            ),
            Prediction(
                "measured",
                "over all arms, the more equal a step's coordinates the larger the alignment",
                measured=EQUAL_STEPS,
                within=COSINE,
            ),
        ),
    ),
    Explanation(
        "learning rate alone: tuned SGD does as well",
        "Nief et al. 2026",
        (Prediction("vanishes", "no gap is left between best rates", pairs=(("adamw", "sgd"),)),),
    ),
    Explanation(
        "stability: single steep steps bound SGD's rate, not the direction of its steps",
        "Zhang et al. 2020, arXiv:1905.11881",
        (
            Prediction(
                "rescues",
                "SGD with its global norm clipped takes larger rates and comes up to AdamW",
                ("sgd-clipped",),
            ),
            Prediction(
                "rescues", "steps of one length for the whole tree do too", ("normalized-sgd",)
            ),
        ),
    ),
    Explanation(
        "heterogeneous blocks: one rate does not fit all tensors",
        "Zhang et al. 2024, arXiv:2402.16788",
        (
            Prediction(
                "rescues",
                "one length of step for each tensor is enough",
                ("normalized-sgd-per-tensor",),
            ),
            Prediction(
                "exceeds",
                "and more than one for the whole tree",
                pairs=(("normalized-sgd-per-tensor", "normalized-sgd"),),
            ),
        ),
    ),
    Explanation(
        "imbalance of LoRA's factors: at b = 0 SGD hardly moves a",
        "follows from Hu et al. 2021; tested by [F]",
        (
            Prediction(
                "rescues",
                "SGD with a larger rate for a comes up to AdamW",
                ("sgd-a-times-3", "sgd-a-times-16", "sgd-a-times-64"),
            ),
            Prediction("harms", "AdamW with a frozen falls to SGD", ("adamw-a-frozen",)),
            Prediction("vanishes", "full weights have no gap", pairs=(("adamw-full", "sgd-full"),)),
        ),
    ),
    Explanation(
        "sampling noise: SGD lacks the averaging",
        "Blank et al. 2026, figure 7a",
        (
            Prediction(
                "rescues",
                "SGD with larger batches, at equal steps, comes up to AdamW",
                ("sgd-batch-64", "sgd-batch-full"),
            ),
            Prediction(
                "vanishes",
                "on large batches there is no gap",
                pairs=(
                    ("adamw-batch-64", "sgd-batch-64"),
                    ("adamw-batch-full", "sgd-batch-full"),
                ),
            ),
            Prediction("rescues", "a running mean of gradients is enough", ("momentum",)),
        ),
    ),
    Explanation(
        "rare tokens: SGD learns the vocabulary's tail slowly",
        "Kunstner et al. 2024",
        (
            Prediction(
                "vanishes",
                "without the rare tokens there is no gap",
                pairs=(("adamw-no-rare", "sgd-no-rare"),),
            ),
            Prediction(
                "vanishes",
                "with rare tokens weighted up there is none",
                pairs=(("adamw-rare-weighted", "sgd-rare-weighted"),),
            ),
        ),
    ),
    Explanation(
        "the basis: coordinates of the weights are privileged",
        "Blank et al. 2026, rotations",
        (
            Prediction(
                "harms",
                "AdamW in a rotated basis falls",
                ("adamw-rotated", "adamw-rotated-by-layer", "adamw-rotated-all"),
            ),
        ),
    ),
)


def select_explanations(arms: Collection[str]) -> list[Explanation]:
    """The explanations with what they predict of `arms`, the ones that were trained."""
    explanations = []
    for explanation in EXPLANATIONS:
        narrowed = [
            replace(
                p,
                arms=tuple(arm for arm in p.arms if arm in arms),
                pairs=tuple(pair for pair in p.pairs if set(pair) <= set(arms)),
            )
            for p in explanation.predictions
        ]
        kept = tuple(p for p in narrowed if p.arms or p.pairs or p.measured)
        if kept:
            explanations.append(replace(explanation, predictions=kept))
    return explanations
