"""Contracts that only a local market has."""
