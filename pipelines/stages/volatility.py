"""Score forecasts of realised volatility (the lake's hourly bars) and of implied volatility (an index file)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lake.errors import ConfigError, DataError, NotEnoughData
from lake.store import Lake
from lake.units import utc
from models.volatility.har import LEAST_HOURS, Target, Vector, VolatilitySkill, realised_variance, skill
from pipelines.wiring import HasLake, lake_of

AHEAD_D = (1, 7, 30)
POINTS = 100.0
HIGHEST_POINTS = 500.0
WITHIN = timedelta(minutes=59, seconds=59)  # a close counts for the hour it became known in; older ones are no news


def volatility(project: HasLake, asset: str, index: Path | None, start: str | None, end: str | None) -> dict[str, Any]:
    """Return skills of 1, 7 and 30 days ahead of ``asset``, and why a target could not be scored."""
    span = (utc(start) if start else datetime.min.replace(tzinfo=UTC), utc(end) if end else datetime.now(UTC))
    lake, notes = lake_of(project), list[str]()
    daily = realised_variance(hourly(lake, asset, span))
    unknown = int(np.isnan(daily).sum())
    if unknown:
        notes.append(
            f"realised: {unknown} of {daily.size} days of {asset} left out, with under {LEAST_HOURS} hourly returns or "
            f"without a move; import the missing bars: foredrift import prices FILE"
        )
    series: dict[Target, Vector] = {"realised": daily}
    rows = read_index(index) if index is not None else lake_index(lake)
    if index is not None or asset in set(rows["asset"]):
        series["implied"] = implied(rows, str(index or "table volindex"), asset, span)
    else:
        notes.append(f"no implied volatility of {asset}: foredrift import volindex FILE --format dvol")
    found: list[VolatilitySkill] = []
    for target, variance in series.items():
        for ahead in AHEAD_D:
            try:
                found.append(skill(variance, target, ahead))
            except NotEnoughData as few:
                notes.append(str(few))
    return {"asset": asset, "skills": [asdict(s) for s in found], "notes": notes}


def hourly(lake: Lake, asset: str, span: tuple[datetime, datetime]) -> Vector:
    """Return closes by the hour from the first midnight on, nan where no bar came; NotEnoughData if there are none."""
    rows = lake.scan("prices").filter(
        (pl.col("asset") == asset) & (pl.col("step") == 3600) & pl.col("available_at").is_between(*span)
    )  # fmt: skip
    bars = rows.select(pl.col("available_at").alias("ts"), "source", "close").collect().sort("ts", "source")
    bars = bars.unique("ts", keep="first", maintain_order=True)
    if bars.is_empty():
        raise NotEnoughData(f"no hourly bars of {asset} in the lake; foredrift import prices FILE")
    first: datetime = bars["ts"][0]
    begin = (first + timedelta(hours=23, minutes=59, seconds=59)).replace(hour=0, minute=0, second=0, microsecond=0)
    ts = pl.datetime_range(begin, bars["ts"][-1], "1h", time_unit="us", time_zone="UTC", eager=True)
    met = pl.DataFrame({"ts": ts}).join_asof(bars.select("ts", "close"), on="ts", tolerance=WITHIN)
    return np.asarray(met["close"].cast(pl.Float64).fill_null(np.nan).to_numpy(), dtype=np.float64)


def lake_index(lake: Lake) -> pl.DataFrame:
    """Return the volatility indices of the lake as ts, asset, close in vol points."""
    rows = lake.scan("volindex", datetime.now(UTC)).collect()
    return rows.select("ts", "asset", close=POINTS * pl.col("value"))


def read_index(path: Path) -> pl.DataFrame:
    """Return the volatility index in ``path`` (ts, asset, close in vol points)."""
    if not path.is_file():
        raise ConfigError(f"volatility index {path}: no such file")
    rows = pl.read_parquet(path)
    missing = {"ts", "asset", "close"} - set(rows.columns)
    if missing:
        raise DataError(f"{path}: columns {', '.join(sorted(missing))} are missing; ts, asset and close are required")
    kind = rows.schema["ts"]
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        raise DataError(f"{path}: ts is {kind}; aware UTC time stamps are required: say which zone they are")
    return rows


def implied(rows: pl.DataFrame, name: str, asset: str, span: tuple[datetime, datetime]) -> Vector:
    """Return daily implied variance a year of ``asset``, a missing day refused; ``name`` is where it was read."""
    mine = rows.filter((pl.col("asset") == asset) & pl.col("ts").is_between(*span)).sort("ts")
    if mine.is_empty():
        raise NotEnoughData(f"{name}: no rows of {asset} in the span")
    close = mine["close"].to_numpy()
    bad = ~(np.isfinite(close) & (close > 1.0) & (close < HIGHEST_POINTS))
    if bad.any():
        raise DataError(
            f"{name}: close {close[bad][0]} at {mine['ts'][int(np.argmax(bad))]}: vol points (65 for 65 %) needed"
        )
    gaps = mine.select((pl.col("ts").diff() != pl.duration(days=1)).sum()).item()
    if gaps:
        raise DataError(f"{name}: {gaps} steps are not one day; give one row a day")
    return np.asarray((close / POINTS) ** 2, dtype=np.float64)
