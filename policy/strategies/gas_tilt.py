"""How dear an hour is: gas against its own week, and against the cheapest hour that forecasts see coming.

Three logs: of gas over its mean of the last week (R), and over the median forecast of the least gas within 4 and within
24 hours (Q4, Q24), each less its own mean so far. Their sum tilts a soft mandate's trigger (``experts``). For steps
before the first issued forecast the gas process itself says what the least gas will be, so that there is a past to
learn from; a decision takes issued forecasts only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policy.base import ForecastView, Matrix, State, Vector
from policy.simulation.history import History
from policy.simulation.planner import usual_gwei
from policy.strategies.gas_process import SLOW_HALF_LIFE_H, Window, hours_of_week
from policy.strategies.proven import proven_slope
from policy.strategies.reactive import centred, gas_of_week, running_mean

MINIMA_H = (4, 24)


@dataclass(frozen=True, slots=True)
class Tilt:
    """What is known of how dear each of T steps is.

    ``relative`` (T,) is R and ``dear`` (T,) the sum of R, Q4 and Q24, all less their ``means`` (T, 3); ``issued`` (T,)
    says where both minima are fresh forecasts.
    """

    relative: Vector
    dear: Vector
    issued: npt.NDArray[np.bool_]
    means: Matrix


def of_minima(history: History, own: Matrix, minima: Matrix, windows: Sequence[Window], shares: Matrix) -> Tilt:
    """Return the tilt from (T, 2) log gwei forecasts of the least gas within MINIMA_H, NaN where none is fresh.

    They move the process's ``own`` view (T, 2) by their (windows, 2) ``shares``.
    """
    log_gas = np.log(np.maximum(history.gas_gwei, 1e-9))
    issued = np.asarray(np.isfinite(minima).all(axis=1), dtype=np.bool_)
    share = np.zeros_like(own)
    for w, part_of in zip(windows, shares, strict=True):
        share[w.first : w.last] = part_of
    least = leant_minima(own, minima, share)
    terms = np.column_stack([gas_of_week(history), log_gas[:, None] - least])
    known = history.gas_known
    means = np.column_stack([running_mean(term, known) for term in terms.T])
    level = np.column_stack([centred(term, known) for term in terms.T])
    return Tilt(level[:, 0], level.sum(axis=1), issued, means)


def leant_minima(own: Matrix, minima: Matrix, share: Matrix) -> Matrix:
    """Return ``own`` moved by ``share`` of the way to ``minima``, where there are any; log gwei, all of one shape."""
    return np.asarray(own + share * np.nan_to_num(minima - own))


def minima_shares(history: History, own: Matrix, minima: Matrix, windows: Sequence[Window]) -> Matrix:
    """Return (windows, 2) the share of what ``minima`` say beyond ``own`` that outcomes before each window prove."""
    missed, said = true_minima(history) - own, minima - own
    fall = own - np.log(np.maximum(history.gas_gwei, 1e-9))[:, None]
    out = np.zeros((len(windows), len(MINIMA_H)))
    for i, w in enumerate(windows):
        for j, h in enumerate(MINIMA_H):
            known = slice(0, max(0, w.first - h))
            out[i, j] = proven_slope(said[known, j], missed[known, j], fall[known, j])
    return out


def true_minima(history: History) -> Matrix:
    """Return (T, 2) log gwei the least gas of the next MINIMA_H hours; beyond the end the last value."""
    log_gas = np.log(np.maximum(history.gas_gwei, 1e-9))
    ahead = np.concatenate([log_gas, np.full(max(MINIMA_H), log_gas[-1])])
    view = np.lib.stride_tricks.sliding_window_view(ahead[1:], max(MINIMA_H))[: log_gas.size]
    return np.column_stack([view[:, :hours].min(axis=1) for hours in MINIMA_H])


def chain_minima(history: History, windows: Sequence[Window]) -> Matrix:
    """Return (T, 2) log gwei the gas process's own view of the least gas within MINIMA_H, NaN before it is learnt.

    The least of the process's means lies above the mean of the least: the mean of what was missed, known once those
    hours are over, is taken off.
    """
    log_gas = np.log(np.maximum(history.gas_gwei, 1e-9))
    hour, coin = hours_of_week(history.ts), np.log(history.native_usd * 1e-9)
    out = np.full((log_gas.size, len(MINIMA_H)), np.nan)
    for w in windows:
        part = slice(w.first, w.last)
        usual = np.log(w.fit.chain.usual) - coin[part]
        least = np.full(w.last - w.first, np.inf)
        for h in range(1, max(MINIMA_H) + 1):
            fade = 0.5 ** (h / SLOW_HALF_LIFE_H)
            least = np.minimum(least, usual + w.fit.log_profile[(hour[part] + h) % 168] + w.slow * fade)
            if h in MINIMA_H:
                out[part, MINIMA_H.index(h)] = least
    truth = true_minima(history)
    for i, h in enumerate(MINIMA_H):
        missed = running_mean(out[:, i] - truth[:, i])
        known = np.concatenate([np.zeros(h), missed[:-h]])[: log_gas.size]
        out[:, i] -= known
    return out


def handed_minima(forecasts: ForecastView) -> Vector:
    """Return (2,) log gwei medians of the least gas within MINIMA_H handed over; NaN for none or an abstaining one."""
    out = np.full(len(MINIMA_H), np.nan)
    for (target, _, horizon_s), f in forecasts.items():
        value = f.mean if f.quantiles is None else f.quantiles[2]
        if target == "gas_min" and horizon_s % 3600 == 0 and horizon_s // 3600 in MINIMA_H and not f.abstain and value:
            out[MINIMA_H.index(horizon_s // 3600)] = np.log(value)
    return out


def dearness(state: State, minima: Vector, means: Vector) -> tuple[float, float]:
    """Return (relative, dear) of ``state``, as ``Tilt`` has them at that step; ``dear`` is NaN without minima."""
    now = np.log(max(state.market.gas_gwei, 1e-9))
    relative = float(np.log(max(state.market.gas_gwei, 1e-9) / max(usual_gwei(state), 1e-9)) - means[0])
    return relative, float(relative + np.sum(now - minima - means[1:]))
