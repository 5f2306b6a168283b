"""Subliminal learning in JAX: steering vectors, students, and the mechanics of optimizers."""
