"""The change of a whole book: terms and rest sum to it, trades and gas have terms of their own, small moves fit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.errors import DataError, NotEnoughData
from lake.store import Lake
from pipelines.stages.book_changes import book_changes, with_funding
from policy.hedging.book import Book
from policy.hedging.book_attribution import CHANGES, change, explained_share, repriced, total_change
from policy.hedging.instruments import Perp, Pool, Spot, Stable
from tests.hedging.test_book import NOW, option

POSITIONS = (
    option(-5.0), option(3.0, "put", 2_800.0, premium="usd"), Pool("v3", "ETH", 40.0, 2_400.0, 3_700.0),
    Spot("staked", "ETH", 4.0, 1.2, 0.03), Perp("p", "ETH", -3.0, 2_900.0, 900.0, 1e-4), Stable("cash", 1_000.0),
)  # fmt: skip


def named(positions):
    return tuple(replace(p, name=f"{i}") for i, p in enumerate(positions))


def moved(book, spot, vol, hours):
    at = Book(book.ts + timedelta(hours=hours), {"ETH": book.spot["ETH"] * (1 + spot)}, tuple(
        replace(p, vol=p.vol * (1 + vol), forward=p.forward * (1 + spot)) if hasattr(p, "strike")
        else replace(p, rate=p.rate * np.exp(p.rate_growth * hours / 8760)) if isinstance(p, Spot) else p
        for p in book.positions
    ))  # fmt: skip
    return with_funding(book, repriced(book, at))


BEFORE = Book(NOW, {"ETH": 3_000.0}, named(POSITIONS))


@pytest.mark.parametrize(
    ("spot", "vol", "hours"), [(0.01, 0.02, 1), (-0.01, -0.02, 6), (0.0, 0.0, 6), (0.005, 0.0, 0.1)]
)
def test_small_moves_are_explained(spot, vol, hours):
    held = moved(BEFORE, spot, vol, hours)
    found = change(BEFORE, held, held)
    assert sum(found.terms.values()) + found.unexplained_usd == pytest.approx(found.pnl_usd)
    assert explained_share([found]) > 0.99
    assert set(found.terms) == set(CHANGES)


def test_uncollected_fees_are_earned_and_collecting_them_is_no_loss():
    pool, wallet = Pool("v3 7", "ETH", 40.0, 2_400.0, 3_700.0), Stable("wallet", 100.0)

    def at(hours, coins, cash, balance):
        fees = Spot("v3 7 fees ETH", "ETH", coins), Stable("v3 7 fees USDC", cash)
        held = (pool, replace(wallet, amount_usd=balance), *fees)
        return Book(NOW + timedelta(hours=hours), {"ETH": 3_000.0}, held)

    start, later, collected = at(0, 0.01, 20.0, 100.0), at(1, 0.03, 50.0, 100.0), at(2, 0.0, 0.0, 240.0)
    grown = change(start, repriced(start, later), later)
    assert grown.terms["fees_earned"] == pytest.approx(0.02 * 3_000 + 30)
    assert grown.terms["trading"] == pytest.approx(0.0, abs=1e-9)
    taken = change(later, repriced(later, collected), collected)
    assert taken.terms["fees_earned"] == 0.0
    assert taken.pnl_usd == pytest.approx(0.0, abs=1e-9)
    assert taken.terms["trading"] == pytest.approx(0.0, abs=1e-9)
    first = Book(NOW, {"ETH": 3_000.0}, (pool,))  # nothing was owed yet
    assert change(first, repriced(first, later), later).terms["fees_earned"] == pytest.approx(0.03 * 3_000 + 50)


def test_what_trades_took_gas_and_fees_are_terms_of_their_own():
    held = moved(BEFORE, 0.01, 0.0, 1)
    paid = replace(held, positions=tuple(
        replace(p, amount_usd=p.amount_usd - 7.0) if isinstance(p, Stable) else p for p in held.positions
    ))  # fmt: skip
    plain, traded = change(BEFORE, held, held), change(BEFORE, held, paid, gas_usd=3.0, fees_usd=2.0)
    assert traded.terms["trading"] == pytest.approx(-7.0)
    assert traded.terms["gas"] == -3.0
    assert traded.terms["fees_earned"] == 2.0
    assert traded.pnl_usd == pytest.approx(plain.pnl_usd - 8.0)
    assert traded.unexplained_usd == pytest.approx(plain.unexplained_usd)
    whole = total_change([plain, traded])
    assert whole.pnl_usd == pytest.approx(plain.pnl_usd + traded.pnl_usd)


def test_a_sign_error_would_be_seen_and_other_positions_are_refused():
    held = moved(BEFORE, 0.02, 0.0, 1)
    found = change(BEFORE, held, held)
    wrong = replace(found, terms={**found.terms, "gamma": -found.terms["gamma"]})
    assert explained_share([wrong]) < explained_share([found])
    with pytest.raises(DataError, match="other positions"):
        change(BEFORE, Book(held.ts, held.spot, held.positions[:-1]), held)
    assert explained_share([]) == 1.0


def test_recorded_books_of_a_portfolio_are_attributed(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    ts = [NOW + timedelta(hours=h) for h in range(4)]
    price = [3_000.0, 3_030.0, 3_000.0, 2_985.0]
    known = timedelta(hours=1)
    lake.write("prices", pl.DataFrame({"source": "x", "asset": "ETH", "step": 3600, "ts": [t - known for t in ts],
                                       "close": price, "available_at": ts}))  # fmt: skip
    rates = {"venue": "x", "asset": "ETH", "ts": ts, "mark": price, "funding_rate": 1e-4, "interval_s": 28_800}
    lake.write("perps", pl.DataFrame(rates).with_columns(available_at=pl.col("ts")))
    rows = [
        {"portfolio": "mine", "position_id": name, "ts": t, "kind": kind, "venue": "x", "asset": "ETH",
         "quantity": size, "entry_price": 3_000.0, "margin": 500.0}
        for t in ts for name, kind, size in (("coins", "spot", 2.0), ("hedge", "perp", -2.0))
    ]  # fmt: skip
    lake.write("positions", pl.DataFrame(rows).with_columns(available_at=pl.col("ts")))
    found = book_changes(lake, "mine", None, None, 0.99)
    assert found["intervals"] == 3
    assert found["sums_usd"]["delta"] == pytest.approx(0.0, abs=1e-9)
    assert found["sums_usd"]["funding"] == pytest.approx(2 * 1e-4 / 8 * (3_000 + 3_030 + 3_000))
    # the records never show the funding in the margin: it is told as taken by trades or flows
    assert found["sums_usd"]["trading"] == pytest.approx(-found["sums_usd"]["funding"])
    with pytest.raises(NotEnoughData, match="two are needed"):
        book_changes(lake, "mine", ts[3].isoformat(), None, 0.99)
