"""Cost of the lake and of streamed features against size, printed as a table: ``make growth``.

Every stage runs in a process of its own, so that its peak memory is its own.

    python -m tests.bench.growth_table [--rows 1,10,100]     (millions of one-minute bars, 50 assets)
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from deltalake import write_deltalake

from lake.store import Lake, _arrow, _with_part
from lake.tables import table

ASSETS = 50
CHUNK = 2_000_000  # rows of one write
BEGIN = datetime(2022, 1, 1, tzinfo=UTC)


def bars(first: int, minutes: int) -> pl.DataFrame:
    """Made-up one-minute bars of ASSETS assets, ``minutes`` of them from minute ``first`` on."""
    rng = np.random.default_rng(first)
    start = BEGIN + timedelta(minutes=first)
    ts = pl.datetime_range(start, start + timedelta(minutes=minutes), "1m", closed="left", eager=True, time_unit="us")
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-4, (ASSETS, minutes)), axis=1)).ravel()
    reach = 1 + np.abs(rng.normal(0, 1e-4, close.size))
    return pl.DataFrame(
        {
            "source": pl.repeat("made-up", close.size, eager=True),
            "asset": np.repeat([f"A{i:02d}" for i in range(ASSETS)], minutes),
            "step": pl.repeat(60, close.size, dtype=pl.Int64, eager=True),
            "ts": pl.concat([ts] * ASSETS),
            "open": close / np.sqrt(reach),
            "high": close * reach,
            "low": close / reach,
            "close": close,
            "volume": pl.repeat(1.0, close.size, eager=True),
        }
    ).with_columns(available_at=pl.col("ts") + timedelta(minutes=1))


def fill(root: str, rows: int) -> int:
    lake = Lake(root)
    total = rows // ASSETS
    step = CHUNK // ASSETS
    for first in range(0, total, step):
        new = bars(first, min(step, total - first))
        if first == 0:  # makes the table; the rest is new by construction and needs no merge
            lake.write("prices", new)
        else:
            write_deltalake(lake.uri("prices"), _arrow(_with_part(table("prices"), new)), mode="append")
    return rows


def hourly_measures(bars: pl.LazyFrame) -> pl.DataFrame:
    """Return (asset, ts, close, high, low, bars, parkinson, garman_klass), one row per asset and hour, by streaming.

    ``bars`` are rows of table prices of any step up to an hour, for example a lake's scan; nothing but the hourly
    result is held in memory. The two range estimators are variances per hour, summed over the bars of the hour:
    Parkinson (1980) ln(high/low)^2 / (4 ln 2); Garman and Klass (1980) ln(high/low)^2 / 2 - (2 ln 2 - 1)
    ln(close/open)^2. ``ts`` is the hour's open; the row is known an hour later.
    """
    reach = (pl.col("high") / pl.col("low")).log() ** 2
    move = (pl.col("close") / pl.col("open")).log() ** 2
    return (
        bars.select("asset", "ts", "open", "high", "low", "close")
        .with_columns(
            hour=pl.col("ts").dt.truncate("1h"), parkinson=reach / (4 * math.log(2)),
            garman_klass=reach / 2 - (2 * math.log(2) - 1) * move,
        )
        .group_by("asset", "hour")
        .agg(
            pl.col("close").sort_by("ts").last(), pl.col("high").max(), pl.col("low").min(), pl.len().alias("bars"),
            pl.col("parkinson").sum(), pl.col("garman_klass").sum(),
        )
        .rename({"hour": "ts"})
        .collect(engine="streaming")
        .sort("asset", "ts")
    )  # fmt: skip


def featured(root: str, rows: int) -> int:
    found = hourly_measures(Lake(root).scan("prices"))
    assert int(found["bars"].sum()) == rows
    assert found.select(pl.col("parkinson").is_finite().all()).item()
    return rows


def recent(root: str, rows: int) -> int:
    """One day of one asset, as a decision reads it."""
    end = BEGIN + timedelta(minutes=rows // ASSETS)
    scan = Lake(root).scan("prices", as_of=end)
    return scan.filter((pl.col("asset") == "A00") & (pl.col("ts") >= end - timedelta(days=1))).collect().height


STAGES = {"load in chunks of 2 M": fill, "scan and feature by streaming": featured, "read one asset's day": recent}


def measure(stage: str, root: str, rows: int) -> dict:
    """Run one stage here and return seconds and peak memory."""
    began = time.perf_counter()
    done = STAGES[stage](root, rows)
    seconds = time.perf_counter() - began
    return {"rows": done, "seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", default="1,10,100", help="millions of rows, comma-separated")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        print(json.dumps(measure(given.stage, given.root, int(given.rows))))
        return
    print("| stage | rows | seconds | rows a second | peak memory, MB |\n|---|---:|---:|---:|---:|")
    for millions in given.rows.split(","):
        rows = int(float(millions) * 1_000_000)
        with tempfile.TemporaryDirectory() as scratch:
            root = str(Path(scratch) / "lake")
            for stage in STAGES:
                command = [sys.executable, "-m", "tests.bench.growth_table", "--stage", stage, "--root", root]
                done = subprocess.run([*command, "--rows", str(rows)], capture_output=True, text=True, check=True)
                r = json.loads(done.stdout)
                rate = r["rows"] / r["seconds"]
                figures = f"{rows:,} | {r['seconds']:.1f} | {rate:,.0f} | {r['peak_mb']:,.0f}"
                print(f"| {stage} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
