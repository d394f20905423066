"""The demonstration market: demo, and the local chain with a vault on it."""
