"""Pools, routes and calldata: how legs are filled and what that costs."""
