"""Names and levels of a forecast row: what families, scores and the store agree on."""

from __future__ import annotations

QUANTILES: tuple[float, ...] = (0.05, 0.25, 0.50, 0.75, 0.95)
QUANTILE_COLUMNS: tuple[str, ...] = ("q05", "q25", "q50", "q75", "q95")
FORECAST_COLUMNS: tuple[str, ...] = (
    "target", "key", "issued_at", "horizon_s", *QUANTILE_COLUMNS, "mean", "model_version", "abstain", "reason",
)  # fmt: skip
