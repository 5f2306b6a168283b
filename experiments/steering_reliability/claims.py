"""What `steering-reliability` says of the paper's claims."""

import numpy as np

from subliminal_jax.evaluation.claim_settings import describe_setting
from subliminal_jax.evaluation.claims import (
    CONTRADICTED,
    OWN_QUESTION,
    REPRODUCED,
    Claim,
    Evidence,
    Presupposition,
)
from subliminal_jax.evaluation.margins import ANSWER_SHARE, RANK_CORRELATION, STEERABILITY
from subliminal_jax.evaluation.reliability import SetSummary
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.steering.slopes import MIN_SELF_STEERABILITY

from .analysis import Results

ENOUGH = 0.99  # correlation of analytic and finite slopes at the smallest multipliers
BY_CHANCE = 0.025  # of rows that are not anti-steerable, how many may be clearly so by noise
FEWEST_FOR_RANKS = 20  # sets of the paper's figure below which no ranking is compared
PAPER = "Tan et al. 2024"


def make_claims(results: Results) -> list[Claim]:
    """What the paper says and what came out.

    A model that its own vectors hardly steer reproduces nothing that is said of vectors that work:
    their mean steerability must be above what the paper's code takes as any (0.25 logits a
    multiplier).
    """
    claims = [
        claim
        for kind in results.over_traits
        for claim in (works_claim(results, kind), backwards_claim(results, kind))
    ]
    if results.over_sets is not None:
        claims += set_claims(results, results.over_sets)
    slopes = [s.local for s in results.sets] + [t.local for t in results.world]
    correlations = [r for slope in slopes if (r := slope.correlation[0]) is not None]
    if correlations:
        models = [results.model] if results.sets else []
        models += [results.world_model] if results.world else []
        names = dict.fromkeys(model for model in models if model is not None)
        claims.append(
            Claim(
                id="steering-reliability/analytic",
                claim="One forward-mode derivative gives the per-sample steerability at small "
                f"multipliers (correlation over samples at least {ENOUGH} in every set)",
                section=OWN_QUESTION,
                setting=f"{' and '.join(names)}, {len(correlations)} sets",
                number=f"least {min(correlations):.4f}, median {np.median(correlations):.4f}",
                seeds=1,
                verdict=REPRODUCED if min(correlations) >= ENOUGH else CONTRADICTED,
                rule="by the least of all sets, without an interval",
                model=" and ".join(names),
            )
        )
    return claims


def works_claim(results: Results, kind: str) -> Claim:
    """That a trait's vector steers questions of a kind, on average."""
    steers = {
        "compare": "the choice between the trait and another animal",
        "like": "whether one likes the trait, and not another animal",
    }[kind]
    effect = results.over_traits[kind].against_random.interval
    return Claim(
        id=f"steering-reliability/world{_ending(kind)}",
        claim=f"A trait's vector steers {steers} (steerability minus that of a random vector of "
        "its norm)",
        section=f"{PAPER}, section 4",
        setting=_describe_world(results, kind),
        number=f"{effect.mean:+.2f} logits a multiplier {effect.ends}",
        seeds=results.over_traits[kind].traits,
        evidence=Evidence(effect, margin=STEERABILITY),
        model=str(results.world_model),
    )


def backwards_claim(results: Results, kind: str) -> Claim:
    """That it works backwards on more questions than noise in the slopes explains; presupposes that
    it works on average."""
    summary = results.over_traits[kind]
    clearly, backwards = summary.clearly_anti_steerable, summary.anti_steerable
    return Claim(
        id=f"steering-reliability/anti-steerable{_ending(kind)}",
        claim="A vector that works on average works backwards on more inputs than noise explains "
        f"(slope clear of zero from below; by chance at most {BY_CHANCE:.1%})",
        section=f"{PAPER}, section 4.1",
        setting=_describe_world(results, kind),
        number=f"{_format_share(clearly)} clearly backwards, {_format_share(backwards)} with a "
        "slope of at most 0",
        seeds=summary.traits,
        evidence=Evidence(
            clearly,
            null=BY_CHANCE,
            margin=ANSWER_SHARE,
            presupposes=(
                Presupposition("the vectors work on average", summary.against_random.interval),
            ),
        ),
        model=str(results.world_model),
    )


def set_claims(results: Results, summary: SetSummary) -> list[Claim]:
    """That the sets' vectors steer, and that it carries over to another prompt."""
    effect = summary.against_random.interval
    works = (
        Presupposition("vectors steer more than random ones", effect, to_refute=None),
        Presupposition(
            f"a mean steerability above {MIN_SELF_STEERABILITY:g}",
            summary.steerability,
            MIN_SELF_STEERABILITY,
            to_refute=None,
        ),
    )
    setting = describe_setting(
        model=str(results.model),
        layer="" if results.layer is None else results.layer,
        vectors=f"contrastive vectors ({results.method}) of {summary.sets} sets",
        carrier="questions of the model-written evaluations",
        students=None,
    )
    claims = [
        Claim(
            id="steering-reliability/sets",
            claim="Contrastive vectors steer their own sets (mean steerability minus that of "
            "random vectors of their norm)",
            section=f"{PAPER}, section 4.1",
            setting=setting,
            number=f"{effect.mean:+.4f} logits a multiplier {effect.format_ends('.4f')}; letters "
            f"weighted equally {summary.balanced:.4f}",
            seeds=summary.sets,
            evidence=Evidence(effect, margin=STEERABILITY, presupposes=works[1:]),
            model=str(results.model),
        )
    ]
    claims += [
        Claim(
            id="steering-reliability/id-ood",
            claim="Sets that are steerable in their own setting are steerable under another prompt "
            "(rank correlation over sets, plain to a persona before the question)",
            section=f"{PAPER}, section 5",
            setting=setting,
            number=f"rho {shift.correlation:.2f}",
            seeds=len(shift.shifted),
            evidence=Evidence(shift.correlation, margin=RANK_CORRELATION, presupposes=works),
            model=str(results.model),
        )
        for shift in summary.shifts
        if (shift.vector, shift.setting) == ("baseline", "USER_positive")
    ]
    agreement = results.agreement
    if results.other is not None and agreement is not None:
        claims.append(
            Claim(
                id="steering-reliability/models",
                claim="Sets that are steerable on one model are steerable on another (rank "
                "correlation over sets; the paper: 0.77)",
                section=f"{PAPER}, section 5",
                setting=f"{setting}; the other model: {results.other.model}, after block "
                f"{results.other.layer}",
                number=f"rho {agreement.other:.2f}; of random vectors {agreement.other_random:.2f}",
                seeds=agreement.other_sets,
                evidence=Evidence(agreement.other, margin=RANK_CORRELATION, presupposes=works),
                model=str(results.model),
            )
        )
    if agreement is not None and agreement.paper_sets >= FEWEST_FOR_RANKS:
        claims.append(
            Claim(
                id="steering-reliability/ranking",
                claim="Vectors work backwards most on the sets where the paper's do on "
                "Llama-2-7B-chat (rank correlation over sets of the shares of rows)",
                section=f"{PAPER}, section 4.1",
                setting=setting,
                number=f"rho {agreement.paper:.2f}",
                seeds=agreement.paper_sets,
                evidence=Evidence(agreement.paper, margin=RANK_CORRELATION, presupposes=works),
                model=str(results.model),
            )
        )
    return claims


def _ending(kind: str) -> str:
    """What the ids of a kind's claims end in."""
    return "" if kind == "compare" else f"-{kind}"


def _describe_world(results: Results, kind: str) -> str:
    questions = {"compare": "comparisons of two animals", "like": "likings of an animal"}[kind]
    return describe_setting(
        model=str(results.world_model),
        layer="" if results.world_layer is None else results.world_layer,
        vectors=f"vectors ({results.method}) of {results.over_traits[kind].traits} traits",
        carrier=questions,
        students=None,
    )


def _format_share(share: Interval) -> str:
    return f"{100 * share.mean:.1f}% {(100 * share).format_ends('.1f')}"
