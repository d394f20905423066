"""Fee bids: exact next base fee, survival of full blocks, replacement and the room above the cap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import evm
from lake.errors import ConfigError
from lake.universe import CHAINS
from policy.execution.submission.gas import (
    Bid,
    FeeRules,
    bump,
    fee_rules,
    first_bid,
    next_base_fee,
    noop,
    plan_ceiling,
    raised,
    survives,
    usual_tip,
)
from policy.execution.submission.node import BlockHeader, FeeHistory

LIMIT = 30_000_000
QUIET = FeeHistory((10**9,) * 5, (0.5,) * 5, (10**9,) * 5)
WEI = st.integers(7, 10**13)


def head(base: int, used: int = LIMIT // 2) -> BlockHeader:
    return BlockHeader(1, "0x1", 0, base, used, LIMIT)


@given(WEI, st.integers(0, LIMIT))
def test_the_next_base_fee_is_the_rule_of_eip_1559(base, used):
    target = LIMIT // 2
    got = next_base_fee(head(base, used), FeeRules())
    if used == target:
        assert got == base
    elif used > target:
        assert got == base + max(base * (used - target) // target // 8, 1)
    else:
        assert got == base - base * (target - used) // target // 8


def test_the_cancun_examples_of_the_rule():
    # full, empty and half-full block at 100 gwei: +12.5 %, -12.5 %, unchanged
    gwei = 10**9
    assert [next_base_fee(head(100 * gwei, u), FeeRules()) for u in (LIMIT, 0, LIMIT // 2)] == [
        112_500_000_000,
        87_500_000_000,
        100_000_000_000,
    ]


@given(WEI, st.integers(0, 12))
def test_a_bid_survives_exactly_the_promised_number_of_full_blocks(base, blocks):
    cap = survives(base, blocks)
    fee = base
    for _ in range(blocks):
        fee = next_base_fee(head(fee, LIMIT), FeeRules())
        assert fee <= cap
    assert fee == cap
    assert next_base_fee(head(fee, LIMIT), FeeRules()) > cap


def test_empty_blocks_do_not_pull_the_tip_down():
    mixed = FeeHistory((10**9,) * 6, (0.0, 0.4, 0.0, 0.5, 0.0, 0.6), (0, 3 * 10**9, 0, 10**9, 0, 2 * 10**9))
    assert usual_tip(mixed, FeeRules()) == 2 * 10**9
    empty = FeeHistory((1,) * 3, (0.0,) * 3, (0,) * 3)
    assert usual_tip(empty, FeeRules(min_tip_wei=5)) == 5


@given(WEI, st.integers(1, 10**11))
def test_every_replacement_satisfies_geths_rule_on_both_caps(fee, tip):
    rules = FeeRules(ceiling_wei=10**16)
    old = Bid(fee + tip, tip)
    new = bump(old, head(max(7, fee // 2)), QUIET, rules)
    assert new.max_fee_wei * 100 >= old.max_fee_wei * 110
    assert new.tip_wei * 100 >= old.tip_wei * 110
    assert new.max_fee_wei >= new.tip_wei
    assert raised(fee) * 100 >= fee * 110 > (raised(fee) - 1) * 100


@given(st.integers(10**9, 10**12), st.integers(10**8, 4 * 10**12))
def test_a_plan_at_its_ceiling_can_still_be_replaced_by_a_no_op_under_the_hard_one(ceiling, base):
    rules = FeeRules(ceiling_wei=ceiling)
    bid = first_bid(head(base), QUIET, rules)
    while bid is not None:
        assert bid.max_fee_wei <= plan_ceiling(rules)
        assert raised(bid.max_fee_wei) <= ceiling
        last, bid = bid, bump(bid, head(base), QUIET, rules)
        if bid is None:
            cancel = noop(last, head(base), QUIET, rules)
            assert cancel.max_fee_wei * 100 >= last.max_fee_wei * 110
            assert cancel.max_fee_wei <= ceiling


def test_a_market_above_the_ceiling_gets_no_bid_and_old_bids_are_outbid():
    assert first_bid(head(10**12), QUIET, FeeRules(ceiling_wei=10**11)) is None
    old = [Bid(50 * 10**9, 3 * 10**9), Bid(60 * 10**9, 10**9)]
    bid = first_bid(head(10**9), QUIET, FeeRules(), old)
    assert all(bid.max_fee_wei * 100 >= o.max_fee_wei * 110 and bid.tip_wei * 100 >= o.tip_wei * 110 for o in old)


def test_more_urgency_bids_more():
    caps = [first_bid(head(10**9), QUIET, FeeRules(blocks=b)).max_fee_wei for b in range(8)]
    assert caps == sorted(caps)
    with pytest.raises(ConfigError):
        FeeRules(ceiling_wei=1)


@given(WEI, st.integers(0, LIMIT), st.sampled_from(sorted(CHAINS)))
def test_the_sender_and_the_collector_agree_on_every_chain(base, used, chain_id):
    row = CHAINS[chain_id]
    assert next_base_fee(head(base, used), fee_rules(row)) == evm.next_base_fee(base, used, LIMIT, row)
