"""The transfer machine over a project's paper vaults: several simulated chains, opened and written back together.

The rest of the world is played here as it is on paper: a relayer that fills (or does not, where the route says so), and
the bundle that pays an expired deposit home. Chains keep the time of the run; each look is a block apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from lake.errors import ConfigError
from lake.universe import Chain
from lake.universe import chain as chain_row
from pipelines.sections import BridgeSection
from pipelines.sections.chains import ROWS
from pipelines.settlements.halting import halt_of
from pipelines.settlements.reconcile import journal_of
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.context import private_folders, state_lock
from pipelines.vault_setup.transfer_fleet import Fleet, rules_of
from policy.execution.base import Token, UnsignedTx
from policy.execution.bridges.base import Bridge, PortRoute, Transfer
from policy.execution.bridges.sim_book import BridgeBook, SimDeparture, fill, refund
from policy.execution.bridges.simulated import SimAttester, SimEnds, SimulatedBridge
from policy.execution.transfers.ends import End, Refused, RouteKey, TransferContext
from policy.execution.transfers.saga import Saga, SagaState
from policy.execution.vaults.simulated import adapter
from policy.execution.vaults.simulated.adapter import SimulatedVault
from policy.execution.vaults.simulated.chain import SimChain, SimChannel, SimSigner, SimTx
from policy.execution.vaults.simulated.port import VaultSpec, credited
from policy.execution.vaults.simulated.world import SimWorld

FINAL_BLOCKS = 3
BLOCKS_FIRST = 6
"""Blocks mined when a paper chain joins a fleet, so that a look back at a final block finds one."""


@dataclass(frozen=True, slots=True)
class PaperEnd:
    """One paper chain, open: its deployment, chain and vault."""

    deployment: VaultSettings
    chain: SimChain
    spec: VaultSpec
    cash: Token


class PaperFleet:
    """The opened paper chains of a fleet, and the machine over them: an ``OpenFleet`` of the module beside."""

    looks = 4

    def __init__(self, fleet: Fleet, ends: Mapping[int, PaperEnd], *, live: bool, told: Callable[..., None]) -> None:
        self.fleet = fleet
        self.ends = ends
        made = {c: _end(e, live=live) for c, e in ends.items()}
        self.context = TransferContext(
            made, _bridges(fleet, ends), fleet.log, rules_of(fleet), live, told=told,
            halted=halt_of(fleet.first).told,
        )  # fmt: skip

    def mine(self) -> None:
        """Let a block pass on every chain."""
        for end in self.ends.values():
            end.chain.mine()

    def others_act(self, sagas: Sequence[Saga]) -> None:
        """Play the relayer and the bundle of every transfer that waits for them."""
        for saga in sagas:
            t = saga.transfer
            key = t.kind, t.origin.chain_id, t.destination.chain_id
            route = next((b for b in self.fleet.shared.bridges if self.fleet.key(b) == key), None)
            if route is None or route.kind != "across":
                continue
            if route.paper == "fills" and saga.state in {SagaState.FILLABLE, SagaState.OVERDUE}:
                self._fill(saga.transfer)
            if saga.state in {SagaState.EXPIRED, SagaState.REFUND_DUE}:
                self._refund(saga.transfer)

    def _fill(self, t: Transfer) -> None:
        far = self.ends[t.destination.chain_id]
        made = _departure(self.ends[t.origin.chain_id].chain, t)
        head = far.chain.head()
        done = fill(far.chain.world.bridges, made, head.number, head.time) if made else "no deposit"
        if not isinstance(done, str):
            book, credit = done
            world = credited(far.spec, far.chain.world, credit.recipient, credit.token, credit.amount)
            far.chain.set_world(replace(world, bridges=book))

    def _refund(self, t: Transfer) -> None:
        near = self.ends[t.origin.chain_id]
        made = _departure(near.chain, t)
        done = refund(near.chain.world.bridges, made.message_id, near.chain.head().number) if made else "no deposit"
        if not isinstance(done, str):
            book, credit = done
            world = credited(near.spec, near.chain.world, credit.recipient, credit.token, credit.amount)
            near.chain.set_world(replace(world, bridges=book))

    def flow(self, chain_id: int, usd: float) -> None:
        """Bring cash to a vault, or take it (``usd`` below 0); ConfigError where more is taken than lies there."""
        end = self.ends[chain_id]
        world = end.chain.world
        held = world.balances[end.cash.address]
        raw = round(usd / (world.prices[end.cash.address][0] / 1e8) * 10**end.cash.decimals)
        if held + raw < 0:
            there = held / 10**end.cash.decimals
            raise ConfigError(
                f"{there:,.2f} {self.fleet.cash} lie on chain {chain_id}; {-usd:,.2f} USD cannot be taken there"
            )
        head = end.chain.head()
        move = (head.number, "deposit" if raw > 0 else "withdrawal", raw, head.time)
        book = replace(world.bridges, moves=(*world.bridges.moves, move))
        end.chain.set_world(replace(world, balances={**world.balances, end.cash.address: held + raw}, bridges=book))
        self.mine()
        self.mine()


def looked_at(fleet: Fleet) -> PaperFleet:
    """Return the fleet's chains as their files have them, for a look that writes nothing."""
    ends = {c: closed_end(fleet, member) for c, member in fleet.members.items()}
    return PaperFleet(fleet, ends, live=False, told=lambda *_: None)


@contextmanager
def open_paper(fleet: Fleet, at: datetime, *, live: bool, told: Callable[..., None]) -> Iterator[PaperFleet]:
    """Yield the fleet's chains standing at ``at``; a live run writes them back. Holds every vault's file meanwhile.

    ConfigError where a vault has not begun.
    """
    with ExitStack() as held:
        for member in fleet.members.values():
            private_folders(member)
            held.enter_context(state_lock(member))
        ends = {c: _opened(fleet, d, at) for c, d in fleet.members.items()}
        paper = PaperFleet(fleet, ends, live=live, told=told)
        held.enter_context(paper.context.log.lease())
        yield paper
        if live:
            for end in ends.values():
                adapter.save(end.deployment.path(end.deployment.vault.state), end.chain, end.spec)


def closed_end(fleet: Fleet, deployment: VaultSettings) -> PaperEnd:
    """Return a chain as its file has it; ConfigError where the vault does not hold the cash that moves."""
    chain, spec = adapter.load(deployment.path(deployment.vault.state))
    cash = next((t for t in spec.tokens if t.symbol == fleet.cash), None)
    if cash is None:
        raise ConfigError(f"{deployment.name} holds no {fleet.cash}, which the bridges carry; add it to its assets")
    new = not chain.world.bridges.moves
    chain.set_world(replace(chain.world, bridges=_book(fleet, deployment, chain.world, spec, chain.head().number)))
    for _ in range(BLOCKS_FIRST if new else 0):
        chain.mine()
    return PaperEnd(deployment, chain, spec, cash)


def _opened(fleet: Fleet, deployment: VaultSettings, at: datetime) -> PaperEnd:
    path = deployment.path(deployment.vault.state)
    if not path.exists():
        raise ConfigError(
            f"the paper vault of {deployment.name} has not begun; run `foredrift rebalance --live --deployment "
            f"{deployment.name}` once"
        )
    end = closed_end(fleet, deployment)
    end.chain.mine(skip_s=max(0, int(at.timestamp()) - end.chain.head().time - end.chain.block_time_s))
    return end


def _book(fleet: Fleet, deployment: VaultSettings, world: SimWorld, spec: VaultSpec, block: int) -> BridgeBook:
    """Return the vault's bridge book with the routes as set; a vault that joins begins with the cash it has."""
    book, here = world.bridges, deployment.chain.id
    own = {t.symbol: t for t in spec.tokens}
    routes = [b for b in fleet.shared.bridges if b.origin == here]
    rows = {b.route: _row(fleet, b, own[b.token], world) for b in routes}
    tokens = {address_of(m, fleet.cash): own[fleet.cash].decimals for m in fleet.members.values()}
    moves = book.moves or ((block, "start", world.balances[own[fleet.cash].address]),)
    peers = tuple((ROWS[b.kind], b.origin) for b in fleet.shared.bridges if b.destination == here)
    fee = max((b.fee_bps for b in routes), default=0.0)
    return replace(
        book, routes=rows, decimals=tokens, peers=peers, moves=moves, fee_pips=round(fee * 100),
        cash=own[fleet.cash].address,
    )  # fmt: skip


def _row(fleet: Fleet, b: BridgeSection, token: Token, world: SimWorld) -> PortRoute:
    price = world.prices[token.address][0] / 1e8
    one, whole = (int(usd / price * 10**token.decimals) for usd in (b.max_transfer_usd, b.max_transit_usd))
    to = fleet.members[b.destination]
    ceiling = max(20, round(b.fee_bps) + 1)
    return PortRoute(
        b.route, ROWS[b.kind], "0x" + "b1" * 20, token.address, b.destination, vault_of(to),
        address_of(to, b.token), one, whole, ceiling,
    )  # fmt: skip


def address_of(deployment: VaultSettings, asset: str) -> str:
    """Return the made-up address of an asset's token on a deployment's paper chain."""
    from pipelines.vault_setup.paper import address

    del deployment  # the paper tokens have one address on every chain
    return address(asset)


def vault_of(deployment: VaultSettings) -> str:
    """Return the made-up address of a deployment's paper vault."""
    from pipelines.vault_setup.paper import address

    return address(f"vault {deployment.portfolio.name}")


def paper_row(chain_id: int) -> Chain:
    """Return the row of a chain as it is on paper: final after a few blocks, as the simulated chain counts them."""
    row = chain_row(chain_id)
    final_s = FINAL_BLOCKS * 12.0
    return replace(row, finality="depth", final_blocks=FINAL_BLOCKS, safe_blocks=1, usual_final_s=final_s)


def _end(end: PaperEnd, *, live: bool) -> End:
    keeper = end.spec.keeper

    def estimate(tx: UnsignedTx) -> int:
        head = end.chain.head()
        call = SimTx(keeper, tx.to, tx.data, 0, 30_000_000, 0, 0, tx.chain_id, "0x")
        _, gas, why = adapter.executor(end.spec)(end.chain.world, call, head.number + 1, head.time + 12)
        if why is not None:
            raise Refused(str(why))
        return int(gas)

    def busy() -> str:
        flight = journal_of(end.deployment).in_flight()
        return "" if flight is None else f"plan {flight.plan.decision_id} is in flight"

    return End(
        chain=paper_row(end.deployment.chain.id), node=end.chain, vault=SimulatedVault(end.spec, end.chain),
        address=end.spec.address, cash=end.cash, sender=keeper, channel=SimChannel(end.chain), estimate=estimate,
        signer=SimSigner(keeper) if live else None, busy=busy,
    )  # fmt: skip


def _bridges(fleet: Fleet, ends: Mapping[int, PaperEnd]) -> dict[RouteKey, Bridge]:
    out: dict[RouteKey, Bridge] = {}
    for b in fleet.shared.bridges:
        pair = (b.origin, b.destination)
        nodes = (ends[b.origin].chain, ends[b.destination].chain)
        rows = (paper_row(b.origin), paper_row(b.destination))
        bridge = SimulatedBridge(ROWS[b.kind], SimEnds(nodes, rows), SimAttester(nodes[0], rows[0]))
        out[ROWS[b.kind], *pair] = bridge
    return out


def _departure(chain: SimChain, t: Transfer) -> SimDeparture | None:
    return next((d for d in chain.world.bridges.departed.values() if d.saga_id == t.saga_id), None)
