"""What the gas forecasts say and what they have been worth: the outlook of the predictive policy.

The gas process foretells gas by itself. Issued forecasts move what it says, its slow state and the least gas to come,
by the share of what they say beyond it that outcomes have shown to be right, two standard errors taken off: without
skill they move nothing, and what is left is the process (``of_process``). Trust, none to full, is in the result: how
far the mean absolute log error of its path lies below that of "gas stays as it is" over the last TRUST_H hours and
JUDGED_H, in standard errors of daily sums: none at one, full at two. The skill
dial replaces recorded forecasts by ``skill x truth + (1 - skill) x noise`` in log gas, noise being gas of another,
random past hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from lake.errors import ConfigError
from lake.store import Lake
from policy.base import ForecastView, Matrix, Vector
from policy.simulation.history import History, Ints
from policy.strategies.gas_process import PHI, Window, hours_of_week
from policy.strategies.gas_tilt import MINIMA_H, Tilt, chain_minima, minima_shares, of_minima, true_minima
from policy.strategies.proven import LEAST_H, proven_slope

HORIZONS_H = (1, 2, 4, 8, 12, 24, 48)
JUDGED_H = (4, 8, 12, 24)  # horizons a decision to wait rests on
TRUST_H = 30 * 24
LIFE_H = 6  # an older forecast is no forecast


@dataclass(frozen=True, slots=True)
class Outlook:
    """(T,) slow state and trust over the history's steps, with the gas windows they belong to."""

    windows: tuple[Window, ...]
    slow: Vector
    trust: Vector
    earned: Vector  # (T,) trust as far as outcomes go, whether or not there is a fresh forecast
    shares: Vector  # (windows,) of what the forecasts say beyond the chain's own filter, see ``shares``
    tilt: Tilt  # how dear each hour is
    least: Matrix  # (T, 2) log gwei the process's own view of the least gas to come
    least_shares: Matrix  # (windows, 2) of what the forecasts of the least gas say beyond it


def silent(forecasts: ForecastView) -> str | None:
    """Return why ``forecasts`` say nothing about gas, None when they do."""
    gas = [f for (target, _, _), f in forecasts.items() if target == "gas"]
    if not gas:
        return "there is no gas forecast"
    quiet = [f for f in gas if f.abstain]
    if len(quiet) == len(gas):
        return f"gas forecasts abstain ({quiet[0].reason})"
    return None


def handed(forecasts: ForecastView) -> Vector:
    """Return (H,) log gwei medians of the gas forecasts handed over, NaN where there is none or it abstains."""
    out = np.full(len(HORIZONS_H), np.nan)
    for (target, _, horizon_s), f in forecasts.items():
        value = f.mean if f.quantiles is None else f.quantiles[2]
        if target == "gas" and horizon_s % 3600 == 0 and horizon_s // 3600 in HORIZONS_H and not f.abstain and value:
            out[HORIZONS_H.index(horizon_s // 3600)] = np.log(value)
    return out


def fresh(values: Matrix) -> npt.NDArray[np.bool_]:
    """Return whether every horizon that a decision to wait rests on has a forecast; (..., H) to (...,)."""
    return np.asarray(np.isfinite(values[..., [HORIZONS_H.index(h) for h in JUDGED_H]]).all(axis=-1))


def outlook_of(
    history: History,
    lake: Lake,
    chain_id: int,
    skill: float | None,
    seed: int,
    windows: tuple[Window, ...],
) -> Outlook:
    """Return the outlook from the lake's forecasts, or from dialled ones when ``skill`` (0..1) is given."""
    if skill is None:
        values = recorded(history, lake, chain_id)
        minima = recorded(history, lake, chain_id, "gas_min", MINIMA_H)
    elif 0.0 <= skill <= 1.0:
        values = dialled(history, skill, seed)
        minima = dialled_minima(history, skill, seed)
    else:
        raise ConfigError(f"the skill dial takes 0 to 1, got {skill}")
    return of_values(history, values, windows, minima)


def of_values(history: History, values: Matrix, windows: tuple[Window, ...], minima: Matrix | None = None) -> Outlook:
    """Return the outlook of (T, H) log gwei forecasts and of (T, 2) ``minima`` (see ``gas_tilt``; None: none)."""
    share = shares(history, values, windows)
    slow = slow_states(history, values, windows, share)
    earned = earnings(history, np.where(fresh(values)[:, None], path(history, windows, slow), np.nan))
    own = chain_minima(history, windows)
    said = np.full((len(history.ts), len(MINIMA_H)), np.nan) if minima is None else minima
    least_share = minima_shares(history, own, said, windows)
    tilt = of_minima(history, own, said, windows, least_share)
    return Outlook(windows, slow, np.where(fresh(values), earned, 0.0), earned, share, tilt, own, least_share)


def of_process(history: History, windows: tuple[Window, ...]) -> Outlook:
    """Return the outlook of the gas process alone, as if no forecast were ever issued."""
    slow = slow_states(history, np.full((len(history.ts), len(HORIZONS_H)), np.nan), windows, np.zeros(len(windows)))
    return of_values(history, path(history, windows, slow), windows, chain_minima(history, windows))


def path(history: History, windows: Sequence[Window], slow: Vector) -> Matrix:
    """Return (T, H) log gwei that the gas process foretells from (T,) slow states; NaN where it is not learnt."""
    out = np.full((len(history.ts), len(HORIZONS_H)), np.nan)
    hour, coin = hours_of_week(history.ts), np.log(history.native_usd * 1e-9)
    for w in windows:
        part = slice(w.first, w.last)
        usual = np.log(w.fit.chain.usual) - coin[part]
        for i, h in enumerate(HORIZONS_H):
            out[part, i] = usual + w.fit.log_profile[(hour[part] + h) % 168] + slow[part] * PHI[0] ** h
    return out


def recorded(
    history: History, lake: Lake, chain_id: int, target: str = "gas", horizons_h: Sequence[int] = HORIZONS_H
) -> Matrix:
    """Return (T, H) log gwei forecast medians in force at each step, NaN where none is fresh or all abstain."""
    out = np.full((len(history.ts), len(horizons_h)), np.nan)
    start, end = history.when(0), history.when(len(history.ts) - 1)
    rows = (
        lake.scan("forecasts")
        .filter(
            (pl.col("target") == target)
            & (pl.col("key") == str(chain_id))
            & pl.col("available_at").is_between(start, end)
            & pl.col("horizon_s").is_in([h * 3600 for h in horizons_h])
        )
        .select("available_at", "horizon_s", "abstain", value=pl.coalesce("q50", "mean"))
        .sort("available_at")
        .collect()
    )
    grid = pl.DataFrame({"step": np.arange(len(history.ts))}).with_columns(
        t=pl.from_epoch(pl.Series(history.ts), time_unit="us").dt.replace_time_zone("UTC")
    )
    for i, horizon in enumerate(horizons_h):
        own = rows.filter(pl.col("horizon_s") == horizon * 3600)
        if own.is_empty():
            continue
        joined = grid.join_asof(own, left_on="t", right_on="available_at", strategy="backward", tolerance=f"{LIFE_H}h")
        value = joined.select(pl.when(pl.col("abstain")).then(None).otherwise(pl.col("value")).alias("v"))["v"]
        with np.errstate(invalid="ignore", divide="ignore"):
            out[:, i] = np.log(value.cast(pl.Float64).fill_null(float("nan")).to_numpy())
    return out


def dialled(history: History, skill: float, seed: int) -> Matrix:
    """Return (T, H) log gwei ``skill x truth + (1 - skill) x noise``; truth beyond the end is the last value."""
    log_gas = np.log(np.maximum(history.gas_gwei, 1e-9))
    steps = np.arange(log_gas.size)
    rng = np.random.default_rng(seed)
    known = history.gas_known
    other = known + (rng.random((log_gas.size, len(HORIZONS_H))) * np.maximum(steps - known, 1)[:, None]).astype(int)
    truth = np.column_stack([log_gas[np.minimum(steps + h, log_gas.size - 1)] for h in HORIZONS_H])
    return np.asarray(skill * truth + (1.0 - skill) * log_gas[other])


def dialled_minima(history: History, skill: float, seed: int) -> Matrix:
    """Return (T, 2) log gwei ``skill x truth + (1 - skill) x noise`` of the least gas; noise is another past hour."""
    truth, known = true_minima(history), history.gas_known
    steps = np.arange(len(history.ts))
    rng = np.random.default_rng((seed, 1))
    other = known + (rng.random(steps.size) * np.maximum(steps - known - max(MINIMA_H), 1)).astype(int)
    return np.asarray(skill * truth + (1.0 - skill) * truth[other])


def slow_states(history: History, values: Matrix, windows: Sequence[Window], share: Vector) -> Vector:
    """Return (T,) slow states: the chain's filter, moved towards what fits the forecasts by ``share`` (windows,)."""
    out = np.zeros(len(history.ts))
    for w, part_of in zip(windows, share, strict=True):
        part = slice(w.first, w.last)
        out[part] = leant(w.slow, fitted_states(history, values, w), float(part_of))
    return out


def leant(slow: Vector, fitted: Vector, share: float) -> Vector:
    """Return the filter's states moved by ``share`` of the way to the fitted ones, where there are any."""
    return np.asarray(slow + share * np.nan_to_num(fitted - slow))


def shares(history: History, values: Matrix, windows: Sequence[Window]) -> Vector:
    """Return (windows,) the share of what the forecasts say that each window takes, learnt from all steps before it.

    A state ``slow`` foretells ``slow phi^h`` above the level and profile at horizon h; ``fitted`` inverts that by
    least squares. The share of a window is the slope, within 0..1, of what the filter missed (the state fitted to the
    gas that came, known after the longest horizon) on what the forecasts said it missed, as far as all steps before
    prove it (``proven``).
    """
    log_gas = np.log(np.maximum(history.gas_gwei, 1e-9))
    steps = log_gas.size
    truth = np.full_like(values, np.nan)
    for i, h in enumerate(HORIZONS_H):
        truth[: steps - h, i] = log_gas[h:]
    out, (said, missed, slow) = np.zeros(len(windows)), np.zeros((3, steps))
    for i, w in enumerate(windows):
        part = slice(w.first, w.last)
        said[part] = fitted_states(history, values, w) - w.slow
        missed[part] = fitted_states(history, truth, w) - w.slow
        slow[part] = w.slow
        known = slice(0, max(0, w.first - HORIZONS_H[-1]))
        out[i] = proven_slope(said[known], missed[known], slow[known])
    return out


def fitted_states(history: History, values: Matrix, window: Window) -> Vector:
    """Return the states of ``window`` that fit ``values`` (T, H) log gwei best; nan where there is none."""
    part = slice(window.first, window.last)
    hour = hours_of_week(history.ts)[part]
    return fit_state(values[part], hour, history.native_usd[part], window.fit.chain.usual, window.fit.log_profile)


def fit_state(values: Matrix, hour: Ints, native_usd: Vector, usual: float, log_profile: Vector) -> Vector:
    """Return (t,) the states that fit ``values`` (t, H) log gwei at hours of the week ``hour`` best; nan without any.

    ``usual`` is the level in USD per unit of gas, ``log_profile`` (168,) the season above it.
    """
    fade = np.array([PHI[0] ** h for h in HORIZONS_H])
    shift = np.log(native_usd[:, None] * 1e-9) - np.log(usual)
    profile = np.column_stack([log_profile[(hour + h) % 168] for h in HORIZONS_H])
    rest = values + shift - profile
    here = np.isfinite(rest)
    weight = np.where(here, fade, 0.0)
    total = np.sum(weight * np.where(here, rest, 0.0), axis=1)
    found = total / np.maximum(np.sum(weight * fade, axis=1), 1e-12)
    return np.where(here.any(axis=1), found, np.nan)


def earnings(history: History, values: Matrix) -> Vector:
    """Return (T,) trust in 0..1 that forecasts have earned by their outcomes; 0 where there are too few of them."""
    log_gas = np.log(np.maximum(history.gas_gwei, 1e-9))
    steps = log_gas.size
    loss, number = np.zeros(steps), np.zeros(steps)
    for h in JUDGED_H:
        i = HORIZONS_H.index(h)
        said = values[: steps - h, i]
        seen = np.isfinite(said)
        error = np.abs(np.where(seen, said, log_gas[h:]) - log_gas[h:])
        loss[h:] += np.where(seen, error - np.abs(log_gas[: steps - h] - log_gas[h:]), 0.0)
        number[h:] += seen
    summed = _trailing(loss, TRUST_H)
    spread = np.sqrt(_trailing(_trailing(loss, 24) ** 2, TRUST_H) / 24.0)
    trust = np.clip(-summed / np.maximum(spread, 1e-12) - 1.0, 0.0, 1.0)
    return np.where(_trailing(number, TRUST_H) >= LEAST_H * len(JUDGED_H), trust, 0.0)


def _trailing(values: Vector, width: int) -> Vector:
    total = np.cumsum(np.concatenate([[0.0], values]))
    stop = np.arange(1, values.size + 1)
    return np.asarray(total[stop] - total[np.maximum(stop - width, 0)])
