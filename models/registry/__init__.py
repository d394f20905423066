"""Champions and challengers in MLflow, and the evidence a promotion needs."""
