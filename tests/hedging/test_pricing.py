"""Prices, Greeks and implied volatilities against QuantLib, parity, finite differences and round trips."""

from __future__ import annotations

import math

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.hedging import pricing
from policy.hedging.pricing import DELTA, GAMMA, PRICE, THETA, VANNA, VEGA, VOLGA

RNG = np.random.default_rng(3)


def random_options(n, rng=RNG):
    F = rng.uniform(500, 90_000, n)
    return (
        F,
        F * np.exp(rng.normal(0, 0.4, n)),
        rng.uniform(1 / 365, 1.5, n),
        rng.uniform(0.1, 2.5, n),
        rng.random(n) < 0.5,
    )


def test_prices_and_greeks_are_those_of_quantlib():
    F, K, tau, vol, call = random_options(2_000)
    mine = pricing.greeks(F, K, tau, vol, call)
    theirs = np.empty((F.size, 4))
    for i in range(F.size):
        kind = ql.Option.Call if call[i] else ql.Option.Put
        one = ql.BlackCalculator(ql.PlainVanillaPayoff(kind, K[i]), F[i], vol[i] * math.sqrt(tau[i]), 1.0)
        theirs[i] = one.value(), one.deltaForward(), one.gammaForward(), one.vega(tau[i])
    scale = np.column_stack([F, np.ones_like(F), 1 / F, F])
    assert np.abs((mine[:, [PRICE, DELTA, GAMMA, VEGA]] - theirs) / scale).max() < 1e-10


@pytest.mark.parametrize(
    ("column", "bump", "of"),
    [(DELTA, 0, PRICE), (GAMMA, 0, DELTA), (VEGA, 3, PRICE), (THETA, 2, PRICE), (VANNA, 3, DELTA), (VOLGA, 3, VEGA)],
)
def test_every_greek_is_the_slope_of_its_price(column, bump, of):
    F, K, tau, vol, call = random_options(500)
    F, K = F / F * 100, K / F * 100
    args = [F, K, tau, vol]
    h = 1e-5 * args[bump]
    up, down = list(args), list(args)
    up[bump], down[bump] = args[bump] + h, args[bump] - h
    slope = (pricing.greeks(*up, call)[:, of] - pricing.greeks(*down, call)[:, of]) / (2 * h)
    if column == THETA:  # time passes as the time to expiry falls
        slope = -slope
    mine = pricing.greeks(*args, call)[:, column]
    assert np.allclose(mine, slope, rtol=3e-6, atol=1e-6 * np.abs(mine).max())


finite = {
    "F": st.floats(1e-3, 1e6), "moneyness": st.floats(-3, 3), "tau": st.floats(1e-6, 5), "vol": st.floats(1e-4, 5),
}  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(**finite)
def test_parity_bounds_and_monotone(F, moneyness, tau, vol):
    K = F * math.exp(moneyness)
    at = lambda F, v, t: pricing.greeks([F, F], [K, K], [t, t], [v, v], np.array([True, False]))  # noqa: E731
    call, put = at(F, vol, tau)
    assert np.isfinite([call, put]).all()
    assert abs(call[PRICE] - put[PRICE] - (F - K)) <= 1e-12 * max(F, K)
    slack = 1e-12 * max(F, K)
    assert max(F - K, 0) - slack <= call[PRICE] <= F + slack
    assert max(K - F, 0) - slack <= put[PRICE] <= K + slack
    assert at(F, vol * 1.1, tau)[0, PRICE] >= call[PRICE] - slack
    assert at(F, vol, tau * 1.1)[0, PRICE] >= call[PRICE] - slack
    assert at(F * 1.01, vol, tau)[0, PRICE] >= call[PRICE] - slack


def test_implied_volatility_comes_back():
    F, K, tau, vol, call = random_options(10_000, np.random.default_rng(4))
    g = pricing.greeks(F, K, tau, vol, call)
    found = pricing.implied_vol(g[:, PRICE], F, K, tau, call)
    seen = g[:, VEGA] > 1e-8 * F
    seen &= np.abs(g[:, PRICE] - np.maximum(np.where(call, F - K, K - F), 0)) > 1e-9 * F  # digits left above intrinsic
    assert seen.mean() > 0.85
    assert (found.status[seen] == pricing.OK).all()
    lost = 4e-16 * np.maximum(F, K) / np.maximum(g[:, VEGA], 1e-300)  # what rounding of the price itself costs
    assert (np.abs(found.vol - vol)[seen] <= np.maximum(1e-8, 8 * lost[seen])).all()
    deep = g[:, VEGA] > 1e-4 * F
    assert np.abs(found.vol - vol)[deep].max() < 1e-8


@pytest.mark.parametrize(
    ("price", "call", "reason"),
    [
        (10.0, True, "at or below intrinsic"), (9.0, True, "at or below intrinsic"), (110.0, True, "at or above"),
        (-1.0, True, "positive"), (math.nan, True, "positive"), (0.0, False, "positive"), (100.0, False, "at or above"),
    ],
)  # fmt: skip
def test_no_volatility_is_made_up(price, call, reason):
    found = pricing.implied_vol([price], [110.0], [100.0], [0.1], np.array([call]))
    assert math.isnan(found.vol[0])
    assert reason in found.reason(0)


def test_the_limits_are_finite():
    F, K = np.array([100.0] * 6), np.array([1e-6, 1e9, 100, 100, 90, 110.0])
    for tau, vol in ((0.0, 0.5), (1e-12, 0.5), (0.1, 0.0), (0.1, 1e-9), (10.0, 10.0)):
        out = pricing.greeks(F, K, np.full(6, tau), np.full(6, vol), np.array([True, False] * 3))
        assert np.isfinite(out).all()
    assert np.isnan(pricing.greeks([-1.0], [100.0], [0.1], [0.5], np.array([True]))).all()
