"""Steering vectors: how they are made, measured and kept. The edit itself is part of the models."""

from subliminal_jax.models.steered import Operation, Steering, no_steering, steer

__all__ = ["Operation", "Steering", "no_steering", "steer"]
