"""Covariance forecasts in decisions: a history whose covariances are moved towards those issued by each day's start."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl

from lake.store import Lake
from lake.units import DAY_S, HOUR_S
from policy.base import Matrix
from policy.simulation.history import History, positive

SHARE = 0.5  # of the way to the forecast: it speaks of the next day, a deviation lives for several
LIFE = timedelta(hours=26)  # of a row of correlations, which are issued once a day


def with_forecasts(history: History, lake: Lake) -> History:
    """Return ``history`` with its daily covariances moved SHARE of the way to the 24-hour forecasts of the lake.

    A day without fresh forecasts of every pair keeps its own. Day d takes rows issued by its first step, so nothing
    depends on what comes after.
    """
    days = len(history.covariance)
    begin = np.minimum(np.searchsorted(history.day, np.arange(days)), len(history.ts) - 1)
    said = forecasts(history, lake, [history.ts[step] for step in begin])
    out = history.covariance.copy()
    for d in np.flatnonzero(np.isfinite(said).all(axis=(1, 2))):
        out[d] = positive((1.0 - SHARE) * out[d] + SHARE * said[d])
    return replace(history, covariance=out)


def forecasts(history: History, lake: Lake, moments: list[np.int64]) -> Matrix:
    """Return (D, A, A) covariances an hour, of the newest rows issued by each of ``moments`` (us); NaN without one."""
    assets = history.assets
    at = pl.from_epoch(pl.Series(moments), time_unit="us").dt.replace_time_zone("UTC")
    rows = (
        lake.scan("forecasts")
        .filter((pl.col("target") == "covariance") & (pl.col("horizon_s") == DAY_S) & ~pl.col("abstain"))
        .filter(pl.col("available_at").is_between(at[0] - LIFE, at[-1]))
        .select("available_at", "key", "mean")
        .sort("available_at")
        .collect()
    )
    grid = pl.DataFrame({"t": at})
    out = np.full((len(moments), len(assets), len(assets)), np.nan)
    for i, a in enumerate(assets):
        for j, b in enumerate(assets[: i + 1]):
            own = rows.filter(pl.col("key") == "|".join(sorted((a, b))))
            joined = grid.join_asof(own, left_on="t", right_on="available_at", tolerance=LIFE, check_sortedness=False)
            out[:, i, j] = out[:, j, i] = joined["mean"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return out


assert LIFE.total_seconds() > DAY_S + HOUR_S  # a day's row is still fresh when the next day begins
