"""What own executions taught about price impact: realised over quoted, by when it was known."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from models.base import LakeView

PRIOR_USD = 100.0
"""Quoted impact, in USD, that counts for the quote before any execution: a few small trades do not overrule it."""

LIMITS = (0.2, 5.0)  # a ratio outside is a fault of the records, not of the market


def impact_ratio(lake: LakeView, start: datetime, end: datetime) -> pl.DataFrame:
    """Return (ts, b|impact_ratio) for the hours start <= ts < end: realised impact over quoted impact.

    Executions that landed and carry ``impact_usd`` in both ``realised`` and ``expected`` (JSON) count from their
    ``available_at`` on; the ratio is (PRIOR_USD + sum realised) / (PRIOR_USD + sum expected), 1 without executions.
    """
    step = timedelta(hours=1)
    hours = pl.DataFrame({"ts": pl.datetime_range(start, end, step, closed="left", time_unit="us", eager=True)})
    landed = lake.scan("executions").filter((pl.col("status") == "landed") & (pl.col("available_at") < end)).collect()
    if landed.is_empty():
        return hours.cast({"ts": pl.Datetime("us", "UTC")}).with_columns(pl.lit(1.0).alias("b|impact_ratio"))
    done = (
        landed.lazy()
        .select(
            pl.col("available_at").alias("ts"),
            *(
                pl.col(c).str.json_path_match("$.impact_usd").cast(pl.Float64, strict=False).alias(c)
                for c in ("realised", "expected")
            ),
        )
        .filter((pl.col("expected") > 0) & (pl.col("realised") >= 0))
        .sort("ts")
        .select(
            "ts", ((pl.col("realised").cum_sum() + PRIOR_USD) / (pl.col("expected").cum_sum() + PRIOR_USD)).alias("_r")
        )
        .collect()
    )
    joined = hours.cast({"ts": pl.Datetime("us", "UTC")}).join_asof(done, on="ts")
    return joined.select("ts", pl.col("_r").fill_null(1.0).clip(*LIMITS).alias("b|impact_ratio"))
