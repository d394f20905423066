"""Bridges: one adapter a file, all read-only but for the calldata of a delivery."""
