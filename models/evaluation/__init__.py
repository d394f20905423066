"""Labels, splits, baselines, scores and calibration: how a forecast is judged."""
