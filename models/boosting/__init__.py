"""Gradient boosting: training, tuning, and the compiled forest that evaluates it."""
