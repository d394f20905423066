"""Vault adapters, a folder a kind."""
