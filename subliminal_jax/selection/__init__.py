"""Selecting training data: scores of responses under system prompts, and the rows they choose."""
