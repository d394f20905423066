"""The slippage family: what a trade of a given size will cost on a pool, and the pool's depth behind it.

A trade of S moves a pool of one-sided 1 % depth D by S / D per cent and pays half of it on average (constant product
to first order: out = y (1 - f) dx / (x + (1 - f) dx)), so it costs fee + 0.005 S / D of its size. The fee is
known; depth is forecast as a log change from the present quote. The forecast is a mixture of the distribution of past
changes around the current quote and of gradient-boosted quantiles; the boosters' share is measured on the latest part
of the training data, so that without information the forecast is the current quote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl

from features.bars import times
from features.liquidity import FEATURES, LOOKBACK_H, liquidity_features, pool_states
from features.panel import Columns, flat, hours_between, whole_hour
from lake.errors import NotEnoughData
from lake.units import HOUR_S
from models.arrays import Panel, column
from models.base import SLIPPAGE_HORIZONS_H, Forecaster, LakeView, TargetSpec, label
from models.boosting.forest import Forest
from models.boosting.gbm import BoosterBundle, fit_quantiles, gains, predict
from models.boosting.tuning import Search, tune_quantiles
from models.config import ModelConfig
from models.evaluation.labels import melt
from models.evaluation.scores import pinball
from models.forecast_rows import ForecastArrays, RowBuffer
from models.forecast_schema import QUANTILES
from models.slippage.baselines import slippage_baselines
from models.slippage.realised_impact import impact_ratio
from models.slippage.rows import FEE, IMPACT, IMPACT_SHARE, NOW, add_depth_rows, around_quote

Array = npt.NDArray[np.float64]

HORIZONS_S: tuple[int, ...] = tuple(h * HOUR_S for h in SLIPPAGE_HORIZONS_H)
TARGETS: tuple[TargetSpec, ...] = (TargetSpec("slippage", HORIZONS_S), TargetSpec("depth", HORIZONS_S, space="log"))

MIN_ROWS = 500  # known changes before boosters are tried: three weeks of one pool
_HOLD_OUT = 0.3  # latest share of the training rows on which the boosters' share is measured
_SHARES = np.linspace(0.0, 1.0, 6)
_PARAMS = {"learning_rate": 0.1, "min_data_in_leaf": 40, "max_bin": 63}


@dataclass(frozen=True, slots=True)
class SlippageFamily:
    """Slippage and depth of the configured pools (all in the lake when none is named)."""

    name: str = "slippage"
    targets: tuple[TargetSpec, ...] = TARGETS

    def keys(self, lake: LakeView, cfg: ModelConfig) -> list[str]:
        """Return the pools that have a positive depth in the lake."""
        rows = lake.scan("pool_state").filter(pl.col("depth_1pct_usd") > 0).select(pl.col("pool").unique())
        known = sorted(rows.collect()["pool"].to_list())
        return [p for p in known if not cfg.pools or p in cfg.pools]

    def build(self, lake: LakeView, cfg: ModelConfig, start: datetime, end: datetime) -> pl.DataFrame:
        """Return the panel: one row a pool and hour with features, context columns ``b|`` and labels of depth."""
        return self._panel(lake, cfg, (whole_hour(start), whole_hour(end)), labelled=True).frame()

    def now(self, lake: LakeView, cfg: ModelConfig, at: datetime) -> Columns:
        """Return the panel's rows of the decision time ``at`` without labels."""
        return self._panel(lake, cfg, (at, at + timedelta(hours=1)), labelled=False)

    def _panel(self, lake: LakeView, cfg: ModelConfig, span: tuple[datetime, datetime], *, labelled: bool) -> Columns:
        low = span[0] - timedelta(hours=LOOKBACK_H)
        high = span[1] + timedelta(hours=max(SLIPPAGE_HORIZONS_H) if labelled else 0)
        states = pool_states(lake, cfg.pools, low, high)
        rows = np.arange(LOOKBACK_H, LOOKBACK_H + hours_between(*span))
        columns = liquidity_features(states, rows)
        columns |= {NOW: states.depth[rows], FEE: states.fee_pips[rows]}
        if labelled:
            for h in SLIPPAGE_HORIZONS_H:
                both = states.fresh[rows] & states.fresh[rows + h]
                columns[label("depth", h * HOUR_S)] = np.where(both, states.depth[rows + h], np.nan)
        columns[IMPACT] = np.broadcast_to(impact_ratio(lake, *span)[:, None], columns[NOW].shape)
        panel = flat(states.pools, times(low, rows), columns)
        return panel.filter(np.isfinite(panel.column(NOW)))

    def outcomes(self, panel: pl.DataFrame, cfg: ModelConfig) -> pl.DataFrame:
        """Return depths by pool and the costs they mean by "<pool>|<size_usd>", at the fee and impact ratio of ts."""
        depth = melt(panel.select("key", "ts", *(label("depth", h) for h in HORIZONS_S)))
        terms = panel.select("key", pl.col("ts").alias("issued_at"), FEE, IMPACT)
        known = depth.join(terms.filter(pl.col(FEE).is_not_null()), on=["key", "issued_at"])
        parts = [depth]
        for size in cfg.trade_sizes_usd:
            cost = pl.col(FEE) / 1e6 + pl.col(IMPACT) * IMPACT_SHARE * size / pl.col("y")
            parts.append(
                known.with_columns(
                    pl.lit("slippage").alias("target"), pl.col("key") + f"|{size:.0f}", cost.alias("y")
                ).select(depth.columns)
            )
        return pl.concat(parts)

    def fit(self, panel: pl.DataFrame, cfg: ModelConfig) -> SlippageFitted:
        """Train all horizons; raises NotEnoughData with less than a day of known depth changes."""
        changes: dict[int, Array] = {}
        share: dict[int, float] = {}
        forests: dict[int, Forest] = {}
        ordered = panel.sort("ts", "key")
        x = Columns.of(ordered).matrix(FEATURES)
        hour = (ordered["ts"].dt.epoch("s") // HOUR_S).to_numpy()
        for h in SLIPPAGE_HORIZONS_H:
            y = np.log(column(ordered, label("depth", h * HOUR_S))) - np.log(column(ordered, NOW))
            known = np.isfinite(y)
            if known.sum() < 24:
                raise NotEnoughData(f"{int(known.sum())} known depth changes over {h} h; a day of them is required")
            changes[h] = around_quote(y[known])
            if known.sum() >= MIN_ROWS:
                params = _params(x[known], y[known], hour[known], h, cfg)
                forests[h] = Forest.of(_boosters(x, y, cfg, params))
                share[h] = _share(x[known], y[known], h, cfg, params)
        last = ordered["ts"].max()
        assert isinstance(last, datetime)
        digest = hashlib.sha256(f"{cfg.fingerprint()}{last}{panel.height}".encode()).hexdigest()[:10]
        return SlippageFitted(f"slippage-{last:%Y%m%d}-{digest}", changes, share, forests, cfg.trade_sizes_usd)

    def baselines(self, cfg: ModelConfig) -> Mapping[str, Forecaster]:
        """Return the current quote ("last"), the depth a day earlier ("seasonal"), and reversion to the week ("ar")."""
        return slippage_baselines(cfg)


def _boosters(x: Array, y: Array, cfg: ModelConfig, params: Mapping[str, Any]) -> list[lgb.Booster]:
    return fit_quantiles(x, y, QUANTILES, max(1, cfg.rounds // 2), cfg.seed, params=params)


def _before_held_out(y: Array, horizon_h: int) -> tuple[int, int]:
    """Return how many of the known changes come before those the share is measured on, and where these begin."""
    cut = int(len(y) * (1.0 - _HOLD_OUT))
    return max(cut - horizon_h, 1), cut


def _params(x: Array, y: Array, hour: npt.NDArray[np.int64], horizon_h: int, cfg: ModelConfig) -> dict[str, Any]:
    """Return the boosters' parameters, tuned if the project tunes; never on rows that the share is measured on."""
    if cfg.tune_seconds <= 0:
        return _PARAMS
    past, _ = _before_held_out(y, horizon_h)
    name = f"depth over {horizon_h} h"
    search = Search(name, cfg.tune_seconds / len(SLIPPAGE_HORIZONS_H), cfg.seed, horizon_h + cfg.embargo_h)
    rounds = max(1, cfg.rounds // 2)
    return _PARAMS | tune_quantiles(x[:past], y[:past], hour[:past], QUANTILES, rounds, search, _PARAMS)


def _share(x: Array, y: Array, horizon_h: int, cfg: ModelConfig, params: Mapping[str, Any]) -> float:
    """Return the boosters' share that has the least pinball loss on the latest rows, trained on those before."""
    past, cut = _before_held_out(y, horizon_h)
    if past < MIN_ROWS // 2:
        return 0.0
    quoted = np.broadcast_to(around_quote(y[:past]), (len(y) - cut, len(QUANTILES)))
    boosted = predict(_boosters(x[:past], y[:past], cfg, params), x[cut:])
    loss = [pinball(y[cut:], np.sort((1.0 - s) * quoted + s * boosted, axis=1)).sum() for s in _SHARES]
    return float(_SHARES[int(np.argmin(loss))])


@dataclass(frozen=True, slots=True)
class SlippageFitted:
    """Past changes, boosters and their share by horizon_h."""

    version: str
    changes: Mapping[int, Array]
    share: Mapping[int, float]
    forests: Mapping[int, Forest]
    sizes: tuple[float, ...]

    def predict(self, panel: Panel) -> pl.DataFrame:
        """Return forecast rows of depth and of slippage for every size."""
        return self.forecasts(panel).frame()

    def forecasts(self, panel: Panel) -> ForecastArrays:
        """Return the same as arrays."""
        inputs = Columns.of(panel)
        x = inputs.matrix(FEATURES)
        rows = RowBuffer(self.version)
        for h, quoted in self.changes.items():
            change = np.broadcast_to(quoted, (inputs.height, len(QUANTILES)))
            share = self.share.get(h, 0.0)
            if share > 0.0 and inputs.height:
                change = (1.0 - share) * change + share * np.sort(self.forests[h].predict(x), axis=1)
            add_depth_rows(rows, inputs, h, change, self.sizes)
        return rows.forecasts()

    def importances(self) -> pl.DataFrame:
        """Return (target, horizon_s, feature, gain), the mean over the quantile boosters, largest first."""
        rows = [
            ("depth", h * HOUR_S, feature, float(np.mean([gains(b, FEATURES)[feature] for b in forest.boosters])))
            for h, forest in self.forests.items()
            for feature in FEATURES
        ]
        types = {"target": pl.String, "horizon_s": pl.Int64, "feature": pl.String, "gain": pl.Float64}
        return pl.DataFrame(rows, schema=types, orient="row").sort("gain", descending=True)

    def save(self, folder: Path) -> None:
        """Write the boosters as text and the rest as JSON."""
        boosters = {f"h{h}_{k}": b for h, own in self.forests.items() for k, b in enumerate(own.boosters)}
        extras = {
            "changes": {str(h): q.tolist() for h, q in self.changes.items()},
            "share": {str(h): s for h, s in self.share.items()},
            "sizes": list(self.sizes),
        }
        BoosterBundle("slippage", self.version, FEATURES, boosters, extras).save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote; raises ModelError when it does not fit."""
        bundle = BoosterBundle.load(folder, "slippage")
        share = {int(h): float(s) for h, s in bundle.extras["share"].items()}
        forests = {h: Forest.of([bundle.boosters[f"h{h}_{k}"] for k in range(len(QUANTILES))]) for h in share}
        changes = {h: np.asarray(bundle.extras["changes"][str(h)]) for h in sorted(map(int, bundle.extras["changes"]))}
        return cls(bundle.version, changes, share, forests, tuple(bundle.extras["sizes"]))
