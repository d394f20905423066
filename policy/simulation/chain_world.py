"""From a history of one chain to a portfolio on several: gas, depth, flows and the cash each chain should hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from lake.errors import ConfigError
from policy.base import ChainFees, Matrix, Vector
from policy.chains import cash as rule
from policy.chains.transfer_costs import BridgeTerms, bridge_terms, work_usd
from policy.costs import ONE_PERCENT_HALF, chain_fees, gas_lines
from policy.simulation.chain_books import ChainRules, ChainWorld
from policy.simulation.chain_flows import drawn
from policy.simulation.history import History
from policy.simulation.planner import Portfolio, prepare

FLOORS = (0.025, 0.01)
"""Cash of a chain in the rule that looks at no flows, share of the whole NAV; part of the first
until FEWEST withdrawals were seen."""
FULL = 3.0  # a fixed floor is filled up to this many of it
CHEAP = 0.75  # of the week's mean gas: a transfer that will be needed soon is made now
SOON = 0.25  # of the way from the lower point to the goal: what will be needed soon
LEARN_H = 7 * 24  # between two looks at the flows
OVERHEAD = 2e-5
"""What a transfer is taken to cost beyond its price, share of NAV: each is watched until it arrived. A guess."""


@dataclass(frozen=True, slots=True)
class ChainTerms:
    """The chains and what is assumed of them; the first is the one whose gas and pools the history records.

    ``depth_share`` is the depth of every other chain's pools to the first's, ``data_price`` that of a byte of a
    roll-up's data to calldata (blobs: 0.05), ``depth_of`` an asset's depth to the history's. ``equal_gas``: all chains
    charge as the first.
    """

    chains: tuple[int, ...] = (1, 42161, 8453)
    depth_share: float = 0.2
    data_price: float = 1.0
    flow_size: float = 1.0
    bridge: BridgeTerms = field(default_factory=lambda: bridge_terms("cctp"))
    fast: BridgeTerms = field(default_factory=lambda: bridge_terms("cctp_fast"))
    depth_of: Mapping[str, float] = field(default_factory=dict)
    equal_gas: bool = False

    def __post_init__(self) -> None:
        """Refuse terms that are none."""
        if not self.chains or len(set(self.chains)) < len(self.chains):
            raise ConfigError(f"chains {self.chains}: give one or more, each once")
        if min(self.depth_share, self.bridge.hours) < 0.0 or self.depth_share == 0.0:
            raise ConfigError(f"a depth share of {self.depth_share} and {self.bridge.hours} hours: give more than 0")


@dataclass(frozen=True, slots=True)
class ChainCase:
    """One portfolio on its chains: the compiled world, its fixed rules, the hours judged."""

    portfolio: Portfolio
    world: ChainWorld
    rules: ChainRules
    first: int
    last: int
    history: History
    fix: Vector  # (C,) USD of a transfer to each chain: mean gas and overhead


def chain_case(history: History, portfolio: Portfolio, cash: str, terms: ChainTerms, seed: int) -> ChainCase:
    """Return ``portfolio`` on the chains of ``terms`` with flows of ``seed``; its cash levels are the first of FLOORS.

    Raises ConfigError where the portfolio does not hold the ``cash`` asset.
    """
    if cash not in portfolio.assets:
        raise ConfigError(f"the portfolio holds no {cash}: transfers move cash, so its target needs a share of it")
    case = prepare(history, portfolio)
    k, T, n = portfolio.assets.index(cash), len(history.ts), len(portfolio.assets)
    every = [_fees(c if not terms.equal_gas else terms.chains[0], terms.data_price) for c in terms.chains]
    lines = [gas_lines(f, history.gas_gwei, history.native_usd) for f in every]
    usual = [gas_lines(f, history.recent_gwei, history.native_usd) for f in every]
    b = terms.bridge
    ends = [
        [np.asarray(work_usd(f, u, d, history.gas_gwei, history.native_usd)) for f in every]
        for u, d in ((b.units_out, b.bytes_out), (b.units_in, b.bytes_in))
    ]
    size = np.array([terms.depth_of.get(a, 1.0) for a in portfolio.assets])
    depth = history.depth_usd[:, case.columns] * size
    depth[:, k] = np.inf  # a swap moves the risky asset's pool
    share = np.array([1.0] + [terms.depth_share] * (len(every) - 1))
    impact = np.ascontiguousarray(0.5 * ONE_PERCENT_HALF / (depth[:, None, :] * share[None, :, None]))
    flat = np.full((T, len(every)), FLOORS[0])
    world = ChainWorld(
        case.returns, history.day, case.M, case.unit_fee, case.unit_square, history.week(),
        _columns(x for x, _ in lines), _columns(x for _, x in lines), _columns(x + y * max(1, n - 1) for x, y in usual),
        impact, drawn(T, terms.chains, seed, terms.flow_size), _columns(ends[0]), _columns(ends[1]),
        flat, FULL * flat, flat, np.zeros(T, dtype=np.bool_),
    )  # fmt: skip
    rules = ChainRules(
        False, False, False, portfolio.gamma, 0.5 * portfolio.gamma, portfolio.nav_usd, k, round(b.hours), b.fee,
        terms.fast.fee, b.risk + b.stuck, OVERHEAD * portfolio.nav_usd, float(portfolio.swap_fee[k]),
        portfolio.target, portfolio.swap_fee, np.ascontiguousarray(case.covariance),
    )  # fmt: skip
    fix = (world.send.mean(axis=0)[None, :] + world.receive.mean(axis=0)[:, None]).mean(axis=1) + rules.overhead
    return ChainCase(portfolio, world, rules, case.first, case.last, history, fix)


@dataclass(frozen=True, slots=True)
class ChainPolicy:
    """One way to keep a portfolio on several chains.

    ``netted``: weights are sums over chains. ``equal``: every chain is restored to an equal part. ``fills``: cash is
    kept on every chain by transfers, at levels from the flows seen so far where ``foresees``, else at a fixed floor.
    """

    name: str
    netted: bool
    equal: bool
    fills: bool
    foresees: bool


CHAIN_POLICIES: Mapping[str, ChainPolicy] = {
    p.name: p
    for p in (
        ChainPolicy("alone", netted=False, equal=False, fills=False, foresees=False),
        ChainPolicy("naive", netted=True, equal=True, fills=False, foresees=False),
        ChainPolicy("netted", netted=True, equal=False, fills=False, foresees=False),
        ChainPolicy("alone_cash", netted=False, equal=False, fills=True, foresees=True),
        ChainPolicy("global_fixed", netted=True, equal=False, fills=True, foresees=False),
        ChainPolicy("global", netted=True, equal=False, fills=True, foresees=True),
    )
}


def under(case: ChainCase, policy: ChainPolicy, trigger: float, levels: ChainWorld | None = None) -> ChainCase:
    """Return ``case`` under ``policy``; ``trigger`` widens its band, ``levels`` the world of its cash rule."""
    if trigger <= 0.0:
        raise ConfigError(f"a trigger of {trigger} times the band: give more than 0")
    rules = case.rules._replace(
        netted=policy.netted, equal=policy.equal, fills=policy.fills, stiffness=case.portfolio.gamma / trigger**4
    )
    return replace(case, rules=rules, world=case.world if levels is None else levels)


def at_floor(case: ChainCase, floor: float) -> ChainWorld:
    """Return the case's world with every chain's cash kept above ``floor`` of the whole NAV, whatever the flows."""
    low = np.full_like(case.world.low, floor)
    return case.world._replace(low=low, goal=FULL * low, early=low)


def foreseen(case: ChainCase, from_step: int) -> ChainWorld:
    """Return the case's world with each chain's cash levels from the flows of ``from_step`` up to each week.

    Gas and depth of forced sales are those usual at that moment; nothing after it is read. Where gas is below CHEAP of
    the week's mean, a chain that will soon need cash gets it early.
    """
    w, nav = case.world, case.portfolio.nav_usd
    low, goal = w.low.copy(), w.goal.copy()
    low[from_step : from_step + LEARN_H] = 0.0
    for begin in range(from_step + LEARN_H, case.last, LEARN_H):
        found = _levels_at(case, from_step, begin)
        seen = int(np.count_nonzero(w.flow[from_step:begin] < 0.0))
        fallback = low[begin : begin + LEARN_H] * min(1.0, seen / rule.FEWEST)
        low[begin : begin + LEARN_H] = fallback if found is None else found[0] / nav
        goal[begin : begin + LEARN_H] = FULL * fallback if found is None else found[1] / nav
    h = case.history
    cheap = np.asarray(h.gas_gwei < CHEAP * h.recent_gwei, dtype=np.bool_)
    return w._replace(low=low, goal=goal, early=low + SOON * (goal - low), cheap=cheap)


def _levels_at(case: ChainCase, begin: int, now: int) -> tuple[Vector, Vector] | None:
    """Return lower points and goals in USD from the flows of steps ``begin`` to ``now``, exclusive."""
    w, nav, p = case.world, case.portfolio.nav_usd, case.portfolio
    k, cash_usd = case.rules.cash, nav * float(p.target[case.rules.cash])
    deep = w.impact[max(0, now - LEARN_H) : now].mean(axis=0) @ (p.target**2 / (1.0 - p.target[k]) ** 2)
    more = case.rules.fast_fee - case.rules.fee
    costs = [
        rule.CashCosts(case.fix[c], float(w.usual[now - 1, c]), case.rules.swap_fee, float(deep[c]), more)
        for c in range(w.flow.shape[1])
    ]
    return rule.chain_levels(w.flow[begin:now] * nav, costs, case.rules.delay + 1.0, cash_usd)


def _fees(chain_id: int, data_price: float) -> ChainFees:
    fees = chain_fees(chain_id)
    return replace(fees, l1_scalar=fees.l1_scalar * data_price)


def _columns(parts: Iterable[float | Vector]) -> Matrix:
    return np.ascontiguousarray(np.column_stack([np.asarray(v, dtype=np.float64) for v in parts]))
