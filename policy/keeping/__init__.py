"""Keeping vaults block by block: what is looked at, which orders wait for a price, when a decision cycle is run."""
