"""Scores of responses under a system prompt."""

from subliminal_jax.selection.log_probs import response_log_probs

__all__ = ["response_log_probs"]
