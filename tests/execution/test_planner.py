"""From weights to legs: netting, integer amounts, floors, minimum sizes."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.units import bps
from policy.base import Forecast
from policy.execution.planner import (
    Costs,
    PlanRules,
    PriceRisk,
    book_of,
    draft,
    needed_tolerance,
    pairs,
    seal_ready,
)
from policy.execution.routing.amm import V3Pool, quote
from policy.execution.routing.calldata import price_limit, swap
from policy.execution.state_builder import depth_usd, fees, slippage_spread, weights
from policy.execution.vaults.simulated.adapter import SimulatedVault
from tests.execution.simlab import COVARIANCE, TOKENS, VAULT, chain, pools, spec, world

COSTS = Costs(20 * 10**9, 2_000.0)
OUTLOOK = PriceRisk(COVARIANCE)


def snapshot(held=(0.5, 0.3, 0.2), nav: float = 1e6):
    return SimulatedVault(spec(), chain(world(held, nav))).snapshot()


def make(wanted, rules=None, snap=None, the_pools=None):
    snap = snap or snapshot()
    the_pools = list(pools().values()) if the_pools is None else the_pools
    return draft(VAULT, snap, np.array(wanted), the_pools, OUTLOOK, COSTS, rules or PlanRules())


SIMPLEX = st.lists(st.integers(1, 1_000), min_size=3, max_size=3).map(lambda p: np.array(p) / sum(p))


@given(SIMPLEX, SIMPLEX, st.integers(1, 10_000))
def test_pairs_reach_the_weights_with_fewest_trades_and_within_the_turnover(held, wanted, cap):
    book = book_of(snapshot(tuple(held)))
    found = pairs(book, wanted, cap)
    total = book.total()
    assert len(found) <= len(TOKENS) - 1
    assert sum(size for _, _, size in found) <= total * cap // 10_000
    values = [book.value(i, h) for i, h in enumerate(book.holdings)]
    for i, j, size in found:
        assert i != j
        assert size > 0
        values[i] -= size
        values[j] += size
    full = sum(max(0.0, w - h) for w, h in zip(wanted, held, strict=True))
    if full * 10_000 < cap * 0.999:
        assert np.abs(np.array(values, dtype=float) / total - wanted).max() < 1e-9
    assert not {i for i, _, _ in found} & {j for _, j, _ in found}  # netted: no token is both bought and sold


def test_legs_spend_what_was_meant_and_ask_for_the_exact_quote_less_the_tolerance():
    made = make([0.4, 0.3, 0.3])
    book = book_of(snapshot())
    sold = sum(book.value(book.index(leg.token_in), leg.amount_in) for leg in made.legs) / 1e18
    assert sold == pytest.approx(100_000, rel=1e-9)
    for leg, tolerance, even in zip(made.legs, made.tolerances_bps, made.break_evens_bps, strict=True):
        amount = leg.amount_in
        state = pools()
        for hop in leg.path:
            amount = quote(state[hop.pool], hop.token_in, amount).out
        assert leg.quoted_out == amount
        assert leg.quoted_out * (10_000 - tolerance - 1) <= leg.min_out * 10_000 <= leg.quoted_out * 10_000
        assert 0 <= even <= 10_000
    assert made.slippage_usd > 0


def test_small_trades_are_left_alone_and_said_so():
    made = make([0.49999, 0.30001, 0.2], PlanRules(min_trade_usd=50))
    assert made.legs == ()
    assert [v.check for v in made.verdicts] == ["min_trade"]


def test_every_pair_keeps_a_leg_and_what_does_not_fit_waits():
    from dataclasses import replace

    snap = snapshot((0.8, 0.1, 0.1))
    wanted = [0.4, 0.35, 0.25]
    for most in (2, 3, 8):
        made = make(wanted, snap=replace(snap, max_legs=most))
        assert len(made.legs) <= most
        assert {leg.token_out for leg in made.legs} == {TOKENS[1].address, TOKENS[2].address}
    single = make(wanted, snap=replace(snap, max_legs=1))
    assert len(single.legs) == 1
    assert next(v for v in single.verdicts if v.check == "max_legs").ok


def test_forecast_slippage_widens_the_tolerance_of_its_pair_only():
    at = datetime(2023, 1, 1, tzinfo=UTC)

    def row(key, q50, q95, horizon=3_600, **more):
        quantiles = (0.0, 0.0, q50, q95, q95) if not more.get("abstain") else None
        return Forecast("slippage", key, at, horizon, quantiles, q50, "v1", **more)

    rows = [
        row("V2-ETH|10000", 0.001, 0.004),
        row("v2-eth|50000", 0.002, 0.007),
        row("v2-eth|90000", 0.002, 0.9, horizon=86_400),
        row("v2-btc|10000", 0.001, 0.5, abstain=True, reason="stale"),
        row("elsewhere|1", 0.0, 0.9),
    ]
    view = {(r.target, r.key, r.horizon_s): r for r in rows}
    spread = slippage_spread(view, snapshot(), tuple(pools().values()))
    assert spread == {(0, 1): pytest.approx(0.005), (1, 0): pytest.approx(0.005)}


def test_a_second_leg_is_quoted_at_the_state_the_first_one_leaves():
    made = make([0.2, 0.4, 0.4])
    first, *rest = made.legs
    touched = {h.pool for h in first.path}
    shared = [leg for leg in rest if touched & {h.pool for h in leg.path} and leg.token_in == first.token_in]
    for leg in shared:
        fresh = leg.amount_in
        for hop in leg.path:
            fresh = quote(pools()[hop.pool], hop.token_in, fresh).out
        assert leg.quoted_out < fresh


def test_the_nav_floor_follows_from_the_minima():
    snap = snapshot()
    made = make([0.4, 0.3, 0.3], snap=snap)
    plan = seal_ready("d", VAULT, snap, made.legs, PlanRules())
    book = book_of(snap)
    at_risk = sum(
        book.value(book.index(leg.token_in), leg.amount_in) - book.value(book.index(leg.token_out), leg.min_out)
        for leg in made.legs
    )
    assert snap.nav - plan.min_nav == pytest.approx(at_risk / 1e12, abs=len(made.legs) + 3)
    assert plan.nonce == snap.plan_nonce
    assert plan.deadline == snap.block_time + PlanRules().deadline_s


def test_wilder_pairs_and_longer_waits_need_more_room():
    calm = needed_tolerance(OUTLOOK, 0, 1, COSTS, PlanRules())
    assert needed_tolerance(PriceRisk(COVARIANCE * 4), 0, 1, COSTS, PlanRules()) == pytest.approx(2 * calm)
    assert needed_tolerance(OUTLOOK, 0, 1, COSTS, PlanRules(wait_blocks=12)) == pytest.approx(2 * calm)
    forecast = PriceRisk(COVARIANCE, {(0, 1): 0.003})
    assert needed_tolerance(forecast, 0, 1, COSTS, PlanRules()) == pytest.approx(calm + 0.003)


def test_the_price_limit_lies_beyond_the_final_price_and_the_swap_still_fills():
    pool = next(p for p in pools().values() if isinstance(p, V3Pool))
    for token in (pool.token0, pool.token1):
        amount = 10**11 if token == pool.token0 else 10**20
        fill = quote(pool, token, amount)
        limit = price_limit(fill.after, token, bps(10))
        assert quote(pool, token, amount, limit) == fill
        average_side = (pool.sqrt_price_x96 + fill.after.sqrt_price_x96) // 2
        assert quote(pool, token, amount, average_side).spent < amount  # the classic mistake half-fills


def test_calldata_decodes_to_what_was_asked():
    from eth_abi.abi import decode

    from policy.execution.base import Hop

    a, b, c = ("0x" + f"{i:02x}" * 20 for i in (1, 2, 3))
    vault = "0x" + "bb" * 20
    one = swap([Hop("uniswap_v3", "p", a, b, 500)], 10, 9, vault, 99, 7)
    kind = "(address,address,uint24,address,uint256,uint256,uint256,uint160)"
    assert decode([kind], one[4:])[0] == (a, b, 500, vault, 99, 10, 9, 7)
    two = swap([Hop("uniswap_v3", "p", a, b, 500), Hop("uniswap_v3", "q", b, c, 3_000)], 10, 9, vault, 99)
    path, *rest = decode(["(bytes,address,uint256,uint256,uint256)"], two[4:])[0]
    assert path.hex() == a[2:] + f"{500:06x}" + b[2:] + f"{3_000:06x}" + c[2:]
    assert rest == [vault, 99, 10, 9]
    v2 = swap([Hop("uniswap_v2", "p", a, b, 3_000), Hop("uniswap_v2", "q", b, c, 3_000)], 10, 9, vault, 99)
    types = ["uint256", "uint256", "address[]", "address", "uint256"]
    assert decode(types, v2[4:]) == (10, 9, (a, b, c), vault, 99)


def test_the_situation_reads_weights_fees_and_depth():
    snap = snapshot()
    assert weights(snap) == pytest.approx([0.5, 0.3, 0.2], abs=1e-6)
    assert fees(snap, tuple(pools().values())) == pytest.approx([5e-4, 5e-4, 3e-3])
    depth = depth_usd(snap, tuple(pools().values()))
    # moving the v2 pool alone by its share of 1 % costs sqrt(1.01) - 1 of its reserve
    v2 = [p for p in pools().values() if p.venue == "uniswap_v2" and TOKENS[2].address in {p.token0, p.token1}]
    alone = depth_usd(snap, v2)[2]
    assert alone == pytest.approx(5e6 * (1.01**0.5 - 1), rel=1e-3)
    assert (depth >= depth_usd(snap, v2)).sum() >= 1
    assert (depth_usd(snap, ()) == 0).all()
