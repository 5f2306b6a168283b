"""What a student says and prefers, and how sure one can be of it."""
