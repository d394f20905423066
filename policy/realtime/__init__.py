"""Decisions within the hour: what is looked at each block, and the reservation price it is held against."""
