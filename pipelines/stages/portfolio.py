"""``foredrift portfolio``: where the portfolio stands, what comes next and why, what it cost, and what it saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from cronsim import CronSim

from lake.errors import ForedriftError
from lake.store import Lake
from lake.units import duration
from pipelines.monitor.model_status import FILE, models_in_force
from pipelines.reports.alert_words import ALERTS, LEADS
from pipelines.reports.words import as_sentence, refusal, without_paths
from pipelines.settlements.halting import halt_of
from pipelines.settlements.live_hours import VaultLook, vault_looks
from pipelines.settlements.reconcile import journal_of, owner_of
from pipelines.settlements.settled_plan import distance, executions
from pipelines.stages.exposures import chains_of, greeks_of
from pipelines.stages.forecasts_ahead import drift_ahead, slippage_ahead
from pipelines.stages.gas_ahead import gas_ahead, gas_money
from pipelines.stages.outside import outside
from pipelines.stages.saved import saved
from pipelines.stages.told_decisions import Teller, decided
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.transfer_fleet import leader
from pipelines.wiring import cron_at, lake_of
from policy.base import Vector
from policy.execution.checks.verdicts import NAV_DENIED, UNTRADABLE
from policy.execution.records.audit import Audit
from policy.execution.records.hashlog import Body

SHOWN = 10  # decisions
POINTS = 240  # of history: more than a small chart can show


def portfolio(
    deployment: VaultSettings, at: datetime, stale_after: str = "3h", project: Sequence[VaultSettings] = ()
) -> dict[str, Any]:
    """Return the portfolio of ``deployment`` at ``at`` for people and ``--json``; USD, fractions, ISO times.

    Keys: ``name``, ``chain``, ``vault``, ``policy``, ``live``, ``halted``, ``nav`` (usd, at, change_24h_usd ...),
    ``assets`` (asset, usd, weight, target, low, high, outside), ``next`` (sentence, action, decision_id, decided_at,
    gas_gwei, gas_low, due), ``keeper``, ``cost_month`` (gas_usd, fee_usd, impact_usd, total_usd, trades, since),
    ``saved`` (``pipelines.stages.saved``), ``decisions`` (the last ten: decision_id, ts, outcome, sentence), ``alerts``
    (alert, says, do), ``loss_budget`` (left_bp, of_bp), ``gas_money`` (native, usd, words), ``history`` (ts, nav_usd,
    weights by asset, drift, trades), ``outside`` (``pipelines.stages.outside``), ``gas`` (the past day and the
    forecast's fan), ``drift`` and ``slippage`` (``pipelines.stages.forecasts_ahead``), ``chains`` and ``greeks``
    (``pipelines.stages.exposures``; None where there are none), ``models``, ``coverage``. ``project``: all its vaults,
    which those on other chains are found by.
    """
    lake = lake_of(deployment)
    records = [line.body for line in Audit(deployment.audit).records()] if deployment.audit.exists() else []
    settled = executions(journal_of(deployment).flights(), records) if records else []
    seen = [s for s in vault_looks(deployment, records, settled) if s.at <= at]
    ahead = gas_ahead(lake, deployment.chain.history, at)
    teller = Teller(deployment, ahead, {s.decision["plan_hash"]: s.outcome for s in settled})
    last = decided(records)[-SHOWN:][::-1]
    told = [teller.row(b) for b in last]
    halt, owner = halt_of(deployment).read(), owner_of(leader(project, deployment) if project else deployment)
    stopped = None if halt is None else halt.words()
    assets = _assets(deployment, lake, seen, at)
    nav, budget = _nav(deployment, assets, seen, at), _budget(deployment, last)
    refused = bool(told) and told[0]["outcome"] == "refused"
    return {
        "at": at.isoformat(), "name": deployment.name, "chain": deployment.chain.id, "vault": deployment.vault.kind,
        "policy": deployment.policy.kind, "live": deployment.live, "halted": None if halt is None else asdict(halt),
        "nav": nav, "assets": assets,
        "next": teller.next(last[:1], stopped) | {"due": _due(deployment, at)},
        "keeper": {"held": owner.held, "fresh": owner.fresh, "age_s": owner.age_s, "words": owner.words(), "told": {
            k: owner.told.get(k) if owner.held else None
            for k in ("block", "head_age_s", "refusal", "nodes", "order", "unknown")
        }},
        "cost_month": _month(seen, at), "saved": saved(deployment, at), "decisions": told,
        "alerts": alerts(deployment, lake, last, stopped, at, stale_after, refused=refused),
        "loss_budget": budget, "gas_money": gas_money(deployment, lake, at), "history": _history(deployment, seen),
        "outside": outside(deployment, lake, seen, at), "gas": ahead, "drift": drift_ahead(lake, assets, at),
        "slippage": slippage_ahead(deployment, lake, nav["usd"], at),
        "chains": chains_of(deployment, project, lake, at), "greeks": greeks_of(deployment, lake, at),
        **models_in_force(deployment.path(FILE), at),
    }  # fmt: skip


def _assets(deployment: VaultSettings, lake: Lake, seen: Sequence[VaultLook], at: datetime) -> list[dict[str, Any]]:
    """Return a row an asset: the last known weights, moved by prices since; before any decision the first ones."""
    given = deployment.portfolio
    if seen:
        weights, nav, since = seen[-1].after, seen[-1].nav_usd, seen[-1].at
        weights = weights * _moved(lake, given.assets, since, at)
        nav *= float(weights.sum())
        weights /= max(float(weights.sum()), 1e-12)
    else:
        start = deployment.start_weights
        weights, nav = np.array([start.get(a, 0.0) for a in given.assets]), given.nav_usd
    rows = []
    for asset, weight in zip(given.assets, weights.tolist(), strict=True):
        target, cap = given.weights[asset], given.caps[asset]
        rows.append({
            "asset": asset, "usd": weight * nav, "weight": weight, "target": target, "low": max(target - cap, 0.0),
            "high": min(target + cap, 1.0), "outside": abs(weight - target) > cap,
        })  # fmt: skip
    return rows


def _moved(lake: Lake, assets: Sequence[str], since: datetime, at: datetime) -> Vector:
    """Return (n,) price at ``at`` over price at ``since``; 1 where one of them is not known."""
    prices = lake.scan("prices").filter(pl.col("asset").is_in(list(assets)) & (pl.col("available_at") <= at))
    rows = prices.sort("available_at").group_by("asset").agg(
        now=pl.col("close").last(), then=pl.col("close").filter(pl.col("available_at") <= since).last(),
    ).collect()  # fmt: skip
    known = {r["asset"]: r["now"] / r["then"] for r in rows.to_dicts() if r["then"]}
    return np.array([known.get(a, 1.0) for a in assets])


def _nav(
    deployment: VaultSettings, assets: Sequence[dict[str, Any]], seen: Sequence[VaultLook], at: datetime
) -> dict[str, Any]:
    usd = sum(a["usd"] for a in assets)

    def change(days: int) -> float | None:
        earlier = [s.nav_usd for s in seen if s.at <= at - timedelta(days=days)]
        return usd - earlier[-1] if earlier else None

    first = seen[0] if seen else None
    return {
        "usd": usd, "at": seen[-1].at.isoformat() if seen else None, "change_24h_usd": change(1),
        "change_30d_usd": change(30), "start_usd": first.nav_usd if first else deployment.portfolio.nav_usd,
        "start_at": first.at.isoformat() if first else None,
    }  # fmt: skip


def _due(deployment: VaultSettings, at: datetime) -> str:
    """Return when the schedule decides next."""
    return str(next(CronSim(cron_at(deployment, at), at)).isoformat())


def _month(seen: Sequence[VaultLook], at: datetime) -> dict[str, Any]:
    start = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    mine = [s for s in seen if s.at >= start]
    gas, fee, impact = (float(sum(s.paid[i] for s in mine)) for i in range(3))
    return {
        "gas_usd": gas, "fee_usd": fee, "impact_usd": impact, "total_usd": gas + fee + impact,
        "trades": sum(bool(s.legs and s.gas_used) for s in mine), "since": start.isoformat(),
    }  # fmt: skip


def _budget(deployment: VaultSettings, last: Sequence[Body]) -> dict[str, float | None]:
    """Return the loss budget left at the last decision that read it, and the whole, bp of NAV."""
    read = [b["snapshot"] for b in last if b.get("snapshot") and int(b["snapshot"].get("nav", 0))]
    left = int(read[0]["loss_budget_left"]) / int(read[0]["nav"]) * 1e4 if read else None
    return {"left_bp": left, "of_bp": float(deployment.mandate.loss_budget_bps)}


def _history(deployment: VaultSettings, seen: Sequence[VaultLook]) -> dict[str, Any]:
    """Return NAV, weights and drift (largest deviation in tolerances) as they were seen, thinned to POINTS."""
    traded = [s.at.isoformat() for s in seen if s.legs and s.gas_used][-POINTS:]
    step = max(1, -(-len(seen) // POINTS))
    kept = list(seen[::-1][::step][::-1])
    names = deployment.portfolio.assets
    return {
        "ts": [s.at.isoformat() for s in kept], "nav_usd": [s.nav_usd for s in kept],
        "weights": {a: [float(s.weights[i]) for s in kept] for i, a in enumerate(names)},
        "drift": [distance(deployment, s.weights.tolist()) for s in kept], "trades": traded,
    }  # fmt: skip


def alerts(
    deployment: VaultSettings, lake: Lake, last: Sequence[Body], halted: str | None, at: datetime, stale_after: str,
    *, refused: bool,
) -> list[dict[str, str]]:  # fmt: skip
    """Return what needs a look, with what the runbook says of it: {alert, says, do}."""
    found: list[tuple[str, str]] = [("stopped", halted)] if halted else []
    if last:
        body = last[0]
        found += [("refused", refusal([v for v in body["verdicts"] if not v["ok"]], body["why"]))] if refused else []
        found += [("untradable", v["reason"]) for v in body["verdicts"] if v["check"] == UNTRADABLE]
        found += [("denied", v["reason"]) for v in body["verdicts"] if v["check"] == NAV_DENIED]
        if body["policy"] == deployment.policy.fallback != deployment.policy.kind:
            found.append(
                ("abstained", f"the fallback {deployment.policy.fallback} decided, {deployment.policy.kind} abstained")
            )
    try:
        newest = lake.scan("prices", as_of=at).select(pl.col("available_at").max()).collect().item()
    except ForedriftError as error:
        newest, found = at, [*found, ("stale", str(error))]
    if newest is None or at - newest > duration(stale_after):
        found.append(
            ("stale", f"the newest is of {newest:%Y-%m-%d %H:%M} UTC" if newest else "there are no prices yet")
        )
    return [
        {"alert": name, "says": as_sentence(LEADS.get(name, "") + without_paths(says)), "do": ALERTS[name]}
        for name, says in found
    ]
