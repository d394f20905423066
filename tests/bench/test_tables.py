"""The tables of `make growth` and `make mirrored` are printed once, small, so that neither rots."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from lake.sources.sample import simulate
from lake.store import Lake
from lake.units import utc
from tests.bench import flows_table, growth_table, mirrored_table
from tests.pipelines.market import moment, project


def test_growth_measures_every_stage(tmp_path):
    root, rows = str(tmp_path / "lake"), 50 * 24 * 60
    measured = {stage: growth_table.measure(stage, root, rows) for stage in growth_table.STAGES}
    assert [m["rows"] for m in measured.values()] == [rows, rows, 24 * 60]
    assert all(m["peak_mb"] > 0 for m in measured.values())


def test_an_hour_pays_the_mean_of_the_day_before_and_of_no_other(tmp_path):
    """A day without a recording leaves its next day without gas: nothing is carried over, nothing is known early."""
    days = pl.DataFrame({"ts": [utc(f"2021-03-0{d}") for d in (1, 2, 4)], "gas_price_gwei": [100.0, 50.0, 70.0]})
    days.write_parquet(tmp_path / "gas_1d.parquet")
    source = Lake(str(tmp_path / "source"))
    source.write("prices", simulate(start=utc("2021-03-01"), hours=24)["prices"])
    made = flows_table.daily(tmp_path, source, tmp_path / "lake")
    assert made.scan("prices").collect().height == source.scan("prices").collect().height > 0
    gas = made.scan("gas").collect().sort("ts")
    assert gas["ts"].equals(gas["available_at"])
    told = gas.group_by(day=pl.col("ts").dt.day(), maintain_order=True).agg(
        pl.col("base_fee_gwei").unique(), hours=pl.len()
    )
    assert told.rows() == [(2, [100.0], 24), (3, [50.0], 24), (5, [70.0], 24)]
    assert made.scan("gas", as_of=utc("2021-03-02T11:00")).collect()["ts"].max() == utc("2021-03-02T11:00")


@pytest.mark.slow
def test_mirrored_pasts_give_a_ratio_in_every_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mirrored_table, "DEFAULT_CELLS", mirrored_table.DEFAULT_CELLS[:4:3])
    project(tmp_path)
    mirrored_table.main(str(tmp_path), moment(24 * 28), moment(0), "3", "1")
    printed = capsys.readouterr().out
    ratios = np.array([float(word) for word in re.findall(r"\d+\.\d+(?= \()", printed)])
    assert "soft" in printed
    assert "hard" in printed
    assert ratios.shape == (2 * len(mirrored_table.NAMES),)
    assert (ratios > 0).all()
