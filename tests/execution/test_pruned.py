"""A node that keeps the state of 128 blocks: whatever was interrupted settles 1,000 blocks later, from logs and now."""

from __future__ import annotations

import os

import pytest

from lake.errors import RpcError
from lake.evm import Call, read
from lake.rpc import Rpc
from policy.execution.engine import step
from policy.execution.vaults.safe.adapter import SafeAccount
from policy.localnet.market import start
from policy.localnet.portfolio import reference_vault, safe_account, safe_spec
from tests.chain_fixtures import CLOCK, fresh
from tests.execution.chain_matrix import STAGES, Killed, killer
from tests.execution.chainlab import MANDATE, TARGETS, chain_context
from tests.needs import need_node

pytestmark = pytest.mark.chain
FULL = bool(os.environ.get("FOREDRIFT_PRUNED"))
KEPT, LATER = (128, 1_000) if FULL else (8, 60)
SOME = ("send", "watch")
"""What the usual run takes; all stages, a thousand blocks and 128 states are `make pruned`."""


@pytest.fixture(scope="module")
def market():
    need_node()
    with start(extras=[reference_vault(TARGETS, mandate=MANDATE), safe_account()], at=CLOCK) as net:
        yield net


@pytest.fixture
def net(market):
    with fresh(market, 1) as made:
        made.front.kept_states = KEPT
        yield made


def pruned(net, folder, kind: str, **more):
    rpc = Rpc(net.url, timeout=5, tries=1)
    if kind == "safe":
        safe = SafeAccount(rpc, safe_spec(net.world, TARGETS, mandate=MANDATE))
        more |= {"vault": safe, "vault_address": safe.spec.address}
    return chain_context(folder, net, rpc, **more)


def much_later(net) -> None:
    """Let a pooled transaction land, then a thousand blocks pass."""
    net.mine(3)
    net.node.admin.call("anvil_mine", [hex(LATER), hex(12)])


def held(net, account: str) -> list[int]:
    views = [Call(net.world.token(a).address, "balanceOf(address)", "uint256", (account,)) for a in TARGETS]
    return [int(r[0]) for r in read(net.node.admin, views)]


def test_the_node_refuses_old_state(net):
    vault, token = net.world.extras["vault"], net.world.token("USDC").address
    net.mine(KEPT + 1)
    view, rpc = Call(token, "balanceOf(address)", "uint256", (vault,)), Rpc(net.url)
    top = net.node.head().number
    assert read(rpc, [view], top - KEPT + 1)
    for block in (top - KEPT, rpc.call("eth_getBlockByNumber", [hex(top - KEPT), False])["hash"]):
        with pytest.raises(RpcError, match="missing trie node"):
            read(rpc, [view], block)
    assert net.front.old_reads == ["eth_call"] * 2


@pytest.mark.parametrize("kind", ["reference", "safe"])
@pytest.mark.parametrize("stage", STAGES if FULL else SOME)
def test_a_plan_killed_at_any_stage_settles_a_thousand_blocks_later(net, tmp_path, kind, stage):
    account = pruned(net, tmp_path, kind).vault_address
    before = held(net, account)
    with pytest.raises(Killed):
        step(pruned(net, tmp_path, kind, checkpoint=killer(stage)))
    much_later(net)
    after, found = held(net, account), len(pruned(net, tmp_path, kind).journal.flights())
    report = step(pruned(net, tmp_path, kind))
    assert not net.front.old_reads, "an old state was asked for"
    assert report.outcome in {"traded", "done", "waited"}, report.why
    if not found:
        return  # nothing had been planned yet
    first = pruned(net, tmp_path, kind).journal.flights()[0]
    assert first.state == ("landed" if after != before else "void")
    written = [x.body for x in pruned(net, tmp_path, kind).audit.records() if x.body["event"] == "settlement"]
    if after != before:
        told = [written[0]["settlement"]["deltas"][net.world.token(a).address] for a in TARGETS]
        assert [int(d) for d in told] == [a - b for a, b in zip(after, before, strict=True)]
        assert written[0]["settlement"]["landed"]


@pytest.mark.parametrize("kind", ["reference", "safe"])
def test_a_plan_that_reverted_long_ago_is_said_with_block_and_gas(net, tmp_path, kind, monkeypatch):
    monkeypatch.setattr("policy.execution.submission.reverts.RECENT", KEPT // 2)

    def spoil(name: str) -> None:
        if name == "submit":
            raise Killed(name)
        if name == "journal_sent":  # the prices move between hand-over and block
            sell = net.world.token("ETH")
            net.deployer.call("deployer", str(sell.feed), "post(int256)", 1)

    with pytest.raises(Killed):
        step(pruned(net, tmp_path, kind, checkpoint=spoil))
    much_later(net)
    report = step(pruned(net, tmp_path, kind))
    flight = pruned(net, tmp_path, kind).journal.flights()[0]
    assert flight.state in {"reverted", "landed"}
    if kind == "reference":
        assert flight.state == "reverted"
        reason = report.settlement.verdicts[0].reason if report.settlement else report.why
        assert f"mined in block {flight.mined[1]} and reverted" in reason
        assert "gas paid" in reason
    assert not net.front.old_reads
