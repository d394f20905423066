"""Selling through auctions and signed orders: one order of the vault that others fill."""
