"""Parts of the engine's context that every kind of vault shares: portfolio, view, feed rules, limits, keystore."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lake.errors import ConfigError
from lake.units import bps, duration
from lake.universe import STABLE, chain
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.decider import Choice
from pipelines.wiring import operators
from policy.costs import chain_fees
from policy.execution.base import Snapshot, Verdict
from policy.execution.checks.guards import FROZEN_ROUNDS, FeedRule, OracleEvidence
from policy.execution.context import Limits
from policy.execution.planner import PlanRules
from policy.execution.state_builder import OffchainView, RiskTerms
from policy.execution.submission.gas import fee_rules
from policy.execution.submission.quorum import ALONE_BPS
from policy.netting import LEAST_GAS


def portfolio_of(deployment: VaultSettings) -> RiskTerms:
    """Return what is configured about the portfolio, in the order of its assets."""
    given = deployment.portfolio
    fees = chain_fees(deployment.chain.id, deployment.costs.gas_base, deployment.costs.gas_per_leg)
    caps = np.array([given.caps[a] for a in given.assets])
    asked = deployment.policy.net_requests
    net = 0.0 if asked == "all" else LEAST_GAS if asked == given.scenario else None
    return RiskTerms(given.assets, caps, given.gamma, given.scenario, fees, net_requests=net)


def view_of(
    choice: Choice, snapshot: Snapshot, chain: OracleEvidence | None = None, doubts: tuple[Verdict, ...] = ()
) -> OffchainView:
    """Return what is known besides the vault for a snapshot; ``doubts``: verdicts on what it rests on.

    The lake's newest price of each asset is the oracle's second source, beside what the ``chain`` tells of it.
    """
    market, basis = choice.market, choice.basis
    second = {
        token.address: {"lake": round(close * 1e8)} for token, close in zip(snapshot.tokens, market.close, strict=False)
    }
    evidence = replace(chain or OracleEvidence(), second_e8=second)
    return OffchainView(
        choice.forecasts, choice.covariance, market.native_usd, basis.data_at, evidence=evidence,
        usual_gwei=market.usual_gwei, inputs=basis.inputs, shut=basis.shut, doubts=(*basis.doubts, *doubts),
        highest_gwei=market.highest_gwei, settlement_gwei=market.gas_gwei,
    )  # fmt: skip


def rule_of(deployment: VaultSettings, heartbeat_s: int, asset: str) -> FeedRule:
    """Return what is required of a feed: its own heartbeat, and agreement with the lake and the pools' averages.

    A stable coin's feed may repeat its answer for as long as it likes. Where the nodes of one operator alone tell the
    prices, they may differ from the lake by 100 bp at most: nothing else would notice a node that lies.
    """
    given = deployment.mandate
    unchecked = deployment.vault.kind != "simulated" and len(operators(deployment.chain)) == 1
    deviation = min(given.max_oracle_deviation_bps, ALONE_BPS) if unchecked else given.max_oracle_deviation_bps
    allowed = bps(deviation), bps(given.max_average_deviation_bps)
    frozen = 0 if asset in STABLE else FROZEN_ROUNDS
    return FeedRule(heartbeat_s, deviation_bps=allowed[0], average_bps=allowed[1], frozen_rounds=frozen)


def limits_of(deployment: VaultSettings, feeds: dict[str, FeedRule]) -> Limits:
    """Return the engine's limits from the mandate."""
    rules = PlanRules(
        min_trade_usd=deployment.mandate.min_trade_usd,
        max_slippage_bps=bps(deployment.mandate.max_slippage_bps),
        max_gain_bps=bps(deployment.mandate.max_oracle_deviation_bps),
    )
    row = chain(deployment.chain.id)
    close_s = int(duration(deployment.mandate.close_when_denied).total_seconds())
    if deployment.vault.kind == "safe" and deployment.vault.access == "proposal":
        life_s = int(duration(deployment.vault.proposal_life).total_seconds())
        rules = replace(rules, deadline_s=life_s, wait_blocks=int(life_s / row.block_time_s))
    return Limits(plan=rules, feeds=feeds, gas=fee_rules(row), block_time_s=row.block_time_s, close_s=close_s)


def keystore(deployment: VaultSettings) -> Path:
    """Return the keystore's path; raises ConfigError when none is configured."""
    if deployment.vault.keystore is None:
        raise ConfigError("--live needs [vault] keystore (an encrypted file) or signer_url")
    return deployment.path(deployment.vault.keystore)
