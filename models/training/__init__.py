"""The walk-forward driver and the ablation."""
