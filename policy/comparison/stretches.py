"""Evidence on several stretches of history at once: one path with one set of starts says little.

On each stretch the panel's baskets run twice: on mirrored paths (the luck of trends averaged out, what is left at the
end counted at its cost-to-go), and on the recorded path from STARTS starts. Ratios are given by stretch and pooled,
weeks being drawn within their stretch. ``families`` of forecasts are judged by the ratio of the predictive policy with
to without each, on the same baskets and paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import numpy as np

from lake.errors import ConfigError
from lake.store import Lake
from policy.base import Vector
from policy.comparison.bootstrap import counts, ratio
from policy.comparison.compare import Progress, learn, over_threads
from policy.costs import impact_per_square
from policy.names import BANDS, BASELINE, CLAIMANT
from policy.simulation.history import History, Ints, load
from policy.simulation.panel import portfolios
from policy.simulation.planner import NEVER, BandRule, Case, Portfolio, Schedule, prepare
from policy.simulation.simulator import GAS, TRACKING, simulate
from policy.strategies.experts import before, cost_to_go, mirrored
from policy.strategies.forecast_covariance import with_forecasts
from policy.strategies.gas_outlook import of_process
from policy.strategies.gas_process import windows
from policy.strategies.predictive import Predictive
from policy.strategies.registry import CompareConfig, planners

FAMILIES = ("gas", "drift", "slippage")
RIVALS = tuple(n for n in BANDS if n != "band")  # the constant band is no rival: the others beat it
PATHS = 8  # mirrored, of a basket
STARTS = 30  # of the recorded path
SPREAD_H = 30 * 24  # hours over which starts lie, at most half of the stretch
WAYS = ("mirrored", "recorded")
Cell = tuple[str, float]
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class BasketCosts:
    """What one basket cost: (plans, weeks) by way, and before the stretch by plan; ``names`` are those of the plans."""

    cell: Cell
    names: tuple[str, ...]
    weekly: Mapping[str, Vector]
    past: Mapping[str, float]


def run(
    lake: Lake, config: CompareConfig, spans: Sequence[Span], families: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, object]:  # fmt: skip
    """Return the evidence of ``spans`` as plain data: ``windows``, ``ratios`` of predictive to rivals, ``ablation``.

    Raises ConfigError for unknown families, NotEnoughData where a span has no prices or gas.
    """
    unknown = [f for f in families if f not in FAMILIES]
    if unknown:
        raise ConfigError(f"there is no family {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    found = [
        _stretch(lake, replace(config, start=s, end=e, policies=(*RIVALS, CLAIMANT), starts=1), families, progress)
        for s, e in spans
    ]
    cells = list(dict.fromkeys(c.cell for costs, _ in found for c in costs))
    pairs = [(CLAIMANT, rival) for rival in ("past_best", *RIVALS)]
    rows = [row for cell in cells for a, b in pairs for row in _rows(found, spans, cell, a, b, config)]
    ablation = [
        {"family": family, **row}
        for family in families
        for cell in cells
        for row in _rows(found, spans, cell, f"with {family}", f"without {family}", config)
    ]
    return {
        "schema": 1,
        "windows": [
            {
                "start": s.isoformat(), "end": e.isoformat(), "assets": list(h.assets), "hours": h.hours,
                "sha256": h.sha256,
            }
            for (s, e), (_, h) in zip(spans, found, strict=True)
        ],
        "paths": PATHS, "starts": STARTS, "portfolios": config.portfolios, "ratios": rows, "ablation": ablation,
    }  # fmt: skip


def _stretch(
    lake: Lake, config: CompareConfig, families: Sequence[str], progress: Progress | None
) -> tuple[list[BasketCosts], History]:
    """Return the costs of every basket of one stretch, and its history."""
    history = load(
        lake, config.start, config.end, config.assets, config.native, config.pools, config.chain_id, config.source
    )
    panel = portfolios(
        history, config.portfolios, config.seed, config.start, config.end, config.cells, 1, config.largest
    )
    with over_threads(config.threads) as spread:
        rules, _ = learn(spread, lake, panel, planners(history, lake, config), progress)
        blind: Predictive | None = None
        if "gas" in families:
            alone = Predictive(history, of_process(history, windows(history)))
            taught, _ = learn(spread, lake, panel, (alone,), progress)
            blind = next(rule for rule in taught if isinstance(rule, Predictive))
        moved = with_forecasts(history, lake) if "drift" in families else None
        work = partial(_basket, history, rules=rules, families=tuple(families), others=(blind, moved))
        out: list[BasketCosts] = []
        for costs in spread(work, [([pair],) for pair in enumerate(panel)]):
            out += costs
            if progress is not None:
                progress(len(out), len(panel))
    return out, history


def _basket(
    history: History, chunk: Sequence[tuple[int, Portfolio]], rules: Sequence[BandRule], families: Sequence[str],
    others: tuple[Predictive | None, History | None],
) -> list[BasketCosts]:  # fmt: skip
    """Return the costs of the rules, and of the predictive policy with and without each family, on each basket."""
    week, out = history.week(), []
    for position, portfolio in chunk:
        case = prepare(history, portfolio)
        plans = {rule.name: (case, rule.levels_over(case)) for rule in rules}
        past = {name: before(case, plan, position) for name, (_, plan) in plans.items() if name in RIVALS}
        claimant = next(rule for rule in rules if isinstance(rule, Predictive))
        for family in families:
            for name, found in _ablated(family, claimant, case, *others).items():
                plans[f"{name} {family}"] = found
        weekly = {way: np.zeros((len(plans), int(week[-1]) + 1)) for way in WAYS}
        for row, (own, plan) in enumerate(plans.values()):
            for draw in range(PATHS):
                path = mirrored(own, position * PATHS + draw)
                weekly["mirrored"][row] += _weekly(path, plan, week, case.first, case)
            for start in starts(case):
                weekly["recorded"][row] += _weekly(own, plan, week, int(start), case)
        cell = (portfolio.label or portfolio.scenario, portfolio.nav_usd)
        out.append(BasketCosts(cell, tuple(plans), weekly, past))
    return out


def starts(case: Case) -> Ints:
    """Return (STARTS,) first steps of the recorded path, evenly over SPREAD_H hours or half of the stretch."""
    reach = min(SPREAD_H, (case.last - case.first) // 2)
    return np.asarray(case.first + np.linspace(0, reach, STARTS).astype(np.int64), dtype=np.int64)


def _weekly(case: Case, plan: Schedule, week: Ints, first: int, judge: Case) -> Vector:
    """Return (weeks,) cost from ``first`` on; what is left at the end counts at ``judge``'s cost-to-go."""
    soft = case.portfolio.scenario == "soft"
    found = simulate(case, plan, week, log=False, path=True, span=(first, case.last))
    cost = np.array(found.weekly[:, GAS : TRACKING + soft].sum(axis=1))
    assert found.path is not None
    cost[week[case.last - 1]] += cost_to_go(judge, found.path[case.last - 1], case.last - 1)
    return cost


def _ablated(
    family: str, policy: Predictive, case: Case, blind: Predictive | None, moved: History | None
) -> dict[str, tuple[Case, Schedule]]:
    """Return the predictive policy ``with`` and ``without`` a family: the case it decides on, and its plan.

    gas: without issued forecasts it has the gas process alone, and what it learnt with that (``blind``). slippage:
    without, levels are set at usual depth and trades are never cut into slices. drift: with, covariances are moved
    towards the ones forecast (nothing shipped does that).
    """
    own = policy.levels_over(case)
    if family == "gas":
        if blind is None:
            raise ConfigError("the gas family needs the policy that has the gas process alone")
        return {"with": (case, own), "without": (case, blind.levels_over(case))}
    if family == "slippage":
        depth = case.history.median_depth_usd[:, case.columns]
        usual = replace(case, impact=np.ascontiguousarray(impact_per_square(case.portfolio.nav_usd, depth)))
        plan = policy.levels_over(usual)
        never = np.full(plan.cap.size, NEVER)
        return {"with": (case, own), "without": (case, replace(plan, cap=never, resume=never))}
    if moved is None:
        raise ConfigError("the drift family needs the history with covariance forecasts")
    other = prepare(moved, case.portfolio)
    return {"with": (other, policy.levels_over(other)), "without": (case, own)}


def _rows(
    found: Sequence[tuple[list[BasketCosts], History]], spans: Sequence[Span], cell: Cell, a: str, b: str,
    config: CompareConfig,
) -> list[dict[str, object]]:  # fmt: skip
    """Return the ratio rows of ``a`` over ``b`` in ``cell``: by way, each stretch and pooled."""
    rows: list[dict[str, object]] = []
    for way in WAYS:
        pooled: list[tuple[Vector, Vector, Vector]] = []
        names = [f"{s:%Y-%m-%d}..{e:%Y-%m-%d}" for s, e in spans]
        for costs, _ in found:
            own = [c for c in costs if c.cell == cell]
            rival = _past_best(own) if b == "past_best" else b
            over, under = (sum((c.weekly[way][c.names.index(n)] for c in own), np.zeros(1)) for n in (a, rival))
            kept = (over != 0.0) | (under != 0.0)
            drawn = counts(max(int(kept.sum()), 1), config.draws, config.seed)
            pooled.append((over[kept], under[kept], drawn))
        parts = [(n, *p) for n, p in zip(names, pooled, strict=True)]
        if len(parts) > 1:
            mine, other, draws = (np.concatenate([p[i] for p in pooled], axis=-1) for i in range(3))
            parts.append(("pooled", mine, other, draws))
        for name, over, under, drawn in parts:
            interval = ratio(over, under, drawn)
            rows.append({
                "window": name, "scenario": cell[0], "nav_usd": cell[1], "way": way, "a": a, "b": b,
                "ratio": interval.value, "ci_low": interval.low, "ci_high": interval.high, "weeks": int(over.size),
            })  # fmt: skip
    return rows


def _past_best(costs: Sequence[BasketCosts]) -> str:
    """Return the rival that was cheapest on mirrored pasts before the stretch."""
    spent = {name: sum(c.past[name] for c in costs) for name in RIVALS}
    return min(spent, key=spent.__getitem__) if any(spent.values()) else BASELINE
