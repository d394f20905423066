"""A keeper killed in every state of an order that it offers to others, and the chain reorganised.

The one that is started next picks the order up from the journal, looks up what became of it and never offers it twice.
``make keeper-kills`` runs every row, the suite a few of them.
"""

from __future__ import annotations

import os
import random

import pytest

from policy.execution.auctions.orders import VenueKind
from policy.execution.records.audit import verify
from policy.execution.records.journal import ENDINGS, FINAL
from policy.execution.vaults.reference.logs import ARMED, DISARMED, REBALANCED
from policy.localnet.market import start
from policy.localnet.portfolio import reference_vault
from tests.chain_fixtures import CLOCK, REORG_ROOM, fresh, into_the_hour
from tests.execution.chainlab import MANDATE, TARGETS
from tests.execution.keeper_fuzz import head_of
from tests.execution.keeper_fuzz import kept as keeper_of
from tests.execution.test_intents import COSTS, USD, events, offering
from tests.execution.test_keeper_kill import Killed
from tests.localnet.bidders import Bidders, crowd

pytestmark = pytest.mark.chain
BLOCKS = 24
ARMING = (
    ("", "channel"), ("planned", "journal"), ("planned", "sign"), ("signed", "journal_signed"), ("signed", "send"),
    ("sent", "journal_sent"), ("sent", "submit"), ("sent", "follow"), ("mined", "journal_mined"),
)  # fmt: skip
STANDING = tuple(
    ("offered", stage) for stage in ("start", "recover", "snapshot", "guards", "read_pools", "end_order", "sign")
)
ENDING = (
    ("signed", "journal_signed"), ("signed", "send"), ("sent", "journal_sent"), ("sent", "start"),
    ("mined", "journal_end_mined"), ("mined", "audit_ended"), ("filled", "recover"),
)  # fmt: skip
ROWS = [(False, *row) for row in ARMING] + [(True, *row) for row in (*STANDING, *ENDING)]
MATRIX = [(*row, depth) for row in ROWS for depth in range(4)]
SHORT = [(True, "offered", "recover", 2), *random.Random(7).sample(MATRIX, 3)]
CASES = MATRIX if os.environ.get("FOREDRIFT_KEEPER_KILLS") else SHORT


@pytest.fixture(scope="module")
def house():
    with start(extras=[reference_vault(TARGETS, mandate=MANDATE, offers=True)], at=CLOCK) as net:
        yield net


@pytest.fixture
def net(house):
    with fresh(house, REORG_ROOM) as mine:
        into_the_hour(mine, 60)
        mine.mine(REORG_ROOM)
        yield mine


class Killer:
    """Ends the process at the first pass of ``stage`` at which the newest plan is in ``state`` ("" before any).

    ``offered``: not before an order stood on chain.
    """

    def __init__(self, offered: bool, state: str, stage: str) -> None:
        self.at, self.ctx, self.done, self.stood = (offered, state, stage), None, False, False

    def __call__(self, name: str) -> None:
        last = self.ctx.journal.last()
        state = "" if last is None else last.state
        self.stood = self.stood or state == "offered"
        here = self.stood, state, name
        if here == self.at and not self.done:
            self.done = True
            raise Killed(name)


def kept(net, folder, killer, depth=0, first_bid=3):
    """Blocks with an order under a keeper that is killed once; bidders come from block ``first_bid`` on."""
    bidders, outcomes, kills = Bidders(net, net.world.extras["vault"], crowd(3, COSTS)), [], 0

    def started():
        ctx = killer.ctx = offering(folder, net, VenueKind.PRIORITY, checkpoint=killer)
        return ctx, keeper_of(ctx, folder, ctx.node.rpc)

    ctx, keeper = started()
    for block in range(BLOCKS):
        try:
            outcomes += [a.report.outcome for a in keeper.on_block(head_of(net))]
        except Killed:
            kills += 1
            if depth:
                top = net.node.admin.call("eth_getBlockByNumber", ["latest", False])
                net.reorg(depth, drop=top["transactions"])
            ctx, keeper = started()
        if block >= first_bid:
            bidders.act(USD)
        net.mine()
    return ctx, outcomes, kills


@pytest.mark.parametrize(("offered", "state", "stage", "depth"), CASES)
def test_the_next_keeper_picks_it_up_looks_it_up_and_offers_nothing_twice(net, tmp_path, offered, state, stage, depth):
    ctx, outcomes, kills = kept(net, tmp_path, Killer(offered, state, stage), depth)
    assert kills == 1, f"{stage} was never passed"
    flights = ctx.journal.flights()
    told = [(f.state, f.note) for f in flights], outcomes
    done = [f for f in flights if f.state in ENDINGS | {"landed"}]  # an order whose fill was undone ends unfilled
    assert {"filled", "landed"} & {f.state for f in done}, told
    assert all(f.state in FINAL for f in flights), told
    nonces = [f.plan.nonce for f in done]
    assert nonces == list(range(ctx.vault.snapshot().plan_nonce)), told
    armed, ended = events(net, ARMED), events(net, DISARMED)
    assert len(armed) == len(ended) == sum(f.plan.order is not None for f in done), told
    assert len(ended) + len(events(net, REBALANCED)) == len(nonces)
    traded = [(f.plan.order.sell, f.plan.order.buy) for f in done if f.state == "filled"]
    assert len(set(traded)) == len(traded), "the same trade was offered again"
    assert verify(tmp_path / "audit.jsonl").ok
