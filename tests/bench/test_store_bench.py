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


@pytest.mark.slow
def test_import_against_pandas(tmp_path: Path) -> None:
    """Loading checked rows costs at most eight times the CPU of pandas without any check; a rerun no more."""
    frame = simulate(start=datetime(2010, 1, 1, tzinfo=UTC), hours=40_000)["prices"].drop(
        "source", "step", "available_at"
    )
    path = tmp_path / "prices.csv"
    frame.write_csv(path)
    import_file(Lake(str(tmp_path / "warm")), "prices", _head(frame, tmp_path))
    began = time.process_time()
    table = pd.read_csv(path, parse_dates=["ts"])
    table = table.drop_duplicates(["asset", "ts"], keep="first").sort_values(["asset", "ts"])
    table.to_parquet(tmp_path / "pandas.parquet")
    pandas_s = time.process_time() - began
    lake = Lake(str(tmp_path / "lake"))
    began = time.process_time()
    report = import_file(lake, "prices", path)
    import_s = time.process_time() - began
    began = time.process_time()
    again = import_file(lake, "prices", path)
    again_s = time.process_time() - began
    print(f"\n{frame.height} rows: pandas {pandas_s:.2f}, import {import_s:.2f}, again {again_s:.2f} CPU s")
    assert (report.added, again.unchanged) == (frame.height, frame.height)
    assert import_s < 8 * pandas_s
    assert again_s < 2 * import_s + 1


def _head(frame: pl.DataFrame, folder: Path) -> Path:
    frame.head(1000).write_csv(folder / "head.csv")
    return folder / "head.csv"
