"""One decision cycle against the configured vault, and what is kept of it: lake rows, audit chain, MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from lake.errors import ConfigError
from lake.store import Lake
from lake.units import BPS, utc
from pipelines import watch
from pipelines.deciding import decider
from pipelines.settings import Settings
from pipelines.vaults import open_context, present
from pipelines.wiring import lake_of
from policy.execution import audit
from policy.execution.base import Capabilities, Snapshot
from policy.execution.context import StepReport
from policy.execution.engine import step

Shown = Mapping[str, Any]
OUTCOME_EVENTS = {"traded": "executed", "refused": "refused", "reverted": "failed"}


def rebalance(
    settings: Settings, *, live: bool = False, as_of: str | None = None, on_plan: Callable[[Shown], None] | None = None
) -> dict[str, Any]:
    """Run one cycle and return its report; ``on_plan`` is called with the plan before anything is signed.

    ``as_of`` replays a past moment, on the simulated vault only. A refusal is an outcome with its verdicts, not an
    exception. Raises ConfigError when vault, chain and signer do not fit together.
    """
    if as_of is not None and settings.vault.kind != "simulated":
        raise ConfigError("--as-of replays history and works on the simulated vault only")
    at = utc(as_of) if as_of else present(settings)
    lake = lake_of(settings)
    choice = decider(settings, lake, at)
    planned: list[str] = []
    with open_context(settings, at, choice, live=live) as ctx:
        seen = ctx.vault.snapshot()
        off_chain = rules_off_chain(ctx.vault.describe())

        def shown_as(report: StepReport) -> dict[str, Any]:
            return as_shown(report, choice.note, seen) | {"rules_off_chain": off_chain}

        def show_plan(draft: StepReport) -> None:
            planned.append(draft.decision_id)
            if on_plan is not None:
                on_plan(shown_as(draft))

        report = step(replace(ctx, on_plan=show_plan))
    shown = shown_as(report)
    if on_plan is not None and not planned:
        on_plan(shown)
    keep(settings, lake, report, shown | {"figures": figures_of(settings, report, seen)}, at, live=live)
    watch.log(
        "decision", decision_id=report.decision_id, outcome=report.outcome, policy=report.policy, at=at.isoformat(),
        why=report.why, live=live,
    )  # fmt: skip
    event = OUTCOME_EVENTS.get(report.outcome)
    if event is not None:
        watch.notify(event, f"{report.policy} {report.outcome}", shown["summary"])
    if choice.abstained:
        watch.notify("abstained", f"{settings.policy.fallback} decided", choice.note)
    return shown


def rules_off_chain(told: Capabilities) -> list[str]:
    """Return which rules of the mandate the vault does not enforce on chain: this side does, before signing."""
    rules = ("onchain_price_bound", "loss_budget", "progress_rule", "plan_nonce", "deadline")
    return [rule.removeprefix("onchain_").replace("_", " ") for rule in rules if not getattr(told, rule)]


def as_shown(report: StepReport, note: str, seen: Snapshot) -> dict[str, Any]:
    """Return the report as printed and written by ``--json``: the engine's figures plus tables for people.

    ``weights``: asset, before, wanted, mandated target, and after the settlement.
    """
    data = report.json()
    plan = report.plan
    names = {t.address: t.symbol for t in seen.tokens}
    columns = [report.weights_before, report.weights_wanted, [b / BPS for b in seen.targets_bps], report.weights_after]
    by_asset = [dict(zip(report.assets, column, strict=False)) for column in columns]
    data["weights"] = [[a, *[column.get(a) for column in by_asset]] for a in report.assets]
    data["legs"] = [
        [names.get(leg.token_in, leg.token_in[:10]), names.get(leg.token_out, leg.token_out[:10]), str(leg.amount_in),
         str(leg.min_out), " > ".join(h.venue for h in leg.path)]
        for leg in (plan.legs if plan else report.legs)
    ]  # fmt: skip
    data["note"] = note
    words = [report.action, report.why, note]
    data["summary"] = "; ".join(w for w in words if w)
    return data


def figures_of(settings: Settings, report: StepReport, seen: Snapshot) -> dict[str, float]:
    """Return what to watch: the largest drift in tolerances, the loss budget left (bp of NAV), the base fee (gwei)."""
    given = settings.portfolio
    before = zip(report.assets, report.weights_before, strict=False)
    figures = {
        "drift_distance": max((abs(w - given.weights[a]) / given.caps[a] for a, w in before), default=0.0),
        "gas_gwei": seen.base_fee_wei / 1e9,
    }
    return figures | ({"loss_budget_left_bp": seen.loss_budget_left / seen.nav * 1e4} if seen.nav else {})


def impact_of(settings: Settings, report: StepReport) -> dict[str, float]:
    """Return what a landed plan lost against the oracle and, fees aside, to impact (USD): forecasters learn from it."""
    settled, nav_usd = report.settlement, report.expected.get("nav_usd", 0.0)
    if settled is None or not settled.nav_before:
        return {}
    loss = (settled.nav_before - settled.nav_after) / settled.nav_before * nav_usd
    return {"loss_usd": loss, "impact_usd": max(loss - _fees(settings, report), 0.0)}


def _fees(settings: Settings, report: StepReport) -> float:
    """Return the pool fees of the traded value, USD."""
    return report.expected.get("value_usd", 0.0) * settings.costs.fee_bps / 10_000


def keep(settings: Settings, lake: Lake, report: StepReport, shown: Shown, at: datetime, *, live: bool) -> None:
    """Append the decision, and its execution if there was one, to the lake; log a live cycle to MLflow.

    A dry run is kept as ``<decision_id>-dry``, so that it never stands for the decision that executes.
    """
    if not report.decision_id or not report.action:
        return
    row = {
        "decision_id": report.decision_id + ("" if live else "-dry"), "ts": at,
        "vault": settings.vault.address or settings.vault.kind,
        "policy": report.policy, "action": report.action, "inputs_digest": _digest(shown),
        "verdicts": json.dumps(shown["verdicts"]), "plan": json.dumps(shown["plan"]) if shown["plan"] else None,
        "expected": json.dumps({"why": report.why, **report.expected, **shown["figures"]}), "available_at": at,
    }  # fmt: skip
    lake.write("decisions", pl.DataFrame([row], schema_overrides={"plan": pl.String}))
    if report.settlement is None:
        return
    settled = {**shown["settlement"], **impact_of(settings, report)}
    expected = {**report.expected, "impact_usd": report.expected.get("slippage_usd", 0.0) - _fees(settings, report)}
    tries = report.attempts or [{}]
    done = {
        "decision_id": report.decision_id, "attempt": len(tries) - 1, "ts": at, "tx_hash": tries[-1].get("tx_hash"),
        "status": "landed" if report.settlement.landed else "reverted", "gas_used": report.settlement.gas_used,
        "fills": json.dumps(settled.get("deltas")), "realised": json.dumps(settled), "expected": json.dumps(expected),
        "available_at": at,
    }  # fmt: skip
    lake.write("executions", pl.DataFrame([done], schema_overrides={"tx_hash": pl.String}))
    from pipelines.live import log_execution

    log_execution(settings, report, at)


def _digest(shown: Shown) -> str:
    from hashlib import sha256

    seen = {k: shown[k] for k in ("block_number", "weights_before", "policy", "assets", "note")}
    return sha256(json.dumps(seen, sort_keys=True, default=str).encode()).hexdigest()


def as_markdown(result: Shown) -> str:
    """Return a decision as Markdown, for the scheduler's pages."""
    lines = [f"**{result['outcome']}** {result['summary']}", "", "| asset | before | wanted |", "|---|---|---|"]
    rows = [row[:3] for row in result["weights"]]
    lines += [f"| {a} | {b:.4f} | {w:.4f} |" for a, b, w in rows if b is not None and w is not None]
    lines += ["", *[f"- {'ok' if v['ok'] else 'refused'} {v['check']}: {v['reason']}" for v in result["verdicts"]]]
    return "\n".join(lines)


def explain(settings: Settings, decision_id: str) -> dict[str, Any]:
    """Return a stored decision in words and numbers; raises ConfigError when there is none of that id."""
    rows = lake_of(settings).scan("decisions").filter(pl.col("decision_id").str.starts_with(decision_id)).collect()
    if rows.is_empty():
        raise ConfigError(f"no decision {decision_id!r} in the lake; `foredrift status` shows the last one")
    row = rows.sort("ts").row(-1, named=True)
    expected = json.loads(row["expected"])
    verdicts = json.loads(row["verdicts"])
    text = [f"{row['decision_id']} at {row['ts']:%Y-%m-%d %H:%M} UTC by {row['policy']}: {row['action']}"]
    text.append(str(expected.pop("why", "")))
    text += [
        f"  {name.replace('_', ' ')}: {value:,.2f}" for name, value in expected.items() if isinstance(value, float)
    ]
    text += [f"  {'ok' if v['ok'] else 'REFUSED'} {v['check']}: {v['reason']}" for v in verdicts]
    return {**row, "expected": expected, "verdicts": verdicts, "text": "\n".join(text)}


def audit_verify(settings: Settings) -> dict[str, Any]:
    """Return whether the audit chain is whole, and the first broken record otherwise."""
    found = audit.verify(settings.path(settings.vault.audit))
    text = f"{found.records} records, head {found.head or 'none'}"
    if not found.ok:
        text = f"broken at record {found.broken}: {found.reason}"
    return {"ok": found.ok, "records": found.records, "head": found.head, "text": text}


def audit_export(settings: Settings, out: Path) -> int:
    """Write the audit record as Parquet and return the number of records."""
    return audit.export(settings.path(settings.vault.audit), out)
