"""What the audit keeps of a decision: the inputs with their digest, the verdicts, the plan and its hash."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from policy.base import Decision, ForecastView
from policy.execution.base import Snapshot
from policy.execution.context import EngineContext, StepReport
from policy.execution.records.audit import inputs_digest
from policy.execution.records.codec import plan_json, verdicts_json
from policy.memory import forecasts_json, state_json


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return what was read from the chain."""
    return {
        "chain_id": snapshot.chain_id,
        "block_number": snapshot.block_number,
        "block_hash": snapshot.block_hash,
        "block_time": snapshot.block_time,
        "base_fee_wei": str(snapshot.base_fee_wei),
        "holdings": {t.address: str(h) for t, h in zip(snapshot.tokens, snapshot.holdings, strict=True)},
        "prices_e8": {q.token: [str(q.price_e8), str(q.round_id), q.updated_at] for q in snapshot.quotes},
        "targets_bps": list(snapshot.targets_bps),
        "nav": str(snapshot.nav),
        "plan_nonce": snapshot.plan_nonce,
        "loss_budget_left": str(snapshot.loss_budget_left),
    } | ({} if snapshot.flows is None else {"flows": {k: str(v) for k, v in asdict(snapshot.flows).items()}})


def audit_refusal(ctx: EngineContext, report: StepReport, snapshot: Snapshot) -> None:
    """Append a cycle that was refused before anything was decided."""
    body = snapshot_json(snapshot)
    data = {"data": report.data}
    ctx.audit.append(
        "refusal", _head_fields(ctx, report) | {"snapshot": body, "inputs_digest": inputs_digest(body)} | data
    )


def audit_decision(
    ctx: EngineContext,
    report: StepReport,
    snapshot: Snapshot,
    forecasts: ForecastView,
    decision: Decision,
) -> None:
    """Append what was known, decided and planned.

    The state is the one the policy was asked about, and ``decided`` its answer: where tokens are left alone that is not
    what was traded.

    With the policy's memory this is everything the decision came from: ``replay`` takes it again from the record alone.
    """
    memory = getattr(ctx.policy, "memory", None)
    state, answer = report.asked or (None, decision)
    inputs = {
        "snapshot": snapshot_json(snapshot),
        "state": None if state is None else state_json(state),
        "forecasts": forecasts_json(forecasts),
        "data": report.data,
        "memory": None if memory is None else memory.to_json(),
        "memory_digest": None if memory is None else memory.digest,
    }
    ctx.audit.append(
        "decision",
        _head_fields(ctx, report)
        | inputs
        | {
            "inputs_digest": inputs_digest(inputs),
            "fallback": decision.fallback,
            "answer": answer.action,
            "decided": [float(w) for w in answer.weights],
            "weights_before": list(report.weights_before),
            "weights_wanted": list(report.weights_wanted),
            "expected": report.expected,
            "details": dict(decision.details),
            "plan": None if report.plan is None else plan_json(report.plan),
            "plan_hash": None if report.plan is None else "0x" + report.plan.plan_hash.hex(),
            "channel": report.channel,
        }
        | ({"keeper": report.keeper} if report.keeper else {})
        | ({} if ctx.part is None else {"portfolio": dict(ctx.part.record())}),
    )


def _head_fields(ctx: EngineContext, report: StepReport) -> dict[str, Any]:
    return {
        "decision_id": report.decision_id,
        "ts": ctx.clock().isoformat(),
        "vault": ctx.vault_address,
        "policy": ctx.policy.name,
        "live": ctx.live and (ctx.signer is not None or ctx.others_sign),
        "action": report.action or "refuse",
        "outcome_so_far": report.outcome,
        "why": report.why,
        "verdicts": verdicts_json(report.verdicts),
    }
