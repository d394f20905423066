"""The gas process and the market's speed, learnt from the past: what the dynamic programme takes expectations over.

Log gas (USD) = level + profile(hour of week) + slow + white. The profile is a shrunk, faded mean of deviations from
the running week; the variances of slow and white are fitted to the autocovariance; the state is filtered with
clipped surprises, so one spike does not move the level. Everything at t uses gas up to t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from policy.base import Matrix, Vector
from policy.simulation.history import History, Ints
from policy.solvers.dynamic_program import WEEK_H, GasChain

REFIT_H = 7 * 24
PAST_H = 21 * 24
LEVEL_HALF_LIFE_H = 1440.0  # regimes last months: what reverts slower than this is no reason to wait
SLOW_HALF_LIFE_H = 24.0
SLOW_NODES = 5
WHITE_NODES = 5
SPEEDS = (0.35, 1.2, 4.0, 16.0)
SPEED_HALF_LIFE_H = 36.0  # of a burst of volatility
SPEED_SPREAD = 0.8  # standing deviation of log speed
FAST_H, MEDIUM_H = 8.0, 48.0  # half-lives of the speed estimate
SPEED_WEIGHTS = (0.5, 0.3, 0.2)  # fast, medium, usual
CLIP = 2.5
FADE_H = 60 * 24.0
PHI = 0.5 ** (1.0 / np.array([SLOW_HALF_LIFE_H, LEVEL_HALF_LIFE_H]))
LAGS = np.array([0, 1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 36, 48, 60, 72, 96, 120, 168, 240])


@dataclass(frozen=True, slots=True)
class GasFit:
    """A chain learnt from the past of one moment, with what filters its state afterwards."""

    chain: GasChain
    log_profile: Vector  # (168,)
    mean: float
    gain: Vector  # (2,)
    sd: float
    level: float  # filtered, at the moment of the fit


@dataclass(frozen=True, slots=True)
class Window:
    """A fit, the steps it is used for, and the filtered log deviation of gas from its level there."""

    first: int
    last: int
    fit: GasFit
    slow: Vector


def profile_of(log_gas: Vector, hour: Ints) -> Vector:
    """Return (168,) log gas by hour of the week, centred: hour of day plus day of week, shrunk towards flat."""
    n = log_gas.size
    total = np.cumsum(np.insert(log_gas, 0, 0.0))
    i = np.arange(n)
    a, b = np.maximum(i - WEEK_H // 2, 0), np.minimum(i + WEEK_H // 2 + 1, n)
    away = np.clip(log_gas - (total[b] - total[a]) / (b - a), -1.5, 1.5)
    weight = 0.5 ** ((n - 1 - i) / FADE_H)
    of_day, of_week = hour % 24, hour // 24
    day = np.bincount(of_day, weight * away, 24) / (np.bincount(of_day, weight, 24) + 5.0)
    day = 0.5 * day + 0.25 * (np.roll(day, 1) + np.roll(day, -1))
    rest = away - day[of_day]
    week = np.bincount(of_week, weight * rest, 7) / (np.bincount(of_week, weight, 7) + 24.0)
    out = day[np.arange(WEEK_H) % 24] + week[np.arange(WEEK_H) // 24]
    return np.asarray(out - out.mean(), dtype=np.float64)


def variances(rest: Vector) -> Vector:
    """Return the (3,) variances of white, slow and level that fit the autocovariance of ``rest``, each at least 3 %."""
    x = np.clip(rest, *np.quantile(rest, [0.005, 0.995]))
    x = x - x.mean()
    lags = LAGS[x.size > 3 * LAGS]
    have = np.array([float((x[lag:] * x[: x.size - lag]).mean()) for lag in lags])
    basis = np.column_stack([(lags == 0) * 1.0, 0.5 ** (lags / SLOW_HALF_LIFE_H), 0.5 ** (lags / LEVEL_HALF_LIFE_H)])
    from scipy.optimize import nnls  # a third of a second, for who fits a process

    found, _ = nnls(basis, have)
    return np.asarray(np.maximum(found, 0.03 * max(have[0], 1e-6)), dtype=np.float64)


def gains(variance: Vector) -> tuple[Vector, float]:
    """Return the (2,) steady gains of slow and level on a surprise, and the surprise's deviation."""
    noise = np.diag(variance[1:] * (1.0 - PHI**2))
    P = np.diag(variance[1:])
    spread, gain = 1.0, np.zeros(2)
    for _ in range(2000):
        P = PHI[:, None] * P * PHI[None, :] + noise
        spread = float(P.sum() + variance[0])
        before, gain = gain, P.sum(axis=1) / spread
        P = P - np.outer(gain, P.sum(axis=0))
        if np.abs(gain - before).max() < 1e-10:
            break
    return gain, float(np.sqrt(spread))


@njit(cache=True, nogil=True)
def track(rest: Vector, phi: Vector, gain: Vector, sd: float) -> Matrix:
    """Return (T, 3) slow, level and standardised surprise of each hour; surprises count up to CLIP deviations."""
    out = np.empty((rest.size, 3))
    slow, level = 0.0, 0.0
    for t in range(rest.size):
        slow, level = slow * phi[0], level * phi[1]
        error = rest[t] - slow - level
        used = min(max(error, -CLIP * sd), CLIP * sd)
        slow, level = slow + gain[0] * used, level + gain[1] * used
        out[t, 0], out[t, 1], out[t, 2] = slow, level, error / sd
    return out


def walk(nodes: Vector, phi: float, sd: float) -> Matrix:
    """Return the hourly transition, one-step moves on evenly spaced ``nodes``, of an AR(1) with coefficient ``phi``."""
    n, dx = nodes.size, nodes[1] - nodes[0]
    var = sd**2 * (1.0 - phi**2)
    out = np.zeros((n, n))
    for i in range(n):
        drift = -(1.0 - phi) * nodes[i]
        if i < n - 1:
            out[i, i + 1] = min(max(0.5 * (var / dx**2 + drift / dx), 0.0), 0.45)
        if i > 0:
            out[i, i - 1] = min(max(0.5 * (var / dx**2 - drift / dx), 0.0), 0.45)
        out[i, i] = 1.0 - out[i].sum()
    return out


def fit(log_gas: Vector, hour: Ints) -> GasFit:
    """Return the chain learnt from (T,) log gas prices (USD) of consecutive hours, ``hour`` their hour of the week."""
    log_profile = profile_of(log_gas, hour)
    rest = log_gas - log_profile[hour]
    mean = float(rest.mean())
    variance = variances(rest)
    gain, sd = gains(variance)
    state = track(rest - mean, PHI, gain, sd)
    surprise = state[min(96, rest.size // 4) :, 2]
    surprise = surprise / max(float(surprise.std()), 1e-9) * np.sqrt(variance[0])
    groups = np.array_split(np.sort(surprise), WHITE_NODES)
    white = np.array([float(np.exp(np.clip(g, -4.0, 4.0)).mean()) for g in groups])
    slow_sd = float(np.sqrt(variance[1]))
    slow = np.linspace(-1.8, 1.8, SLOW_NODES) * slow_sd
    log_speed = np.log(np.array(SPEEDS))
    speed_phi = 0.5 ** (1.0 / SPEED_HALF_LIFE_H)
    level = float(state[-1, 1])
    chain = GasChain(
        usual=float(np.exp(mean + level)),
        profile=np.exp(log_profile),
        slow=slow,
        slow_move=walk(slow, float(PHI[0]), slow_sd),
        white=white,
        speed=np.array(SPEEDS),
        speed_move=walk(log_speed, speed_phi, SPEED_SPREAD),
    )
    return GasFit(chain, log_profile, mean, gain, sd, level)


def slow_of(found: GasFit, log_gas: Vector, hour: Ints) -> Vector:
    """Return (T,) the filtered log deviation of gas from the fit's level, hour by hour, white part removed."""
    state = track(log_gas - found.log_profile[hour] - found.mean, PHI, found.gain, found.sd)
    return np.asarray(state[:, 0] + state[:, 1] - found.level)


def index_in(grid: Vector, value: Vector) -> Vector:
    """Return fractional indices of ``value`` in an increasing ``grid``, clipped to it."""
    return np.asarray(np.interp(value, grid, np.arange(grid.size, dtype=np.float64)))


def speeds(square: Vector) -> Vector:
    """Return (T,) speed of the market: faded means of ``square``, hourly squared returns over their usual variance."""
    out = np.full(square.size, SPEED_WEIGHTS[2])
    for half_life, weight in ((FAST_H, SPEED_WEIGHTS[0]), (MEDIUM_H, SPEED_WEIGHTS[1])):
        out += weight * faded(np.minimum(square, 400.0), 0.5 ** (1.0 / half_life))
    return out


@njit(cache=True, nogil=True)
def faded(values: Vector, decay: float) -> Vector:
    """Return the exponentially faded mean of ``values``, starting at 1."""
    out = np.empty(values.size)
    mean = 1.0
    for t in range(values.size):
        mean = decay * mean + (1.0 - decay) * values[t]
        out[t] = mean
    return out


def hours_of_week(ts: Ints) -> Ints:
    """Return the hour of the week (Monday 00:00 UTC is 0) of microseconds since 1970."""
    return np.asarray((ts // 3_600_000_000 + 72) % WEEK_H, dtype=np.int64)


def windows(history: History) -> tuple[Window, ...]:
    """Return chains refitted every REFIT_H hours over the past and the comparison, each from gas known at its start.

    One begins at ``history.first``. None before PAST_H hours of gas: a weekly profile is not learnt from less.
    """
    log_gas = np.log(np.maximum(history.gas_gwei, 1e-9) * history.native_usd * 1e-9)
    hour = hours_of_week(history.ts)
    known, steps = history.gas_known, len(history.ts)
    begin = known + PAST_H
    begin += max(history.first - begin, 0) % REFIT_H
    out = []
    for first in range(begin, steps, REFIT_H):
        last = min(first + REFIT_H, steps)
        found = fit(log_gas[known : first + 1], hour[known : first + 1])
        out.append(Window(first, last, found, slow_of(found, log_gas[known:last], hour[known:last])[first - known :]))
    return tuple(out)
