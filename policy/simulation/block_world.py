"""Prices and gas at every block of a span: as recorded where the lake has them, else a seeded bridge between records.

Where only hourly gas is recorded, each day takes the within-hour shape of a recorded day of finer gas and the
residuals of recorded runs of blocks, or modelled ones where the lake has neither; prices between two bars are a
Brownian bridge as wide as the bar's own range. Such a world is marked semi-synthetic, and says what was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from lake.errors import ConfigError
from lake.store import Lake
from lake.units import DAY_S, HOUR_S, WEI_PER_GWEI
from policy.base import Matrix, Vector
from policy.simulation.history import History, Ints

BLOCK_S = 12  # an Ethereum slot
FIVE_S = 300
LEAD_DAYS = 30  # gas before the first decision, for whoever learns from the past
LONGEST_DAYS = 800  # memory: a year of blocks is 21 MB a column
COVER = 0.95  # share of a span that finer bars must cover to be used
TOGETHER = 0.6  # share of the bridge's variance that assets have in common
SMOOTH = 25  # blocks of the centred mean that residuals are measured against
RUN = 300  # longest run of recorded residuals taken in one piece
SHAPE_SD, SHAPE_LAG = 0.164, 0.52  # log five-minute gas about its hour: two recorded months, 2021-11 to 2022-01
RESIDUAL_SD, RESIDUAL_LAG = 0.126, 0.78  # log block gas about its five minutes: 1,640 recorded blocks, 2022-09-14


@dataclass(frozen=True, slots=True)
class BlockWorld:
    """A span block by block. Block b lies ``step_s`` seconds after block b - 1; block 0 at ``history.first``.

    ``returns`` (N, A) is the simple return from block b to b + 1 (0 in the last row), ``gas_gwei`` (N,) the price paid
    in block b, ``hour`` (N,) the step of the history it lies in. ``past_gwei`` is the gas of the blocks before block 0.
    """

    step_s: int
    start_s: int
    returns: Matrix
    gas_gwei: Vector
    past_gwei: Vector
    hour: Ints
    notes: tuple[str, ...]
    semi_synthetic: bool

    @property
    def per_hour(self) -> int:
        """Blocks an hour."""
        return HOUR_S // self.step_s

    def every(self, step_s: int) -> BlockWorld:
        """Return the same world seen every ``step_s`` seconds, a multiple of its own step."""
        k, rest = divmod(step_s, self.step_s)
        if rest or k < 1:
            raise ConfigError(f"a world of {self.step_s} s cannot be looked at every {step_s} s; take a multiple")
        if k == 1:
            return self
        log = np.vstack([np.zeros(self.returns.shape[1]), np.cumsum(np.log1p(self.returns), axis=0)])
        returns = np.expm1(np.diff(log[::k], axis=0))
        past = self.past_gwei[len(self.past_gwei) % k :: k]
        return BlockWorld(
            step_s, self.start_s, returns, self.gas_gwei[::k].copy(), past.copy(), self.hour[::k].copy(), self.notes,
            self.semi_synthetic,
        )  # fmt: skip


def build(lake: Lake, history: History, chain_id: int = 1, seed: int = 7, *, flat: bool = False) -> BlockWorld:
    """Return the block world of ``history`` from its first decision to its end; the same seed gives the same world.

    ``flat`` holds gas at the hour's mean within each hour: what is left is not the timing of gas inside it. Raises
    ConfigError for a span longer than LONGEST_DAYS.
    """
    if history.hours > LONGEST_DAYS * 24:
        raise ConfigError(f"{history.hours // 24} days of blocks are more than {LONGEST_DAYS}; shorten the span")
    first = history.first
    lead = min(LEAD_DAYS * 24, first - history.gas_known)
    hours = history.hours
    returns, price_note, bridged = _returns(lake, history, np.random.default_rng([seed, 1]))
    gas, gas_notes, drawn = _gas(lake, history, first - lead, chain_id, np.random.default_rng([seed, 2]), flat=flat)
    per_hour = HOUR_S // BLOCK_S
    cut = lead * per_hour
    hour = first + np.arange(hours * per_hour, dtype=np.int64) // per_hour
    notes = (price_note, *gas_notes)
    return BlockWorld(
        BLOCK_S, int(history.ts[first] // 1_000_000), returns, gas[cut:].copy(), gas[:cut].copy(), hour, notes,
        bridged or drawn,
    )  # fmt: skip


def _returns(lake: Lake, history: History, rng: np.random.Generator) -> tuple[Matrix, str, bool]:
    """Return (N, A) block returns, what they are made from, and whether anything was drawn."""
    first, start, end = history.first, history.when(history.first), history.when(len(history.ts) - 1)
    step, bars = _bars(lake, history.assets, start, end)
    marks = (int(history.ts[-1] - history.ts[first]) // 1_000_000) // step
    grid = pl.DataFrame({"mark": np.arange(1, marks + 1, dtype=np.int64)})
    log = np.empty((marks + 1, len(history.assets)))
    wide = np.zeros((marks, len(history.assets)))
    for i, asset in enumerate(history.assets):
        own = bars.filter(pl.col("asset") == asset)
        if own.is_empty():  # a stable asset: worth one, always
            log[:, i] = 0.0
            continue
        joined = grid.join(own, on="mark", how="left")
        log[0, i] = np.log(history.close[first, i])
        log[1:, i] = joined["log"].to_numpy()
        log[:, i] = pl.Series(log[:, i]).fill_nan(None).fill_null(strategy="forward").to_numpy()
        wide[:, i] = joined["width"].fill_null(0.0).to_numpy()
    k = step // BLOCK_S
    path = log if k <= 1 else _bridged(log, wide, k, rng)
    out = np.asarray(np.expm1(np.diff(path, axis=0)), dtype=np.float64)
    return out, f"prices: bars of {step} s, bridged to blocks within each bar's range (seeded)", k > 1


def _bars(lake: Lake, assets: tuple[str, ...], start: datetime, end: datetime) -> tuple[int, pl.DataFrame]:
    """Return the finest bar length that covers the span for all ``assets``, and those bars by mark."""
    base = int(start.timestamp())
    rows = lake.scan("prices").filter(
        pl.col("asset").is_in(assets) & (pl.col("step") <= HOUR_S) & (pl.col("step") % BLOCK_S == 0)
        & (pl.col("ts") >= start) & (pl.col("ts") < end)
    )  # fmt: skip
    have = rows.group_by("asset", "step").agg(pl.col("ts").n_unique().alias("bars")).collect()
    span = (end - start).total_seconds()
    named = set(have["asset"])
    step = HOUR_S
    for (length,), own in have.sort("step").group_by("step", maintain_order=True):
        covered = own.filter(pl.col("bars") * int(str(length)) >= COVER * span)
        if set(covered["asset"]) == named:
            step = int(str(length))
            break
    width = (pl.col("high") / pl.col("low")).log() / float(np.sqrt(4.0 * np.log(2.0)))
    found = (
        rows.filter(pl.col("step") == step)
        .with_columns(mark=(pl.col("ts").dt.epoch("s") - base) // step + 1, log=pl.col("close").log(), width=width)
        .sort("source")
        .unique(["asset", "mark"], keep="last", maintain_order=True)
        .select("asset", "mark", "log", "width")
        .collect()
    )
    return step, found


def _bridged(log: Matrix, wide: Matrix, k: int, rng: np.random.Generator) -> Matrix:
    """Return (marks k + 1, A) log prices: ``log`` at every k-th, Brownian bridges of deviation ``wide`` between."""
    marks, n = wide.shape
    share = np.arange(1, k + 1) / k
    out = np.empty((marks * k + 1, n))
    out[0] = log[0]
    common = np.cumsum(rng.standard_normal((marks, k), dtype=np.float32), axis=1) * np.float32(np.sqrt(TOGETHER / k))
    for i in range(n):
        own = rng.standard_normal((marks, k), dtype=np.float32) * np.float32(np.sqrt((1.0 - TOGETHER) / k))
        walk = common + np.cumsum(own, axis=1)
        walk -= share * walk[:, -1:]
        line = log[:-1, i, None] + share * np.diff(log[:, i])[:, None]
        out[1:, i] = (line + walk * wide[:, i, None]).ravel()
    return out


def _gas(
    lake: Lake, history: History, first: int, chain_id: int, rng: np.random.Generator, *, flat: bool
) -> tuple[Vector, list[str], bool]:
    """Return the gas of every block from step ``first`` on, gwei, what it is made from, and whether any was drawn."""
    start = history.when(first)
    mean = history.gas_gwei[first + 1 :]  # what became known at t + 1 is the hour after t
    if flat:
        return np.repeat(mean, HOUR_S // BLOCK_S), ["gas: held at each hour's mean"], True
    return _path(_finer(lake, chain_id, history.when(len(history.ts) - 1)), mean, start, rng)


def recent_gas(
    lake: Lake, chain_id: int, end: datetime, days: int = LEAD_DAYS, seed: int = 7
) -> tuple[Vector, list[str]]:
    """Return the gas of every block of the last ``days`` before ``end`` (a full hour), gwei, and what it is made from.

    Only what was known at ``end``. It begins with the first hour of which anything is known, and is empty where nothing
    is; an hour of which nothing is known keeps the last one's mean.
    """
    rows = _finer(lake, chain_id, end)
    first = end - timedelta(days=days)
    hours = pl.DataFrame({"ts": pl.datetime_range(first, end, "1h", closed="left", time_unit="us", eager=True)})
    means = [rows.select("ts", "gas"), _hourly(lake, chain_id, end)]
    known = [m.group_by(pl.col("ts").dt.truncate("1h")).agg(pl.col("gas").mean()) for m in means]
    found = hours.join(known[1], on="ts", how="left").join(known[0], on="ts", how="left", suffix="_fine").sort("ts")
    gas = found.select(pl.coalesce("gas", "gas_fine").forward_fill())["gas"]
    begin = int(gas.is_null().sum())
    if begin == hours.height:
        return np.zeros(0), ["no gas is known"]
    start = first + timedelta(hours=begin)
    path, notes, _ = _path(rows, gas[begin:].to_numpy(), start, np.random.default_rng([seed, 2]))
    return path, notes


def _hourly(lake: Lake, chain_id: int, end: datetime) -> pl.DataFrame:
    """Return the hourly rows of ``chain_id`` known at ``end``: ts, gas."""
    rows = lake.scan("gas", as_of=end).filter(pl.col("chain_id") == chain_id)
    hourly = (pl.col("available_at") - pl.col("ts")).dt.total_seconds() == HOUR_S
    return rows.filter(hourly).select("ts", gas="base_fee_gwei").collect()


def _path(
    rows: pl.DataFrame, mean: Vector, start: datetime, rng: np.random.Generator
) -> tuple[Vector, list[str], bool]:
    """Return the gas of every block from ``start`` on, for hours of ``mean`` and recorded ``rows`` finer than those."""
    hours, blocks = mean.size, mean.size * (HOUR_S // BLOCK_S)
    fives = _fives(rows)
    drawn = _draw_shape(fives, hours, start, rng)
    window = np.repeat(mean, HOUR_S // FIVE_S) * drawn
    own = fives.filter(pl.col("ts").is_between(start, start + timedelta(hours=hours), closed="left"))
    at = ((own["ts"].dt.epoch("s").to_numpy() - int(start.timestamp())) // FIVE_S).astype(np.int64)
    window[at] = own["gas"].to_numpy()
    centre = (np.arange(window.size) + 0.5) * (FIVE_S / BLOCK_S)
    level = np.interp(np.arange(blocks, dtype=np.float64), centre, np.log(np.maximum(window, 1e-9)))
    runs = _runs(rows)
    out = np.exp(level + _draw_residual(runs, blocks, rng))
    known = rows.filter((pl.col("width") <= 60) & (pl.col("ts") >= start))
    slot = (known["ts"].dt.epoch("s").to_numpy() - int(start.timestamp())) // BLOCK_S
    inside = slot < blocks
    out[slot[inside]] = known["gas"].to_numpy()[inside]
    share = own.height / window.size
    notes = [
        f"gas: {share:.0%} of five-minute windows recorded; the others are the recorded hour times "
        + ("the shape of recorded days" if _days(fives).size else "a modelled shape")
        + (", block residuals as recorded" if runs else ", modelled block residuals")
        + " (seeded)"
    ]
    return out, notes, bool(inside.sum() < blocks)


def _finer(lake: Lake, chain_id: int, end: datetime) -> pl.DataFrame:
    """Return the gas of ``chain_id`` finer than ten minutes known at ``end``: ts, gas, width (seconds; 0: one block).

    Blocks of table ``heads`` come before a row of table ``gas`` of the same time.
    """
    heads = (
        lake.scan("heads", as_of=end)
        .filter(pl.col("chain_id") == chain_id)
        .select("ts", width=pl.lit(0, pl.Int64), gas=pl.col("base_fee_wei") / WEI_PER_GWEI)
    )
    rows = _rows_of_gas(lake, chain_id, end)
    return pl.concat([heads, rows]).unique("ts", keep="first", maintain_order=True).sort("ts").collect()


def _rows_of_gas(lake: Lake, chain_id: int, end: datetime) -> pl.LazyFrame:
    return (
        lake.scan("gas", as_of=end)
        .filter(pl.col("chain_id") == chain_id)
        .sort("ts")
        .with_columns(
            known=(pl.col("available_at") - pl.col("ts")).dt.total_seconds(),
            gap=(pl.col("ts").shift(-1) - pl.col("ts")).dt.total_seconds().fill_null(HOUR_S),
        )
        .with_columns(
            width=pl.when(pl.col("block_number").is_not_null())
            .then(0)
            .otherwise(pl.when(pl.col("known") > 0).then("known").otherwise("gap"))
        )
        .filter(pl.col("width") <= 600)
        .select("ts", pl.col("width").cast(pl.Int64), gas="base_fee_gwei")
    )  # fmt: skip


def _fives(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the mean gas of each five-minute window that has rows: ts, gas."""
    return rows.group_by(pl.col("ts").dt.truncate("5m")).agg(pl.col("gas").mean()).sort("ts")


def slot_ratios(rows: pl.DataFrame) -> pl.DataFrame:
    """Return gas over its hour's mean by ``minute`` (five of them) and ``day``: ratio, hours.

    Of the whole hours of five-minute windows ``rows`` (ts, gas).
    """
    slot = pl.col("ts").dt.minute() // 5 * 5
    hourly = rows.with_columns(
        hour=pl.col("ts").dt.truncate("1h"), day=pl.col("ts").dt.date(), minute=slot.cast(pl.Int64)
    ).filter(pl.len().over("hour") == HOUR_S // FIVE_S)
    ratio = hourly.with_columns(ratio=pl.col("gas") / pl.col("gas").mean().over("hour"))
    return ratio.group_by("minute", "day", maintain_order=True).agg(pl.col("ratio").mean(), hours=pl.len())


def gas_by_slot(rows: pl.DataFrame) -> pl.DataFrame:
    """Return gas over its hour's mean by five minutes of the hour from windows ``rows`` (ts, gas) of whole hours.

    Columns: minute, ratio, error (standard error of the mean over days; 1 from a single day), hours.
    """
    return (
        slot_ratios(rows)
        .group_by("minute")
        .agg(
            ratio=pl.col("ratio").mean(),
            error=(pl.col("ratio").std() / pl.len().sqrt()).fill_null(1.0),
            hours=pl.col("hours").sum(),
        )
        .sort("minute")
    )  # fmt: skip


def recorded_windows(lake: Lake, chain_id: int, end: datetime) -> pl.DataFrame:
    """Return the recorded five-minute windows of gas known at ``end``: ts, gas."""
    return _fives(_finer(lake, chain_id, end))


def _days(fives: pl.DataFrame) -> Matrix:
    """Return (days, 288) gas over its hour's mean of the days recorded in full but for a few windows."""
    slots = DAY_S // FIVE_S
    if fives.is_empty():
        return np.zeros((0, slots))
    day = fives.with_columns(day=pl.col("ts").dt.truncate("1d")).filter(pl.len().over("day") >= 0.97 * slots)
    if day.is_empty():
        return np.zeros((0, slots))
    grid = pl.DataFrame({"day": day["day"].unique().sort()}).join(
        pl.DataFrame({"slot": np.arange(slots, dtype=np.int64)}), how="cross"
    )
    slot = (pl.col("ts") - pl.col("day")).dt.total_seconds() // FIVE_S
    full = grid.join(day.with_columns(slot=slot.cast(pl.Int64)), on=["day", "slot"], how="left", maintain_order="left")
    values = full["gas"].fill_null(strategy="forward").fill_null(strategy="backward").to_numpy()
    by_hour = values.reshape(-1, 24, HOUR_S // FIVE_S)
    return np.asarray((by_hour / by_hour.mean(axis=2, keepdims=True)).reshape(-1, slots), dtype=np.float64)


def _draw_shape(fives: pl.DataFrame, hours: int, start: datetime, rng: np.random.Generator) -> Vector:
    """Return (12 hours,) gas over its hour's mean: whole recorded days, one drawn for each day, or a modelled one."""
    days = _days(fives)
    per_hour = HOUR_S // FIVE_S
    if not len(days):
        log = _autoregression(hours * per_hour, SHAPE_SD, SHAPE_LAG, rng)
        by_hour = np.exp(log).reshape(hours, per_hour)
        return np.asarray((by_hour / by_hour.mean(axis=1, keepdims=True)).ravel(), dtype=np.float64)
    slots = days.shape[1]
    offset = (start.hour * HOUR_S + start.minute * 60) // FIVE_S
    picked = days[rng.integers(0, len(days), hours * per_hour // slots + 2)]
    return np.asarray(picked.ravel()[offset : offset + hours * per_hour], dtype=np.float64)


def _runs(rows: pl.DataFrame) -> list[Vector]:
    """Return log residuals of recorded runs of blocks about their centred mean, each of RUN blocks and more."""
    blocks = rows.filter(pl.col("width") <= 60)
    if blocks.height < RUN + SMOOTH:
        return []
    gaps = blocks["ts"].diff().dt.total_seconds().fill_null(0).to_numpy() > 120
    out = []
    for part in np.split(np.log(np.maximum(blocks["gas"].to_numpy(), 1e-9)), np.flatnonzero(gaps)):
        if part.size >= RUN + SMOOTH:
            smooth = np.convolve(part, np.full(SMOOTH, 1.0 / SMOOTH), "valid")
            out.append(part[SMOOTH // 2 : SMOOTH // 2 + smooth.size] - smooth)
    return out


def _draw_residual(runs: list[Vector], blocks: int, rng: np.random.Generator) -> Vector:
    """Return (blocks,) log residuals of mean 1 in price: pieces of recorded ``runs``, or a modelled process."""
    if runs:
        pieces, total = [], 0
        while total < blocks:
            run = runs[int(rng.integers(len(runs)))]
            begin = int(rng.integers(0, run.size - 100))
            piece = run[begin : begin + RUN]
            pieces.append(piece)
            total += piece.size
        out: npt.NDArray[np.float64] = np.concatenate(pieces)[:blocks]
    else:
        out = _autoregression(blocks, RESIDUAL_SD, RESIDUAL_LAG, rng)
    return np.asarray(out - np.log(np.exp(out).mean()), dtype=np.float64)


def _autoregression(size: int, sd: float, lag: float, rng: np.random.Generator) -> Vector:
    """Return a stationary first-order autoregression of deviation ``sd`` and lag-one correlation ``lag``."""
    noise = rng.standard_normal(size) * sd * np.sqrt(1.0 - lag**2)
    noise[:1] = rng.standard_normal() * sd
    return np.asarray(_carried(noise, lag), dtype=np.float64)


@njit(cache=True, nogil=True)
def _carried(noise: Vector, lag: float) -> Vector:
    out, last = np.empty(noise.size), 0.0
    for i in range(noise.size):
        last = noise[i] + lag * last
        out[i] = last
    return out
