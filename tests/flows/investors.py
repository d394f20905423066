"""Holders who come and go: a documented process of requests, drawn by seed, and a forecast of the cash they will need.

Requests come by a Poisson process whose rate changes between calm and busy weeks; while busy they are ``busy_rate``
times as many and mostly of one kind, so that the past says something of the days to come. Sizes are log-normal shares
of NAV. A request settles ``notice_h`` hours after it is made: 0 for a vault that pays at once (ERC-4626), a day for one
that settles by valuation (ERC-7540).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from policy.base import Bools, Matrix, Vector
from policy.simulation.history import History
from policy.simulation.planner import Portfolio

CASH = "CASH"
"""Name of the accounting asset of a market with holders: worth one dollar, no risk."""
WEEK_H = 168
FORGET_H = 336.0
"""Memory of the forecast, hours: two weeks."""


@dataclass(frozen=True, slots=True)
class FlowProcess:
    """The process. ``rate``: requests a calm week; ``median`` and ``spread``: of the log-normal sizes, fractions of
    NAV, at most ``largest``; ``calm_h`` and ``busy_h``: mean lengths; ``one_way``: share of the busy kind while busy.
    """

    rate: float = 4.0
    busy_rate: float = 4.0
    median: float = 0.01
    spread: float = 1.0
    largest: float = 0.15
    calm_h: float = 3.0 * WEEK_H
    busy_h: float = 1.0 * WEEK_H
    one_way: float = 0.8
    notice_h: int = 24


@dataclass(frozen=True, slots=True)
class HolderFlows:
    """(T,) fractions of NAV: what settles at each step, what is requested by then and settles later, cash to keep."""

    come: Vector
    go: Vector
    coming: Vector
    leaving: Vector
    reserve: Vector


def drawn(process: FlowProcess, steps: int, seed: int) -> HolderFlows:
    """Return the flows of ``steps`` hours; the same seed gives the same requests whatever the notice."""
    rng = np.random.default_rng(seed)
    busy, way = _regimes(process, steps, rng)
    rate = process.rate / WEEK_H * np.where(busy, process.busy_rate, 1.0)
    count = rng.poisson(rate)
    share = np.where(busy, np.where(way, process.one_way, 1.0 - process.one_way), 0.5)  # of deposits
    come, go = np.zeros(steps), np.zeros(steps)
    for t in np.flatnonzero(count):
        for _ in range(count[t]):
            size = min(process.largest, process.median * float(np.exp(process.spread * rng.standard_normal())))
            (come if rng.random() < share[t] else go)[t] += size
    return settled_after(process.notice_h, come, go)


def settled_after(notice_h: int, asked_in: Vector, asked_out: Vector) -> HolderFlows:
    """Return the flows of requests made at each step that settle ``notice_h`` steps later, without a reserve."""
    steps = asked_in.size
    late, known = [], []
    for asked in (asked_in, asked_out):
        moved = np.zeros(steps)
        moved[notice_h:] = asked[: steps - notice_h]
        late.append(moved)
        known.append(np.maximum(np.cumsum(asked) - np.cumsum(moved), 0.0))
    pending = [np.where(k > 1e-12, k, 0.0) for k in known]
    return HolderFlows(late[0], late[1], pending[0], pending[1], np.zeros(steps))


def forecast(flows: HolderFlows, ahead_h: float = 48.0, z: float = 1.0) -> HolderFlows:
    """Return ``flows`` with a reserve: what withdrawals will take net in ``ahead_h`` hours, at ``z`` deviations.

    Walk-forward: mean and variance an hour are exponential averages of the steps before, over two weeks.
    """
    net = flows.go - flows.come
    reserve, mean, square, keep = np.zeros(net.size), 0.0, 0.0, 1.0 - 1.0 / FORGET_H
    for t in range(net.size):
        variance = max(0.0, square - mean * mean)
        reserve[t] = max(0.0, ahead_h * mean + z * np.sqrt(ahead_h * variance)) if t >= FORGET_H else 0.0
        mean, square = keep * mean + (1 - keep) * net[t], keep * square + (1 - keep) * net[t] ** 2
    return replace(flows, reserve=reserve)


def _regimes(process: FlowProcess, steps: int, rng: np.random.Generator) -> tuple[Bools, Bools]:
    """Return (T,) whether each step is busy, and whether its busy kind is deposits."""
    busy, way = np.zeros(steps, dtype=np.bool_), np.zeros(steps, dtype=np.bool_)
    t, state = 0, False
    while t < steps:
        length = 1 + int(rng.exponential(process.busy_h if state else process.calm_h))
        busy[t : t + length], way[t : t + length] = state, rng.random() < 0.5
        t, state = t + length, not state
    return busy, way


def with_cash(history: History) -> History:
    """Return ``history`` with the accounting asset as its first: constant, riskless, always tradable, deep."""
    steps, days = history.ts.size, history.covariance.shape[0]
    n = len(history.assets)
    covariance = np.zeros((days, n + 1, n + 1))
    covariance[:, 1:, 1:] = history.covariance

    def beside(values: Matrix, of_cash: float) -> Matrix:
        return np.ascontiguousarray(np.column_stack([np.full(steps, of_cash), values]))

    def always(values: Bools) -> Bools:
        return np.ascontiguousarray(np.column_stack([np.ones(steps, dtype=np.bool_), values]))

    listed = None if history.listed is None else np.concatenate([[0], history.listed])
    ended = None if history.ended is None else np.concatenate([[steps - 1], history.ended])
    return replace(
        history, assets=(CASH, *history.assets), close=beside(history.close, 1.0),
        returns=beside(history.returns, 0.0), depth_usd=beside(history.depth_usd, np.inf),
        median_depth_usd=beside(history.median_depth_usd, np.inf), covariance=covariance,
        tradable=always(history.markets), moved=None if history.moved is None else always(history.moved),
        listed=listed, ended=ended,
    )  # fmt: skip


def holding_cash(portfolio: Portfolio, share: float) -> Portfolio:
    """Return ``portfolio`` with ``share`` of it in the accounting asset, under its first tolerance."""
    p = portfolio
    return replace(
        p, assets=(CASH, *p.assets), target=np.concatenate([[share], (1 - share) * p.target]),
        tolerance=np.concatenate([p.tolerance[:1], p.tolerance]),
        fee=np.concatenate([p.swap_fee[:1], p.swap_fee]),
    )  # fmt: skip
