"""Volatility features of returns and of weight deviations, as polars expressions on an hourly grid.

Two hourly series are described for every asset: ``ret``, its log return, and ``dev``, its log return less that of
the basket bought at target weights, which is the log change of its weight (exactly: w' = w exp(dev)). Both get the
heterogeneous autoregressive ladder (Corsi 2009) of exponentially weighted and rolling second moments, mean absolute
moves, the panel's common level, and seasons by hour of day and of week learnt from the weeks before. Ranges enter
by Parkinson's estimator ln(high/low)^2 / (4 ln 2) where bars have them. No look-back exceeds LOOKBACK_H hours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import polars as pl

LOOKBACK_H = 1_056
"""Hours of history a feature may draw on: 44 days, six weeks of season and the slack for their normalisation."""

CARRY_H = 6
"""A missing bar is bridged by the last close for at most this many hours."""

SERIES: tuple[str, ...] = ("ret", "dev")
HALF_LIVES_H: tuple[tuple[str, float], ...] = (("v2", 1.5), ("v4", 4.0), ("v11", 11.2), ("v72", 72.0))
"""Ladder of exponential memories; 11.2 h is RiskMetrics' decay 0.94 a step."""

TREND_HALF_LIVES_H: tuple[tuple[str, float], ...] = (("t6", 6.0), ("t48", 48.0))
BASE_HALF_LIFE_H = 24.0  # level everything else is relative to; decay 0.9715 a step
ROLLING_H: tuple[tuple[str, int], ...] = (("v240", 240), ("v672", 672))
SEASON_H: tuple[int, ...] = (1, 4, 12, 24)
_FLOOR = 1e-12  # variance of an hour in which nothing moved: 1e-4 % squared


class Scans(Protocol):
    """What features read: a lake, or recent rows of one."""

    def scan(self, name: str, as_of: datetime | None = None) -> pl.LazyFrame:
        """Return table ``name`` lazily without rows that were not available at ``as_of``."""
        ...


def assets_with_prices(lake: Scans, step_s: int = 3_600, source: str | None = None) -> list[str]:
    """Return the assets that have bars of ``step_s`` seconds, sorted."""
    rows = lake.scan("prices").filter(pl.col("step") == step_s)
    if source is not None:
        rows = rows.filter(pl.col("source") == source)
    return sorted(rows.select(pl.col("asset").unique()).collect()["asset"].to_list())


def hourly_bars(
    lake: Scans, assets: Sequence[str], start: datetime, end: datetime, step_s: int = 3_600, source: str | None = None
) -> pl.DataFrame:
    """Return (asset, ts, close, high, low, volume, fresh), one row per asset and hour start <= ts < end.

    ``ts`` is the decision time at which the bar is complete (open + step). An hour without a bar carries the last
    close for at most CARRY_H hours and has ``fresh`` false; later it is null. Where several sources have an asset
    and none is named, the first by name is taken bar by bar.
    """
    step = timedelta(seconds=step_s)
    rows = lake.scan("prices").filter(
        (pl.col("step") == step_s)
        & pl.col("asset").is_in(list(assets))
        & pl.col("ts").is_between(start - step, end - step, closed="left")
    )
    if source is not None:
        rows = rows.filter(pl.col("source") == source)
    bars = (
        rows.select("asset", "source", (pl.col("ts") + step).alias("ts"), "close", "high", "low", "volume")
        .sort("source")
        .unique(["asset", "ts"], keep="first", maintain_order=True)
        .drop("source")
        .collect()
    )
    grid = pl.DataFrame({"asset": sorted(set(assets))}, schema={"asset": pl.String}).join(
        pl.DataFrame({"ts": pl.datetime_range(start, end, step, closed="left", time_unit="us", eager=True)}).cast(
            {"ts": pl.Datetime("us", "UTC")}
        ),
        how="cross",
    )
    return (
        grid.join(bars, on=["asset", "ts"], how="left")
        .sort("asset", "ts")
        .with_columns(
            fresh=pl.col("close").is_not_null(),
            close=pl.col("close").forward_fill(limit=CARRY_H).over("asset"),
        )
    )


def add_moves(bars: pl.DataFrame, targets: Mapping[str, float]) -> pl.DataFrame:
    """Return ``bars`` with hourly ``ret`` and ``dev`` (both log, null at missing hours; ``dev`` for ``targets`` only).

    ``dev`` = ret - ln(sum_j w_j exp(ret_j)) over the basket at its target weights; null unless every member moved.
    """
    ret = (pl.col("close").log() - pl.col("close").log().shift(1)).over("asset")
    moved = bars.with_columns(pl.when("fresh").then(ret).alias("ret"))
    return moved.with_columns(dev=deviation(moved, "ret", targets))


def deviation(frame: pl.DataFrame, column: str, targets: Mapping[str, float]) -> pl.Series:
    """Return, row by row of (asset, ts, column), the log move of each basket member less that of the basket."""
    absent = set(targets) - set(frame["asset"].unique())
    wide = frame.filter(pl.col("asset").is_in(list(targets))).pivot(on="asset", index="ts", values=column)
    grown = [pl.lit(w) * pl.col(a).exp() for a, w in targets.items() if a not in absent]
    whole = pl.sum_horizontal(grown, ignore_nulls=False).log() if grown and not absent else pl.lit(None, pl.Float64)
    basket = wide.select("ts", whole.alias("_basket"))
    member = pl.col("asset").is_in(list(targets))
    return frame.join(basket, on="ts", how="left", maintain_order="left").select(
        pl.when(member).then(pl.col(column) - pl.col("_basket")).alias("dev")
    )["dev"]


def volatility_features(moves: pl.DataFrame) -> pl.DataFrame:
    """Return (key, ts, features) for the rows of :func:`add_moves`; every value at ``ts`` was known then.

    ``<s>_base`` is the log of the exponentially weighted hourly volatility of series ``s``. The other levels are logs
    relative to it: ``<s>_v*`` second moments, ``<s>_a*`` mean absolute moves, ``<s>_m*`` panel means, ``pk*`` ranges.
    ``<s>_s<h>`` and ``<s>_w<h>`` are log season factors of the next h hours by hour of day and of week. ``<s>_now`` is
    the last move in units of that volatility, ``<s>_t*`` mean moves of the last hours in the same units; ``gap`` is
    ret_base - dev_base; ``volume_*`` is log activity against its month.
    """
    frame = moves.sort("asset", "ts").with_columns(
        parkinson=((pl.col("high") / pl.col("low")).log() ** 2 / (4.0 * math.log(2.0))),
        activity=(pl.col("volume") + 1.0).log(),
    )
    for name in SERIES:
        frame = frame.with_columns(_ladder(name)).with_columns(_relative(name))
        frame = _with_panel_level(frame, name)
        frame = _with_season(frame, name)
    frame = frame.with_columns(
        *(
            (_half_log(_ewm("parkinson", half)) - pl.col("ret_base")).over("asset").alias(f"pk{label}")
            for label, half in (("2", 1.5), ("6", 6.0), ("24", 24.0))
        ),
        *(
            (_ewm("activity", half) - pl.col("activity").rolling_mean(672, min_samples=48)).over("asset").alias(name)
            for name, half in (("volume_2", 2.0), ("volume_24", 24.0))
        ),
        gap=pl.col("ret_base") - pl.col("dev_base"),
        hour=pl.col("ts").dt.hour().cast(pl.Float64),
        weekday=pl.col("ts").dt.weekday().cast(pl.Float64),
    )
    return frame.select(pl.col("asset").alias("key"), "ts", *feature_names())


def feature_names(series: Sequence[str] = SERIES) -> list[str]:
    """Return the feature columns that describe ``series``, in order."""
    names: list[str] = []
    for s in series:
        names += [f"{s}_base", *(f"{s}_{n}" for n, _ in HALF_LIVES_H), *(f"{s}_{n}" for n, _ in ROLLING_H)]
        names += [
            f"{s}_a4",
            f"{s}_a24",
            f"{s}_last",
            f"{s}_now",
            f"{s}_t6",
            f"{s}_t48",
            f"{s}_m2",
            f"{s}_m12",
            f"{s}_m72",
        ]
        names += [f"{s}_{kind}{h}" for kind in ("s", "w") for h in SEASON_H]
    return [*names, "pk2", "pk6", "pk24", "volume_2", "volume_24", "gap", "hour", "weekday"]


def _ewm(column: str, half_life: float, power: int = 1) -> pl.Expr:
    """Exponentially weighted mean over known values, held through missing hours."""
    x = pl.col(column) if power == 1 else pl.col(column) ** power
    return x.ewm_mean(half_life=half_life, ignore_nulls=True, min_samples=12).forward_fill(limit=CARRY_H)


def _half_log(variance: pl.Expr) -> pl.Expr:
    return 0.5 * (variance + _FLOOR).log()


def _ladder(s: str) -> list[pl.Expr]:
    size = pl.col(s).abs()
    return [
        _half_log(_ewm(s, BASE_HALF_LIFE_H, 2)).over("asset").alias(f"{s}_base"),
        *(_half_log(_ewm(s, half, 2)).over("asset").alias(f"{s}_{n}") for n, half in HALF_LIVES_H),
        *(
            _half_log((pl.col(s) ** 2).rolling_mean(h, min_samples=24)).over("asset").alias(f"{s}_{n}")
            for n, h in ROLLING_H
        ),
        *(
            (size.ewm_mean(half_life=half, ignore_nulls=True, min_samples=12) + 1e-6).log().over("asset").alias(n)
            for n, half in ((f"{s}_a4", 4.0), (f"{s}_a24", 24.0))
        ),
        (size.forward_fill(limit=CARRY_H) + 1e-5).log().over("asset").alias(f"{s}_last"),
        pl.col(s).alias(f"{s}_now"),
        *(
            pl.col(s).ewm_mean(half_life=half, ignore_nulls=True, min_samples=12).over("asset").alias(f"{s}_{n}")
            for n, half in TREND_HALF_LIVES_H
        ),
    ]


def _relative(s: str) -> list[pl.Expr]:
    names = [n for n, _ in (*HALF_LIVES_H, *ROLLING_H)] + ["a4", "a24", "last"]
    base = pl.col(f"{s}_base")
    shifted = [(pl.col(f"{s}_{n}").forward_fill(limit=CARRY_H).over("asset") - base).alias(f"{s}_{n}") for n in names]
    moves = [f"{s}_now", *(f"{s}_{n}" for n, _ in TREND_HALF_LIVES_H)]
    return [*shifted, *((pl.col(n) / base.exp()).clip(-6.0, 6.0).alias(n) for n in moves)]


def _with_panel_level(frame: pl.DataFrame, s: str) -> pl.DataFrame:
    """Add the panel's mean square move at three memories, relative to the asset's own level."""
    common = (
        frame.group_by("ts")
        .agg((pl.col(s) ** 2).mean().alias("_m"))
        .sort("ts")
        .select("ts", *(_half_log(_ewm("_m", float(h))).alias(f"{s}_m{h}") for h in (2, 12, 72)))
    )
    names = [f"{s}_m{h}" for h in (2, 12, 72)]
    return frame.join(common, on="ts", how="left", maintain_order="left").with_columns(
        pl.col(n) - pl.col(f"{s}_base") for n in names
    )


def _with_season(frame: pl.DataFrame, s: str) -> pl.DataFrame:
    """Add log season factors of the next 1, 4, 12 and 24 hours, from the same hours of the weeks before.

    The factor of an hour is the panel's mean absolute move over its level of the day before, averaged over the last
    28 same hours of day (``s``) or six same hours of week (``w``). The hour t + k was last seen at t + k - 24
    (or - 168), so a shift by 24 - h (168 - h) of the h-hour rolling mean looks at the past only.
    """
    level = (pl.col(f"{s}_v72") + pl.col(f"{s}_base")).exp().shift(1).over("asset")
    x = frame.select("ts", (pl.col(s).abs() / level).clip(0.0, 5.0).alias("_x")).group_by("ts").agg(pl.col("_x").mean())
    hours = x.sort("ts").with_columns(_hour=pl.col("ts").dt.hour())
    hours = hours.with_columns(_week=pl.col("_hour") + 24 * pl.col("ts").dt.weekday().cast(pl.Int32))
    hours = hours.with_columns(
        pl.col("_x").rolling_mean(28, min_samples=3).over("_hour").alias("_s"),
        pl.col("_x").rolling_mean(6, min_samples=2).over("_week").alias("_w"),
    )
    factors = hours.select(
        "ts",
        *(
            (pl.col(f"_{kind}").rolling_mean(h, min_samples=1).shift(cycle - h) + 1e-3).log().alias(f"{s}_{kind}{h}")
            for kind, cycle in (("s", 24), ("w", 168))
            for h in SEASON_H
        ),
    )
    return frame.join(factors, on="ts", how="left", maintain_order="left")
