"""The execution context for the configured vault: simulated on the lake's market, or on a chain."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from lake.errors import ConfigError
from lake.private import opener, private_folder
from lake.units import bps
from lake.universe import STABLE, chain
from pipelines.settings import Settings
from pipelines.settlements.reconcile import journal_of
from pipelines.vault_setup.decider import Choice
from pipelines.vault_setup.paper import close_vault, open_vault
from pipelines.wiring import now, operators, rpc_of
from policy.costs import chain_fees
from policy.execution.base import Snapshot
from policy.execution.checks.guards import FROZEN_ROUNDS, FeedRule, OracleEvidence
from policy.execution.context import EngineContext, Limits
from policy.execution.planner import PlanRules
from policy.execution.records.audit import Audit
from policy.execution.state_builder import OffchainView, RiskTerms
from policy.execution.submission.gas import fee_rules
from policy.execution.submission.node import Head
from policy.execution.submission.quorum import ALONE_BPS
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


@contextmanager
def state_lock(settings: Settings) -> Iterator[None]:
    """Hold the simulated vault's file: a second run waits and then reads what the first one wrote."""
    path = settings.path(settings.vault.state)
    with open(path.with_name(path.name + ".lock"), "a", opener=opener) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


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


def portfolio_of(settings: Settings) -> RiskTerms:
    """Return what is configured about the portfolio, in the order of its assets."""
    given = settings.portfolio
    fees = chain_fees(settings.chain.id, settings.costs.gas_base, settings.costs.gas_per_leg)
    return RiskTerms(given.assets, np.array([given.caps[a] for a in given.assets]), given.gamma, given.scenario, fees)


def view_of(choice: Choice, snapshot: Snapshot, chain: OracleEvidence | None = None) -> OffchainView:
    """Return what is known besides the vault for a snapshot.

    The lake's newest price of each asset is the oracle's second source, beside what the ``chain`` tells of it.
    """
    market, basis = choice.market, choice.basis
    second = {
        token.address: {"lake": round(close * 1e8)} for token, close in zip(snapshot.tokens, market.close, strict=False)
    }
    evidence = replace(chain or OracleEvidence(), second_e8=second)
    return OffchainView(
        choice.forecasts, choice.covariance, market.native_usd, basis.data_at, evidence=evidence,
        usual_gwei=market.usual_gwei, inputs=basis.inputs, shut=basis.shut, doubts=basis.doubts,
        dearest_gwei=market.dearest_gwei,
    )  # fmt: skip


def rule_of(settings: Settings, heartbeat_s: int, asset: str) -> FeedRule:
    """Return what is required of a feed: its own heartbeat, and agreement with the lake and the pools' averages.

    A stable coin's feed may repeat its answer for as long as it likes. Where the nodes of one operator alone tell the
    prices, they may differ from the lake by 100 bp at most: nothing else would notice a node that lies.
    """
    given = settings.mandate
    unchecked = settings.vault.kind != "simulated" and len(operators(settings)) == 1
    deviation = min(given.max_oracle_deviation_bps, ALONE_BPS) if unchecked else given.max_oracle_deviation_bps
    allowed = bps(deviation), bps(given.max_average_deviation_bps)
    frozen = 0 if asset in STABLE else FROZEN_ROUNDS
    return FeedRule(heartbeat_s, deviation_bps=allowed[0], average_bps=allowed[1], frozen_rounds=frozen)


def limits_of(settings: Settings, feeds: dict[str, FeedRule]) -> Limits:
    """Return the engine's limits from the mandate."""
    rules = PlanRules(
        min_trade_usd=settings.mandate.min_trade_usd,
        max_slippage_bps=bps(settings.mandate.max_slippage_bps),
        max_gain_bps=bps(settings.mandate.max_oracle_deviation_bps),
    )
    row = chain(settings.chain.id)
    return Limits(plan=rules, feeds=feeds, gas=fee_rules(row), block_time_s=row.block_time_s)


def keystore(settings: Settings) -> Path:
    """Return the keystore's path; raises ConfigError when none is configured."""
    if settings.vault.keystore is None:
        raise ConfigError("--live needs [vault] keystore (an encrypted file) or signer_url")
    return settings.path(settings.vault.keystore)
