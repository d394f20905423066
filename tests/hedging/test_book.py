"""The book: every Greek of every kind of line against finite differences of its value, and sums that are sums."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import DataError
from policy.hedging import book as books
from policy.hedging import lp
from policy.hedging.book import Book, Shift
from policy.hedging.instruments import InversePerp, Option, Perp, Pool, Spot, Stable

NOW = datetime(2026, 3, 1, tzinfo=UTC)
S0 = 3_000.0


def option(quantity=1.0, kind="call", strike=3_200.0, days=30, vol=0.6, forward=3_020.0, premium="coin", **more):
    return Option("o", "ETH", quantity, kind, strike, NOW + timedelta(days=days), vol, forward, premium, **more)


KINDS = {
    "stable": Stable("s", 1_000.0),
    "spot": Spot("s", "ETH", 2.0),
    "staked": Spot("w", "ETH", 2.0, 1.2, 0.03),
    "perp": Perp("p", "ETH", -3.0, 2_900.0, 500.0, 1e-4),
    "inverse perp": InversePerp("i", "ETH", -5_000.0, 2_800.0, 1.5, 1e-4),
    "coin call": option(-2.0),
    "coin put": option(1.5, "put", 2_700.0),
    "usd call": option(1.0, premium="usd", discount=0.99),
    "pool": Pool("v3", "ETH", 40.0, 2_400.0, 3_700.0),
}


def one(position, spot=S0, nav=None):
    return Book(NOW, {"ETH": spot}, (position,), nav)


@pytest.mark.parametrize("name", KINDS)
def test_greeks_are_slopes_of_the_value(name):
    book = one(KINDS[name])
    g = books.total(books.lines(book))
    value = lambda **s: books.value_usd(book, Shift(**s))  # noqa: E731
    h = 1e-4
    up, mid, down = value(spot=h), value(), value(spot=-h)
    assert (up - down) / (2 * h) == pytest.approx(g.delta_usd, rel=1e-6, abs=1e-6)
    assert (up - 2 * mid + down) / h**2 == pytest.approx(g.cash_gamma_usd, rel=1e-4, abs=2e-3)
    vol = KINDS[name].vol if isinstance(KINDS[name], Option) else 1.0
    per_point = (value(vol=1e-4) - value(vol=-1e-4)) / (2e-4 * vol) * books.POINT
    assert per_point == pytest.approx(g.vega_usd_per_point, rel=1e-5, abs=1e-7)
    a_day = (value(days=1e-4) - mid) / 1e-4
    assert a_day == pytest.approx(g.theta_usd_per_day + g.carry_usd_per_day, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["coin call", "coin put", "spot", "inverse perp", "pool"])
def test_the_coin_delta_is_the_slope_of_the_account_in_coins(name):
    g = books.total(books.lines(one(KINDS[name])))
    h = 1e-5
    coins = lambda move: books.value_usd(one(KINDS[name]), Shift(spot=move)) / (S0 * (1 + move))  # noqa: E731
    assert S0 * (coins(h) - coins(-h)) / (2 * h * S0) == pytest.approx(g.coin_delta_units, rel=1e-5, abs=1e-8)


def test_the_venue_reports_the_usd_delta_and_the_coin_delta_is_less_by_the_premium():
    call = option(1.0, strike=3_020.0, forward=3_020.0)
    g = books.total(books.lines(one(call)))
    assert g.coin_delta_units == pytest.approx(g.delta_units - g.value_usd / S0, rel=1e-12)
    assert 0.5 < g.delta_units < 0.56


lines = st.sampled_from(sorted(KINDS))


@settings(max_examples=50, deadline=None)
@given(st.lists(lines, min_size=1, max_size=8), st.floats(0.1, 0.9))
def test_sums_do_not_depend_on_how_a_position_is_held(names, share):
    field = {"stable": "amount_usd", "pool": "liquidity", "inverse perp": "notional_usd"}

    def scaled(name, by):
        p = KINDS[name]
        more = {"margin_usd": p.margin_usd * by} if name == "perp" else {}
        more = {"margin_coin": p.margin_coin * by} if name == "inverse perp" else more
        attribute = field.get(name, "quantity")
        return replace(p, **{attribute: getattr(p, attribute) * by}, **more)

    whole = Book(NOW, {"ETH": S0}, tuple(KINDS[n] for n in names))
    split = replace(whole, positions=tuple(scaled(n, b) for n in names for b in (share, 1 - share)))
    flat = replace(whole, positions=tuple(scaled(n, b) for n in names for b in (1.0, -1.0)))
    a, b = books.total(books.lines(whole)), books.total(books.lines(split))
    none = books.total(books.lines(flat))
    for f in books.fields(books.Greeks):
        size = 1e-9 * (1 + abs(getattr(a, f.name)))
        assert getattr(b, f.name) == pytest.approx(getattr(a, f.name), abs=size)
        assert abs(getattr(none, f.name)) <= size
    assert books.value_usd(whole, Shift()) == pytest.approx(a.value_usd, rel=1e-12, abs=1e-9)


def test_break_even_move_makes_theta_and_gamma_cancel():
    g = books.total(books.lines(one(option(1.0))))
    move = g.breakeven_daily_move
    assert 0.5 * g.cash_gamma_usd * move**2 + g.theta_usd_per_day == pytest.approx(0.0, abs=1e-9)
    assert books.total(books.lines(one(KINDS["spot"]))).breakeven_daily_move is None


def test_pool_is_continuous_at_its_edges_and_its_gamma_is_smooth():
    P = np.array([2_399.999, 2_400.001, 3_699.999, 3_700.001])
    v, d = lp.value(P, 40.0, 2_400.0, 3_700.0), lp.delta(P, 40.0, 2_400.0, 3_700.0)
    assert abs(v[1] - v[0]) < 1e-2
    assert abs(v[3] - v[2]) < 1e-5
    assert abs(d[1] - d[0]) < 1e-6
    assert d[3] == 0.0
    assert lp.cash_gamma(P, 40.0, 2_400.0, 3_700.0)[0] == 0.0
    assert lp.smooth_cash_gamma(P, 40.0, 2_400.0, 3_700.0, 0.7)[0] < -0.3 * 20 * 2_400**0.5
    assert lp.value(np.array([S0]), lp.liquidity_of(1e5, S0, 2_400.0, 3_700.0), 2_400.0, 3_700.0)[0] == pytest.approx(
        1e5
    )


@pytest.mark.parametrize("price", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_missing_price_is_no_zero(price):
    spot = {} if price is None else {"ETH": price}
    with pytest.raises(DataError, match="spot price of ETH"):
        books.lines(Book(NOW, spot, (KINDS["spot"],)))


def test_exposures_need_a_net_asset_value():
    debt = one(Perp("p", "ETH", 1.0, 4_000.0, 100.0))
    with pytest.raises(DataError, match="net asset value"):
        books.nav_of(debt, books.lines(debt))
