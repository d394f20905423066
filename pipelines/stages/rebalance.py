"""One decision cycle against the configured vault, and what is kept of it: lake rows, audit chain, MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lake.errors import ConfigError, DataError
from lake.units import utc
from pipelines.deployments import Deployment, deployments
from pipelines.deployments import deployment as chosen
from pipelines.reports.check_words import said
from pipelines.reports.words import with_unit
from pipelines.settings import Settings
from pipelines.settlements.audited import audit_export, audit_verify  # noqa: F401 - callers find them here
from pipelines.settlements.reconcile import row_id
from pipelines.vault_settings import VaultSettings
from pipelines.wiring import lake_of, now
from policy.base import Decision, State
from policy.chains.netting import CashMove
from policy.execution.records.audit import Audit
from policy.execution.transfers.journal import TransfersBusy
from policy.explain import explain as in_words
from policy.memory import state_from
from policy.strategies.replay import replay


def rebalance(
    settings: Settings,
    *,
    live: bool = False,
    as_of: str | None = None,
    on_plan: Callable[[Mapping[str, Any]], None] | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Run one cycle of deployment ``name`` (None: the first) and return its report; see ``Deployment.step``.

    ``as_of`` replays a past moment, on the simulated vault only.
    """
    deployment = chosen(settings, name)
    if as_of is not None and deployment.vault.kind != "simulated":
        raise ConfigError("--as-of replays history and works on the simulated vault only")
    at = utc(as_of) if as_of else None
    return cycle_of(deployments(settings), deployment, at, live=lambda _: live, on_plan=on_plan)


def decided_by(project: Sequence[Deployment], deployment: Deployment) -> str:
    """Return the name of the vault whose scheduled runs decide for ``deployment``: of one portfolio, the first's."""
    from pipelines.vault_setup.transfer_fleet import leader

    return leader(project, deployment).name


def cycle_of(
    project: Sequence[Deployment],
    deployment: Deployment,
    at: datetime | None,
    *,
    live: Callable[[VaultSettings], bool],
    on_plan: Callable[[Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run one cycle of ``deployment``, or of the portfolio it is part of, and move the portfolio's transfers on.

    ``live``: whether a vault executes. Of a portfolio on several chains the report is the vault's own with
    ``portfolio`` (see ``WholeCycle.json``), ``parts`` (every vault's report by name) and, live, ``transfers``.
    """
    from pipelines.vault_setup.transfer_fleet import decides_as_one
    from pipelines.vault_setup.whole_cycle import run_whole

    if not decides_as_one(deployment):
        report = deployment.step(at, live=live(deployment), on_plan=on_plan)
        moved = {"transfers": move_on(project, at)} if live(deployment) and deployment.fleet else {}
        return report | moved
    cycle = run_whole(project, at, live=live, on_plan=on_plan)
    report = cycle.reports[deployment.name] | {"portfolio": cycle.json(), "parts": dict(cycle.reports)}
    placed = None if cycle.whole is None else cycle.whole.placement
    if not live(deployment):
        return report
    moves = placed.moves if placed else ()
    return report | {"transfers": move_on(project, at, moves, cycle.placed())}


def move_on(
    project: Sequence[VaultSettings],
    at: datetime | None,
    first: Sequence[CashMove] = (),
    placed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Move the transfers of a portfolio on several chains on after one of its vaults was stepped.

    Vaults that have not begun, and another run that does so just now, leave it to the next run.
    """
    from pipelines.stages.transfers import run_transfers
    from pipelines.vault_setup.transfer_fleet import fleet_of, not_begun

    waiting = not_begun(fleet_of(project))
    if waiting:
        return {"skipped": f"not begun yet: {', '.join(waiting)}"}
    try:
        return run_transfers(project, at or now(), first=first, placed=placed)
    except TransfersBusy as error:
        return {"skipped": str(error)}


def propose(
    settings: Settings,
    *,
    live: bool = False,
    out: Path | None = None,
    on_plan: Callable[[Mapping[str, Any]], None] | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Lay a plan before the owners of a deployment's Safe, or say what became of the last; see ``run_proposal``."""
    from pipelines.vault_setup.proposing import run_proposal

    return run_proposal(chosen(settings, name), live=live, out=out, on_plan=on_plan)


def explain(settings: Settings, decision_id: str) -> dict[str, Any]:
    """Return a stored decision in words and numbers; raises ConfigError when there is none of that id."""
    return explained(deployments(settings), decision_id)


def explained(project: Sequence[Deployment], decision_id: str) -> dict[str, Any]:
    """Return a stored decision of ``project`` in words and numbers; raises ConfigError where there is none."""
    rows = lake_of(project[0]).scan("decisions").filter(pl.col("decision_id").str.starts_with(decision_id)).collect()
    if rows.is_empty():
        raise ConfigError(f"no decision {decision_id!r} in the lake; `foredrift status` shows the last one")
    dry = pl.col("decision_id").str.ends_with("-dry")  # of an hour, what was decided counts before what was tried
    row = rows.sort("ts", dry, descending=[False, True]).row(-1, named=True)
    expected = json.loads(row["expected"])
    verdicts = json.loads(row["verdicts"])
    text = [f"{row['decision_id']} at {row['ts']:%Y-%m-%d %H:%M} UTC by {row['policy']}: {row['action']}"]
    why = str(expected.pop("why", ""))
    taken = _recorded(project, row["decision_id"])
    text += [why] if taken is None else ["", in_words(*taken), ""]
    if "oldest_input" in expected:
        text.append(f"  oldest input: {expected['oldest_input']}")
    text += [f"  {with_unit(name)}: {value:,.2f}" for name, value in expected.items() if isinstance(value, float)]
    text += [f"  {'ok' if v['ok'] else 'REFUSED'}: {said(v)} [{v['check']}]" for v in verdicts]
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
