"""Pictures of a trained model: what it looks at, whether its quantiles mean what they say, how it scores by horizon."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from pipelines.reports.charts import save

TOP = 20


def draw(folder: Path, importances: pl.DataFrame, reliability: pl.DataFrame, scores: pl.DataFrame) -> list[Path]:
    """Write importances.png, reliability.png and pinball.png into ``folder``; what has no rows is left out."""
    made = []
    if not importances.is_empty():
        made.append(save(importance_chart(importances), folder / "importances.png"))
    if not reliability.is_empty():
        made.append(save(reliability_chart(reliability), folder / "reliability.png"))
    if not scores.is_empty():
        made.append(save(score_chart(scores), folder / "pinball.png"))
    return made


def importance_chart(importances: pl.DataFrame) -> Figure:
    """Return bars of the TOP features by share of split gain, averaged over targets and horizons."""
    top = importances.group_by("feature").agg(pl.col("gain").mean()).sort("gain").tail(TOP)
    figure, axis = plt.subplots(figsize=(7, 0.28 * top.height + 1.2))
    axis.barh(top["feature"].to_list(), (100 * top["gain"]).to_list(), color="#00798c")
    axis.set_xlabel("share of split gain, %")
    return figure


def reliability_chart(reliability: pl.DataFrame) -> Figure:
    """Return observed against nominal levels, one panel a target, one line a horizon."""
    targets = reliability["target"].unique().sort().to_list()
    figure, axes = plt.subplots(1, len(targets), figsize=(4.2 * len(targets), 4), squeeze=False)
    for axis, target in zip(axes[0], targets, strict=True):
        axis.plot([0, 1], [0, 1], color="#b8b8b8", linewidth=1)
        part = reliability.filter(pl.col("target") == target)
        for (horizon_s,), line in part.group_by(["horizon_s"], maintain_order=True):
            axis.plot(
                line["level"].to_list(),
                line["observed"].to_list(),
                marker="o",
                label=f"{int(str(horizon_s)) // 3600} h",
            )
        axis.set_title(target)
        axis.set_xlabel("quantile level")
        axis.set_ylabel("outcomes at or below")
        axis.legend(loc="upper left", fontsize=7)
    return figure


def score_chart(scores: pl.DataFrame) -> Figure:
    """Return pinball by horizon of the model and its baselines, one panel a target, relative to the model."""
    mean = (
        scores.filter(pl.col("coverage90").is_not_null())
        .group_by("target", "horizon_s", "model")
        .agg(pl.col("pinball").mean())
    )
    own = mean.filter(pl.col("model") == "lightgbm").select("target", "horizon_s", pl.col("pinball").alias("own"))
    table = mean.join(own, on=["target", "horizon_s"]).sort("target", "model", "horizon_s")
    targets = table["target"].unique().sort().to_list()
    figure, axes = plt.subplots(1, max(len(targets), 1), figsize=(4.6 * max(len(targets), 1), 3.6), squeeze=False)
    for axis, target in zip(axes[0], targets, strict=False):
        for (name,), line in table.filter(pl.col("target") == target).group_by(["model"], maintain_order=True):
            hours = [h / 3600 for h in line["horizon_s"].to_list()]
            axis.plot(hours, (line["pinball"] / line["own"]).to_list(), marker="o", label=str(name))
        axis.set_xscale("log")
        axis.set_title(target)
        axis.set_xlabel("horizon, h")
        axis.set_ylabel("pinball / model's")
        axis.legend(loc="upper left", fontsize=7)
    return figure
