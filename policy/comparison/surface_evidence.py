"""Whether a surface decides in a week: only where it has been cheaper in the weeks before, by more than its own noise.

As the experts of the predictive policy, the surface and hourly gas_band run over the same portfolio on mirrored pasts:
gas is what it was, and all moves of a day's prices keep their sign or change it together, drawn at random, so that the
luck of a few trends averages out. A week's cost is what was paid plus the change of the cost-to-go of the deviation
left. A surface whose costs swing with few trades proves nothing, and gas_band decides as it does without one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from policy.base import Matrix, Vector
from policy.realtime.looks import LOOKS, Look
from policy.simulation.block_kernel import NO_TABLE
from policy.simulation.block_world import BlockWorld
from policy.simulation.history import Ints
from policy.simulation.planner import Case
from policy.simulation.simulator import GAS, TRACKING, Run
from policy.strategies.experts import STAKES, cost_to_go, evidence
from policy.strategies.reactive import GAS_BAND

PATHS = 8  # mirrored pasts
PROVEN = 4.0  # what a stake of 1 on the surface must have become; the experts follow by three quarters there
SEED = 30_301  # of the signs; any
DAY_S = 86_400


class InWorld(Protocol):
    """What is looked at: a world and the state of gas at each of its blocks."""

    @property
    def world(self) -> BlockWorld:
        """The block world."""
        ...

    @property
    def state(self) -> Ints:
        """(N,) state of gas, NO_TABLE where no surface may decide."""
        ...


Bools = npt.NDArray[np.bool_]
Where = TypeVar("Where", bound=InWorld)


def proven_states(case: Case, where: Where, look: Look, run: Callable[[Where, Look], Run]) -> Ints:
    """Return (N,) the states of ``where`` in the weeks in which the surface decides, NO_TABLE in the others.

    ``run`` simulates ``case`` by a look; what decides a week rests on the weeks before it alone.
    """
    world, week = where.world, case.history.week()[where.world.hour]
    first, last = ((s - case.history.first) * world.per_hour for s in (case.first, case.last))
    number = week[first:last]
    starts = np.flatnonzero(np.diff(number, prepend=number[0] - 1)) + first
    edges = np.append(starts, last)
    pure = replace(look, mixed=False)
    costs = np.zeros((2, starts.size))
    for draw in range(PATHS):
        at = replace(where, world=mirrored_world(world, case.columns, draw))  # type: ignore[type-var]
        for row, by in enumerate((LOOKS[GAS_BAND.name], pure)):
            costs[row] += week_costs(case, at.world, run(at, by), edges)
    proven = shown(costs[1] - costs[0], costs[0])
    on = np.zeros(int(week.max()) + 1, dtype=np.bool_)
    on[week[starts]] = proven
    return np.where(on[week], where.state, NO_TABLE)


def shown(difference: Vector, usual: Vector) -> Bools:
    """Return (W,) whether before each week ``difference`` to the ``usual`` cost was a saving, by the bets on it.

    A stake of 1, laid out for each of STAKES, must have become PROVEN on the weeks before: no rule that is as likely to
    cost as to save gets there more often than one time in PROVEN.
    """
    out = np.zeros(difference.size, dtype=np.bool_)
    for w in range(1, difference.size):
        scale = max(float(usual[:w].mean()), 1e-300)
        out[w] = np.mean([evidence(difference[:w], stake * scale) for stake in STAKES]) > PROVEN
    return out


def mirrored_world(world: BlockWorld, columns: Ints, draw: int) -> BlockWorld:
    """Return ``world`` with the log returns of ``columns`` in each day (UTC) multiplied by +1 or -1, alike for all."""
    day = (world.start_s + np.arange(world.gas_gwei.size) * world.step_s) // DAY_S
    sign = 2.0 * np.random.default_rng((SEED, draw)).integers(0, 2, int(day[-1]) + 1)[day] - 1.0
    returns = world.returns.copy()
    returns[:, columns] = np.expm1(sign[:, None] * np.log1p(world.returns[:, columns]))
    return replace(world, returns=returns)


def week_costs(case: Case, world: BlockWorld, run: Run, edges: Ints) -> Vector:
    """Return (W,) cost of ``run`` between the blocks ``edges`` (W + 1,): paid, and the rise of the cost-to-go."""
    soft = case.portfolio.scenario == "soft"
    week = case.history.week()[world.hour[edges[:-1]]]
    paid = run.weekly[week, GAS : TRACKING + soft].sum(axis=1)
    held = weights_at(case, world, run, edges)
    steps = world.hour[np.minimum(edges, world.hour.size - 1)]
    left = np.array([cost_to_go(case, w, int(t)) for w, t in zip(held, steps, strict=True)])
    return np.asarray(paid + np.diff(left))


def weights_at(case: Case, world: BlockWorld, run: Run, blocks: Ints) -> Matrix:
    """Return (B, n) weights just before ``blocks``: those of the last trade before each, drifted since."""
    assert run.log is not None
    assert run.log.at_us is not None
    log = np.vstack([np.zeros(len(case.columns)), np.cumsum(np.log1p(world.returns[:, case.columns]), axis=0)])
    traded = (run.log.at_us // 1_000_000 - world.start_s) // world.step_s
    before = np.searchsorted(traded, blocks) - 1
    some = before >= 0
    origin = np.where(some, traded[before] if traded.size else blocks[0], blocks[0])
    held = np.tile(case.portfolio.target, (blocks.size, 1))
    if traded.size:
        held[some] = run.log.after[before[some]]
    grown = held * np.exp(log[blocks] - log[origin])
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))
