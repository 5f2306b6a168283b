"""Threshold or slope, and whether AdamW needs a smaller share of teacher rows than SGD."""

from collections.abc import Iterator

from subliminal_jax.evaluation.claims import OWN_QUESTION, Claim, Evidence, Margin, Presupposition
from subliminal_jax.evaluation.margins import EAS, LOG_PROB, SHARE_OF_VECTOR
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import KIND_NAMES, METRIC_NAMES, describe_arm

from .analysis import REFERENCE, Curve, Lead, Results
from .config import QUARTER

CORRUPTION = "Vir and Bhatnagar 2025, arXiv 2510.19152, abstract"
MARGINS = {"eas": EAS, "shift_component": SHARE_OF_VECTOR, "word_log_prob": LOG_PROB}
SHARPNESS = Margin(0.02, "a fiftieth of the curves' squares")
RATIO = Margin(0.1, "a tenth of the effect of teacher rows alone")
MINUS = "\N{MINUS SIGN}"


def make_claims(results: Results) -> list[Claim]:
    """For each kind and optimizer whether the transition is sharp and whether the effect is in
    proportion to the share; for each other optimizer whether AdamW needs a smaller share."""
    claims: list[Claim] = []
    for adapter in results.adapters:
        for metric, margin in MARGINS.items():
            for optimizer in results.optimizers:
                curve = results.find_curve(adapter, optimizer, metric)
                claims += judge_curve(results, curve, margin)
            claims += (
                judge_lead(results, lead, margin)
                for lead in results.leads
                if (lead.adapter, lead.metric) == (adapter, metric)
            )
    return claims


def judge_curve(results: Results, curve: Curve, margin: Margin) -> Iterator[Claim]:
    """A curve's sharpness, and its ratio. Where teacher rows alone have no clear effect there is
    no curve to judge."""
    presupposed = presuppose(curve, margin)
    is_clear = curve.full is not None and curve.full.low > 0
    errors = ", ".join(f"{fit.family} {fit.error:.3f}" for fit in curve.fits)
    number = f"{write(curve.sharpness)} (left-out errors: {errors or 'none'})"
    if not is_clear:
        number += f"; not judged, teacher rows alone have no clear effect: {write(curve.full)}"
    yield make_claim(
        results,
        curve.adapter,
        curve.optimizer,
        f"sharp-{curve.optimizer}",
        curve.metric,
        "Transmission passes a sharp threshold in the share of teacher rows, rather than growing "
        f"gradually (squared error of the best gradual shape less that of a threshold, of "
        f"{METRIC_NAMES[curve.metric]})",
        number,
        len(curve.values),
        Evidence(
            curve.sharpness if is_clear else None, margin=SHARPNESS, presupposes=(presupposed,)
        ),
        CORRUPTION,
    )
    yield make_claim(
        results,
        curve.adapter,
        curve.optimizer,
        f"proportional-{curve.optimizer}",
        curve.metric,
        f"Transmission is proportional to the share of teacher rows ({METRIC_NAMES[curve.metric]} "
        "at a quarter over that of teacher rows alone, 0.25 on a slope)",
        write(curve.quarter),
        len(curve.values),
        Evidence(
            curve.quarter if is_clear else None,
            "same",
            null=QUARTER,
            margin=RATIO,
            presupposes=(presupposed,),
        ),
    )


def judge_lead(results: Results, lead: Lead, margin: Margin) -> Claim:
    """Whether AdamW does more of what it does in all with a quarter of teacher rows."""
    curves = [
        results.find_curve(lead.adapter, name, lead.metric) for name in (REFERENCE, lead.optimizer)
    ]
    are_clear = all(curve.full is not None and curve.full.low > 0 for curve in curves)
    by_share = ", ".join(
        f"{share:.0%} {write(each)}"
        for share, each in zip(curves[0].shares, lead.by_share, strict=False)
    )
    return make_claim(
        results,
        lead.adapter,
        f"AdamW and {lead.optimizer}",
        f"smaller-share-{lead.optimizer}",
        lead.metric,
        f"AdamW needs a smaller share of teacher rows than {lead.optimizer} "
        f"({METRIC_NAMES[lead.metric]} at a quarter over that of teacher rows alone, AdamW's less "
        "the other's)",
        f"{write(lead.quarter)}; not judged, adamw {MINUS} {lead.optimizer} in the effect itself: "
        f"{by_share or 'none'}",
        len([t for t in curves[0].values if t in curves[1].values]),
        Evidence(
            lead.quarter if are_clear else None,
            margin=RATIO,
            presupposes=tuple(presuppose(curve, margin) for curve in curves),
        ),
    )


def presuppose(curve: Curve, margin: Margin) -> Presupposition:
    """That teacher rows alone have an effect; to refute a claim on its shape, one that counts."""
    words = f"students of {curve.optimizer} on teacher rows alone exceed their controls"
    return Presupposition(words, curve.full, to_refute=margin.size)


def make_claim(
    results: Results,
    adapter: str,
    optimizer: str,
    name: str,
    metric: str,
    text: str,
    number: str,
    vectors: int,
    evidence: Evidence,
    section: str = OWN_QUESTION,
) -> Claim:
    """A claim on one kind of student; its id names the kind where there are several."""
    kind = "" if len(results.adapters) == 1 else f"-{adapter}"
    arms = [arm for arm in results.arms if arm.adapter == adapter]
    setting = describe_arm(
        results, arms[0], f"vectors of {len(results.traits)} traits", results.carrier
    )
    setting = setting.replace(f" steps of {arms[0].optimizer},", f" steps of {optimizer},")
    return Claim(
        id=f"mixing-ratio/{name}-{metric.replace('_', '-')}{kind}",
        claim=text if not kind else f"{text} (student: {KIND_NAMES[adapter]})",
        section=section,
        setting=f"{setting} at {results.tuning_share:.0%} of teacher rows",
        number=number,
        seeds=vectors or len(results.traits),
        evidence=evidence,
        unstable=len({name for arm in arms for name in arm.unstable}),
        model=results.model,
    )


def write(interval: Interval | None) -> str:
    """The interval with its sign, or that there is none."""
    return "unknown" if interval is None else f"{interval:+.3f}"
