"""What modifies a rule, written anew (see `optimizer_references`), over rules that do not look at
their parameters: what such a rule moves by is the same wherever the leaf is."""

from functools import partial

import numpy as np

from tests.training.optimizer_references import Paired, Rule, adam, norm, sgd

momentum = partial(sgd, momentum=0.9)


def moves(rule, x, context):
    """Takes (gradient, rate) and gives what the rule adds to a leaf."""
    inner, u = rule(x, context), None
    before = next(inner)
    while True:
        step = yield u
        after = inner.send(step)
        u, before = after - before, after


def modify(rule, x, context, gradient=lambda g, x: g, update=lambda u, g, x: u) -> Rule:
    steps = moves(rule, x, context)
    next(steps)
    while True:
        g, rate = yield x
        x = x + update(steps.send((gradient(g, x), rate)), g, x)


def rows(x, context):
    return -1 if x.ndim == 1 or context.name == "embed" else 0


def length(x, context):
    return np.sqrt(np.sum(x * x, axis=rows(x, context), keepdims=True))


def cautious(rule, x, context) -> Rule:
    def update(u, g, x):
        mask = u * g < 0
        return u * mask * mask.size / (mask.sum() + 1)

    yield from modify(rule, x, context, update=update)


def lookahead(rule, x, context, every=5, share=0.5) -> Rule:
    steps, slow, t = moves(rule, x, context), x, 0
    next(steps)
    while True:
        g, rate = yield x
        x, t = x + steps.send((g, rate)), t + 1
        if t % every == 0:
            x = slow = slow + share * (x - slow)


def clip_adaptive(rule, x, context, ratio=0.01, floor=1e-3) -> Rule:
    def gradient(g, x):
        limit = ratio * np.maximum(length(x, context), floor)
        size = length(g, context)
        return np.where(size > limit, limit / size, 1) * g

    yield from modify(rule, x, context, gradient)


def centralized(rule, x, context) -> Rule:
    def gradient(g, x):
        return g if x.ndim == 1 or context.name == "embed" else g - g.mean(axis=0)

    yield from modify(rule, x, context, gradient)


def clip_norm(rule, x, context, limit) -> Rule:
    yield from modify(rule, x, context, lambda g, x: g / max(norm(g) / limit, 1))


def clip_value(rule, x, context, limit) -> Rule:
    yield from modify(rule, x, context, lambda g, x: np.clip(g, -limit, limit))


def normalized(rule, x, context) -> Rule:
    yield from modify(rule, x, context, lambda g, x: g / norm(g))


def decayed(rule, x, context, l2=0.0, apart=0.0, to_start=0.0) -> Rule:
    start = x
    yield from modify(
        rule,
        x,
        context,
        lambda g, x: g + l2 * x + to_start * (x - start),
        lambda u, g, x: u - apart * x,
    )


def flattened(factors, weight):
    """Of both factors of a LoRA pair, each [side, rank]."""
    rules = [momentum(x, None) for x in factors]
    for rule in rules:
        next(rule)
    while True:
        gradients, rate = yield factors
        a, b = factors
        u, s, v = np.linalg.svd(a @ b.T, full_matrices=False)
        if s.any():
            change = u * (4 * s**3 / np.sum(s**4) - 4 * s / np.sum(s**2)) @ v
            penalty = change @ b, change.T @ a
            gradients = [g + weight * p for g, p in zip(gradients, penalty, strict=True)]
        factors = [rule.send((g, rate)) for rule, g in zip(rules, gradients, strict=True)]


# As `optimizer_references.REFERENCES`.
MODIFIER_REFERENCES = {
    "cautious:adam": (partial(cautious, adam), "Liang et al. 2024, Algorithm 2"),
    "lookahead:momentum(every=3,share=0.4)": (
        partial(lookahead, momentum, every=3, share=0.4),
        "Zhang et al. 2019, Algorithm 1",
    ),
    "clip_adaptive:momentum(floor=0.1)": (
        partial(clip_adaptive, momentum, floor=0.1),
        "Brock et al. 2021, equation 3",
    ),
    "centralized:adam": (partial(centralized, adam), "Yong et al. 2020, equation 1"),
    "clip_norm:momentum(norm=0.01)": (partial(clip_norm, momentum, limit=0.01), "Pascanu 2012"),
    "clip_value:momentum(limit=0.01)": (partial(clip_value, momentum, limit=0.01), "-"),
    "normalized:momentum": (partial(normalized, momentum), "Hazan et al. 2015"),
    "normalized_per_tensor:adam": (partial(normalized, adam), "You et al. 2017"),
    "l2:adam(weight=0.1)": (partial(decayed, adam, l2=0.1), "Krogh and Hertz 1991"),
    "decay_apart:adam(weight=0.02)": (
        partial(decayed, adam, apart=0.02),
        "Loshchilov and Hutter 2017, Algorithm 2",
    ),
    "pull_to_start:momentum(weight=0.1)": (
        partial(decayed, momentum, to_start=0.1),
        "Li et al. 2018",
    ),
    "flattened:momentum(weight=0.0001)": (
        Paired(partial(flattened, weight=1e-4), momentum),
        "Brown et al. 2026, in a form of our own",
    ),
    "l2:centralized:cautious:adam(weight=0.1)": (
        partial(decayed, partial(centralized, partial(cautious, adam)), l2=0.1),
        "one after another",
    ),
}
