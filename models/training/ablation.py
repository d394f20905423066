"""Do sentiment and funding help? The drift family walked forward with and without them, judged in pairs.

The folds trained for that also show how well band exits are forecast (models.drift.exit_scores).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from lake.errors import NotEnoughData
from lake.store import Lake
from models.config import ModelConfig
from models.drift.exit_scores import exit_rows
from models.drift.family import DriftFamily
from models.evaluation.scores import losses, weekly_bootstrap
from models.evaluation.splits import Fold, folds, prediction_rows, training_rows
from models.training.walkforward import history_start

_PAIR = ["target", "key", "horizon_s", "issued_at"]


@dataclass(frozen=True, slots=True)
class Refits:
    """What the drift family shows when its folds are trained again: ``signals`` (empty without any) and ``exits``."""

    signals: pl.DataFrame
    exits: pl.DataFrame


def ablation(lake: Lake, cfg: ModelConfig, start: datetime, end: datetime) -> Refits:
    """Return what each kind of signal adds to forecasts of return and drift over start <= ts < end, and band exits.

    ``signals`` has one row per (signals, target, horizon_s): ``skill`` = 1 - loss with / loss without, in pinball of
    the raw quantiles summed over assets, its 5 and 95 % weekly block-bootstrap bounds ``ci_low`` and ``ci_high``,
    ``rows``, and ``verdict``: "helps" when the interval is above zero, "hurts" when below, else "no evidence".
    ``signals`` is a signal's name or "all". ``exits`` are models.drift.exit_scores.exit_rows of the model without
    signals. Folds and labels are those of training. Raises NotEnoughData without history.
    """
    family = DriftFamily(sentiment=True)
    panel = family.build(lake, cfg, history_start(lake), end)
    if panel.is_empty():
        raise NotEnoughData("the lake holds no prices")
    kinds = signal_kinds(panel)
    panel = panel.filter(~pl.col("key").str.contains("|", literal=True))
    first: datetime = panel["ts"].min()  # type: ignore[assignment]
    plan = [f for f in folds(cfg, start, end, first) if f.end > start]
    if not plan:
        raise NotEnoughData(f"less than {cfg.min_train_days} days of history before {end}")
    every = [c for columns in kinds.values() for c in columns]
    chosen: dict[str, list[str]] = {"none": []} | (kinds if len(kinds) > 1 else {}) | ({"all": every} if kinds else {})

    def refit(fold: Fold) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
        known, ahead = training_rows(panel, fold), prediction_rows(panel, fold).filter(pl.col("ts") >= start)
        found, exits = {}, pl.DataFrame()
        for name, columns in chosen.items():
            model = family.fit(known.drop([c for c in every if c not in columns]), cfg)
            found[name] = model.predict(ahead).filter(pl.col("target").is_in(["return", "drift"]))
            if name == "none":
                exits = exit_rows(model, known, ahead, cfg)
        return found, exits

    with ThreadPoolExecutor(cfg.threads) as pool:
        parts = list(pool.map(refit, plan))
    outcomes = family.outcomes(panel.filter(pl.col("ts") >= start), cfg)
    specs = tuple(s for s in family.targets if s.score == "pinball")
    scored = {name: losses(pl.concat([p[0][name] for p in parts]), outcomes, specs) for name in chosen}
    exits = [p[1] for p in parts if not p[1].is_empty()]
    return Refits(compare(scored), pl.concat(exits) if exits else pl.DataFrame())


def signal_kinds(panel: pl.DataFrame) -> dict[str, list[str]]:
    """Return the panel's signal columns by the signal's name (``sig_<name>_<key>...``; a name may hold underscores)."""
    columns = [c for c in panel.columns if c.startswith("sig_")]
    roots = [c for c in columns if f"{c}_size" in columns and f"{c}_week" in columns]
    kinds: dict[str, list[str]] = {}
    for root in roots:
        name = root.removeprefix("sig_").rsplit("_", 1)[0]
        kinds.setdefault(name, []).extend([root, f"{root}_size", f"{root}_week"])
    return kinds


def compare(scored: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the table of :func:`ablation` from losses (``scores.losses``) by variant; "none" is the reference."""
    found = []
    for name, own in scored.items():
        if name == "none":
            continue
        paired = own.join(scored["none"].select(*_PAIR, pl.col("loss").alias("without")), on=_PAIR)
        paired = paired.with_columns(week=pl.col("issued_at").dt.epoch("d") // 7).sort(_PAIR)
        for (target, horizon_s), rows in paired.group_by(["target", "horizon_s"], maintain_order=True):
            a, b = rows["loss"].to_numpy(), rows["without"].to_numpy()
            low, high = weekly_bootstrap(a, b, rows["week"].to_numpy())
            verdict = "helps" if low > 0 else "hurts" if high < 0 else "no evidence"
            found.append((name, target, horizon_s, 1.0 - a.sum() / b.sum(), low, high, rows.height, verdict))
    types = {
        "signals": pl.String,
        "target": pl.String,
        "horizon_s": pl.Int64,
        "skill": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "rows": pl.Int64,
        "verdict": pl.String,
    }
    return pl.DataFrame(found, schema=types, orient="row").sort("signals", "target", "horizon_s")
