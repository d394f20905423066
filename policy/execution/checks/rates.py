"""The exchange rate of a yield-bearing token, held against what it was: it rises slowly, and never falls.

A fall is a loss of the vault behind it (slashed, hacked, bad debt); a sudden rise is a rate that somebody pushes. Both
stop the token, until a person has looked and accepted the new rate; the rest is traded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lake.units import BPS
from policy.execution.base import Verdict
from policy.execution.checks.verdicts import passed, refused

YEAR_S = 365 * 86_400
FELL, JUMPED, HALTED = "rate_fell", "rate_jumped", "yield_halted"
MOST_FALL_BPS = 10
"""Fall from the highest rate seen that rounding and fees may explain; raise it for a token that may lose by design."""
MOST_RISE_BPS, MOST_APR_BPS = 50, 10_000
"""Rise at once and a year that is still yield: 0.5 %, and 100 % a year."""


@dataclass(frozen=True, slots=True)
class SeenRate:
    """The highest rate accepted so far (assets of some shares), when it was seen (Unix seconds), and the first one."""

    rate: int
    time: int
    first_rate: int
    first_time: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A token's rate now: assets of a fixed number of shares; ``halted``: nothing goes in, or nothing out."""

    symbol: str
    token: str
    rate: int
    time: int
    halted: bool = False


def judged(now: Rate, seen: SeenRate | None) -> Verdict:
    """Return the verdict on a rate; without one seen before, it is the first and is believed."""
    where: dict[str, str | float] = {"token": now.token, "rate": str(now.rate)}
    if now.halted:
        reason = f"{now.symbol}: its vault takes no deposits or pays nothing out; nothing of it is traded until it does"
        return refused(HALTED, reason, **where)
    if seen is None:
        return passed("rate", f"{now.symbol}: first rate seen", **where)
    change_bps = (now.rate - seen.rate) * BPS / seen.rate
    figures = {**where, "seen": str(seen.rate), "change_bps": round(change_bps, 2)}
    accept = f"if that is right, accept it: foredrift vault rates --accept {now.symbol}"
    if change_bps < -MOST_FALL_BPS:
        reason = f"{now.symbol}: its rate fell by {-change_bps / 100:.2f} % from the highest seen; {accept}"
        return refused(FELL, reason, **figures)
    room = MOST_RISE_BPS + MOST_APR_BPS * max(0, now.time - seen.time) / YEAR_S
    if change_bps > room:
        reason = (
            f"{now.symbol}: its rate rose by {change_bps / 100:.2f} % in {now.time - seen.time} s, "
            f"{room / 100:.2f} % is what a yield may be; {accept}"
        )
        return refused(JUMPED, reason, **figures)
    return passed("rate", f"{now.symbol}: {change_bps / 100:+.4f} % since it was last the highest", **figures)


def after(now: Rate, seen: SeenRate | None, *, accepted: bool = False) -> SeenRate:
    """Return what is remembered of a rate that was judged good, or ``accepted`` by a person."""
    if seen is None:
        return SeenRate(now.rate, now.time, now.rate, now.time)
    if accepted or (now.rate >= seen.rate and judged(now, seen).ok):
        return SeenRate(now.rate, now.time, seen.first_rate, seen.first_time)
    return seen


def yearly_yield(now: Rate, seen: SeenRate | None) -> float | None:
    """Return the yield since the token was first seen, a fraction a year; None within its first day."""
    if seen is None or now.time - seen.first_time < 86_400:
        return None
    return float((now.rate / seen.first_rate) ** (YEAR_S / (now.time - seen.first_time)) - 1)


Seen = Mapping[str, SeenRate]
"""What is remembered, by token address."""
