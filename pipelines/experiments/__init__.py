"""MLflow: runs of comparisons, models and their lifecycle, the saved view, the user interface."""
