"""A price the market denies: in both directions, where it counts, never one that was moved for a moment."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policy.execution.base import Quote, Snapshot, Token
from policy.execution.checks.verdicts import NAV_DENIED, refused
from policy.execution.probes.denial import COUNTS_BPS, denied
from policy.execution.routing.amm import V2Pool

USDC = Token("USDC", "0x" + "a" * 40, 6, "0x" + "1" * 40)
ETH = Token("ETH", "0x" + "b" * 40, 18, "0x" + "2" * 40)
ORACLE_E8 = 2_000 * 10**8
MOST = 200


def snapshot(eth_share: float = 0.5, nav_usd: int = 1_000_000, price_e8: int = ORACLE_E8, **changes) -> Snapshot:
    """Return a vault of USDC and ETH; its feed says ``price_e8`` for ETH."""
    eth = int(nav_usd * eth_share * 10**18 / (price_e8 / 1e8))
    usdc = int(nav_usd * (1 - eth_share) * 10**6)
    quotes = (Quote(USDC.address, 10**8, 1, 0), Quote(ETH.address, price_e8, 1, 0))
    made = Snapshot(
        1, 100, "0x", 1_700_000_000, 10**10, (USDC, ETH), (usdc, eth), quotes, (5_000, 5_000), nav_usd * 10**6,
        10**24, 0, paused=False, max_turnover_bps=2_500, loss_budget_left=10**9,
    )  # fmt: skip
    return replace(made, **changes)


def pool(market_usd: float, depth_usd: float = 50e6, fee_pips: int = 500) -> V2Pool:
    """Return a deep pair that trades ETH at ``market_usd``."""
    return V2Pool(
        "0x" + "c" * 40, USDC.address, ETH.address, int(depth_usd * 10**6), int(depth_usd / market_usd * 10**18),
        fee_pips,
    )  # fmt: skip


def averages(price_e8: int | None):
    return {ETH.address: {"pool": price_e8}}


@given(gap_bps=st.integers(-3_000, 3_000))
def test_a_gap_is_denied_exactly_where_a_fill_beats_the_feed_by_more_than_allowed(gap_bps):
    """Whoever may trade at NAV takes the gap less fee and impact, whichever side it lies on."""
    market = 2_000.0 * (1 + gap_bps / 10_000)
    found = denied(snapshot(), [pool(market)], {}, MOST)
    fee = 5
    gain = abs(gap_bps) if gap_bps > 0 else abs(gap_bps) / (1 + gap_bps / 10_000)  # bought for less: more ETH per USD
    assume(abs(gain - fee - MOST) > 15)  # whole bp and the impact of a probe
    assert bool(found) == (gain - fee > MOST)
    if found:
        (verdict,) = found
        assert verdict.check == NAV_DENIED
        assert verdict.ok
        assert verdict.figures["symbol"] == "ETH"
        assert verdict.figures["price_e8"] == ORACLE_E8
        assert verdict.figures["market_e8"] / 1e8 == pytest.approx(market, rel=0.005)
        assert verdict.figures["gain_bps"] > MOST
        assert "ETH: the market trades at" in verdict.reason
        assert "200 bp are honest" in verdict.reason


@pytest.mark.parametrize("market", [1_500.0, 2_600.0])
@pytest.mark.parametrize(("average", "borne_out"), [(2_010, True), (1_961, True), (2_100, False), (None, False)])
def test_an_average_near_the_feed_bears_it_out_a_momentary_price_proves_nothing(market, average, borne_out):
    told = averages(None if average is None else average * 10**8)
    assert bool(denied(snapshot(), [pool(market)], told, MOST)) is not borne_out


def test_one_of_several_averages_is_enough_and_another_tokens_is_none():
    market = [pool(1_500.0)]
    both = {ETH.address: {"first": None, "second": ORACLE_E8}}
    assert not denied(snapshot(), market, both, MOST)
    assert denied(snapshot(), market, {USDC.address: {"first": ORACLE_E8}}, MOST)


def test_a_pool_too_shallow_for_the_probe_denies_nothing():
    """A hundredth of what is held must find its way: a puddle at another price is not the market."""
    assert denied(snapshot(), [pool(2_600.0, depth_usd=50e6)], {}, MOST)
    assert not denied(snapshot(), [pool(2_600.0, depth_usd=20_000.0)], {}, MOST)


def test_the_best_of_several_pools_counts():
    fair, off = pool(2_000.0), replace(pool(1_500.0), address="0x" + "d" * 40)
    assert not denied(snapshot(), [fair], {}, MOST)
    assert denied(snapshot(), [fair, off], {}, MOST)
    dear = replace(off, fee_pips=300_000)  # a fee of 30 % eats the gap
    assert not denied(snapshot(), [fair, dear], {}, MOST)


@pytest.mark.parametrize("share", [0.0, COUNTS_BPS / 10_000 / 2, 0.02])
def test_only_a_token_that_counts_makes_nav_wrong(share):
    assert bool(denied(snapshot(eth_share=share), [pool(1_500.0)], {}, MOST)) == (share * 10_000 >= COUNTS_BPS)


@pytest.mark.parametrize(
    "changes",
    [
        {"supply": 0},
        {"holdings": (0, 0)},
        {"quotes": (Quote(USDC.address, 10**8, 1, 0),)},
        {"quotes": (Quote(USDC.address, 10**8, 1, 0), Quote(ETH.address, 0, 1, 0))},
        {"verdicts": (refused("oracle", "stale"),)},
    ],
    ids=["no shares", "nothing held", "no quote", "a price of zero", "closed by itself"],
)
def test_nothing_is_said_where_nobody_can_enter_or_the_vault_is_closed_by_itself(changes):
    assert denied(snapshot(), [pool(1_500.0)], {}, MOST)
    assert denied(snapshot(**changes), [pool(1_500.0)], {}, MOST) == []


def test_without_pools_there_is_nothing_that_denies():
    assert denied(snapshot(), [], {}, MOST) == []


@given(price=st.integers(1, 10**14), nav=st.integers(1, 10**9), share=st.floats(0.0, 1.0))
def test_odd_prices_and_sizes_never_fail(price, nav, share):
    for found in denied(snapshot(share, nav, price), [pool(2_000.0)], {}, MOST):
        assert found.figures["gain_bps"] > MOST
