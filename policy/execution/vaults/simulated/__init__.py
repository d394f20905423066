"""The simulated vault over an in-memory chain."""
