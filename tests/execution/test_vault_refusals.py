"""What vaults, ports, ledgers and transfers refuse before anything is signed, each with what is wrong."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError, ExecutionError, RpcError
from lake.evm import selector
from lake.rpc import FakeTransport, Rpc
from lake.universe import CHAINS
from policy.chains.in_transit import Crossing
from policy.comparison.resolved import names_at
from policy.execution.bridges.finality import confirmed_block, final_block
from policy.execution.routing.amm import MAX_TICK, sqrt_ratio_at_tick, tick_at_sqrt_ratio
from policy.execution.submission.gas import FeeRules
from policy.execution.vaults.enzyme.adapter import fund_of
from policy.execution.vaults.reference.porting import destination_of
from policy.realtime.looks import LOOKS

A, B, C, D, E = ("0x" + digit * 40 for digit in "12345")


def node(answers: dict[tuple[str, str], str]) -> Rpc:
    """A node whose views, (contract, signature), answer an address each."""
    words = {(to, "0x" + selector(view).hex()): "0x" + encode(["address"], [who]).hex()
             for (to, view), who in answers.items()}  # fmt: skip
    asked = {"eth_call": lambda call, _: words[call["to"].lower(), call["data"]]}
    return Rpc("https://node.example", transport=FakeTransport(asked))


def test_a_swapper_of_another_release_is_no_swapper_of_the_fund():
    told = {(E, "getVaultProxy()"): A, (E, "getIntegrationManager()"): B, (E, "getPolicyManager()"): C,
            (D, "getIntegrationManager()"): B, (D, "getUniswapV3Router()"): A}  # fmt: skip
    fund = fund_of(node(told), E, D)
    assert (fund.vault, fund.manager, fund.policies, fund.router) == (A, B, C, A)
    with pytest.raises(ConfigError, match=rf"swapper {D} is of integration manager {C}, the fund's is {B}"):
        fund_of(node(told | {(D, "getIntegrationManager()"): C}), E, D)


@given(origin=st.sampled_from([1, 10]), sent=st.integers(-2, 5), due=st.integers(-2, 5))
def test_a_transfer_goes_somewhere_else_and_never_delivers_more_than_was_sent(origin, sent, due):
    if 0 < due <= sent:
        assert Crossing(origin, 8453, sent, due).due == due
        with pytest.raises(ConfigError, match="to itself is none: name two chains"):
            Crossing(origin, origin, sent, due)
    else:
        with pytest.raises(ConfigError, match="required: 0 < due <= sent"):
            Crossing(origin, 8453, sent, due)


@given(tick=st.integers(-MAX_TICK, MAX_TICK - 1))
def test_a_tick_is_the_greatest_whose_ratio_is_at_most_the_price(tick):
    ratio = sqrt_ratio_at_tick(tick)
    assert tick_at_sqrt_ratio(ratio) == tick
    assert ratio < sqrt_ratio_at_tick(tick + 1)
    assert ratio / 2**96 == pytest.approx(1.0001 ** (tick / 2), rel=1e-6)


@pytest.mark.parametrize("tick", [MAX_TICK + 1, -MAX_TICK - 1])
def test_a_tick_or_price_outside_any_pool_is_refused(tick):
    with pytest.raises(ExecutionError, match=f"tick {tick} is outside -{MAX_TICK} .. {MAX_TICK}"):
        sqrt_ratio_at_tick(tick)
    for price in (0, 4_295_128_738, sqrt_ratio_at_tick(MAX_TICK)):
        with pytest.raises(ExecutionError, match=f"square root price {price} is outside the pool's range"):
            tick_at_sqrt_ratio(price)


@given(head=st.integers(0, 10**8), chain_id=st.sampled_from(sorted(CHAINS)))
def test_what_is_final_or_believed_is_never_ahead_of_the_head(head, chain_id):
    row = replace(CHAINS[chain_id], finality="depth", final_blocks=64)
    here = SimpleNamespace(head=lambda: SimpleNamespace(number=head))
    assert final_block(here, row) == max(-1, head - 64)
    assert 0 <= confirmed_block(head, row) <= head


def test_a_chain_whose_finality_is_a_tag_needs_a_node_that_tells_it():
    row = replace(CHAINS[1], finality="tag")
    with pytest.raises(RpcError, match="the node tells no finalized block, and this chain's finality is that tag"):
        final_block(SimpleNamespace(head=lambda: SimpleNamespace(number=5)), row)
    told = SimpleNamespace(tagged=lambda tag: SimpleNamespace(number={"finalized": 3}[tag]))
    assert final_block(told, row) == 3


def test_a_bridge_that_does_not_serve_a_chain_is_named_with_it():
    without = next(c for c in CHAINS.values() if c.cctp_domain is None)
    with pytest.raises(ExecutionError, match=rf"does not serve chain {without.chain_id} \({without.name}\)"):
        destination_of(1, without.chain_id)
    assert destination_of(1, 1) == CHAINS[1].cctp_domain


@given(tip=st.integers(0, 10**12), room=st.integers(-5, 5))
def test_a_ceiling_of_gas_is_above_the_least_tip(tip, room):
    if room > 0:
        assert FeeRules(ceiling_wei=tip + room, min_tip_wei=tip).ceiling_wei > tip
    else:
        with pytest.raises(ConfigError, match=f"the gas ceiling {tip + room} wei must exceed the tip {tip} wei"):
            FeeRules(ceiling_wei=tip + room, min_tip_wei=tip)


def test_a_look_finer_than_the_resolution_is_sent_to_the_one_it_needs():
    finest = [n for n, look in LOOKS.items() if not look.fits("5m")]
    assert finest
    with pytest.raises(ConfigError, match="looked up more often than every five minutes; --resolution block"):
        names_at("5m", finest)
    with pytest.raises(ConfigError, match="looked up within the hour; compare with --resolution 5m or block"):
        names_at("hour", finest)
    planners, looks = names_at("block", [*finest, "hold"])
    assert planners == ("hold",)
    assert [look.name for look in looks] == [LOOKS[n].name for n in finest]
