from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from features.bars import times
from features.liquidity import CARRY_H, FEATURES, LOOKBACK_H, PoolStates, liquidity_features, pool_states
from features.panel import flat
from features.sentiment import STALE_DAYS, signal_features
from lake.store import Lake
from tests.models.drift_market import START


def pool_rows(days: int, seed: int = 1, pool: str = "0xpool", fee: int | None = 3000) -> pl.DataFrame:
    """Depth that reverts to its mean and is hit by spikes, as just-in-time liquidity does."""
    rng = np.random.default_rng(seed)
    n = 24 * days
    x = np.zeros(n)
    for i in range(1, n):
        x[i] = 0.97 * x[i - 1] + 0.05 * rng.standard_normal()
    x = x + (rng.random(n) < 0.05) * 1.5
    ts = pl.Series("ts", [START + timedelta(hours=i) for i in range(n)]).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "chain_id": [1] * n,
            "pool": [pool] * n,
            "ts": ts,
            "price": 2000 * np.exp(np.cumsum(0.005 * rng.standard_normal(n))),
            "fee_pips": pl.Series([fee] * n, dtype=pl.Int64),
            "depth_1pct_usd": 1e6 * np.exp(x),
            "volume_usd": 1e5 * np.exp(rng.standard_normal(n)),
        }
    ).with_columns((pl.col("ts") + timedelta(hours=1)).alias("available_at"))


def described(states: PoolStates) -> pl.DataFrame:
    rows = np.arange(len(states.depth))
    return flat(states.pools, times(states.start, rows), liquidity_features(states, rows)).frame()


def test_a_state_counts_from_when_it_was_known(lake: Lake) -> None:
    rows = pool_rows(3)
    lake.write("pool_state", rows)
    states = pool_states(lake, (), START, START + timedelta(days=3))
    for hour in (1, 30, 70):
        assert states.depth[hour, 0] == pytest.approx(rows["depth_1pct_usd"][hour - 1])


def test_liquidity_never_looks_ahead(lake: Lake, tmp_path) -> None:
    rows, cut = pool_rows(40), START + timedelta(days=35)
    lake.write("pool_state", rows)
    changed = Lake(str(tmp_path / "changed"))
    later = pl.col("available_at") > cut
    changed.write(
        "pool_state",
        rows.with_columns(
            pl.when(later).then(pl.col(c) * 3.0).otherwise(pl.col(c)).alias(c)
            for c in ("depth_1pct_usd", "price", "volume_usd")
        ),
    )
    span = (START, START + timedelta(days=40))
    a, b = (described(pool_states(k, (), *span)) for k in (lake, changed))
    past = pl.col("ts") <= cut
    assert a.filter(past).equals(b.filter(past))
    assert not a.filter(~past).equals(b.filter(~past))
    assert set(FEATURES) <= set(a.columns)


def test_missing_states_are_carried_for_a_while(lake: Lake) -> None:
    hole = START + timedelta(days=5)
    lake.write("pool_state", pool_rows(8).filter(~pl.col("ts").is_between(hole, hole + timedelta(hours=11))))
    states = pool_states(lake, (), START, START + timedelta(days=8))
    gap = slice(5 * 24 + 1, 5 * 24 + 13)
    assert np.isfinite(states.depth[gap]).sum() == CARRY_H
    assert not states.fresh[gap].any()
    assert states.fresh[gap.start - 1]
    assert states.fresh[gap.stop]


def test_a_window_of_the_longest_look_back_gives_the_same_features_to_the_bit(lake: Lake) -> None:
    lake.write("pool_state", pool_rows(60).filter(pl.col("ts").dt.hour() != 3))
    at = START + timedelta(days=59)
    full = described(pool_states(lake, (), START, START + timedelta(days=60))).filter(pl.col("ts") == at)
    states = pool_states(lake, (), at - timedelta(hours=LOOKBACK_H), at + timedelta(hours=1))
    assert described(states).tail(1).equals(full)


def test_bare_depth_is_enough(lake: Lake) -> None:
    bare = pool_rows(20).with_columns(
        pl.lit(None, pl.Float64).alias("price"), pl.lit(None, pl.Float64).alias("volume_usd")
    )
    lake.write("pool_state", bare)
    last = described(pool_states(lake, (), START, START + timedelta(days=20))).tail(1)
    assert last["over_median24"].item() is not None
    assert last["price_gap24"].item() is None


def signals(values: list[float], name: str = "fear_greed") -> pl.DataFrame:
    ts = pl.Series([START + timedelta(days=i) for i in range(len(values))]).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame({"name": name, "key": "market", "ts": ts, "value": values}).with_columns(
        (pl.col("ts") + timedelta(hours=6)).alias("available_at")
    )


def test_signals_count_from_their_publication_and_go_stale(lake: Lake) -> None:
    lake.write("signals", signals([10.0, -20.0]))
    rows = signal_features(lake, START, START + timedelta(days=6))
    value = rows["sig_fear_greed_market"].to_list()
    assert value[5] is None
    assert value[6] == 10.0
    assert value[24 + 5] == 10.0
    assert value[24 + 6] == -20.0
    assert rows["sig_fear_greed_market_size"][24 + 6] == 20.0
    end = 24 + 6 + 24 * STALE_DAYS
    assert value[end] == -20.0
    assert value[end + 1] is None


def test_a_weekly_change_needs_a_week(lake: Lake) -> None:
    lake.write("signals", signals([float(i) for i in range(12)]))
    week = signal_features(lake, START, START + timedelta(days=12))["sig_fear_greed_market_week"].to_list()
    assert week[24 * 3] is None
    assert week[24 * 9 + 6] == 7.0


def test_without_signals_only_time_is_left(lake: Lake) -> None:
    assert signal_features(lake, START, START + timedelta(hours=3)).columns == ["ts"]
