"""Liquidity features of pools on the hourly grid: depth against its own past, activity, volatility, season."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from features.bars import dense, on_grid, summed
from features.calendar import hour, weekday
from features.panel import hour_of
from features.records import Records, Scans, records
from features.windows import Array, Rows, carried, decayed, lag, lowest, mean, median

LOOKBACK_H = 1_056
"""Hours of history a feature may draw on: 44 days."""

CARRY_H = 6
WINDOWS_H: tuple[int, ...] = (6, 24, 72, 168, 672)

FEATURES: tuple[str, ...] = (
    *(f"over_median{w}" for w in WINDOWS_H),
    *(f"over_mean{w}" for w in WINDOWS_H),
    *(f"over_min{w}" for w in (6, 24)),
    *(f"change{k}" for k in (1, 2, 4, 24)),
    "swing24", "swing168", "day_before", "restless",
    "turnover", "turnover24", "activity24", "price_vol6", "price_vol24", "price_vol168", "price_gap24", "fee_pips",
    "hour", "weekday",
)  # fmt: skip
"""All in logs: depth over its rolling medians, means and minima, its last changes and their spread, depth a day ago,
how often it jumped by 10 %; volume over depth; volatility of the pool's price; fee tier; time."""


_COLUMNS = ("pool", "depth_1pct_usd", "price", "volume_usd", "fee_pips")


@dataclass(frozen=True, slots=True)
class PoolStates:
    """States of ``pools`` on the hourly grid from ``start`` on: arrays (t, k), NaN where unknown.

    ``depth`` is USD to a 1 % move on one side; ``volume`` USD of the hour. An hour without a state carries the last
    depth and price for at most CARRY_H hours with ``fresh`` false; the fee tier is carried for good.
    """

    pools: tuple[str, ...]
    start: datetime
    depth: Array
    price: Array
    volume: Array
    fee_pips: Array
    fresh: npt.NDArray[np.bool_]


def pool_states(lake: Scans, pools: Sequence[str], start: datetime, end: datetime) -> PoolStates:
    """Return the states of ``pools`` (all when empty) at the decision times start <= ts < end.

    A state counts from the first full hour at or after its ``available_at``; of several in one hour the last depth and
    price and the sum of volumes are taken. States without a positive depth are left out.
    """
    low, early = start - timedelta(hours=CARRY_H + 1), CARRY_H + 1
    found = records(lake, "pool_state", _COLUMNS, low, end, on="available_at")
    keep = found["depth_1pct_usd"] > 0
    if pools:
        keep &= found.among("pool", pools) >= 0
    found = found.where(keep)
    order = np.argsort(found["available_at"], kind="stable")
    found = Records({name: x[order] for name, x in found.columns.items()}, found.texts)
    names = tuple(found.present("pool"))
    count = max(-(-round((end - start).total_seconds()) // 3_600), 0) + early
    row, column = on_grid(hour_of(found["available_at"]), low, count), found.among("pool", names)
    depth, price = dense(row, column, (count, len(names)), [found["depth_1pct_usd"], found["price"]])
    volume = summed(row, column, (count, len(names)), found["volume_usd"])
    paid = np.isfinite(found["fee_pips"])
    (fee,) = dense(np.where(paid, row, -1), column, (count, len(names)), [found["fee_pips"]])
    fresh = np.isfinite(depth)
    kept = (carried(depth, CARRY_H), carried(price, CARRY_H), volume, carried(fee, len(fee)))
    depth, price, volume, fee = (x[early:] for x in kept)
    return PoolStates(names, start, depth, price, volume, fee, fresh[early:])


def liquidity_features(states: PoolStates, rows: Rows) -> dict[str, Array]:
    """Return FEATURES (n, k) at the ascending ``rows`` of the grid; every value at a row was known then."""
    x, every = np.log(states.depth), np.arange(len(states.depth))
    price = np.log(states.price)
    step, square = x - lag(x, every, 1), (price - lag(price, every, 1)) ** 2
    flow = np.log((states.volume + 1.0) / states.depth)
    jumped = np.where(np.isfinite(step), (np.abs(step) > 0.1).astype(np.float64), np.nan)
    now, busy = x[rows], mean(flow, rows, 24, 8)
    hours = round(states.start.timestamp()) // 3_600 + rows
    found = {
        **{f"over_median{w}": now - median(x, rows, w, w // 3) for w in WINDOWS_H},
        **{f"over_mean{w}": now - mean(x, rows, w, w // 3) for w in WINDOWS_H},
        **{f"over_min{w}": now - lowest(x, rows, w, w // 3) for w in (6, 24)},
        **{f"change{k}": now - lag(x, rows, k) for k in (1, 2, 4, 24)},
        **{f"swing{w}": np.log(mean(np.abs(step), rows, w, w // 3) + 1e-4) for w in (24, 168)},
        "day_before": lag(x, rows, 23) - now,
        "restless": np.log(decayed(jumped, rows, 12.0) + 1e-4),
        "turnover": carried(flow, CARRY_H)[rows],
        "turnover24": busy,
        "activity24": flow[rows] - busy,
        **{f"price_vol{w}": 0.5 * np.log(mean(square, rows, w, 2) + 1e-12) for w in (6, 24, 168)},
        "price_gap24": price[rows] - lag(price, rows, 24),
        "hour": np.broadcast_to(hour(hours)[:, None], now.shape),
        "weekday": np.broadcast_to(weekday(hours)[:, None] + 1.0, now.shape),
    }
    found["fee_pips"] = states.fee_pips[rows]
    return {name: found[name] for name in FEATURES}
