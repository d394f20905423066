"""What became of plans: executions in the lake and in MLflow."""
