"""Closed forms, the dynamic programme and the projection onto a trade."""
