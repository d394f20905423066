"""Health of forecasts and models, logs and notifications."""
