"""The gas family: quantiles of the gas price and of its minimum ahead, per chain, in gwei.

Everything is learnt in log gwei relative to the present price. One direct model per target covers all horizons
(the horizon is a feature). A forecast averages three members' quantiles, because they fail differently:
a ridge regression on season and level with the quantiles of its own errors (steady, good with little history);
quantile boosters on the change itself (non-linear, spikes); quantile boosters on what the ridge leaves over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features import gas as gas_features
from features.bars import averaged, on_grid, read_bars, times
from features.own import own_columns
from features.panel import CARRY_H, Columns, feature_columns, flat, hour_of, hours_between, stacked, whole_hour
from features.records import records
from features.returns import STRESS_LOOKBACK_H, stress
from features.windows import Rows, carried, lowest
from lake.errors import NotEnoughData
from lake.units import HOUR_S
from lake.universe import chain
from models.arrays import Panel, matrix
from models.base import GAS_HORIZONS_H, GAS_MIN_HORIZONS_H, Forecaster, LakeView, TargetSpec, label
from models.boosting.forest import Forest
from models.boosting.gbm import BoosterBundle, fit_quantiles, gains, schema_hash
from models.boosting.tuning import Search, tune_quantiles
from models.config import ModelConfig
from models.evaluation.labels import melt
from models.forecast_rows import ForecastArrays, RowBuffer
from models.forecast_schema import QUANTILES
from models.gas.baselines import gas_baselines
from models.gas.paths import scenario_paths

Array = npt.NDArray[np.float64]

_TAIL_WINDOW = 360  # hours: the spread of gas changes within weeks, and coverage is asked for month by month
TARGETS: tuple[TargetSpec, ...] = (
    TargetSpec("gas", tuple(h * HOUR_S for h in GAS_HORIZONS_H), space="log", tail_window=_TAIL_WINDOW),
    TargetSpec("gas_min", tuple(h * HOUR_S for h in GAS_MIN_HORIZONS_H), space="log", tail_window=_TAIL_WINDOW),
)
OPTIONAL = ("gas_used_ratio", "priority_fee_gwei")
NOW = "b|now_gwei"  # columns with b| serve baselines and paths; levels in gwei would not carry over between years
SEASON = "b|season_now"
_LINEAR = (
    *(f"over_ewm{k}" for k in (3, 6, 12, 24)),
    *(f"over_mean{k}" for k in (24, 72, 168, 336)),
    "change1", "change2", "change24",
)  # fmt: skip
_LINEAR_AHEAD = ("day1", "day2", "day3mean", "week1", "season", "season_fast", "season_week", "low_day1", "low_season")
_LEAST_GWEI = 1e-9  # one wei: the smallest price above zero, so that logs exist on chains that charge nothing
MIN_OUTCOMES = 48
"""Known outcomes per target and horizon below which nothing is fitted: two days of hours."""

_RIDGE = 30.0  # penalty on standardised features: about what 30 extra hours that say "no change" would do
_WEIGHTS = (1.0, 2.0, 2.0)  # of the members: the ridge's constant spread is the crudest, half a voice is its share


@dataclass(frozen=True, slots=True)
class GasFamily:
    """Gas price of the configured chain (and of its L1 when it is a roll-up)."""

    name: str = "gas"
    targets: tuple[TargetSpec, ...] = TARGETS

    def keys(self, lake: LakeView, cfg: ModelConfig) -> list[str]:
        """Return the chain ids, as text, that the lake has gas history for."""
        known = set(lake.scan("gas").select("chain_id").unique().collect()["chain_id"])
        return [str(c) for c in _chains(cfg) if c in known]

    def build(self, lake: LakeView, cfg: ModelConfig, start: datetime, end: datetime) -> pl.DataFrame:
        """Return the panel of decision times start <= ts < end; see ``models.base.Family``.

        Labels are gwei: the price of the interval complete at ts + h, and the minimum over (ts, ts + h], null where
        an hour of it is missing.
        """
        return self._panel(lake, cfg, (whole_hour(start), whole_hour(end)), labelled=True).frame()

    def now(self, lake: LakeView, cfg: ModelConfig, at: datetime) -> Columns:
        """Return the panel's rows of the decision time ``at`` without labels."""
        return self._panel(lake, cfg, (at, at + timedelta(hours=1)), labelled=False)

    def _panel(self, lake: LakeView, cfg: ModelConfig, span: tuple[datetime, datetime], *, labelled: bool) -> Columns:
        parts = [_chain_panel(lake, key, span, labelled=labelled) for key in _chains(cfg)]
        parts = [p for p in parts if p.height]
        if not parts:
            return flat([], times(span[0], np.arange(0)), {})
        panel = parts[0] if len(parts) == 1 else stacked(*parts)
        at = (panel.ts // 1_000_000 - round(span[0].timestamp())) // HOUR_S
        hours, place = np.unique(panel.ts, return_inverse=True)
        own = {name: x[place] for name, x in own_columns(lake, hours).items()}
        return panel.extended({name: x[at] for name, x in _stress(lake, cfg, span).items()} | own)

    def outcomes(self, panel: pl.DataFrame, cfg: ModelConfig) -> pl.DataFrame:  # noqa: ARG002
        """Return the labels in long form; panel keys are forecast keys."""
        return melt(panel)

    def fit(self, panel: pl.DataFrame, cfg: ModelConfig) -> GasModel:
        """Train all members on ``panel``; raises ModelError when a feature is missing."""
        return fit_gas(panel, cfg)

    def baselines(self, cfg: ModelConfig) -> Mapping[str, Forecaster]:  # noqa: ARG002
        """Return last value, seasonal naive and AR(1) around an hour-of-week season."""
        return gas_baselines(TARGETS)

    def paths(self, rows: pl.DataFrame, panel: pl.DataFrame, cfg: ModelConfig) -> pl.DataFrame:
        """Return joint hourly scenario paths whose margins are the quantiles in ``rows``."""
        return scenario_paths(rows.filter(pl.col("target") == "gas"), panel.select("key", "ts", NOW, SEASON), cfg.paths)


def _chains(cfg: ModelConfig) -> list[int]:
    """Return the configured chain and, where it is a roll-up, its L1."""
    above = chain(cfg.chain_id).l1_chain_id
    return [cfg.chain_id] if above is None else [cfg.chain_id, above]


def _chain_panel(lake: LakeView, chain_id: int, span: tuple[datetime, datetime], *, labelled: bool) -> Columns:
    """Return the panel of one chain without stress: rows whose present price is known."""
    low = span[0] - timedelta(hours=gas_features.LOOKBACK_H)
    high = span[1] + timedelta(hours=max(GAS_HORIZONS_H) + 1 if labelled else 0)
    found = records(lake, "gas", ("chain_id", "available_at", "base_fee_gwei", *OPTIONAL), low, high)
    found = found.where(found["chain_id"] == chain_id)
    row = on_grid(hour_of(found["available_at"]), low, hours_between(low, high))
    averages = [averaged(row, hours_between(low, high), found[v]) for v in ("base_fee_gwei", *OPTIONAL)]
    raw = np.maximum(averages[0], _LEAST_GWEI)
    hours = round(low.timestamp()) // HOUR_S + np.arange(len(raw))
    price = gas_features.Price(np.log(carried(raw, CARRY_H)), hours)
    first = gas_features.LOOKBACK_H
    inside = np.arange(first, first + hours_between(*span))
    at = inside[np.isfinite(price.x[inside, 0])]
    if not len(at):
        return flat([], times(low, at), {})
    seasons = gas_features.seasons(price, at)
    columns = {NOW: np.exp(price.x[at]), SEASON: seasons.at("day", at), **gas_features.level(price, at)}
    columns |= gas_features.optional(dict(zip(OPTIONAL, averages[1:], strict=True)), at)
    columns |= gas_features.ahead(price, at, GAS_HORIZONS_H, seasons)
    columns |= gas_features.classical(price, at, range(1, max(GAS_HORIZONS_H) + 1))
    if labelled:
        columns |= _labels(raw, at)
    return flat([str(chain_id)], times(low, at), columns)


def _labels(raw: Array, rows: Rows) -> dict[str, Array]:
    every = np.arange(len(raw))
    least = {h: lowest(raw, every, h, h) for h in GAS_MIN_HORIZONS_H}  # null where an hour is missing
    return {
        **{label("gas", h * HOUR_S): raw[rows + h] for h in GAS_HORIZONS_H},
        **{label("gas_min", h * HOUR_S): x[rows + h] for h, x in least.items()},
    }


def _stress(lake: LakeView, cfg: ModelConfig, span: tuple[datetime, datetime]) -> dict[str, Array]:
    """Return stress features (n,) of the gas asset and of the market for the hours of ``span``."""
    market = next((a for a in cfg.assets if a != cfg.native), cfg.native)
    bars = read_bars(
        lake, (cfg.native, market), span[0] - timedelta(hours=STRESS_LOOKBACK_H), span[1], cfg.step_s, cfg.price_source
    )
    rows = np.arange(STRESS_LOOKBACK_H, len(bars.close))
    return {**stress("native", bars, cfg.native, rows), **stress("market", bars, market, rows)}


@dataclass(frozen=True, slots=True)
class GasModel:
    """The trained members: boosters in a bundle, ridge coefficients in its extras."""

    bundle: BoosterBundle
    forests: Mapping[str, Forest] = field(init=False, repr=False, compare=False)  # by target: direct, then rest

    def __post_init__(self) -> None:
        """Gather the boosters of each target, so that a forecast evaluates them at once."""
        every = self.bundle.boosters
        names = {s.name: sorted(n for n in every if n.startswith(f"{s.name}-")) for s in TARGETS}
        forests = {target: Forest.of([every[n] for n in own]) for target, own in names.items()}
        object.__setattr__(self, "forests", forests)

    @property
    def version(self) -> str:
        """Return the version: last training hour and feature schema."""
        return self.bundle.version

    def predict(self, panel: Panel) -> pl.DataFrame:
        """Return raw forecast rows in gwei for every row of ``panel``."""
        return self.forecasts(panel).frame()

    def forecasts(self, panel: Panel) -> ForecastArrays:
        """Return the same as arrays."""
        inputs = Columns.of(panel)
        now = np.log(inputs.column(NOW))
        rows = RowBuffer(self.version)
        for spec in TARGETS:
            change = np.average(self.members(inputs, spec), axis=0, weights=_WEIGHTS)
            q = np.exp(change.reshape(len(spec.horizons_s), inputs.height, len(QUANTILES)) + now[None, :, None])
            for h, quantiles in zip(spec.horizons_s, q, strict=True):
                mean = quantiles[:, 2] * float(self.bundle.extras["mean"][f"{spec.name}|{h}"])
                rows.add(inputs.key, inputs.ts, spec.name, h, mean, quantiles)
        return rows.forecasts()

    def members(self, panel: Panel, spec: TargetSpec) -> Array:
        """Return (members, horizons * n, 5) sorted quantiles of the log change: ridge, direct, ridge plus rest."""
        inputs = Columns.of(panel)
        x = np.concatenate([block(inputs, self.bundle.features, h) for h in spec.horizons_s])
        linear = [self.bundle.extras["linear"][f"{spec.name}|{h}"] for h in spec.horizons_s]
        anchors = [_apply(f, inputs, h) for f, h in zip(linear, spec.horizons_s, strict=True)]
        anchor = np.concatenate(anchors)[:, None]
        errors = np.repeat([f["errors"] for f in linear], inputs.height, axis=0)
        direct, rest = np.hsplit(self.forests[spec.name].predict(x), 2)
        return np.sort(np.stack([anchor + errors, direct, anchor + rest]), axis=2)

    def save(self, folder: Path) -> None:
        """Write the bundle."""
        self.bundle.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a bundle written by ``save``; raises ModelError when it does not fit."""
        return cls(BoosterBundle.load(folder, "gas"))

    def importances(self) -> pl.DataFrame:
        """Return (target, horizon_s, feature, gain); horizon_s is 0: one model covers all horizons."""
        rows = []
        for spec in TARGETS:
            names = [n for n in self.bundle.boosters if n.startswith(f"{spec.name}-")]
            total = np.mean(
                [list(gains(self.bundle.boosters[n], self.bundle.features).values()) for n in names], axis=0
            )
            rows += [(spec.name, 0, f, float(g)) for f, g in zip(self.bundle.features, total, strict=True)]
        schema = {"target": pl.String, "horizon_s": pl.Int64, "feature": pl.String, "gain": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row").sort("target", "gain", descending=[False, True])


def generic_features(panel: pl.DataFrame) -> tuple[str, ...]:
    """Return the feature names of one horizon's block: of the present, then ``t_`` ones of the target hour."""
    prefixes = tuple(f"t{h}_" for h in GAS_HORIZONS_H)
    common = [c for c in feature_columns(panel) if not c.startswith(prefixes)]
    return (*sorted(common), *(f"t_{f}" for f in gas_features.TARGET_FEATURES))


def block(panel: Panel, features: tuple[str, ...], horizon_s: int) -> Array:
    """Return the feature matrix (n, k) for one horizon; raises ModelError naming missing columns."""
    return matrix(panel, _named(features, horizon_s // HOUR_S))


@cache
def _named(features: tuple[str, ...], horizon_h: int) -> tuple[str, ...]:
    """Return the panel's columns behind the ``features`` of one horizon's block."""
    return tuple(f"t{horizon_h}_{f[2:]}" if f.startswith("t_") else f for f in features)


def fit_gas(panel: pl.DataFrame, cfg: ModelConfig) -> GasModel:
    """Return the model trained on ``panel``: rows whose label is null are left out per horizon.

    Raises NotEnoughData where a horizon has fewer than MIN_OUTCOMES known outcomes.
    """
    features = generic_features(panel)
    boosters: dict[str, Any] = {}
    linear: dict[str, Any] = {}
    mean: dict[str, float] = {}
    now = np.log(panel[NOW].to_numpy())
    blocks = {h: block(panel, features, h) for h in {h for s in TARGETS for h in s.horizons_s}}
    for spec in TARGETS:
        changes = {h: _label(panel, spec, h) - now for h in spec.horizons_s}
        short = [h // HOUR_S for h, c in changes.items() if np.isfinite(c).sum() < MIN_OUTCOMES]
        if short:
            raise NotEnoughData(
                f"gas: fewer than {MIN_OUTCOMES} known outcomes of {spec.name} at {short} h in {panel.height} rows; "
                "import hourly history without long holes"
            )
        anchors = {}
        for horizon_s, change in changes.items():
            name = f"{spec.name}|{horizon_s}"
            linear[name] = _fit_linear(panel, change, horizon_s)
            anchors[horizon_s] = _apply(linear[name], panel, horizon_s)
            rest = (change - anchors[horizon_s])[np.isfinite(change)]
            linear[name]["errors"] = np.quantile(rest, QUANTILES).tolist()
            mean[name] = float(np.exp(np.clip(rest - np.median(rest), *np.quantile(rest, [0.005, 0.995]))).mean())
        x = np.concatenate([blocks[h] for h in spec.horizons_s])
        direct = np.concatenate(list(changes.values()))
        rest = direct - np.concatenate(list(anchors.values()))
        params: dict[str, Any] = {}
        if cfg.tune_seconds > 0:
            hour = np.tile((panel["ts"].dt.epoch("s") // HOUR_S).to_numpy(), len(spec.horizons_s))
            gap_h = max(spec.horizons_s) // HOUR_S + cfg.embargo_h
            search = Search(spec.name, cfg.tune_seconds, cfg.seed, gap_h)
            params = tune_quantiles(x, direct, hour, QUANTILES, max(1, cfg.rounds // 2), search)
        for member, y in (("direct", direct), ("rest", rest)):
            fitted = fit_quantiles(x, y, QUANTILES, max(1, cfg.rounds // 2), cfg.seed, params=params)
            boosters |= {f"{spec.name}-{member}-{k}": b for k, b in enumerate(fitted)}
    last: datetime = panel["ts"].max()  # type: ignore[assignment]
    version = f"gas-{last:%Y%m%dT%H}-{schema_hash(features)}"
    return GasModel(BoosterBundle("gas", version, features, boosters, {"linear": linear, "mean": mean}))


def _label(panel: pl.DataFrame, spec: TargetSpec, horizon_s: int) -> Array:
    column = panel[label(spec.name, horizon_s)].fill_null(float("nan")).to_numpy()
    return np.asarray(np.log(column), dtype=np.float64)


def _linear_matrix(panel: Panel, horizon_s: int) -> Array:
    ahead = [f"t{horizon_s // HOUR_S}_{f}" for f in _LINEAR_AHEAD]
    return np.nan_to_num(matrix(panel, [*_LINEAR, *ahead]))


def _fit_linear(panel: Panel, change: Array, horizon_s: int) -> dict[str, Any]:
    """Ridge regression of ``change`` on level and season features; unknown features count as zero (no deviation)."""
    known = np.isfinite(change)
    x, y = _linear_matrix(panel, horizon_s)[known], change[known]
    scale = x.std(axis=0) + 1e-9
    centre, offset = x.mean(axis=0), y.mean()
    z = (x - centre) / scale
    coefficients = np.linalg.solve(z.T @ z + _RIDGE * np.eye(z.shape[1]), z.T @ (y - offset)) / scale
    return {"coefficients": coefficients.tolist(), "intercept": float(offset - centre @ coefficients)}


def _apply(linear: Mapping[str, Any], panel: Panel, horizon_s: int) -> Array:
    fitted = _linear_matrix(panel, horizon_s) @ np.asarray(linear["coefficients"]) + linear["intercept"]
    return np.asarray(fitted, dtype=np.float64)
