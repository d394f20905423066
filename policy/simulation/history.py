"""The market of the past on the hourly decision grid: what a decision at each step could see.

Built once from the lake by as-of joins and shared, read-only, by every portfolio and policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from lake.errors import NotEnoughData
from lake.store import Lake, frame_digest
from lake.units import HOUR_S
from lake.universe import STABLE
from policy.base import Bools, Matrix, Vector
from policy.simulation.quotes import CARRY_H, ranges, read_quotes

Ints = npt.NDArray[np.int64]

STEP = timedelta(hours=1)
WARMUP_DAYS = 400  # past before the first decision that covariance and tuning may use
TUNING_DAYS = 180  # past before the first decision that rules may be tuned on
GAP_H = 7 * 24  # of gas: nothing is learnt from before a longer one, in which the last price stood
USUAL_H = 7 * 24  # usual gas is the mean of the last week: one full season, young enough to follow the level
HALF_LIFE_DAYS = 14.0  # of the covariance: shorter follows noise, longer lags regimes by weeks
PRIOR_VARIANCE = 1e-4  # per hour (1 % an hour), worth PRIOR_HOURS observations until there is a past
PRIOR_HOURS = 6.0
SAME_ASSET = 0.02  # a pool belongs to the asset whose close its price follows within this, in the median


@dataclass(frozen=True, slots=True)
class History:
    """Hourly arrays over T decision times and A assets. Row t holds what was known at ``ts[t]``.

    ``returns[t]`` is the simple return of the hour AFTER t (0 in the last row): only the simulator and bounds read it.
    ``day[t]`` is the row of ``covariance`` (per hour) in force at t. ``tradable`` is False where an asset has no bar of
    the hour before t: it keeps its last close and cannot be traded. ``moved`` says which returns lie between two bars
    in a row; ``listed`` and ``ended`` are each asset's first step with a bar and the last before its bars end for good.
    Gas is that of chain 1 (the settlement chain), gwei, in a gap the last known; depth is inf without pools.
    ``recent_gwei`` is the mean gas of the last week, ``median_gwei`` and ``median_depth_usd`` are medians of all values
    known at the start of the day: what a rule without a forecast may call usual.
    """

    ts: Ints  # (T,) microseconds since 1970, UTC
    assets: tuple[str, ...]
    close: Matrix  # (T, A) USD
    returns: Matrix  # (T, A)
    gas_gwei: Vector
    native_usd: Vector
    depth_usd: Matrix  # (T, A)
    recent_gwei: Vector
    median_gwei: Vector
    median_depth_usd: Matrix  # (T, A)
    covariance: Matrix  # (D, A, A)
    day: Ints
    tradable: Bools  # (T, A); (T,) holds for all assets alike
    gas_known: int  # first step with gas
    first: int  # first decision of the comparison; steps before it are the past
    notes: tuple[str, ...]
    sha256: str
    moved: Bools | None = None  # (T, A); None: every return
    listed: Ints | None = None  # (A,); None: from the first step
    ended: Ints | None = None  # (A,); None: up to the last step
    pools: Mapping[str, datetime] = field(default_factory=dict)  # pools whose depth is used, with their newest row

    @property
    def markets(self) -> Bools:
        """(T, A) whether each asset can be traded at each step."""
        if self.tradable.ndim == 2:
            return self.tradable
        return np.ascontiguousarray(np.repeat(self.tradable[:, None], len(self.assets), axis=1))

    def known_from(self, columns: Ints) -> int:
        """Return the first step at which gas and prices of all ``columns`` are known."""
        return self.gas_known if self.listed is None else max(self.gas_known, int(self.listed[columns].max()))

    @property
    def hours(self) -> int:
        """Decisions from ``first`` on that have a following hour."""
        return len(self.ts) - 1 - self.first

    def when(self, step: int) -> datetime:
        """Return the decision time of ``step``."""
        return datetime.fromtimestamp(int(self.ts[step]) / 1e6, UTC)

    def step_of(self, moment: datetime) -> int:
        """Return the first step at or after ``moment``, clipped to the grid."""
        return min(int(np.searchsorted(self.ts, int(moment.timestamp() * 1e6))), len(self.ts) - 1)

    def week(self) -> Ints:
        """Return (T,) the calendar week (Monday 00:00 UTC) of each step, 0 for the first one."""
        monday = (self.ts // 1_000_000 + 3 * 86_400) // (7 * 86_400)  # 1970-01-01 was a Thursday
        return np.asarray(monday - monday[0], dtype=np.int64)


def load(
    lake: Lake,
    start: datetime,
    end: datetime,
    assets: Sequence[str] | None = None,
    native: str = "ETH",
    pools: Mapping[str, str] | None = None,
    chain_id: int = 1,
    source: str | None = None,
) -> History:
    """Return the market from WARMUP_DAYS before ``start`` (as far as recorded) to ``end``.

    ``assets`` None takes every asset with hourly or finer bars; ``pools`` maps asset to pool id, else a pool goes to
    the asset whose price it follows. Raises NotEnoughData when prices of ``native`` or gas are missing.
    """
    low = start - timedelta(days=WARMUP_DAYS)
    prices = _prices(lake, low, end, source)
    wanted = _wanted(prices, assets, native, end)
    earliest = int(prices["at"].to_physical().to_numpy().min())
    begin = max(low, datetime.fromtimestamp(-(-earliest // (HOUR_S * 10**6)) * HOUR_S, UTC))
    grid = pl.DataFrame({"t": pl.datetime_range(begin, end, "1h", time_unit="us", time_zone="UTC", eager=True)})
    notes: list[str] = []
    ts = grid["t"].to_physical().to_numpy().astype(np.int64)
    first = int(np.searchsorted(ts, int(start.timestamp() * 1e6)))
    quotes = read_quotes(grid, prices, wanted)
    close, tradable = quotes.close, quotes.open
    coin = read_quotes(grid, prices, [native])
    gas, gap, gas_known = _gas(lake, grid, chain_id, end)
    depth, used = _depths(lake, grid, wanted, close, chain_id, pools or {}, notes)
    if first >= len(ts) - 1 or gas_known > first:
        raise NotEnoughData(
            f"asked for {start} .. {end}, but gas of chain {chain_id} starts {grid['t'][gas_known]}, prices {begin}; "
            "shorten the span or import earlier history"
        )
    notes += quotes.events(ts)
    notes += [n for n in coin.events(ts, "the last close priced the gas") if native not in wanted]
    if gap.any():
        when = ranges(ts, np.flatnonzero(gap))
        notes.append(f"gas of chain {chain_id}: {when} without a record: the last known price stood, trading went on")
    gas_known = _after_long_gap(gap, gas_known, first)
    returns = np.zeros_like(close)
    returns[:-1] = close[1:] / close[:-1] - 1.0
    covariance, day = _covariance(returns, ts, quotes.moved)
    cut = max(gas_known, first - 24 * TUNING_DAYS)  # earlier steps served the covariance only
    grid, ts, close, returns = grid[cut:], ts[cut:], close[cut:], returns[cut:]
    gas, coins, depth, tradable = gas[cut:], coin.close[cut:, 0], depth[cut:], tradable[cut:]
    covariance, day = covariance[day[cut] :], day[cut:] - day[cut]
    first, gas_known = first - cut, gas_known - cut if gas_known > cut else 0
    view = pl.DataFrame({"t": grid["t"], "gas": gas, "coin": coins, **{a: close[:, i] for i, a in enumerate(wanted)}})
    digest = frame_digest(view.with_columns(pl.Series("depth", depth.sum(axis=1))))
    starts = np.flatnonzero(np.diff(day, prepend=day[0] - 1))
    return History(
        ts, tuple(wanted), close, returns, gas, coins, depth, trailing_mean(gas, gas_known),
        expanding_median(gas, gas_known, starts), _column_medians(depth, gas_known, starts), covariance, day, tradable,
        gas_known, first, tuple(notes), digest, quotes.moved[cut:], np.maximum(quotes.first - cut, 0),
        np.maximum(quotes.last - cut, 0), used,
    )  # fmt: skip


def _after_long_gap(gap: Bools, known: int, first: int) -> int:
    """Return the first step of the past that may be learnt from: that after the last gap of gas over GAP_H hours."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], gap[: first + 1], [False]]).astype(np.int8)))
    spans = ends.reshape(-1, 2)
    long = spans[spans[:, 1] - spans[:, 0] > GAP_H]
    return max(known, int(long[-1, 1])) if long.size and long[-1, 1] <= first else known


def _wanted(prices: pl.DataFrame, assets: Sequence[str] | None, native: str, end: datetime) -> list[str]:
    """Return the assets to load; NotEnoughData names those without prices, and nothing else."""
    have = set(prices["asset"].unique())
    wanted = list(assets) if assets is not None else sorted(have)
    missing = sorted({a for a in (*wanted, native) if a not in have and (a not in STABLE or a == native)})
    if missing or not wanted:
        lacking = ", ".join(missing) or "any asset"
        raise NotEnoughData(
            f"no hourly prices of {lacking} before {end} (bars of an hour or less are needed); import or ingest them, "
            f"or leave {'it' if len(missing) == 1 else 'them'} out"
        )
    return wanted


def trailing_mean(values: Vector, known: int) -> Vector:
    """Return (T,) the mean of the last USUAL_H values known at t; before ``known`` the value itself."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    stop = np.arange(1, values.size + 1)
    start = np.minimum(np.maximum(stop - USUAL_H, known), stop - 1)
    return np.asarray((total[stop] - total[start]) / (stop - start), dtype=np.float64)


def expanding_median(values: Vector, known: int, starts: Ints) -> Vector:
    """Return (T,) the median of all values from ``known`` to the latest of ``starts`` at or before t."""
    out = np.array(values)
    for begin, end in zip(starts, [*starts[1:], len(values)], strict=True):
        seen = values[min(known, begin) : begin + 1]
        out[begin:end] = np.median(seen)
    return out


def _column_medians(values: Matrix, known: int, starts: Ints) -> Matrix:
    """Return expanding medians by column, computing equal columns once."""
    out = np.empty_like(values)
    for i in range(values.shape[1]):
        same = next((j for j in range(i) if np.array_equal(values[:, i], values[:, j])), None)
        out[:, i] = expanding_median(values[:, i], known, starts) if same is None else out[:, same]
    return out


def _prices(lake: Lake, low: datetime, end: datetime, source: str | None) -> pl.DataFrame:
    rows = lake.scan("prices").filter(
        (pl.col("step") <= HOUR_S) & (pl.col("available_at") <= end) & (pl.col("ts") >= low - STEP * CARRY_H)
    )
    if source is not None:
        rows = rows.filter(pl.col("source") == source)
    done = pl.col("ts") + pl.duration(seconds=pl.col("step"))
    return (
        rows.select("asset", "close", "source", "step", done=done, at=pl.max_horizontal("available_at", done))
        .sort("asset", "at", "done", "step", "source")
        .unique(["asset", "at"], keep="last", maintain_order=True)
        .collect()
    )


def _gas(lake: Lake, grid: pl.DataFrame, chain_id: int, end: datetime) -> tuple[Vector, Bools, int]:
    """Return (T,) mean gas price of the rows that became known in the hour before t, carried; gaps; first step."""
    rows = (
        lake.scan("gas", as_of=end)
        .filter((pl.col("chain_id") == chain_id) & (pl.col("available_at") > grid["t"][0] - STEP))
        .select(t=pl.col("available_at").dt.offset_by("-1us").dt.truncate("1h") + STEP, gas="base_fee_gwei")
        .group_by("t")
        .agg(pl.col("gas").mean())
        .sort("t")
        .collect()
    )
    if rows.is_empty():
        raise NotEnoughData(f"compare needs gas of chain {chain_id}; import or ingest table gas first")
    joined = grid.join_asof(rows.with_columns(seen=pl.col("t")), on="t", strategy="backward")
    gap = joined.select((pl.col("t") > pl.col("seen")).fill_null(value=False).alias("gap"))["gap"].to_numpy()
    known = int(np.argmax(joined["gas"].is_not_null().to_numpy())) if joined["gas"].null_count() < grid.height else 0
    if joined["gas"].null_count() == grid.height:
        raise NotEnoughData(f"gas of chain {chain_id} has no row known before {end}")
    return joined["gas"].fill_null(strategy="backward").to_numpy().astype(np.float64), gap, known


def _depths(
    lake: Lake,
    grid: pl.DataFrame,
    assets: Sequence[str],
    close: Matrix,
    chain_id: int,
    pools: Mapping[str, str],
    notes: list[str],
) -> tuple[Matrix, dict[str, datetime]]:
    """Return (T, A) depth known at t: of the asset's own pool, else the median over pools, else inf.

    With it the newest row of each own pool; the median counts as one, by its newest.
    """
    depth = np.full((grid.height, len(assets)), np.inf)
    rows = (
        lake.scan("pool_state")
        .filter((pl.col("chain_id") == chain_id) & (pl.col("depth_1pct_usd") > 0))
        .filter(pl.col("available_at") <= grid["t"][-1])
        .select("pool", "available_at", "price", depth="depth_1pct_usd")
        .sort("pool", "available_at")
        .collect()
    )
    if rows.is_empty():
        notes.append("no pool depth in the lake: price impact is taken as zero")
        return depth, {}
    known: dict[str, Vector] = {}
    for (pool,), own in rows.group_by("pool", maintain_order=True):
        joined = grid.join_asof(own.sort("available_at"), left_on="t", right_on="available_at", strategy="backward")
        known[str(pool)] = joined["depth"].fill_null(np.nan).to_numpy().astype(np.float64)
        if pool in pools.values():
            continue
        price = joined["price"].fill_null(np.nan).to_numpy().astype(np.float64)
        found = _asset_of(price, close, assets)
        if found is not None and found not in pools:
            pools = {**pools, found: str(pool)}
    table = np.column_stack(list(known.values()))
    seen = ~np.isnan(table).all(axis=1)
    median = np.full(grid.height, np.inf)
    median[seen] = np.nanmedian(table[seen], axis=1)
    for i, asset in enumerate(assets):
        own_depth = known.get(pools.get(asset, ""), median)
        depth[:, i] = np.where(np.isnan(own_depth), median, own_depth)
    without = [a for a in assets if a not in pools]
    if without:
        notes.append(f"no pool of their own, median depth over {len(known)} pools: {', '.join(without)}")
    newest = dict(rows.group_by("pool").agg(pl.col("available_at").max()).iter_rows())
    used = {pools[a]: newest[pools[a]] for a in assets if a in pools and pools[a] in newest}
    return depth, used | ({"median": max(newest.values())} if without else {})


def _asset_of(price: Vector, close: Matrix, assets: Sequence[str]) -> str | None:
    """Return the asset whose close ``price`` follows, None when there is none."""
    seen = ~np.isnan(price)
    if not seen.any():
        return None
    gaps = np.median(np.abs(close[seen] / price[seen, None] - 1.0), axis=0)
    best = int(np.argmin(gaps))
    return assets[best] if gaps[best] <= SAME_ASSET else None


def _covariance(returns: Matrix, ts: Ints, moved: Bools) -> tuple[Matrix, Ints]:
    """Return daily EWMA covariances (D, A, A) of hourly returns known by each day's start, and (T,) their row.

    Only returns between two bars in a row count (``moved``), pair by pair; what pairs of different age do not have in
    common is bent to the nearest covariance matrix.
    """
    days = ts // 86_400_000_000
    row = np.asarray(days - days[0], dtype=np.int64)
    A = returns.shape[1]
    decay = 0.5 ** (1.0 / (24.0 * HALF_LIFE_DAYS))
    total, weight = np.zeros((A, A)), np.zeros((A, A))
    out = np.empty((int(row[-1]) + 1, A, A))
    prior = np.eye(A) * PRIOR_VARIANCE
    edges = np.searchsorted(row, np.arange(out.shape[0] + 1))
    for d in range(out.shape[0]):
        out[d] = (total + PRIOR_HOURS * prior) / (weight + PRIOR_HOURS)
        if np.ptp(weight) > 0.0:
            out[d] = positive(out[d])
        # returns[t] is known at t+1, so what the next day's first step knows are those of today's steps
        block, seen = returns[edges[d] : edges[d + 1]], moved[edges[d] : edges[d + 1]]
        fade = decay ** np.arange(len(block) - 1, -1, -1.0)
        whole = bool(seen.all())
        counted = fade.sum() if whole else (seen * fade[:, None]).T @ seen.astype(np.float64)
        block = block if whole else np.where(seen, block, 0.0)
        total = total * decay ** len(block) + (block * fade[:, None]).T @ block
        weight = weight * decay ** len(block) + counted
    return out, row


def positive(matrix: Matrix) -> Matrix:
    """Return the symmetric ``matrix`` (A, A), negative eigenvalues lifted to 1e-6 of the largest, same diagonal."""
    values, vectors = np.linalg.eigh(matrix)
    if values[0] >= 0.0:
        return matrix
    near = (vectors * np.maximum(values, 1e-6 * values[-1])) @ vectors.T
    scale = np.sqrt(np.diag(matrix) / np.maximum(np.diag(near), 1e-300))
    return np.asarray(near * np.outer(scale, scale), dtype=np.float64)
