"""From settings to a vault: adapter, decider, context of the engine."""
