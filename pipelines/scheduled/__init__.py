"""What runs on a schedule: flows, the serving process, metrics."""
