"""Transfers between our own vaults: the saga, its write-ahead journal, value counted once, refusals and limits."""
