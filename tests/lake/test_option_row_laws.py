"""Every rule of option, perpetual and position rows: a sound row breaks none, one fault breaks its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.option_tables import Options, Perps, Positions, VolIndex
from lake.sources.option_rows import KINDS, NEEDS, RULES

AT = datetime(2024, 1, 1, tzinfo=UTC)
OPTION = {
    "venue": "v", "asset": "ETH", "expiry": AT + timedelta(days=30), "strike": 2_000.0, "kind": "c", "ts": AT,
    "bid": 0.04, "ask": 0.05, "mark": 0.045, "quote": "coin", "mark_iv": 0.6, "forward": 2_010.0,
    "open_interest": 1.0, "available_at": AT,
}  # fmt: skip
INDEX = {"asset": "ETH", "ts": AT, "value": 0.6, "horizon_s": 2_592_000, "available_at": AT}
PERP = {
    "venue": "v", "asset": "ETH", "ts": AT, "mark": 2_000.0, "index": 2_001.0, "funding_rate": 1e-4,
    "interval_s": 28_800, "taker_fee": 5e-4, "available_at": AT,
}  # fmt: skip
HELD: dict[str, Any] = {
    "portfolio": "p", "position_id": "1", "ts": AT, "venue": "v", "asset": "ETH", "quantity": -1.0, "strike": 2_000.0,
    "expiry": AT + timedelta(days=30), "option_kind": "c", "settle": "coin", "entry_price": 2_000.0, "margin": 100.0,
    "tick_lower": -10, "tick_upper": 10, "liquidity_raw": b"\0" * 31 + b"\1", "base_token": 0, "base_decimals": 18,
    "quote_decimals": 6, "chain_id": 1, "contract": "0x" + "1" * 40, "available_at": AT,
}  # fmt: skip
SOUND = {"options": (Options, OPTION), "volindex": (VolIndex, INDEX), "perps": (Perps, PERP)}


def broken(table: str, schema: type, row: dict[str, Any]) -> list[str]:
    """Return the reasons of the rules that ``row`` breaks."""
    frame = pl.DataFrame([row], schema={name: schema.columns()[name].dtype for name in row})
    return [reason for reason, fault in RULES[table] if frame.select(fault.fill_null(value=False)).item()]


@pytest.mark.parametrize("table", list(SOUND))
def test_a_sound_row_breaks_no_rule(table):
    assert broken(table, *SOUND[table]) == []


@pytest.mark.parametrize(
    ("table", "fault", "words"),
    [
        ("options", {"kind": "call"}, "kind is not c"),
        ("options", {"quote": "eur"}, "quote is not coin or usd"),
        ("options", {"mark_iv": 60.0}, "in per cent"),
        ("options", {"expiry": AT}, "expiry is not after ts"),
        ("options", {"bid": 0.06}, "crossed quote"),
        ("options", {"bid": 90.0, "ask": 95.0}, "bid of a call above one coin"),
        ("options", {"mark": 92.0}, "mark of a call above one coin"),
        ("options", {"quote": "usd", "bid": 2_011.0, "ask": 2_012.0}, "bid of a call above its forward"),
        ("options", {"quote": "usd", "mark": 2_011.0}, "mark of a call above its forward"),
        ("volindex", {"value": 60.0}, "in points"),
        ("perps", {"funding_rate": 0.11}, "beyond 10 %"),
        ("perps", {"funding_rate": -0.11}, "beyond 10 %"),
        ("perps", {"taker_fee": 1.0}, "not below one"),
    ],
)
def test_one_fault_breaks_its_rule_alone(table, fault, words):
    schema, row = SOUND[table]
    [reason] = broken(table, schema, row | fault)
    assert words in reason


@given(strike=st.floats(1, 1e6), coin=st.floats(1.001, 50), usd=st.floats(1, 1e6))
def test_a_put_may_be_worth_more_than_a_coin_and_a_call_never_more_than_its_forward(strike, coin, usd):
    put = OPTION | {"kind": "p", "strike": strike, "bid": coin, "ask": coin, "mark": coin}
    assert broken("options", Options, put) == []
    call = OPTION | {"quote": "usd", "bid": None, "ask": None, "mark": usd}
    assert bool(broken("options", Options, call)) == (usd > OPTION["forward"])


@pytest.mark.parametrize("column", ["bid", "ask", "mark", "open_interest"])
def test_a_quote_that_is_not_there_is_no_fault(column):
    assert broken("options", Options, OPTION | {column: None}) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_position_needs_what_its_kind_needs_and_nothing_more(kind):
    needed = {"portfolio", "position_id", "ts", "available_at", *NEEDS[kind]}
    row = {name: value if name in needed else None for name, value in HELD.items()} | {"kind": kind}
    assert broken("positions", Positions, row) == []
    for column in NEEDS[kind]:
        [reason] = broken("positions", Positions, row | {column: None})
        assert f"{column} is missing, which a position of kind {kind} needs" in reason


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "future"}, "kind is none of"),
        ({"option_kind": "C"}, "option_kind is not c or p"),
        ({"settle": "cash"}, "settle is not coin or usd"),
        ({"expiry": AT}, "settle it and leave it out"),
        ({"tick_lower": 10}, "not below tick_upper"),
    ],
)
def test_a_position_out_of_shape_is_refused_with_the_remedy(fault, words):
    [reason] = broken("positions", Positions, HELD | {"kind": "option"} | fault)
    assert words in reason
