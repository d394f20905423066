"""Scores of forecasts: pinball, coverage, reliability, and skill with paired block-bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.base import TargetSpec
from models.forecast_schema import QUANTILE_COLUMNS, QUANTILES

Array = npt.NDArray[np.float64]

_SERIES = ["target", "key", "horizon_s"]
_ROW = [*_SERIES, "issued_at"]


def pinball(y: Array, q: Array, levels: tuple[float, ...] = QUANTILES) -> Array:
    """Return the pinball loss (n,) of quantiles ``q`` (n, k) at outcomes ``y`` (n,), averaged over the k levels."""
    tau = np.asarray(levels)
    gap = y[:, None] - q
    return np.asarray(np.maximum(tau * gap, (tau - 1.0) * gap).mean(axis=1), dtype=np.float64)


def losses(rows: pl.DataFrame, outcomes: pl.DataFrame, specs: tuple[TargetSpec, ...]) -> pl.DataFrame:
    """Return (target, key, horizon_s, issued_at, y, loss, below_05, inside) of every row with a known outcome.

    ``loss`` is the target's own score: pinball in its space (log gwei for gas), or squared error of the mean for
    "brier" and "mse". ``inside`` is 1 where the outcome lies within the 5..95 % interval, null for mean-only targets.
    Abstaining rows are left out.
    """
    parts = [_loss_of(rows, outcomes, spec) for spec in specs]
    return pl.concat(parts) if parts else pl.DataFrame()


def _loss_of(rows: pl.DataFrame, outcomes: pl.DataFrame, spec: TargetSpec) -> pl.DataFrame:
    joined = (
        rows.lazy()
        .filter((pl.col("target") == spec.name) & ~pl.col("abstain"))
        .sort(_ROW)
        .join(outcomes.lazy().filter(pl.col("y").is_not_null()), on=_ROW, maintain_order="left")
    )
    if spec.score != "pinball":
        return joined.select(
            *_ROW, "y", ((pl.col("y") - pl.col("mean")) ** 2).alias("loss"), pl.lit(None, pl.Float64).alias("inside")
        ).collect()
    inside = pl.col("y").is_between(pl.col("q05"), pl.col("q95")).cast(pl.Float64)
    y, q = pl.col("y"), [pl.col(c) for c in QUANTILE_COLUMNS]
    if spec.space == "log":
        y, q = y.log(), [c.log() for c in q]
    terms = [pl.max_horizontal(t * (y - c), (t - 1.0) * (y - c)) for t, c in zip(QUANTILES, q, strict=True)]
    return joined.select(*_ROW, "y", pl.mean_horizontal(terms).alias("loss"), inside.alias("inside")).collect()


def weekly_bootstrap(
    model: Array, base: Array, week: npt.NDArray[np.int64], draws: int = 500, seed: int = 7
) -> tuple[float, float]:
    """Return the 5 and 95 % bounds of skill = 1 - sum(model) / sum(base), resampling whole weeks in pairs.

    ``model`` and ``base`` (n,) are losses of the same rows, ``week`` (n,) any week number. One week alone gives
    the point twice: there is nothing to resample.
    """
    _, index = np.unique(week, return_inverse=True)
    a, b = np.bincount(index, weights=model), np.bincount(index, weights=base)
    pick = np.random.default_rng(seed).integers(0, len(a), (draws, len(a)))
    bottom = b[pick].sum(axis=1)
    skill = 1.0 - a[pick].sum(axis=1)[bottom > 0] / bottom[bottom > 0]  # weeks without any loss say nothing
    if not skill.size:
        return float("nan"), float("nan")
    low, high = np.quantile(skill, [0.05, 0.95])
    return float(low), float(high)


def score_table(
    rows: pl.DataFrame,
    outcomes: pl.DataFrame,
    specs: tuple[TargetSpec, ...],
    baselines: Mapping[str, pl.DataFrame],
    model: str = "lightgbm",
) -> pl.DataFrame:
    """Return one row per (target, key, horizon_s, model): n, loss, coverage, skill against each baseline, interval.

    Baselines are forecast rows by name; they appear as models of their own too. Skill is measured on the rows both
    have. Columns ``skill_<name>``, ``ci_low_<name>``, ``ci_high_<name>``; ``coverage90_low`` and ``_high`` are the
    extremes over calendar months with at least 240 outcomes.
    """
    own = losses(rows, outcomes, specs)
    others = {name: losses(r, outcomes, specs) for name, r in baselines.items()}
    months = (
        own.group_by(*_SERIES, pl.col("issued_at").dt.strftime("%Y-%m").alias("month"))
        .agg(pl.col("inside").mean(), pl.len().alias("n"))
        .filter(pl.col("n") >= 240)
        .group_by(_SERIES)
        .agg(pl.col("inside").min().alias("coverage90_low"), pl.col("inside").max().alias("coverage90_high"))
    )
    table = _summary(own, model).join(months, on=_SERIES, how="left")
    for name, other in others.items():
        paired = own.join(other.select(*_ROW, pl.col("loss").alias("base")), on=_ROW).with_columns(
            week=pl.col("issued_at").dt.epoch("d") // 7
        )
        found = []
        for group, series in paired.sort(_ROW).group_by(_SERIES, maintain_order=True):
            a, b = series["loss"].to_numpy(), series["base"].to_numpy()
            if b.sum() > 0:
                low, high = weekly_bootstrap(a, b, series["week"].to_numpy())
                found.append((*group, 1.0 - a.sum() / b.sum(), low, high))
        columns = [*_SERIES, f"skill_{name}", f"ci_low_{name}", f"ci_high_{name}"]
        types = [pl.String, pl.String, pl.Int64, pl.Float64, pl.Float64, pl.Float64]
        skill = pl.DataFrame(found, schema=dict(zip(columns, types, strict=True)), orient="row")
        table = table.join(skill, on=_SERIES, how="left")
    parts = [table, *(_summary(o, name) for name, o in others.items())]
    return pl.concat(parts, how="diagonal").sort("target", "key", "horizon_s", "model")


def _summary(loss: pl.DataFrame, model: str) -> pl.DataFrame:
    return loss.group_by(_SERIES, maintain_order=True).agg(
        pl.lit(model).alias("model"),
        pl.len().alias("n"),
        pl.col("loss").mean().alias("pinball"),
        pl.col("inside").mean().alias("coverage90"),
    )


def reliability(rows: pl.DataFrame, outcomes: pl.DataFrame, specs: tuple[TargetSpec, ...]) -> pl.DataFrame:
    """Return (target, horizon_s, level, observed, n): how often outcomes fell at or below each quantile, over keys."""
    names = [s.name for s in specs if s.score == "pinball"]
    joined = rows.filter(pl.col("target").is_in(names) & ~pl.col("abstain")).join(
        outcomes.filter(pl.col("y").is_not_null()), on=["target", "key", "issued_at", "horizon_s"]
    )
    parts = [
        joined.group_by("target", "horizon_s").agg(
            pl.lit(level).alias("level"),
            (pl.col("y") <= pl.col(column)).mean().alias("observed"),
            pl.len().alias("n"),
        )
        for level, column in zip(QUANTILES, QUANTILE_COLUMNS, strict=True)
    ]
    return pl.concat(parts).sort("target", "horizon_s", "level")


def as_json(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a score table as JSON-able records: skill and its interval nested by baseline, NaN as null."""
    names = [c.removeprefix("skill_") for c in table.columns if c.startswith("skill_")]
    records = []
    for row in table.to_dicts():
        nested = {name: _plain(row.pop(f"skill_{name}")) for name in names}
        interval = {name: [_plain(row.pop(f"ci_low_{name}")), _plain(row.pop(f"ci_high_{name}"))] for name in names}
        records.append({**{k: _plain(v) for k, v in row.items()}, "skill_vs": nested, "ci": interval})
    return records


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
