"""The reference vault among real Uniswap pools: snapshot, check, simulate, send, verify, recover."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Context, Decimal, localcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import RpcError
from lake.evm import Call as Ask
from lake.evm import calldata, head_of, read
from lake.rpc import Rpc
from lake.venues import TICKS_CALLS
from policy.execution.base import AttemptFate, Hop, Leg, Plan, Receipt
from policy.execution.checks import oracle_rules
from policy.execution.routing.calldata import swap
from policy.execution.submission.simulate_tx import _by_call
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.execution.vaults.reference.deployment import (
    SECOND_TWAP_0,
    SECOND_TWAP_1,
    TokenSource,
    VaultSetup,
    create,
    oracle_code,
)
from policy.execution.vaults.reference.logs import rebalanced
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import reference_vault
from tests.execution.chain_kit import USD, landed, sealed, v3_leg

pytestmark = pytest.mark.chain
GAS_LIMIT_TWO_LEGS, GAS_LIMIT_FIRST = 360_000, 440_000


@pytest.fixture(scope="module")
def market() -> Iterator[Localnet]:
    with start(
        extras=[reference_vault()], at=datetime(2030, 1, 1, tzinfo=UTC)
    ) as net:  # gas depends on the time's bytes
        yield net


@pytest.fixture
def net(market: Localnet) -> Iterator[Localnet]:
    saved = market.snapshot()
    market.mine()  # at the same time in every test, for the sake of the gas figures
    yield market
    market.revert(saved)


@pytest.fixture
def vault(net: Localnet) -> ReferenceVault:
    return ReferenceVault(Rpc(net.node_url), net.world.extras["vault"])


def a_leg(net: Localnet, vault: ReferenceVault, name: str, sell: str, amount: int) -> Leg:
    return v3_leg(net, vault.address, name, sell, amount)


def a_plan(vault: ReferenceVault, *legs: Leg) -> Plan:
    return sealed(vault, vault.address, legs)


def two_legs(net: Localnet, vault: ReferenceVault, usd: int = 200_000) -> Plan:
    return a_plan(
        vault,
        a_leg(net, vault, "v3:ETH/USDC:500", "USDC", usd * USD),
        a_leg(net, vault, "v3:BTC/USDC:3000", "USDC", usd * USD),
    )


def mined(net: Localnet, vault: ReferenceVault, plan: Plan) -> Receipt:
    return landed(net, "keeper", vault.address, vault.build(plan).data)


def keeper(net: Localnet) -> str:
    return net.accounts["keeper"].address


def test_a_plan_from_snapshot_to_settlement(net: Localnet, vault: ReferenceVault):
    before = vault.snapshot()
    assert not before.verdicts
    assert before.nav == 1_000_000 * USD
    plan = two_legs(net, vault)
    assert not vault.check(plan)
    dry = vault.simulate(vault.build(plan), keeper(net))
    assert dry.ok
    assert vault.recover(plan, []) is AttemptFate.REPLACEABLE
    receipt = mined(net, vault, plan)
    settlement = vault.verify(receipt, plan)
    assert settlement.landed
    assert not settlement.verdicts
    assert settlement.deltas == dry.deltas
    for leg in plan.legs:
        assert settlement.deltas[leg.token_out] == leg.quoted_out
    after = vault.snapshot()
    assert {
        t.address: b - a for t, a, b in zip(after.tokens, before.holdings, after.holdings, strict=True)
    } == settlement.deltas
    assert after.nav == settlement.nav_after
    assert settlement.nav_before == before.nav
    assert sum(settlement.weights_after_bps) in range(9_998, 10_003)
    assert vault.recover(plan, [receipt.tx_hash]) is AttemptFate.LANDED
    record = rebalanced(vault.address, receipt.logs, plan.nonce)
    assert record.balances == after.holdings
    assert record.prices_e8 == tuple(q.price_e8 for q in after.quotes)
    assert record.keeper == keeper(net)


def test_gas_of_one_and_two_legs(net: Localnet, vault: ReferenceVault):
    first = mined(net, vault, two_legs(net, vault))  # fills every slot for the first time: the dearest there is
    net.mine(seconds=100)
    second = mined(net, vault, two_legs(net, vault, 20_000))
    net.mine(seconds=100)
    one = mined(net, vault, a_plan(vault, a_leg(net, vault, "v3:ETH/USDC:500", "USDC", 10_000 * USD)))
    assert [r.status for r in (first, second, one)] == [1, 1, 1]
    assert first.gas_used <= GAS_LIMIT_FIRST
    assert second.gas_used <= GAS_LIMIT_TWO_LEGS
    assert second.gas_used < first.gas_used
    assert one.gas_used < second.gas_used
    known = json.loads((Path(__file__).parent / "gas_snapshot.json").read_text())["uniswap"]
    assert {"two_legs_first": first.gas_used, "two_legs": second.gas_used, "one_leg": one.gas_used} == known


def test_both_ways_of_simulating_agree(net: Localnet, vault: ReferenceVault):
    plan = two_legs(net, vault)
    tx, head = vault.build(plan), head_of(vault.rpc, "latest")
    new = vault.simulate(tx, keeper(net))
    old = _by_call(vault.rpc, tx, keeper(net), vault.snapshot().tokens, head, 12)
    assert old.ok
    assert old.deltas == new.deltas
    assert old.gas_used >= new.gas_used  # an estimate covers the 1/64 rule and refunds
    bad = vault.build(vault.seal(replace(plan, min_nav=10**15)))
    assert vault.simulate(bad, keeper(net)).revert == "nav floor"
    assert _by_call(vault.rpc, bad, keeper(net), vault.snapshot().tokens, head, 12).revert == "nav floor"
    assert vault.simulate(tx, net.accounts["trader"].address).revert == "keeper"


def test_a_failed_and_a_late_plan_are_void(net: Localnet, vault: ReferenceVault):
    plan = vault.seal(replace(two_legs(net, vault), min_nav=10**15))
    receipt = mined(net, vault, plan)
    settlement = vault.verify(receipt, plan)
    assert not settlement.landed
    assert settlement.verdicts[0].check == "landed"
    assert set(settlement.deltas.values()) == {0}
    assert vault.recover(plan, [receipt.tx_hash]) is AttemptFate.VOID
    late = two_legs(net, vault)
    net.mine(seconds=700)
    assert vault.recover(late, []) is AttemptFate.VOID
    other = two_legs(net, vault)
    rival = vault.seal(replace(other, deadline=other.deadline + 1))
    assert vault.verify(mined(net, vault, rival), rival).landed
    assert vault.recover(other, []) is AttemptFate.VOID


def test_strange_movements_are_told(net: Localnet, vault: ReferenceVault):
    plan = two_legs(net, vault)
    gift = calldata("transfer(address,uint256)", vault.address, 5 * USD)
    net.send("trader", net.world.token("USDC").address, gift)
    settlement = vault.verify(mined(net, vault, plan), plan)
    assert settlement.landed
    assert [v.check for v in settlement.verdicts] == ["balances"]
    assert settlement.verdicts[0].figures == {net.world.token("USDC").address: str(5 * USD)}


def test_a_snapshot_is_one_block(net: Localnet, vault: ReferenceVault):
    old = vault.snapshot()
    mined(net, vault, two_legs(net, vault))
    assert vault.snapshot(old.block_number) == old
    assert vault.snapshot(old.block_hash) == old
    with pytest.raises(RpcError):
        vault.snapshot("0x" + "11" * 32)


def test_pause_revoke_and_resume_as_transactions(net: Localnet, vault: ReferenceVault):
    assert net.receipt(send(net, "guardian", vault.pause()))["status"] == "0x1"
    assert vault.snapshot().paused
    assert vault.check(two_legs(net, vault))[0].check == "paused"
    announce, make = vault.resume()
    assert net.receipt(send(net, "owner", announce))["status"] == "0x1"
    assert net.receipt(send(net, "owner", make))["status"] == "0x0"  # too early
    net.mine(seconds=3_601)
    assert net.receipt(send(net, "owner", make))["status"] == "0x1"
    assert not vault.snapshot().paused
    assert net.receipt(send(net, "owner", vault.revoke()))["status"] == "0x1"
    assert vault.simulate(vault.build(two_legs(net, vault)), keeper(net)).revert == "keeper"


def send(net: Localnet, role: str, tx) -> str:
    sent = net.send(role, tx.to, tx.data)
    net.mine()
    return sent


def test_describe_says_what_the_chain_enforces(vault: ReferenceVault):
    said = vault.describe()
    assert all((said.atomic_legs, said.onchain_price_bound, said.loss_budget, said.progress_rule, said.plan_nonce))
    assert said.in_kind_exit
    assert not said.async_exit
    assert not said.permissioned


@given(st.integers(-oracle_rules.MAX_TICK, oracle_rules.MAX_TICK))
@settings(max_examples=60, deadline=None)
def test_powers_of_the_tick_are_near_exact(tick: int):
    with localcontext(Context(prec=80)):
        exact = (Decimal("1.0001") ** tick) * 2**96
        assert abs(oracle_rules.power(tick) - exact) <= exact / 10**7 + 2


def test_time_weighted_prices_of_real_pools_equal_the_contracts(net: Localnet):
    """The oracle's TWAP second source, its verdicts and their Python mirror, while the pools move."""
    rpc, world = Rpc(net.node_url), net.world
    usdc, eth, btc = (world.token(a) for a in ("USDC", "ETH", "BTC"))
    eth_pool, btc_pool = world.pools["v3:ETH/USDC:500"], world.pools["v3:BTC/ETH:3000"]

    def source(token, pool, quote_index: int) -> TokenSource:
        kind = SECOND_TWAP_0 if pool.token0 == token.address else SECOND_TWAP_1
        feed = (token.address, token.decimals, 3_000, token.feed, 90_000, 8)
        return TokenSource(*feed, pool.address, 60, quote_index, 100, kind)

    sources = [
        TokenSource(usdc.address, 6, 4_000, usdc.feed, 90_000),
        source(eth, eth_pool, 0),
        source(btc, btc_pool, 1),
    ]
    who = net.accounts
    calls = [(world.contracts["v3_router"], c) for c in TICKS_CALLS]
    setup = VaultSetup(sources, who["owner"].address, who["keeper"].address, who["guardian"].address, calls)
    oracle = create(rpc, oracle_code(setup), who["deployer"].address)
    mirror = [
        oracle_rules.PriceSource(
            s.token, s.decimals, s.feed, s.heartbeat_s, s.feed_decimals, s.second, *s.encoded()[6:]
        )
        for s in sources
    ]
    net.mine(seconds=120)
    seen = set()
    for step in range(8):
        if step:
            amount = (-1) ** step * 15 * 10**6 * 10**6 * step
            pool, sell = (eth_pool, usdc) if amount > 0 else (eth_pool, eth)
            size = amount if amount > 0 else -amount * 10**18 // (1_500 * 10**6)
            hop = Hop("uniswap_v3", pool.address, sell.address, pool.token0, pool.fee_pips)
            out = pool.token1 if sell.address == pool.token0 else pool.token0
            data = swap([replace(hop, token_out=out)], size, 0, who["trader"].address, 2**40)
            sent = net.send("trader", world.contracts["v3_router"], data)
            net.mine(seconds=30)
            assert net.receipt(sent)["status"] == "0x1"
        net.mine(seconds=20 + 10 * step)
        head = head_of(rpc, "latest")
        rounds = [
            oracle_rules.Answer(*r)
            for r in read(
                rpc, [Ask(s.feed, "latestRoundData()", "uint80,int256,uint256,uint256") for s in sources], head.hash
            )
        ]
        pools = [Ask(s.second, "observe(uint32[])", "int56[]", ((60, 0),)) for s in sources[1:]]
        observed = [None, *((row[0][0], row[0][1]) for row in read(rpc, pools, head.hash))]
        for i in range(3):
            told = read(rpc, [Ask(oracle, "quote(uint256)", "uint256,uint256", (i,))], head.hash)[0]
            mine = oracle_rules.price(i, mirror, oracle_rules.FeedAnswers(rounds, observed), head.time)
            assert told == mine
            seen.add(mine[1])
        average, code = oracle_rules.average(mirror[1], observed[1], rounds[0].answer, 6)
        assert code == oracle_rules.GOOD
        assert abs(average - rounds[1].answer) < rounds[1].answer // 3
    assert seen == {oracle_rules.GOOD, oracle_rules.DEVIATES}
