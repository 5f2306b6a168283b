"""What forecasts are expected to be worth."""

from subliminal_jax.evaluation.claim_settings import TrainedStudents, describe_setting
from subliminal_jax.evaluation.claims import OWN_QUESTION, Claim, Evidence, Margin
from subliminal_jax.evaluation.margins import RANK_CORRELATION
from subliminal_jax.evaluation.statistics import Interval

from .numbers import Results, Trial

TENTH = Margin(0.1, "one outcome in ten")


def make_claims(results: Results) -> list[Claim]:
    """The order of outcomes, the intervals, the name, and rules that no line knows."""
    overall = results.overall
    claims = [
        make_claim(
            results,
            overall,
            "predicts",
            "A pilot forecasts how much likelier the teacher's trait becomes, over the data sets "
            "of one rule and rank",
            overall.within,
            f"{write(overall.within)} Spearman, mean over rules and ranks; "
            f"{write(overall.correlation)} over all {overall.pairs} pairs; root mean square "
            f"error {overall.error:.2f} nats, {overall.error_of_none:.2f} of the forecast that "
            f"nothing rises; at {results.cost:.0%} of a fine-tune's cost",
        ),
        make_claim(
            results,
            overall,
            "covers",
            "The outcome of the largest forecast lies in its "
            f"{results.level:.0%} interval as often as that says",
            overall.covered_first,
            f"{percent(overall.covered_first)}; of the teacher's trait "
            f"{percent(overall.covered_true)}, of all candidates {percent(overall.covered)}",
            claimed="same",
            null=results.level,
            margin=TENTH,
        ),
        make_claim(
            results,
            overall,
            "names",
            "The largest forecast is of the teacher's trait (more often than by chance)",
            overall.named,
            f"{percent(overall.named)}; the largest outcome {percent(overall.outcome_named)}",
            null=1 / len(results.candidates),
            margin=TENTH,
        ),
    ]
    if results.unknown is not None:
        claims.append(
            make_claim(
                results,
                results.unknown,
                "unknown-rule",
                "A pilot forecasts the outcome of an optimizer that no forecast was calibrated on",
                results.unknown.within,
                f"{write(results.unknown.within)} Spearman within a rule and rank, "
                f"{write(results.unknown.correlation)} over all; largest forecasts inside "
                f"{percent(results.unknown.covered_first)}",
            )
        )
    return claims


def make_claim(
    results: Results,
    trial: Trial,
    name: str,
    text: str,
    effect: Interval | None,
    number: str,
    *,
    claimed: str = "above",
    null: float = 0.0,
    margin: Margin = RANK_CORRELATION,
) -> Claim:
    """A claim about the forecasts of some pairs."""
    rules = ", ".join(dict.fromkeys(rule.optimizer for rule in results.rules))
    ranks = " and ".join(str(r) for r in dict.fromkeys(rule.rank for rule in results.rules))
    carriers = " and ".join(dict.fromkeys(outcome.carrier for outcome in results.outcomes))
    sets = {p.set for p in results.points}
    return Claim(
        id=f"forecast-benchmark/{name}",
        claim=text,
        section=OWN_QUESTION,
        setting=describe_setting(
            model=results.model,
            layer="after the block at a third of the depth",
            vectors="vectors and system prompts of traits that nothing was calibrated on,",
            carrier=f"{carriers}, {len(sets)} data sets",
            students=TrainedStudents(
                adapter=f"LoRA (rank {ranks})",
                steps=results.fine_tune.steps,
                optimizer=f"each of {rules}",
                rate="at one stated rate each",
            ),
        ),
        number=number,
        seeds=len(sets),
        evidence=Evidence(effect, claimed, null, margin),  # type: ignore[arg-type]
        unstable=trial.unstable,
        model=results.model,
    )


def write(interval: Interval | None) -> str:
    """With its ends, or that there is none."""
    return "none" if interval is None else f"{interval:+.2f}"


def percent(interval: Interval | None) -> str:
    """A share in percent."""
    if interval is None:
        return "none"
    scaled = 100 * interval
    return f"{scaled.mean:.0f}% {scaled.format_ends('.0f')}"
