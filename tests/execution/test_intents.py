"""Orders through the engine on a local chain: offered, filled, ended, settled; killed and reorganised anywhere."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from lake.evm import Call, read
from pipelines.settlements.settled_plan import executions
from policy.base import Decision
from policy.execution.auctions.orders import VenueKind
from policy.execution.auctions.terms import AuctionTerms
from policy.execution.engine import dry, step
from policy.execution.records.audit import verify
from policy.execution.records.journal import FINAL
from policy.execution.vaults.anchored import faults, known, plans_executed, reference_find
from policy.execution.vaults.reference.logs import ARMED, DISARMED, REBALANCED, TRANSFER
from policy.localnet.market import start
from policy.localnet.portfolio import reference_vault
from tests.chain_fixtures import CLOCK, REORG_ROOM, fresh, into_the_hour
from tests.execution.chain_matrix import Killed, killer
from tests.execution.chainlab import MANDATE, TARGETS, chain_context, watched
from tests.execution.simlab import ToTarget
from tests.localnet.bidders import Bidders, crowd

pytestmark = pytest.mark.chain
USD = {"USDC": 1.0, "ETH": 1_500.0, "BTC": 20_000.0}
COSTS = (2.0, 3.0, 4.0)


@pytest.fixture(scope="module")
def house():
    with start(extras=[reference_vault(TARGETS, mandate=MANDATE, offers=True)], at=CLOCK) as net:
        yield net


@pytest.fixture
def net(house):
    with fresh(house, REORG_ROOM) as mine:
        into_the_hour(mine, 60)
        mine.mine(REORG_ROOM)  # a reorganisation must not take the hour back
        yield mine


def offering(folder, net, kind=VenueKind.DUTCH, bidders=None, **more):
    """A context that may offer at one kind of venue; ``bidders`` act before every block."""
    if bidders is None:
        bidders = Bidders(net, net.world.extras["vault"], crowd(3, COSTS))

    def wait(head):
        bidders.act(USD)
        net.mine()

    terms = AuctionTerms(venues=(kind,), min_saving_bp=-100.0)
    return chain_context(folder, net, **{"wait": wait, "auctions": terms, **more})


def nobody(net):
    return Bidders(net, net.world.extras["vault"], ())


def until(ctx, outcomes, steps=40):
    """Steps, a block apart, until one of ``outcomes``."""
    seen = []
    for _ in range(steps):
        seen.append(step(ctx))
        if seen[-1].outcome in outcomes:
            return seen
        ctx.wait(ctx.node.head())
    raise AssertionError([(r.outcome, r.why) for r in seen[-3:]])


def events(net, kind):
    return net.rpc.call("eth_getLogs", [{"address": net.world.extras["vault"], "topics": [kind], "fromBlock": "0x0"}])


def balances(net, ctx):
    tokens = ctx.vault.snapshot().tokens
    views = [Call(t.address, "balanceOf(address)", "uint256", (ctx.vault_address,)) for t in tokens]
    return [int(row[0]) for row in read(net.node.admin, views)]


@pytest.mark.parametrize("kind", list(VenueKind))
def test_a_trade_is_offered_filled_and_settled_from_balances(net, tmp_path, kind):
    ctx = offering(tmp_path, net, kind)
    before = balances(net, ctx)
    reports = until(ctx, {"traded", "done"})
    assert reports[0].outcome in {"offered", "traded"}
    report, flight = reports[-1], ctx.journal.last()
    assert (flight.state, flight.plan.order.kind) == ("filled", kind)
    moved = [a - b for a, b in zip(balances(net, ctx), before, strict=True)]
    tokens = ctx.vault.snapshot().tokens
    assert [report.settlement.deltas[t.address] for t in tokens] == moved
    sold = moved[[t.address for t in tokens].index(flight.plan.order.sell)]
    bought = moved[[t.address for t in tokens].index(flight.plan.order.buy)]
    assert (sold, bought >= flight.plan.order.least) == (-flight.plan.order.amount, True)
    assert (len(events(net, ARMED)), len(events(net, DISARMED)), len(events(net, REBALANCED))) == (1, 1, 0)
    assert report.settlement.gas_used > 100_000
    assert verify(tmp_path / "audit.jsonl").ok
    [row] = executions(ctx.journal.flights(), [line.body for line in ctx.audit.records()])
    assert (row.outcome, row.settlement["outcome"]) == ("traded", "filled")
    plans = known(list(ctx.audit.records()), net.chain_id, ctx.vault_address)
    find = reference_find(net.node.admin, ctx.vault_address)
    assert faults(plans, plans_executed(net.node.admin, ctx.vault_address), find) == []


def test_while_an_order_is_armed_nothing_is_planned_and_expiry_leads_to_the_pools(net, tmp_path):
    ctx = offering(tmp_path, net, bidders=nobody(net))
    first = step(ctx)
    assert first.outcome == "offered"
    again = step(ctx)
    assert (again.outcome, again.recovered, len(ctx.journal.flights())) == ("offered", "pending", 1)
    net.mine(seconds=ctx.journal.last().plan.deadline - net.node.head().time + 12)
    net.advance_prices({"ETH": 1_500.0, "BTC": 20_000.0}, pools=False)
    reports = until(ctx, {"traded", "done"})
    assert [f.state for f in ctx.journal.flights()] == ["expired", "landed"]
    assert reports[-1].plan.order is None
    assert len(events(net, REBALANCED)) == 1
    assert any(v.check == "channel_pool" for v in reports[-1].verdicts)


def test_a_forced_trade_ends_the_order_and_swaps_at_once(net, tmp_path):
    ctx = offering(tmp_path, net, bidders=nobody(net))
    assert step(ctx).outcome == "offered"
    urgent = replace(ctx, policy=ToTarget(benefit_usd=50_000.0, action="forced"))
    reports = until(urgent, {"traded", "done"}, steps=3)
    assert [f.state for f in ctx.journal.flights()] == ["disarmed", "landed"]
    assert len(events(net, DISARMED)) == len(events(net, REBALANCED)) == 1
    assert reports[-1].plan.order is None


def test_an_order_at_a_price_the_market_denies_is_ended(net, tmp_path):
    ctx = watched(offering(tmp_path, net, bidders=nobody(net)), net)
    assert step(ctx).outcome == "offered"
    assert step(ctx).outcome == "offered"
    net.advance_prices({"ETH": 1_700.0}, pools=False)  # both feeds say so, the pools do not
    for _ in range(3):
        last = step(ctx)
        net.mine()
    assert [f.state for f in ctx.journal.flights()][:1] == ["disarmed"]
    assert last.outcome != "traded", last.why
    assert len(events(net, DISARMED)) == 1


def test_a_forced_trade_is_never_offered(net, tmp_path):
    ctx = offering(tmp_path, net, policy=ToTarget(benefit_usd=50_000.0, action="forced"))
    assert step(ctx).outcome == "traded"
    assert len(events(net, ARMED)) == 0


def test_a_pause_voids_it_and_the_vault_goes_on_afterwards(net, tmp_path):
    ctx = offering(tmp_path, net)
    quiet = replace(ctx, wait=lambda head: net.mine())
    assert step(quiet).outcome == "offered"
    net.send("guardian", ctx.vault_address, ctx.vault.pause().data)
    net.mine()
    for _ in range(4):  # bidders try and fail
        ctx.wait(ctx.node.head())
    assert not ctx.vault.order_state(ctx.journal.last().plan).filled
    assert step(ctx).outcome == "offered"
    for call in ctx.vault.resume():
        net.send("owner", ctx.vault_address, call.data)
        net.mine(seconds=3_700)
    net.advance_prices({"ETH": 1_500.0, "BTC": 20_000.0}, pools=False)
    into_the_hour(net, 60)
    net.advance_prices({"ETH": 1_500.0, "BTC": 20_000.0}, pools=False)
    until(ctx, {"traded", "done"})
    assert [f.state for f in ctx.journal.flights()] == ["expired", "filled"]


def test_an_order_nobody_here_knows_of_is_ended_first(net, tmp_path):
    assert step(offering(tmp_path / "other", net, bidders=nobody(net))).outcome == "offered"
    ctx = offering(tmp_path / "mine", net, bidders=nobody(net))
    assert step(dry(ctx)).outcome == "refused"
    until(ctx, {"traded", "done"})
    assert [f.state for f in ctx.journal.flights()] == ["disarmed", "landed"]


class Part:
    """Moves ``share`` of NAV from cash to ether, once."""

    name = "part"

    def __init__(self, share):
        self.share = share

    def decide(self, state, forecasts):
        if state.weights[1] >= self.share:
            return Decision("wait", state.weights, 0.0, 0.0, 0.0, "it is done")
        wanted = state.weights + np.array([-self.share, self.share, 0.0])
        return Decision("trade", wanted, 50_000.0, 0.0, 0.0, "a part")


@pytest.mark.parametrize(("share", "check"), [(0.03, "channel_pool"), (0.5, "channel_auction")])
def test_the_way_that_is_expected_to_cost_less_is_taken(net, tmp_path, share, check):
    """Of a million dollars at 1 gwei: 30,000 swap in the pools, half a million is offered."""
    ctx = replace(offering(tmp_path, net, policy=Part(share)), auctions=AuctionTerms())
    report = step(dry(ctx))
    assert report.outcome == "planned", report.why
    [verdict] = [v for v in report.verdicts if v.check.startswith("channel_")]
    assert verdict.check == check, verdict.reason
    assert (report.plan.order is not None) == (check == "channel_auction")
    assert verdict.figures["pool_bp"] > 0
    assert verdict.figures["auction_bp"] > 0


def test_without_terms_nothing_is_offered(net, tmp_path):
    assert step(offering(tmp_path, net, auctions=None)).outcome == "traded"
    assert len(events(net, ARMED)) == 0


STAGES = (
    *("channel", "journal", "sign", "journal_signed", "send", "journal_sent", "submit", "watch", "journal_mined"),
    *("published", "follow", "end_order", "watch_order", "journal_end_mined", "audit_ended"),
)


EVERY = bool(os.environ.get("FOREDRIFT_ORDER_KILLS"))
CASES = [(s, d) for k, s in enumerate(STAGES) for d in ((0, 1, 2, 3) if EVERY else ((0, 2)[k % 2],))]


@pytest.mark.parametrize(("stage", "depth"), CASES)
def test_killed_anywhere_and_reorganised_it_is_filled_once(net, tmp_path, stage, depth):
    checkpoint, left = killer(stage), [depth] if depth else []
    outcomes = []
    for _ in range(12):
        ctx = offering(tmp_path, net, VenueKind.PRIORITY, checkpoint=checkpoint)
        try:
            outcomes.append(step(ctx).outcome)
        except Killed:
            outcomes.append("killed")
            if left:
                block = net.node.admin.call("eth_getBlockByNumber", ["latest", False])
                net.reorg(left.pop(), drop=block["transactions"])
        if outcomes[-1] in {"traded", "done"}:
            break
        ctx.wait(ctx.node.head())
    net.mine(3)
    last = step(offering(tmp_path, net, VenueKind.PRIORITY))
    flights = ctx.journal.flights()
    executed = [f for f in flights if f.state in {"filled", "landed"}]
    assert last.outcome in {"done", "waited"}, (outcomes, last.why)
    assert len(executed) == 1, [f.state for f in flights]
    assert all(f.state in FINAL for f in flights)
    assert len(events(net, DISARMED)) + len(events(net, REBALANCED)) == ctx.vault.snapshot().plan_nonce
    assert "killed" in outcomes or stage == "published"
    assert verify(tmp_path / "audit.jsonl").ok


def test_a_fill_that_a_deep_reorganisation_takes_back_is_not_believed_any_longer(net, tmp_path):
    ctx = offering(tmp_path, net, VenueKind.PRIORITY)
    until(ctx, {"traded", "done"})
    flight = ctx.journal.last()
    assert flight.state == "filled"
    armed = next(r for r in (ctx.node.receipt(h) for h in flight.hashes()) if r is not None)
    after = [log["transactionHash"] for log in events(net, DISARMED)]
    sold = {"address": flight.plan.order.sell, "topics": [TRANSFER], "fromBlock": hex(armed.block_number + 1)}
    after += [log["transactionHash"] for log in net.rpc.call("eth_getLogs", [sold])]
    net.reorg(net.node.head().number - armed.block_number, drop=after)
    quiet = replace(ctx, wait=lambda head: net.mine())
    for _ in range(3):
        step(quiet)
        net.mine()
    states = [f.state for f in ctx.journal.flights()]
    assert states[0] == "disarmed", states
    assert not ctx.vault.order_state(flight.plan).filled
    assert all(f.state in FINAL for f in ctx.journal.flights())
    audit = [r.body for r in ctx.audit.records() if r.body["event"] == "settlement"]
    assert [a["outcome"] for a in audit][:2] == ["filled", "disarmed"]
