"""A book of positions at one moment: value and Greeks by line and by underlying, in USD, from closed forms.

Units: delta in underlying and in USD; cash gamma is ``S^2 d2V/dS2``, USD per unit return squared, so a move r costs or
earns ``gamma r^2 / 2``; vega USD per vol point (0.01); theta and carry USD a day; vanna USD per unit return and point;
volga USD per point squared. The forward of an option moves in proportion to spot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np

from lake.errors import DataError
from policy.base import Matrix, Vector
from policy.hedging import lp, pricing
from policy.hedging.instruments import YEAR_S, InversePerp, Option, Perp, Position, Spot, Stable

POINT = 0.01  # a vol point
BUCKETS_D = (30.0, 90.0)  # vega is split by days to expiry: up to 30, up to 90, longer


@dataclass(frozen=True, slots=True)
class Greeks:
    """Sums over lines; see the module for the units."""

    value_usd: float = 0.0
    delta_units: float = 0.0
    delta_usd: float = 0.0
    coin_delta_units: float = 0.0  # of the account counted in coins: option premium in coins less its own price
    cash_gamma_usd: float = 0.0
    vega_usd_per_point: float = 0.0
    vega_d30: float = 0.0
    vega_d90: float = 0.0
    vega_longer: float = 0.0
    theta_usd_per_day: float = 0.0
    vanna_usd: float = 0.0
    volga_usd: float = 0.0
    carry_usd_per_day: float = 0.0

    def __add__(self, other: Greeks) -> Greeks:
        return Greeks(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def breakeven_daily_move(self) -> float | None:
        """The absolute daily return at which gamma and theta cancel, None where they have one sign or there is none."""
        if self.cash_gamma_usd * self.theta_usd_per_day >= 0.0:
            return None
        return math.sqrt(-2.0 * self.theta_usd_per_day / self.cash_gamma_usd)


@dataclass(frozen=True, slots=True)
class Book:
    """Positions with the USD price of every underlying at ``ts`` (aware UTC); ``nav_usd`` None is their value."""

    ts: datetime
    spot: Mapping[str, float]
    positions: tuple[Position, ...]
    nav_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Shift:
    """A scenario: spot times ``1 + spot``, volatilities times ``1 + vol``, ``days`` later; see ``stress``."""

    spot: float = 0.0
    vol: float = 0.0
    days: float = 0.0
    peg: float = 0.0  # return of stable coins
    rate: float = 0.0  # return of exchange rates of yield-bearing tokens: slashing
    funding: float = 1.0  # times


def price_of(book: Book, asset: str) -> float:
    """Return the USD price of ``asset``; raises DataError naming it where it is missing or no positive number."""
    price = book.spot.get(asset)
    if price is None or not (math.isfinite(price) and price > 0.0):
        raise DataError(f"spot price of {asset}: {price}; a positive USD price is required for every underlying")
    return price


def lines(book: Book, shift: Shift | None = None) -> list[Greeks]:
    """Return the Greeks of every position of ``book`` after ``shift`` (None: as it is)."""
    move = shift or Shift()
    options = _options(book, move)
    return [options[i] if isinstance(p, Option) else _line(book, p, move) for i, p in enumerate(book.positions)]


def total(found: list[Greeks]) -> Greeks:
    """Return the sum over lines."""
    return Greeks(*(math.fsum(getattr(g, f.name) for g in found) for f in fields(Greeks)))


def by_asset(book: Book, found: list[Greeks]) -> dict[str, Greeks]:
    """Return sums by underlying; cash is under "USD"."""
    names = ["USD" if isinstance(p, Stable) else p.asset for p in book.positions]
    return {n: total([g for g, m in zip(found, names, strict=True) if m == n]) for n in dict.fromkeys(names)}


def value_usd(book: Book, shift: Shift | None = None) -> float:
    """Return what the book is worth after ``shift``, all lines repriced."""
    return total(lines(book, shift)).value_usd


def nav_of(book: Book, found: list[Greeks]) -> float:
    """Return the NAV that exposures are fractions of; raises DataError where it is not positive."""
    nav = total(found).value_usd if book.nav_usd is None else book.nav_usd
    if not nav > 0.0:
        raise DataError(f"net asset value {nav:,.2f} USD: a positive one is required; give nav_usd in the book")
    return nav


def _line(book: Book, p: Position, move: Shift) -> Greeks:
    """Return the Greeks of one position that is no option."""
    if isinstance(p, Stable):
        return Greeks(value_usd=p.amount_usd * (1.0 + move.peg))
    if isinstance(p, Option):  # priced together, see _options
        raise TypeError(p.name)
    S = price_of(book, p.asset) * (1.0 + move.spot)
    if isinstance(p, Spot):
        pegged = p.rate * (1.0 + move.rate) if p.rate != 1.0 or p.rate_growth else p.rate
        units = p.quantity * pegged * math.exp(p.rate_growth * move.days / 365.0)
        return _linear(units * S, units, S, units * S * p.rate_growth / 365.0)
    if isinstance(p, Perp):
        worth = p.quantity * (S - p.entry) + p.margin_usd
        carry = -p.quantity * S * p.funding * move.funding * 24.0 / p.funding_interval_h
        return _linear(worth + carry * move.days, p.quantity, S, carry)
    if isinstance(p, InversePerp):
        units = p.notional_usd / p.entry + p.margin_coin
        worth = p.notional_usd * (S / p.entry - 1.0) + p.margin_coin * S
        carry = -p.notional_usd * p.funding * move.funding * 24.0 / p.funding_interval_h
        return _linear(worth + carry * move.days, units, S, carry)
    at = np.array([S])
    units = float(lp.delta(at, p.liquidity, p.lower, p.upper)[0])
    worth = float(lp.value(at, p.liquidity, p.lower, p.upper)[0]) + p.fees_usd_per_day * move.days
    gamma = float(lp.cash_gamma(at, p.liquidity, p.lower, p.upper)[0])
    return Greeks(
        value_usd=worth, delta_units=units, delta_usd=units * S, coin_delta_units=units - worth / S,
        cash_gamma_usd=gamma, carry_usd_per_day=p.fees_usd_per_day,
    )  # fmt: skip


def _linear(worth: float, units: float, S: float, carry: float) -> Greeks:
    return Greeks(
        value_usd=worth, delta_units=units, delta_usd=units * S, coin_delta_units=units - worth / S,
        carry_usd_per_day=carry,
    )  # fmt: skip


def _options(book: Book, move: Shift) -> dict[int, Greeks]:
    """Return the Greeks of the options by place in the book, priced in one call."""
    held = [(i, p) for i, p in enumerate(book.positions) if isinstance(p, Option)]
    if not held:
        return {}

    def column(read: Callable[[Option], float]) -> Vector:
        return np.array([read(p) for _, p in held], dtype=np.float64)

    S = np.array([price_of(book, p.asset) for _, p in held]) * (1.0 + move.spot)
    F = column(lambda p: p.forward) * (1.0 + move.spot)
    tau = column(lambda p: (p.expiry - book.ts).total_seconds() / YEAR_S) - move.days / 365.0
    vol = column(lambda p: p.vol) * (1.0 + move.vol)
    call = np.array([p.kind == "call" for _, p in held])
    g = pricing.greeks(F, column(lambda p: p.strike), np.maximum(tau, 0.0), vol, call)
    scale = np.where([p.premium == "coin" for _, p in held], S / F, column(lambda p: p.discount))
    return _as_greeks(held, g, scale * column(lambda p: p.quantity), S, F, tau)


def _as_greeks(
    held: list[tuple[int, Option]], g: Matrix, scale: Vector, S: Vector, F: Vector, tau: Vector
) -> dict[int, Greeks]:
    """Turn Greeks of the forward, each times ``scale``, into those of spot in the units of the module."""
    ratio = F / S
    worth, units = scale * g[:, pricing.PRICE], scale * ratio * g[:, pricing.DELTA]
    gamma = scale * F * F * g[:, pricing.GAMMA]
    vega, days = scale * g[:, pricing.VEGA] * POINT, tau * 365.0
    buckets = [days <= BUCKETS_D[0], (days > BUCKETS_D[0]) & (days <= BUCKETS_D[1]), days > BUCKETS_D[1]]
    columns = [
        worth, units, units * S, units - worth / S, gamma, vega, *(vega * b for b in buckets),
        scale * g[:, pricing.THETA] / 365.0, scale * F * g[:, pricing.VANNA] * POINT,
        scale * g[:, pricing.VOLGA] * POINT**2, np.zeros(len(held)),
    ]  # fmt: skip
    table = np.column_stack(columns).tolist()
    return {place: Greeks(*row) for (place, _), row in zip(held, table, strict=True)}


def options_of(book: Book) -> list[Option]:
    """Return the option lines."""
    return [p for p in book.positions if isinstance(p, Option)]
