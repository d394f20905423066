"""Speed of the option kernel and of a book, against the vectorised closed form of scipy in the same run."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy.special import ndtr

from lake.evm import BlockHeader
from lake.rpc import Rpc
from pipelines.vault_setup.hedge_rule import HedgeTermsOf, book_of_lines, greeks_of_book, hedge_rule
from policy.execution.base import Leg, Plan, Token
from policy.execution.hedge_engine import HedgeQuestion
from policy.execution.routing.amm import V2Pool
from policy.execution.vaults.hedge.adapter import HedgeAccount
from policy.execution.vaults.hedge.state import (
    WAD,
    BookLine,
    HedgeLayout,
    HedgeLimits,
    HedgeStanding,
    HedgeState,
    PerpTerms,
)
from policy.execution.vaults.hedge.venues import PerpVenue, SpotVenue, split
from policy.hedging import book as books
from policy.hedging import pricing
from policy.hedging.decision import HedgeMandate
from policy.hedging.instruments import Option
from policy.hedging.stress import ladder
from tests.bench.pace import Pace

NOW_S = 1_767_225_600
HEDGE_TERMS = HedgeTermsOf(HedgeMandate(gamma=10.0), 300.0)


def chain(n):
    rng = np.random.default_rng(0)
    F = rng.uniform(1_000, 80_000, n)
    return F, F * np.exp(rng.normal(0, 0.3, n)), rng.uniform(0.01, 1, n), rng.uniform(0.2, 1.5, n), rng.random(n) < 0.5


def peer(F, K, tau, vol, call):
    """The seven figures in numpy and scipy: what one would write without a compiler."""
    root = np.sqrt(tau)
    sd = vol * root
    d1 = np.log(F / K) / sd + 0.5 * sd
    d2, s = d1 - sd, np.where(call, 1.0, -1.0)
    density = np.exp(-0.5 * d1 * d1) / np.sqrt(2 * np.pi)
    price, vega = s * (F * ndtr(s * d1) - K * ndtr(s * d2)), F * density * root
    return np.column_stack([
        price, s * ndtr(s * d1), density / (F * sd), vega, -0.5 * F * density * vol / root, -density * d2 / vol,
        vega * d1 * d2 / vol,
    ])  # fmt: skip


def test_kernel_and_implied_volatility(pace: Pace):
    n = pace.pick(400_000, 500)
    args = chain(n)
    mine, theirs = pricing.greeks(*args), peer(*args)
    assert np.allclose(mine, theirs, rtol=1e-9, atol=1e-9)
    pricing.implied_vol(mine[:, 0], *args[:3], args[4])
    out, flat = np.empty((n, 7)), [np.ascontiguousarray(a) for a in args]
    kernel = pace.seconds(lambda: pricing._greeks(*flat, out), 5, time.thread_time)
    with_numpy = pace.seconds(lambda: peer(*args), 5, time.thread_time)
    implied = pace.seconds(lambda: pricing.implied_vol(mine[:, 0], *args[:3], args[4]), 3, time.thread_time)
    print(
        f"\nkernel {n / kernel / 1e6:.1f} M options/s a core, numpy and scipy {n / with_numpy / 1e6:.1f} M; "
        f"implied volatility {n / implied / 1e6:.2f} M/s"
    )
    if pace.timed:
        assert n / kernel > 10e6
        assert n / implied > 0.7e6
        assert kernel < with_numpy


def test_a_book_of_a_thousand_lines(pace: Pace):
    now, rng = datetime(2026, 1, 1, tzinfo=UTC), np.random.default_rng(1)
    n = pace.pick(1_000, 50)
    held = tuple(
        Option(f"o{i}", "ETH", float(rng.normal()), "call", 3_000.0 * float(rng.uniform(0.5, 1.5)),
               now + timedelta(days=int(rng.integers(1, 90))), 0.7, 3_010.0, "coin")
        for i in range(n)
    )  # fmt: skip
    book = books.Book(now, {"ETH": 3_000.0}, held, 1e6)
    books.total(books.lines(book))
    whole = pace.seconds(lambda: books.total(books.lines(book)), 7, time.thread_time)
    rungs = pace.seconds(
        lambda: ladder(book, np.linspace(-0.5, 0.5, 41), np.linspace(-0.5, 1, 21)), 2, time.thread_time
    )
    print(f"\nbook of {n} lines {1e3 * whole:.1f} ms; ladder of 41 x 21 of it {rungs:.2f} s")
    if pace.timed:
        assert whole < 0.020
        assert rungs < 1.0


def hedge_state(net_units: float, spot_units: float = 0.0) -> HedgeState:
    """A hedge account with a short straddle and a pool position as its book."""
    expiry = NOW_S + 20 * 86_400
    sold = (-100 * WAD, 1_500 * WAD, expiry, 7 * WAD // 10)
    lines = (
        BookLine(0, *sold), BookLine(1, *sold),
        BookLine(2, 36_000 * WAD, 1_200 * WAD, 1_875 * WAD, 0), BookLine(3, 57 * WAD, 0, 0, 0),
    )  # fmt: skip
    cash, asset = Token("USDC", "0x" + "1" * 40, 6), Token("WETH", "0x" + "2" * 40, 18)
    head, layout = BlockHeader(1, "0x" + "0" * 64, NOW_S, 10**9, 0, 30_000_000), ("0x" + "3" * 40, "0x" + "4" * 40)
    made = HedgeState(
        head, HedgeLayout(1, cash, asset, *layout),
        HedgeStanding(400_000 * 10**6, int(spot_units * WAD), 0, 0, 500_000 * 10**6), 0, NOW_S, 0, 10**8,
        1_500 * 10**8, 0, 0, HedgeLimits(), 0, False, PerpTerms(0, 1, 5, 500, 250, False), 0, lines, 0,
    )  # fmt: skip
    book = greeks_of_book(book_of_lines(made, datetime.fromtimestamp(NOW_S, UTC)), "WETH", HEDGE_TERMS)
    return replace(made, book=int(book.delta_units * WAD), wanted=0) if net_units else made


def test_a_hedge_decision_from_state_to_plan(pace: Pace):
    account = HedgeAccount(Rpc("http://127.0.0.1:1"), "0x" + "5" * 40)
    state, rule = hedge_state(1.0, 60.0), hedge_rule(HEDGE_TERMS)
    ends = (state.layout.cash.address, state.layout.asset.address)
    pool = V2Pool("0x" + "6" * 40, *ends, 10**14, 10**26 // 1_500, 3_000, "0x" + "7" * 40)

    def decide() -> Plan:
        spot, perp = SpotVenue(state, account.address, (pool,)), PerpVenue(state)
        said = rule(HedgeQuestion(state, 5.0, spot.fee(WAD), perp.fee(WAD), datetime.fromtimestamp(NOW_S, UTC)))
        assert not said.refusals
        sizes = split(int(said.change_units * WAD), spot.exposure(), perp.exposure())
        legs = [v.build(s, NOW_S + 600, 30) for v, s in zip((spot, perp), sizes, strict=True) if s]
        assert all(isinstance(leg, Leg) for leg in legs), legs
        plan = Plan("d", account.address, 1, 0, NOW_S + 600, 0, tuple(legs), b"", 1, "0x")
        return account.seal(plan)

    assert len(decide().legs) == 2
    seconds = pace.seconds(decide, 20, time.thread_time)
    print(f"\nhedge decision, state to sealed plan, {1e3 * seconds:.1f} ms")
    if pace.timed:
        assert seconds < 0.050
