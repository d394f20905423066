"""``foredrift thresholds``: where the marginal benefit of a tighter band meets its marginal cost, for the portfolio."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lake.errors import NotEnoughData
from pipelines.deployments import Deployment
from pipelines.vault_setup.decider import portfolio_at
from pipelines.wiring import cheapest_at, lake_of
from policy.comparison.band_width_curve import Widths, curve
from policy.simulation.block_world import gas_by_slot, recorded_windows
from policy.simulation.gas_minutes import Cheapest
from policy.simulation.history import load
from policy.simulation.planner import prepare

SHOWN = 9  # rows of the printed table


def thresholds(deployment: Deployment, plot: Path | None = None) -> dict[str, Any]:
    """Return the cost curve over band widths at the newest known market, the best width, and a sentence.

    With it gas by five minutes of the hour over the hour's mean, as far as finer gas is recorded, with its error, and
    the minute that is proven cheapest (``cheapest``; None for a schedule that is not hourly, or without a record).

    Costs are bp of NAV a year; ``plot`` also writes the picture. Raises NotEnoughData on an empty lake.
    """
    lake = lake_of(deployment)
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
    minutes = gas_by_slot(recorded_windows(lake, deployment.chain.history, at))
    best = cheapest_at(deployment, lake, at)
    said = [schedule_sentence(minutes, deployment.cron)]
    said += [] if best is None else [minute_sentence(best, used=deployment.schedule.cheapest_minute)]
    return {
        "gas_by_minute": minutes.to_dicts(), "schedule_sentence": "; ".join(said),
        "cheapest": None if best is None else best.json(),
        "title": f"Cost against band width, NAV ${portfolio.nav_usd:,.0f}, gamma {portfolio.gamma:g}",
        "at": at.isoformat(), "curve": rows, "best_width": found.best_width, "best_inner": found.best_inner,
        "best_bp": found.best_bp, "gas_gwei": found.gas_gwei, "sentence": sentence,
    }  # fmt: skip


def schedule_sentence(minutes: pl.DataFrame, cron: str) -> str:
    """Return what the schedule's minute pays for gas against the hour's mean and the cheapest minutes, with errors."""
    if minutes.is_empty():
        return "gas by minute of the hour: no whole day of five-minute or block gas in the lake yet"
    best = minutes.sort("ratio").row(0, named=True)
    least = f"{best['ratio'] - 1.0:+.1%} +- {best['error']:.1%}"
    found = f"gas is cheapest at :{best['minute']:02d}, {least} against the hour's mean"
    minute = cron.split(maxsplit=1)[0]
    if not minute.isdecimal():
        return found
    own = minutes.filter(pl.col("minute") == int(minute) // 5 * 5).row(0, named=True)
    return f"{found}; the schedule's :{int(minute):02d} pays {own['ratio'] - 1.0:+.1%} +- {own['error']:.1%}"


def minute_sentence(best: Cheapest, *, used: bool) -> str:
    """Return whether another minute is proven cheaper than the schedule's, and what [schedule] makes of it."""
    days = f"{best.days} later days, chosen on those before"
    found = f":{best.minute:02d} saves {best.saving:+.1%} +- {best.error:.1%} of the hour's gas ({days})"
    if not best.proven:
        return f"{found}, which proves nothing: the schedule stays at :{best.own:02d}"
    if used:
        return f"{found}, which is proven: the schedule runs there"
    return f"{found}, which is proven: [schedule] cheapest_minute = true runs there"


def _picture(found: Widths, path: Path) -> None:
    from pipelines.reports.charts import save, widths

    save(widths(found), path)
