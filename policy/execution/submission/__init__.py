"""Signing, gas bids, channels, and the node's answers."""
