"""Sub-commands that are tools rather than studies."""
