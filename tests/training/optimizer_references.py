"""Every rule of the registry, written anew from its paper: float64, one leaf a layer, no JAX.

    python -m tests.training.test_optimizer_references

prints the largest difference between the registry's rules and these after ten steps with a schedule
and, where a rule has one, weight decay.

A rule of one leaf is a generator: it is started with the leaf, takes (gradient, rate) and gives the
new leaf. A rule of the whole tree is the same on all leaves as one vector. Nothing here is shared
with the package, so that a mistake would have to be made twice.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from itertools import count

import numpy as np

Rule = Generator[np.ndarray, tuple[np.ndarray, float], None]


@dataclass(frozen=True)
class Context:
    """What a rule may know beside the leaf.

    Attributes:
      name: of the leaf, as "layers.up.a.0".
      curvature: the Hessian's diagonal, constant.
      moment: the second moment of another run.
      bottom: where that moment is among the largest tenth of the tree, and the geometric means of
        the scales: (of the bottom, of all).
      rotation: the rotation of the leaf's inputs or outputs, None where it has none.
      probes: what PSGD draws for the leaf, one matrix a step.
    """

    name: str = ""
    curvature: np.ndarray | float = 0.0
    moment: np.ndarray | float = 1.0
    bottom: np.ndarray | bool = False
    geometric_means: tuple[float, float] = (1.0, 1.0)
    rotation: np.ndarray | None = None
    probes: tuple[np.ndarray, ...] = ()


def norm(x):
    return float(np.sqrt(np.sum(x * x)))


# -- gradients and signs ---------------------------------------------------------------------------


def sgd(x, context, momentum=0.0, nesterov=False) -> Rule:
    buffer = 0 * x
    while True:
        g, rate = yield x
        buffer = momentum * buffer + g
        x = x - rate * (g + momentum * buffer if nesterov else buffer)


def sign_sgd(x, context, momentum=0.0) -> Rule:
    buffer = 0 * x
    while True:
        g, rate = yield x
        buffer = momentum * buffer + (1 - momentum) * g
        x = x - rate * np.sign(buffer)


def lion(x, context, b1=0.9, b2=0.99, decay=0.0) -> Rule:
    m = 0 * x
    while True:
        g, rate = yield x
        x = x - rate * (np.sign(b1 * m + (1 - b1) * g) + decay * x)
        m = b2 * m + (1 - b2) * g


def normalized(x, context) -> Rule:
    while True:
        g, rate = yield x
        x = x - rate * g / norm(g)


def normalized_rows(x, context) -> Rule:
    # [inputs, outputs]: torch's row is a column here; a table's row is a token's vector.
    axis = -1 if x.ndim == 1 or context.name == "embed" else 0
    while True:
        g, rate = yield x
        x = x - rate * g / np.sqrt(np.sum(g * g, axis=axis, keepdims=True))


# -- one scale a coordinate ------------------------------------------------------------------------


def rmsprop(x, context, decay=0.9, eps=1e-8, centered=False, momentum=0.0) -> Rule:
    v, mean, buffer = 0 * x, 0 * x, 0 * x
    while True:
        g, rate = yield x
        v, mean = decay * v + (1 - decay) * g * g, decay * mean + (1 - decay) * g
        spread = v - mean * mean if centered else v
        buffer = momentum * buffer + rate * g / (np.sqrt(spread) + eps)
        x = x - buffer


def adagrad(x, context, eps=1e-16) -> Rule:
    total = 0 * x
    while True:
        g, rate = yield x
        total = total + g * g
        x = x - rate * g / np.sqrt(total + eps)


def adadelta(x, context, rho=0.9, eps=1e-6, eps_gradient=1e-16, decay=0.0) -> Rule:
    gradients, steps = 0 * x, 0 * x
    while True:
        g, rate = yield x
        g = g + decay * x
        gradients = rho * gradients + (1 - rho) * g * g
        step = np.sqrt(steps + eps) / np.sqrt(gradients + eps_gradient) * g
        steps = rho * steps + (1 - rho) * step * step
        x = x - rate * step


def adam(x, context, b1=0.9, b2=0.999, eps=1e-8, decay=0.0) -> Rule:
    m, v = 0 * x, 0 * x
    for t in count(1):
        g, rate = yield x
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        x = x - rate * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * x)


def nadamw(x, context, b1=0.9, b2=0.999, eps=1e-8, decay=0.0) -> Rule:
    m, v = 0 * x, 0 * x
    for t in count(1):
        g, rate = yield x
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        x = x - rate * (ahead / (np.sqrt(v / (1 - b2**t)) + eps) + decay * x)


def radam(x, context, b1=0.9, b2=0.999, eps=1e-8) -> Rule:
    m, v, longest = 0 * x, 0 * x, 2 / (1 - b2) - 1
    for t in count(1):
        g, rate = yield x
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        length = longest - 2 * t * b2**t / (1 - b2**t)
        step = m / (1 - b1**t)
        if length >= 5:
            rectifier = (length - 4) * (length - 2) * longest
            rectifier /= (longest - 4) * (longest - 2) * length
            step = math.sqrt(rectifier) * step / (np.sqrt(v / (1 - b2**t)) + eps)
        x = x - rate * step


def amsgrad(x, context, b1=0.9, b2=0.999, eps=1e-8) -> Rule:
    m, v, largest = 0 * x, 0 * x, 0 * x
    while True:
        g, rate = yield x
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        largest = np.maximum(largest, v)
        x = x - rate * m / (np.sqrt(largest) + eps)


def adamax(x, context, b1=0.9, b2=0.999) -> Rule:
    m, largest = 0 * x, 0 * x
    for t in count(1):
        g, rate = yield x
        m, largest = b1 * m + (1 - b1) * g, np.maximum(b2 * largest, np.abs(g))
        x = x - rate / (1 - b1**t) * m / largest


def adabelief(x, context, b1=0.9, b2=0.999, eps=1e-16) -> Rule:
    m, s = 0 * x, 0 * x
    for t in count(1):
        g, rate = yield x
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps
        x = x - rate * m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + eps)


def yogi(x, context, b1=0.9, b2=0.999, eps=1e-8) -> Rule:
    m, v = 0 * x, 0 * x
    while True:
        g, rate = yield x
        m = b1 * m + (1 - b1) * g
        v = v - (1 - b2) * np.sign(v - g * g) * g * g
        x = x - rate * m / (np.sqrt(v) + eps)


def adan(x, context, b1=0.98, b2=0.92, b3=0.99, eps=1e-8, decay=0.0) -> Rule:
    m, d, n, last = 0 * x, 0 * x, 0 * x, None
    for t in count(1):
        g, rate = yield x
        change = 0 * g if last is None else g - last
        m, d = b1 * m + (1 - b1) * g, b2 * d + (1 - b2) * change
        n = b3 * n + (1 - b3) * (g + b2 * change) ** 2
        step = m / (1 - b1**t) + b2 * d / (1 - b2**t)
        x = x - rate * step / (np.sqrt(n) / math.sqrt(1 - b3**t) + eps)
        x, last = x / (1 + rate * decay), g


def adopt(x, context, b1=0.9, b2=0.9999, eps=1e-6) -> Rule:
    g, _ = yield x
    m, v = 0 * x, g * g
    for t in count(1):
        g, rate = yield x
        limit = t**0.25
        m = b1 * m + (1 - b1) * np.clip(g / np.maximum(np.sqrt(v), eps), -limit, limit)
        x = x - rate * m
        v = b2 * v + (1 - b2) * g * g


def ademamix(x, context, b1=0.9, b2=0.999, b3=0.9999, alpha=5.0, eps=1e-8, decay=0.0) -> Rule:
    m, slow, v, total = 0 * x, 0 * x, 0 * x, TOTAL_STEPS
    for t in count(1):
        g, rate = yield x
        share = min(t / total, 1)
        logs = math.log(b1), math.log(b3)
        b = min(math.exp(logs[0] * logs[1] / ((1 - share) * logs[1] + share * logs[0])), b3)
        m, slow = b1 * m + (1 - b1) * g, b * slow + (1 - b) * g
        v = b2 * v + (1 - b2) * g * g
        step = (m / (1 - b1**t) + share * alpha * slow) / (np.sqrt(v / (1 - b2**t)) + eps)
        x = x - rate * (step + decay * x)


def sophia(x, context, b1=0.965, b2=0.99, gamma=0.01, decay=0.0, interval=10, eps=1e-8) -> Rule:
    m, h = 0 * x, 0 * x
    for t in count():
        g, rate = yield x
        m = b1 * m + (1 - b1) * g
        if t % interval == 0:
            h = b2 * h + (1 - b2) * context.curvature
        x = x - rate * decay * x - rate * np.clip(m / np.maximum(gamma * h, eps), -1, 1)


def schedule_free_sgd(x, context, b1=0.9, decay=0.0) -> Rule:
    y, z, total, largest = x, x, 0.0, 0.0
    while True:
        g, rate = yield y
        z = z - rate * (g + decay * y)
        largest = max(largest, rate)
        total += largest**2
        x = x + largest**2 / total * (z - x)
        y = (1 - b1) * z + b1 * x


def schedule_free_adamw(x, context, b1=0.9, b2=0.999, eps=1e-8, decay=0.0) -> Rule:
    y, z, v, total, largest = x, x, 0 * x, 0.0, 0.0
    for t in count(1):
        g, rate = yield y
        v = b2 * v + (1 - b2) * g * g
        rate = rate * math.sqrt(1 - b2**t)
        z = z - rate * (g / (np.sqrt(v) + eps) + decay * y)
        largest = max(largest, rate)
        total += largest**2
        x = x + largest**2 / total * (z - x)
        y = (1 - b1) * z + b1 * x


# -- one scale a leaf ------------------------------------------------------------------------------


def adafactor(x, context, clip=1.0) -> Rule:
    rows, columns, v = 0.0, 0.0, 0.0
    for t in count(1):
        g, rate = yield x
        b, square = 1 - t**-0.8, g * g + 1e-30
        if x.ndim == 2:
            rows = b * rows + (1 - b) * square.mean(axis=1)
            columns = b * columns + (1 - b) * square.mean(axis=0)
            estimate = np.outer(rows, columns) / rows.mean()
        else:
            estimate = v = b * v + (1 - b) * square
        u = g / np.sqrt(estimate)
        x = x - rate * u / max(1.0, math.sqrt(np.mean(u * u)) / clip)


def lamb(x, context, b1=0.9, b2=0.999, eps=1e-6, decay=0.0, floor=0.01) -> Rule:
    m, v = 0 * x, 0 * x
    for t in count(1):
        g, rate = yield x
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        r = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * x
        x = x - rate * max(norm(x), floor * math.sqrt(x.size)) / norm(r) * r


def lars(x, context, momentum=0.9, trust=0.001, decay=0.0, floor=0.01) -> Rule:
    v = 0 * x
    while True:
        g, rate = yield x
        size = max(norm(x), floor * math.sqrt(x.size))
        local = trust * size / (norm(g) + decay * norm(x))
        v = momentum * v + rate * local * (g + decay * x)
        x = x - v


def novograd(x, context, b1=0.9, b2=0.25, eps=1e-6, decay=0.0) -> Rule:
    m, v = 0 * x, None
    while True:
        g, rate = yield x
        v = norm(g) ** 2 if v is None else b2 * v + (1 - b2) * norm(g) ** 2
        m = b1 * m + g / (math.sqrt(v) + eps) + decay * x
        x = x - rate * m


def sm3(x, context, b1=0.9, eps=1e-16) -> Rule:
    """SM3-II: a cover of rows and columns, of the coordinates where the leaf is a vector."""
    covers = [np.zeros([n if i == k else 1 for i in range(x.ndim)]) for k, n in enumerate(x.shape)]
    m = 0 * x
    while True:
        g, rate = yield x
        nu = np.min(np.broadcast_arrays(*covers), axis=0) + g * g
        others = [tuple(i for i in range(x.ndim) if i != k) for k in range(x.ndim)]
        covers = [nu.max(axis=o, keepdims=True) if o else nu for o in others]
        m = b1 * m + (1 - b1) * g / np.sqrt(nu + eps)
        x = x - rate * m


def fromage(x, context, floor=0.01) -> Rule:
    while True:
        g, rate = yield x
        size = max(norm(x), floor * math.sqrt(x.size))
        x = (x - rate * size / norm(g) * g) / math.sqrt(1 + rate**2)


def adam_mini(x, context, b1=0.9, b2=0.999, eps=1e-8, decay=0.0) -> Rule:
    axis = -1 if x.ndim == 1 or context.name == "embed" else 0
    m, v = 0 * x, 0.0
    for t in count(1):
        g, rate = yield x
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.mean(g * g, axis, keepdims=True)
        step = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        x = x - rate * (step + decay * x)


def mars(x, context, b1=0.95, b2=0.99, gamma=0.025, max_norm=1.0, eps=1e-8, decay=0.0) -> Rule:
    m, v, last = 0 * x, 0 * x, 0 * x
    for t in count(1):
        g, rate = yield x
        c = g + gamma * b1 / (1 - b1) * (g - last)
        c = c / max(norm(c) / max_norm, 1)
        m, v, last = b1 * m + (1 - b1) * c, b2 * v + (1 - b2) * c * c, g
        step = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        x = x - rate * (step + decay * x)


# -- rules that look at the whole tree -------------------------------------------------------------


def prodigy(x, context, b1=0.9, b2=0.999, eps=1e-8, d0=0.01, decay=0.0) -> Rule:
    m, v, s, numerator, d, start = 0 * x, 0 * x, 0 * x, 0.0, d0, x
    b3 = math.sqrt(b2)
    while True:
        g, rate = yield x
        step = d * rate
        numerator = b3 * numerator + d / d0 * step * np.sum(g * (start - x))
        m, v = b1 * m + (1 - b1) * d * g, b2 * v + (1 - b2) * d * d * g * g
        s = b3 * s + d / d0 * step * g
        d = max(d, numerator / np.sum(np.abs(s)))
        x = x - step * decay * x - step * m / (np.sqrt(v) + d * eps)


def dog(x, context, reps_rel=0.1, decay=0.0) -> Rule:
    start, total = x, 0.0
    farthest = reps_rel * (1 + norm(x))
    while True:
        g, rate = yield x
        g = g + decay * x
        farthest, total = max(farthest, norm(x - start)), total + norm(g) ** 2
        x = x - rate * farthest / math.sqrt(total + 1e-8) * g


def sgd_outliers(x, context, share=0.01, what="masked") -> Rule:
    top = max(round(share * x.size), 1)
    while True:
        g, rate = yield x
        order = np.argsort(-np.abs(g), kind="stable")
        changed, limit = g.copy(), np.abs(g[order[top]])
        if what == "masked":
            changed[order[:top]] = 0
        elif what == "clipped":
            changed = np.clip(g, -limit, limit)
        else:
            changed[order[top:]] = 0
        x = x - rate * changed


# -- maps, factors, rotations ----------------------------------------------------------------------


def adamw_masked(x, context, frozen=True, zeroed=False, decay=0.0) -> Rule:
    inner = adam(x, context, decay=decay)
    free = next(inner)
    while True:
        g, rate = yield x
        before, free = x, free
        # AdamW of a coordinate needs its own parameters for the decay alone.
        moved = inner.send((g, rate)) - free
        free = free + moved
        stopped = 0 * x if frozen else moved
        base = 0 * x if zeroed else x
        x = np.where(context.bottom, base + stopped, before + moved)
        zeroed = False


def frozen_map(x, context, b1=0.0, eps=1e-8, inside=True, rest=None, bottom=None) -> Rule:
    v = context.moment
    scale = 1 / np.sqrt(v + eps) if inside else 1 / (np.sqrt(v) + eps)
    low, overall = context.geometric_means
    if rest:
        scale = np.where(context.bottom, scale, overall)
    if bottom is not None:
        scale = np.where(context.bottom, low if bottom == "flat" else 0.0, scale)
    m = 0 * x
    for t in count(1):
        g, rate = yield x
        m = b1 * m + (1 - b1) * g
        x = x - rate * scale * m / (1 - b1**t)


def by_factor(rule, x, context, a=1.0, b=1.0) -> Rule:
    part = context.name.split(".")
    factor = a if "a" in part else b if "b" in part else 1.0
    inner = rule(x, context)
    x = next(inner)
    while True:
        g, rate = yield x
        x = inner.send((g, factor * rate))


def rotated(rule, x, context) -> Rule:
    """The rule on R x in place of x, R turning the inputs, or the outputs of LoRA's b."""
    R = context.rotation
    if R is None:
        yield from rule(x, context)
    outputs = x.ndim == 1 or ".b." in f".{context.name}."
    turn = lambda y: y @ R.T if outputs else R @ y  # noqa: E731
    back = lambda y: y @ R if outputs else R.T @ y  # noqa: E731
    inner = rule(turn(x), context)
    next(inner)
    while True:
        g, rate = yield x
        x = back(inner.send((turn(g), rate)))


TOTAL_STEPS = 10
# Rules of the whole tree: their references take all leaves as one vector.
WHOLE = {
    "normalized_sgd",
    "prodigy",
    "dog",
    "top_masked",
    "top_clipped",
    "top_only",
    "clip_norm",
    "normalized",
}

# By the registry's text: the rule, and where its formula is from.
REFERENCES = {
    "sgd": (sgd, "Robbins and Monro 1951"),
    "momentum": (partial(sgd, momentum=0.9), "Polyak 1964; torch.optim.SGD"),
    "nesterov": (partial(sgd, momentum=0.9, nesterov=True), "Sutskever 2013; torch.optim.SGD"),
    "normalized_sgd": (normalized, "Hazan et al. 2015"),
    "normalized_sgd_per_tensor": (normalized, "You et al. 2017"),
    "normalized_sgd_per_row": (normalized_rows, "Pethick et al. 2025, RowNorm"),
    "sign_sgd": (sign_sgd, "Bernstein et al. 2018, Algorithm 1"),
    "signum": (partial(sign_sgd, momentum=0.9), "Bernstein et al. 2018, Algorithm 2"),
    "rmsprop": (rmsprop, "Tieleman and Hinton 2012"),
    "rmsprop:decay=0.99,centered=true,momentum=0.9": (
        partial(rmsprop, decay=0.99, centered=True, momentum=0.9),
        "Graves 2013; torch.optim.RMSprop",
    ),
    "adagrad": (adagrad, "Duchi et al. 2011"),
    "adadelta:weight_decay=0.1": (partial(adadelta, decay=0.1), "Zeiler 2012, two epsilons"),
    "adadelta:eps_gradient=1e-6": (partial(adadelta, eps_gradient=1e-6), "Zeiler 2012"),
    "adam": (adam, "Kingma and Ba 2014, Algorithm 1"),
    "adamw:weight_decay=0.1": (partial(adam, decay=0.1), "Loshchilov and Hutter 2017"),
    "nadamw:weight_decay=0.1": (partial(nadamw, decay=0.1), "Dozat 2016, constant momentum"),
    "radam": (radam, "Liu et al. 2019, Algorithm 2"),
    "amsgrad": (amsgrad, "Reddi et al. 2018, Algorithm 2"),
    "adamax": (adamax, "Kingma and Ba 2014, Algorithm 2"),
    "adabelief": (adabelief, "Zhuang et al. 2020, Algorithm 2"),
    "yogi": (yogi, "Zaheer et al. 2018, Algorithm 2"),
    "adan:weight_decay=0.1": (partial(adan, decay=0.1), "Xie et al. 2022; the authors' code"),
    "lion:weight_decay=0.1": (partial(lion, decay=0.1), "Chen et al. 2023, Algorithm 2"),
    "adafactor": (adafactor, "Shazeer and Stern 2018, Algorithms 4 and 5"),
    "lamb:weight_decay=0.1": (partial(lamb, decay=0.1), "You et al. 2020, Algorithm 2"),
    "lars:weight_decay=0.1": (partial(lars, decay=0.1), "You et al. 2017, Algorithm 1"),
    "novograd:weight_decay=0.1": (partial(novograd, decay=0.1), "Ginsburg et al. 2019"),
    "sm3": (sm3, "Anil et al. 2019, SM3-II"),
    "adam_mini:weight_decay=0.1": (partial(adam_mini, decay=0.1), "Zhang et al. 2024"),
    "mars:weight_decay=0.1": (partial(mars, decay=0.1), "Yuan et al. 2024; the authors' code"),
    "mars:max_norm=0.01": (partial(mars, max_norm=0.01), "Yuan et al. 2024"),
    "fromage": (fromage, "Bernstein et al. 2020, Algorithm 1"),
    "sophia:weight_decay=0.1,update_interval=3": (
        partial(sophia, decay=0.1, interval=3),
        "Liu et al. 2023, Algorithm 3",
    ),
    "prodigy:weight_decay=0.1,estim_lr0=0.01": (
        partial(prodigy, decay=0.1),
        "Mishchenko and Defazio 2023; the authors' code",
    ),
    "dog:weight_decay=0.1,reps_rel=0.1": (partial(dog, decay=0.1), "Ivgi et al. 2023"),
    "schedule_free_sgd:weight_decay=0.1": (
        partial(schedule_free_sgd, decay=0.1),
        "Defazio et al. 2024, equations 3 to 5",
    ),
    "schedule_free_adamw:weight_decay=0.1": (
        partial(schedule_free_adamw, decay=0.1),
        "Defazio et al. 2024, Algorithm 1",
    ),
    "adopt": (adopt, "Taniguchi et al. 2024, with clipping"),
    "ademamix:weight_decay=0.1": (
        partial(ademamix, decay=0.1),
        "Pagliardini et al. 2024, Algorithm 1",
    ),
    "top_masked:sgd(share=0.1)": (partial(sgd_outliers, share=0.1), "Feng 2026"),
    "top_clipped:sgd(share=0.1)": (
        partial(sgd_outliers, share=0.1, what="clipped"),
        "Feng 2026",
    ),
    "top_only:sgd(share=0.1)": (partial(sgd_outliers, share=0.1, what="only"), "Feng 2026"),
    "by_factor:sgd(a=16)": (partial(by_factor, sgd, a=16.0), "Hayou et al. 2024"),
    "by_factor:adamw(a=0,b=2)": (partial(by_factor, adam, a=0.0, b=2.0), "Hayou et al. 2024"),
    "rotated:sgd(per_layer=true)": (partial(rotated, sgd), "Blank et al. 2026"),
    "rotated:adamw(per_layer=true)": (partial(rotated, adam), "Blank et al. 2026"),
    "adamw_masked": (adamw_masked, "Blank et al. 2026, their code"),
    "adamw_masked:zeroed=true,frozen=false": (
        partial(adamw_masked, frozen=False, zeroed=True),
        "Blank et al. 2026, their code",
    ),
    "frozen_map": (frozen_map, "Blank et al. 2026, their code"),
    "frozen_map:eps_in_root=false,b1=0.9": (partial(frozen_map, inside=False, b1=0.9), "variant"),
    "frozen_map:flat_rest=true": (partial(frozen_map, rest=True), "Blank et al. 2026, their code"),
    "frozen_map:flat_rest=true,zero_bottom=true": (
        partial(frozen_map, rest=True, bottom="zero"),
        "Blank et al. 2026, their code",
    ),
    "frozen_map:flat_rest=true,flat_bottom=true": (
        partial(frozen_map, rest=True, bottom="flat"),
        "Feng 2026",
    ),
    "living_map": (adam, "Feng 2026: Adam where the map is its own"),
}


@dataclass(frozen=True)
class Paired:
    """A rule of the two factors of each LoRA pair, and the rule of all other leaves."""

    pairs: Callable[..., Generator]
    rest: Callable[..., Rule]

    def start(self, params, contexts):
        """Takes the gradients of all leaves and the rate, and gives all new leaves."""
        pairs = {name: name.replace(".a.", ".b.") for name in params if ".a." in name}
        rules = {a: self.pairs([params[a], params[b].T]) for a, b in pairs.items()}
        others = params.keys() - pairs.keys() - set(pairs.values())
        rules |= {name: self.rest(params[name], contexts[name]) for name in others}
        for rule in rules.values():
            next(rule)
        g, rate = yield
        while True:
            new = {name: rules[name].send((g[name], rate)) for name in others}
            for a, b in pairs.items():
                factors = rules[a].send(([g[a], g[b].T], rate))
                new |= {a: factors[0], b: factors[1].T}
            g, rate = yield new


def run(text, rule, params, gradients, rates, contexts):
    """The leaves after each step: `params` and the entries of `gradients` are leaves by name."""
    if isinstance(rule, Paired):
        generator = rule.start(params, contexts)
        next(generator)
        return [generator.send(step) for step in zip(gradients, rates, strict=True)]
    if text.partition(":")[0] in WHOLE:
        cuts = np.cumsum([x.size for x in params.values()])[:-1]

        def join(leaves):
            return np.concatenate([leaves[name].ravel() for name in params])

        generator = rule(join(params), Context())
        next(generator)
        points = []
        for g, rate in zip(gradients, rates, strict=True):
            parts = np.split(generator.send((join(g), rate)), cuts)
            points.append(
                {n: y.reshape(x.shape) for (n, x), y in zip(params.items(), parts, strict=True)}
            )
        return points
    generators = {name: rule(x, contexts[name]) for name, x in params.items()}
    for generator in generators.values():
        next(generator)
    return [
        {name: generator.send((g[name], rate)) for name, generator in generators.items()}
        for g, rate in zip(gradients, rates, strict=True)
    ]
