"""The rules of the atlas: family and properties, fixed before a student is trained, and the second
setting that is tried.

A family is a lineage: rules that differ in one idea. Rules of one family are no independent
evidence on what a property does, so the atlas leaves out whole families at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from subliminal_jax.training.optimizers import OptimizerSpec

# What the size of a step is divided by: nothing; one number a tensor, a row or the whole tree; one
# a coordinate; or the singular values of a matrix (or a basis of them).
Normalisation = Literal["none", "tensor", "coordinate", "matrix"]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
      family: its lineage.
      normalisation: what its steps are normalised by.
      sign: whether most coordinates of a step have one size.
      momentum: whether a step is made of past gradients, too.
      variant: the optimizer with the other setting of the hyper-parameter that matters most; ""
        where there is none beside the learning rate.
      separating: whether it separates explanations: it is predicted by the model of properties,
        not a part of what that is fitted to.
    """

    family: str
    normalisation: Normalisation
    sign: bool = False
    momentum: bool = False
    variant: str = ""
    separating: bool = False


def _adam(variant: str, family: str = "Adam-like") -> Rule:
    return Rule(family, "coordinate", momentum=True, variant=variant)


def _sign(family: str, variant: str, momentum: bool = True) -> Rule:
    return Rule(family, "coordinate", sign=True, momentum=momentum, variant=variant)


def _orthogonal(variant: str) -> Rule:
    return Rule("orthogonalising", "matrix", momentum=True, variant=variant)


def _penalised(variant: str, sign: bool = False) -> Rule:
    return Rule(
        "separating", "coordinate", sign=sign, momentum=True, variant=variant, separating=True
    )


_PRECONDITIONED, _NORMALISED, _SAVING = "matrix-preconditioned", "normalised", "memory-saving"

RULES: Mapping[str, Rule] = {
    # Steps in units of the gradient.
    "sgd": Rule("plain", "none"),
    "momentum": Rule("plain", "none", momentum=True, variant="momentum:momentum=0.5"),
    "nesterov": Rule("plain", "none", momentum=True, variant="nesterov:momentum=0.5"),
    "lookahead:sgd": Rule("plain", "none", variant="lookahead:sgd(share=0.8)"),
    # The gradient or the step divided by its size.
    "normalized_sgd": Rule(_NORMALISED, "tensor"),
    "normalized_sgd_per_tensor": Rule(_NORMALISED, "tensor"),
    "normalized_sgd_per_row": Rule(_NORMALISED, "tensor"),
    "novograd": Rule(_NORMALISED, "tensor", momentum=True, variant="novograd:b2=0.9"),
    # Steps relative to the size of the weights.
    "lars": Rule("trust ratio", "tensor", momentum=True, variant="lars:momentum=0.5"),
    "lamb": _adam("lamb:b2=0.95", "trust ratio"),
    "fromage": Rule("trust ratio", "tensor", variant="fromage:min_rms=0.1"),
    # Signs.
    "sign_sgd": _sign("sign", "", momentum=False),
    "signum": _sign("sign", "signum:beta=0.5"),
    "lion": _sign("Lion", "lion:b2=0.9"),
    "cautious:lion": _sign("Lion", "cautious:lion:b2=0.9"),
    "sophia": _sign("curvature", "sophia:gamma=0.1"),
    # Divided by a running size of each coordinate, without momentum.
    "rmsprop": Rule("RMS-like", "coordinate", variant="rmsprop:decay=0.99"),
    "adagrad": Rule("RMS-like", "coordinate"),
    "adadelta": Rule("RMS-like", "coordinate", variant="adadelta:rho=0.99"),
    # The same with momentum.
    "adamw": _adam("adamw:b2=0.95"),
    "nadamw": _adam("nadamw:b2=0.95"),
    "radam": _adam("radam:b2=0.95"),
    "amsgrad": _adam("amsgrad:b2=0.95"),
    "adamax": _adam("adamax:b2=0.95"),
    "adabelief": _adam("adabelief:b2=0.95"),
    "yogi": _adam("yogi:b2=0.95"),
    "adan": _adam("adan:b1=0.9"),
    "adopt": _adam("adopt:b2=0.99"),
    "ademamix": _adam("ademamix:alpha=2"),
    "mars": _adam("mars:gamma=0.05"),
    "cautious:adamw": _adam("cautious:adamw:b2=0.95"),
    "by_factor:adamw(b=4.0)": _adam("by_factor:adamw:b2=0.95(b=4.0)"),
    # Fewer numbers kept than one a coordinate.
    "adafactor": Rule(_SAVING, "coordinate", variant="adafactor:decay_rate=0.5"),
    "sm3": Rule(_SAVING, "coordinate", momentum=True, variant="sm3:b1=0.5"),
    "adam_mini": Rule(_SAVING, "tensor", momentum=True, variant="adam_mini:b2=0.95"),
    "galore": _adam("galore:rank=2", _SAVING),
    # Rates that a rule finds itself.
    "prodigy": _adam("prodigy:bias_correction=true", "parameter-free"),
    "dog": Rule("parameter-free", "tensor", variant="dog:reps_rel=0.0001"),
    # Averages in place of a schedule.
    "schedule_free_sgd": Rule(
        "schedule-free", "none", momentum=True, variant="schedule_free_sgd:b1=0.5"
    ),
    "schedule_free_adamw": _adam("schedule_free_adamw:b2=0.95", "schedule-free"),
    # Steps whose singular values are one.
    "muon": _orthogonal("muon:momentum=0.8"),
    "by_factor:muon(a=0.0)": _orthogonal("by_factor:muon:momentum=0.8(a=0.0)"),
    "scion": _orthogonal("scion:momentum=0.5"),
    "dion": _orthogonal("dion:rank_share=0.5"),
    "lora_muon": _orthogonal("lora_muon:momentum=0.8"),
    # Divided by roots of second moments of rows and columns, or in their basis.
    "shampoo": Rule(_PRECONDITIONED, "matrix"),
    "soap": Rule(_PRECONDITIONED, "matrix", momentum=True, variant="soap:b2=0.99"),
    "kron": Rule(_PRECONDITIONED, "matrix", momentum=True, variant="kron:factor_rate=0.3"),
    "lora_rite": Rule(_PRECONDITIONED, "matrix", momentum=True, variant="lora_rite:b2=0.95"),
    # What one part of a rule does without another.
    "rotated:adamw": Rule("separating", "coordinate", momentum=True, separating=True),
    "living_map:flat_rest=true,live_mean=true": Rule(
        "separating", "coordinate", momentum=True, separating=True
    ),
    "top_clipped:sgd(share=0.1)": Rule("separating", "none", separating=True),
    "normalized:adamw": Rule("separating", "coordinate", momentum=True, separating=True),
    # A penalty on a steep spectrum.
    "flattened:adamw": _penalised("flattened:adamw:b2=0.95"),
    "flattened:adamw(weight=0.01)": _penalised("flattened:adamw:b2=0.95(weight=0.01)"),
    "flattened:lion": _penalised("flattened:lion:b2=0.9", sign=True),
}
# What each of the last is without the penalty.
PENALISED = {
    "flattened:adamw": "adamw",
    "flattened:adamw(weight=0.01)": "adamw",
    "flattened:lion": "lion",
}
MAP = tuple(name for name in RULES if name not in PENALISED)
# Of which each kind of normalisation, and signs, are in two families.
TWELVE = (
    *("sgd", "momentum", "normalized_sgd_per_tensor", "signum", "lion", "rmsprop"),
    *("adamw", "adam_mini", "schedule_free_sgd", "muon", "lora_muon", "lora_rite"),
)
EIGHT = ("sgd", "momentum", "normalized_sgd", "signum", "rmsprop", "adamw", "muon", "lora_muon")


def list_settings(name: str) -> tuple[str, ...]:
    """The labels of a rule's settings that are tried."""
    texts = (name, RULES[name].variant) if RULES[name].variant else (name,)
    return tuple(OptimizerSpec.parse(text).label for text in texts)
