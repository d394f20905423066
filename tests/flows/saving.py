"""What netting holders' flows against the rebalance saves: the panel with the same flows, blind, netted, with reserve.

``blind`` trades the holdings as they are and sells what a withdrawal lacks when it is due; ``netted`` trades what is
wanted of the holdings both now and once all requests are settled; ``reserve`` also keeps cash for withdrawals that are
only expected (walk-forward); ``by gas`` nets where a trade's gas is a share of NAV that makes it pay, as soft mandates
do live by default. All meet the same requests and pay gas, fee and impact of every trade; tracking
counts in soft mandates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lake.units import BPS, HOURS_PER_YEAR
from policy.base import Matrix
from policy.comparison.bootstrap import Interval, counts
from policy.netting import LEAST_GAS
from policy.simulation.history import History, Ints
from policy.simulation.panel import Cell, portfolios
from policy.simulation.planner import BandRule, Case, prepare
from policy.strategies.reactive import GAS_BAND
from tests.flows import flow_kernel
from tests.flows.investors import FlowProcess, HolderFlows, drawn, forecast, holding_cash, with_cash

ARMS = ("blind", "netted", "by gas", "reserve")
CASH_SHARES = (0.05, 0.10, 0.20)
"""Targets of the accounting asset, in turn over the baskets."""


@dataclass(frozen=True, slots=True)
class FlowRun:
    """One portfolio with its flows under one arm: (weeks, 6) as the simulator's, trades, sales forced by withdrawals,
    NAV at the end over that at the start by flows alone, hours outside a hard mandate's tolerances.
    """

    weekly: Matrix
    steps: int
    trades: int
    sales: int
    turnover: float
    size: float
    outside: int

    def costs(self, soft: bool) -> Matrix:
        """Return (weeks,) the ledger's total as fractions of NAV; tracking counts in the soft mandate only."""
        return np.asarray(self.weekly[:, : 3 + soft].sum(axis=1))


@dataclass(frozen=True, slots=True)
class Saving:
    """A cell's figures, bp of NAV a year: what blind costs, what an arm saves with its 95 % interval over weeks."""

    cell: str
    nav_usd: float
    notice_h: int
    arm: str
    blind_bp: float
    saved_bp: Interval
    forced_blind: float  # sales a year that withdrawals forced
    forced_arm: float
    outside_blind_h: float  # hours a year outside a hard mandate's tolerances
    outside_arm_h: float

    @property
    def null(self) -> bool:
        """Whether the interval holds zero: nothing is shown."""
        return self.saved_bp.low <= 0.0 <= self.saved_bp.high


def simulate(
    case: Case, rule: BandRule, week: Ints, flows: HolderFlows, *, netting: bool, least: float = 0.0
) -> FlowRun:
    """Run ``rule`` on ``case`` with ``flows``, netted (where gas is ``least`` of NAV) or blind to requests."""
    p, plan = case.portfolio, rule.levels_over(case)
    n = len(case.columns)
    weekly, tallies = np.zeros((int(week[-1]) + 1, 6)), np.zeros(6)
    scale = plan.scale if plan.scale is not None else 1.0 / p.tolerance
    tolerance = p.tolerance if p.scenario == "hard" else np.full(n, np.inf)
    A = case.A if plan.A is None else plan.A
    B = p.gamma if p.scenario == "soft" else 0.0
    flow_kernel.run(
        case.returns, case.history.day, case.shape(plan), p.target, scale, plan.box, plan.direct, A, B, plan.must,
        plan.outer, plan.inner, plan.resume, plan.cap, plan.exit_parts, case.history.markets, case.columns,
        p.max_turnover, case.gas_base, case.gas_leg, case.fee, case.impact, tolerance, 0.5 * p.gamma, case.first,
        case.last, week, flows.come, flows.go, flows.coming, flows.leaving, flows.reserve, netting, least, weekly,
        tallies,
    )  # fmt: skip
    return FlowRun(
        weekly, int(tallies[0]), int(tallies[1]), int(tallies[2]), float(tallies[3]), float(tallies[4]), int(tallies[5])
    )


def arms(case: Case, rule: BandRule, week: Ints, flows: HolderFlows) -> dict[str, FlowRun]:
    """Return the runs of all arms on the same requests."""
    kept = forecast(flows)
    return {
        "blind": simulate(case, rule, week, flows, netting=False),
        "netted": simulate(case, rule, week, flows, netting=True),
        "by gas": simulate(case, rule, week, flows, netting=True, least=LEAST_GAS),
        "reserve": simulate(case, rule, week, kept, netting=True),
    }


def savings(
    history: History,
    cells: Sequence[Cell],
    n: int,
    seed: int,
    notices_h: Sequence[int] = (24, 0),
    process: FlowProcess | None = None,
    rule: BandRule = GAS_BAND,
    draws: int = 1_000,
) -> list[Saving]:
    """Return a row for each cell, notice and arm but blind, on ``n`` baskets a cell; deterministic in ``seed``.

    Raises NotEnoughData where the history holds fewer than two assets.
    """
    base = process or FlowProcess()
    panel = portfolios(history, n, seed, history.when(history.first), history.when(len(history.ts) - 1), cells)
    market, week = with_cash(history), history.week()
    found: dict[tuple[str, float, int], list[tuple[dict[str, FlowRun], bool]]] = {}
    for place, p in enumerate(panel):
        basket = place // len(cells)
        case = prepare(market, holding_cash(p, CASH_SHARES[basket % len(CASH_SHARES)]))
        for notice in notices_h:
            flows = drawn(replace(base, notice_h=notice), history.ts.size, seed * 10_007 + basket)
            runs = arms(case, rule, week, flows)
            found.setdefault((p.label, p.nav_usd, notice), []).append((runs, p.scenario == "soft"))
    return [_saving(key, arm, rows, draws, seed) for key, rows in found.items() for arm in ARMS[1:]]


def _saving(
    key: tuple[str, float, int], arm: str, rows: Sequence[tuple[dict[str, FlowRun], bool]], draws: int, seed: int
) -> Saving:
    hours = sum(runs["blind"].steps for runs, _ in rows)
    scale = BPS * HOURS_PER_YEAR / hours
    blind = sum((runs["blind"].costs(soft) for runs, soft in rows), np.zeros(1))
    mine = sum((runs[arm].costs(soft) for runs, soft in rows), np.zeros(1))
    gap = np.asarray(blind - mine)
    samples = counts(gap.size, draws, seed) @ gap * scale
    low, high = (float(q) for q in np.quantile(samples, [0.025, 0.975]))
    years = hours / HOURS_PER_YEAR
    forced = [sum(runs[a].sales for runs, _ in rows) / years for a in ("blind", arm)]
    outside = [sum(runs[a].outside for runs, _ in rows) / years for a in ("blind", arm)]
    interval = Interval(float(gap.sum() * scale), low, high)
    return Saving(key[0], key[1], key[2], arm, float(np.sum(blind) * scale), interval, *forced, *outside)
