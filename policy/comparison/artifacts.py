"""The frames a comparison leaves, so that anyone can recompute its figures from trades, prices and gas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lake.tables import UTC_US
from lake.units import BPS
from policy.costs import gas_lines
from policy.simulation.history import History
from policy.simulation.planner import BandRule, Case, Portfolio, prepare
from policy.simulation.simulator import FEE, GAS, IMPACT, SQUARE, TRACKING, TRADES, Run, simulate
from policy.solvers import step_kernel

Columns = Mapping[str, npt.NDArray[Any]]
TEXT = pl.Categorical


def trade_columns(case: Case, run: Run) -> Columns:
    """Return the trades of ``run``, one row a trade and asset: step, weights, each asset's share of the cost in USD.

    Fee and impact are the asset's own; gas is split evenly over the assets that moved. Legs count the trade's swaps.
    """
    log = run.log
    assert log is not None
    n = len(case.columns)
    change = np.abs(log.after - log.before)
    moved = change > 0.0
    legs = np.maximum(moved.sum(axis=1) - 1, 1)
    nav, steps = case.portfolio.nav_usd, log.step
    base, leg = case.gas_base[steps], case.gas_leg[steps]
    gwei = case.history.gas_gwei[steps]
    if log.gas_gwei is not None:
        gwei = log.gas_gwei
        base, leg = (np.asarray(v) / nav for v in gas_lines(case.portfolio.fees, gwei, case.history.native_usd[steps]))
    gas = (base + leg * legs) / moved.sum(axis=1)
    return {
        "step": np.repeat(log.step.astype(np.int32), n),
        "asset": np.tile(case.columns.astype(np.int32), log.step.size),
        "weight_before": log.before.ravel(),
        "weight_after": log.after.ravel(),
        "gas_usd": (np.where(moved, gas[:, None], 0.0) * nav).ravel(),
        "fee_usd": (0.5 * case.fee * change * nav).ravel(),
        "impact_usd": (case.impact[log.step] * change**2 * nav).ravel(),
        "reason": np.repeat(log.reason.astype(np.int32), n),
        "legs": np.repeat(legs.astype(np.int32), n),
        "gas_gwei": np.repeat(gwei, n),
        "at_us": np.repeat(case.history.ts[steps] if log.at_us is None else log.at_us, n),
    }


def portfolio_frame(panel: Sequence[Portfolio]) -> pl.DataFrame:
    """Return one row a portfolio and asset: id, scenario, mandate, NAV, span, target, tolerance, gamma, chain."""
    rows = [
        {
            "portfolio_id": p.portfolio_id, "scenario": p.label or p.scenario, "mandate": p.scenario,
            "nav_usd": p.nav_usd, "start": p.start, "end": p.end, "asset": a, "target": float(p.target[i]),
            "tolerance": float(p.tolerance[i]), "gamma": p.gamma, "chain_id": p.fees.chain_id,
        }
        for p in panel
        for i, a in enumerate(p.assets)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"start": UTC_US, "end": UTC_US})


def trade_frame(
    history: History, panel: Sequence[Portfolio], outcomes: Sequence[tuple[int, str, Columns]]
) -> pl.DataFrame:
    """Return trades with ids, names, times, gas price and native coin, sorted by portfolio and policy."""
    kept = [(p, name, c) for p, name, c in outcomes if c["step"].size]
    names = sorted({name for _, name, _ in outcomes})
    if not kept:
        return pl.DataFrame(schema=_TRADE_SCHEMA)
    joined = {k: np.concatenate([c[k] for _, _, c in kept]) for k in kept[0][2]}
    sizes = [c["step"].size for _, _, c in kept]
    owner = np.repeat([p for p, _, _ in kept], sizes)
    policy = np.repeat([names.index(name) for _, name, _ in kept], sizes)
    step = joined["step"]
    return pl.DataFrame({
        "portfolio_id": _named([p.portfolio_id for p in panel], owner),
        "policy": _named(names, policy),
        "ts": pl.Series(joined["at_us"]).cast(UTC_US),
        "asset": _named(history.assets, joined["asset"]),
        **{k: joined[k] for k in ("weight_before", "weight_after", "gas_usd", "fee_usd", "impact_usd")},
        "reason": _named(step_kernel.REASONS, joined["reason"]),
        "legs": joined["legs"],
        "gas_gwei": joined["gas_gwei"],
        "native_usd": history.native_usd[step],
    })  # fmt: skip


_TRADE_SCHEMA: Mapping[str, Any] = {
    "portfolio_id": TEXT, "policy": TEXT, "ts": UTC_US, "asset": TEXT, "weight_before": pl.Float64,
    "weight_after": pl.Float64, "gas_usd": pl.Float64, "fee_usd": pl.Float64, "impact_usd": pl.Float64, "reason": TEXT,
    "legs": pl.Int32, "gas_gwei": pl.Float64, "native_usd": pl.Float64,
}  # fmt: skip


def _named(names: Sequence[str], index: npt.NDArray[Any]) -> pl.Series:
    """Return the names at ``index`` as a categorical column."""
    return pl.Series(list(names), dtype=pl.String).gather(pl.Series(index).cast(pl.UInt32)).cast(TEXT)


def weekly_frame(
    history: History, panel: Sequence[Portfolio], outcomes: Sequence[tuple[int, str, Run]]
) -> pl.DataFrame:
    """Return each portfolio's cost in bp of NAV spent in each calendar week (named by its Monday), by policy."""
    week = history.week()
    low, high = int(week[history.first]), int(week[-2]) + 1
    size = high - low
    values = np.concatenate([run.weekly[low:high] for _, _, run in outcomes])
    first = history.when(int(np.argmax(week == low)))
    monday = (first - timedelta(days=first.weekday())).replace(hour=0)
    return pl.DataFrame({
        "portfolio_id": _named([p.portfolio_id for p in panel], np.repeat([p for p, _, _ in outcomes], size)),
        "policy": pl.Series([name for _, name, _ in outcomes], dtype=TEXT).gather(
            np.repeat(np.arange(len(outcomes)), size)
        ),
        "week": pl.Series([monday + timedelta(weeks=w) for w in range(size)], dtype=UTC_US).gather(
            np.tile(np.arange(size), len(outcomes))
        ),
        "gas_bp": values[:, GAS] * BPS,
        "fee_bp": values[:, FEE] * BPS,
        "impact_bp": values[:, IMPACT] * BPS,
        "tracking_bp": values[:, TRACKING] * BPS,
        "tracking_square": values[:, SQUARE],
        "trades": values[:, TRADES].astype(np.int32),
    })  # fmt: skip


def series_frame(history: History, panel: Sequence[Portfolio], rules: Sequence[BandRule]) -> pl.DataFrame:
    """Return the hourly story of one example portfolio a mandate (the first of four assets or the largest), by policy.

    Columns: portfolio_id, policy, step (decision index), ts, gas_gwei, distance (max abs weight less target), cost_bp
    (cumulative gas, fee and impact), tracking_bp (cumulative), traded, and weights as a list.
    """
    frames = []
    for scenario in ("soft", "hard"):
        some = [p for p in panel if p.scenario == scenario]
        if some:
            example = min(some, key=lambda p: (abs(len(p.assets) - 4), p.nav_usd))
            case = prepare(history, example)
            frames += [_story(case, rule) for rule in rules]
    return pl.concat(frames)


def _story(case: Case, rule: BandRule) -> pl.DataFrame:
    run = simulate(case, rule.levels_over(case), case.history.week(), path=True)
    assert run.log is not None
    assert run.path is not None
    span = slice(case.first, case.last)
    columns = trade_columns(case, run)
    spent = np.zeros(len(case.history.ts))
    usd = columns["gas_usd"] + columns["fee_usd"] + columns["impact_usd"]
    np.add.at(spent, columns["step"], usd / case.portfolio.nav_usd)
    weights = run.path[span]
    held = run.path.copy()
    held[run.log.step] = run.log.after
    difference = np.sum((held[span] - case.portfolio.target) * case.returns[span], axis=1)  # rows outside hold nothing
    traded = np.zeros(len(case.history.ts), dtype=np.bool_)
    traded[run.log.step] = True
    return pl.DataFrame({
        "portfolio_id": pl.Series([case.portfolio.portfolio_id]).new_from_index(0, weights.shape[0]),
        "policy": pl.Series([rule.name]).new_from_index(0, weights.shape[0]),
        "step": np.arange(weights.shape[0]),
        "ts": pl.Series(case.history.ts[span]).cast(UTC_US),
        "gas_gwei": case.history.gas_gwei[span],
        "distance": np.abs(weights - case.portfolio.target).max(axis=1),
        "cost_bp": np.cumsum(spent[span]) * BPS,
        "tracking_bp": np.cumsum(0.5 * case.portfolio.gamma * difference**2) * BPS,
        "traded": traded[span],
        "weights": pl.Series(np.ascontiguousarray(weights)).cast(pl.List(pl.Float64)),
    })  # fmt: skip
