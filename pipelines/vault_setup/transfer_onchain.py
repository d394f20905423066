"""The transfer machine over reference vaults on their chains: nodes, ports, Circle's contracts, the keepers' keys.

Nothing of the world is played here. A run holds every vault's journal besides the transfers', so no plan is signed by
the same key meanwhile; the chains' own clocks and blocks are read, never set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lake.answers import quantity
from lake.errors import ConfigError, RpcError
from lake.evm import Call, read
from lake.rpc import Rpc
from lake.sequencer import Uptime, judge
from lake.sources.oracles import ROUND
from lake.universe import Chain
from lake.universe import chain as chain_row
from pipelines.settlements.halting import halt_of
from pipelines.settlements.reconcile import journal_of
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.context import private_folders
from pipelines.vault_setup.onchain import channels_of, keeper_of, signer_of
from pipelines.vault_setup.transfer_bridges import bridges_of
from pipelines.vault_setup.transfer_fleet import Fleet, rules_of
from pipelines.wiring import now, operators, rpc_of
from policy.execution.base import Token, UnsignedTx
from policy.execution.bridges.log_memory import LogMemory
from policy.execution.records.journal import VaultBusy
from policy.execution.submission.node import JsonNode
from policy.execution.transfers.ends import End, Refused, TransferContext
from policy.execution.transfers.journal import TransfersBusy
from policy.execution.transfers.saga import Saga
from policy.execution.vaults.reference.adapter import ReferenceVault

LOGS = "vault-logs.json"
"""What earlier looks read of a vault's logs, beside its journal; it may be removed at any time."""
REVERTED = 3
"""JSON-RPC code of a call that reverted."""
GRACE_S = 3_600
"""After an outage of the sequencer, as for plans."""
TIME_ROOM = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class _Place:
    """One chain's node with its vault; ``second``: another operator's nodes, where there are any."""

    deployment: VaultSettings
    rpc: Rpc
    second: Rpc | None
    chain: Chain
    vault: ReferenceVault
    cash: Token


class OnchainFleet:
    """The chains of a fleet over their nodes, and the machine over them: an ``OpenFleet`` of the module beside."""

    looks = 2
    """A transfer that is planned at a run's first look is sent at its second."""

    def __init__(self, fleet: Fleet, *, live: bool, told: Callable[..., None]) -> None:
        self.fleet = fleet
        places = {c: _place(fleet, d) for c, d in fleet.members.items()}
        self.context = TransferContext(
            {c: _end(p, live=live) for c, p in places.items()}, bridges_of(fleet, places, second=False), fleet.log,
            rules_of(fleet), live, second=bridges_of(fleet, places, second=True), told=told,
            halted=halt_of(fleet.first).told,
        )  # fmt: skip

    def mine(self) -> None:
        """Blocks pass without us."""

    def others_act(self, sagas: Sequence[Saga]) -> None:
        """Other people act without us."""
        del sagas

    def flow(self, chain_id: int, usd: float) -> None:
        """Refuse: investors come and go by the vault's own contract."""
        raise ConfigError(
            f"deposit and withdraw are of paper vaults; on chain {chain_id} investors use the vault's own contract "
            f"({usd:+,.2f} USD was asked for)"
        )


@contextmanager
def open_chains(fleet: Fleet, at: datetime, *, live: bool, told: Callable[..., None]) -> Iterator[OnchainFleet]:
    """Yield the fleet's chains; holds the transfers and, live, every vault's journal meanwhile.

    ConfigError where a setting is missing or another time than now is asked for; TransfersBusy where a run holds one.
    """
    if abs(at - now()) > TIME_ROOM:
        raise ConfigError("the vaults are on their chains, whose time nobody sets: leave --as-of and --later out")
    with ExitStack() as held:
        for member in fleet.members.values():
            private_folders(member)
            if live:
                try:
                    held.enter_context(journal_of(member).lease())
                except VaultBusy as error:
                    raise TransfersBusy(str(error)) from None
        chains = OnchainFleet(fleet, live=live, told=told)
        held.enter_context(chains.context.log.lease())
        yield chains


def _place(fleet: Fleet, deployment: VaultSettings) -> _Place:
    if not deployment.vault.address:
        raise ConfigError(
            f"{deployment.name} has no address: set it in the [chains.vault] of chain {deployment.chain.id}"
        )
    rpc = rpc_of(deployment.chain)
    rpc.expect_chain(deployment.chain.id)
    others = list(operators(deployment.chain).values())[1:]
    second = Rpc([u for urls in others for u in urls]) if others else None
    if second is not None:
        second.expect_chain(deployment.chain.id)
    vault = ReferenceVault(rpc, deployment.vault.address)
    vault.memory = LogMemory(deployment.path(deployment.vault.journal).with_name(LOGS))
    tokens, assets = vault.snapshot().tokens, deployment.portfolio.assets
    if len(tokens) != len(assets):
        raise ConfigError(
            f"{deployment.name} holds {', '.join(t.symbol for t in tokens)}; [portfolio] assets must list one "
            f"asset per token, in that order, got {', '.join(assets)}"
        )
    if assets[0] != fleet.cash:
        raise ConfigError(
            f"transfers carry the asset that a vault counts in, the first of its tokens: {deployment.name} counts in "
            f"{assets[0]}, [[bridges]] token is {fleet.cash}"
        )
    row = chain_row(deployment.chain.id)
    return _Place(deployment, rpc, second, row, vault, replace(tokens[0], symbol=fleet.cash))


def _end(place: _Place, *, live: bool) -> End:
    deployment, rpc = place.deployment, place.rpc
    signer = signer_of(deployment) if live else None
    sender = keeper_of(deployment) if signer is None else signer.address
    channels = channels_of(deployment, rpc)
    named = "private" if deployment.vault.relay == "private" else "public"
    if named not in channels:
        raise ConfigError(f'{deployment.name}: relay = "{named}" needs [vault] relay_url')

    def busy() -> str:
        flight = journal_of(deployment).in_flight()
        return "" if flight is None else f"plan {flight.plan.decision_id} is in flight"

    return End(
        chain=place.chain, node=JsonNode(rpc), vault=place.vault, address=place.vault.address, cash=place.cash,
        sender=sender, channel=channels[named], estimate=lambda tx: _estimate(rpc, sender, tx), signer=signer,
        busy=busy, sequencer=lambda: sequencer_words(place.deployment, place.chain, rpc),
    )  # fmt: skip


def _estimate(rpc: Rpc, sender: str, tx: UnsignedTx) -> int:
    call = {"from": sender, "to": tx.to, "data": "0x" + tx.data.hex(), "value": hex(tx.value)}
    try:
        return quantity(rpc.call("eth_estimateGas", [call]))
    except RpcError as error:
        if error.code == REVERTED or "revert" in str(error).lower():
            raise Refused(str(error)) from None
        raise


def sequencer_words(deployment: VaultSettings, row: Chain, rpc: Rpc) -> str:
    """Return what is wrong with a roll-up's sequencer by its uptime feed, empty where all is well or it has none."""
    feed = deployment.chain.sequencer_feed or row.sequencer_feed
    if feed is None:
        return ""
    head = JsonNode(rpc).head()
    _, answer, started_at, *_ = read(rpc, [Call(feed, "latestRoundData()", ROUND)], head.number)[0]
    found = judge(int(str(answer)), int(str(started_at)), head.time, GRACE_S)
    if found.uptime is Uptime.UP:
        return ""
    return f"in its grace time: {found.words}" if found.uptime is Uptime.GRACE else found.words
