"""The panel of the drift family: features of every asset and pair, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from features.sentiment import signal_features
from features.volatility import (
    LOOKBACK_H,
    add_moves,
    assets_with_prices,
    deviation,
    hourly_bars,
    volatility_features,
)
from lake.units import DAY_S, HOUR_S
from lake.universe import STABLE
from models.base import DRIFT_HORIZONS_H, LakeView, label
from models.config import ModelConfig
from models.covariance import pair_features
from models.exit import band_edges

COVARIANCE_S = DAY_S
"""Horizon of covariance rows: a day, the time scale on which bands are left and gas is waited for."""


def basket(cfg: ModelConfig) -> dict[str, float]:
    """Return the configured basket: its assets' target weights."""
    return dict(cfg.targets)


def panel_keys(lake: LakeView, cfg: ModelConfig) -> list[str]:
    """Return every asset with prices in the lake, and the basket's cash where it has none."""
    priced = assets_with_prices(lake, cfg.step_s, cfg.price_source)
    cash = [a for a in cfg.assets if a in STABLE and a not in priced] if priced else []
    return sorted([*priced, *cash])


def build_panel(
    lake: LakeView, cfg: ModelConfig, start: datetime, end: datetime, *, sentiment: bool = False
) -> pl.DataFrame:
    """Return the panel of ``models.base.Family.build``: asset rows every hour, pair rows (key A|B) every fourth.

    Asset rows carry the volatility features, pair rows past products and correlations. Labels: ``return``, ``drift``,
    ``band_exit``, ``covariance``, and for training ``size_ret`` / ``size_dev`` (mean absolute hourly move times the
    root of the horizon) and ``up`` / ``down`` (largest deviation to either side at the hours of the horizon).
    """
    read_from = start - timedelta(hours=LOOKBACK_H)
    keys = panel_keys(lake, cfg)
    horizon = timedelta(hours=max(DRIFT_HORIZONS_H))
    bars = hourly_bars(lake, keys, read_from, end + horizon, cfg.step_s, cfg.price_source)
    cash = [
        a for a in keys if a in STABLE and bars.filter(pl.col("asset") == a)["close"].null_count() == _count(bars, a)
    ]
    if cash:
        is_cash = pl.col("asset").is_in(cash)
        bars = bars.with_columns(
            pl.when(is_cash).then(1.0).otherwise(pl.col("close")).alias("close"), fresh=is_cash | pl.col("fresh")
        )
    moves = add_moves(bars, basket(cfg))
    if cash:  # a constant price has no volatility of its own; its weight still moves
        unpriced = moves.with_columns(pl.when(~pl.col("asset").is_in(cash)).then(pl.col("ret")).alias("ret"))
    else:
        unpriced = moves
    inside = pl.col("ts").is_between(start, end, closed="left")
    seen = unpriced.filter(pl.col("ts") < end)
    features = volatility_features(seen).filter(inside)
    live = not _any_after(bars, start)
    labels = _labels(unpriced, basket(cfg), cfg, live=live).filter(inside)
    panel = features.join(labels, on=["key", "ts"], how="left", maintain_order="left")
    known = pl.col("ret_base").is_not_null() | pl.col("dev_base").is_not_null()
    alive = bars.filter(pl.col("close").is_not_null()).select(pl.col("asset").alias("key"), "ts")
    panel = panel.filter(known).join(alive, on=["key", "ts"], how="semi", maintain_order="left")
    pairs = _pairs(unpriced.filter(pl.col("ts") >= read_from), cash, inside)
    panel = panel.join(pairs, on=["key", "ts"], how="left", maintain_order="left").drop("rho72", "rho672", "rho_mean")
    panel = pl.concat([panel, pairs.filter(pl.col("key").str.contains("|", literal=True))], how="diagonal")
    if sentiment:
        panel = panel.join(signal_features(lake, start, end), on="ts", how="left", maintain_order="left")
    return panel.sort("ts", "key")


def every(panel: pl.DataFrame, hours: int) -> pl.DataFrame:
    """Return every ``hours``-th row in time, at other hours of the day each day, so that none is left out for good."""
    hour = pl.col("ts").dt.epoch("s") // HOUR_S
    return panel.filter((hour + hour // 24) % hours == 0)


def _count(bars: pl.DataFrame, asset: str) -> int:
    return bars.filter(pl.col("asset") == asset).height


def _any_after(bars: pl.DataFrame, start: datetime) -> bool:
    return bool(bars.select((pl.col("fresh") & (pl.col("ts") > start)).any()).item())


def _pairs(moves: pl.DataFrame, cash: list[str], inside: pl.Expr) -> pl.DataFrame:
    rows = pair_features(moves.filter(~pl.col("asset").is_in(cash)), COVARIANCE_S // HOUR_S).filter(inside)
    name = label("covariance", COVARIANCE_S)
    first = pl.col("key").str.split("|").list.first()
    own = pl.when(pl.col("key") == first + "|" + first).then(first).otherwise(pl.col("key"))
    return rows.rename({"y": name}).with_columns(own.alias("key")).filter(pl.col("cewm").is_not_null())


def _labels(moves: pl.DataFrame, targets: Mapping[str, float], cfg: ModelConfig, *, live: bool) -> pl.DataFrame:
    frame = moves.sort("asset", "ts").with_columns(_log=pl.col("close").log())
    names = [label(t, h * HOUR_S) for h in DRIFT_HORIZONS_H for t in _TARGETS]
    if live:
        return frame.select(pl.col("asset").alias("key"), "ts", *(pl.lit(None, pl.Float64).alias(n) for n in names))
    frame = frame.with_columns(e for h in DRIFT_HORIZONS_H for e in _ahead(h))
    for h in range(1, max(DRIFT_HORIZONS_H) + 1):
        step = frame.with_columns(_x=(pl.col("_log").shift(-h) - pl.col("_log")).over("asset"))
        frame = frame.with_columns(deviation(step, "_x", targets).alias(f"_d{h}"))
    edges = _edges(cfg)
    frame = frame.join(edges, on="asset", how="left", maintain_order="left")
    columns: list[pl.Expr] = []
    for h in DRIFT_HORIZONS_H:
        s = h * HOUR_S
        both = pl.col("fresh") & pl.col(f"_f{h}")
        path = [pl.col(f"_d{k}") for k in range(1, h + 1)]
        up, down = pl.max_horizontal(path), -pl.min_horizontal(path)
        known = both & pl.col(f"_d{h}").is_not_null()
        left = (up > pl.col("_up")) | (down > pl.col("_down"))
        columns += [
            pl.when(both & pl.col("ret").is_not_null()).then(pl.col(f"_r{h}")).alias(label("return", s)),
            pl.when(known).then(pl.col(f"_d{h}")).alias(label("drift", s)),
            pl.when(known).then(left.cast(pl.Float64)).alias(label("band_exit", s)),
            pl.when(known).then(up).alias(label("up", s)),
            pl.when(known).then(down).alias(label("down", s)),
            *(pl.col(f"_{n}{h}").alias(label(f"size_{n}", s)) for n in ("ret", "dev")),
        ]
    return frame.select(pl.col("asset").alias("key"), "ts", *columns)


_TARGETS: tuple[str, ...] = ("return", "drift", "band_exit", "up", "down", "size_ret", "size_dev")


def _ahead(h: int) -> list[pl.Expr]:
    move = (pl.col("_log").shift(-h) - pl.col("_log")).over("asset").alias(f"_r{h}")
    size = [
        (pl.col(n).abs().rolling_mean(h).shift(-h) * np.sqrt(h)).over("asset").alias(f"_{n}{h}") for n in ("ret", "dev")
    ]
    return [move, pl.col("fresh").shift(-h).over("asset").alias(f"_f{h}"), *size]


def _edges(cfg: ModelConfig) -> pl.DataFrame:
    target = np.array([cfg.targets[a] for a in cfg.assets], dtype=np.float64)
    tolerance = np.array([cfg.tolerance[a] for a in cfg.assets], dtype=np.float64)
    up, down = band_edges(target, tolerance)
    return pl.DataFrame({"asset": list(cfg.assets), "_up": up, "_down": down}, schema_overrides={"asset": pl.String})
