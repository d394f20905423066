"""What hindsight could have made of the same volatility features: a ceiling for drift forecasts on a stretch of time.

The log-linear volatility model is fitted on the very rows it is judged on, and so are the quantiles of each asset's
standardised moves. No forecaster has either; where even this does not reach a figure, features of past prices do not
hold it on that stretch. With dozens of coefficients and few independent days it is too generous at long horizons.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from features.panel import Columns
from lake.errors import NotEnoughData
from lake.units import HOUR_S
from models.base import DRIFT_HORIZONS_H, label
from models.boosting.scale_model import MIN_ROWS, design, fit_linear
from models.drift.family import scale_features
from models.forecast_rows import RowBuffer
from models.forecast_schema import QUANTILES


def hindsight_rows(panel: pl.DataFrame) -> pl.DataFrame:
    """Return rows of target drift over the rows of ``panel`` that have outcomes; raises NotEnoughData without any."""
    found = RowBuffer("hindsight")
    for h in DRIFT_HORIZONS_H:
        size, y = label("size_dev", h * HOUR_S), label("drift", h * HOUR_S)
        rows = panel.filter(pl.all_horizontal(pl.col(size, y, "dev_base").is_not_null()))
        if rows.height < MIN_ROWS:
            continue
        inputs = Columns.of(rows)
        base = inputs.column("dev_base")
        linear = fit_linear(inputs.matrix(scale_features("dev", h)), inputs.column(size), base)
        scale = np.exp(base + design(inputs.matrix(scale_features("dev", h)), linear.mean, linear.sd) @ linear.beta)
        quantiles = np.empty((rows.height, len(QUANTILES)))
        keys = inputs.key
        for key in np.unique(keys):
            own = keys == key
            quantiles[own] = scale[own, None] * np.quantile(inputs.column(y)[own] / scale[own], QUANTILES)
        found.add(keys, inputs.ts, "drift", h * HOUR_S, np.zeros(rows.height), quantiles)
    frame = found.forecasts().frame()
    if frame.is_empty():
        raise NotEnoughData("no known outcomes of drift to look back on")
    return frame
