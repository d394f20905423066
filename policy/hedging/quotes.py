"""How well closed forms and smile fit a recorded chain: marks inside quotes, put-call parity, strikes left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from policy.base import Vector
from policy.hedging import pricing
from policy.hedging.recorded import VenueFit, recorded
from policy.hedging.smile import smile

FEWEST = 9  # quotes a smile needs before every other one is hidden
SOONEST = 2.0 / 365.0


@dataclass(frozen=True, slots=True)
class Fit:
    """Figures of one chain; ``None`` where the chain has nothing to measure them on."""

    inside_quotes: float | None  # share of two-sided quotes with the model's mark between bid and ask
    parity_coin: float | None  # median of abs(call - put - (F - K)) / F over marks of both kinds
    implied_error: float  # largest abs difference of implied volatility of the model's price to mark_iv, vega > 1e-4 F
    hidden_median: float | None  # vol points
    hidden_p99: float | None
    smiles: int
    hidden_inside: float | None  # share of the hidden strikes missed by no more than half their quoted spread
    recorded: VenueFit


def fit(chain: pl.DataFrame) -> Fit:
    """Return the fit of ``chain`` (as ``lake.sources.options`` reads it), over every snapshot it has."""
    F, K, t, v = (chain[c].to_numpy() for c in ("forward", "strike", "tau", "mark_iv"))
    call = (chain["kind"] == "c").to_numpy()
    g = pricing.greeks(F, K, t, v, call)
    seen = g[:, pricing.VEGA] > 1e-4 * F
    back = pricing.implied_vol(g[:, pricing.PRICE], F, K, t, call).vol
    coin = chain.with_columns(mark=pl.Series(g[:, pricing.PRICE] / F))
    errors, halves, count = hidden_errors(chain)
    quoted = np.isfinite(halves)
    return Fit(
        _inside(coin), _parity(coin), float(np.max(np.abs(back - v)[seen], initial=0.0)),
        float(np.median(errors)) if errors.size else None,
        float(np.quantile(errors, 0.99)) if errors.size else None, count,
        float(np.mean(errors[quoted] <= halves[quoted])) if quoted.any() else None, recorded(chain),
    )  # fmt: skip


def _inside(coin: pl.DataFrame) -> float | None:
    if not {"bid_coin", "ask_coin"} <= set(coin.columns):
        return None
    both = coin.drop_nulls(["bid_coin", "ask_coin"])
    within = pl.col("mark").is_between(pl.col("bid_coin") - 1e-6, pl.col("ask_coin") + 1e-6)
    return both.select(within.mean()).item() if len(both) else None


def _parity(coin: pl.DataFrame) -> float | None:
    key = ["ts", "asset", "expiry", "strike"]
    calls, puts = (coin.filter(pl.col("kind") == k) for k in ("c", "p"))
    pairs = calls.join(puts.select(*key, pl.col("mark").alias("put")), on=key)
    gap = (pl.col("mark") - pl.col("put") - (1.0 - pl.col("strike") / pl.col("forward"))).abs()
    return pairs.select(gap.median()).item() if len(pairs) else None


def hidden_errors(chain: pl.DataFrame) -> tuple[Vector, Vector, int]:
    """Return abs errors in vol points at every other strike, hidden from its smile, and how many smiles there were.

    Between them: half the quoted spread of each hidden strike in vol points, nan without a two-sided quote.
    """
    out_of_money = (pl.col("kind") == "c") == (pl.col("strike") >= pl.col("forward"))
    rows = chain.filter(out_of_money & (pl.col("tau") > SOONEST))
    errors: list[Vector] = []
    halves: list[Vector] = []
    for _, quotes in rows.sort("strike").group_by(["asset", "ts", "expiry"], maintain_order=True):
        if len(quotes) < FEWEST:
            continue
        strikes, vols = quotes["strike"].to_numpy(), quotes["mark_iv"].to_numpy()
        forward, tau = float(quotes["forward"][0]), float(quotes["tau"][0])
        shown = smile(forward, tau, strikes[::2], vols[::2])
        hidden = slice(1, len(strikes) - 1, 2)
        errors.append(100.0 * np.abs(shown.vol(np.log(strikes[hidden] / forward)) - vols[hidden]))
        halves.append(_half_spreads(quotes)[hidden])
    if not errors:
        return np.empty(0), np.empty(0), 0
    return np.concatenate(errors), np.concatenate(halves), len(errors)


def _half_spreads(quotes: pl.DataFrame) -> Vector:
    """Return half the quoted spread in vol points (n,), nan without a two-sided quote."""
    if not {"bid_coin", "ask_coin"} <= set(quotes.columns):
        return np.full(len(quotes), np.nan)
    F, K, t, v = (quotes[c].to_numpy() for c in ("forward", "strike", "tau", "mark_iv"))
    vega = pricing.greeks(F, K, t, v, (quotes["kind"] == "c").to_numpy())[:, pricing.VEGA]
    spread = (quotes["ask_coin"] - quotes["bid_coin"]).to_numpy().astype(np.float64)
    return np.asarray(50.0 * spread * F / np.maximum(vega, 1e-12), dtype=np.float64)
