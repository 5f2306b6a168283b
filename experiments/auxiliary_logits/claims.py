"""What Cloud et al. and Brockers et al. state of auxiliary logits, by intervals over seeds."""

from subliminal_jax.evaluation.claims import OWN_QUESTION, Claim, Evidence, Margin, Presupposition
from subliminal_jax.evaluation.margins import COSINE
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting.tables import format_learning_rate

from .analysis import OTHER, SAME, Results, RuleResult

CLOUD = "Cloud et al. 2025, arXiv 2507.14805"
BROCKERS = "Brockers et al. 2026, arXiv 2605.23645"
ACCURACY = Margin(0.02, "two digits in a hundred")
CHANCE = 0.1


def make_claims(results: Results) -> list[Claim]:
    """The theorem's two parts, the demonstration, what has to be shared, and plain SGD."""
    claims = theorem_claims(results)
    adaptive, sgd = results.find_rule("adamw", "adam"), results.find_rule("sgd")
    if adaptive is not None:
        claims += [transmission_claim(results, adaptive), other_claim(results, adaptive)]
        claims += head_claims(results, adaptive)
    if sgd is not None:
        claims.append(sgd_claim(results, sgd))
    if adaptive is not None and sgd is not None:
        claims.append(lead_claim(results, adaptive, sgd))
    return claims


def theorem_claims(results: Results) -> list[Claim]:
    """Of the smallest step that was taken, with the softmax cross-entropy."""
    step, other = results.find_step(SAME), results.find_step(OTHER)
    setting = (
        f"{results.network}, one step of gradient descent on digits of size {step.eps:g}, one of "
        "the student on the teacher's auxiliary logits of noise images; no rate is chosen"
    )
    decrease = step.decrease[0]
    return [
        _claim(
            "inner-product",
            "A student's first step of gradient descent on outputs of a teacher that took a small "
            "step from the same initialisation has a non-negative inner product with that step",
            f"{CLOUD}, theorem 1",
            setting,
            f"cosine {step.cosine:+.3f}, negative in {step.negative} of {step.seeds} seeds; "
            f"another initialisation {other.cosine:+.3f}, negative in {other.negative}",
            Evidence(step.cosine, margin=COSINE),
            results,
        ),
        _claim(
            "loss",
            "That step lowers the teacher's loss at the student",
            f"{CLOUD}, theorem 1",
            f"{setting}; its size {results.alphas[0]:g}",
            f"{decrease:.3g} of the teacher's own decrease; another initialisation "
            f"{other.decrease[0]:+.3g}",
            Evidence(decrease),  # the theorem states a sign, so no size counts as none
            results,
        ),
    ]


def transmission_claim(results: Results, rule: RuleResult) -> Claim:
    """The demonstration: digits pass through auxiliary logits of noise."""
    number = "no sound students and controls"
    if rule.minus_other is not None and rule.minus_untrained is not None:
        number = (
            f"accuracy {rule.accuracy:.3f}; less the control of another initialisation "
            f"{rule.minus_other:+.3f}, less that of an untrained teacher "
            f"{rule.minus_untrained:+.3f}"
        )
    untrained = Presupposition(
        "above the control whose teacher was not trained", rule.minus_untrained, to_refute=None
    )
    return _claim(
        "digits",
        f"A student ({rule.optimizer}) distilled on auxiliary logits of noise images alone names "
        "digits, one of another initialisation does not (accuracy, student minus control)",
        f"{CLOUD}, MNIST classifier",
        describe_students(results, rule),
        number,
        Evidence(
            rule.minus_other, margin=ACCURACY, presupposes=(untrained, teachers_learn(results))
        ),
        results,
        rule,
    )


def other_claim(results: Results, rule: RuleResult) -> Claim:
    """What a student of another initialisation gains."""
    return _claim(
        "other-initialisation",
        f"A student ({rule.optimizer}) of another initialisation learns no digits (accuracy gained "
        f"in training, within {ACCURACY.size:g})",
        f"{CLOUD}, MNIST classifier",
        describe_students(results, rule),
        _write(rule.other_gain),
        Evidence(rule.other_gain, "same", margin=ACCURACY, presupposes=(students_learn(rule),)),
        results,
        rule,
    )


def head_claims(results: Results, rule: RuleResult) -> list[Claim]:
    """Whether the auxiliary head alone, or the trunk alone, is enough."""
    claims = []
    for start, name, text in (
        ("auxiliary-head", "shared-head", "only the auxiliary output head"),
        ("trunk", "shared-trunk", "only the trunk"),
    ):
        row = results.find_start(rule.optimizer, start)
        if row is not None:
            claims.append(
                _claim(
                    name,
                    f"A student ({rule.optimizer}) that shares {text} of its teacher's "
                    "initialisation names digits (accuracy gained in training)",
                    BROCKERS if start == "auxiliary-head" else OWN_QUESTION,
                    describe_students(results, rule),
                    _write(row.gain),
                    Evidence(row.gain, margin=ACCURACY, presupposes=(students_learn(rule),)),
                    results,
                    rule,
                )
            )
    return claims


def sgd_claim(results: Results, rule: RuleResult) -> Claim:
    """Whether the rule of the theorem transmits over many steps."""
    return _claim(
        "sgd",
        "Plain SGD passes digits on through auxiliary logits of noise images (accuracy, student "
        "minus control)",
        OWN_QUESTION,
        describe_students(results, rule),
        _write(rule.minus_other),
        Evidence(rule.minus_other, margin=ACCURACY, presupposes=(teachers_learn(results),)),
        results,
        rule,
    )


def lead_claim(results: Results, adaptive: RuleResult, sgd: RuleResult) -> Claim:
    """Whether an adaptive rule leads here, too."""
    return _claim(
        "adaptive-lead",
        f"{adaptive.optimizer} passes more digits on than plain SGD, each at its best rate and "
        "less its controls (difference of accuracies)",
        OWN_QUESTION,
        f"{describe_students(results, adaptive)}; SGD's {_rate(sgd)}",
        _write(results.adaptive_minus_sgd),
        Evidence(
            results.adaptive_minus_sgd, margin=ACCURACY, presupposes=(students_learn(adaptive),)
        ),
        results,
        adaptive,
    )


def students_learn(rule: RuleResult) -> Presupposition:
    """That there is something that could be missing elsewhere."""
    return Presupposition(
        f"{rule.optimizer}'s students of the same initialisation exceed their controls",
        rule.minus_other,
        to_refute=ACCURACY.size,
    )


def teachers_learn(results: Results) -> Presupposition:
    """That there is something to pass on."""
    return Presupposition("teachers name digits", results.teacher, null=CHANCE, to_refute=0.5)


def describe_students(results: Results, rule: RuleResult) -> str:
    """The setting of a claim on trained students."""
    tuned = len(results.tuning_seeds)
    how = f"chosen on {tuned} other seeds" if len(rule.choice.grid) > 1 else "given"
    return (
        f"{results.network}, MNIST, {results.steps} steps of {results.batch_size} noise images, "
        f"{rule.optimizer}, {_rate(rule)}, {how}"
    )


def _rate(rule: RuleResult) -> str:
    rate = rule.choice.rate
    edge = "" if rule.choice.is_inside or len(rule.choice.grid) < 2 else " (edge of its grid)"
    return "no sound rate" if rate is None else f"rate {format_learning_rate(rate)}{edge}"


def _write(interval: Interval | None) -> str:
    return "no sound students and controls" if interval is None else f"{interval:+.3f}"


def _claim(
    name: str,
    text: str,
    section: str,
    setting: str,
    number: str,
    evidence: Evidence,
    results: Results,
    rule: RuleResult | None = None,
) -> Claim:
    return Claim(
        id=f"auxiliary-logits/{name}",
        claim=text,
        section=section,
        setting=setting,
        number=number,
        seeds=len(results.teachers) if evidence.effect is None else evidence.effect.n,
        evidence=evidence,
        unstable=0 if rule is None else rule.unstable,
        model=f"MLP {results.network}",
    )
