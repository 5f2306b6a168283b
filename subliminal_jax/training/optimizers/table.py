"""The table of optimizers: rule, defaults, paper, kind, meaning of the learning rate, grid.

Rules for whole matrices stand in `table_matrices`.

Choices that hold for the whole table, so that the arms of a comparison differ in their rule and in
nothing else:

* Weight decay is 0 by default everywhere (optax: 1e-4 for AdamW and Sophia, 1e-3 for Lion). With
  the defaults, adam and adamw are therefore the same arm. Set it with ``adamw:weight_decay=0.01``.
* Constants that carry the unit of a gradient are set so that they do not matter. LoRA gradients
  are often below 1e-4 a coordinate; optax's Adagrad (accumulator from 0.1), Yogi (both moments
  from 1e-6, eps 1e-3), Adan (eps_root 1e-8), SM3 (eps 1e-8 under the root) and RMSProp (eps 1e-8
  under the root) are SGD with another rate down there. `note` says where an entry departs.
* No clipping and no schedule: those belong to the training run.
* The grids were set on LoRA students (rank 8, 64 steps of 8 texts) of a steered 656K-parameter
  model: each spans from hardly any fit to overfitting or divergence, with the best alignment with
  the vector inside. Full weights want lower rates, a single trained vector higher ones.
"""

from collections.abc import Callable
from typing import Any

import optax

from subliminal_jax.training.optimizers import (
    adam_like,
    prodigy,
    rules,
    schedule_free,
    separating,
    sophia,
)
from subliminal_jax.training.optimizers.entries import (
    ADAM,
    ADAM_GRID,
    COORDINATE,
    DECAY,
    OPTAX_FORM,
    SIGN_GRID,
    Entry,
    Hyper,
    Hypers,
    HyperValue,
    half_decades,
    positive,
    share,
)
from subliminal_jax.training.optimizers.stacking import per_layer
from subliminal_jax.training.optimizers.table_matrices import MATRIX_TABLE


def _then_rate(rule: Callable[..., optax.GradientTransformation], lift: bool = False) -> Any:
    """A builder from a rule that knows no learning rate; with `lift`, layer by layer."""

    def build(
        learning_rate: rules.LearningRate, **hyper: HyperValue
    ) -> optax.GradientTransformation:
        scale = per_layer(rule(**hyper)) if lift else rule(**hyper)
        return optax.chain(scale, optax.scale_by_learning_rate(learning_rate))

    return build


def _rmsprop(
    learning_rate: rules.LearningRate, *, momentum: float, **hyper: Any
) -> optax.GradientTransformation:
    return optax.rmsprop(learning_rate, momentum=momentum or None, **hyper)


# Distance-estimating methods grow their step from a millionth; in a run of some 64 steps a multiple
# of 1 does not arrive, in long runs it does.
PARAMETER_FREE_GRID = half_decades(3e-1, 5)

GRADIENT = "step in units of the gradient: scale it with the inverse of the gradient's size"
RELATIVE = "length of a leaf's step relative to the length of its parameters"
MULTIPLIER = "multiple of the step that the method finds by itself; 1 is the paper's"
FLOOR = (
    "min_rms is a floor on the parameters' root mean square in the trust ratio: without it LoRA's "
    "b, which starts at zero, stays there"
)

_MAP: Hypers = {
    "bottom": share(0.1),
    "flat_rest": False,
    "flat_bottom": False,
    "zero_bottom": False,
    "live_mean": False,
}
BLANK, FENG = "Blank et al. 2026, arXiv:2606.00995", "Feng 2026, blank_sgd_repro"
GIVEN = "another run's second moment is put into the state in place of 1"

TABLE: dict[str, Entry] = {
    "sgd": Entry(
        optax.sgd, "Robbins and Monro 1951", "elementwise", GRADIENT, half_decades(1e-2, 7)
    ),
    "momentum": Entry(
        optax.sgd,
        "Polyak 1964",
        "elementwise",
        GRADIENT + "; not damped, so 1/(1-momentum) times larger in the end",
        half_decades(1e-3, 7),
        {"momentum": share(0.9)},
    ),
    "nesterov": Entry(
        lambda lr, **h: optax.sgd(lr, nesterov=True, **h),
        "Nesterov 1983; Sutskever et al. 2013",
        "elementwise",
        GRADIENT + "; not damped",
        half_decades(1e-3, 7),
        {"momentum": share(0.9)},
    ),
    "normalized_sgd": Entry(
        _then_rate(rules.normalize),
        "Nesterov 1984; Hazan et al. 2015, arXiv:1507.02030",
        "global",
        "length of the whole step",
        half_decades(1e-2, 5),
    ),
    "normalized_sgd_per_tensor": Entry(
        _then_rate(rules.normalize, lift=True),
        "You et al. 2017, arXiv:1707.04822",
        "per_leaf",
        "length of each tensor's step",
        half_decades(3e-3, 5),
    ),
    "sign_sgd": Entry(
        optax.sign_sgd,
        "Bernstein et al. 2018, arXiv:1802.04434",
        "elementwise",
        "size of every coordinate's step",
        SIGN_GRID,
    ),
    "signum": Entry(
        optax.signum,
        "Bernstein et al. 2018, arXiv:1802.04434",
        "elementwise",
        "size of every coordinate's step",
        SIGN_GRID,
        {"beta": share(0.9)},
    ),
    "rmsprop": Entry(
        _rmsprop,
        "Tieleman and Hinton 2012",
        "elementwise",
        COORDINATE,
        ADAM_GRID,
        {
            "decay": share(0.9),
            "eps": positive(1e-8),
            "eps_in_sqrt": False,
            "centered": False,
            "momentum": share(0.0),
            "bias_correction": False,
        },
        note="eps outside the root, as in Adam",
    ),
    "adagrad": Entry(
        optax.adagrad,
        "Duchi et al. 2011",
        "elementwise",
        "size of a coordinate's first step; falls as 1/sqrt(steps)",
        half_decades(3e-4, 5),
        {"initial_accumulator_value": 0.0, "eps": positive(1e-16)},
        note="accumulator from 0 (the paper) rather than 0.1; eps is under the root",
    ),
    "adadelta": Entry(
        adam_like.adadelta,
        "Zeiler 2012, arXiv:1212.5701",
        "elementwise",
        MULTIPLIER,
        half_decades(1e-1, 5),
        {"rho": share(0.9), "eps": positive(1e-6), "eps_gradient": positive(1e-16), **DECAY},
        note="eps_gradient, 1e-16 rather than 1e-6, is the epsilon of the gradients alone: the "
        "paper's one epsilon makes the rule SGD where gradients are below 1e-3",
    ),
    "adam": Entry(
        optax.adam,
        "Kingma and Ba 2014, arXiv:1412.6980",
        "elementwise",
        COORDINATE,
        ADAM_GRID,
        ADAM,
    ),
    "adamw": Entry(
        optax.adamw,
        "Loshchilov and Hutter 2017, arXiv:1711.05101",
        "elementwise",
        COORDINATE,
        ADAM_GRID,
        {**ADAM, **DECAY},
    ),
    "nadamw": Entry(
        optax.nadamw, "Dozat 2016", "elementwise", COORDINATE, ADAM_GRID, {**ADAM, **DECAY}
    ),
    "radam": Entry(
        adam_like.radam,
        "Liu et al. 2019, arXiv:1908.03265",
        "elementwise",
        COORDINATE + "; smaller at first, and the first 5 steps are in units of the gradient",
        half_decades(3e-4, 5),
        {**ADAM, "threshold": Hyper(5.0, least=4.0)},
    ),
    "amsgrad": Entry(
        adam_like.amsgrad,
        "Reddi et al. 2018, arXiv:1904.09237",
        "elementwise",
        COORDINATE + "; up to (1-b1)/sqrt(1-b2) times larger at first",
        ADAM_GRID,
        {**ADAM, **OPTAX_FORM},
        note="moments not corrected for their start (the paper); optax_form corrects both",
    ),
    "adamax": Entry(
        optax.adamax,
        "Kingma and Ba 2014, arXiv:1412.6980, section 7.1",
        "elementwise",
        COORDINATE,
        ADAM_GRID,
        ADAM,
    ),
    "adabelief": Entry(
        optax.adabelief,
        "Zhuang et al. 2020, arXiv:2010.07468",
        "elementwise",
        COORDINATE,
        ADAM_GRID,
        {"b1": share(0.9), "b2": share(0.999), "eps": positive(1e-16), "eps_root": 1e-16},
    ),
    "yogi": Entry(
        adam_like.yogi,
        "Zaheer et al. 2018",
        "elementwise",
        COORDINATE + "; up to (1-b1)/sqrt(1-b2) times larger at first",
        ADAM_GRID,
        {**ADAM, "initial_accumulator_value": 0.0, **OPTAX_FORM},
        note="second moment from 0 and eps 1e-8 rather than 1e-6 and 1e-3; moments not corrected "
        "for their start (the paper), optax_form corrects both",
    ),
    "adan": Entry(
        adam_like.adan,
        "Xie et al. 2022, arXiv:2208.06677",
        "elementwise",
        COORDINATE,
        ADAM_GRID,
        {
            "b1": share(0.98),
            "b2": share(0.92),
            "b3": share(0.99),
            "eps": positive(1e-8),
            **DECAY,
            **OPTAX_FORM,
        },
        note="b1, b2, b3 are one minus the paper's; a difference of gradients counts b2 times (the "
        "authors' code), with optax_form 1 - b2 times",
    ),
    "lion": Entry(
        optax.lion,
        "Chen et al. 2023, arXiv:2302.06675",
        "elementwise",
        "size of every coordinate's step",
        SIGN_GRID,
        {"b1": share(0.9), "b2": share(0.99), **DECAY},
    ),
    "adafactor": Entry(
        rules.adafactor,
        "Shazeer and Stern 2018, arXiv:1804.04235",
        "per_leaf",
        COORDINATE,
        ADAM_GRID,
        {
            "decay_rate": share(0.8),
            "clipping_threshold": positive(1.0),
            "min_dim_size_to_factor": 2,
            "multiply_by_parameter_scale": False,
        },
        note="every matrix is factored (optax: only from 128 x 128, so never a LoRA factor); "
        "absolute steps, since LoRA's b starts at zero",
    ),
    "lamb": Entry(
        rules.lamb,
        "You et al. 2020, arXiv:1904.00962",
        "per_leaf",
        RELATIVE,
        half_decades(1e-3, 5),
        {"b1": share(0.9), "b2": share(0.999), "eps": positive(1e-6), **DECAY, "min_rms": 0.01},
        note=FLOOR,
    ),
    "lars": Entry(
        rules.lars,
        "You et al. 2017, arXiv:1708.03888",
        "per_leaf",
        RELATIVE + ", times trust_coefficient; not damped",
        half_decades(3e-1, 5),
        {"momentum": share(0.9), "trust_coefficient": 0.001, **DECAY, "min_rms": 0.01},
        note=FLOOR,
    ),
    "novograd": Entry(
        _then_rate(optax.scale_by_novograd, lift=True),
        "Ginsburg et al. 2019, arXiv:1905.11286",
        "per_leaf",
        "length of a leaf's step; not damped",
        half_decades(3e-4, 5),
        {"b1": share(0.9), "b2": share(0.25), "eps": positive(1e-6), **DECAY},
    ),
    "sm3": Entry(
        _then_rate(optax.scale_by_sm3, lift=True),
        "Anil et al. 2019, arXiv:1901.11150",
        "per_leaf",
        "size of a coordinate's step before momentum where its gradient is the largest of its row "
        "and column, at first; falls as 1/sqrt(steps)",
        half_decades(3e-4, 5),
        {"b1": share(0.9), "eps": positive(1e-16)},
        note="SM3-II with momentum; eps 1e-16 under the root rather than 1e-8",
    ),
    "adam_mini": Entry(
        adam_like.adam_mini,
        "Zhang et al. 2024, arXiv:2406.16793",
        "per_leaf",
        COORDINATE,
        ADAM_GRID,
        {**ADAM, **DECAY},
        note="one second moment an output of a matrix, a token of a table, a vector",
    ),
    "mars": Entry(
        adam_like.mars,
        "Yuan et al. 2024, arXiv:2411.10438",
        "per_leaf",
        COORDINATE,
        ADAM_GRID,
        {
            "b1": share(0.95),
            "b2": share(0.99),
            "eps": positive(1e-8),
            "gamma": 0.025,
            "max_norm": positive(1.0),
            **DECAY,
        },
        note="MARS-AdamW with the last batch's gradient, on every leaf",
    ),
    "fromage": Entry(
        rules.fromage,
        "Bernstein et al. 2020, arXiv:2002.03432",
        "per_leaf",
        RELATIVE,
        half_decades(3e-3, 5),
        {"min_rms": 0.01},
        note=FLOOR,
    ),
    "sophia": Entry(
        sophia.sophia,
        "Liu et al. 2023, arXiv:2305.14342",
        "elementwise",
        "largest size of a coordinate's step",
        SIGN_GRID,
        {
            "b1": share(0.965),
            "b2": share(0.99),
            "eps": positive(1e-8),
            "gamma": 0.01,
            "clip_threshold": positive(1.0),
            "update_interval": positive(10),
            **DECAY,
            "seed": 0,
            **OPTAX_FORM,
        },
        needs=frozenset({"obj_fn"}),
        note="Hutchinson's estimate from obj_fn (params -> this step's loss); mapped over "
        "students it is computed every step and used every update_interval",
    ),
    "prodigy": Entry(
        prodigy.prodigy,
        "Mishchenko and Defazio 2023, arXiv:2306.06101",
        "global",
        MULTIPLIER,
        PARAMETER_FREE_GRID,
        {
            **ADAM,
            "estim_lr0": positive(1e-6),
            "estim_lr_coef": 1.0,
            **DECAY,
            "safeguard_warmup": False,
            "bias_correction": False,
        },
        note="the authors' code; with bias_correction, optax's",
    ),
    "dog": Entry(
        rules.dog,
        "Ivgi et al. 2023, arXiv:2302.12022",
        "global",
        MULTIPLIER,
        PARAMETER_FREE_GRID,
        {"reps_rel": positive(1e-6), "eps": positive(1e-8), **DECAY},
        note="without the iterate averaging that the paper advises for evaluation",
    ),
    "schedule_free_sgd": Entry(
        schedule_free.schedule_free_sgd,
        "Defazio et al. 2024, arXiv:2405.15682",
        "elementwise",
        GRADIENT + "; to be held constant after warm-up",
        half_decades(1e-2, 7),
        {"b1": Hyper(0.9, above=0, below=1), **DECAY, "weight_lr_power": 2.0},
        eval_params=schedule_free.averaged_point,
    ),
    "schedule_free_adamw": Entry(
        schedule_free.schedule_free_adamw,
        "Defazio et al. 2024, arXiv:2405.15682",
        "elementwise",
        COORDINATE + "; to be held constant after warm-up",
        half_decades(3e-4, 5),
        {
            **ADAM,
            "b1": Hyper(0.9, above=0, below=1),
            **DECAY,
            "weight_lr_power": 2.0,
            **OPTAX_FORM,
        },
        eval_params=schedule_free.averaged_point,
    ),
    "adopt": Entry(
        optax.contrib.adopt,
        "Taniguchi et al. 2024, arXiv:2411.02853",
        "elementwise",
        COORDINATE + "; the first step is zero",
        ADAM_GRID,
        {"b1": share(0.9), "b2": share(0.9999), "eps": positive(1e-6)},
    ),
    "ademamix": Entry(
        rules.ademamix,
        "Pagliardini et al. 2024, arXiv:2409.03137",
        "elementwise",
        COORDINATE,
        ADAM_GRID,
        {
            "b1": share(0.9),
            "b2": share(0.999),
            "b3": share(0.9999),
            "alpha": 5.0,
            "eps": positive(1e-8),
            **DECAY,
        },
        wants_total_steps=True,
        note="alpha and b3 warm up over total_steps where it is given",
    ),
    "normalized_sgd_per_row": Entry(
        _then_rate(separating.normalize_rows),
        "Pethick et al. 2025, arXiv:2502.07529",
        "per_leaf",
        "length of each row's step",
        half_decades(1e-3, 5),
        note="a row holds the weights into one output, as in torch",
    ),
    "adamw_masked": Entry(
        separating.adamw_masked,
        BLANK,
        "elementwise",
        COORDINATE,
        ADAM_GRID,
        {**ADAM, **DECAY, "share": share(0.1), "frozen": True, "zeroed": False},
        note=GIVEN,
    ),
    "frozen_map": Entry(
        separating.frozen_map,
        BLANK,
        "elementwise",
        "size of a coordinate's step where its gradient is the root of the given moment",
        half_decades(1e-3, 5),
        {"b1": share(0.0), "eps": positive(1e-8), "eps_in_root": True, **_MAP},
        note=GIVEN + "; eps under the root as in the paper's code",
    ),
    "living_map": Entry(
        separating.living_map,
        FENG,
        "elementwise",
        COORDINATE,
        ADAM_GRID,
        {**ADAM, "eps_in_root": False, **_MAP},
        note="adam, unless its map is flattened",
    ),
    **MATRIX_TABLE,
}
