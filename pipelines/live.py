"""Live cycles in MLflow: expected against realised gas and value, so that forecasts can be judged in production."""

from __future__ import annotations

from datetime import datetime

from pipelines import tracking
from pipelines.settings import Settings
from policy.execution.context import StepReport


def log_execution(settings: Settings, report: StepReport, at: datetime) -> None:
    """Log one executed cycle as a run of experiment ``live``; without a settlement there is nothing to judge."""
    settled = report.settlement
    if settled is None:
        return
    mlf = tracking.client(settings)
    experiment = tracking.experiment(settings, mlf, tracking.LIVE)
    tags = {
        "policy": report.policy,
        "decision_id": report.decision_id,
        "outcome": report.outcome,
        "channel": report.channel,
    }
    values = {f"expected_{k}": v for k, v in report.expected.items()}
    values |= {"gas_used": float(settled.gas_used), "gas_cost_gwei": settled.gas_cost_wei / 1e9}
    if settled.nav_before:
        values["nav_change_bp"] = (settled.nav_after - settled.nav_before) / settled.nav_before * 1e4
    wanted = dict(zip(report.assets, report.weights_wanted, strict=False))
    after = dict(zip(report.assets, settled.weights_after_bps, strict=False))
    gaps = [abs(wanted[a] * 1e4 - after[a]) for a in wanted if a in after]
    values["weight_error_bp"] = float(max(gaps, default=0.0))
    name = f"{report.policy} {at:%Y-%m-%d %H:%M}"
    with tracking.run(mlf, experiment.experiment_id, name, tags) as run_id:
        tracking.log_values(mlf, run_id, values)
