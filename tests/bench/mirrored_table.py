"""Policies on mirrored pasts of a project's span: the ratio expected of a rule, the luck of trends averaged out.

``make mirrored PROJECT=DIR ARGS="2022-07-01 2022-12-10 24"`` prints it: start, end, baskets a cell.
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
from policy.simulation.history import load as market
from policy.simulation.panel import DEFAULT_CELLS, portfolios
from policy.simulation.planner import prepare
from policy.simulation.simulator import GAS, TRACKING, simulate
from policy.strategies import experts
from policy.strategies.foresight import along_true_gas
from policy.strategies.programme import programme
from policy.strategies.reactive import GAS_BAND
from policy.strategies.registry import CompareConfig, Workshop

PATHS = 20


def main(project: str, start: str, end: str, baskets: str = "24") -> None:
    """Print cost over gas_band's of the policy, of its programme followed everywhere, and of all gas known."""
    lake = lake_of(load(Path(project) / "foredrift.toml"))
    config = CompareConfig(utc(start), utc(end), portfolios=int(baskets))
    history = market(lake, config.start, config.end)
    policy, week = Workshop(history, lake, config).predictive, np.zeros(len(history.ts), dtype=np.int64)
    table = Table("mandate", "NAV", "predictive", "programme everywhere", "all gas known")
    for cell in DEFAULT_CELLS:
        spent = np.zeros(4)
        for i, p in enumerate(portfolios(history, config.portfolios, config.seed, config.start, config.end, [cell])):
            case = prepare(history, p)
            base = GAS_BAND.levels_over(case)
            everywhere = np.ones((len(history.ts), 1))
            found = programme(case, base, policy.outlook.windows, everywhere, policy.outlook.slow)
            full = np.zeros((len(history.ts), len(experts.MEMBERS)))
            full[:, -1] = 1.0
            outer, inner = experts.moved(p.scenario, (base.outer, base.inner), found, full)
            followed = replace(base, outer=outer, inner=inner)
            plans = (base, policy.levels_over(case), followed, along_true_gas(case))
            soft = p.scenario == "soft"
            for draw in range(PATHS):
                path = experts.mirrored(case, i * PATHS + draw)
                runs = [simulate(path, plan, week, log=False) for plan in plans]
                spent += [r.weekly[:, GAS : TRACKING + soft].sum() for r in runs]
        ratios = [f"{v / spent[0]:.3f}" if spent[0] > 0 else "-" for v in spent[1:]]
        table.add_row(cell.label, f"{cell.nav_usd:,.0f}", *ratios)
    Console().print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
