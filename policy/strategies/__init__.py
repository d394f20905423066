"""The policies and what they decide from."""
