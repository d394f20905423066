"""The reference vault: creation, state, logs, adapter."""
