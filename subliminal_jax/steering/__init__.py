"""Steering vectors: making, measuring and storing them. The edit itself is in `models.steered`."""

from subliminal_jax.models.steered import Operation, Steering, no_steering, steer

__all__ = ["Operation", "Steering", "no_steering", "steer"]
