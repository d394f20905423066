"""Options, indices, perpetuals, rates and positions are checked on import; a portfolio is priced or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lake.errors import ConfigError, DataError, NotEnoughData
from lake.sources.files import Beforehand, import_file
from lake.sources.reading import Reading
from lake.store import Lake
from lake.units import to_word
from pipelines.stages.book_lake import book_of
from pipelines.stages.chains import lake_chain
from pipelines.stages.greeks import greeks_of, view
from pipelines.stages.volatility import lake_index
from policy.hedging.instruments import Option, Pool

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXPIRY = datetime(2026, 3, 27, 8, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"))


def loaded(lake, tmp_path, name, rows, preset=None, **more):
    path = tmp_path / f"{name}.csv"
    pl.DataFrame(rows).write_csv(path)
    known = Beforehand(now=NOW + timedelta(hours=1))
    return import_file(lake, name, path, known=known, reading=Reading(preset=preset), **more)


def quote(strike=3000.0, kind="c", hours=0, **more):
    ts = NOW - timedelta(hours=hours)
    return {"ts": ts.isoformat(), "asset": "ETH", "expiry": EXPIRY.isoformat(), "strike": strike, "kind": kind,
            "mark_iv": 0.6, "forward": 3010.0, "bid_coin": 0.05, "ask_coin": 0.06,
            "mark_coin": 0.055} | more  # fmt: skip


FAULTS = {
    "per cent": ({"mark_iv": 60.0}, "divide by 100"),
    "no volatility": ({"mark_iv": 0.0}, "mark_iv is not above 0"),
    "strike": ({"strike": -1.0}, "strike is not above 0"),
    "forward": ({"forward": None}, "forward is missing"),
    "expired": ({"expiry": (NOW - timedelta(days=1)).isoformat()}, "drop what expired"),
    "naive expiry": ({"expiry": "2026-03-27T08:00:00"}, "expiry has no time zone"),
    "far expiry": ({"expiry": "2126-03-27T08:00:00Z"}, "ten years ahead"),
    "kind": ({"kind": "call"}, "c (call) or p (put)"),
    "crossed": ({"bid_coin": 0.07}, "crossed quote"),
    "in dollars": ({"mark_coin": 165.0}, "--set quote=usd"),
    "nan": ({"mark_iv": float("nan")}, "NaN"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_quote_is_set_aside_with_its_reason_and_the_good_ones_stay(lake, tmp_path, name):
    change, said = FAULTS[name]
    report = loaded(lake, tmp_path, "options", [quote(), quote(3100.0) | change], preset="deribit-chain")
    assert (report.added, report.rejected) == (1, 1)
    assert any(said in reason for reason in report.reasons), report.reasons
    assert lake_chain(lake)["strike"].to_list() == [3000.0]


def test_a_quote_is_known_at_its_moment_and_an_index_a_day_later(lake, tmp_path):
    loaded(lake, tmp_path, "options", [quote(hours=h) for h in (0, 6)], preset="deribit-chain")
    assert len(lake_chain(lake, NOW - timedelta(hours=6))) == 1
    bars = [
        {"ts": (NOW.replace(hour=0) - timedelta(days=d)).isoformat(), "asset": "BTC", "close": 60.0} for d in (1, 2, 3)
    ]
    loaded(lake, tmp_path, "volindex", bars, preset="dvol")
    stored = lake.scan("volindex").collect()
    assert (stored["available_at"] - stored["ts"]).unique().to_list() == [timedelta(days=1)]
    assert lake_index(lake)["close"].to_list() == [60.0] * 3
    report = loaded(lake, tmp_path, "volindex", [b | {"value": 60.0} for b in bars], constants={"horizon_s": "2592000"})
    assert report.rejected == 3
    with pytest.raises(NotEnoughData, match="the lake has no options"):
        lake_chain(Lake(str(tmp_path / "empty")))


def filled(lake, tmp_path, **skip):
    """Write prices, chain, perps, rates and one position of each kind; ``skip`` leaves a table out."""
    liquidity = str(2 * 10**17)
    held = [
        {"position_id": "cash", "kind": "stable", "quantity": 1000.0},
        {"position_id": "coins", "kind": "spot", "asset": "ETH", "quantity": 2.0},
        {"position_id": "staked", "kind": "yield", "asset": "ETH", "quantity": 3.0, "contract": "0xAB", "chain_id": 1},
        {"position_id": "hedge", "kind": "perp", "asset": "ETH", "venue": "x", "quantity": -4.0, "entry_price": 3100.0,
         "margin": 5000.0},
        {"position_id": "call", "kind": "option", "asset": "ETH", "venue": "deribit", "quantity": -1.0,
         "strike": 3000.0, "expiry": EXPIRY.isoformat(), "option_kind": "c", "settle": "coin"},
        {"position_id": "between", "kind": "option", "asset": "ETH", "venue": "deribit", "quantity": 1.0,
         "strike": 3050.0, "expiry": EXPIRY.isoformat(), "option_kind": "c", "settle": "coin"},
        {"position_id": "v3", "kind": "lp_v3", "asset": "ETH", "liquidity_raw": liquidity, "tick_lower": -199_000,
         "tick_upper": -193_000, "base_token": 0, "base_decimals": 18, "quote_decimals": 6},
    ]  # fmt: skip
    names = {k for row in held for k in row}
    rows = [{"portfolio": "mine", "ts": NOW.isoformat()} | {n: row.get(n) for n in sorted(names)} for row in held]
    tables = {
        "positions": rows,
        "perps": [{"venue": "x", "asset": "ETH", "ts": (NOW - timedelta(hours=h)).isoformat(), "mark": 3001.0,
                   "funding_rate": 1e-4, "interval_s": 28800} for h in (0, 8)],
        "rates": [{"chain_id": 1, "token": "0xAB", "ts": (NOW - timedelta(days=d)).isoformat(),
                   "rate": 1.2 * 1.03 ** (-d / 365)} for d in (0, 10)],
        "options": [quote(k, hours=h) for h in (0, 6) for k in (2900.0, 3000.0, 3100.0)],
        "prices": [{"source": "x", "asset": "ETH", "step": 3600, "ts": (NOW - timedelta(hours=h)).isoformat(),
                    "close": 3000.0} for h in (1, 2)],
    }  # fmt: skip
    for name, given in tables.items():
        if name not in skip:
            preset = "deribit-chain" if name == "options" else None
            assert loaded(lake, tmp_path, name, given, preset=preset).rejected == 0


def test_a_portfolio_of_every_kind_is_priced_from_the_lake(lake, tmp_path):
    filled(lake, tmp_path)
    book = book_of(lake, "mine", NOW)
    by_name = {p.name: p for p in book.positions}
    assert len(by_name) == 7
    assert by_name["staked"].rate == pytest.approx(1.2)
    assert by_name["staked"].rate_growth == pytest.approx(0.02956, rel=1e-3)
    assert by_name["hedge"].funding == 1e-4
    assert isinstance(by_name["call"], Option)
    assert by_name["between"].vol == pytest.approx(0.6, rel=1e-9)
    pool = by_name["v3"]
    assert isinstance(pool, Pool)
    assert pool.lower == pytest.approx(1.0001**-199_000 * 1e12)
    assert pool.lower < 3000 < pool.upper
    assert pool.liquidity == pytest.approx(2e5)
    found = view(book)
    assert found["assets"][1]["asset"] == "ETH" or found["assets"][0]["asset"] == "ETH"
    assert found["total"]["delta_usd"] == pytest.approx(sum(r["delta_usd"] for r in found["lines"]))


def test_the_other_order_of_a_pools_tokens_is_the_same_position(lake, tmp_path):
    filled(lake, tmp_path)
    row = lake.scan("positions").filter(pl.col("position_id") == "v3").collect()
    turned = row.with_columns(base_token=pl.lit(1, pl.Int64), tick_lower=-pl.col("tick_upper"),
                              tick_upper=-pl.col("tick_lower"), portfolio=pl.lit("turned"))  # fmt: skip
    lake.write("positions", turned)
    a, b = (next(p for p in book_of(lake, n, NOW).positions if p.name == "v3") for n in ("mine", "turned"))
    assert (a.lower, a.upper, a.liquidity) == pytest.approx((b.lower, b.upper, b.liquidity))
    assert row["liquidity_raw"][0] == to_word(2 * 10**17)


@pytest.mark.parametrize(
    ("without", "said"),
    [("prices", "no price of ETH"), ("options", "no option chain of ETH"), ("perps", "no funding of ETH at x"),
     ("rates", "no exchange rate of 0xAB")],
)  # fmt: skip
def test_what_is_unpriced_is_refused_by_name(lake, tmp_path, without, said):
    filled(lake, tmp_path, **{without: True})
    with pytest.raises(DataError, match=said):
        book_of(lake, "mine", NOW)


def test_what_is_stale_or_unknown_is_refused(lake, tmp_path):
    filled(lake, tmp_path)
    with pytest.raises(DataError, match="over 2 intervals old") as stale:
        book_of(lake, "mine", NOW + timedelta(hours=20))
    assert "price of ETH" in str(stale.value)
    assert "option chain" in str(stale.value)
    with pytest.raises(NotEnoughData, match="known are mine"):
        book_of(lake, "yours", NOW)
    with pytest.raises(NotEnoughData, match="known are none"):
        book_of(lake, "mine", NOW - timedelta(days=1))
    with pytest.raises(ConfigError, match="either a BOOK"):
        greeks_of(None, None, None, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"kind": "future"}, "kind is none of"), ({"quantity": None}, "quantity is missing"),
     ({"kind": "perp", "venue": "x", "entry_price": 3000.0}, "margin is missing"), ({"kind": "lp_v3"}, "tick_lower")],
)  # fmt: skip
def test_bad_positions_are_set_aside(lake, tmp_path, change, said):
    row = {"portfolio": "mine", "position_id": "a", "ts": NOW.isoformat(), "kind": "spot", "asset": "ETH",
           "quantity": 1.0} | change  # fmt: skip
    report = loaded(lake, tmp_path, "positions", [row])
    assert report.rejected == 1
    assert any(said in reason for reason in report.reasons), report.reasons
