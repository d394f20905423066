"""The panel at block or five-minute resolution: the same portfolios, trades and ledger, looked at as often as asked.

Hourly rules act at the schedule's minute of the hour, at the price of that minute; ``realtime.looks`` are looked up at
their own pace. Surfaces are built walk-forward, once a week, from the 30 days before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lake.errors import ConfigError
from lake.store import Lake
from policy.base import Matrix, Vector
from policy.comparison import artifacts
from policy.comparison.outcomes import PortfolioRun
from policy.comparison.rebalancing_premium import PathPrices, Premium, premium
from policy.comparison.surface_evidence import proven_weeks
from policy.realtime.looks import LOOKS, PATIENCE_H, STEP_S, Look, Resolution
from policy.realtime.surface import LIFE_S, MOVED, PAST_DAYS, GasStates, ReservationSurface, learn, trailing_log
from policy.simulation import block_kernel
from policy.simulation.block_kernel import HOURLY, MIXED, NO_TABLE, SURFACE, TABLE
from policy.simulation.block_world import BlockWorld, build
from policy.simulation.history import History, Ints
from policy.simulation.planner import BandRule, Case, Portfolio, Schedule, prepare, schedule
from policy.simulation.simulator import Fine, Run, Trades
from policy.solvers import bands
from policy.strategies.reactive import GAS_BAND
from policy.strategies.registry import CompareConfig
from policy.strategies.surfaces import affine_gas, surface_at, swaps_of

COLUMNS = 72  # gas prices of a gas table, evenly spaced in log price
BOUNDS = ("foresight_gas", "clairvoyant")
REBUILD_S = 7 * 86_400
PROOF_S = 300  # seconds between the looks that prove a surface


@dataclass(frozen=True, slots=True)
class Field:
    """What all portfolios share at one resolution: the world, its states of gas, and when hourly rules act."""

    world: BlockWorld
    minute: int
    lowest: float  # log gwei of the gas tables' first column
    step: float  # between columns
    gas_at: Vector  # (N,)
    chains: tuple[GasStates, ...]
    built: Ints  # (W,) block each surface is built at
    window: Ints  # (N,)
    state: Ints  # (N,)
    coarse: Field | None = None  # the same every five minutes, where this one is finer

    @property
    def gwei(self) -> Vector:
        """Gas prices of the gas tables' columns."""
        return np.asarray(np.exp(self.lowest + self.step * np.arange(COLUMNS)))


def names_at(resolution: Resolution, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[Look, ...]]:
    """Return the hourly planners and the looks among ``names``; raises ConfigError for what has no place there."""
    if resolution == "hour":
        looks = [n for n in names if n in LOOKS and n != GAS_BAND.name]
        if looks:
            raise ConfigError(f"{', '.join(looks)}: looked up within the hour; compare with --resolution 5m or block")
        return tuple(names), ()
    bounds = [n for n in names if n in BOUNDS]
    if bounds:
        raise ConfigError(f"{', '.join(bounds)}: bounds of the hourly ledger only; leave them out or take hour")
    found = tuple(LOOKS[n] for n in names if n in LOOKS)
    misfits = [look.name for look in found if not look.fits(resolution)]
    if misfits:
        raise ConfigError(f"{', '.join(misfits)}: looked up more often than every five minutes; --resolution block")
    return tuple(n for n in names if n not in LOOKS), found


@dataclass(frozen=True, slots=True)
class Learnt:
    """States of gas learnt once a week: each one's ``built`` block, and by block the ``window`` and ``state`` in force.

    NO_TABLE where no surface may decide: too little past, or a level of gas that the states do not know.
    """

    chains: tuple[GasStates, ...]
    built: Ints
    window: Ints
    state: Ints


def states_of(world: BlockWorld) -> Learnt:
    """Return what is learnt of the gas of ``world``, walk-forward: each week from the PAST_DAYS before it."""
    past, per_hour, N = world.past_gwei.size, world.per_hour, world.gas_gwei.size
    log, slow, _ = trailing(world)
    chains: list[GasStates] = []
    built: list[int] = []
    for first in range(0, N, REBUILD_S // world.step_s):
        now = past + first
        begin = max(0, now - PAST_DAYS * 24 * per_hour)
        states = learn(log[begin:now], slow[begin:now], world.step_s, world.start_s + first * world.step_s)
        if states is not None:
            chains.append(states)
            built.append(first)
    return placed(world, tuple(chains), np.array(built, dtype=np.int64))


def placed(world: BlockWorld, chains: tuple[GasStates, ...], built: Ints) -> Learnt:
    """Return ``chains``, each in force for a week from its ``built`` block of ``world``, and the states seen there."""
    past, N = world.past_gwei.size, world.gas_gwei.size
    log, slow, level = trailing(world)
    window, state = np.full(N, NO_TABLE, dtype=np.int64), np.full(N, NO_TABLE, dtype=np.int64)
    for k, (states, first) in enumerate(zip(chains, built, strict=True)):
        now, last = past + first, min(first + REBUILD_S // world.step_s, N)
        ahead = np.minimum(np.arange(now, past + last) + 1, past + N - 1)
        window[first:last] = k
        usable = np.abs(level[now : past + last] - states.level) <= math.log(MOVED)
        state[first:last] = np.where(usable, states.of(log[ahead], slow[ahead]), NO_TABLE)
    return Learnt(chains, built, window, state)


def trailing(world: BlockWorld) -> tuple[Vector, Vector, Vector]:
    """Return log gas of the past and of ``world``, and its trailing means over an hour and over a day."""
    log = np.log(np.maximum(np.concatenate([world.past_gwei, world.gas_gwei]), 1e-9))
    return log, trailing_log(log, world.per_hour), trailing_log(log, 24 * world.per_hour)


def field_of(lake: Lake, history: History, config: CompareConfig) -> Field:
    """Return the world of ``config`` with the states of gas learnt walk-forward on it."""
    world = build(lake, history, config.chain_id, config.seed, flat=config.flat_gas)
    world = world.every(STEP_S[config.resolution])
    log = np.log(np.maximum(world.gas_gwei, 1e-9))
    found = states_of(world)
    lowest = float(log.min())
    step = max((float(log.max()) - lowest) / (COLUMNS - 1), 1e-6)
    whole = Field(
        world, config.minute, lowest, step, (log - lowest) / step, found.chains, found.built, found.window, found.state
    )
    return replace(whole, coarse=coarse_of(whole)) if world.step_s < PROOF_S else whole


def coarse_of(field: Field) -> Field:
    """Return ``field`` every five minutes: the same chains and gas tables, the states of the gas that is seen then."""
    world = field.world.every(PROOF_S)
    seen = placed(world, field.chains, field.built // (PROOF_S // field.world.step_s))
    at = (np.log(np.maximum(world.gas_gwei, 1e-9)) - field.lowest) / field.step
    return replace(field, world=world, gas_at=at, built=seen.built, window=seen.window, state=seen.state)


def simulate_chunk(
    history: History,
    field: Field,
    chunk: Sequence[tuple[int, Portfolio]],
    rules: Sequence[BandRule],
    looks: Sequence[Look],
) -> list[PortfolioRun]:
    """Return the outcomes of ``rules`` and ``looks`` on the (position, portfolio) pairs of ``chunk``."""
    week = history.week()
    out: list[PortfolioRun] = []
    last: dict[str, Case] = {}
    for position, portfolio in chunk:
        like = last.get(portfolio.scenario) or next(iter(last.values()), None)
        case = last[portfolio.scenario] = prepare(history, portfolio, like)
        begin, end = ((s - history.first) * field.world.per_hour for s in (case.first, case.last))
        prices = PathPrices.of(field.world.returns[begin:end, case.columns], portfolio.target)
        began = time.perf_counter()
        outer, inner = gas_tables(case, field)
        surfaces = surfaces_of(case, field) if any(look.surface for look in looks) else []
        planned = time.perf_counter() - began
        looked = partial(look_at, case, week, (outer, inner), surfaces)
        began = time.perf_counter()
        mixed = field
        if any(look.mixed for look in looks):
            on = proven_weeks(case, field.coarse or field, looked)[week[field.world.hour]]
            mixed = replace(field, state=np.where(on, field.state, NO_TABLE))
        planned += time.perf_counter() - began
        for look in looks:
            began = time.perf_counter()
            run = looked(mixed if look.mixed else field, look)
            columns = artifacts.trade_columns(case, run)
            spent = planned if look.surface else 0.0
            done = time.perf_counter() - began
            out.append(PortfolioRun(position, look.name, run, columns, spent, done, growth(run, field, prices, begin)))
        for rule in rules:
            began = time.perf_counter()
            plan = rule.levels_over(case)
            ready = time.perf_counter()
            run = simulate(case, field, week, plan=plan)
            columns = artifacts.trade_columns(case, run)
            done = time.perf_counter() - ready
            gone = growth(run, field, prices, begin)
            out.append(PortfolioRun(position, rule.name, run, columns, ready - began, done, gone))
    return out


def look_at(
    case: Case,
    week: Ints,
    table: tuple[Matrix, Matrix],
    surfaces: Sequence[ReservationSurface],
    field: Field,
    look: Look,
) -> Run:
    """Return the run of a look on ``field``, with the gas tables and surfaces of ``case``."""
    return simulate(case, field, week, look=look, table=table, surfaces=surfaces)


def growth(run: Run, field: Field, prices: PathPrices, first: int) -> Premium:
    """Return the rebalancing premium of ``run`` on the block prices from block ``first`` on."""
    assert run.log is not None
    assert run.log.at_us is not None
    world = field.world
    at = (run.log.at_us // 1_000_000 - world.start_s) // world.step_s - first
    return premium(run, prices, first, at, world.per_hour)


def gas_tables(case: Case, field: Field) -> tuple[Matrix, Matrix]:
    """Return (D, COLUMNS) outer and inner levels of ``gas_band`` by day and gas price, as known at the day's start."""
    h, p = case.history, case.portfolio
    days = int(h.day[-1]) + 1
    step = np.minimum(np.searchsorted(h.day, np.arange(days)), len(h.ts) - 1)
    fixed, unit = affine_gas(case)
    now = fixed[step].sum(axis=1)[:, None] + unit[step].sum(axis=1)[:, None] * field.gwei
    wide = (days, COLUMNS)
    if p.scenario == "hard":
        m = np.sum(case.impact[step] * case.box_square, axis=1)
        usual = case.gas_at(h.recent_gwei, swaps=1)[step]
        flat = [np.broadcast_to(v[:, None], wide).ravel() for v in (usual, case.box_fee, m, case.exit_h)]
        outer, inner, _ = bands.hard_band(now.ravel(), *flat, early=True)
        return outer.reshape(wide), inner.reshape(wide)
    m = np.sum(case.impact[step] * case.unit_square, axis=1)
    outer, inner = bands.solve(now, case.unit_fee[:, None], p.gamma, m[:, None])
    return np.ascontiguousarray(outer), np.ascontiguousarray(inner)


def surfaces_of(case: Case, field: Field) -> list[ReservationSurface]:
    """Return the surface of each chain of ``field`` for the portfolio, the next one starting from the one before."""
    out: list[ReservationSurface] = []
    for states, block in zip(field.chains, field.built, strict=True):
        out.append(surface_at(case, int(field.world.hour[block]), states, out[-1] if out else None))
    return out


def simulate(
    case: Case,
    field: Field,
    week: Ints,
    *,
    look: Look | None = None,
    plan: Schedule | None = None,
    table: tuple[Matrix, Matrix] | None = None,
    surfaces: Sequence[ReservationSurface] = (),
    delay: int = 1,
) -> Run:
    """Run a look, or the hourly ``plan``, on ``case`` block by block; a decision is carried out ``delay`` blocks on."""
    p, h, world = case.portfolio, case.history, field.world
    T, n, per_hour = len(h.ts), len(case.columns), world.per_hour
    plan = plan or schedule(T, np.inf, 0.0, box=p.scenario == "hard", must=p.scenario == "hard")
    tabled = look is not None and look.surface and bool(surfaces)
    mode = HOURLY if look is None else MIXED if tabled and look.mixed else SURFACE if tabled else TABLE
    every = per_hour if look is None or look.every_s is None else max(look.every_s // world.step_s, 1)
    hourly = look is None or look.every_s is None or look.mixed  # where no surface decides, the hour's minute does
    mark = min(field.minute * 60 // world.step_s, per_hour - 1) if hourly else 0
    limit = 1.0 if look is None else look.limit
    buffer = look.buffer if look is not None and p.scenario == "hard" else 1.0
    if limit < 1.0:
        every = 1
    outer, inner = table if table is not None else (np.zeros((1, 2)), np.zeros((1, 2)))
    empty = np.zeros((1, 2, 1))
    reserve = np.stack([s.reserve for s in surfaces]) if surfaces else empty
    back = np.stack([s.back for s in surfaces]) if surfaces else empty
    node = np.array([s.node for s in surfaces]) if surfaces else np.ones(1)
    first, last = ((s - h.first) * per_hour for s in (case.first, case.last))
    room = 64 * (case.last - case.first)
    blocks, reasons = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    before, after = np.empty((room, n)), np.empty((room, n))
    weekly, tallies = np.zeros((int(week[-1]) + 1, 6)), np.zeros(8)
    fixed, unit = affine_gas(case)
    tolerance = p.tolerance if p.scenario == "hard" else np.full(n, np.inf)
    count = block_kernel.run(
        (0,) * n, world.returns, case.columns, world.hour, world.gas_gwei, field.gas_at, h.day, case.shape(plan),
        p.target, plan.scale if plan.scale is not None else 1.0 / p.tolerance, plan.box, plan.direct,
        case.A if plan.A is None else plan.A, p.gamma if p.scenario == "soft" else 0.0, plan.must, mode, every, mark,
        delay, buffer, np.log(limit) / field.step if limit < 1.0 else 0.0,
        PATIENCE_H * per_hour, plan.outer, plan.inner, plan.resume, plan.cap, plan.exit_parts, outer, inner,
        field.window, field.state, reserve, back, node, swaps_of(case), h.markets, p.max_turnover, fixed, unit,
        case.fee, case.impact, tolerance, 0.5 * p.gamma, first, last, per_hour, week, weekly, tallies,
        blocks, reasons, before, after,
    )  # fmt: skip
    kept = min(count, room)
    at = blocks[:kept]
    log = Trades(
        np.asarray(world.hour[at]), reasons[:kept].copy(), before[:kept].copy(), after[:kept].copy(),
        world.gas_gwei[at], (world.start_s + at * world.step_s) * 1_000_000,
    )  # fmt: skip
    years = (last - first) * world.step_s / (365.25 * 86_400)
    fine = Fine(
        tallies[block_kernel.OUTSIDE] * world.step_s / 60.0 / years,
        tallies[block_kernel.WAITED] * world.step_s / max(count, 1), int(tallies[block_kernel.UNFILLED]),
    )  # fmt: skip
    return Run(
        weekly, case.last - case.first, count, int(tallies[block_kernel.HOURS_OUT]),
        float(tallies[block_kernel.TURNOVER]), log, None, int(tallies[block_kernel.POWERLESS]), fine,
    )  # fmt: skip


assert REBUILD_S < LIFE_S  # a comparison never uses a surface that a decision would refuse for its age
