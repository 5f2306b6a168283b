"""What the paper says of trait and of random vectors, and the verdicts on it."""

from subliminal_jax.evaluation.claim_settings import TrainedStudents, describe_setting
from subliminal_jax.evaluation.claims import Claim, Evidence, Presupposition
from subliminal_jax.evaluation.margins import ANSWER_SHARE, EAS, LOSS

from .analysis import KINDS, Results

NO_NUMBER = "no sound students and controls to compare"


def make_claims(results: Results) -> list[Claim]:
    """Over all layers and norms: what is learnt of each kind, and which changes behaviour."""
    claims = []
    for kind in results.effects:
        claims += kind_claims(results, kind)
    if len(results.effects) == 2:
        claims.append(behaviour_claim(results))
    return claims


def kind_claims(results: Results, kind: str) -> list[Claim]:
    """The alignment of students with the vectors of a kind, and the fall of their loss."""
    effects = results.effects[kind]
    section = "sections 4 and 5" if kind == "random" else "section 3, figure 6"
    eas, drop = effects.metrics["eas"], effects.metrics["loss_drop"].difference
    vectors = f"{effects.vectors} {KINDS[kind]} of {effects.norms} norms"
    return [
        _make_claim(
            results,
            f"{kind}-eas",
            f"students align with {KINDS[kind]} that they never saw",
            section,
            vectors,
            NO_NUMBER
            if eas.student is None or eas.difference is None
            else f"EAS {eas.student:.2f}, control {eas.control:.2f}; difference "
            f"{eas.difference:.2f}",
            Evidence(
                eas.difference,
                margin=EAS,
                presupposes=(Presupposition("an EAS above zero", eas.student, to_refute=None),),
            ),
            (kind,),
        ),
        _make_claim(
            results,
            f"{kind}-loss",
            f"their loss on unseen text steered by {KINDS[kind]} falls",
            section,
            vectors,
            NO_NUMBER
            if drop is None
            else f"falls by {drop:.4f} nats a token more than the control's",
            Evidence(drop, margin=LOSS),
            (kind,),
        ),
    ]


def behaviour_claim(results: Results) -> Claim:
    """Trait vectors move answers, random ones do not."""
    trait, random = (
        results.effects[k].metrics["variation"].difference for k in ("trait", "random")
    )
    number = NO_NUMBER
    if results.behaviour is not None:
        number = (
            "total variation to the control's answers to favourite-animal questions beyond that "
            f"among controls: trait vectors {trait:.3f}, random vectors {random:.3f}; difference "
            f"{results.behaviour:.3f}"
        )
    return _make_claim(
        results,
        "behaviour",
        "random vectors are distilled without a recognisable change of behaviour, semantic ones "
        "change it",
        "sections 4 and 5",
        "trait and random vectors",
        number,
        Evidence(
            results.behaviour,
            margin=ANSWER_SHARE,
            presupposes=(
                Presupposition("semantic vectors change it", trait, to_refute=None),
                Presupposition(
                    f"random ones by less than {ANSWER_SHARE.size:g}",
                    None if random is None else -random,
                    -ANSWER_SHARE.size,
                    to_refute=None,
                ),
            ),
        ),
        ("trait", "random"),
    )


def _make_claim(
    results: Results,
    name: str,
    text: str,
    section: str,
    vectors: str,
    number: str,
    evidence: Evidence,
    kinds: tuple[str, ...],
) -> Claim:
    blocks = ", ".join(str(choice.layer) for choice in results.choices)
    rates = ", ".join("none" if c.rate is None else f"{c.rate:g}" for c in results.choices)
    chosen = "rate as given"
    if results.tuning_vectors:
        chosen = f"rate of each block chosen on {len(results.tuning_vectors)} other vectors"
    return Claim(
        id=f"distil-vectors/{name}",
        claim=text,
        section=f"Blank et al. 2026, {section}",
        setting=describe_setting(
            model=results.model,
            layer=f"after blocks {blocks} (from 0)",
            vectors=vectors,
            carrier=results.carrier,
            students=TrainedStudents(
                results.adapter, results.steps, f"{results.optimizer} {rates}", chosen
            ),
        ),
        number=number,
        seeds=sum(results.effects[kind].vectors for kind in kinds),
        evidence=evidence,
        unstable=len(results.list_unstable(*kinds)),
        model=results.model,
    )
