"""``foredrift keep --localnet``: a keeper on the local market behind every fault, and what it did held to the truth."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lake.evm import BlockHeader
from lake.heads import Extended, HeadEvent, HeadFollower, Jumped, Pace, Reorged
from lake.rpc import Rpc
from lake.units import bps
from pipelines.demo.localnet import MANDATE
from pipelines.demo.trial_books import Followed, Looks
from pipelines.demo.trial_market import TrialMarket, canonical, every_fault, missed
from pipelines.scheduled.keep import KeepRun, keep, percentiles, rss_mb, slope
from policy.base import ChainFees
from policy.execution.base import Snapshot
from policy.execution.checks.guards import FeedRule
from policy.execution.context import EngineContext, Limits
from policy.execution.planner import PlanRules
from policy.execution.records.audit import Audit
from policy.execution.records.journal import Journal
from policy.execution.routing.pool_reader import describe_pools, read_pools
from policy.execution.state_builder import OffchainView, RiskTerms
from policy.execution.submission.channels import PublicChannel, Reply
from policy.execution.submission.gas import FeeRules
from policy.execution.submission.node import JsonNode
from policy.execution.submission.signer import KeystoreSigner, create_keystore
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.keeping.chain_market import ChainMarket, Kept
from policy.keeping.desk import Desk, Occasion, SeenBlock
from policy.keeping.keeper import Act, Keeper
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import TARGETS, reference_vault
from policy.localnet.world import PRICES
from policy.memory import PolicyMemory
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.reactive import GAS_BAND

QUICK = Pace(silence_s=0.6, poll_s=0.05, check_s=0.2, bound_s=0.5, first_wait_s=0.02, last_wait_s=0.3, retry_s=0.05)
HOURLY = np.diag([1e-8, 4e-5, 3e-5])  # covariance per hour of dollar, ETH, BTC
SETTLE_S = 300.0  # for a keeper to come to the tip and its plan to an end, once the faults are over
LOOKED_S = 0.02
ETH_USD, USUAL_GWEI, DEPOSIT_USD = 1_500.0, 14.0, 100_000
PASSPHRASE = "local"  # noqa: S105 # nosec B105 - of a well-known development key on a chain that dies with the process


@dataclass(slots=True)
class Watched:
    """The public channel with a clock: when bytes were handed over, and whether their plan's block was the chain's."""

    channel: PublicChannel
    net: Localnet
    journal: Journal
    private: bool = False
    name: str = "public"
    arrived: tuple[int, float] = (-1, 0.0)  # the newest block that the keeper has heard of, and when
    signed_s: list[float] = field(default_factory=list)  # from there to the hand-over of bytes that rest on it
    orphaned: int = 0

    def send(self, raw: bytes, tx_hash: str, next_block: int, max_block: int) -> Reply:
        """Hand over ``raw``; bytes that are new must rest on a block that is canonical at this moment."""
        flight = self.journal.in_flight()
        if flight is not None and len(flight.attempts) == 1 and not flight.attempts[0].sent:
            now = JsonNode(self.net.node.admin).block_hash(flight.plan.block_number)
            self.orphaned += now != flight.plan.block_hash
            number, at = self.arrived
            if flight.plan.block_number == number:
                self.signed_s.append(time.perf_counter() - at)
        return self.channel.send(raw, tx_hash, next_block, max_block)

    def cancel(self, tx_hash: str) -> Reply:
        """Ask to drop it."""
        return self.channel.cancel(tx_hash)


@dataclass(slots=True)
class Trial:
    """A keeper over the faulty front of ``net``, its files in ``folder``."""

    net: Localnet
    folder: Path
    ctx: EngineContext
    channel: Watched
    keeper: Keeper
    looks: Looks = field(default_factory=Looks)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def shown(self, head: SeenBlock, acts: Sequence[Act]) -> None:
        """Book a look: whether it led to a cycle, a plan is on its way, or a cycle had just said why not."""
        desk = self.keeper.desks[0]
        self.begun.set()
        self.looks[head.number] = bool(acts) or desk.flight or head.number < desk.held_until


def trial_of(net: Localnet, folder: Path) -> Trial:
    """Return the trial of the world's reference vault, decided by ``gas_band`` at every block."""
    rpc = Rpc((net.url, f"{net.url}/other"), timeout=5.0)  # two addresses, as live settings have
    key = folder / "keeper.json"
    if not key.exists():
        create_keystore(key, PASSPHRASE, net.accounts["keeper"].key, iterations=2)
    refs = [p for p in net.world.pools.values() if {p.asset, p.quote} <= set(TARGETS)]
    infos = describe_pools(net.node.admin, [(p.address, p.venue, p.router) for p in refs])
    vault = ReferenceVault(rpc, net.world.extras["vault"])
    journal = Journal(folder / "journal")
    channel = Watched(PublicChannel(rpc), net, journal)
    feeds = {t.address: FeedRule(heartbeat_s=90_000) for t in net.world.tokens.values()}
    portfolio = RiskTerms(tuple(TARGETS), np.full(len(TARGETS), 0.05), 30.0, "soft", ChainFees(net.chain_id))
    ctx = EngineContext(
        vault=vault, vault_address=vault.address, chain_id=net.chain_id, node=JsonNode(rpc),
        policy=RulePolicy(GAS_BAND, PolicyMemory(GAS_BAND.name, datetime(2026, 1, 1, tzinfo=UTC), {})),
        portfolio=portfolio, view=view_of, pools=lambda s: read_pools(rpc, infos, s.block_hash),
        sender=net.accounts["keeper"].address, journal=journal, audit=Audit(folder / "audit.jsonl"),
        channels={"public": channel}, wait=_no_wait, signer=KeystoreSigner(key, lambda: PASSPHRASE), live=True,
        channel="public", limits=Limits(plan=PlanRules(max_slippage_bps=bps(150), max_legs=6), feeds=feeds),
        clock=lambda: datetime.fromtimestamp(net.node.head().time, UTC),
    )  # fmt: skip

    @contextmanager
    def cycle(occasion: Occasion) -> Iterator[EngineContext]:
        yield replace(ctx, not_before=occasion.head.number)

    desk = Desk("local", journal, cycle, folder / "looks")
    keeper = Keeper([desk], market_of(ctx, rpc), width=len(TARGETS), workers=1)
    return Trial(net, folder, ctx, channel, keeper)


def _no_wait(head: BlockHeader) -> None:
    """Wait for nothing: the keeper comes back at the next block."""


def market_of(ctx: EngineContext, rpc: Rpc) -> ChainMarket:
    """Return what reads the vault of ``ctx`` by ``rpc``."""
    vault = ReferenceVault(rpc, ctx.vault_address)
    kept = Kept(vault, ctx.vault_address, ctx.portfolio, ctx.view, ctx.pools)
    return ChainMarket(rpc, JsonNode(rpc), [kept], FeeRules(), pools_every=100)


def view_of(snapshot: Snapshot) -> OffchainView:
    """Return what is known off the chain: covariance, the price of gas money, what gas usually costs."""
    at = datetime.fromtimestamp(snapshot.block_time, UTC) - timedelta(minutes=5)
    return OffchainView({}, HOURLY, ETH_USD, at, usual_gwei=USUAL_GWEI)


def try_keeper(blocks: int, *, faults: bool = True, seed: int = 1) -> dict[str, Any]:
    """Keep a vault for ``blocks`` blocks of the local market and return the figures; see ``figures``.

    Raises NoNode without Node.js.
    """
    extra = reference_vault(TARGETS, deposit_usd=DEPOSIT_USD, mandate=MANDATE)
    with start(extras=[extra], gas_gwei=12.0) as net, TemporaryDirectory() as name:
        return asyncio.run(_trial(net, Path(name), blocks, every_fault() if faults else [], seed))


async def _trial(net: Localnet, folder: Path, blocks: int, faults: list[Any], seed: int) -> dict[str, Any]:
    trial, followed, halt, run = trial_of(net, folder), Followed(), threading.Event(), KeepRun()
    follower = HeadFollower(
        net.listen(), [Rpc(net.url), Rpc(net.url)], clock=lambda: float(net.node.head().time), pace=QUICK
    )  # fmt: skip
    admin = replace(trial.ctx, pools=lambda s: _past_faults(net, s))
    prices = {a: float(p) for a, p in PRICES.items()}
    market = TrialMarket(
        net, prices, seed, lambda: trial.looks.newest, market_of(admin, Rpc(net.node_url))
    )  # fmt: skip
    net.faults.rng.seed(seed)
    for fault in faults:
        net.faults.add(fault)
    maker = threading.Thread(target=market.run, args=(blocks, halt), daemon=True)
    running = asyncio.create_task(
        keep(
            trial.keeper, _told(follower, followed, trial), refusal=lambda: follower.refusal, shown=trial.shown, run=run
        )
    )
    await trial.begun.wait()
    began, load = time.monotonic(), os.getloadavg()[0]
    maker.start()
    await asyncio.to_thread(maker.join)
    net.faults.clear()
    whole = await settled(net, trial, followed)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    if market.failure is not None:
        raise market.failure
    return figures(trial, market, followed, run) | {
        "faults": _met(faults),
        "seconds": round(time.monotonic() - began, 1),
        "settled": whole,
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],  # of the machine, runnable processes: start and end
    }


def _past_faults(net: Localnet, snapshot: Snapshot) -> Any:
    """Return the vault's pools, asked of the node itself."""
    refs = [p for p in net.world.pools.values() if {p.asset, p.quote} <= set(TARGETS)]
    infos = describe_pools(net.node.admin, [(p.address, p.venue, p.router) for p in refs])
    return read_pools(net.node.admin, infos, snapshot.block_hash)


async def _told(follower: HeadFollower, followed: Followed, trial: Trial) -> AsyncIterator[HeadEvent]:
    async for event in follower:
        followed.book(event)
        if isinstance(event, Extended | Jumped | Reorged):
            head = event.applied[-1] if isinstance(event, Reorged) else event.head
            trial.channel.arrived = head.number, time.perf_counter()
        yield event


async def settled(net: Localnet, trial: Trial, followed: Followed, room_s: float = SETTLE_S) -> bool:
    """Make blocks without faults until the keeper is at the tip and no plan is on its way; False after ``room_s``.

    The next block waits for the look at the one before, however slow the machine: what is counted afterwards is what
    the keeper did, not how far it had come.
    """
    end = time.monotonic() + room_s
    while time.monotonic() < end:
        await asyncio.to_thread(net.mine)
        head = net.node.head()
        for _ in range(int((end - time.monotonic()) / LOOKED_S) + 1):
            if _at(head, trial, followed):
                break
            await asyncio.sleep(LOOKED_S)
        if _at(head, trial, followed) and trial.ctx.journal.in_flight() is None:
            return True
    return False


def _at(head: BlockHeader, trial: Trial, followed: Followed) -> bool:
    return followed.hash_at(head.number) == head.hash and head.number in trial.looks


def figures(trial: Trial, market: TrialMarket, followed: Followed, run: KeepRun) -> dict[str, Any]:
    """Return the run's six zeros, its latencies, growth of memory and what happened on the way."""
    net, journal = trial.net, trial.ctx.journal
    landed = [f.plan.nonce for f in journal.flights() if f.state == "landed"]
    nonce = ReferenceVault(Rpc(net.node_url), trial.ctx.vault_address).snapshot().plan_nonce
    unanswered = missed(market.due, trial.looks, 1.0)
    return {
        "blocks": market.made, "looks": len(trial.looks), "reorgs": market.reorgs,
        "chain": followed.against(canonical(net, followed.first)),
        "double_executions": len(landed) - len(set(landed)) + abs(nonce - len(set(landed))),
        "sent_on_orphan": trial.channel.orphaned, "missed_triggers": len(unanswered), "missed_at": unanswered[:20],
        "executions": len(landed), "plans": len(journal.flights()), "orders_armed": trial.keeper.desks[0].order_armed,
        "due_blocks": len(market.due), "keeper": trial.keeper.tally.json(),
        "latency": {
            **percentiles("look", trial.keeper.tally.look_s.values()),
            **percentiles("decision", run.looked_s.values()),
            **percentiles("signed", np.array(trial.channel.signed_s)),
        },
        "rss_mb": round(rss_mb(), 1), "rss_slope_mb": slope(run.rss_mb.values()),
    }  # fmt: skip


def _met(faults: list[Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for fault in faults:
        found[fault.kind.value] = found.get(fault.kind.value, 0) + fault.struck
    return found


SIX: tuple[Callable[[dict[str, Any]], int], ...] = (
    lambda k: k["chain"]["wrong"], lambda k: k["chain"]["twice"], lambda k: k["chain"]["missing"],
    lambda k: k["double_executions"], lambda k: k["sent_on_orphan"], lambda k: k["missed_triggers"],
)  # fmt: skip
"""What must be zero after a trial."""
