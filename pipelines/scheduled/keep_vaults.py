"""``foredrift keep``: which vaults of a project are kept, on which heads, and what becomes of the run."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from lake.errors import ConfigError
from lake.evm import head_of
from lake.heads import HeadFollower
from lake.private import STATE
from lake.rpc import Rpc
from lake.units import utc
from lake.universe import chain
from pipelines.deployments import Deployment
from pipelines.monitor.logs import log
from pipelines.reports import terminal
from pipelines.scheduled.claims import Claims, shard_of
from pipelines.scheduled.head_recorder import booked, recorder
from pipelines.scheduled.keep import KeepRun, Shown, keep, replay
from pipelines.sections import KeepSection
from pipelines.stages.rebalance import move_on
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.kept_chain import chain_desks
from pipelines.vault_setup.kept_paper import paper_desks
from pipelines.vault_setup.kept_whole import Moved, chain_whole, paper_whole
from pipelines.vault_setup.onchain import LOCAL_CHAINS
from pipelines.vault_setup.tape import replayed
from pipelines.vault_setup.transfer_fleet import Fleet, decides_as_one, fleet_of, kept_alone, leader
from pipelines.wiring import lake_of, now
from policy.keeping.desk import Desk, MarketReader, SeenBlock
from policy.keeping.keeper import Act, Keeper

BEAT_BLOCKS = 50  # a line a person sees although nothing was done
CLAIM_BLOCKS = 4  # how often vaults that nobody keeps any more are looked for
REPLAYED = 7_200  # blocks of a replay where no number is given: a day


@dataclass(frozen=True, slots=True)
class KeepChoice:
    """What is asked for at the command line. ``ws`` and ``http`` stand in for the settings' own; ``start``: replay
    recorded blocks from that moment on, ``speed`` times as fast as they came (0: as fast as this machine goes);
    ``shard``: ``2/4`` is the second of four processes that share the vaults.
    """

    live: bool = False
    ws: str | None = None
    http: tuple[str, ...] = ()
    blocks: int | None = None
    start: str | None = None
    speed: float = 0.0
    shard: str | None = None


def keep_vaults(
    chosen: Sequence[Deployment], section: KeepSection, asked: KeepChoice, project: Sequence[Deployment] = ()
) -> dict[str, Any]:
    """Keep vaults ``chosen`` of ``project`` (empty: those are all) until a signal or the asked number of blocks.

    Returns what was done (``--json``). A portfolio that is decided on as one is kept with its first vault, by a process
    of its own. Raises ConfigError where vaults, chain and options do not fit together, OwnedElsewhere where another
    keeper lives.
    """
    kept = KeptTogether.of(_together(chosen, asked), project or chosen)
    if asked.start is not None:
        kept = kept.apart()
    with Claims({d.name: d.journal for d in kept.vaults}, shard_of(asked.shard)) as claims:
        if asked.start is not None:
            run, notes = _replay(kept, claims, asked)
        else:
            run, notes = asyncio.run(_follow(section, kept, claims, asked)), ""
        names = list(claims.owned)
    log("kept", blocks=run.blocks, cycles=run.cycles)
    return {"vaults": names, "live": asked.live, "notes": notes, **run.json()}


def _together(every: Sequence[Deployment], asked: KeepChoice) -> list[Deployment]:
    """Return the vaults that one process keeps: all on the first one's chain, of its kind."""
    first = every[0]
    paper = first.vault.kind == "simulated"
    kept = [first] if decides_as_one(first) else [
        d for d in every
        if not decides_as_one(d)
        and (d.vault.kind == "simulated") == paper and (paper or d.chain.id == first.chain.id)
    ]  # fmt: skip
    others = [d.name for d in every if d not in kept and leader(every, d) not in kept]
    if others:
        terminal.say(
            f"not kept here: {', '.join(others)} (another chain or portfolio, or paper); keep each by --deployment NAME"
        )
    if paper and asked.live:
        raise ConfigError("--live executes on a chain; the simulated vault trades on paper without it: leave it out")
    if not paper and asked.start is not None:
        raise ConfigError("--start replays recorded blocks for the simulated vault; a chain has no other moment")
    if asked.http:
        urls = tuple(SecretStr(u) for u in asked.http)
        kept = [replace(d, chain=d.chain.model_copy(update={"rpc_urls": urls})) for d in kept]
    return kept


def apart(deployment: VaultSettings) -> VaultSettings:
    """Return a simulated vault with files of its own that begins anew: a replay leaves the project's as it is."""
    folder = Path(STATE) / "replay" / deployment.name
    names = {"state": "vault.json", "journal": "journal", "audit": "audit.jsonl"}
    shutil.rmtree(deployment.path(str(folder)), ignore_errors=True)
    files = {key: str(folder / name) for key, name in names.items()}
    return replace(deployment, vault=deployment.vault.model_copy(update=files))


@dataclass(frozen=True, slots=True)
class KeptTogether:
    """What one process keeps: ``vaults``, or the portfolio ``fleet``, in whose place its first vault stands there."""

    vaults: Sequence[VaultSettings]
    fleet: Fleet | None = None

    @classmethod
    def of(cls, vaults: Sequence[VaultSettings], project: Sequence[VaultSettings]) -> KeptTogether:
        """Return ``vaults`` with the portfolio of ``project`` that they stand for; ConfigError where another leads."""
        first = vaults[0]
        if not decides_as_one(first):
            return cls(vaults)
        lead = leader(project, first)
        if lead.name != first.name:
            kept_alone(first)
        found = fleet_of(project)
        return cls(vaults, replace(found, members={**found.members, first.chain.id: first}))

    def apart(self) -> KeptTogether:
        """Return the same with files of their own, for a replay."""
        if self.fleet is None:
            return KeptTogether([apart(d) for d in self.vaults])
        shared = self.fleet.shared
        journal = str(Path(STATE) / "replay" / self.vaults[0].name / "transfers.jsonl")
        own = replace(shared, transfers=shared.transfers.model_copy(update={"journal": journal}))
        members = {c: apart(replace(d, fleet=own)) for c, d in self.fleet.members.items()}
        return KeptTogether([members[d.chain.id] for d in self.vaults], Fleet(members, own))

    def keeper(self, read: tuple[Sequence[Desk], MarketReader], claims: Claims, workers: int) -> Keeper:
        """Return the keeper of what ``read`` reads."""
        for desk in read[0]:
            desk.owner = claims.owned[desk.name]
        width = max(len(d.portfolio.assets) for d in self.vaults)
        return Keeper(*read, width=width, workers=workers)

    def on_paper(self, mine: Sequence[VaultSettings], until: datetime | None = None) -> tuple[list[Desk], MarketReader]:
        """Return the desks of ``mine`` on paper and what reads them."""
        if self.fleet is None:
            return paper_desks(mine, until)
        whole, market = paper_whole(self.fleet, until, self._moved(lambda s: datetime.fromtimestamp(s, UTC)))
        return [whole.desk()], market

    def on_chain(
        self, mine: Sequence[VaultSettings], rpc: Rpc, *, live: bool, time_s: int
    ) -> tuple[list[Desk], MarketReader]:
        """Return the desks of ``mine`` on the chain behind ``rpc`` and what reads them."""
        if self.fleet is None:
            return chain_desks(mine, rpc, live=live, time_s=time_s)
        moved = self._moved(lambda _: now())
        whole, market = chain_whole(self.fleet, rpc, live=live, time_s=time_s, moved=moved)
        return [whole.desk()], market

    def _moved(self, at: Callable[[int], datetime]) -> Moved:
        assert self.fleet is not None
        project = list(self.fleet.members.values())
        return lambda time_s, moves, placed: move_on(project, at(time_s), moves, placed)


def _replay(kept: KeptTogether, claims: Claims, asked: KeepChoice) -> tuple[KeepRun, str]:
    start, first = utc(str(asked.start)), kept.vaults[0]
    blocks = asked.blocks or REPLAYED
    heads, notes = replayed(first, lake_of(first), start, blocks)
    read = kept.on_paper(kept.vaults, start + timedelta(seconds=12 * blocks))
    pace = 12.0 / asked.speed if asked.speed > 0 else 0.0
    if kept.fleet is not None:
        notes = "; ".join([*([notes] if notes else []), "no transfers: cash stays where it lies"])
    return replay(kept.keeper(read, claims, 1), heads, pace, beat()), notes


async def _follow(section: KeepSection, kept: KeptTogether, claims: Claims, asked: KeepChoice) -> KeepRun:
    with ExitStack() as held:
        return await _followed(section, kept, claims, asked, held)


async def _followed(
    section: KeepSection, kept: KeptTogether, claims: Claims, asked: KeepChoice, held: ExitStack
) -> KeepRun:
    first = kept.vaults[0]
    ws = asked.ws or (section.ws.get_secret_value() if section.ws else None)
    urls = [u.get_secret_value() for u in (section.http if not asked.http else ()) or first.chain.rpc_urls]
    if not urls:
        raise ConfigError("heads need a node: --http URL, [keep] http or [chain] rpc_urls; --start needs none")
    paper = first.vault.kind == "simulated"
    row = chain(first.chain.history if paper else first.chain.id)
    local = first.chain.id in LOCAL_CHAINS and not paper

    def clock() -> float:  # the local chain's blocks carry replayed time, so its own time is the clock
        if local and follower.tip is not None:
            return float(follower.tip.timestamp_s)
        return now().timestamp() if paper else time.time()  # paper may live through recorded hours

    recording = held.enter_context(recorder(lake_of(first), row, first.path(STATE), Rpc(urls)))
    follower = HeadFollower(ws, urls, chain=row, clock=clock, since=recording.since if recording else ())
    rpc = None if paper else Rpc(urls)
    if rpc is not None:
        rpc.expect_chain(first.chain.id)

    def grouped() -> Keeper:
        mine = [d for d in kept.vaults if d.name in claims.owned]
        if rpc is None:
            return kept.keeper(kept.on_paper(mine), claims, section.workers)
        at = head_of(rpc).time if local else int(time.time())
        return kept.keeper(kept.on_chain(mine, rpc, live=asked.live, time_s=at), claims, section.workers)

    def regroup(head: SeenBlock) -> Keeper | None:
        return grouped() if head.number % CLAIM_BLOCKS == 0 and claims.more() else None

    keeper = grouped()

    def refusal() -> str | None:
        tip = follower.tip
        keeper.told = {
            "head_age_s": None if tip is None else round(clock() - tip.timestamp_s, 1),
            "refusal": follower.refusal,
            "nodes": [{"node": n.node, "block": n.number, "behind": n.behind} for n in follower.nodes()],
        }
        return follower.refusal

    events = booked(aiter(follower), recording)
    return await keep(keeper, events, blocks=asked.blocks, refusal=refusal, shown=beat(), regroup=regroup)


def beat() -> Shown:
    """Return what tells a person of cycles, and every so often that blocks come."""
    seen = [0]

    def shown(head: SeenBlock, acts: Sequence[Act]) -> None:
        for act in acts:
            report = act.report
            said = report.recovered or report.outcome
            terminal.say(f"block {head.number} {act.vault} [{', '.join(act.triggers)}] {said}: {report.why}")
            log("cycle", vault=act.vault, block=head.number, outcome=said, decision_id=report.decision_id)
        seen[0] += 1
        if seen[0] % BEAT_BLOCKS == 1:
            terminal.say(f"block {head.number}: next base fee {head.next_base_fee_wei / 1e9:.2f} gwei")

    return shown
