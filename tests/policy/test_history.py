from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.errors import NotEnoughData
from policy.simulation.history import expanding_median, load, trailing_mean
from policy.simulation.panel import holdable, portfolios
from tests.policy.conftest import ASSETS, START, fill, frames


def test_rows_hold_what_was_known(market_lake, history):
    """Each close is that of the bar that just ended, each gas that of the interval just complete."""
    bars = market_lake.scan("prices").collect()
    gas = market_lake.scan("gas").collect()
    for step in (history.first, history.first + 77):
        t = history.when(step)
        for i, asset in enumerate(history.assets):
            bar = bars.filter((pl.col("asset") == asset) & (pl.col("ts") == t - timedelta(hours=1)))
            assert history.close[step, i] == bar["close"][0]
        assert history.gas_gwei[step] == gas.filter(pl.col("ts") == t - timedelta(hours=1))["base_fee_gwei"][0]
    assert history.when(history.first) == START
    assert np.allclose(history.returns[:-1], history.close[1:] / history.close[:-1] - 1)


def test_nothing_before_t_changes_with_the_future(tmp_path, history, end):
    cut = START + timedelta(days=9, hours=5)
    tables = {
        name: rows.with_columns(
            pl.when(pl.col("available_at") > cut).then(pl.col(c) * 3).otherwise(pl.col(c)).alias(c)
            for c in rows.columns if c in ("close", "open", "high", "low", "base_fee_gwei", "depth_1pct_usd")
        )
        for name, rows in frames().items()
    }  # fmt: skip
    other = load(fill(tmp_path, tables), START, end)
    known = history.step_of(cut) + 1
    for name in ("close", "gas_gwei", "native_usd", "depth_usd", "recent_gwei", "median_gwei", "median_depth_usd"):
        assert np.array_equal(getattr(history, name)[:known], getattr(other, name)[:known]), name
    last = history.day[known - 1] + 1
    assert np.array_equal(history.covariance[:last], other.covariance[:last])
    assert not np.array_equal(history.covariance, other.covariance)
    assert history.sha256 != other.sha256


def test_depth_and_gas_that_come_between_two_decisions_wait_for_the_second(tmp_path, end):
    tables, late = frames(), timedelta(minutes=7)
    for name in ("pool_state", "gas"):
        tables[name] = tables[name].with_columns(pl.col("available_at") + late)
    history = load(fill(tmp_path, tables), START, end)
    t, known = history.when(history.first + 77), pl.col("available_at")
    newest = [tables[name].filter(known <= t).sort("available_at")[-1] for name in ("pool_state", "gas")]
    assert history.depth_usd[history.first + 77].tolist() == [newest[0]["depth_1pct_usd"][0]] * len(history.assets)
    assert history.gas_gwei[history.first + 77] == newest[1]["base_fee_gwei"][0]
    assert newest[0]["available_at"][0] == t + late - timedelta(hours=1)


def test_an_asset_without_a_bar_cannot_be_traded_and_the_others_can(tmp_path, end):
    tables = frames()
    hole = [START + timedelta(hours=h) for h in (*range(30, 33), *range(100, 112))]
    tables["prices"] = tables["prices"].filter(~((pl.col("asset") == "BBB") & pl.col("ts").is_in(hole)))
    history = load(fill(tmp_path, tables), START, end)
    own = history.assets.index("BBB")
    shut = [*range(31, 34), *range(101, 113)]
    assert np.flatnonzero(~history.tradable[history.first :, own]).tolist() == shut
    assert np.delete(history.tradable, own, axis=1).all()
    assert np.flatnonzero(~history.moved[history.first :, own]).tolist() == [*range(30, 34), *range(100, 113)]
    note = next(n for n in history.notes if n.startswith("BBB"))
    assert "15 hours (2023-03-02 07:00 .. 2023-03-02 09:00, 2023-03-05 05:00 .. 2023-03-05 16:00)" in note
    assert "no trade of it and no return" in note


def test_a_gap_in_recorded_gas_stops_nothing_and_is_told(tmp_path, end):
    tables = frames()
    hole = [START + timedelta(hours=h) for h in range(50, 70)]
    whole = load(fill(tmp_path / "a", tables), START, end)
    tables["gas"] = tables["gas"].filter(~pl.col("ts").is_in(hole))
    history = load(fill(tmp_path / "b", tables), START, end)
    gap = slice(history.first + 51, history.first + 71)
    assert history.tradable.all()
    assert np.all(history.gas_gwei[gap] == whole.gas_gwei[history.first + 50])
    assert any("gas of chain 1: 20 hours (2023-03-03 03:00 .. 2023-03-03 22:00)" in n for n in history.notes)
    assert not any("gas" in n and "hours" in n for n in whole.notes)


def listed_late(listed, ended=None):
    """The market with CCC listed and delisted."""
    tables = frames()
    late = (pl.col("ts") < listed) | (pl.col("ts") >= (ended or START + timedelta(days=900)))
    return {**tables, "prices": tables["prices"].filter(~((pl.col("asset") == "CCC") & late))}


def test_nothing_is_learnt_of_an_asset_before_its_listing_or_over_its_gaps(tmp_path, end, history):
    """No zero return before the first bar: variances are those of the hours with two bars in a row."""
    own, listed = history.assets.index("CCC"), START + timedelta(days=5)
    late = load(fill(tmp_path, listed_late(listed)), START, end)
    assert late.when(int(late.listed[own])) == listed + timedelta(hours=1)
    assert not late.tradable[: late.listed[own], own].any()
    others = [i for i in range(len(history.assets)) if i != own]
    assert np.allclose(late.covariance[:, others][:, :, others], history.covariance[:, others][:, :, others], rtol=1e-9)
    day = late.day[late.listed[own]] + 3
    assert late.covariance[day, own, own] == pytest.approx(history.covariance[day, own, own], rel=0.35)
    assert np.linalg.eigvalsh(late.covariance).min() > -1e-15
    assert any("CCC: listed 2023-03-06 01:00" in n for n in late.notes)


def test_baskets_wait_for_a_listing_and_keep_what_is_delisted(tmp_path, end):
    listed, ended = START + timedelta(days=5), START + timedelta(days=20)
    history = load(fill(tmp_path, listed_late(listed, ended)), START, end)
    panel = portfolios(history, 40, 1, START, end)
    holding = [p for p in panel if "CCC" in p.assets]
    assert holding
    assert min(p.start for p in holding) == listed + timedelta(hours=1)
    assert min(p.start for p in panel if "CCC" not in p.assets) == START
    own = history.assets.index("CCC")
    assert not history.tradable[history.step_of(ended) + 1 :, own].any()
    assert any("CCC: no bar after 2023-03-21 00:00" in n for n in history.notes)
    gone, notes = holdable(history, listed + timedelta(days=10), end, 4)
    assert own not in gone
    assert any("CCC" in n for n in notes)


def test_a_pool_goes_to_the_asset_whose_price_it_follows(history, tmp_path, end):
    eth = history.assets.index("ETH")
    assert np.isfinite(history.depth_usd).all()
    assert any("median depth" in n and "ETH" not in n for n in history.notes)
    tables = frames()
    without = load(fill(tmp_path, {k: tables[k] for k in ("prices", "gas")}), START, end)
    assert np.isinf(without.depth_usd).all()
    assert any("impact is taken as zero" in n for n in without.notes)
    assert history.close[:, eth].std() > 0


def test_missing_input_is_named(market_lake, tmp_path, end):
    with pytest.raises(NotEnoughData, match="ZZZ"):
        load(market_lake, START, end, assets=("AAA", "ZZZ"))
    tables = frames()
    with pytest.raises(NotEnoughData, match="gas of chain 1"):
        load(fill(tmp_path / "a", {"prices": tables["prices"]}), START, end)
    with pytest.raises(NotEnoughData, match="no hourly prices"):
        load(market_lake, START + timedelta(days=900), end + timedelta(days=901))


def test_stable_assets_need_no_history(market_lake, end):
    history = load(market_lake, START, end, assets=("ETH", "USDC"))
    assert np.all(history.close[:, 1] == 1.0)


def test_covariance_finds_the_volatility(history):
    true = np.cov(history.returns[: history.first].T)
    assert np.diag(history.covariance[-1]) == pytest.approx(np.diag(true), rel=0.25)
    assert history.assets == tuple(sorted(ASSETS))


def test_usual_figures_by_hand():
    values = np.array([9.0, 9.0, 1.0, 2.0, 6.0, 4.0])
    assert trailing_mean(values, 2).tolist() == [9.0, 9.0, 1.0, 1.5, 3.0, 3.25]
    assert expanding_median(values, 2, np.array([0, 3, 5])).tolist() == [9.0, 9.0, 9.0, 1.5, 1.5, 3.0]


def test_weeks_start_on_monday(history):
    week = history.week()
    turns = [history.when(int(s)) for s in np.flatnonzero(np.diff(week)) + 1]
    assert all(t.weekday() == 0 and t.hour == 0 for t in turns)
