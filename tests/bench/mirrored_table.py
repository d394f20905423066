"""Policies on mirrored pasts of a project's span: the ratio expected of a rule, the luck of trends averaged out.

``make mirrored PROJECT=DIR ARGS="2022-07-01 2022-12-10 24 20 61"`` prints it: start, end, baskets a cell, mirrored
paths a basket, and days by which what forecasts say is rolled (0; 61 leaves no skill in them). Costs are over those of
gas_band with its legs as they were before, the deviation left at the end counted; 95 % weekly block bootstrap.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from lake.units import utc
from pipelines.settings import load
from pipelines.wiring import lake_of
from policy.comparison.bootstrap import counts, ratio
from policy.simulation.history import load as market
from policy.simulation.panel import DEFAULT_CELLS, portfolios
from policy.simulation.planner import prepare
from policy.simulation.simulator import GAS, TRACKING, simulate
from policy.strategies import experts
from policy.strategies.foresight import along_true_gas
from policy.strategies.gas_outlook import of_process, of_values, recorded
from policy.strategies.gas_process import windows
from policy.strategies.gas_tilt import MINIMA_H
from policy.strategies.predictive import Predictive
from policy.strategies.reactive import GAS_BAND, GAS_BAND_EXIT, GAS_TILT, Bands

BEFORE = Bands("gas_band_v1", constant=False, exit_legs=False)
NAMES = (
    "gas_band", "stronger rule", "predictive", "gas process alone", "forecasts everywhere", "all gas known",
    "predictive / stronger", "predictive / process alone",
)  # fmt: skip
PLANS = len(NAMES) - 1


def rolled_policy(history, lake, days: int) -> Predictive:
    """Return the predictive policy on the lake's forecasts, rolled by ``days`` among the hours that have any."""
    values, minima = recorded(history, lake, 1), recorded(history, lake, 1, "gas_min", MINIMA_H)
    for said in (values, minima):
        seen = np.flatnonzero(np.isfinite(said).all(axis=1))
        said[seen] = np.roll(said[seen], 24 * days, axis=0)
    return Predictive(history, of_values(history, values, windows(history), minima))


def weekly(case, plan, week):
    """Return (weeks,) cost of a plan, the deviation left at the end at its cost-to-go."""
    run = simulate(case, plan, week, log=False, path=True)
    cost = np.array(run.weekly[:, GAS : TRACKING + (case.portfolio.scenario == "soft")].sum(axis=1))
    cost[week[case.last - 1]] += experts.cost_to_go(case, run.path[case.last - 1], case.last - 1)
    return cost


def plans_of(case, policy: Predictive, alone: Predictive):
    """Return the plans of a case in the order of NAMES, after that of BEFORE."""
    scenario, base = case.portfolio.scenario, GAS_BAND.levels_over(case)
    weights = np.zeros((base.outer.size, experts.width(scenario)))
    weights[:, 1:] = experts.PRIOR[scenario][1:]
    sight = policy.sight(case, base, np.ones((base.outer.size, 1)))
    outer, inner, part = experts.moved(scenario, (base.outer, base.inner), sight, weights)
    stronger = {"soft": GAS_TILT, "hard": GAS_BAND_EXIT}[scenario]
    followed = replace(base, outer=outer, inner=inner, exit_part=part)
    rules = (BEFORE, GAS_BAND, stronger, policy, alone)
    return (*(rule.levels_over(case) for rule in rules), followed, along_true_gas(case))


def main(project: str, start: str, end: str, baskets: str = "24", paths: str = "20", roll: str = "0") -> None:
    """Print the table; see the module."""
    lake = lake_of(load(Path(project) / "foredrift.toml"))
    span = utc(start), utc(end)
    history = market(lake, *span, load(Path(project) / "foredrift.toml").portfolio.assets)
    policy, week = rolled_policy(history, lake, int(roll)), history.week()
    process = Predictive(history, of_process(history, windows(history)))
    table = Table("mandate", "NAV", *NAMES)
    for cell in DEFAULT_CELLS:
        panel = portfolios(history, int(baskets), 7, *span, [cell], 1)
        kinds = {experts.kind_of(p, p.swap_fee) for p in panel}
        taught, alone = (p.taught({k: p.learn(k) for k in kinds}) if p.learns else p for p in (policy, process))
        spent = np.zeros((PLANS, int(week[-1]) + 1))
        for i, p in enumerate(panel):
            case = prepare(history, p)
            plans = plans_of(case, taught, alone)
            for draw in range(int(paths)):
                path = experts.mirrored(case, 100_000 + i * int(paths) + draw)
                spent += [weekly(path, plan, week) for plan in plans]
        kept = spent[0] != 0.0
        drawn = counts(int(kept.sum()), 2_000, 7)
        pairs = [(k, 0) for k in range(1, PLANS)] + [(3, 2), (3, 4)]
        found = [ratio(spent[a][kept], spent[b][kept], drawn) for a, b in pairs]
        ratios = [f"{v.value:.3f} ({v.low:.3f} .. {v.high:.3f})" for v in found]
        table.add_row(cell.label, f"{cell.nav_usd:,.0f}", *ratios)
    Console(width=240).print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
