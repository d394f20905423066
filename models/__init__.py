"""Forecasters: labels, splits, baselines, gradient boosting, calibration, scores and the model life cycle."""
