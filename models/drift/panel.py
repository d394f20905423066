"""The panel of the drift family: features of every asset and pair, and what came of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from features.bars import Bars, assets_with_prices, read_bars
from features.panel import Columns, flat, hours_between, stacked, whole_hour
from features.sentiment import signal_features
from features.volatility import LOOKBACK_H, deviation, moves, volatility_features
from features.windows import Rows, mean
from lake.units import DAY_S, HOUR_S
from lake.universe import STABLE
from models.base import DRIFT_HORIZONS_H, LakeView, label
from models.config import ModelConfig
from models.drift.covariance import pair_features
from models.drift.excursions import band_edges

Array = npt.NDArray[np.float64]

COVARIANCE_S = DAY_S
"""Horizon of covariance rows: a day, the time scale on which bands are left and gas is waited for."""


def panel_keys(lake: LakeView, cfg: ModelConfig) -> list[str]:
    """Return every asset with prices in the lake, and the basket's cash where it has none."""
    priced = assets_with_prices(lake, cfg.step_s, cfg.price_source)
    cash = [a for a in cfg.assets if a in STABLE and a not in priced] if priced else []
    return sorted([*priced, *cash])


def build_panel(
    lake: LakeView, cfg: ModelConfig, start: datetime, end: datetime, *, sentiment: bool = False, labelled: bool = True
) -> Columns:
    """Return the panel of ``models.base.Family.build``: asset rows every hour, pair rows (key A|B) every fourth.

    Asset rows carry the volatility features, pair rows past products and correlations. Labels: ``return``, ``drift``,
    ``band_exit``, ``covariance``, and for training ``size_ret`` / ``size_dev`` (mean absolute hourly move times the
    root of the horizon) and ``up`` / ``down`` (largest deviation to either side at the hours of the horizon).
    ``labelled`` false leaves them out, for a decision knows none.
    """
    start, end = whole_hour(start), whole_hour(end)
    beyond = max(DRIFT_HORIZONS_H) if labelled else 0
    bars = read_bars(
        lake, panel_keys(lake, cfg), start - timedelta(hours=LOOKBACK_H), end + timedelta(hours=beyond), cfg.step_s,
        cfg.price_source,
    )  # fmt: skip
    bars, cash = _with_cash(bars)
    ret, dev = moves(bars, cfg.targets)
    ret[:, cash] = np.nan  # a constant price has no volatility of its own; its weight still moves
    rows = np.arange(LOOKBACK_H, LOOKBACK_H + hours_between(start, end))
    columns = volatility_features(bars, ret, dev, rows)
    if labelled:
        columns |= _labels(bars, ret, dev, cfg, rows)
    priced = [k for k in range(len(bars.assets)) if not cash[k]]
    name = label("covariance", COVARIANCE_S) if labelled else None
    own, pairs = pair_features(
        ret[:, priced], [bars.assets[k] for k in priced], bars, rows, COVARIANCE_S // HOUR_S, name
    )
    for product, values in own.items():
        spread = np.full((len(rows), len(bars.assets)), np.nan)
        spread[:, priced] = values
        columns[product] = spread
    known = np.isfinite(bars.close[rows]) & (np.isfinite(columns["ret_base"]) | np.isfinite(columns["dev_base"]))
    panel = stacked(flat(bars.assets, bars.times(rows), columns).filter(known.ravel()), pairs)
    if not sentiment and not labelled:  # one decision time: assets before pairs is order enough
        return panel
    frame = panel.frame()
    if sentiment:
        frame = frame.join(signal_features(lake, start, end), on="ts", how="left", maintain_order="left")
    return Columns.of(frame.sort("ts", "key"))


def every(panel: pl.DataFrame, hours: int) -> pl.DataFrame:
    """Return every ``hours``-th row in time, at other hours of the day each day, so that none is left out for good."""
    hour = pl.col("ts").dt.epoch("s") // HOUR_S
    return panel.filter((hour + hour // 24) % hours == 0)


def _with_cash(bars: Bars) -> tuple[Bars, npt.NDArray[np.bool_]]:
    """Return the bars with a price of 1 for cash that has none, and which assets (k,) that is."""
    cash = np.array([a in STABLE for a in bars.assets], dtype=bool) & ~np.isfinite(bars.close).any(axis=0)
    if not cash.any():
        return bars, cash
    return replace(bars, close=np.where(cash, 1.0, bars.close), fresh=bars.fresh | cash), cash


def _labels(bars: Bars, ret: Array, dev: Array, cfg: ModelConfig, rows: Rows) -> dict[str, Array]:
    """Return the labels (n, k) at ``rows``; the arrays reach a day beyond the last of them."""
    longest = max(DRIFT_HORIZONS_H)
    log, now = np.log(bars.close), np.log(bars.close[rows])
    ends = [log[rows + h] - now for h in range(1, longest + 1)]
    path = np.stack([deviation(end, bars.assets, cfg.targets) for end in ends])  # (24, n, k)
    last = np.arange(len(ret))
    up_edge, down_edge = _edges(bars.assets, cfg)
    found: dict[str, Array] = {}
    for h in DRIFT_HORIZONS_H:
        seconds = h * HOUR_S
        both = bars.fresh[rows] & bars.fresh[rows + h]
        within = path[:h]
        up, down = (_largest(x) for x in (within, -within))
        known = both & np.isfinite(path[h - 1])
        left = ((up > up_edge) | (down > down_edge)).astype(np.float64)
        found[label("return", seconds)] = np.where(both & np.isfinite(ret[rows]), ends[h - 1], np.nan)
        found[label("drift", seconds)] = np.where(known, path[h - 1], np.nan)
        for name, values in (("band_exit", left), ("up", up), ("down", down)):
            found[label(name, seconds)] = np.where(known, values, np.nan)
        for name, x in (("ret", ret), ("dev", dev)):
            found[label(f"size_{name}", seconds)] = mean(np.abs(x), last, h, h)[rows + h] * np.sqrt(h)
    return found


def _largest(path: Array) -> Array:
    """Return the largest known value over the first axis, NaN where none is."""
    low = np.max(np.where(np.isfinite(path), path, -np.inf), axis=0)
    return np.where(np.isfinite(low), low, np.nan)


def _edges(assets: tuple[str, ...], cfg: ModelConfig) -> tuple[Array, Array]:
    """Return how far up and down each asset's weight may move (k,); NaN outside of the basket."""
    target = np.array([cfg.targets.get(a, np.nan) for a in assets], dtype=np.float64)
    return band_edges(target, np.array([cfg.tolerance.get(a, np.nan) for a in assets], dtype=np.float64))
