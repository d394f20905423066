"""Joint gas scenarios: the forecast's margins, joined by the rank order of past error paths (Schaake shuffle).

Clark, Gangopadhyay, Hay, Rajagopalan, Wilby (2004), "The Schaake shuffle". At each hour ahead the K values are the
forecast's quantiles at (r + 1/2)/K; which path gets which value is decided by the ranks of K past error paths, so
the paths keep the persistence and the co-movement of real errors while every margin stays exactly the forecast's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import ndtri

from lake.units import HOUR_S
from models.forecast_schema import QUANTILE_COLUMNS, QUANTILES

Array = npt.NDArray[np.float64]

PATH_HOURS = 48
POOL_DAYS = 42
"""Past issue times that templates are drawn from: six weeks, every hour of the week several times."""


def scenario_paths(rows: pl.DataFrame, panel: pl.DataFrame, count: int) -> pl.DataFrame:
    """Return rows of table ``paths`` (without available_at): ``count`` paths of 48 hourly gwei values per issue time.

    ``rows`` are calibrated forecast rows of target "gas"; ``panel`` has (key, ts, b|now_gwei, b|season_now). Until two
    days of errors are known, templates are those of a random walk (comonotone paths).
    """
    parts = [_of_key(rows.filter(pl.col("key") == key), panel, key, count) for key in rows["key"].unique().sort()]
    if not parts:
        return pl.DataFrame()
    return pl.concat(parts)


def _of_key(rows: pl.DataFrame, panel: pl.DataFrame, key: str, count: int) -> pl.DataFrame:
    wide = rows.pivot(on="horizon_s", index=["issued_at", "model_version"], values=list(QUANTILE_COLUMNS)).sort(
        "issued_at"
    )
    wide = wide.drop_nulls()
    horizons = sorted(rows["horizon_s"].unique().to_list())
    quantiles = np.stack(
        [wide.select(f"{c}_{h}" for c in QUANTILE_COLUMNS).to_numpy() for h in horizons], axis=1
    )  # (n, horizons, 5) gwei
    own = panel.filter(pl.col("key") == key).select("ts", "b|now_gwei", "b|season_now")
    hours = own.sort("ts").upsample("ts", every="1h")
    at = ((wide["issued_at"] - hours["ts"][0]).dt.total_seconds() // HOUR_S).to_numpy()
    now = np.log(hours["b|now_gwei"].fill_null(float("nan")).to_numpy())
    season = hours["b|season_now"].fill_null(strategy="forward").fill_null(0.0).to_numpy()
    margins = hourly_margins(np.log(quantiles), [h // HOUR_S for h in horizons], now[at], season_ahead(season, at))
    values = join_by_ranks(margins, error_ranks(margins, now, at, count))
    n = len(at)
    return pl.DataFrame(
        {
            "target": ["gas"] * (n * count),
            "key": [key] * (n * count),
            "issued_at": np.repeat(wide["issued_at"].to_numpy(), count),
            "path": np.tile(np.arange(count), n),
            "values": pl.Series(values.reshape(n * count, PATH_HOURS).astype(np.float32)).cast(pl.List(pl.Float32)),
            "model_version": np.repeat(wide["model_version"].to_numpy(), count),
        }
    ).with_columns(pl.col("issued_at").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))


def season_ahead(season: Array, at: npt.NDArray[np.int64]) -> Array:
    """Return (n, 48): the season last learnt for the hours of day 1..48 hours ahead, less the present hour's."""
    ahead = np.arange(1, PATH_HOURS + 1)
    source = at[:, None] + ahead - 24 * -(-ahead // 24)
    return np.asarray(season[np.clip(source, 0, None)] - season[at][:, None])


def hourly_margins(quantiles: Array, horizons_h: list[int], now: Array, season: Array) -> Array:
    """Return (n, 48, 5) log quantiles for every hour from those at ``horizons_h`` (n, len(horizons_h), 5).

    Between horizons the quantiles less present level and season are interpolated linearly in the square root of
    time, where a diffusing spread is a straight line; at the horizons they are exact.
    """
    knots = np.sqrt(np.array([0.0, *horizons_h]))
    x = np.sqrt(np.arange(1, PATH_HOURS + 1))
    index = [h - 1 for h in horizons_h]
    rest = quantiles - now[:, None, None] - season[:, index, None]
    rest = np.concatenate([np.zeros_like(rest[:, :1]), rest], axis=1)
    right = np.clip(np.searchsorted(knots, x), 1, len(knots) - 1)
    share = ((x - knots[right - 1]) / (knots[right] - knots[right - 1]))[None, :, None]
    hourly = rest[:, right - 1] * (1 - share) + rest[:, right] * share
    return np.asarray(np.sort(hourly + now[:, None, None] + season[:, :, None], axis=2))


def error_ranks(margins: Array, now: Array, at: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return (n, count, 48) ranks of ``count`` past standardised error paths, all complete at the issue time.

    ``now`` is the log price by hour (NaN in holes), ``at`` each row's hour index. Templates are spread evenly over
    the last POOL_DAYS; hours that do not divide a day evenly alternate so that every hour of day is among them.
    """
    n = len(at)
    future = at[:, None] + np.arange(1, PATH_HOURS + 1)
    actual = np.where(future < len(now), now[np.minimum(future, len(now) - 1)], np.nan)
    width = np.maximum(margins[:, :, -1] - margins[:, :, 0], 1e-9)
    errors = (actual - margins[:, :, 2]) / width
    whole = np.flatnonzero(np.isfinite(errors).all(axis=1))
    ranks = np.broadcast_to(np.arange(count)[None, :, None], (n, count, PATH_HOURS)).copy()
    known = np.searchsorted(at[whole] + PATH_HOURS, at, side="right")  # templates complete at each row
    oldest = np.searchsorted(at[whole], at - POOL_DAYS * 24)
    for low in range(0, n, 512):
        rows = np.arange(low, min(low + 512, n))
        rows = rows[known[rows] - oldest[rows] >= PATH_HOURS]
        if len(rows):
            span = (known[rows] - oldest[rows])[:, None]
            pick = oldest[rows][:, None] + (np.arange(count) * span + span // 2) // count
            ranks[rows] = errors[whole[pick]].argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return ranks


def join_by_ranks(margins: Array, ranks: npt.NDArray[np.int64]) -> Array:
    """Return (n, count, 48) gwei: at each hour the margin's quantiles at (rank + 1/2) / count, so margins are exact.

    Between the five quantiles log price is linear in the normal score, and so are the tails beyond them.
    """
    count = ranks.shape[1]
    score = ndtri((np.arange(count) + 0.5) / count)
    knots = ndtri(np.asarray(QUANTILES))
    right = np.clip(np.searchsorted(knots, score), 1, len(knots) - 1)
    share = (score - knots[right - 1]) / (knots[right] - knots[right - 1])
    levels = margins[:, :, right - 1] * (1 - share) + margins[:, :, right] * share  # (n, 48, count)
    values = np.take_along_axis(levels.transpose(0, 2, 1), ranks, axis=1)
    return np.asarray(np.exp(values))
