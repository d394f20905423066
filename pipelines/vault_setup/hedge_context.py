"""The context of a hedge decision from the settings: account, rule, pools, signer, files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from lake.errors import ConfigError
from lake.store import Lake
from lake.units import duration
from lake.universe import chain
from pipelines.hedge_section import HedgeSection, as_vault
from pipelines.settings import Settings
from pipelines.settlements.halting import halt_of
from pipelines.vault_settings import VaultSettings, vaults_of
from pipelines.vault_setup.hedge_rule import HedgeTermsOf, hedge_rule
from pipelines.vault_setup.onchain import LOCAL_CHAINS, POLL_S, channels_of, keeper_of, now_of, signer_of
from pipelines.wiring import lake_of, rpc_of
from policy.execution.context import Limits
from policy.execution.hedge_engine import HedgeContext
from policy.execution.records.audit import Audit
from policy.execution.records.journal import Journal
from policy.execution.routing.pool_reader import describe_pools, read_pools
from policy.execution.submission.gas import fee_rules
from policy.execution.submission.node import BlockHeader, JsonNode
from policy.execution.vaults.hedge.adapter import HedgeAccount
from policy.execution.vaults.hedge.state import HedgeState
from policy.hedging.book import Book
from policy.hedging.decision import HedgeMandate

DEFAULT_GAMMA = 10.0

BookAt = Callable[[Lake, str, datetime], Book]
"""Prices a portfolio of the lake at a moment."""


@dataclass(frozen=True, slots=True)
class HedgeDesk:
    """A hedge account as a deployment (chain, pools, keys, files), and what ``[hedge]`` says besides."""

    deployment: VaultSettings
    given: HedgeSection


def desk_of(settings: Settings) -> HedgeDesk:
    """Return the hedge account of a project; ConfigError where none is configured."""
    given = settings.hedge
    if given.account is None:
        raise ConfigError("set [hedge] account to the hedge account's address, and keeper to its keeper's")
    return HedgeDesk(replace(vaults_of(settings)[0], name="hedge", vault=as_vault(given)), given)


def open_hedge(desk: HedgeDesk, *, live: bool, book_at: BookAt) -> HedgeContext:
    """Return the context of ``desk``. Raises ConfigError naming what is missing."""
    deployment, given = desk.deployment, desk.given
    chain_id = deployment.chain.id
    rpc = rpc_of(deployment.chain)
    rpc.expect_chain(chain_id)
    node, row = JsonNode(rpc), chain(chain_id)
    account = HedgeAccount(rpc, str(given.account), block_time_s=max(1, round(row.block_time_s)))
    rows = [(p.address, p.venue, p.router or "") for p in deployment.sources.pools]
    if not rows:
        raise ConfigError("no pool to trade in: add [[sources.pools]] rows with address, venue, router and asset")
    infos = describe_pools(rpc, rows)
    signer = signer_of(deployment) if live else None
    every_s = int(duration(given.every).total_seconds())
    limits = Limits(gas=fee_rules(row), block_time_s=row.block_time_s, epoch_s=every_s)
    terms = terms_of(desk, book_at)

    def wait(head: BlockHeader) -> None:
        deadline = time.monotonic() + 10 * POLL_S
        while node.head().number <= head.number and time.monotonic() < deadline:
            if chain_id in LOCAL_CHAINS:
                rpc.call("evm_mine")
            else:
                time.sleep(POLL_S)

    return HedgeContext(
        vault=account, vault_address=account.address, chain_id=chain_id, node=node,
        rule=hedge_rule(terms), name=terms.mandate.rule, pools=lambda s: read_pools(rpc, infos, s.head.hash),
        native_usd=_native_usd(deployment), sender=signer.address if signer is not None else keeper_of(deployment),
        journal=Journal(deployment.journal), audit=Audit(deployment.audit),
        channels=channels_of(deployment, rpc), wait=wait, clock=lambda: now_of(deployment, node), signer=signer,
        live=live, limits=limits, halted=halt_of(deployment).told,
    )  # fmt: skip


def terms_of(desk: HedgeDesk, book_at: BookAt) -> HedgeTermsOf:
    """Return mandate, cadence and book of ``desk``."""
    given, lake = desk.given, lake_of(desk.deployment)
    gamma = DEFAULT_GAMMA if given.gamma is None and given.delta_limit is None else given.gamma
    name = given.portfolio
    outside = None if name is None else (lambda at: book_at(lake, name, at))
    return HedgeTermsOf(
        HedgeMandate(gamma, given.delta_limit), duration(given.every).total_seconds(),
        duration(given.roll).total_seconds() / 86_400, given.nav_usd, given.vol, outside,
    )  # fmt: skip


def _native_usd(deployment: VaultSettings) -> Callable[[HedgeState], float]:
    """Return the price of gas coins: the underlying's where it is the same coin, else the lake's newest close."""
    native = chain(deployment.chain.id).native
    symbols = {native, f"W{native}"}

    def price(s: HedgeState) -> float:
        if s.layout.asset.symbol.upper() in symbols:
            return s.price_usd
        import polars as pl

        bars = lake_of(deployment).scan("prices").filter((pl.col("asset") == native) & (pl.col("step") <= 3600))
        last = bars.sort("available_at").select("close").tail(1).collect()
        if last.is_empty():
            raise ConfigError(f"no price of {native} in the lake, which gas is paid in: foredrift import prices FILE")
        return float(last["close"][0])

    return price
