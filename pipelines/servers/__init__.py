"""Processes and servers that a command starts or asks."""
