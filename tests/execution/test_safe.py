"""A Safe 1.5 with its published bytecode as a vault: one signed MultiSend batch, the mandate enforced off chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lake.errors import ConfigError
from lake.evm import Call, read
from lake.rpc import Rpc
from policy.execution.base import AttemptFate, Plan, Receipt
from policy.execution.checks.rules import Mandate
from policy.execution.vaults.safe.adapter import ZERO, SafeAccount, commitment
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import safe_account, safe_spec
from tests.chain_fixtures import CLOCK, fresh
from tests.execution.chain_kit import USD, landed, sealed, v3_leg
from tests.needs import need_node

pytestmark = pytest.mark.chain


@pytest.fixture(scope="module")
def market() -> Iterator[Localnet]:
    need_node()
    with start(extras=[safe_account()], at=CLOCK) as net:
        yield net


@pytest.fixture
def net(market: Localnet) -> Iterator[Localnet]:
    with fresh(market, 1) as made:
        yield made


@pytest.fixture
def safe(net: Localnet) -> SafeAccount:
    return SafeAccount(Rpc(net.node_url), safe_spec(net.world))


def a_plan(net: Localnet, safe: SafeAccount, *sizes: tuple[str, int], short: int = 0) -> Plan:
    legs = [v3_leg(net, safe.spec.address, name, "USDC", amount, short) for name, amount in sizes]
    return sealed(safe, safe.spec.address, legs)


def two_legs(net: Localnet, safe: SafeAccount, **over) -> Plan:
    return a_plan(net, safe, ("v3:ETH/USDC:500", 200_000 * USD), ("v3:BTC/USDC:3000", 100_000 * USD), **over)


def mined(net: Localnet, safe: SafeAccount, data: bytes, role: str = "keeper") -> Receipt:
    return landed(net, role, safe.spec.address, data)


def test_a_batch_from_snapshot_to_settlement(net: Localnet, safe: SafeAccount):
    plan = two_legs(net, safe)
    assert not safe.snapshot().verdicts
    assert not safe.check(plan)
    dry = safe.simulate(safe.build(plan), net.accounts["keeper"].address)
    assert dry.ok
    receipt = mined(net, safe, safe.build(plan).data)
    settlement = safe.verify(receipt, plan)
    assert settlement.landed
    assert settlement.deltas == dry.deltas
    assert [settlement.deltas[leg.token_out] for leg in plan.legs] == [leg.quoted_out for leg in plan.legs]
    assert safe.recover(plan, [receipt.tx_hash]) is AttemptFate.LANDED
    assert receipt.gas_used < 350_000
    for leg in plan.legs:
        ask = Call(leg.token_in, "allowance(address,address)", "uint256", (safe.spec.address, leg.target))
        assert read(safe.rpc, [ask])[0] == (0,)


def test_the_hash_is_the_one_the_safe_computes(net: Localnet, safe: SafeAccount):
    plan = two_legs(net, safe)
    ask = "getTransactionHash(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,uint256)"
    args = (safe.spec.multisend, 0, safe._multisend(plan), 1, 0, 0, 0, ZERO, commitment(plan), plan.nonce)
    assert read(safe.rpc, [Call(safe.spec.address, ask, "bytes32", args)])[0][0] == plan.plan_hash


def test_a_signed_batch_runs_once_and_anyone_may_bring_it(net: Localnet, safe: SafeAccount):
    plan = two_legs(net, safe)
    data = safe.build(plan).data
    assert mined(net, safe, data, "trader").status == 1
    assert mined(net, safe, data).status == 0
    assert safe.describe().plan_nonce


def test_a_sender_who_vouches_must_be_an_owner_and_is_not_bound_by_the_nonce(net: Localnet):
    safe = SafeAccount(Rpc(net.node_url), safe_spec(net.world, signed=False))
    assert not safe.describe().plan_nonce
    data = safe.build(a_plan(net, safe, ("v3:ETH/USDC:500", 1_000 * USD))).data
    assert mined(net, safe, data, "trader").status == 0
    assert mined(net, safe, data).status == 1
    with pytest.raises(ConfigError, match="owner"):
        SafeAccount(safe.rpc, replace(safe.spec, sender=ZERO)).build(a_plan(net, safe))


def test_the_batch_is_whole_or_not_at_all(net: Localnet, safe: SafeAccount):
    good, bad = two_legs(net, safe), two_legs(net, safe, short=1)
    mixed = safe.seal(replace(good, legs=(good.legs[0], bad.legs[1])))
    dry = safe.simulate(safe.build(mixed), net.accounts["keeper"].address)
    assert not dry.ok
    assert "Too little received" in dry.revert  # 1.5 bubbles the router's own reason
    held = safe.snapshot().holdings
    receipt = mined(net, safe, safe.build(mixed).data)
    assert not safe.verify(receipt, mixed).landed
    assert safe.snapshot().holdings == held
    assert safe.recover(mixed, [receipt.tx_hash]) is AttemptFate.VOID


def test_python_enforces_what_the_chain_does_not(net: Localnet, safe: SafeAccount):
    def first(plan: Plan, spec=None) -> str:
        return SafeAccount(safe.rpc, spec or safe.spec).check(plan)[0].check

    plan = two_legs(net, safe)
    other = replace(plan.legs[0], target=net.accounts["searcher"].address)
    assert first(safe.seal(replace(plan, legs=(other,)))) == "target"
    assert first(replace(plan, min_nav=1)) == "plan hash"
    assert first(safe.seal(replace(plan, min_nav=10**15))) == "nav floor"
    assert first(plan, replace(safe.spec, mandate=Mandate(turnover_bps=100))) == "turnover"
    assert first(plan, replace(safe.spec, mandate=Mandate(loss_budget_ppb=1))) == "loss budget"
    assert first(plan, replace(safe.spec, targets_bps=(10_000, 0, 0))) == "progress"
    poor = safe.seal(replace(plan, legs=(replace(plan.legs[0], quoted_out=1, min_out=1),)))
    assert first(poor) == "leg value"
    assert first(replace(plan, deadline=1)) == "deadline"
    feed = net.world.token("ETH").feed
    net.deployer.call("deployer", feed, "post(int256)", 0)
    assert first(plan) == "oracle"


def test_losses_and_rest_are_read_from_the_chain(net: Localnet, safe: SafeAccount):
    before = safe.snapshot()
    mined(net, safe, safe.build(two_legs(net, safe)).data)
    after, clock = safe.snapshot(), safe.state().clock
    lost = before.nav - after.nav
    assert lost > 0
    assert abs(before.loss_budget_left - after.loss_budget_left - lost) <= lost // 50 + before.nav // 10**9
    assert clock.last_time == after.block_time
    assert safe.check(two_legs(net, safe))[0].check == "cooldown"
    net.mine(seconds=100)
    assert [v.check for v in safe.check(two_legs(net, safe))] == ["loss budget"]  # as much again is too much for a day
    roomy = SafeAccount(safe.rpc, replace(safe.spec, mandate=Mandate(loss_budget_ppb=20_000_000)))
    assert not roomy.check(two_legs(net, roomy))
