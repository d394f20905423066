"""Drift and slippage as the newest forecasts have them: where weights are expected, what swaps are expected to cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lake.store import Lake
from lake.units import BPS, HOUR_S
from pipelines.vault_settings import VaultSettings

LIFE = timedelta(days=1)  # an older forecast is no news
AHEAD_S = 24 * HOUR_S
LEVELS = ("q05", "q25", "q50", "q75", "q95")
POOLS = 12  # shown at most


def drift_ahead(lake: Lake, assets: Sequence[Mapping[str, Any]], at: datetime) -> dict[str, Any]:
    """Return where each weight is expected a day ahead if nothing is traded: {issued, hours, rows, words}.

    A row: asset, weight, target, low and high (its band), ``q05`` .. ``q95`` (weights). A drift forecast is the log
    deviation from the basket at target: weight ahead = weight now x exp(drift), exact while the rest stands at its
    target. ``rows`` is empty where no forecast of the last day speaks; ``words`` then says why.
    """
    names = [a["asset"] for a in assets]
    made, issued, why = _newest(lake, "drift", pl.col("key").is_in(names), at)
    horizons = sorted({r["horizon_s"] for r in made})
    if not horizons:
        return {"issued": None, "hours": None, "rows": [], "words": why}
    chosen = max([h for h in horizons if h <= AHEAD_S], default=horizons[0])
    known = {r["key"]: r for r in made if r["horizon_s"] == chosen}
    rows = [
        {k: a[k] for k in ("asset", "weight", "target", "low", "high")}
        | {q: min(a["weight"] * math.exp(known[a["asset"]][q]), 1.0) for q in LEVELS}
        for a in assets
        if a["asset"] in known
    ]
    return {"issued": issued, "hours": chosen // HOUR_S, "rows": rows, "words": why}


def slippage_ahead(deployment: VaultSettings, lake: Lake, nav_usd: float, at: datetime) -> dict[str, Any]:
    """Return what a swap is expected to cost soon, fee included: {issued, hours, size_usd, rows, words}.

    ``size_usd`` is the forecast size nearest to the largest trade of the mandate; a row: pool, asset (None where not
    known), ``q05``, ``q50`` and ``q95`` in basis points of the swap.
    """
    asset_of = {p.address.lower(): p.asset for p in deployment.sources.pools}
    mine = pl.col("key").str.split("|").list.first().str.to_lowercase()
    chosen = mine.is_in(list(asset_of)) if asset_of else pl.lit(value=True)
    made, issued, why = _newest(lake, "slippage", chosen, at)
    none: dict[str, Any] = {"issued": None, "hours": None, "size_usd": None, "rows": [], "words": why}
    if not made:
        return none
    soonest = min(r["horizon_s"] for r in made)
    sizes = sorted({float(r["key"].rpartition("|")[2]) for r in made})
    largest = max(nav_usd * deployment.mandate.max_turnover_bps / BPS, 1.0)
    size = min(sizes, key=lambda s: abs(math.log(s / largest)))
    rows = []
    for r in made:
        pool, _, usd = r["key"].rpartition("|")
        asset = asset_of.get(pool.lower(), pool.removeprefix("sample-") if pool.startswith("sample-") else None)
        if r["horizon_s"] == soonest and float(usd) == size and asset in {None, *deployment.portfolio.assets}:
            rows.append({"pool": pool, "asset": asset, **{q: r[q] * BPS for q in ("q05", "q50", "q95")}})
    rows.sort(key=lambda r: (r["asset"] is None, r["asset"] or "", r["pool"]))
    return {"issued": issued, "hours": soonest // HOUR_S, "size_usd": size, "rows": rows[:POOLS], "words": why}


def _newest(lake: Lake, target: str, chosen: pl.Expr, at: datetime) -> tuple[list[dict[str, Any]], str | None, str]:
    """Return the rows of ``target`` that speak among those issued last, when that was, and why there are none."""
    made = lake.scan("forecasts", as_of=at).filter(
        (pl.col("target") == target) & chosen & (pl.col("issued_at") > at - LIFE)
    )
    rows = made.filter(pl.col("issued_at") == pl.col("issued_at").max()).sort("key", "horizon_s").collect()
    if rows.is_empty():
        return [], None, f"There is no forecast of {target.replace('_', ' ')} of the last day."
    spoken = rows.filter(~pl.col("abstain") & (pl.col("q50").is_not_null() | pl.col("mean").is_not_null()))
    if spoken.is_empty():
        return [], None, f"The forecast of {target.replace('_', ' ')} abstains: {rows['reason'][0]}."
    return spoken.to_dicts(), rows["issued_at"][0].isoformat(), ""
