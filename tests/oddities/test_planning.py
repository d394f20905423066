"""Tokens without decimals, and oracles that the market disproves."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lake.units import bps
from policy.execution.base import Quote, Token
from policy.execution.checks.verdicts import refusals
from policy.execution.planner import Costs, PlanRules, PriceRisk, draft
from policy.execution.routing.amm import V2Pool

CASH = Token("USDC", "0x" + "01" * 20, 6)
FINE = Token("FINE", "0x" + "03" * 20, 18, "0xfeedf1")
COSTS = Costs(10**9, 2_000.0)
OUTLOOK = PriceRisk(np.zeros((2, 2)))
RULES = PlanRules(max_slippage_bps=bps(150), min_trade_usd=50.0)


def world(token: Token, price: float, market: float, cash: int, held: int):
    """A vault of the accounting asset and one token, with one deep v2 pool at the price ``market``."""
    value = cash / 1e6 + held / 10**token.decimals * price
    snapshot = SimpleNamespace(
        tokens=(CASH, token), holdings=(cash, held), targets_bps=(5_000, 5_000), max_turnover_bps=10_000, max_legs=8,
        quotes=(Quote(CASH.address, 10**8, 1, 1), Quote(token.address, int(price * 1e8), 1, 1)),
        block_time=1_700_000_000, nav=int(value * 1e6),
    )  # fmt: skip
    units = 400_000_000 / market
    pool = V2Pool("0xp", CASH.address, token.address, int(units * market * 1e6), int(units * 10**token.decimals), 3_000)
    return snapshot, pool


def drafted(token, price, market, cash, held, rules=RULES):
    snapshot, pool = world(token, price, market, cash, held)
    return draft("0xvault", snapshot, np.array([0.5, 0.5]), [pool], OUTLOOK, COSTS, rules)


@pytest.mark.parametrize("decimals", [0, 1])
@pytest.mark.parametrize("price", [900.0, 25_000.0, 70_000.0])
@pytest.mark.parametrize(("cash_usd", "units"), [(150_000, 0), (300_000, 1), (40_000, 3), (20_000, 9), (1_000, 1)])
def test_coarse_tokens_trade_in_whole_units_and_lose_no_more_than_fee_and_impact(decimals, price, cash_usd, units):
    token = Token("GOLD", "0x" + "02" * 20, decimals, "0xfeed")
    made = drafted(token, price, price, cash_usd * 10**6, units * 10**decimals)
    assert not refusals(made.verdicts), [v.reason for v in refusals(made.verdicts)]
    unit_usd = price / 10**decimals
    wanted = abs(cash_usd - units * price) / 2
    if wanted >= max(unit_usd * 1.005, RULES.min_trade_usd):
        assert made.legs
    if not made.legs:
        waits = [v for v in made.verdicts if v.check in {"whole_units", "min_trade"}]
        assert waits
        return
    leg = made.legs[0]
    if any(v.check == "whole_units" for v in made.verdicts):
        assert "whole units of" in next(v.reason for v in made.verdicts if v.check == "whole_units")
    if leg.token_out == token.address and any(v.check == "whole_units" for v in made.verdicts):
        cost = leg.amount_in / 1e6
        worth = leg.quoted_out * unit_usd
        assert worth <= cost <= worth * 1.0045  # the pool's 30 bp and its impact, no unit lost to rounding
        assert leg.min_out == leg.quoted_out


def test_a_unit_that_is_dearer_than_the_trade_waits():
    token = Token("GOLD", "0x" + "02" * 20, 0, "0xfeed")
    made = drafted(token, 25_000.0, 25_000.0, 30_000 * 10**6, 0)
    assert not made.legs
    assert not refusals(made.verdicts)
    assert [v.check for v in made.verdicts] == ["whole_units"]
    assert "25,000.00 USD" in made.verdicts[0].reason


@pytest.mark.parametrize("held", [0, 10**20])
@pytest.mark.parametrize("off", [0.5, 0.8, 0.93, 0.97, 1.03, 1.07, 1.25, 2.0])
def test_a_quote_that_beats_the_oracle_by_too_much_disproves_it(held, off):
    """Whether the feed is stuck above the market (bought cheap) or below it (sold dear)."""
    cash = 200_000 * 10**6 if held == 0 else 0
    made = drafted(FINE, 1_000.0, 1_000.0 * off, cash, held)
    gain = off < 1 / 1.05 if held == 0 else off > 1.06
    bad = [v for v in refusals(made.verdicts) if v.check == "oracle_disproved"]
    assert bool(bad) == gain
    if bad:
        assert bad[0].figures["token"] == FINE.address
        assert abs(bad[0].figures["market_e8"] / (1e11 * off) - 1) < 0.02
        assert all(w in bad[0].reason for w in ("FINE", "0xfeedf1", "1000 USD"))
        calm = drafted(FINE, 1_000.0, 1_000.0 * off, cash, held, replace(RULES, max_gain_bps=bps(10_000)))
        assert not [v for v in refusals(calm.verdicts) if v.check == "oracle_disproved"] or off in {0.5, 2.0}
