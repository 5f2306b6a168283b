"""Subtle bugs, planted one at a time, that the tests of their room must catch: `make mutate`."""
