"""Histories, panels and the simulator that runs a policy through them."""
