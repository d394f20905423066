"""The drift family: moves of prices and weights, covariances, and the chance of leaving a band."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from features.panel import Columns
from features.volatility import SEASON_H, feature_names
from lake.errors import NotEnoughData
from lake.units import HOUR_S
from models.arrays import column, matrix
from models.base import DRIFT_HORIZONS_H, Forecaster, LakeView, TargetSpec, label
from models.boosting.scale_model import MIN_ROWS, Shape, fit_scale, fit_shape
from models.boosting.tuning import Search, tune_scale
from models.config import ModelConfig
from models.drift.baselines import drift_baselines
from models.drift.covariance import CORRELATIONS, NORMAL_SHAPE, PAIR_STEP_H, CorrelationModel, fit_correlation
from models.drift.excursions import fit_excursions
from models.drift.fitted import SERIES_OF, TREND, DriftFitted, ExitModel, MoveModel, pair_variances, trends
from models.drift.mean import fit_location
from models.drift.panel import COVARIANCE_S, build_panel, every, panel_keys
from models.evaluation.labels import melt

Array = npt.NDArray[np.float64]

HORIZONS_S: tuple[int, ...] = tuple(h * HOUR_S for h in DRIFT_HORIZONS_H)

PRIOR_OUTCOMES = 50_000.0
"""Weight of the raw quantiles in online calibration. A month of outcomes is a worse guide to the shape of moves than
the year it was learnt from: full online correction cost 1 to 4 % of pinball at 1 to 24 h in walk-forward tests."""

TARGETS: tuple[TargetSpec, ...] = (
    TargetSpec("return", HORIZONS_S, prior_outcomes=PRIOR_OUTCOMES),
    TargetSpec("drift", HORIZONS_S, prior_outcomes=PRIOR_OUTCOMES),
    TargetSpec("band_exit", HORIZONS_S, score="brier"),
    TargetSpec("covariance", (COVARIANCE_S,), score="mse"),
)

STRIDE_H: dict[int, int] = {1: 2, 4: 3, 12: 5, 24: 7}
"""Hours between training rows by horizon: overlapping outcomes teach little and cost in proportion."""

SHORT_ROWS = 20_000
"""Asset rows below which all of them train: a few months of a small basket."""

SHAPE_DAYS = 365
"""Past that gives the shape of moves: a year; tails of quieter or wilder years before mislead."""


@dataclass(frozen=True, slots=True)
class DriftFamily:
    """Forecasts of return, drift, band exit and covariance. ``sentiment`` adds the signals as features of the scale.

    They are left out by default: fear and greed and funding added at most 0.06 % of pinball at one hour and nothing
    beyond on recorded history (``models.training.ablation`` repeats the measurement on any).
    """

    sentiment: bool = False
    name: str = "drift"
    targets: tuple[TargetSpec, ...] = TARGETS

    def keys(self, lake: LakeView, cfg: ModelConfig) -> list[str]:
        """Return the assets with prices; empty when there are none."""
        return panel_keys(lake, cfg)

    def build(self, lake: LakeView, cfg: ModelConfig, start: datetime, end: datetime) -> pl.DataFrame:
        """Return the panel; see models.drift.panel.build_panel."""
        return build_panel(lake, cfg, start, end, sentiment=self.sentiment).frame()

    def now(self, lake: LakeView, cfg: ModelConfig, at: datetime) -> Columns:
        """Return the panel's rows of the decision time ``at`` without labels."""
        end = at + timedelta(hours=1)
        return build_panel(lake, cfg, at, end, sentiment=self.sentiment, labelled=False)

    def outcomes(self, panel: pl.DataFrame, cfg: ModelConfig) -> pl.DataFrame:  # noqa: ARG002
        """Return (target, key, issued_at, horizon_s, y); the variance of an asset goes by the key ``A|A``."""
        wanted = [label(s.name, h) for s in self.targets for h in s.horizons_s]
        rows = melt(panel.select("key", "ts", *wanted))
        own = (pl.col("target") == "covariance") & ~pl.col("key").str.contains("|", literal=True)
        return rows.with_columns(
            pl.when(own).then(pl.col("key") + "|" + pl.col("key")).otherwise(pl.col("key")).alias("key")
        )

    def baselines(self, cfg: ModelConfig) -> Mapping[str, Forecaster]:
        """Return climatology ("last"), its seasonal form, and the exponentially weighted volatilities."""
        return drift_baselines(cfg)

    def fit(self, panel: pl.DataFrame, cfg: ModelConfig) -> DriftFitted:
        """Train scale, shape and location for both series and all horizons, then exits and covariances.

        Raises NotEnoughData when no series has enough known moves.
        """
        assets = panel.filter(~pl.col("key").str.contains("|", literal=True))
        signals = [c for c in panel.columns if c.startswith("sig_")]
        moves: dict[tuple[str, int], MoveModel] = {}
        exits: dict[int, ExitModel] = {}
        for target, series in SERIES_OF.items():
            for h in DRIFT_HORIZONS_H:
                rows = assets if assets.height < SHORT_ROWS else every(assets, STRIDE_H[h])
                if rows[label(target, h * HOUR_S)].count() < 2 * MIN_ROWS:
                    continue
                moves[series, h], leaving = _fit_move(rows, target, h, cfg, signals)
                if leaving is not None:
                    exits[h] = leaving
        if not moves:
            raise NotEnoughData("no asset has enough known hours of prices to learn a volatility from")
        ratio, correlation = _fit_covariance(panel, assets, moves.get(("ret", COVARIANCE_S // HOUR_S)))
        return DriftFitted(_version(panel, cfg), moves, exits, ratio, correlation, cfg.targets, cfg.tolerance)


def scale_features(series: str, horizon_h: int) -> list[str]:
    """Return the features of the scale of ``series`` over ``horizon_h`` hours."""
    other = [f"{s}_{kind}{h}" for s in (series, "pk") for kind in ("s", "w") for h in SEASON_H if h != horizon_h]
    trends = [f"{series}_{n}" for n in TREND[1:]]
    names = [f for f in feature_names((series,)) if f not in other and f not in trends]
    return names if series == "dev" else [f for f in names if f != "gap"]


def _fit_move(
    rows: pl.DataFrame, target: str, horizon_h: int, cfg: ModelConfig, signals: list[str]
) -> tuple[MoveModel, ExitModel | None]:
    """Return the model of one target and horizon, and for drift that of its excursions."""
    series, horizon_s = SERIES_OF[target], horizon_h * HOUR_S
    names = [*scale_features(series, horizon_h), *signals]
    base = column(rows, f"{series}_base")
    actual = column(rows, label(f"size_{series}", horizon_s))
    if series == "ret":  # a price that stood still all along is a gap in the data, not calm
        actual = np.where(actual > 0, actual, np.nan)
    hour = (rows["ts"].dt.epoch("s") // HOUR_S).to_numpy()
    x = matrix(rows, names)
    params: dict[str, Any] = {}
    if cfg.tune_seconds > 0:
        seconds = cfg.tune_seconds / len(DRIFT_HORIZONS_H)
        search = Search(f"{target} over {horizon_h} h", seconds, cfg.seed, horizon_h + cfg.embargo_h)
        params = tune_scale(names, x, actual, base, hour, cfg.rounds, search)
    scale = fit_scale(names, x, actual, base, cfg.rounds, cfg.seed, params)
    unit = np.exp(base) * np.sqrt(horizon_h)
    location = fit_location(trends(rows, series), column(rows, label(target, horizon_s)) / unit, hour, horizon_h)
    year = rows.filter(pl.Series(hour >= hour.max() - SHAPE_DAYS * 24))
    model = MoveModel(scale, Shape(NORMAL_SHAPE, {}), location)
    size = model.size(year, series)
    z = (column(year, label(target, horizon_s)) - model.mean(year, series, horizon_h)) / size
    spacing = (rows["key"].n_unique() * (hour.max() - hour.min() + 1)) / rows.height  # hours between rows of a key
    shape = fit_shape(z, year["key"].to_numpy(), max(1, round(horizon_h / spacing)))
    leaving = _fit_exit(year, size, horizon_h) if series == "dev" else None
    return MoveModel(scale, shape, location), leaving


def _fit_exit(rows: pl.DataFrame, size: Array, horizon_h: int) -> ExitModel:
    up = column(rows, label("up", horizon_h * HOUR_S)) / size
    down = column(rows, label("down", horizon_h * HOUR_S)) / size
    return ExitModel(fit_excursions(up), fit_excursions(down), fit_excursions(np.maximum(up, down)))


def _fit_covariance(
    panel: pl.DataFrame, assets: pl.DataFrame, model: MoveModel | None
) -> tuple[float, CorrelationModel]:
    """Return the ratio of realised variance to squared size, and the mixture of past correlations."""
    none = CorrelationModel(np.array([0.0, 1.0, 0.0]))
    if model is None:
        return 1.0, none
    last = panel["ts"].max()
    assert isinstance(last, datetime)
    since = last - timedelta(days=SHAPE_DAYS)
    recent = assets.filter((pl.col("ts") >= since) & (pl.col("ts").dt.hour() % PAIR_STEP_H == 0))
    variance = model.size(recent, "ret") ** 2 * HOUR_S / COVARIANCE_S
    relative = column(recent, label("covariance", COVARIANCE_S)) / variance
    known = np.isfinite(relative)
    if known.sum() < MIN_ROWS:
        return 1.0, none
    ratio = float(relative[known].mean())
    pairs = panel.filter((pl.col("ts") >= since) & pl.col("key").str.contains("|", literal=True))
    if pairs.is_empty():
        return ratio, none
    va, vb = pair_variances(Columns.of(pairs), Columns.of(recent), ratio * variance)
    product = column(pairs, label("covariance", COVARIANCE_S)) / np.sqrt(va * vb)
    return ratio, fit_correlation(matrix(pairs, CORRELATIONS), product)


def _version(panel: pl.DataFrame, cfg: ModelConfig) -> str:
    last = panel["ts"].max()
    assert isinstance(last, datetime)
    digest = hashlib.sha256(f"{cfg.fingerprint()}{last}{panel.height}{','.join(panel.columns)}".encode()).hexdigest()
    return f"drift-{last:%Y%m%d}-{digest[:10]}"
