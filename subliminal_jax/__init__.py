"""Subliminal learning in JAX: steering vectors, students, and the mechanics of optimizers."""

__version__ = "0.1.0"
