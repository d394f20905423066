"""Whether a surface decides in a week: only where it has been cheaper in the weeks before, by more than its own noise.

As the experts of the predictive policy, the surface and hourly gas_band run over the same portfolio on mirrored pasts:
gas is what it was, and all moves of a day's prices keep their sign or change it together, drawn at random, so that the
luck of a few trends averages out. They are looked up every five minutes, whatever the ledger: the gain of a surface is
hardly that of the blocks between, and many pasts say more than fine ones. A week's cost is what was paid plus the
change of the cost-to-go of the deviation left. A surface whose costs swing with few trades proves nothing, and gas_band
decides as it does without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from policy.base import Matrix, Vector
from policy.realtime.looks import LOOKS, Look
from policy.realtime.proof import PROVEN
from policy.simulation.block_world import BlockWorld
from policy.simulation.history import Ints
from policy.simulation.planner import Case
from policy.simulation.simulator import GAS, TRACKING, Run
from policy.strategies.experts import STAKES, cost_to_go, evidence
from policy.strategies.reactive import GAS_BAND

PATHS = 32  # mirrored pasts: what is left of the noise is that of gas, common to all of them
SEED = 30_301  # of the signs; any
SURFACE = "surface_5m"  # the look that proves it
DAY_S = 86_400


class InWorld(Protocol):
    """What is looked at: a world, with whatever a look needs besides."""

    @property
    def world(self) -> BlockWorld:
        """The block world."""
        ...


Bools = npt.NDArray[np.bool_]
Where = TypeVar("Where", bound=InWorld)


def proven_weeks(case: Case, where: Where, run: Callable[[Where, Look], Run]) -> Bools:
    """Return (weeks,) whether the surface decides in each calendar week of the history, by the weeks before it alone.

    ``run`` simulates ``case`` by a look on ``where`` with other prices.
    """
    number, (usual, costs) = weekly_costs(case, where, (LOOKS[GAS_BAND.name], LOOKS[SURFACE]), run)
    on = np.zeros(int(case.history.week().max()) + 1, dtype=np.bool_)
    on[number] = shown(costs - usual, usual)
    return on


def weekly_costs(
    case: Case, where: Where, looks: Sequence[Look], run: Callable[[Where, Look], Run]
) -> tuple[Ints, Matrix]:
    """Return (W,) the calendar weeks of ``case`` and (looks, W) what each look cost in them over all mirrored pasts."""
    world, week = where.world, case.history.week()[where.world.hour]
    first, last = ((s - case.history.first) * world.per_hour for s in (case.first, case.last))
    number = week[first:last]
    starts = np.flatnonzero(np.diff(number, prepend=number[0] - 1)) + first
    edges = np.append(starts, last)
    costs = np.zeros((len(looks), starts.size))
    for draw in range(PATHS):
        at = replace(where, world=mirrored_world(world, case.columns, draw))  # type: ignore[type-var]
        for row, look in enumerate(looks):
            costs[row] += week_costs(case, at.world, run(at, look), edges)
    return week[starts], costs


def shown(difference: Vector, usual: Vector) -> Bools:
    """Return (W,) whether the stake on ``difference`` to the ``usual`` cost was above PROVEN before each week."""
    weeks = range(difference.size)
    return np.array([stake(difference[:w], usual[:w]) > PROVEN for w in weeks], dtype=np.bool_)


def stake(difference: Vector, usual: Vector) -> float:
    """Return what a stake of 1 on ``difference`` (W,) to the ``usual`` cost being savings has become, for all STAKES.

    No rule that is as likely to cost as to save gets to PROVEN more often than one time in PROVEN.
    """
    if not difference.size:
        return 1.0
    scale = max(float(usual.mean()), 1e-300)
    return float(np.mean([evidence(difference, part * scale) for part in STAKES]))


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
