"""``foredrift thresholds``: where the marginal benefit of a tighter band meets its marginal cost, for the portfolio."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lake.errors import NotEnoughData
from pipelines.deployments import first
from pipelines.settings import Settings
from pipelines.vault_setup.decider import portfolio_at
from pipelines.wiring import lake_of
from policy.comparison.band_width_curve import Widths, curve
from policy.simulation.history import load
from policy.simulation.planner import prepare

SHOWN = 9  # rows of the printed table


def thresholds(settings: Settings, plot: Path | None = None) -> dict[str, Any]:
    """Return the cost curve over band widths at the newest known market, the best width, and a sentence.

    Costs are bp of NAV a year; ``plot`` also writes the picture. Raises NotEnoughData on an empty lake.
    """
    lake, deployment = lake_of(settings), first(settings)
    ends = [lake.scan(t).select(pl.col("available_at").max()).collect().item() for t in ("prices", "gas")]
    known = [e for e in ends if e is not None]
    if not known:
        raise NotEnoughData("the lake has neither prices nor gas; foredrift ingest, or foredrift import TABLE FILE")
    at = min(known)
    history = load(
        lake, at - timedelta(days=1), at, deployment.portfolio.assets, deployment.chain.native,
        chain_id=deployment.chain.history,
    )  # fmt: skip
    portfolio = portfolio_at(deployment, at)
    case = prepare(history, portfolio)
    found = curve(case.state(len(history.ts) - 1, portfolio.target))
    if plot is not None:
        _picture(found, plot)
    step = max(1, len(found.width) // SHOWN)
    rows = [
        {
            "half_width": float(found.width[i]), "cost_bp": float(found.total_bp[i] - found.tracking_bp[i]),
            "tracking_bp": float(found.tracking_bp[i]), "total_bp": float(found.total_bp[i]),
            "marginal_cost_bp": float(found.burden[i]), "marginal_benefit_bp": float(found.benefit[i]),
            "trades_per_year": float(found.trades_per_year[i]),
        }
        for i in range(0, len(found.width), step)
    ]  # fmt: skip
    sentence = (
        f"marginal benefit meets marginal cost at a mean deviation of {100 * found.best_width:.2f} % (trade back to "
        f"{100 * found.best_inner:.2f} %): {found.best_bp:.2f} bp of NAV a year at {found.gas_gwei:.1f} gwei"
    )
    return {
        "title": f"Cost against band width, NAV ${settings.portfolio.nav_usd:,.0f}, gamma {settings.portfolio.gamma:g}",
        "at": at.isoformat(), "curve": rows, "best_width": found.best_width, "best_inner": found.best_inner,
        "best_bp": found.best_bp, "gas_gwei": found.gas_gwei, "sentence": sentence,
    }  # fmt: skip


def _picture(found: Widths, path: Path) -> None:
    from pipelines.reports.charts import save, widths

    save(widths(found), path)
