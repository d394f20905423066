"""Attribution of option profits over a recorded chain, and how well prices and smile fit it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import polars as pl

from lake.errors import NotEnoughData
from lake.units import utc
from pipelines.reports.nulls import nan_to_none
from policy.hedging.attribution import TERMS, attribute, explained, intervals
from policy.hedging.quotes import fit

JUDGED_D = (7.0, 35.0)


def attribution(rows: pl.DataFrame, start: str | None, end: str | None, least: float) -> dict[str, Any]:
    """Attribute every interval of ``rows`` (as ``lake.sources.options`` reads them) in ``start .. end``.

    ``ok`` where 7 to 35 days are explained to ``least``.

    Returns the shares by asset and days to expiry, the sums of every term (USD, one of each option) and the fit.
    """
    if start is not None:
        rows = rows.filter(pl.col("ts") >= utc(start))
    if end is not None:
        rows = rows.filter(pl.col("ts") < utc(end))
    found = attribute(intervals(rows))
    if found.is_empty():
        raise NotEnoughData(f"no option is in two snapshots in a row between {start} and {end}; widen the span")
    shares = explained(found)
    sums = found.select("pnl", *TERMS, "unexplained").sum().row(0, named=True)
    judged = [s.hedged for s in shares if (s.from_days, s.to_days) == JUDGED_D]
    out: dict[str, Any] = nan_to_none({
        "intervals": len(found), "from": rows["ts"].min().isoformat(), "to": rows["ts"].max().isoformat(),  # type: ignore[union-attr]
        "explained": [asdict(s) for s in shares], "sums_usd": sums, "fit": asdict(fit(rows)),
        "least": least, "ok": bool(judged) and min(judged) >= least,
    })  # fmt: skip
    return out
