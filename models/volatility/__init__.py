"""Forecasts of realised and implied volatility, scored against what costs nothing."""
