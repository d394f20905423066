"""The tables of `make growth` and `make mirrored` are printed once, small, so that neither rots."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from lake.sources.sample import simulate
from lake.store import Lake
from lake.units import utc
from tests.bench import flows_table, growth_table, mirrored_table, realtime_table
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


def test_hours_made_from_days_keep_each_days_mean_and_leave_recorded_days_alone(tmp_path):
    rng = np.random.default_rng(2)
    ts = pl.datetime_range(utc("2022-01-01"), utc("2022-01-03T23:00"), "1h", time_unit="us", eager=True)
    recorded = pl.DataFrame({"ts": ts, "gas_price_gwei": 20.0 * np.exp(rng.standard_normal(ts.len()))})
    recorded.write_parquet(tmp_path / "gas_1h.parquet")
    days = [utc("2021-05-01"), utc("2021-05-02"), utc("2022-01-02")]
    pl.DataFrame({"ts": days, "gas_price_gwei": [100.0, 50.0, 7.0]}).write_parquet(tmp_path / "gas_1d.parquet")
    lake = Lake(str(tmp_path / "lake"))
    lake.write("gas", realtime_table.whole("gas", recorded.select(
        "ts", base_fee_gwei="gas_price_gwei", chain_id=pl.lit(1), available_at=pl.col("ts") + pl.duration(hours=1)
    )))  # fmt: skip
    realtime_table.from_days(tmp_path, lake, seed=1)
    gas = lake.scan("gas").collect().sort("ts")
    made = gas.filter(pl.col("ts") < utc("2022-01-01"))
    assert gas.height - made.height == recorded.height
    means = made.group_by(pl.col("ts").dt.date(), maintain_order=True).agg(pl.col("base_fee_gwei").mean(), pl.len())
    assert means["len"].to_list() == [24, 24]
    assert np.allclose(means["base_fee_gwei"], [100.0, 50.0])
    shapes = recorded["gas_price_gwei"].to_numpy().reshape(3, 24)
    shapes = shapes / shapes.mean(axis=1, keepdims=True)
    for day, mean in enumerate((100.0, 50.0)):
        own = made["base_fee_gwei"].to_numpy()[24 * day : 24 * day + 24] / mean
        assert np.abs(shapes - own).max(axis=1).min() < 1e-12  # one recorded day's shape, whole
    assert (made["available_at"] - made["ts"]).unique().dt.total_hours().to_list() == [1]


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
