"""A comparison and a training run say what is missing before they work, all of it and nothing else."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from rich.console import Console

from lake.errors import ConfigError, NotEnoughData
from lake.store import Lake
from pipelines.reports import terminal
from pipelines.reports.charts import label_of
from pipelines.reports.page import render
from pipelines.settings import load
from pipelines.stages import compare, train
from pipelines.wiring import PanelChoice
from tests.policy.conftest import HOURS, START, WARMUP, frames

END = START + timedelta(hours=HOURS - WARMUP - 24)
TEXT = '[portfolio]\nassets = ["AAA", "BBB", "ETH"{}]\n[compare]\nnav_usd = [100_000]\nbootstrap = 100\n'


def project(root, extra="", **changes):
    """A project on the synthetic market with ``changes`` to its tables, None for no rows."""
    (root / "foredrift.toml").write_text(TEXT.format(extra))
    lake = Lake(str(root / "lake.data"))
    for name, rows in frames().items():
        change = changes.get(name, lambda r: r)
        if change is not None:
            lake.write(name, change(rows))
    return load(root / "foredrift.toml")


def refused(work, *arguments, **more) -> str:
    """What is raised, before the first progress is told."""
    told = []
    with pytest.raises((NotEnoughData, ConfigError)) as caught:
        work(*arguments, START.isoformat(), END.isoformat(), lambda *done: told.append(done), **more)
    assert not told
    return str(caught.value)


def compared(settings, *policies: str, skill: float | None = None) -> str:
    return refused(compare.compare, settings, track=False, asked=PanelChoice(2, policies, skill))


def test_everything_missing_is_named_at_once_and_nothing_that_is_there(tmp_path):
    late = START + timedelta(days=3)
    settings = project(tmp_path, ', "ZZZ", "YYY"', gas=lambda r: r.filter(pl.col("available_at") > late))
    said = compared(settings)
    assert "no prices of YYY" in said
    assert "no prices of ZZZ" in said
    assert "gas of chain 1 starts 2023-03-04T01:00" in said
    assert "--start" in said
    assert not any(name in said for name in ("AAA", "BBB", "ETH"))


def test_bars_of_a_day_are_told_apart_from_none(tmp_path):
    daily = pl.when(pl.col("asset") == "BBB").then(86_400).otherwise(pl.col("step"))
    settings = project(tmp_path, prices=lambda r: r.with_columns(step=daily.cast(r["step"].dtype)))
    said = compared(settings)
    assert "BBB has only bars longer than an hour" in said
    assert "AAA" not in said


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (pl.col("ts") > END - timedelta(days=2), "listed 2023-03-28T02:00, too late"),
        (pl.col("ts") < START - timedelta(days=2), "end 2023-02-27T00:00, before 2023-03-01T00:00"),
    ],
)
def test_an_asset_of_another_time_is_named_with_its_dates(tmp_path, keep, words):
    settings = project(tmp_path, prices=lambda r: r.filter((pl.col("asset") != "BBB") | keep))
    said = compared(settings)
    assert "BBB" in said
    assert words in said
    assert "AAA" not in said


def test_a_late_listing_within_the_span_is_compared_and_told(tmp_path):
    listed = START + timedelta(days=4)
    late = (pl.col("asset") != "BBB") | (pl.col("ts") >= listed)
    settings = project(tmp_path, prices=lambda r: r.filter(late))
    found = compare.compare(
        settings, START.isoformat(), END.isoformat(), asked=PanelChoice(6, ["hold", "gas_band"]), track=False
    ).json
    assert any(n.startswith("BBB: listed 2023-03-05 01:00") for n in found["data"]["notes"])
    assert "BBB: listed 2023-03-05 01:00" in render(found, "id", {}, None)
    assert all(r["violations_did_not"] == 0 for r in found["policies"] if r["policy"] == "gas_band")
    assert all(r["violations"] == r["violations_could_not"] + r["violations_did_not"] for r in found["policies"])


def test_a_policy_that_could_not_trade_did_not_break_its_mandate():
    row = {"policy": "band", "violations": 86, "violations_could_not": 86, "violations_did_not": 0}
    assert label_of(row) == "band"
    assert label_of({**row, "violations_did_not": 1}) == "band (breaks it)"
    assert label_of({"policy": "band", "violations": 1}) == "band (breaks it)"  # of a comparison stored before


def test_unknown_policies_and_dials_cost_no_work(tmp_path):
    settings = project(tmp_path)
    assert "no policy nonsense" in compared(settings, "gas_band", "nonsense")
    assert "0 to 1" in compared(settings, skill=3.0)


def test_training_names_the_asset_the_gas_and_the_days_that_are_missing(tmp_path):
    settings = project(tmp_path, ', "ZZZ"', gas=None)
    said = refused(train.train, settings, ["gas", "drift"], register=False)
    assert "gas: no rows of gas" in said
    assert "drift: no prices of ZZZ" in said
    assert "AAA" not in said
    (tmp_path / "short").mkdir()
    short = project(tmp_path / "short", gas=lambda r: r.filter(pl.col("ts") > END - timedelta(days=9)))
    assert "21 days of gas" in refused(train.train, short, ["gas"], register=False)


def test_the_cost_table_of_a_cell_fits_into_80_columns(monkeypatch, capsys):
    names = ("calendar_weekly", "threshold_5pct", "predictive", "foresight_gas")
    costs = (  # bp of NAV a year
        ("total_bp", 12_503.283),
        ("gas_bp", 491.2),
        ("fee_bp", 12.02),
        ("impact_bp", 0.0414),
        ("tracking_bp", 15.3),
    )
    rows = [
        {"policy": n, "scenario": "hard_tight", "nav_usd": 1e5, "trades_per_year": 362.8, "violations": 1019,
         "violations_could_not": 86, "te_annual": 0.0319, **dict(costs)}
        for n in names
    ]  # fmt: skip
    monkeypatch.setattr(terminal, "console", Console(width=80))
    data = {"policies": rows, "pairs": [], "headroom": [], "data": {"notes": ["BBB: listed 2023-03-05 01:00"]}}
    terminal.policies(data)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    (row,) = [line for line in lines if line.startswith("predictive")]
    assert row.split() == ["predictive", "12,503", "491.2", "12.02", "0.04", "15.30", "362.8", "933+86", "3.19"]
    assert any(line.startswith("broken a+b") for line in lines)
    assert any("BBB: listed" in line for line in lines)
