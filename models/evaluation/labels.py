"""Outcomes: when a label becomes known, hiding those that are not, and long form for scoring."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from models.base import LABEL

OUTCOME_SCHEMA: dict[str, pl.DataType] = {
    "target": pl.String(),
    "key": pl.String(),
    "issued_at": pl.Datetime("us", "UTC"),
    "horizon_s": pl.Int64(),
    "y": pl.Float64(),
}


def label_columns(panel: pl.DataFrame) -> list[str]:
    """Return the names of the panel's label columns."""
    return [c for c in panel.columns if c.startswith(LABEL)]


def parse_label(column: str) -> tuple[str, int]:
    """Return (target, horizon_s) of a label column."""
    _, target, horizon = column.split("|")
    return target, int(horizon)


def hide_unknown(panel: pl.DataFrame, known_at: datetime) -> pl.DataFrame:
    """Return ``panel`` with every label null that is complete only after ``known_at`` (ts + horizon > known_at)."""
    return panel.with_columns(
        pl.when(pl.col("ts") + timedelta(seconds=parse_label(c)[1]) <= known_at).then(pl.col(c)).alias(c)
        for c in label_columns(panel)
    )


def melt(panel: pl.DataFrame) -> pl.DataFrame:
    """Return (target, key, issued_at, horizon_s, y) of all labels that are not null."""
    parts = []
    for column in label_columns(panel):
        target, horizon_s = parse_label(column)
        parts.append(
            panel.lazy()
            .filter(pl.col(column).is_not_null())
            .select(
                pl.lit(target).alias("target"),
                "key",
                pl.col("ts").alias("issued_at"),
                pl.lit(horizon_s, pl.Int64).alias("horizon_s"),
                pl.col(column).cast(pl.Float64).alias("y"),
            )
        )
    if not parts:
        return pl.DataFrame(schema=OUTCOME_SCHEMA)
    return pl.concat(parts).collect()
