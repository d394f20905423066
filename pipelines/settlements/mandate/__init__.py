"""The evidence for a mandate over a period: what was recorded, what the chain says, and where the two differ."""
