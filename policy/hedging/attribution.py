"""Where an option's profit came from, interval by interval: second-order terms of the Greeks at its start.

    pnl = delta dF + gamma dF^2 / 2 + theta dt + vega dv + vanna dF dv + volga dv^2 / 2 + unexplained

Third-order terms (speed, charm) added nothing above a week to expiry on recorded chains and hurt below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from lake.sources.options import KEYS
from policy.base import Vector
from policy.hedging import pricing

TERMS = ("delta", "gamma", "theta", "vega", "vanna", "volga")
BUCKETS_D = ((2.0, 7.0), (7.0, 35.0), (35.0, 100.0))
LAST_DAY = 1.0 / 365.0  # an option must have a day left at the interval's end: Greeks of its last hours say nothing


def intervals(chain: pl.DataFrame) -> pl.DataFrame:
    """Return one row an option and two snapshots in a row, with the later values as ``forward_end`` and so on.

    ``chain`` is what ``lake.sources.options`` returns. An option that the next snapshot does not list has no row.
    """
    steps = chain.select("asset", "ts").unique().sort("asset", "ts")
    steps = steps.with_columns(ts_end=pl.col("ts").shift(-1).over("asset")).drop_nulls()
    ends = chain.select(
        pl.col("ts").alias("ts_end"), *KEYS[1:], *(pl.col(c).alias(f"{c}_end") for c in ("mark_iv", "forward", "tau"))
    )
    found = chain.join(steps, on=["asset", "ts"]).join(ends, on=["ts_end", *KEYS[1:]])
    return found.filter(pl.col("tau_end") > LAST_DAY)


def attribute(rows: pl.DataFrame) -> pl.DataFrame:
    """Return ``rows`` of ``intervals`` with pnl, the ``TERMS`` and unexplained, USD per one underlying of option."""
    columns = ("forward", "strike", "tau", "mark_iv", "forward_end", "tau_end", "mark_iv_end")
    F, K, t, v, F1, t1, v1 = (rows[c].to_numpy() for c in columns)
    call = (rows["kind"] == "c").to_numpy()
    g = pricing.greeks(F, K, t, v, call)
    pnl = pricing.greeks(F1, K, t1, v1, call)[:, pricing.PRICE] - g[:, pricing.PRICE]
    dF, dv = F1 - F, v1 - v
    parts = {
        "delta": g[:, pricing.DELTA] * dF,
        "gamma": 0.5 * g[:, pricing.GAMMA] * dF**2,
        "theta": g[:, pricing.THETA] * (t - t1),
        "vega": g[:, pricing.VEGA] * dv,
        "vanna": g[:, pricing.VANNA] * dF * dv,
        "volga": 0.5 * g[:, pricing.VOLGA] * dv**2,
    }
    rest = pnl - np.sum(list(parts.values()), axis=0)
    return rows.with_columns(
        pnl=pl.Series(pnl), **{k: pl.Series(p) for k, p in parts.items()}, unexplained=pl.Series(rest)
    )


@dataclass(frozen=True, slots=True)
class Explained:
    """Shares of variance explained in one bucket of days to expiry: of the profit, and of it once delta is hedged."""

    asset: str
    from_days: float
    to_days: float
    intervals: int
    price: float
    hedged: float
    book_hedged: float  # the same for a book long or short each option at random, fixed over its life
    book_median: float  # that book's median abs(unexplained) over abs(hedged profit)


def explained(rows: pl.DataFrame, seed: int = 0) -> list[Explained]:
    """Return the shares for every asset and bucket of ``attribute``'s ``rows``; empty buckets are left out."""
    out = []
    for asset in rows["asset"].unique().sort():
        for low, high in BUCKETS_D:
            days = pl.col("tau") * 365.0
            part = rows.filter((pl.col("asset") == asset) & (days >= low) & (days < high))
            if not part.is_empty():
                out.append(_bucket(part, asset, low, high, seed))
    return out


def _bucket(part: pl.DataFrame, asset: str, low: float, high: float, seed: int) -> Explained:
    pnl, rest = part["pnl"].to_numpy(), part["unexplained"].to_numpy()
    hedged = pnl - part["delta"].to_numpy()
    names = part.select("expiry", "strike", "kind").unique().sort("expiry", "strike", "kind")
    sides = np.random.default_rng(seed).choice([-1.0, 1.0], len(names))
    book = (
        part.join(names.with_columns(side=pl.Series(sides)), on=["expiry", "strike", "kind"])
        .group_by("ts")
        .agg(
            hedged=((pl.col("pnl") - pl.col("delta")) * pl.col("side")).sum(),
            rest=(pl.col("unexplained") * pl.col("side")).sum(),
        )
        .sort("ts")
    )
    a, b = book["hedged"].to_numpy(), book["rest"].to_numpy()
    ratio = np.abs(b[a != 0.0]) / np.abs(a[a != 0.0])
    median = float(np.median(ratio)) if ratio.size else float("nan")
    return Explained(asset, low, high, len(part), share(rest, pnl), share(rest, hedged), share(b, a), median)


def share(rest: Vector, whole: Vector) -> float:
    """Return ``1 - sum(rest^2) / sum(whole^2)``, nan where nothing moved."""
    total = float(np.sum(whole**2))
    return 1.0 - float(np.sum(rest**2)) / total if total > 0.0 else float("nan")
