"""A Lagoon v0.5 vault: adapter, requests of its holders, valuation and settlement."""
