"""Contexts of the engine on a local chain with the reference vault (fixture ``vaultnet``)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from lake.rpc import Rpc
from lake.units import bps
from pipelines.sections import ChainSection
from pipelines.settings import Settings
from pipelines.vault_setup.context_parts import rule_of
from pipelines.vault_setup.onchain import evidence_of
from policy.base import ChainFees
from policy.execution.checks.guards import FeedRule
from policy.execution.checks.rules import Mandate
from policy.execution.context import EngineContext, Limits
from policy.execution.planner import PlanRules
from policy.execution.records.audit import Audit
from policy.execution.records.journal import Journal
from policy.execution.routing.pool_reader import describe_pools, read_pools
from policy.execution.state_builder import OffchainView, RiskTerms
from policy.execution.submission.channels import PrivateChannel, PublicChannel
from policy.execution.submission.node import JsonNode
from policy.execution.submission.signer import KeystoreSigner, create_keystore
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.localnet.market import Localnet
from tests.execution.simlab import ToTarget

TARGETS = {"USDC": 4_000, "ETH": 3_500, "BTC": 2_500}
MANDATE = Mandate(leg_loss_bps=150, turnover_bps=8_000, max_legs=6, cooldown_s=30, loss_budget_ppb=20_000_000)
ETH_USD = 1_500.0
PATIENCE_S = 60.0  # an answer may take as long as a busy machine needs; faults end their connections themselves


def known_pools(net: Localnet):
    """Constants of the world's pools among the vault's tokens."""
    refs = [p for p in net.world.pools.values() if {p.asset, p.quote} <= set(TARGETS)]
    return describe_pools(net.node.admin, [(p.address, p.venue, p.router) for p in refs])


def chain_context(folder: Path, net: Localnet, rpc: Rpc | None = None, **more) -> EngineContext:
    """A live context on the reference vault; ``wait`` mines one block, twelve seconds on."""
    rpc = rpc or Rpc(net.url, timeout=PATIENCE_S, tries=1)
    node = JsonNode(rpc)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "keeper.json"
    if not path.exists():
        create_keystore(path, "local", net.accounts["keeper"].key, iterations=2)
    vault = more.pop("vault", None) or ReferenceVault(rpc, net.world.extras["vault"])
    infos = [] if "pools" in more else known_pools(net)
    covariance = np.diag([1e-8, 4e-5, 3e-5])

    def view(snapshot):
        at = datetime.fromtimestamp(snapshot.block_time, UTC) - timedelta(minutes=5)
        return OffchainView({}, covariance, ETH_USD, at)

    feeds = {t.address: FeedRule(heartbeat_s=90_000) for t in net.world.tokens.values()}
    fields = {
        "vault": vault,
        "vault_address": getattr(vault, "address", ""),
        "chain_id": net.chain_id,
        "node": node,
        "policy": ToTarget(benefit_usd=50_000.0),
        "portfolio": RiskTerms(tuple(TARGETS), np.full(3, 0.05), 3.0, "soft", ChainFees(net.chain_id)),
        "view": view,
        "pools": lambda snapshot: read_pools(rpc, infos, snapshot.block_hash),
        "sender": net.accounts["keeper"].address,
        "journal": Journal(folder / "journal.jsonl"),
        "audit": Audit(folder / "audit.jsonl"),
        "channels": {"public": PublicChannel(rpc), "private": PrivateChannel(rpc)},
        "wait": lambda head: net.mine(),
        "signer": KeystoreSigner(path, lambda: "local"),
        "live": True,
        "channel": "public",
        "limits": Limits(plan=PlanRules(max_slippage_bps=bps(150), max_legs=6), feeds=feeds),
        "clock": lambda: datetime.fromtimestamp(net.node.head().time, UTC),
    }
    return EngineContext(**{**fields, **more})


def watched(ctx: EngineContext, net: Localnet, sequencer: str | None = None) -> EngineContext:
    """The same context with all evidence on its oracle, as a configured vault has it."""
    settings = Settings(chain=ChainSection(id=net.chain_id, sequencer_feed=sequencer))
    infos = known_pools(net)
    rules = {t.address: rule_of(settings, 90_000, asset) for asset, t in net.world.tokens.items()}

    def view(snapshot):
        return replace(ctx.view(snapshot), evidence=evidence_of(settings, ctx.node.rpc, infos, snapshot))

    return replace(ctx, view=view, limits=replace(ctx.limits, feeds=rules))
