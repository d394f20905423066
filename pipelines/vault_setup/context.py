"""The execution context for the configured vault: simulated on the lake's market, or on a chain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

from lake.locks import exclusive
from lake.private import private_folder
from pipelines.settings import Settings
from pipelines.settlements.reconcile import journal_of
from pipelines.vault_setup.context_parts import limits_of, portfolio_of, rule_of, view_of
from pipelines.vault_setup.decider import Choice
from pipelines.vault_setup.paper import close_vault, open_vault
from pipelines.wiring import now, rpc_of
from policy.execution.context import EngineContext
from policy.execution.records.audit import Audit
from policy.execution.submission.node import Head
from policy.execution.vaults.simulated.chain import SimChannel, SimSigner


@contextmanager
def open_context(settings: Settings, at: datetime, choice: Choice, *, live: bool) -> Iterator[EngineContext]:
    """Yield the engine's context; the simulated vault's state is written back when a live cycle ends."""
    private_folders(settings)
    if settings.vault.kind != "simulated":
        from pipelines.vault_setup.onchain import open_onchain

        yield open_onchain(settings, choice, live=live)
        return
    with state_lock(settings):
        yield from _paper(settings, at, choice, live=live)


def private_folders(settings: Settings) -> None:
    """Make the folders of journal, audit and state, readable by their owner only; the project's own folder is left."""
    for name in (settings.vault.journal, settings.vault.audit, settings.vault.state):
        folder = settings.path(name).parent
        if folder != settings.root.resolve():
            private_folder(folder).chmod(0o700)


def state_lock(settings: Settings) -> AbstractContextManager[None]:
    """Hold the simulated vault's file: a second run waits and then reads what the first one wrote."""
    path = settings.path(settings.vault.state)
    return exclusive(path.with_name(path.name + ".lock"))


def _paper(settings: Settings, at: datetime, choice: Choice, *, live: bool) -> Iterator[EngineContext]:
    """Yield the simulated vault's context; in a live cycle every block is written as it is mined, as a chain would."""
    chain, vault = open_vault(settings, choice.market)

    def wait(head: Head) -> None:
        del head
        chain.mine()
        if live:
            close_vault(settings, chain, vault)

    feeds = {t.address: rule_of(settings, vault.spec.heartbeat_s, t.symbol) for t in vault.spec.tokens}
    journal = journal_of(settings)
    yield EngineContext(
        vault=vault, vault_address=vault.spec.address, chain_id=settings.chain.id, node=chain, policy=choice.policy,
        portfolio=portfolio_of(settings), view=lambda snapshot: view_of(choice, snapshot),
        pools=vault.pools, sender=vault.spec.keeper, journal=journal,
        audit=Audit(settings.path(settings.vault.audit)), channels={"public": SimChannel(chain)}, wait=wait,
        signer=SimSigner(vault.spec.keeper), live=live, channel="public", limits=limits_of(settings, feeds),
        clock=lambda: at,
    )  # fmt: skip
    if live:
        close_vault(settings, chain, vault)


def present(settings: Settings) -> datetime:
    """Return the moment a decision is taken at: the wall clock, or the local chain's own replayed time."""
    if settings.vault.kind == "simulated":
        return now()
    from pipelines.vault_setup.onchain import now_of
    from policy.execution.submission.node import JsonNode

    return now_of(settings, JsonNode(rpc_of(settings)))
