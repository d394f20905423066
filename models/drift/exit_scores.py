"""How well band exits are forecast, at bands that are left often enough to tell.

A band of 5 % is hardly ever left within hours, and a score over a handful of exits measures nothing. So each fold takes
the tolerance that every asset left, within the horizon, in SHARE of the hours of its past year.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl

from lake.units import HOUR_S
from models.arrays import column
from models.base import DRIFT_HORIZONS_H, label
from models.config import ModelConfig
from models.drift.baselines import drift_baselines
from models.drift.excursions import band_edges
from models.drift.fitted import DriftFitted

SHARE = 0.1
"""Share of past hours in which the band is left: rare enough to be a risk, common enough to be counted."""

PAST_DAYS = 365


def measurable(known: pl.DataFrame, cfg: ModelConfig, horizon_h: int) -> dict[str, float]:
    """Return the tolerance by asset that the last year of ``known`` left in SHARE of its hours."""
    last = known["ts"].max()
    largest = pl.max_horizontal(label("up", horizon_h * HOUR_S), label("down", horizon_h * HOUR_S))
    reach = (
        known.filter(pl.col("ts") > pl.lit(last) - timedelta(days=PAST_DAYS))
        .group_by("key")
        .agg(largest.drop_nulls().quantile(1.0 - SHARE, "linear").alias("reach"))
        .drop_nulls()
    )
    found = dict(reach.iter_rows())
    return {a: cfg.targets[a] * float(np.expm1(found[a])) for a in cfg.assets if a in found}


def exit_rows(model: DriftFitted, known: pl.DataFrame, ahead: pl.DataFrame, cfg: ModelConfig) -> pl.DataFrame:
    """Return (key, issued_at, horizon_h, tolerance, y, model, <baselines>): probabilities at the measurable bands.

    ``known`` and ``ahead`` are the asset rows of one fold; ``y`` is 1 where the band was left, rows without outcome are
    left out. The baselines are fitted on ``known`` with the same bands.
    """
    parts = []
    for h in DRIFT_HORIZONS_H:
        tolerance = measurable(known, cfg, h)
        if set(tolerance) != set(cfg.assets):
            continue
        here = replace(cfg, tolerance=tolerance)
        past, rows = (_with_exits(frame, here, h) for frame in (known, ahead))
        chances = {"model": model.with_tolerance(tolerance).predict(rows)}
        chances |= {name: b.fit(past).predict(rows) for name, b in drift_baselines(here).items()}
        wide = rows.select("key", pl.col("ts").alias("issued_at"), pl.col(label("band_exit", h * HOUR_S)).alias("y"))
        for name, found in chances.items():
            own = found.filter((pl.col("target") == "band_exit") & (pl.col("horizon_s") == h * HOUR_S))
            own = own.select("key", "issued_at", pl.col("mean").alias(name))
            wide = wide.join(own, on=["key", "issued_at"], how="inner", maintain_order="left")
        limits = pl.col("key").replace_strict(tolerance, default=None, return_dtype=pl.Float64)
        parts.append(wide.drop_nulls().with_columns(pl.lit(h, pl.Int64).alias("horizon_h"), limits.alias("tolerance")))
    return pl.concat(parts) if parts else pl.DataFrame()


def _with_exits(frame: pl.DataFrame, cfg: ModelConfig, horizon_h: int) -> pl.DataFrame:
    """Return the basket's rows of ``frame`` with the label of band exits at the tolerances of ``cfg``."""
    rows = frame.filter(pl.col("key").is_in(list(cfg.assets)))
    keys = rows["key"].to_list()
    target = np.array([cfg.targets[k] for k in keys], dtype=np.float64)
    up, down = band_edges(target, np.array([cfg.tolerance[k] for k in keys], dtype=np.float64))
    seconds = horizon_h * HOUR_S
    highest, lowest = column(rows, label("up", seconds)), column(rows, label("down", seconds))
    left = np.where(np.isfinite(highest), ((highest > up) | (lowest > down)).astype(np.float64), np.nan)
    return rows.with_columns(pl.Series(label("band_exit", seconds), left, nan_to_null=True))
