"""Values that cannot be right are flagged whatever brought them, until confirmed; real moves are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError
from lake.plausibility import accept, flagged, suspects
from lake.sources.sample import simulate
from lake.store import Lake
from lake.tables import TABLES

T0 = datetime(2024, 1, 1, tzinfo=UTC)
H = timedelta(hours=1)


def bars(closes: list[float], asset: str = "ETH", step_h: int = 1) -> pl.DataFrame:
    """Hourly bars (or longer) with these closes."""
    ts = [T0 + i * step_h * H for i in range(len(closes))]
    frame = {"source": "s", "asset": asset, "step": 3600 * step_h, "ts": ts, "close": closes}
    known = pl.Series([t + step_h * H for t in ts])
    return pl.DataFrame(frame, schema_overrides={"close": pl.Float64}).with_columns(
        pl.col("ts").cast(TABLES["prices"].columns["ts"]),
        pl.col("step").cast(pl.Int64),
        available_at=known.cast(TABLES["prices"].columns["ts"]),
    )


def walk(n: int, seed: int, vol: float = 0.02) -> list[float]:
    return list(100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, vol, n))))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99),
    at=st.integers(1, 59),
    factor=st.sampled_from([0.001, 0.01, 0.1, 0.2, 5.0, 10.0, 100.0, 1e6, 1e18]),
    length=st.integers(1, 60),
)
def test_a_change_of_unit_is_flagged_where_it_begins_and_where_it_ends(
    seed: int, at: int, factor: float, length: int
) -> None:
    closes = walk(60, seed)
    broken = [c * factor if at <= i < at + length else c for i, c in enumerate(closes)]
    found = suspects("prices", bars(broken))
    ends = [at, *([at + length] if at + length < 60 else [])]
    assert found["ts"].to_list() == [T0 + i * H for i in ends]
    assert found["reason"].unique().to_list() == ["price_jump"]
    assert suspects("prices", bars(closes)).is_empty()


def test_a_series_that_jumps_as_it_always_did_is_not_flagged_and_gaps_and_daily_bars_may_move_further() -> None:
    wild = [100.0, 140.0, 100.0, 145.0, 100.0, 150.0]  # within a first jump of 50 %
    assert suspects("prices", bars(wild)).is_empty()
    assert suspects("prices", bars([100.0, 160.0])).height == 1
    assert suspects("prices", bars([100.0, 160.0], step_h=24)).is_empty()
    assert suspects("prices", bars([100.0, 10.0], step_h=24)).height == 1
    holes = bars(walk(40, 1)).with_columns(
        pl.when(pl.col("ts") > T0 + 20 * H).then(pl.col("close") / 100).otherwise("close").alias("close")
    )
    assert suspects("prices", holes.filter(~pl.col("ts").is_between(T0 + 5 * H, T0 + 25 * H))).height == 1


def test_one_series_does_not_excuse_another() -> None:
    both = pl.concat([bars(walk(30, 1), "ETH"), bars([1.0, 0.01] * 2, "MEME"), bars(walk(30, 2), "BTC")])
    assert suspects("prices", both)["series"].unique().to_list() == ["s/MEME/3600"]


def test_flags_are_known_as_of_a_moment_and_end_with_acceptance(lake: Lake) -> None:
    lake.write("prices", bars([100.0] * 10 + [1.0] * 10))
    assert flagged(lake, "prices", T0 + 10 * H).is_empty()
    found = flagged(lake, "prices", T0 + 11 * H)
    assert found.select("series", "ts", "value", "before").rows() == [("s/ETH/3600", T0 + 10 * H, 1.0, 100.0)]
    assert flagged(lake, "prices", since=T0 + 11 * H).is_empty()
    with pytest.raises(ConfigError, match="note"):
        accept(lake, "prices", "s/ETH/3600", T0, T0 + 20 * H, " ")
    assert accept(lake, "prices", "s/BTC/3600", T0, T0 + 20 * H, "wrong series") == 0
    assert accept(lake, "prices", "s/ETH/3600", T0 + 10 * H, T0 + 10 * H, "1:100 split") == 1
    assert accept(lake, "prices", "s/ETH/3600", T0 + 10 * H, T0 + 10 * H, "1:100 split") == 0
    assert flagged(lake, "prices").is_empty()
    lake.write("prices", bars([100.0] * 10 + [1.0] * 10 + [1e4]).tail(1))
    assert flagged(lake, "prices")["ts"].to_list() == [T0 + 20 * H]  # an accepted jump excuses no later one


@pytest.mark.parametrize(
    ("chain", "fee", "tip", "suspect"),
    [
        (1, 24e9, None, True),
        (1, 100_001.0, None, True),
        (1, 9_000.0, 50.0, False),
        (1, 20.0, 2e9, True),
        (1, 0.0, None, True),
        (1, 2e-8, None, True),
        (1, 0.02, None, False),
        (10, 2e-8, None, False),
        (10, 0.0, None, False),
        (8453, 0.05, 0.0, False),
        (8453, 5e8, None, True),
    ],
)
def test_gas_in_wei_or_ether_and_headers_without_a_base_fee_are_flagged(
    lake: Lake, chain: int, fee: float, tip: float | None, suspect: bool
) -> None:
    row = {"chain_id": chain, "ts": T0, "base_fee_gwei": fee, "priority_fee_gwei": tip, "available_at": T0 + H}
    columns = TABLES["gas"].columns
    lake.write("gas", pl.DataFrame([row], schema={c: columns[c] for c in row}))
    found = flagged(lake, "gas")
    assert found.height == suspect
    if suspect:
        assert found["reason"].item() == "gas_implausible"
        assert accept(lake, "gas", str(chain), T0, T0, "seen on the explorer") == 1
        assert flagged(lake, "gas").is_empty()


def test_the_sample_market_and_other_tables_raise_no_flag(lake: Lake) -> None:
    frames = simulate(hours=3000)
    for name in ("prices", "gas", "pool_state", "signals"):
        assert suspects(name, frames[name]).is_empty()
    assert flagged(lake, "signals").is_empty()


@pytest.mark.real
def test_five_years_of_recorded_hours_hold_no_false_alarm(real_data: Path) -> None:
    rows = pl.read_parquet(real_data / "prices_1h.parquet").with_columns(
        source=pl.lit("s"), step=pl.lit(3600, pl.Int64), available_at=pl.col("ts") + H
    )
    assert suspects("prices", rows).is_empty()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    broken=st.lists(st.tuples(st.integers(0, 49), st.sampled_from([0.01, 0.5, 3.0, 100.0])), max_size=3),
    holes=st.sets(st.integers(0, 49), max_size=20),
    since=st.integers(-2, 52),
)
def test_looking_at_the_last_bars_only_finds_what_looking_at_all_of_them_finds(seed, broken, holes, since) -> None:
    rows = []
    for k, asset in enumerate(("ETH", "BTC")):
        closes = walk(50, seed + k, 0.15)
        for at, factor in broken[k:]:
            closes = [c * factor if i >= at else c for i, c in enumerate(closes)]
        rows.append(bars(closes, asset).filter(~pl.int_range(50).is_in(sorted(holes))))
    whole = pl.concat(rows).sample(fraction=1.0, shuffle=True, seed=seed)
    kept = {"prices": whole, "accepted": pl.DataFrame(schema=TABLES["accepted"].columns)}

    class Rows:
        def scan(self, name: str, as_of: datetime | None = None) -> pl.LazyFrame:
            assert as_of is None
            return kept[name].lazy()

    moment = T0 + since * H
    every = suspects("prices", whole).filter(pl.col("ts") >= moment)
    assert flagged(Rows(), "prices", since=moment).equals(every)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), assets=st.integers(1, 6), large=st.integers(1, 200), late=st.booleans())
def test_a_table_looked_at_in_parts_shows_what_it_shows_as_a_whole(
    seed: int, assets: int, large: int, late: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    series = []
    for i in range(assets):
        closes = np.array(walk(int(rng.integers(2, 60)), seed + i))
        closes[int(rng.integers(1, closes.size)) :] *= rng.choice([1.0, 100.0])
        frame = bars(closes.tolist(), f"A{i}", int(rng.choice([1, 24])))
        rest = {c: pl.col("close") for c in ("open", "high", "low")}
        series.append(frame.with_columns(**rest, volume=pl.lit(1.0)))
    whole = pl.concat(series)
    lake = Lake(str(tmp_path_factory.mktemp("parts")))
    lake.write("prices", whole.select(list(TABLES["prices"].columns)))
    since = T0 + 20 * H if late else None
    with pytest.MonkeyPatch.context() as patched:
        expected = flagged(lake, "prices", since=since)
        patched.setattr("lake.plausibility.LARGE_ROWS", large)
        found = flagged(lake, "prices", since=since)
    assert found.equals(expected)
    jumps = suspects("prices", whole).filter(pl.col("ts") >= (since or T0)).sort("series", "ts")
    assert found.select("series", "ts", "value").equals(jumps.select("series", "ts", "value"))
