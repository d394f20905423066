"""The Safe: adapter and history."""
