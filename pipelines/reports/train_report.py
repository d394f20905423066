"""``foredrift train --report``: what the forecasters have shown, from the rows they issued out of sample."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from lake.errors import NotEnoughData
from lake.store import Lake
from lake.units import duration
from models.base import TargetSpec
from models.config import ModelConfig
from models.drift.hindsight import hindsight_rows
from models.evaluation.scores import losses, weekly_bootstrap
from models.serving import novelty
from models.serving.live import issue, recent
from models.serving.trust import Trust
from models.training.ablation import Refits, ablation
from models.training.walkforward import TrainResult, WalkRecord

Table = tuple[str, list[str], list[list[Any]]]
_ROW = ["target", "key", "horizon_s", "issued_at"]
LATENCY_RUNS = 20


def evidence(
    expiry: str, lake: Lake, cfg: ModelConfig, result: TrainResult, span: tuple[datetime, datetime]
) -> tuple[dict[str, Any], list[Table]]:
    """Return the report as plain data and as tables: skill, tails, coverage by month, waiting, ablation, latency."""
    specs = {s.name: s for m in result.live.values() for s in m.family.targets}
    skill = pl.concat([skills(r, specs) for r in result.records.values()])
    tails = pl.concat([tail_skills(r, specs) for r in result.records.values()])
    months = pl.concat([monthly_coverage(r, specs) for r in result.records.values()])
    waits = result.summary["families"].get("gas", {}).get("waiting", {})
    refits, note = _refits(lake, cfg, span)
    exits = exit_skills(refits.exits)
    ceiling = {name: table.to_dicts() for name, table in _hindsight(result, span, specs).items()}
    latency = live_latency(expiry, lake, cfg, result, span[1])
    data = {
        "skill": skill.to_dicts(), "tails": tails.to_dicts(), "coverage_by_month": months.to_dicts(),
        "waiting": waits, "ablation": refits.signals.to_dicts(), "ablation_note": note, "latency_ms": latency,
        "band_exits": exits.to_dicts(), "drift_hindsight": ceiling,
    }  # fmt: skip
    tables = [_skill_table(skill), _tail_table(tails), _month_table(months), _waiting_table(waits)]
    tables += [_exit_table(exits), _hindsight_table(ceiling), _ablation_table(refits.signals, note)]
    cells = [[latency["series"], latency["median"], latency["worst"]]]
    tables.append(
        (
            "Live decision: every target and horizon, features and trust included",
            ["series", "median ms", "worst ms"],
            cells,
        )
    )
    return data, tables


def skills(record: WalkRecord, specs: Mapping[str, TargetSpec]) -> pl.DataFrame:
    """Return skill by target, horizon and baseline, keys summed, with 90 % weekly intervals.

    ``naive`` is the better of last value and seasonal naive. Losses are each target's own: pinball, Brier or squares.
    """
    return _against(record, specs, lambda rows, used: losses(rows, record.outcomes, used))


def tail_skills(record: WalkRecord, specs: Mapping[str, TargetSpec]) -> pl.DataFrame:
    """Return the same for pinball at the 5 and 95 % quantiles alone."""
    return _against(record, specs, lambda rows, used: _tail_losses(rows, record.outcomes, used))


def _tail_losses(rows: pl.DataFrame, outcomes: pl.DataFrame, specs: tuple[TargetSpec, ...]) -> pl.DataFrame:
    parts = []
    for spec in specs:
        if spec.score != "pinball":
            continue
        spoken = (pl.col("target") == spec.name) & ~pl.col("abstain") & pl.col("q50").is_not_null()
        joined = rows.filter(spoken).join(outcomes.filter(pl.col("y").is_not_null()), on=_ROW)
        y, low, high = pl.col("y"), pl.col("q05"), pl.col("q95")
        if spec.space == "log":
            y, low, high = y.log(), low.log(), high.log()
        terms = [pl.max_horizontal(t * (y - q), (t - 1.0) * (y - q)) for t, q in ((0.05, low), (0.95, high))]
        parts.append(joined.select(*_ROW, pl.mean_horizontal(terms).alias("loss")))
    if not parts:
        return pl.DataFrame(schema=dict.fromkeys((*_ROW, "loss"), pl.Float64))
    return pl.concat(parts)


def _against(record: WalkRecord, specs: Mapping[str, TargetSpec], loss: Any) -> pl.DataFrame:
    used = tuple(s for n, s in specs.items() if n in set(record.rows["target"].unique()))
    own = loss(record.rows, used)
    found: list[tuple[Any, ...]] = []
    for name, rows in record.baselines.items():
        paired = (
            own.select(*_ROW, "loss")
            .join(loss(rows, used).select(*_ROW, pl.col("loss").alias("base")), on=_ROW)
            .sort(_ROW)
        )
        for (target, horizon_s), part in paired.group_by(["target", "horizon_s"], maintain_order=True):
            a, b = part["loss"].to_numpy(), part["base"].to_numpy()
            if not b.sum() > 0:
                continue
            low, high = weekly_bootstrap(a, b, (part["issued_at"].dt.epoch("d") // 7).to_numpy())
            found.append((target, horizon_s // 3600, name, float(1 - a.sum() / b.sum()), low, high, part.height))
    schema = {
        "target": pl.String, "horizon_h": pl.Int64, "baseline": pl.String, "skill": pl.Float64, "ci_low": pl.Float64,
        "ci_high": pl.Float64, "rows": pl.Int64,
    }  # fmt: skip
    table = pl.DataFrame(found, schema=schema, orient="row")
    naive = (
        table.filter(pl.col("baseline").is_in(["last", "seasonal"]))
        .sort("skill")
        .group_by("target", "horizon_h", maintain_order=True)
        .first()
        .with_columns(pl.lit("naive").alias("baseline"))
        .select(table.columns)
    )
    return pl.concat([table, naive]).sort("target", "horizon_h", "baseline")


def monthly_coverage(record: WalkRecord, specs: Mapping[str, TargetSpec]) -> pl.DataFrame:
    """Return (target, horizon_h, month, coverage90, n) over keys; mean-only targets have no interval."""
    used = tuple(s for s in specs.values() if s.score == "pinball")
    return (
        losses(record.rows, record.outcomes, used)
        .group_by(
            "target",
            (pl.col("horizon_s") // 3600).alias("horizon_h"),
            pl.col("issued_at").dt.strftime("%Y-%m").alias("month"),
        )
        .agg(pl.col("inside").mean().alias("coverage90"), pl.len().alias("n"))
        .sort("target", "horizon_h", "month")
    )


def _refits(lake: Lake, cfg: ModelConfig, span: tuple[datetime, datetime]) -> tuple[Refits, str]:
    try:
        found = ablation(lake, cfg, *span)
    except NotEnoughData as error:
        return Refits(pl.DataFrame(), pl.DataFrame()), f"no ablation: {error}"
    return found, "table signals is empty: nothing to leave out" if found.signals.is_empty() else ""


def exit_skills(rows: pl.DataFrame) -> pl.DataFrame:
    """Return Brier skill by horizon and baseline over ``rows`` (``exit_rows``), with 90 % weekly intervals."""
    schema = {
        "horizon_h": pl.Int64, "exits": pl.Float64, "tolerance_low": pl.Float64, "tolerance_high": pl.Float64,
        "baseline": pl.String, "skill": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64, "rows": pl.Int64,
    }  # fmt: skip
    found: list[tuple[Any, ...]] = []
    names = [c for c in rows.columns if c not in ("key", "issued_at", "horizon_h", "tolerance", "y", "model")]
    for (horizon_h,), part in rows.group_by(["horizon_h"], maintain_order=True) if names else ():
        y, week = part["y"].to_numpy(), (part["issued_at"].dt.epoch("d") // 7).to_numpy()
        own = (part["model"].to_numpy() - y) ** 2
        limits = part["tolerance"]
        for name in names:
            base = (part[name].to_numpy() - y) ** 2
            found.append(
                (horizon_h, float(y.mean()), limits.min(), limits.max(), name, float(1 - own.sum() / base.sum()),
                 *weekly_bootstrap(own, base, week), part.height)
            )  # fmt: skip
    return pl.DataFrame(found, schema=schema, orient="row").sort("horizon_h", "baseline")


def _hindsight(
    result: TrainResult, span: tuple[datetime, datetime], specs: Mapping[str, TargetSpec]
) -> dict[str, pl.DataFrame]:
    """Return the skill of models.drift.hindsight over ``span`` overall and in the tails; empty without drift."""
    record = result.records.get("drift")
    if record is None:
        return {}
    try:
        rows = hindsight_rows(record.known.filter(pl.col("ts").is_between(*span, closed="left")))
    except NotEnoughData:
        return {}
    gaussian = {n: r for n, r in record.baselines.items() if n in ("ar", "ewma94", "ewma_empirical")}
    looked_back = WalkRecord(rows, record.outcomes, gaussian, record.known)
    found = {"skill": skills(looked_back, specs), "tails": tail_skills(looked_back, specs)}
    return {name: table.filter(pl.col("baseline") != "naive") for name, table in found.items()}


def live_latency(expiry: str, lake: Lake, cfg: ModelConfig, result: TrainResult, end: datetime) -> dict[str, float]:
    """Return milliseconds of one live decision (all targets and horizons, features and trust): median and worst."""
    at = end.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    view = recent(lake, at)
    inputs = {name: novelty.learn(r.known, cfg.seed) for name, r in result.records.items()}
    trust = Trust(view, duration(expiry), inputs)
    count = issue(view, cfg, result.live, at, trust).height  # the first call compiles and fills caches
    spent = []
    for _ in range(LATENCY_RUNS):
        began = time.perf_counter()
        issue(view, cfg, result.live, at, trust)
        spent.append((time.perf_counter() - began) * 1e3)
    return {"series": count, "median": float(np.median(spent)), "worst": max(spent), "runs": LATENCY_RUNS}


def _percent(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:+.1f} %"


def _skill_table(table: pl.DataFrame) -> Table:
    return "Skill (fall of the loss) by baseline; naive is the better of last and seasonal", *_wide(table)


def _tail_table(table: pl.DataFrame) -> Table:
    return "Skill in the tails: pinball at 5 and 95 %", *_wide(table)


def _wide(table: pl.DataFrame) -> tuple[list[str], list[list[Any]]]:
    names = table["baseline"].unique().sort().to_list()
    cells = []
    for (target, horizon), part in table.group_by(["target", "horizon_h"], maintain_order=True):
        by = dict(part.select("baseline", "skill").iter_rows())
        cells.append([target, f"{horizon} h", *(_percent(by.get(n)) for n in names)])
    return ["target", "horizon", *names], cells


def _month_table(table: pl.DataFrame) -> Table:
    months = table["month"].unique().sort().to_list()
    cells = []
    for (target, horizon), part in table.group_by(["target", "horizon_h"], maintain_order=True):
        by = dict(part.select("month", "coverage90").iter_rows())
        cells.append([target, f"{horizon} h", *(f"{100 * by[m]:.1f} %" if m in by else "-" for m in months)])
    return "Coverage of the 90 % interval by month", ["target", "horizon", *months], cells


def _waiting_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    cells = [
        [key, f["n"], *(_percent(f.get(c)) for c in ("saving", "foresight", "share", "relative_share"))]
        for key, f in found.items()
    ]
    names = ["chain", "decisions", "saved", "with foresight", "share in gwei", "share in fractions"]
    return "Waiting up to 24 h for the hour forecast as cheapest", names, cells


def _exit_table(table: pl.DataFrame) -> Table:
    names = table["baseline"].unique().sort().to_list()
    cells = []
    for (horizon,), part in table.group_by(["horizon_h"], maintain_order=True):
        by = dict(part.select("baseline", "skill").iter_rows())
        low, high, share = part.select("tolerance_low", "tolerance_high", "exits").row(0)
        band = f"{100 * low:.2f} .. {100 * high:.2f} %"
        cells.append([f"{horizon} h", band, f"{100 * share:.1f} %", *(_percent(by[n]) for n in names)])
    title = "Band exits at the tolerance each asset left in a tenth of its past hours: Brier skill of the raw model"
    return title, ["horizon", "tolerance", "exits", *names], cells


def _hindsight_table(found: Mapping[str, list[dict[str, Any]]]) -> Table:
    cells = [
        [kind, f"{r['horizon_h']} h", r["baseline"], _percent(r["skill"])] for kind, rows in found.items() for r in rows
    ]
    title = "Drift, a ceiling: volatility model and quantiles fitted in hindsight on the test hours themselves"
    return title, ["score", "horizon", "baseline", "skill"], cells


def _ablation_table(table: pl.DataFrame, note: str) -> Table:
    if table.is_empty():
        return note, ["signals"], []
    cells = [
        [r["signals"], r["target"], f"{r['horizon_s'] // 3600} h", _percent(r["skill"]), _percent(r["ci_low"]),
         _percent(r["ci_high"]), r["verdict"]]
        for r in table.to_dicts()
    ]  # fmt: skip
    return (
        "What signals add to drift forecasts",
        ["signals", "target", "horizon", "skill", "low", "high", "verdict"],
        cells,
    )
