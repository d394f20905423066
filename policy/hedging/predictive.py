"""hedge_predictive: the gas band, waiting for cheaper gas where its forecast pays for the wait and has earned trust.

The forecast of log gas h hours ahead is its hour of day's usual deviation from the week's level, and what remains of
today's surprise after h hours; both are of the past only. Waiting h hours at x costs ``gamma vol^2 x^2 h / 2``, h in
years, so a trade now must be worth more than the best saving: outer rises to where the two meet. Evidence decides: week
by week the rule is run in the shadow of the gas band, and is used only while its past weekly gain is above zero by
``ERRORS`` standard errors over at least ``LEAST_WEEKS`` weeks. Else it is the gas band.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from policy.base import Bools, Vector
from policy.hedging.case import YEAR_H, HedgeCase
from policy.hedging.ledger import WEEK_H, run
from policy.hedging.strategies import Band, hedge_gas_band

AHEAD_H = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
REMAINS = 0.83  # of a surprise in log gas after an hour: its autocorrelation on recorded gas is 0.80 to 0.86
LEAST_WEEKS = 8
ERRORS = 3.0  # standard errors: no harm comes before gain, as foresight itself is worth a few per cent
MEMORY_D = 28


def expected_gas(gas: Vector, step_h: float) -> Vector:
    """Return (len(AHEAD_H), T) the gas expected so many hours after each step, from ``gas`` (T,) up to it.

    Nothing is expected (nan) in the first week, and of an hour of day that has no past yet.
    """
    day, week = round(24 / step_h), round(WEEK_H / step_h)
    level = pl.Series(np.log(gas)).rolling_mean(week, min_samples=week).to_numpy()
    off = np.log(gas) - level
    steps = np.arange(gas.size)
    usual = np.full(gas.size, np.nan)  # of the step's own hour of day, over the days before
    for phase in range(day):
        own = off[phase::day]
        usual[phase::day] = pl.Series(own).fill_nan(None).shift(1).rolling_mean(MEMORY_D, min_samples=7).to_numpy()
    out = np.full((len(AHEAD_H), gas.size), np.nan)
    for i, hours in enumerate(AHEAD_H):
        ahead = max(round(hours / step_h), 1)
        # the hour of day that comes was last seen a day before it: known now, as ahead is under a day
        seen = steps + ahead - day
        then = np.where(seen >= 0, usual[np.maximum(seen, 0)], np.nan)
        out[i] = np.exp(level + then + REMAINS**hours * (off - usual))
    return out


def waiting_band(case: HedgeCase, gamma: float) -> Band:
    """The gas band, widened to where waiting for the best expected gas costs what it saves; never beyond twice it."""
    band = hedge_gas_band(case, gamma)
    saved = case.costs.gas - expected_gas(case.costs.gas, case.step_h)
    hours = np.array(AHEAD_H)[:, None]
    worth = np.nan_to_num(2.0 * np.maximum(saved, 0.0) * YEAR_H / (gamma * case.vol**2 * hours), nan=0.0)
    return Band(np.clip(np.sqrt(worth.max(axis=0)), band.outer, 2.0 * band.outer), band.inner)


def trusted(mine: Vector, base: Vector) -> Bools:
    """Return (W,) whether the weeks before each one show that ``mine`` (W,) costs less than ``base`` (W,)."""
    gains = base - mine
    out = np.zeros(gains.size, dtype=np.bool_)
    for week in range(LEAST_WEEKS, gains.size):
        past = gains[:week]
        out[week] = past.mean() > ERRORS * past.std(ddof=1) / np.sqrt(week)
    return out


def hedge_predictive(case: HedgeCase, gamma: float, first: int) -> Band:
    """Waiting for cheaper gas in the weeks from step ``first`` on that past evidence trusts, else the gas band."""
    base, waiting = hedge_gas_band(case, gamma), waiting_band(case, gamma)
    shadow = [run(case, band, first).objective(gamma) for band in (waiting, base)]
    weeks = np.repeat(trusted(*shadow), round(WEEK_H / case.step_h))[: case.price.size - first]
    use = np.zeros(case.price.size, dtype=np.bool_)
    use[first : first + weeks.size] = weeks
    return Band(np.where(use, waiting.outer, base.outer), base.inner)
