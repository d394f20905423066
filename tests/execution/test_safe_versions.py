"""Safes 1.3.0, 1.4.1 and 1.5.0 on the same world: the same outcomes; other versions are refused in words."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from eth_abi.abi import encode

from lake.errors import ConfigError
from lake.evm import Call, calldata, read
from lake.rpc import Rpc
from policy.execution.base import AttemptFate, Receipt
from policy.execution.checks.rules import Mandate
from policy.execution.engine import step
from policy.execution.vaults.safe.adapter import VERSIONS, SafeAccount
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import safe_account, safe_spec
from tests.chain_fixtures import CLOCK, fresh
from tests.execution.chain_kit import USD, landed, sealed, v3_leg
from tests.execution.chainlab import TARGETS, chain_context
from tests.needs import need_node

pytestmark = pytest.mark.chain
MANDATE = Mandate(leg_loss_bps=150, turnover_bps=8_000, max_legs=6, loss_budget_ppb=20_000_000)


def account(net: Localnet) -> SafeAccount:
    return SafeAccount(Rpc(net.url, timeout=2, tries=1), safe_spec(net.world, TARGETS, mandate=MANDATE))


def lived(net: Localnet, folder) -> list:
    """What a Safe goes through, as plain values to compare between versions."""
    seen: list = []
    safe = account(net)
    where = {"vault": safe, "vault_address": safe.spec.address}
    assert read(safe.rpc, [Call(safe.spec.address, "nonce()", "uint256")])[0] == (0,)
    first = step(chain_context(folder, net, **where))
    assert first.outcome == "traded", first.why
    assert first.settlement is not None
    seen += [
        first.outcome,
        dict(first.settlement.deltas),
        first.settlement.weights_after_bps,
        first.settlement.nav_after,
    ]
    seen += [v.check for v in first.verdicts]
    clock = safe.state().clock
    seen += [clock.nonce, clock.lost_now > 0, step(chain_context(folder, net, **where)).outcome]
    net.mine(seconds=100)
    good, bad = (v3_leg(net, safe.spec.address, "v3:ETH/USDC:500", "USDC", 1_000 * USD, short) for short in (0, 1))
    plan, late = sealed(safe, safe.spec.address, [good]), sealed(safe, safe.spec.address, [good], deadline_s=900)
    assert landed(net, "keeper", safe.spec.address, safe.build(plan).data).status == 1
    seen += [safe.recover(plan, []), safe.recover(late, [])]
    net.mine(seconds=100)
    broken = sealed(safe, safe.spec.address, [bad])
    dry = safe.simulate(safe.build(broken), net.accounts["keeper"].address)
    receipt = landed(net, "keeper", safe.spec.address, safe.build(broken).data)
    settled = safe.verify(receipt, broken)
    assert "USDC -> " in settled.verdicts[0].reason
    assert "Too little received" in settled.verdicts[0].reason
    assert good.path[0].pool in safe.why(broken, dry.revert)
    assert f"block {receipt.block_number} and reverted, {receipt.gas_used} gas" in settled.verdicts[0].reason
    seen += [dry.ok, settled.landed, dict(settled.deltas), safe.recover(broken, [receipt.tx_hash])]
    return seen


def test_three_versions_live_the_same_life(tmp_path):
    need_node()
    lives = {}
    for version in VERSIONS:
        with start(extras=[safe_account(version=version)], at=CLOCK) as net:
            told = read(net.rpc, [Call(net.world.extras["safe"], "VERSION()", "string")])[0][0]
            assert told == version
            lives[version] = lived(net, tmp_path / version)
    assert lives["1.3.0"] == lives["1.4.1"] == lives["1.5.0"]
    assert AttemptFate.LANDED in lives["1.3.0"]


@pytest.fixture(scope="module")
def market():
    need_node()
    with start(extras=[safe_account(version="1.3.0")], at=CLOCK) as net:
        yield net


@pytest.fixture
def net(market):
    with fresh(market, 1) as made:
        yield made


@pytest.mark.parametrize("version", ["1.1.1", "1.2.0", "1.6.0", "", "1.3.0+L3"])
def test_an_unknown_version_is_refused_in_words(net, version):
    asked = calldata("VERSION()").hex()

    def lie(method, params, result):
        return "0x" + encode(["string"], [version]).hex() if params[0]["data"] == "0x" + asked else result

    net.faults.add(Fault(FaultKind.LYING, ("eth_call",), times=None, change=lie))
    with pytest.raises(ConfigError, match=rf"version '{re.escape(version)}'; supported are 1.3.0, 1.4.1, 1.5.0"):
        account(net).snapshot()


def test_a_batch_that_moved_balances_without_its_record_is_an_alarm_and_counts_as_a_trade(net):
    """Whatever an account's events look like: balances that moved are never called a failure that may be repeated."""
    safe = account(net)
    plan = sealed(safe, safe.spec.address, [v3_leg(net, safe.spec.address, "v3:ETH/USDC:500", "USDC", 1_000 * USD)])
    receipt: Receipt = landed(net, "keeper", safe.spec.address, safe.build(plan).data)
    strange = replace(receipt, logs=[x for x in receipt.logs if x["address"].lower() != safe.spec.address.lower()])
    settled = safe.verify(strange, plan)
    assert not settled.landed
    assert [v.check for v in settled.verdicts] == ["alarm"]
    assert "ALARM" in settled.verdicts[0].reason
    assert settled.deltas[net.world.token("USDC").address] == -1_000 * USD
