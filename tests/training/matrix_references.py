"""Rules for whole matrices and for LoRA pairs, written anew from their papers (see
`optimizer_references`): a rule of one matrix takes its gradients, a rule of a pair both."""

import math
from functools import partial
from itertools import count

import numpy as np

from tests.training.optimizer_references import Paired, Rule, adam, norm


def is_matrix(x, context):
    """Whether it is a hidden projection, or a factor of one."""
    return x.ndim == 2 and context.name != "embed"


def matrix_rule(step):
    """A rule of matrices, with AdamW for what is none."""

    def rule(x, context, decay=0.0, **hyper) -> Rule:
        if not is_matrix(x, context):
            yield from adam(x, context, decay=decay)
        rule_of_x = step(x, context, **hyper)
        next(rule_of_x)
        while True:
            g, rate = yield x
            x = x - rate * (rule_of_x.send(g) + decay * x)

    return rule


def root(x, exponent):
    """A power of a matrix that is positive semidefinite, with the package's ridge."""
    values, vectors = np.linalg.eigh(x + 1e-6 * norm(x) * np.eye(len(x)))
    return vectors * values**exponent @ vectors.T


def adam_sized(u):
    return 0.2 * math.sqrt(max(u.shape)) * u


def polar(x):
    u, _, v = np.linalg.svd(x, full_matrices=False)
    return u @ v


def newton_schulz(u, steps=5):
    u = u / norm(u)
    for _ in range(steps):
        left = u @ u.T
        u = 3.4445 * u - 4.7750 * left @ u + 2.0315 * left @ left @ u
    return u


@matrix_rule
def muon(x, context, momentum=0.95, rms=0.2):
    buffer, u = 0 * x, None
    inputs, outputs = x.shape
    scale = rms * math.sqrt(max(x.shape)) if rms else math.sqrt(max(1, outputs / inputs))
    while True:
        g = yield u
        buffer = momentum * buffer + (1 - momentum) * g
        u = scale * newton_schulz((1 - momentum) * g + momentum * buffer)


@matrix_rule
def shampoo(x, context, max_dim=10_000):
    grams, u = [np.zeros((n, n)) for n in x.shape], None
    sides = [n <= max_dim for n in x.shape]
    exponent = -1 / (2 * sum(sides))
    while True:
        g = yield u
        grams = [grams[0] + g @ g.T, grams[1] + g.T @ g]
        left, right = (
            root(gram, exponent) if side else np.eye(len(gram))
            for gram, side in zip(grams, sides, strict=True)
        )
        u = adam_sized(left @ g @ right)


@matrix_rule
def soap(x, context, b=0.95, frequency=10, max_dim=10_000, eps=1e-8):
    sides = [n <= max_dim for n in x.shape]

    def grams(g):
        return [g @ g.T, g.T @ g]

    def iterate(mean, basis):
        return np.linalg.qr(mean @ basis + 1e-3 * norm(mean) * basis)[0]

    def turn(g):
        return left.T @ g @ right

    g = yield None
    means = [(1 - b) * gram for gram in grams(g)]
    left, right = map(np.eye, x.shape)
    for _ in range(10):
        bases = []
        for mean, basis, side in zip(means, (left, right), sides, strict=True):
            basis = basis[:, np.argsort(-np.diag(basis.T @ mean @ basis))]
            bases.append(iterate(mean, basis) if side else np.eye(len(mean)))
        left, right = bases
    M, V, u = 0 * x, 0 * x, 0 * x
    for t in count(1):
        g = yield u
        M, V = b * M + (1 - b) * g, b * V + (1 - b) * turn(g) ** 2
        u = left @ (turn(M) / (1 - b**t) / (np.sqrt(V / (1 - b**t)) + eps)) @ right.T
        means = [b * mean + (1 - b) * gram for mean, gram in zip(means, grams(g), strict=True)]
        if t % frequency == 0:
            bases = [left, right]
            for axis in (0, 1):
                mean, basis = means[axis], bases[axis]
                if sides[axis]:
                    order = np.argsort(-np.diag(basis.T @ mean @ basis))
                    V = np.take(V, order, axis)
                    bases[axis] = iterate(mean, basis[:, order])
            left, right = bases


def lower_bound(x):
    """Of the largest singular value of a symmetric matrix, as in the authors' code."""
    scaled = x / np.abs(x).max()
    column = scaled[:, np.argmax(np.sum(scaled**2, axis=0))]
    y = column @ scaled
    return np.abs(x).max() * norm(y / norm(y) @ scaled)


@matrix_rule
def kron(x, context, b1=0.9, factor_rate=0.1, max_rms=1.1):
    m, factors, u = 0 * x, None, None
    for t in count(1):
        g = yield u
        m = b1 * m + (1 - b1) * g
        corrected = m / (1 - b1**t)
        if factors is None:
            scale = np.mean(corrected**4) ** (-1 / 16)
            factors = [scale * np.eye(n) for n in x.shape]
        left, right = factors
        A = left @ corrected @ right.T
        B = np.linalg.inv(left).T @ context.probes[t - 1] @ np.linalg.inv(right)
        moved = []
        for q, one, two in ((left, A @ A.T, B @ B.T), (right, A.T @ A, B.T @ B)):
            moved.append(q - factor_rate / lower_bound(one + two) * np.triu(one - two) @ q)
        left, right = factors = moved
        u = left.T @ left @ corrected @ right.T @ right
        u = u * min(1, max_rms / np.sqrt(np.mean(u * u)))


@matrix_rule
def galore(x, context, rank=4, frequency=200, scale=0.25, b1=0.9, b2=0.999, eps=1e-8):
    basis = M = V = u = None
    for t in count(1):
        g = yield u
        tall = g if len(g) >= g.shape[1] else g.T
        if (t - 1) % frequency == 0:
            new = np.linalg.svd(tall)[2][:rank].T
            if basis is None:
                basis = np.eye(*new.shape)
            basis = new * np.where(np.sum(new * basis, axis=0) < 0, -1, 1)
        low = tall @ basis
        M = (0 if M is None else b1 * M) + (1 - b1) * low
        V = (0 if V is None else b2 * V) + (1 - b2) * low**2
        u = scale * M / (1 - b1**t) / (np.sqrt(V / (1 - b2**t)) + eps) @ basis.T
        u = u if len(g) >= g.shape[1] else u.T


@matrix_rule
def dion(x, context, rank=1, momentum=0.95):
    M, Q, u = 0 * x, np.eye(x.shape[1], rank), None
    while True:
        g = yield u
        B = M + g
        P = np.linalg.qr(B @ Q)[0]
        R = B.T @ P
        M = B - (1 - momentum) * P @ R.T
        Q = R / np.sqrt(np.sum(R * R, axis=0))
        u = adam_sized(P @ Q.T)


def scion(x, context, momentum=0.9, radius=50.0, table_radius=3000.0, constrained=False) -> Rule:
    d = 0 * x
    while True:
        g, rate = yield x
        d = momentum * d + (1 - momentum) * g
        if context.name == "embed":
            point = table_radius / x.shape[1] * np.sign(d)
        elif is_matrix(x, context):
            rows, columns = x.shape
            point = radius * math.sqrt(columns / rows) * newton_schulz(d)
        else:
            point = d / np.sqrt(np.mean(d * d))
        x = (1 - rate if constrained else 1) * x - rate * point


# -- LoRA pairs: generators of both factors, each [side, rank] -------------------------------------


def lora_muon(factors, momentum=0.95, decay=0.0):
    means = [0 * x for x in factors]
    while True:
        gradients, rate = yield factors
        means = [momentum * m + (1 - momentum) * g for m, g in zip(means, gradients, strict=True)]
        s = math.sqrt(1 - rate * decay)
        new = []
        for i in (0, 1):
            other = factors[1 - i]
            white = (
                root(other.T @ other, -1 / 2) if other.any() else np.zeros((other.shape[1],) * 2)
            )
            step = -rate / 2 * polar(means[i] @ white) @ white
            new.append(s * factors[i] + step / s)
        factors = new


def lora_rite(factors, b1=0.9, b2=0.999, decay=0.0):
    rank = factors[0].shape[1]
    M = [0 * x for x in factors]
    V = [np.zeros((rank, rank))] * 2
    bases = [0 * factors[1], 0 * factors[0]]
    for t in count(1):
        gradients, rate = yield factors
        keep1, keep2 = (b * (1 - b ** (t - 1)) / (1 - b**t) for b in (b1, b2))
        new = []
        for i in (0, 1):
            basis, size = np.linalg.qr(factors[1 - i])
            inverse = np.linalg.pinv(size)
            P, bases[i] = basis.T @ bases[i], basis
            g = gradients[i] @ inverse
            V[i] = keep2 * P @ V[i] @ P.T + (1 - keep2) * g.T @ g / len(g)
            scaled = g @ root(V[i], -1 / 2) if g.any() else g
            M[i] = keep1 * M[i] @ P.T + (1 - keep1) * scaled
            new.append(factors[i] - rate * (M[i] @ inverse.T + decay * factors[i]))
        factors = new


# As `optimizer_references.REFERENCES`.
MATRIX_REFERENCES = {
    "muon:weight_decay=0.1": (partial(muon, decay=0.1), "Jordan 2024; Liu et al. 2025"),
    "muon:consistent_rms=0": (partial(muon, rms=0.0), "Jordan 2024; torch.optim.Muon"),
    "scion": (scion, "Pethick et al. 2025, Algorithm 1"),
    "scion:constrained=true,radius=2": (
        partial(scion, constrained=True, radius=2.0),
        "Pethick et al. 2025, Algorithm 2",
    ),
    "shampoo:weight_decay=0.1": (partial(shampoo, decay=0.1), "Gupta et al. 2018, Algorithm 1"),
    "shampoo:max_dim=3": (partial(shampoo, max_dim=3), "variant"),
    "soap:max_dim=3,weight_decay=0.1": (
        partial(soap, max_dim=3, decay=0.1),
        "Vyas et al. 2024, Algorithm 3",
    ),
    "soap:frequency=3": (partial(soap, frequency=3), "Vyas et al. 2024; the authors' code"),
    "soap:max_dim=3,frequency=2": (
        partial(soap, max_dim=3, frequency=2),
        "Vyas et al. 2024; the authors' code",
    ),
    "kron:weight_decay=0.1": (partial(kron, decay=0.1), "Li; the authors' code"),
    "galore:weight_decay=0.1": (partial(galore, decay=0.1), "Zhao et al. 2024, Algorithm 2"),
    "galore:rank=1,frequency=3": (partial(galore, rank=1, frequency=3), "Zhao et al. 2024"),
    "dion:weight_decay=0.1": (partial(dion, decay=0.1), "Ahn et al. 2025, Algorithm 1"),
    "lora_muon:weight_decay=0.1": (
        Paired(partial(lora_muon, decay=0.1), partial(muon, decay=0.1)),
        "Cesista et al. 2026",
    ),
    "lora_rite:weight_decay=0.1": (
        Paired(partial(lora_rite, decay=0.1), partial(adam, decay=0.1)),
        "Yen et al. 2024; the authors' code",
    ),
}
