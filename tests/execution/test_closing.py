"""A NAV that the market denies: the keeper closes deposits and exits, once, whatever dies in between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lake.evm import Call, calldata, read
from policy.execution import closing
from policy.execution.checks.guards import OracleEvidence
from policy.execution.engine import dry, step
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.localnet.faults import Fault, FaultKind
from tests.chain_fixtures import into_the_hour
from tests.execution.chainlab import chain_context

pytestmark = pytest.mark.chain
HOUR_S = 3_600


def post(net, asset: str, price: float) -> None:
    """Both feeds of the asset say ``price`` (USD); the pools stay where they are."""
    for feed in (str(net.world.token(asset).feed), net.world.extras[f"second_feed:{asset}"]):
        net.send("deployer", feed, calldata("post(int256)", int(price * 1e8)))
    net.mine()


def held(net, tmp_path):
    """A context of the vault after its first trade, one hour on."""
    into_the_hour(net, 60)
    assert step(chain_context(tmp_path, net)).outcome == "traded"
    into_the_hour(net, 60)
    return chain_context(tmp_path, net)


def closed_until(net) -> int:
    return int(read(net.node.admin, [Call(net.world.extras["vault"], "doubted_until()", "uint256")])[0][0])


def sent(net) -> int:
    """How many orders to close are in the chain."""
    from eth_utils.crypto import keccak

    ask = {"address": net.world.extras["vault"], "topics": ["0x" + keccak(text="Doubted(address,uint256)").hex()]}
    return len(net.node.admin.call("eth_getLogs", [{**ask, "fromBlock": "0x0"}]))


def said(report) -> str:
    return str(report.json()["nav_denied"])


@pytest.mark.parametrize("price", [900.0, 2_400.0], ids=["feed below the market", "feed above the market"])
def test_it_closes_once_and_the_rest_goes_on(vaultnet, tmp_path, price):
    net = vaultnet
    ctx = held(net, tmp_path)
    calm = step(ctx)
    assert calm.json()["nav_denied"] is None
    assert sent(net) == 0
    into_the_hour(net, 60)
    post(net, "ETH", price)
    report = step(chain_context(tmp_path, net))
    assert "ETH: the market trades at 1" in said(report).replace("WETH", "ETH")
    assert "closed deposits and exits at the oracle's price until" in said(report)
    assert report.outcome in {"traded", "waited", "refused"}
    until = closed_until(net)
    assert until >= net.node.head().time + 5 * HOUR_S
    assert sent(net) == 1
    for _ in range(3):  # the same condition, hour after hour
        into_the_hour(net, 60)
        post(net, "ETH", price)
        assert "are closed until" in said(step(chain_context(tmp_path, net)))
    assert sent(net) == 1
    assert [line.body["event"] for line in ctx.audit.records()].count("closing") == 1


def test_it_closes_again_when_its_time_is_over_and_the_market_still_denies(vaultnet, tmp_path):
    net = vaultnet
    held(net, tmp_path)
    post(net, "ETH", 2_400)
    step(chain_context(tmp_path, net))
    first = closed_until(net)
    net.mine(seconds=first - net.node.head().time - 1_800)
    post(net, "ETH", 2_400)
    step(chain_context(tmp_path, net))
    assert closed_until(net) > first
    assert sent(net) == 2


def test_who_opened_it_again_is_not_overruled(vaultnet, tmp_path):
    net = vaultnet
    held(net, tmp_path)
    post(net, "ETH", 2_400)
    step(chain_context(tmp_path, net))
    net.send("guardian", net.world.extras["vault"], calldata("doubt(uint256)", 0))
    into_the_hour(net, 60)
    post(net, "ETH", 2_400)
    assert "somebody has opened deposits and exits again" in said(step(chain_context(tmp_path, net)))
    assert closed_until(net) < net.node.head().time
    assert sent(net) == 2  # the keeper's and the guardian's


def test_what_keeps_it_from_closing_is_said(vaultnet, tmp_path):
    net = vaultnet
    ctx = held(net, tmp_path)
    post(net, "ETH", 2_400)
    assert "a live run would close" in said(step(dry(ctx)))
    people = replace(ctx, limits=replace(ctx.limits, close_s=0))
    balance = net.node.admin.call("eth_getBalance", [ctx.sender, "latest"])
    net.node.admin.call("anvil_setBalance", [ctx.sender, "0x1"])
    poor = step(ctx)
    assert "still open: gas_money: the keeper holds" in said(poor)
    net.node.admin.call("anvil_setBalance", [ctx.sender, balance])
    assert "is left to people" in said(step(people))
    net.send("owner", net.world.extras["vault"], calldata("revoke_keeper()"))
    net.mine()
    assert "cannot be closed by the keeper" in said(step(ctx))
    assert sent(net) == 0


def test_a_price_that_was_moved_for_a_moment_closes_nothing(vaultnet, tmp_path):
    """The pools' averages still bear the oracle out."""
    net = vaultnet
    ctx = held(net, tmp_path)
    post(net, "ETH", 2_400)
    token, view = ctx.vault.snapshot().tokens[1].address, ctx.view
    borne = OracleEvidence(average_e8={token: {"a pool": 2_390 * 10**8, "another": 1_500 * 10**8, "silent": None}})
    assert step(replace(ctx, view=lambda s: replace(view(s), evidence=borne))).json()["nav_denied"] is None
    denies = OracleEvidence(average_e8={token: {"a pool": 1_500 * 10**8, "silent": None}})
    assert "closed deposits" in said(step(replace(ctx, view=lambda s: replace(view(s), evidence=denies))))


class Died(BaseException):
    """The process is killed."""


@pytest.mark.parametrize("stage", ["journal_closing", "sign", "journal_signed", "send", "journal_sent", "watch",
                                   "journal_mined", "audit_settled", "close"])  # fmt: skip
def test_killed_anywhere_it_is_looked_up_and_never_sent_anew(vaultnet, tmp_path, stage):
    net = vaultnet
    ctx = held(net, tmp_path)
    post(net, "ETH", 2_400)

    def die(name: str) -> None:
        if name == stage:
            raise Died

    with pytest.raises(Died):
        step(replace(ctx, checkpoint=die))
    net.mine()
    later = step(chain_context(tmp_path, net))
    assert later.outcome != "pending", later.why
    assert sent(net) == 1
    assert closed_until(net) > net.node.head().time
    flights = closing.orders(ctx).journal.flights()
    assert [f.state for f in flights][-1] == "landed"
    assert sum(f.state == "landed" for f in flights) == 1


def test_an_order_that_waits_lets_no_plan_pass_and_is_settled_by_the_next_step(vaultnet, tmp_path):
    net = vaultnet
    ctx = held(net, tmp_path)
    post(net, "ETH", 2_400)
    net.faults.add(
        Fault(FaultKind.ERROR, ("eth_sendRawTransaction",), times=None, code=-32_000, message="txpool is full")
    )
    few = replace(ctx, limits=replace(ctx.limits, watch_blocks=4))
    waits = step(few)
    assert waits.outcome == "pending"
    assert "the order to close deposits and exits is on its way" in waits.why
    assert step(few).outcome == "pending"
    net.faults.clear()
    assert step(few).outcome != "pending"
    assert sent(net) == 1
    assert isinstance(ctx.vault, ReferenceVault)
