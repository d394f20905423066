"""What a live portfolio did, hour by hour, from its audit record: weights, NAV, costs of trades, what came and went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from lake.units import utc
from pipelines.settlements.settled_plan import SettledPlan, fees_usd, realised
from pipelines.vault_settings import VaultSettings
from policy.base import Vector
from policy.execution.records.hashlog import Body

LEAST_FLOW = 1e-4
"""Share of NAV below which a change of holdings is rounding or a token's own interest, no flow."""


@dataclass(frozen=True, slots=True)
class VaultLook:
    """What one decision saw of the vault, and what was done: ``weights`` (n,) before and ``after``, NAV in USD.

    ``holdings`` are raw units by token; ``paid`` is gas, fee and impact, USD; ``gas_used`` in gas units.
    """

    at: datetime
    weights: Vector
    after: Vector
    nav_usd: float
    holdings: dict[str, int]
    deltas: dict[str, int]
    paid: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gas_used: int = 0
    legs: int = 0


def vault_looks(deployment: VaultSettings, records: Sequence[Body], settled: Sequence[SettledPlan]) -> list[VaultLook]:
    """Return what the decisions of ``records`` saw, in order of time: live ones, and dry ones in between.

    A decision that was refused before it saw the vault is left out: nothing is known of that hour.
    """
    done = {s.decision["plan_hash"]: s for s in settled}
    assets = len(deployment.portfolio.assets)
    found = []
    for body in records:
        if body.get("event") != "decision" or len(body["weights_before"]) != assets:
            continue
        nav = float(body["expected"].get("nav_usd", 0.0))
        if nav > 0.0:
            found.append(_vault_look(deployment, body, nav, done.get(body["plan_hash"]) if body["live"] else None))
    return sorted(found, key=lambda s: s.at)


def _vault_look(deployment: VaultSettings, body: Body, nav: float, plan: SettledPlan | None) -> VaultLook:
    before = np.array(body["weights_before"], dtype=np.float64)
    holdings = {token: int(raw) for token, raw in body["snapshot"]["holdings"].items()}
    if plan is None:
        return VaultLook(utc(body["ts"]), before, before, nav, holdings, {})
    said: dict[str, Any] = plan.settlement["settlement"]
    cost, traded = realised(deployment, plan), plan.outcome == "traded"
    fee = min(fees_usd(deployment, plan), max(cost.get("loss_usd", 0.0), 0.0)) if traded else 0.0
    after = np.array(said["weights_after_bps"], dtype=np.float64) / 10_000 if traded else before
    return VaultLook(
        utc(body["ts"]), before, after / after.sum() if after.sum() > 0 else before, nav, holdings,
        {token: int(raw) for token, raw in said["deltas"].items()} if traded else {},
        (cost.get("gas_usd", 0.0), fee, cost.get("loss_usd", 0.0) - fee), int(said["gas_used"]),
        len(body["plan"]["legs"]) if body.get("plan") else 0,
    )  # fmt: skip


def flow(before: VaultLook, now: VaultLook, returns: Vector) -> Vector | None:
    """Return (n,) USD that came in (or went out, negative) between two sights, by asset; None where nothing did.

    ``returns``: of each asset's price in between. Holdings say whether something moved, weights and prices how much.
    """
    tokens = {*before.holdings, *now.holdings}
    moved = [t for t in tokens if now.holdings.get(t, 0) != before.holdings.get(t, 0) + before.deltas.get(t, 0)]
    if not moved:
        return None
    expected = before.after * before.nav_usd * (1.0 + returns)
    gap = np.asarray(now.weights * now.nav_usd - expected)
    return gap if float(np.abs(gap).sum()) > LEAST_FLOW * now.nav_usd else None
