"""Shapes of a curve over the share of teacher rows: a slope, something gradual, a sharp threshold.

A family is a set of shapes [members, shares]. Each vector's curve is an amplitude of its own times
a shape that all vectors share: the shape is chosen on the other vectors, the amplitude fitted to
the vector itself, so that families are compared by what they say of the form alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LEAST_VECTORS = 3  # of which one is left out
# Widths of logistics. Of a threshold: from 10% to 90% of the effect within 22 points of the share.
WIDEST = 0.05
BROAD = (0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Family:
    """Shapes of one kind.

    Attributes:
      parameters: of each member, by name.
      values: of each member, at each share.
    """

    parameters: Mapping[str, Float[np.ndarray, " members"]]
    values: Float[np.ndarray, "members shares"]

    def explain(
        self, curves: Float[np.ndarray, "vectors shares"]
    ) -> Float[np.ndarray, "vectors members"]:
        """What is explained of each curve's sum of squares by each member, at the best amplitude;
        a member that is zero at every share explains nothing."""
        squares = np.sum(self.values**2, axis=1)
        return (curves @ self.values.T) ** 2 / np.where(squares == 0, 1.0, squares)

    def fit(self, curves: Float[np.ndarray, "vectors shares"]) -> dict[str, float]:
        """The parameters of the member that explains most of all curves together."""
        best = int(self.explain(curves).sum(axis=0).argmax())
        return {name: float(values[best]) for name, values in self.parameters.items()}

    def leave_one_out(
        self, curves: Float[np.ndarray, "vectors shares"]
    ) -> Float[np.ndarray, " vectors"]:
        """Each curve's sum of squared errors about the member that the other curves chose."""
        explained = self.explain(curves)
        others = explained.sum(axis=0) - explained
        chosen = others.argmax(axis=1)
        left = np.sum(curves**2, axis=1) - explained[np.arange(len(curves)), chosen]
        return np.maximum(left, 0.0)


def make_families(shares: Float[np.ndarray, " shares"]) -> dict[str, Family]:
    """The families that are compared, at these shares s above 0, ascending.

    Gradual: "linear", s; "power", s to a power of 0.1 to 4; "saturating", 1 - exp(-s / scale);
    "sigmoid", a logistic of a width of 0.1 or more (from 10% to 90% within at least 44 points).
    "threshold": a logistic whose midpoint is no lower than the least share and whose width is at
    most `WIDEST` and a quarter of the midpoint, so that below it there is next to nothing and the
    transition is sharp. Logistics are taken less their value at 0.
    """
    powers, scales = np.geomspace(0.1, 4.0, 75), np.geomspace(shares[0] / 4, 1.0, 60)
    middles = np.geomspace(shares[0], 0.9, 60)
    centre, width = (x.ravel() for x in np.meshgrid(np.linspace(0, 0.9, 19), BROAD))
    middle, part = (x.ravel() for x in np.meshgrid(middles, [4.0, 8.0, 16.0]))
    return {
        "linear": Family({}, shares[None]),
        "power": Family({"power": powers}, shares[None] ** powers[:, None]),
        "saturating": Family({"scale": scales}, 1 - np.exp(-shares[None] / scales[:, None])),
        "sigmoid": _make_logistic(centre, width, shares),
        "threshold": _make_logistic(middle, np.minimum(middle / part, WIDEST), shares),
    }


def _make_logistic(
    middle: Float[np.ndarray, " members"],
    width: Float[np.ndarray, " members"],
    shares: Float[np.ndarray, " shares"],
) -> Family:
    def logistic(share: Float[np.ndarray, " shares"]) -> Float[np.ndarray, "members shares"]:
        return 1 / (1 + np.exp(np.minimum((middle[:, None] - share) / width[:, None], 60)))

    return Family({"share": middle, "width": width}, logistic(shares) - logistic(np.zeros(1)))


def measure_sharpness(
    errors: Mapping[str, Float[np.ndarray, " vectors"]],
) -> Float[np.ndarray, " vectors"]:
    """By how much each vector's error about a gradual shape exceeds that about a threshold; of the
    gradual families the one that does best over all vectors."""
    gradual = [error for name, error in errors.items() if name != "threshold"]
    return min(gradual, key=lambda error: float(error.sum())) - errors["threshold"]
