"""Importing a file of bars against what people do instead: read it with pandas, drop duplicates, write it back."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from lake.sources.files import import_file
from lake.sources.sample import simulate
from lake.store import Lake
from tests.bench.pace import Pace


@pytest.mark.slow
def test_import_against_pandas(pace: Pace, tmp_path: Path) -> None:
    """Loading checked rows costs at most eight times the CPU of pandas without any check; a rerun no more."""
    frame = simulate(start=datetime(2010, 1, 1, tzinfo=UTC), hours=pace.pick(40_000, 500))["prices"].drop(
        "source", "step", "available_at"
    )
    path = tmp_path / "prices.csv"
    frame.write_csv(path)
    import_file(Lake(str(tmp_path / "warm")), "prices", _head(frame, tmp_path))

    def in_pandas() -> None:
        table = pd.read_csv(path, parse_dates=["ts"])
        table = table.drop_duplicates(["asset", "ts"], keep="first").sort_values(["asset", "ts"])
        table.to_parquet(tmp_path / "pandas.parquet")

    lake, reports = Lake(str(tmp_path / "lake")), []
    pandas_s = pace.seconds(in_pandas, 1, time.process_time)
    import_s, again_s = (
        pace.seconds(lambda: reports.append(import_file(lake, "prices", path)), 1, time.process_time) for _ in range(2)
    )
    report, again = reports
    assert (report.added, again.unchanged) == (frame.height, frame.height)
    theirs = pl.read_parquet(tmp_path / "pandas.parquet").sort("asset", "ts")
    mine = lake.scan("prices").sort("asset", "ts")
    assert mine.collect()["close"].to_list() == theirs["close"].to_list()
    if pace.timed:
        print(f"\n{frame.height} rows: pandas {pandas_s:.2f}, import {import_s:.2f}, again {again_s:.2f} CPU s")
        assert import_s < 8 * pandas_s
        assert again_s < 2 * import_s + 1


def _head(frame: pl.DataFrame, folder: Path) -> Path:
    frame.head(1000).write_csv(folder / "head.csv")
    return folder / "head.csv"
