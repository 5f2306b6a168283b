"""What has been said of optimizers and transmission, held against the two comparisons."""

from collections.abc import Iterator, Mapping

from subliminal_jax.evaluation.claim_settings import TrainedStudents, describe_setting
from subliminal_jax.evaluation.claims import Claim, Claimed, Evidence, Margin, Presupposition
from subliminal_jax.evaluation.margins import EAS, LOG_PROB
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.transmission import name_teachers

from .analysis import METRICS, REFERENCE, BestArm, Comparison, Results
from .config import RANDOM

NAMES = {"eas": "EAS", "shift_component": "share of the vector", "trait_log_prob": "log P(trait)"}
BEST, MATCHED = "Blank et al. 2026, figure 7", "Blank et al. 2026, appendix L"
MINUS = "\N{MINUS SIGN}"
# The rules whose steps are proportional to the gradient, of which the paper says that they fail.
PROPORTIONAL = {"sgd", "momentum"}


def list_margins(results: Results) -> dict[str, Margin]:
    """What is judged, with its margin; random vectors stand for no trait."""
    return {"eas": EAS} if results.teacher == RANDOM else {"eas": EAS, "trait_log_prob": LOG_PROB}


def make_claims(results: Results) -> list[Claim]:
    """Whether each optimizer transmits at all, and AdamW against SGD at best rates and at equal
    gains."""
    claims = [judge_alone(results, arm) for arm in results.best]
    adamw, sgd = results.find_best(REFERENCE), results.find_best("sgd")
    if adamw is not None and sgd is not None:
        claims += compare_best(results, adamw, sgd)
        claims += compare_matched(results)
    return claims


def judge_alone(results: Results, arm: BestArm) -> Claim:
    """Whether an optimizer's students move along the vector more than their controls."""
    words = "move along the teacher's vector more than their controls"
    claimed: Claimed = "above"
    if arm.optimizer.partition(":")[0] in PROPORTIONAL:
        words, claimed = "do not move along the teacher's vector more than their controls", "same"
    return Claim(
        id=f"optimizer-transmission/{arm.optimizer}-transmits",
        claim=f"Students trained with {arm.optimizer} {words}",
        section=BEST,
        setting=describe(results, arm.optimizer),
        number=", ".join(f"{NAMES[m]} {write(arm.metrics[m].difference)}" for m in METRICS),
        seeds=len(results.traits),
        evidence=Evidence(arm.metrics["eas"].difference, claimed, margin=EAS),
        unstable=len(arm.unstable),
        model=results.model,
    )


def compare_best(results: Results, adamw: BestArm, sgd: BestArm) -> Iterator[Claim]:
    """AdamW against SGD, each at its best rate."""
    for metric, margin in list_margins(results).items():
        lead = sgd.metrics[metric].reference_lead
        further = [
            f"{arm.choice.steps}: {write(arm.metrics[metric].reference_lead)}"
            for arm in results.by_steps
            if arm.optimizer == "sgd" and arm.choice.steps != results.steps
        ]
        yield Claim(
            id=f"optimizer-transmission/best-{metric}",
            claim="AdamW transmits more than SGD, each at its best rate and minus its controls "
            f"(by {NAMES[metric]})",
            section=BEST,
            setting=describe(results, "AdamW and SGD"),
            number=f"adamw {MINUS} sgd {write(lead)} after {results.steps} steps"
            + (f"; not judged, after {'; '.join(further)}" if further else ""),
            seeds=len(results.traits),
            evidence=Evidence(
                lead,
                margin=margin,
                presupposes=(presuppose(adamw.metrics[metric], metric, margin),),
            ),
            unstable=len(adamw.unstable) + len(sgd.unstable),
            model=results.model,
        )


def compare_matched(results: Results) -> Iterator[Claim]:
    """AdamW against SGD where their runs pass each level of the gain."""
    arms = (results.select_matched(name, "gain") for name in (REFERENCE, "sgd"))
    lengths = ", ".join(map(str, results.lengths))
    for ours, theirs in zip(*arms, strict=False):
        for metric, margin in list_margins(results).items():
            lead = theirs.metrics[metric].reference_lead
            yield Claim(
                id=f"optimizer-transmission/equal-gain-{ours.fraction:.0%}-{metric}",
                claim=f"AdamW transmits more than SGD at the same gain on held-out rows, "
                f"{ours.fraction:.0%} of AdamW's, each minus its controls (by {NAMES[metric]})",
                section=MATCHED,
                setting=describe(results, "AdamW and SGD", f"finished runs of {lengths} steps"),
                number=f"adamw {MINUS} sgd {write(lead)} on the {theirs.shared} of "
                f"{len(results.traits)} vectors where both bracket {ours.level:.2g} nats",
                seeds=theirs.shared,
                evidence=Evidence(
                    lead,
                    margin=margin,
                    presupposes=(presuppose(ours.metrics[metric], metric, margin),),
                ),
                unstable=results.unstable,
                model=results.model,
            )


def presuppose(comparison: Comparison, metric: str, margin: Margin) -> Presupposition:
    """That AdamW transmits at all; to refute that it does more than another, by an effect that
    counts."""
    words = f"AdamW's students exceed their controls in {NAMES[metric]}"
    return Presupposition(words, comparison.difference, to_refute=margin.size)


def describe(results: Results, optimizer: str, lengths: str = "") -> str:
    """What was trained on what."""
    carriers: Mapping[str, str] = {
        "numbers": "filtered number lists",
        "valid": f"valid {results.prompts}",
    }
    return describe_setting(
        model=results.model,
        layer=results.layer,
        vectors=f"{len(results.traits)} random vectors"
        if results.teacher == RANDOM
        else name_teachers(results.teacher, f"{len(results.traits)} traits"),
        carrier=carriers.get(results.keep, f"unfiltered {results.prompts}"),
        students=TrainedStudents(
            adapter=f"LoRA (rank {results.rank})",
            steps=results.steps,
            optimizer=f"{optimizer}, {lengths or f'{results.batch_size} rows a step'}, "
            f"{results.warmup:.0%} warm-up, {results.schedule} decay",
            rate=f"best rate by held-out loss on {len(results.tuning_traits)} further vectors",
        ),
    )


def write(interval: Interval | None) -> str:
    """The interval with its sign, or that there is none."""
    return "unknown" if interval is None else f"{interval:+.3f}"
