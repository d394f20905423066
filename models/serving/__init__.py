"""Issuing forecasts live: models in force, novelty of their inputs, trust."""
