"""Black-76 prices, Greeks and implied volatility of European options in compiled closed forms.

Everything is per unit of the underlying and on the forward F of the option's own expiry: price, delta (of F), gamma,
vega (per 1.00 of volatility a year), theta (per year, F and volatility held), vanna (d delta / d volatility) and volga
(d vega / d volatility). Source: Black 1976; F phi(d1) = K phi(d2) gives every Greek from one density.

Coin premium (Deribit): an option is quoted in coins, ``Black76 / F``. In USD its value is ``Black76 S / F``, its
delta N(d1) (that is what the venue reports), while the delta of the account counted in coins is ``N(d1) - price / F``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from policy.base import Bools, Matrix, Vector

PRICE, DELTA, GAMMA, VEGA, THETA, VANNA, VOLGA = range(7)
COLUMNS = ("price", "delta", "gamma", "vega", "theta", "vanna", "volga")
OK, AT_INTRINSIC, AT_CEILING, BAD_INPUT = range(4)
REASONS = {
    OK: "found",
    AT_INTRINSIC: "the price is at or below intrinsic value: no volatility gives it; take a two-sided quote",
    AT_CEILING: "the price is at or above the forward (call) or the strike (put): no volatility gives it",
    BAD_INPUT: "price, forward, strike and time to expiry must be positive numbers",
}
_ROOT_HALF = math.sqrt(0.5)
_ROOT_2PI = math.sqrt(2.0 * math.pi)
_TURNS = 100
_WIDEST = 40.0  # of volatility x sqrt(time): beyond it every price is at its ceiling


@njit(cache=True, nogil=True)
def _black(F: float, K: float, sd: float, sign: float) -> tuple[float, float, float]:
    """Return price, N(sign d1) and d1 at ``sd`` = volatility x sqrt(time) > 0; ``sign`` is 1 for a call, -1 put."""
    d1 = math.log(F / K) / sd + 0.5 * sd
    above = 0.5 * math.erfc(-sign * d1 * _ROOT_HALF)
    below = 0.5 * math.erfc(-sign * (d1 - sd) * _ROOT_HALF)
    return sign * (F * above - K * below), above, d1


@njit(cache=True, nogil=True)
def _greeks(F: Vector, K: Vector, tau: Vector, vol: Vector, call: Bools, out: Matrix) -> None:
    for i in range(F.size):
        f, k, t, v = F[i], K[i], tau[i], vol[i]
        sign = 1.0 if call[i] else -1.0
        if not (f > 0.0 and k > 0.0 and t >= 0.0 and v >= 0.0):
            for j in range(7):
                out[i, j] = np.nan
            continue
        root = math.sqrt(t)
        sd = v * root
        if sd <= 1e-12:  # expired or without volatility: intrinsic value, a step in delta
            inside = sign * (f - k)
            out[i, PRICE] = max(inside, 0.0)
            out[i, DELTA] = sign if inside > 0.0 else (0.5 * sign if inside == 0.0 else 0.0)
            for j in range(2, 7):
                out[i, j] = 0.0
            continue
        price, above, d1 = _black(f, k, sd, sign)
        d2 = d1 - sd
        density = math.exp(-0.5 * d1 * d1) / _ROOT_2PI
        vega = f * density * root
        out[i, PRICE] = max(price, 0.0)
        out[i, DELTA] = sign * above
        out[i, GAMMA] = density / (f * sd)
        out[i, VEGA] = vega
        out[i, THETA] = -0.5 * f * density * v / root
        out[i, VANNA] = -density * d2 / v
        out[i, VOLGA] = vega * d1 * d2 / v


def greeks(F: Vector, K: Vector, tau: Vector, vol: Vector, call: Bools) -> Matrix:
    """Return (n, 7) in the order of ``COLUMNS`` for (n,) forwards, strikes (USD), years to expiry and volatilities.

    A row with a negative or missing number is nan throughout; at expiry it is intrinsic value and the step of delta.
    """
    full = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (F, K, tau, vol)), call)
    a, b, c, d = (np.ascontiguousarray(v) for v in full[:4])
    out = np.empty((a.size, len(COLUMNS)))
    _greeks(a, b, c, d, np.ascontiguousarray(full[4], dtype=np.bool_), out)
    return out


@njit(cache=True, nogil=True)
def _implied_one(price: float, F: float, K: float, tau: float, call: bool) -> tuple[float, int]:
    """Return (volatility, status): Newton on the log price of the out-of-the-money option, inside a bracket."""
    if not (price > 0.0 and F > 0.0 and K > 0.0 and tau > 0.0):
        return np.nan, BAD_INPUT
    intrinsic = F - K if call else K - F
    value = price - max(intrinsic, 0.0)
    if value <= 0.0:
        return np.nan, AT_INTRINSIC
    if value >= min(F, K):
        return np.nan, AT_CEILING
    sign = -1.0 if F > K else 1.0  # of the out-of-the-money side: no digits lost to intrinsic value
    low, high = 0.0, _WIDEST
    x = abs(math.log(F / K))
    sd = max(math.sqrt(2.0 * x), _ROOT_2PI * value / math.sqrt(F * K))
    goal = math.log(value)
    for _ in range(_TURNS):
        guess, _, d1 = _black(F, K, sd, sign)
        step = np.nan
        if guess > 0.0:
            slope = F * math.exp(-0.5 * d1 * d1) / (_ROOT_2PI * guess)
            error = math.log(guess) - goal
            if error > 0.0:
                high = sd
            else:
                low = sd
            step = error / slope if slope > 0.0 else np.nan
        else:
            low = sd
        new = sd - step
        if not (low < new < high):
            new = 0.5 * (low + high)
        if abs(new - sd) <= 1e-10 * sd:  # Newton squares what is left
            sd = new
            break
        sd = new
    return sd / math.sqrt(tau), OK


@njit(cache=True, nogil=True)
def _implied(
    price: Vector, F: Vector, K: Vector, tau: Vector, call: Bools, vol: Vector, status: npt.NDArray[np.int64]
) -> None:
    for i in range(price.size):
        vol[i], status[i] = _implied_one(price[i], F[i], K[i], tau[i], call[i])


@dataclass(frozen=True, slots=True)
class Implied:
    """Volatilities (n,) a year, nan where there is none, and why: ``status`` (n,) keys ``REASONS``."""

    vol: Vector
    status: npt.NDArray[np.int64]

    def reason(self, row: int) -> str:
        """Return in words what became of one row."""
        return REASONS[int(self.status[row])]


def implied_vol(price: Vector, F: Vector, K: Vector, tau: Vector, call: Bools) -> Implied:
    """Return the volatility at which Black-76 gives ``price`` (n,), undiscounted and in the unit of F and K."""
    full = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (price, F, K, tau)), call)
    a, b, c, d = (np.ascontiguousarray(v) for v in full[:4])
    vol, status = np.empty(a.size), np.empty(a.size, dtype=np.int64)
    _implied(a, b, c, d, np.ascontiguousarray(full[4], dtype=np.bool_), vol, status)
    return Implied(vol, status)
