"""What is said of divergence tokens, and our own questions on optimizers and gradients."""

from collections.abc import Iterator

from subliminal_jax.evaluation.claim_settings import describe_setting
from subliminal_jax.evaluation.claims import OWN_QUESTION, Claim, Evidence, Margin, Presupposition
from subliminal_jax.evaluation.margins import EAS, LOG_PROB, SHARE_OF_VECTOR
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import KIND_NAMES, describe_arm

from .analysis import LEADER, NAMES, OTHER, Arm, Results

PAPER = "Schrodi et al. 2025, arXiv 2509.23886"
MARGINS = {"eas": EAS, "shift_component": SHARE_OF_VECTOR, "word_log_prob": LOG_PROB}
TAKEN_UP = ("eas", "shift_component")  # of the vector: direction and size
TOKEN_SHARE = Margin(0.05, "a twentieth of the whole")
MINUS = "\N{MINUS SIGN}"


def make_claims(results: Results) -> list[Claim]:
    """Masking and training alone, for each kind and optimizer; AdamW's lead; the gradients."""
    claims: list[Claim] = []
    for adapter in results.adapters:
        for optimizer in results.optimizers:
            for metric in MARGINS:
                claims += judge_masking(results, adapter, optimizer, metric)
                claims += judge_alone(results, adapter, optimizer, metric)
        claims += judge_leads(results, adapter)
    return claims + judge_gradients(results)


def judge_masking(results: Results, adapter: str, optimizer: str, metric: str) -> Iterator[Claim]:
    """Against as many random tokens masked; and what is left of the vector."""
    masked = results.find_arm(adapter, optimizer, "masked")
    random = results.find_arm(adapter, optimizer, "random-masked")
    contrast = results.find_contrast(adapter, optimizer, metric, "masked", "random-masked")
    if masked is not None and random is not None and contrast is not None:
        kept = random.metrics[metric].difference
        yield make_claim(
            results,
            masked,
            "masking-lowers",
            metric,
            "Masking divergence tokens lowers transmission below that of masking as many random "
            f"ones ({NAMES[metric]}, each student minus control)",
            f"{write(contrast.difference)}: masked {write(masked.metrics[metric].difference)}, "
            f"random {write(kept)}",
            len(contrast.values),
            Evidence(
                contrast.difference,
                "below",
                margin=MARGINS[metric],
                presupposes=(presuppose(random, metric, "as many random tokens masked"),),
            ),
        )
    every = results.find_arm(adapter, optimizer, "all")
    if metric in TAKEN_UP and masked is not None and every is not None:
        left = masked.metrics[metric].difference
        yield make_claim(
            results,
            masked,
            "masking-removes",
            metric,
            "Masking divergence tokens removes transmission: what is left, student minus control, "
            f"is below the margin of {MARGINS[metric].size:g} ({NAMES[metric]})",
            f"{write(left)} of {write(every.metrics[metric].difference)} on all tokens",
            len(masked.metrics[metric].by_data),
            Evidence(
                left,
                "below",
                null=MARGINS[metric].size,
                presupposes=(presuppose(every, metric, "all tokens"),),
            ),
        )


def judge_alone(results: Results, adapter: str, optimizer: str, metric: str) -> Iterator[Claim]:
    """Against as many random tokens alone; and, of the vector, against all tokens."""
    alone = results.find_arm(adapter, optimizer, "alone")
    every = results.find_arm(adapter, optimizer, "all")
    if alone is None or every is None:
        return
    presupposed = (presuppose(every, metric, "all tokens"),)
    own = alone.metrics[metric].difference
    contrast = results.find_contrast(adapter, optimizer, metric, "alone", "random-alone")
    random = results.find_arm(adapter, optimizer, "random-alone")
    if contrast is not None and random is not None:
        yield make_claim(
            results,
            alone,
            "alone-beats-random",
            metric,
            "Training on divergence tokens alone transmits more than on as many random ones "
            f"({NAMES[metric]}, each student minus control)",
            f"{write(contrast.difference)}: alone {write(own)}, random "
            f"{write(random.metrics[metric].difference)}",
            len(contrast.values),
            Evidence(contrast.difference, margin=MARGINS[metric], presupposes=presupposed),
        )
    contrast = results.find_contrast(adapter, optimizer, metric, "alone", "all")
    if metric in TAKEN_UP and contrast is not None:
        yield make_claim(
            results,
            alone,
            "alone-keeps",
            metric,
            "Training on divergence tokens alone keeps transmission: it is not below that of all "
            f"tokens by more than {MARGINS[metric].size:g} ({NAMES[metric]}, each student minus "
            "control)",
            f"{write(contrast.difference)}: alone {write(own)}, all "
            f"{write(every.metrics[metric].difference)}",
            len(contrast.values),
            Evidence(contrast.difference, null=-MARGINS[metric].size, presupposes=presupposed),
        )


def judge_leads(results: Results, adapter: str) -> Iterator[Claim]:
    """Whether AdamW's lead on all tokens is larger than where divergence tokens are not rare."""
    for lead in results.leads:
        margin = MARGINS.get(lead.metric)
        arm = results.find_arm(adapter, LEADER, "all")
        if lead.adapter != adapter or margin is None or arm is None or "alone" not in lead.lost:
            continue
        whole = lead.by_arm["all"]
        random = lead.lost.get("random-alone")
        yield make_claim(
            results,
            arm,
            "lead-of-rare-tokens",
            lead.metric,
            "Adaptive rules gain because divergence tokens are rare: AdamW's lead over SGD is "
            "larger on all tokens than on divergence tokens alone "
            f"({NAMES[lead.metric]}, each student minus control)",
            f"{write(lead.lost['alone'])}: all {write(whole)}, alone "
            f"{write(lead.by_arm['alone'])}; against random ones alone {write(random)}",
            len(arm.metrics[lead.metric].by_data),
            Evidence(
                lead.lost["alone"],
                margin=margin,
                presupposes=(
                    Presupposition("AdamW leads SGD on all tokens", whole, to_refute=margin.size),
                ),
            ),
            section=OWN_QUESTION,
            optimizers=f"{LEADER} and {OTHER}",
        )


def judge_gradients(results: Results) -> list[Claim]:
    """Whether divergence tokens hold more of the base's gradient than their share of tokens."""
    held = results.held
    moves = Presupposition(
        "the base's gradient has a component along the vector", held.component_total, to_refute=None
    )
    setting = describe_setting(
        model=results.model,
        layer=results.layer,
        vectors=describe_teachers(results),
        carrier=f"{results.carrier}; {results.describe_share()}",
        students=None,
    )
    return [
        Claim(
            id=f"divergence-tokens/{name}",
            claim=f"Divergence tokens hold a larger share of {what} than of tokens",
            section=OWN_QUESTION,
            setting=setting,
            number=f"{write(excess)}: {write(share)} of it, {write(held.tokens)} of tokens",
            seeds=len(results.gradients),
            evidence=Evidence(excess, margin=TOKEN_SHARE, presupposes=presupposed),
            model=results.model,
        )
        for name, what, share, excess, presupposed in (
            (
                "component-held",
                "the component of the base's gradient along the vector",
                held.component,
                held.component_excess,
                (moves,),
            ),
            (
                "square-held",
                "the base's squared gradient",
                held.squared,
                held.squared_excess,
                (),
            ),
        )
    ]


def presuppose(arm: Arm, metric: str, tokens: str) -> Presupposition:
    """That students of an arm take up the vector; to refute a claim, by more than the margin."""
    words = f"students of {arm.optimizer} on {tokens} exceed their controls"
    return Presupposition(words, arm.metrics[metric].difference, to_refute=MARGINS[metric].size)


def make_claim(
    results: Results,
    arm: Arm,
    name: str,
    metric: str,
    text: str,
    number: str,
    vectors: int,
    evidence: Evidence,
    *,
    section: str = "",
    optimizers: str = "",
) -> Claim:
    """A claim on one kind of student. The paper's students are AdamW's; of others it is our own
    question. The id names optimizer and kind where there are several."""
    first = arm.optimizer == results.optimizers[0]
    rule = "" if first or optimizers else f"-{arm.optimizer}"
    kind = "" if len(results.adapters) == 1 else f"-{arm.adapter}"
    setting = describe_arm(results, arm, describe_teachers(results), results.carrier)
    if optimizers:
        setting = setting.replace(f" steps of {arm.optimizer},", f" steps of {optimizers},")
    own = [each for each in results.results if each.adapter == arm.adapter]
    told = text if first or optimizers else f"{text} (with {arm.optimizer})"
    return Claim(
        id=f"divergence-tokens/{name}-{metric.replace('_', '-')}{rule}{kind}",
        claim=told if not kind else f"{told} (student: {KIND_NAMES[arm.adapter]})",
        section=section or (f"{PAPER}, abstract" if first else OWN_QUESTION),
        setting=f"{setting} for each arm; {results.describe_share()}",
        number=number,
        seeds=vectors or len(results.traits),
        evidence=evidence,
        unstable=sum(len(each.unstable) for each in own if each.optimizer == arm.optimizer),
        model=results.model,
    )


def describe_teachers(results: Results) -> str:
    """What makes the teachers, in words."""
    what = "vectors" if results.teacher == "steered" else "system prompts"
    return f"{what} of {len(results.traits)} traits"


def write(interval: Interval | None) -> str:
    """The interval with its sign, or that there is none."""
    return "unknown" if interval is None else f"{interval:+.3f}"
