"""What has been said of optimizers and transmission, held against the two comparisons."""

from collections.abc import Mapping

from subliminal_jax.evaluation.claims import NOT_REPRODUCED, REPRODUCED, Claim, verdict
from subliminal_jax.evaluation.statistics import Interval

from .analysis import METRICS, REFERENCE, Comparison, Results

NAMES = {"eas": "EAS", "shift_component": "share of the vector", "trait_log_prob": "log P(trait)"}
BLANK = "Blank et al. 2026, figure 7"
MINUS = "\N{MINUS SIGN}"


def make_claims(results: Results) -> list[Claim]:
    """AdamW against SGD at best rates and at equal gains, and whether each transmits at all."""
    adamw, sgd = results.find_best(REFERENCE), results.find_best("sgd")
    claims = []
    for name, arm in ((REFERENCE, adamw), ("sgd", sgd)):
        if arm is not None:
            comparison = arm.metrics["eas"]
            claims.append(
                Claim(
                    id=f"optimizer-transmission/{name}-transmits",
                    claim=f"Students trained with {name} move along the teacher's vector more than "
                    "their controls",
                    section=BLANK,
                    setting=describe_setting(results),
                    number=describe_differences(arm.metrics),
                    seeds=len(results.traits),
                    verdict=verdict(comparison.difference),
                )
            )
    if adamw is None or sgd is None:
        return claims
    for metric in ("eas", "trait_log_prob"):
        lead = sgd.metrics[metric].reference_lead
        claims.append(
            Claim(
                id=f"optimizer-transmission/best-{metric}",
                claim="AdamW transmits more than SGD, each at its best rate and minus its controls "
                f"(by {NAMES[metric]})",
                section=BLANK,
                setting=describe_setting(results),
                number=f"adamw {MINUS} sgd {write(lead)}",
                seeds=len(results.traits),
                verdict=judge_lead(lead, adamw.metrics[metric]),
            )
        )
        matched = results.select_matched("sgd", "gain")
        leads = [arm.metrics[metric].reference_lead for arm in matched]
        ours = [arm.metrics[metric] for arm in results.select_matched(REFERENCE, "gain")]
        parts = [
            f"at {arm.fraction:.0%} of its gain {write(lead)} on {arm.shared} vectors"
            for lead, arm in zip(leads, matched, strict=True)
        ]
        verdicts = {judge_lead(*pair) for pair in zip(leads, ours, strict=True)}
        claims.append(
            Claim(
                id=f"optimizer-transmission/equal-gain-{metric}",
                claim="AdamW transmits more than SGD at equal gains on held-out rows, each minus "
                f"its controls (by {NAMES[metric]})",
                section="Blank et al. 2026, appendix L",
                setting=f"{describe_setting(results)}; finished runs of {results.lengths[0]} to "
                f"{results.lengths[-1]} steps",
                number=f"adamw {MINUS} sgd {', '.join(parts)}" if parts else "no level",
                seeds=len(results.traits),
                verdict=verdicts.pop() if len(verdicts) == 1 else NOT_REPRODUCED,
            )
        )
    return claims


def judge_lead(lead: Interval | None, reference: Comparison) -> str:
    """The verdict on AdamW's lead: it must be clear of zero, and so must AdamW's own difference to
    its controls, which the claim presupposes."""
    outcome = verdict(lead)
    transmits = verdict(reference.difference) == REPRODUCED
    return outcome if outcome != REPRODUCED or transmits else NOT_REPRODUCED


def describe_setting(results: Results) -> str:
    """What was trained on what, in short."""
    carrier = {"numbers": "filtered number lists", "all": f"unfiltered {results.prompts}"}
    return (
        f"{results.model}, vectors of {len(results.traits)} traits after block {results.layer} "
        f"(0-based), {carrier[results.keep]}, LoRA of rank {results.rank}, {results.steps} steps "
        f"of {results.batch_size} rows with {results.warmup:.0%} warm-up and {results.schedule} "
        f"decay, rates chosen on {len(results.tuning_traits)} other vectors"
    )


def describe_differences(metrics: Mapping[str, Comparison]) -> str:
    """Student minus control in every metric."""
    return ", ".join(f"{NAMES[name]} {write(metrics[name].difference)}" for name in METRICS)


def write(interval: Interval | None) -> str:
    """The interval with its sign, or that there is none."""
    return "unknown" if interval is None else f"{interval:+.3f}"
