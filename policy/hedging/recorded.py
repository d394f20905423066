"""What a venue recorded beside its implied volatilities against the closed forms: marks and deltas.

An archive that asks for one option after another dates a whole snapshot by one moment: forward and mark are of it, each
delta is of its own, and the underlying moves in between. A call's and a put's delta of one strike then differ from one,
which no model does. The forward of the moment is what the deltas recorded just before and after imply.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import ndtri

from policy.base import Vector
from policy.hedging import pricing

NEIGHBOURS = 5  # deltas read before and after one, itself left out
_WING = 0.02  # N(d1) nearer to 0 or 1 tells its forward badly, a delta having five digits


@dataclass(frozen=True, slots=True)
class VenueFit:
    """Medians of absolute differences to the closed forms; None where the chain has nothing to measure them on."""

    mark_coin: float | None  # marks in coins
    parity_coin: float | None  # a call's less a put's recorded mark of one strike, less (F - K) / F
    delta: float | None  # N(d1) at the snapshot's forward
    delta_pairs: float | None  # a call's less a put's delta of one strike, less one: no model's error
    delta_own: float | None  # N(d1) at the forward that the neighbours' deltas imply


def recorded(chain: pl.DataFrame) -> VenueFit:
    """Return how far ``mark_coin`` and ``delta`` of ``chain`` (as ``lake.sources.options`` reads it) are off."""
    mark = parity = delta = pairs = own = None
    if "mark_coin" in chain.columns:
        rows = chain.drop_nulls("mark_coin")
        if len(rows):
            mark = float(np.median(np.abs(_greeks(rows)[:, pricing.PRICE] / rows["forward"] - rows["mark_coin"])))
            parity = _pairs(rows, "mark_coin", 1.0 - pl.col("strike") / pl.col("forward"))
    if "delta" in chain.columns:
        rows = chain.drop_nulls("delta").sort("asset", "ts", "place")
        if len(rows):
            delta = float(np.median(np.abs(_greeks(rows)[:, pricing.DELTA] - rows["delta"].to_numpy())))
            pairs, own = _pairs(rows, "delta", pl.lit(1.0)), _own(rows)
    return VenueFit(mark, parity, delta, pairs, own)


def _greeks(rows: pl.DataFrame, forward: Vector | None = None) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    F = rows["forward"].to_numpy() if forward is None else forward
    K, t, v = (rows[c].to_numpy() for c in ("strike", "tau", "mark_iv"))
    return pricing.greeks(F, K, t, v, (rows["kind"] == "c").to_numpy())


def _pairs(rows: pl.DataFrame, column: str, due: pl.Expr) -> float | None:
    """Return the median by which a call's less a put's ``column`` of one strike misses ``due``, None without pairs."""
    key = ["ts", "asset", "expiry", "strike"]
    calls, puts = (rows.filter(pl.col("kind") == k) for k in ("c", "p"))
    both = calls.join(puts.select(*key, pl.col(column).alias("put")), on=key)
    return both.select((pl.col(column) - pl.col("put") - due).abs().median()).item() if len(both) else None


def own_forwards(rows: pl.DataFrame) -> Vector:
    """Return for each of ``rows`` (n,) (sorted by asset, ts, place) the forward its neighbours' deltas imply, USD.

    The median of ``NEIGHBOURS`` before and after, as a return on the snapshot's forward; nan without any.
    """
    F, K, t, v, told = (rows[c].to_numpy() for c in ("forward", "strike", "tau", "mark_iv", "delta"))
    above = np.where((rows["kind"] == "c").to_numpy(), told, told + 1.0)
    sd = v * np.sqrt(t)
    clear = (above > _WING) & (above < 1.0 - _WING)
    d1 = ndtri(np.where(clear, above, 0.5))
    off = np.where(clear, d1 * sd - 0.5 * sd * sd + np.log(K / F), np.nan)
    place = rows.select(g=pl.struct("asset", "ts").rle_id())["g"].to_numpy()
    near = np.full((2 * NEIGHBOURS, len(rows)), np.nan)
    for i, step in enumerate(s for s in range(-NEIGHBOURS, NEIGHBOURS + 1) if s):
        here = slice(max(0, -step), len(rows) - max(0, step))
        there = slice(max(0, step), len(rows) - max(0, -step))
        near[i, here] = np.where(place[here] == place[there], off[there], np.nan)
    some = np.isfinite(near).any(axis=0)
    shift = np.full(len(rows), np.nan)
    if some.any():
        shift[some] = np.nanmedian(near[:, some], axis=0)
    return np.asarray(F * np.exp(shift), dtype=np.float64)


def _own(rows: pl.DataFrame) -> float | None:
    forward = own_forwards(rows)
    good = np.isfinite(forward)
    if not good.any():
        return None
    found = _greeks(rows.filter(pl.Series(good)), forward[good])[:, pricing.DELTA]
    return float(np.median(np.abs(found - rows["delta"].to_numpy()[good])))
