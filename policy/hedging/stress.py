"""What a book would be worth elsewhere: a ladder of spot and volatility, and named scenarios, all lines repriced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy.base import Matrix, Vector
from policy.hedging import pricing
from policy.hedging.book import Book, Shift, lines, options_of, price_of, total, value_usd
from policy.hedging.instruments import YEAR_S, InversePerp, Option, Perp, Spot, Stable

SCENARIOS: dict[str, Shift] = {
    # spot: the day's worst close-to-close fall of ether or bitcoin; vol: rise of the 30-day level, rounded
    "crash of 2020-03-12": Shift(spot=-0.43, vol=1.5),
    "crash of 2021-05-19": Shift(spot=-0.28, vol=0.6),
    "crash of 2022-11-08": Shift(spot=-0.15, vol=0.5),
    "stable coin loses 10 %": Shift(peg=-0.10),
    "funding tenfold for a day": Shift(days=1.0, funding=10.0),
    "staking token slashed 5 %": Shift(rate=-0.05),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario's profit in USD, what gamma and the other second-order terms foretell of it, and who is liquidated."""

    name: str
    profit_usd: float
    predicted_usd: float
    liquidated: tuple[str, ...]


def ladder(book: Book, spots: Vector, vols: Vector) -> Matrix:
    """Return (len(spots), len(vols)) USD profit for spot times ``1 + spots`` and volatilities times ``1 + vols``.

    Only options depend on volatility: the other lines are repriced once a spot, the options in one call for all.
    """
    spots, vols = np.asarray(spots, dtype=np.float64), np.asarray(vols, dtype=np.float64)
    now = value_usd(book)
    others = Book(book.ts, book.spot, tuple(p for p in book.positions if not isinstance(p, Option)), book.nav_usd)
    linear = np.array([value_usd(others, Shift(spot=float(s))) for s in spots])
    return np.asarray(linear[:, None] + _option_values(book, spots, vols) - now, dtype=np.float64)


def _option_values(book: Book, spots: Vector, vols: Vector) -> Matrix:
    """Return the USD worth of the option lines at every rung, in one compiled call a spot."""
    held = options_of(book)
    if not held:
        return np.zeros((spots.size, vols.size))
    S = np.array([price_of(book, p.asset) for p in held])
    F, K, vol = (np.array([getattr(p, name) for p in held]) for name in ("forward", "strike", "vol"))
    tau = np.maximum([(p.expiry - book.ts).total_seconds() / YEAR_S for p in held], 0.0)
    scale = np.array([p.quantity for p in held]) * np.where(
        [p.premium == "coin" for p in held], S / F, [p.discount for p in held]
    )
    call = np.tile([p.kind == "call" for p in held], vols.size)
    out = np.empty((spots.size, vols.size))
    many = (vols[:, None] * 0 + K, vols[:, None] * 0 + tau, (1.0 + vols)[:, None] * vol)
    strikes, times, sigmas = (m.ravel() for m in many)
    for i, move in enumerate(spots):
        forwards = np.tile(F * (1.0 + move), vols.size)
        price = pricing.greeks(forwards, strikes, times, sigmas, call)[:, pricing.PRICE]
        out[i] = price.reshape(vols.size, -1) @ scale
    return out


def predicted(book: Book, shift: Shift) -> float:
    """Return the forecast of the profit of ``shift``: second order in spot and volatility, else first."""
    g = total(lines(book))
    points = 0.0
    held = options_of(book)
    if held:
        points = 100.0 * shift.vol * float(np.mean([p.vol for p in held]))
    direct = sum(p.amount_usd * shift.peg for p in book.positions if isinstance(p, Stable))
    direct += sum(
        p.quantity * p.rate * price_of(book, p.asset) * shift.rate
        for p in book.positions
        if isinstance(p, Spot) and (p.rate != 1.0 or p.rate_growth)
    )
    return (
        direct
        + g.delta_usd * shift.spot
        + 0.5 * g.cash_gamma_usd * shift.spot**2
        + g.vega_usd_per_point * points
        + g.vanna_usd * shift.spot * points
        + 0.5 * g.volga_usd * points**2
        + (g.theta_usd_per_day + g.carry_usd_per_day) * shift.days
    )


def scenarios(book: Book, named: dict[str, Shift] | None = None) -> list[Outcome]:
    """Return the outcome of every scenario, worst first."""
    now = value_usd(book)
    found = [
        Outcome(name, value_usd(book, s) - now, predicted(book, s), liquidated(book, s))
        for name, s in (SCENARIOS if named is None else named).items()
    ]
    return sorted(found, key=lambda o: o.profit_usd)


def liquidated(book: Book, shift: Shift) -> tuple[str, ...]:
    """Return the names of perpetuals whose equity after ``shift`` is below the maintenance margin."""
    out = []
    for p in book.positions:
        if isinstance(p, Perp):
            S = price_of(book, p.asset) * (1.0 + shift.spot)
            notional, equity = abs(p.quantity) * S, p.margin_usd + p.quantity * (S - p.entry)
        elif isinstance(p, InversePerp):
            S = price_of(book, p.asset) * (1.0 + shift.spot)
            notional = abs(p.notional_usd)
            equity = p.notional_usd * (S / p.entry - 1.0) + p.margin_coin * S
        else:
            continue
        if equity < p.maintenance * notional:
            out.append(p.name)
    return tuple(out)


def liquidation_price(p: Perp | InversePerp) -> float | None:
    """Return the USD price at which equity equals the maintenance margin; None where no positive price does it."""
    if isinstance(p, Perp):
        side = p.quantity - p.maintenance * abs(p.quantity)
        price = (p.quantity * p.entry - p.margin_usd) / side if side else 0.0
    else:
        side = p.notional_usd / p.entry + p.margin_coin
        price = (p.notional_usd + p.maintenance * abs(p.notional_usd)) / side if side else 0.0
    return price if price > 0.0 else None
