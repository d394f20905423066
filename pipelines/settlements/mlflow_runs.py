"""Executions in MLflow: expected beside realised gas, slippage and drift, to judge forecasts in production."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from pipelines.experiments import client
from pipelines.monitor.logs import log
from pipelines.settlements.settled_plan import SettledPlan, distance, realised
from pipelines.vault_settings import VaultSettings

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CATCH_UP = timedelta(days=30)
"""Executions that a tracking server missed are logged afterwards when they are not older than this."""


def catch_up(deployment: VaultSettings, settled: Sequence[SettledPlan]) -> None:
    """Log executions to MLflow; a tracking server that is away is reported, and caught up on with the next one.

    A rehearsal has no tracking store: nothing is logged where none is named.
    """
    if not deployment.mlflow.tracking_uri:
        return
    from mlflow.exceptions import MlflowException  # late: seconds to import, and only a trade needs it

    try:
        log_executions(deployment, settled)
    except (MlflowException, OSError) as error:
        log("live run not logged", error=str(error)[:500], retried="with the next execution")


def log_executions(deployment: VaultSettings, settled: Sequence[SettledPlan]) -> int:
    """Log the executions that experiment ``live`` lacks, one run each, and return their number.

    The newest settles how far back is looked (CATCH_UP); an execution is known by its decision and attempt.
    """
    if not settled:
        return 0
    mlf = client.client(deployment)
    experiment = client.experiment(deployment, mlf, client.LIVE)
    known = _known(mlf, experiment.experiment_id)
    since = settled[-1].at - CATCH_UP
    missing = [e for e in settled if e.at >= since and _name(e) not in known]
    for execution in missing:
        _log(deployment, mlf, experiment.experiment_id, execution)
    return len(missing)


def _name(execution: SettledPlan) -> tuple[str, str]:
    return execution.flight.plan.decision_id, str(execution.attempt)


def _known(mlf: MlflowClient, experiment_id: str) -> set[tuple[str, str]]:
    """Return (decision id, attempt) of the finished runs; one that broke off is logged again."""
    found: set[tuple[str, str]] = set()
    token = None
    while True:
        page = mlf.search_runs([experiment_id], "attributes.status = 'FINISHED'", max_results=1_000, page_token=token)
        found |= {(r.data.tags.get("decision_id", ""), r.data.tags.get("attempt", "0")) for r in page}
        token = page.token
        if not token:
            return found


def _log(deployment: VaultSettings, mlf: MlflowClient, experiment_id: str, execution: SettledPlan) -> None:
    decision = execution.decision
    tags = {
        "policy": decision["policy"], "decision_id": execution.flight.plan.decision_id,
        "attempt": str(execution.attempt), "outcome": execution.outcome, "channel": decision["channel"],
    }  # fmt: skip
    name = f"{decision['policy']} {execution.at:%Y-%m-%d %H:%M}"
    with client.run(mlf, experiment_id, name, tags) as run_id:
        client.log_values(mlf, run_id, judged(deployment, execution))


def judged(deployment: VaultSettings, execution: SettledPlan) -> dict[str, float]:
    """Return each expectation beside what came of it.

    ``expected_`` and ``realised_`` of ``gas_usd``, ``gas`` (units), ``slippage_usd`` (fees included) and
    ``drift`` (largest deviation from target after the trade, in tolerances); ``weight_error_bp`` is the largest miss of
    a wanted weight. A plan that reverted has no realised slippage or drift.
    """
    decision, settled = execution.decision, execution.settlement["settlement"]
    values = {f"expected_{k}": float(v) for k, v in decision["expected"].items()}
    values |= {
        "expected_gas": float(execution.flight.context["gas_used"]),
        "realised_gas": float(settled["gas_used"]),
        "expected_drift": distance(deployment, decision["weights_wanted"]),
    }
    cost = realised(deployment, execution)
    values |= {f"realised_{k}": v for k, v in cost.items() if k != "loss_usd"}
    if "loss_usd" in cost:
        after = [w / 10_000 for w in settled["weights_after_bps"]]
        gaps = [abs(a - b) * 10_000 for a, b in zip(decision["weights_wanted"], after, strict=False)]
        values |= {
            "realised_slippage_usd": cost["loss_usd"],
            "realised_drift": distance(deployment, after),
            "weight_error_bp": max(gaps, default=0.0),
        }
    return values
