"""The execution context for the configured vault: simulated on the lake's market, or on a chain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

from lake.locks import exclusive
from lake.private import private_folder
from pipelines.settlements.halting import halt_of
from pipelines.settlements.reconcile import journal_of
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.context_parts import limits_of, portfolio_of, rule_of, view_of
from pipelines.vault_setup.decider import Choice
from pipelines.vault_setup.paper import close_vault, open_vault
from pipelines.wiring import now, rpc_of
from policy.execution.context import EngineContext
from policy.execution.records.audit import Audit
from policy.execution.submission.node import BlockHeader
from policy.execution.vaults.simulated.chain import SimChannel, SimSigner


@contextmanager
def open_context(deployment: VaultSettings, at: datetime, choice: Choice, *, live: bool) -> Iterator[EngineContext]:
    """Yield the engine's context; the simulated vault's state is written back when a live cycle ends."""
    private_folders(deployment)
    if deployment.vault.kind != "simulated":
        from pipelines.vault_setup.onchain import open_onchain

        yield open_onchain(deployment, choice, live=live)
        return
    with state_lock(deployment):
        yield from _paper(deployment, at, choice, live=live)


def private_folders(deployment: VaultSettings) -> None:
    """Make the folders of journal, audit and state, readable by their owner only; the project's own folder is left."""
    for name in (deployment.vault.journal, deployment.vault.audit, deployment.vault.state):
        folder = deployment.path(name).parent
        if folder != deployment.root.resolve():
            private_folder(folder).chmod(0o700)


def state_lock(deployment: VaultSettings) -> AbstractContextManager[None]:
    """Hold the simulated vault's file: a second run waits and then reads what the first one wrote."""
    path = deployment.path(deployment.vault.state)
    return exclusive(path.with_name(path.name + ".lock"))


def _paper(deployment: VaultSettings, at: datetime, choice: Choice, *, live: bool) -> Iterator[EngineContext]:
    """Yield the simulated vault's context; in a live cycle every block is written as it is mined, as a chain would."""
    chain, vault = open_vault(deployment, choice.market)

    def wait(head: BlockHeader) -> None:
        del head
        chain.mine()
        if live:
            close_vault(deployment, chain, vault)

    feeds = {t.address: rule_of(deployment, vault.spec.heartbeat_s, t.symbol) for t in vault.spec.tokens}
    journal = journal_of(deployment)
    yield EngineContext(
        vault=vault, vault_address=vault.spec.address, chain_id=deployment.chain.id, node=chain, policy=choice.policy,
        portfolio=portfolio_of(deployment), view=lambda snapshot: view_of(choice, snapshot),
        pools=vault.pools, sender=vault.spec.keeper, journal=journal,
        audit=Audit(deployment.path(deployment.vault.audit)), channels={"public": SimChannel(chain)}, wait=wait,
        signer=SimSigner(vault.spec.keeper), live=live, channel="public", limits=limits_of(deployment, feeds),
        clock=lambda: at, halted=halt_of(deployment).told,
    )  # fmt: skip
    if live:
        close_vault(deployment, chain, vault)


def present(deployment: VaultSettings) -> datetime:
    """Return the moment a decision is taken at: the wall clock, or the local chain's own replayed time."""
    if deployment.vault.kind == "simulated":
        return now()
    from pipelines.vault_setup.onchain import now_of
    from policy.execution.submission.node import JsonNode

    return now_of(deployment, JsonNode(rpc_of(deployment.chain)))
