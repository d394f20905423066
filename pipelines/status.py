"""How fresh everything is, for ``foredrift status`` and the metrics port."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from lake.ingest import status as lake_status
from lake.units import duration
from pipelines.settings import Settings
from pipelines.wiring import lake_of, now


def status(settings: Settings, at: datetime | None = None) -> dict[str, Any]:
    """Return freshness of every series, forecasts and the last decision, with advice in words.

    Keys: ``tables`` (table, series, rows, first, last, age_h, state), ``forecasts`` (target, rows, last, age_h,
    abstained), ``decision`` (or None), ``advice`` (sentences).
    """
    at = at or now()
    lake = lake_of(settings)
    stale_h = duration(settings.watch.stale_after).total_seconds() / 3600
    tables = _tables(lake_status(lake, at), at, stale_h)
    newest = (
        lake.scan("forecasts")
        .group_by("target")
        .agg(rows=pl.len(), last=pl.col("issued_at").max(), abstained=pl.col("abstain").sum())
        .sort("target")
        .collect()
    )
    forecasts = [r | {"age_h": _hours(at, r["last"]), "last": r["last"].isoformat()} for r in newest.to_dicts()]
    last = (
        lake.scan("decisions").sort("ts").tail(1).select("decision_id", "ts", "action", "policy").collect().to_dicts()
    )
    return {
        "at": at.isoformat(),
        "tables": tables,
        "forecasts": forecasts,
        "decision": {**last[0], "ts": last[0]["ts"].isoformat()} if last else None,
        "advice": _advice(tables, forecasts, stale_h),
    }


def _tables(frame: pl.DataFrame, at: datetime, stale_h: float) -> list[dict[str, Any]]:
    rows = []
    for r in frame.to_dicts():
        age = _hours(at, r["last"])
        daily = r["table"] == "signals"
        state = "stale" if age > stale_h + (24 if daily else 0) else "fresh"
        rows.append(
            {"table": r["table"], "series": r["key"], "rows": r["rows"], "first": r["first"].isoformat(),
             "last": r["last"].isoformat(), "age_h": age, "gaps": r["gaps"], "state": state}
        )  # fmt: skip
    return rows


def _advice(tables: list[dict[str, Any]], forecasts: list[dict[str, Any]], stale_h: float) -> list[str]:
    advice = []
    if not tables:
        advice.append("the lake is empty: foredrift ingest, or foredrift import TABLE FILE")
    stale = sorted({r["table"] for r in tables if r["state"] == "stale"})
    if stale:
        advice.append(f"older than {stale_h:g} h: {', '.join(stale)}; foredrift ingest (or import newer files)")
    if tables and not forecasts:
        advice.append("no forecasts yet: foredrift train")
    old = [r["target"] for r in forecasts if r["age_h"] > stale_h]
    if old:
        advice.append(f"forecasts older than {stale_h:g} h ({', '.join(old)}): foredrift forecast")
    return advice


def _hours(at: datetime, then: datetime) -> float:
    return round((at - then).total_seconds() / 3600, 2)
