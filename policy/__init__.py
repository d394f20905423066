"""Policies and the one cost ledger that judges them; reads tables, never features or models."""
