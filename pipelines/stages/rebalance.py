"""One decision cycle against the configured vault, and what is kept of it: lake rows, audit chain, MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from lake.errors import ConfigError, DataError
from lake.units import BPS, utc
from pipelines.deployments import Deployment, deployments
from pipelines.deployments import deployment as chosen
from pipelines.monitor import notify
from pipelines.monitor.logs import log
from pipelines.settings import Settings
from pipelines.settlements.audited import audit_export, audit_verify  # noqa: F401 - callers find them here
from pipelines.settlements.reconcile import reconcile, row_id
from pipelines.settlements.settled_plan import SettledPlan
from pipelines.vault_setup.context import open_context, present
from pipelines.vault_setup.decider import decider
from pipelines.wiring import lake_of
from policy.base import Decision, State
from policy.execution.base import Capabilities, Snapshot, Token
from policy.execution.context import StepReport
from policy.execution.engine import step
from policy.execution.records.audit import Audit
from policy.explain import explain as in_words
from policy.memory import state_from
from policy.strategies.replay import replay

Shown = Mapping[str, Any]
EVENTS = {"traded": "executed", "reverted": "failed"}


def rebalance(
    settings: Settings,
    *,
    live: bool = False,
    as_of: str | None = None,
    on_plan: Callable[[Shown], None] | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Run one cycle of deployment ``name`` (None: the first) and return its report.

    ``on_plan`` is called with the plan before anything is signed. ``as_of`` replays a past moment, on the simulated
    vault only. A refusal is an outcome with its verdicts, not an exception. Raises ConfigError when vault, chain and
    signer do not fit together.
    """
    deployment = chosen(settings, name)
    if as_of is not None and deployment.vault.kind != "simulated":
        raise ConfigError("--as-of replays history and works on the simulated vault only")
    at = utc(as_of) if as_of else present(deployment)
    lake = lake_of(settings)
    record = Audit(deployment.audit)  # one reader: every byte of it is read once a run
    told(reconcile(deployment, lake, record))
    choice = decider(deployment, lake, at)
    planned: list[str] = []
    with open_context(deployment, at, choice, live=live) as ctx:
        seen = ctx.vault.snapshot()
        off_chain = rules_off_chain(ctx.vault.describe())

        def shown_as(report: StepReport) -> dict[str, Any]:
            return as_shown(report, choice.note, seen) | {"rules_off_chain": off_chain}

        def show_plan(draft: StepReport) -> None:
            planned.append(draft.decision_id)
            if on_plan is not None:
                on_plan(shown_as(draft))

        report = step(replace(ctx, on_plan=show_plan, audit=record))
    shown = shown_as(report)
    if on_plan is not None and not planned:
        on_plan(shown)
    told(reconcile(deployment, lake, record))
    log(
        "decision", decision_id=report.decision_id, outcome=report.outcome, policy=report.policy, at=at.isoformat(),
        why=report.why, live=live,
    )  # fmt: skip
    if report.outcome == "refused":
        notify.notify("refused", f"{report.policy} refused", shown["summary"])
    if shown["untradable"]:
        names = ", ".join(u["symbol"] for u in shown["untradable"])
        notify.notify("untradable", f"{names} left alone", "\n".join(u["reason"] for u in shown["untradable"]))
    if choice.abstained:
        notify.notify("abstained", f"{deployment.policy.fallback} decided", choice.note)
    return shown


def rules_off_chain(told: Capabilities) -> list[str]:
    """Return which rules of the mandate the vault does not enforce on chain: this side does, before signing."""
    rules = ("onchain_price_bound", "loss_budget", "progress_rule", "plan_nonce", "deadline")
    return [rule.removeprefix("onchain_").replace("_", " ") for rule in rules if not getattr(told, rule)]


def told(done: Sequence[SettledPlan]) -> None:
    """Tell people of executions that are new to the lake, also of those that an earlier, killed run left."""
    for execution in done:
        decision = execution.decision
        log("execution", decision_id=decision["decision_id"], outcome=execution.outcome, at=execution.at.isoformat())
        words = "; ".join(w for w in (decision["action"], decision["why"]) if w)
        notify.notify(EVENTS[execution.outcome], f"{decision['policy']} {execution.outcome}", words)


def as_shown(report: StepReport, note: str, seen: Snapshot) -> dict[str, Any]:
    """Return the report as printed and written by ``--json``: the engine's figures plus tables for people.

    ``weights``: asset, before, wanted, mandated target, and after the settlement. ``legs``: amounts in the tokens'
    smallest units, as they are signed; ``moves``: the same in tokens.
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
    tokens = {t.address: t for t in seen.tokens}
    data["moves"] = [
        [
            *names_of,
            _amount(tokens.get(leg.token_in), leg.amount_in),
            _amount(tokens.get(leg.token_out), leg.min_out),
            way,
        ]
        for leg, (*names_of, _, _, way) in zip(plan.legs if plan else report.legs, data["legs"], strict=True)
    ]
    data["note"] = note
    alone = ", ".join(u["symbol"] for u in data["untradable"])
    action = [] if report.why.startswith(report.action) else [report.action]
    words = [*action, report.why, f"left alone: {alone}" if alone else "", note]
    data["summary"] = "; ".join(w for w in words if w)
    return data


def _amount(token: Token | None, raw: int) -> str:
    """Return ``raw`` units of ``token`` as people write them: 32,906.41 USDC; six significant digits at least."""
    if token is None:
        return str(raw)
    value = Decimal(raw).scaleb(-token.decimals)
    digits = max(2, 5 - value.adjusted()) if value else 2
    return f"{value:,.{digits}f} {token.symbol}"


def as_markdown(result: Shown) -> str:
    """Return a decision as Markdown, for the scheduler's pages."""
    lines = [f"**{result['outcome']}** {result['summary']}", "", "| asset | before | wanted |", "|---|---|---|"]
    rows = [row[:3] for row in result["weights"]]
    lines += [f"| {a} | {100 * b:.2f} % | {100 * w:.2f} % |" for a, b, w in rows if b is not None and w is not None]
    lines += ["", *[f"- {'ok' if v['ok'] else 'refused'} {v['check']}: {v['reason']}" for v in result["verdicts"]]]
    return "\n".join(lines)


def explain(settings: Settings, decision_id: str) -> dict[str, Any]:
    """Return a stored decision in words and numbers; raises ConfigError when there is none of that id."""
    rows = lake_of(settings).scan("decisions").filter(pl.col("decision_id").str.starts_with(decision_id)).collect()
    if rows.is_empty():
        raise ConfigError(f"no decision {decision_id!r} in the lake; `foredrift status` shows the last one")
    dry = pl.col("decision_id").str.ends_with("-dry")  # of an hour, what was decided counts before what was tried
    row = rows.sort("ts", dry, descending=[False, True]).row(-1, named=True)
    expected = json.loads(row["expected"])
    verdicts = json.loads(row["verdicts"])
    text = [f"{row['decision_id']} at {row['ts']:%Y-%m-%d %H:%M} UTC by {row['policy']}: {row['action']}"]
    why = str(expected.pop("why", ""))
    taken = _recorded(deployments(settings), row["decision_id"])
    text += [why] if taken is None else ["", in_words(*taken), ""]
    if "oldest_input" in expected:
        text.append(f"  oldest input: {expected['oldest_input']}")
    text += [
        f"  {name.replace('_', ' ')}: {value:,.2f}" for name, value in expected.items() if isinstance(value, float)
    ]
    text += [f"  {'ok' if v['ok'] else 'REFUSED'} {v['check']}: {v['reason']}" for v in verdicts]
    return {**row, "expected": expected, "verdicts": verdicts, "text": "\n".join(text)}


def _recorded(project: Sequence[Deployment], decision_id: str) -> tuple[State, Decision] | None:
    """Return what was decided, on which state, from the audit record; None where it was refused before that."""
    lines = [line.body for deployment in project for line in Audit(deployment.audit).records()]
    found = [b for b in lines if b.get("event") == "decision" and row_id(b) == decision_id]
    if not found or found[-1].get("state") is None or found[-1]["action"] == "refuse":
        return None
    body = found[-1]
    names = ("benefit_usd", "policy_cost_usd", "value_of_waiting_usd")
    benefit, cost, waiting = (float(body["expected"].get(n, math.nan)) for n in names)
    weights = np.array(body["decided"], dtype=np.float64)
    return state_from(body["state"]), Decision(
        body["action"], weights, benefit, cost, waiting, body["why"], body["fallback"]
    )


def audit_replay(project: Sequence[Deployment], decision: str | None) -> dict[str, Any]:
    """Take recorded decisions again from their records alone: ``decision`` (all of its records), or all (None).

    Returns {decisions: [{decision_id, same, differs, recorded, again}], same, of, older}; ``older`` counts records that
    lack what it takes. Raises DataError where the named decision is not recorded, or its record lacks it.
    """
    rows, older = [], 0
    for line in (line for deployment in project for line in Audit(deployment.audit).records()):
        body = line.body
        if body.get("event") != "decision" or decision not in {None, body.get("decision_id")}:
            continue
        try:
            found = replay(body)
        except DataError:
            if decision is not None:
                raise
            older += 1
            continue
        rows.append({
            "decision_id": found.decision_id, "same": not found.differs, "differs": list(found.differs),
            "recorded": list(found.recorded), "again": list(found.again),
        })  # fmt: skip
    if decision is not None and not rows:
        raise DataError(f"no decision {decision} is recorded; `foredrift audit export` lists them")
    return {"decisions": rows, "same": sum(bool(r["same"]) for r in rows), "of": len(rows), "older": older}
