"""Brown et al.'s claims, asked of a hidden trait, and our own on what properties of a rule say."""

from collections.abc import Iterator

from subliminal_jax.evaluation.claim_settings import TrainedStudents, describe_setting
from subliminal_jax.evaluation.claims import OWN_QUESTION, Claim, Evidence, Margin, Presupposition
from subliminal_jax.evaluation.excess import METRIC_NAMES as NAMES
from subliminal_jax.evaluation.margins import EAS, LOG_PROB, RANK_CORRELATION, SHARE_OF_VECTOR
from subliminal_jax.evaluation.statistics import Interval

from .analysis import BEST, MATCHED, Penalty, Results
from .config import REFERENCE
from .properties import LEAST, PropertyModel, Spread

BROWN = "Brown, Leask and McKinney 2026, arXiv 2606.31591"
MARGINS = {"eas": EAS, "shift_component": SHARE_OF_VECTOR, "trait_log_prob": LOG_PROB}
EXPLAINED = Margin(0.1, "a tenth of the variance between rules")
TERM_WORDS = {
    "tensor": "normalise tensors, over those in units of the gradient",
    "coordinate": "normalise coordinates, over those in units of the gradient",
    "matrix": "normalise singular values, over those in units of the gradient",
    "sign": "step by signs, over those that normalise coordinates otherwise",
    "momentum": "have momentum, over those without",
}
PLACES = {
    BEST: "each at its best rate",
    MATCHED: "at one held-out gain, halfway between AdamW's after its shortest and longest runs",
}
MINUS = "\N{MINUS SIGN}"


def make_claims(results: Results) -> list[Claim]:
    """Whether rules matter, and more than the rank; Muon; the spectrum; the penalty; each property;
    families. What a run has too few rules for is not asked."""
    claims: list[Claim] = []
    models = [results.find_model(place, "eas") for place in PLACES]
    enough = [model for model in models if model.families >= LEAST]
    for metric in MARGINS:
        claims += judge_spread(results, metric) if enough else ()
        claims += [judge_muon(results, metric)] if "muon" in results.rules else []
    claims += [judge_spectrum(results, model) for model in enough]
    claims += [judge_penalty(results, penalty) for penalty in results.penalties]
    for model in enough:
        claims += judge_properties(results, model)
    return claims


def judge_spread(results: Results, metric: str) -> Iterator[Claim]:
    """Between rules, and against ranks."""
    spread, margin = results.spreads[metric], MARGINS[metric]
    square = Margin(margin.size**2, f"a standard deviation of {margin.size:g} between rules")
    yield make_claim(
        results,
        f"rules-differ-{name_metric(metric)}",
        "The optimizer changes what is transmitted: rules at their best rates differ beyond chance "
        f"({NAMES[metric]}, variance between rules of student minus controls)",
        f"{write(spread.rules, 4)}{describe_extremes(spread)}",
        len(results.traits),
        Evidence(spread.rules, margin=square, presupposes=(presuppose(results, metric),)),
        OWN_QUESTION,
    )
    if spread.ranks is not None:
        yield make_claim(
            results,
            f"rule-over-rank-{name_metric(metric)}",
            "The optimizer matters more than another factor of the fine-tune, LoRA's rank: what is "
            f"transmitted varies more between rules ({NAMES[metric]}, components of the variance)",
            f"{write(spread.rules_over_ranks, 4)}: rules {write(spread.rules, 4)}, ranks "
            f"{', '.join(map(str, results.ranks))} {write(spread.ranks, 4)}",
            len(results.traits),
            Evidence(
                spread.rules_over_ranks,
                margin=square,
                presupposes=(presuppose(results, metric),),
            ),
            f"{BROWN}, abstract",
        )


def judge_muon(results: Results, metric: str) -> Claim:
    """Against the mean of the rules that normalise coordinates."""
    muon = results.find("muon")
    own = None if muon is None else muon.best.metrics[metric]
    return make_claim(
        results,
        f"muon-transmits-less-{name_metric(metric)}",
        "Of adaptive rules Muon changes the model's character least: it transmits less of a hidden "
        f"vector than the mean of those that normalise coordinates ({NAMES[metric]}, student minus "
        "controls)",
        f"{write(results.muon_lead[metric])}; Muon itself {write(own)}",
        len(results.traits),
        Evidence(
            results.muon_lead[metric],
            "below",
            margin=MARGINS[metric],
            presupposes=(presuppose(results, metric),),
        ),
        f"{BROWN}, abstract",
    )


def judge_spectrum(results: Results, model: PropertyModel) -> Claim:
    """Over rules, against the effective rank of the change."""
    return make_claim(
        results,
        f"flat-spectrum-{model.place}",
        "Rules whose change of the weights has a flatter spectrum transmit less of a hidden vector "
        f"(rank correlation over rules of EAS, student minus controls, and effective rank; "
        f"{PLACES[model.place]})",
        f"{write(model.rank_correlation)} Spearman over {model.rules} rules",
        model.families,
        Evidence(
            model.rank_correlation,
            "below",
            margin=RANK_CORRELATION,
            presupposes=(presuppose(results, "eas"),),
        ),
        f"{BROWN}, abstract",
    )


def judge_penalty(results: Results, penalty: Penalty) -> Claim:
    """A rule with the penalty against the one without, by EAS."""
    without = results.find(penalty.without)
    further = "; ".join(
        f"{NAMES[metric]} {write(penalty.metrics[metric])}" for metric in MARGINS if metric != "eas"
    )
    return make_claim(
        results,
        f"penalty-lowers-eas-{penalty.rule}",
        f"A penalty on a steep spectrum lowers what {penalty.without} transmits (EAS, student "
        f"minus controls, {penalty.rule} less {penalty.without})",
        f"{write(penalty.metrics['eas'])}; not judged, {further}; effective rank "
        f"{write(penalty.effective_rank)}, gain {write(penalty.gain, 4)}",
        len(results.traits),
        Evidence(
            penalty.metrics["eas"],
            "below",
            margin=EAS,
            presupposes=(
                Presupposition(
                    f"{penalty.without}'s students exceed their controls in EAS",
                    None if without is None else without.best.metrics["eas"],
                    to_refute=EAS.size,
                ),
                Presupposition("the penalty flattens the spectrum", penalty.effective_rank),
            ),
        ),
        f"{BROWN}, abstract",
    )


def judge_properties(results: Results, model: PropertyModel) -> Iterator[Claim]:
    """Each term of the model, and the families."""
    passes = (presuppose(results, model.metric),)
    rank = model.coefficients["effective rank"]
    yield make_claim(
        results,
        f"property-effective-rank-{model.place}",
        "The other properties of a rule held fixed, a direction more of effective rank changes "
        f"what is transmitted ({NAMES[model.metric]}, {PLACES[model.place]})",
        f"{write(rank)} a direction",
        model.families,
        Evidence(
            rank,
            "different",
            margin=Margin(EAS.size / 4, "over four of eight directions as much as counts of EAS"),
            presupposes=passes,
        ),
        OWN_QUESTION,
    )
    for term, words in TERM_WORDS.items():
        value = model.coefficients[term]
        yield make_claim(
            results,
            f"property-{term}-{model.place}",
            f"Rules that {words}, transmit otherwise, the other properties held fixed "
            f"({NAMES[model.metric]}, {PLACES[model.place]})",
            write(value),
            model.families,
            Evidence(value, "different", margin=MARGINS[model.metric], presupposes=passes),
            OWN_QUESTION,
        )
    yield make_claim(
        results,
        f"family-explains-{model.place}",
        "A rule's family explains what it transmits: the share of the variance between rules "
        f"({NAMES[model.metric]}, {PLACES[model.place]}) is above that of random families",
        f"{write(model.explained)}; all properties together "
        f"{'none' if model.fit is None else f'{model.fit:.2f}'}",
        model.families,
        Evidence(model.explained, margin=EXPLAINED, presupposes=passes),
        OWN_QUESTION,
    )


def presuppose(results: Results, metric: str) -> Presupposition:
    """That the reference's students take up the vector; to refute a claim, by more than the
    margin."""
    reference = results.find(REFERENCE)
    effect = None if reference is None else reference.best.metrics[metric]
    words = f"{REFERENCE}'s students exceed their controls in {NAMES[metric]}"
    return Presupposition(words, effect, to_refute=MARGINS[metric].size)


def make_claim(
    results: Results,
    name: str,
    text: str,
    number: str,
    seeds: int,
    evidence: Evidence,
    section: str,
) -> Claim:
    """A claim on the rules of this run."""
    return Claim(
        id=f"optimizer-atlas/{name}",
        claim=text,
        section=section,
        setting=describe(results),
        number=number,
        seeds=seeds or len(results.traits),
        evidence=evidence,
        unstable=results.unstable,
        model=results.model,
    )


def describe(results: Results) -> str:
    """What was trained on what."""
    ranks = " and ".join(map(str, results.ranks))
    return describe_setting(
        model=results.model,
        layer=results.layer,
        vectors=f"vectors of {len(results.traits)} traits",
        carrier=results.describe_carrier(),
        students=TrainedStudents(
            adapter=f"LoRA (rank {ranks})",
            steps=results.steps,
            optimizer=f"each of {len(results.rules) - len(results.left_out)} rules, "
            f"{results.batch_size} rows a step, {results.warmup:.0%} warm-up, "
            f"{results.schedule} decay",
            rate=f"setting and rate by held-out loss after {results.screen_steps} steps on "
            f"{len(results.tuning_traits)} further vectors",
        ),
    )


def describe_extremes(spread: Spread) -> str:
    """The rules that transmit least and most."""
    if spread.lowest is None or spread.highest is None:
        return ""
    (least, low), (most, high) = spread.lowest, spread.highest
    return f"; from {low:+.3f} ({least}) to {high:+.3f} ({most})"


def name_metric(metric: str) -> str:
    """As a part of an id."""
    return metric.replace("_", "-")


def write(interval: Interval | None, digits: int = 3) -> str:
    """The interval with its sign, or that there is none."""
    return "none" if interval is None else f"{interval:+.{digits}f}"
