"""Speed of the panel, and of one band rebalance against vectorbt and cvxportfolio on the same data in the same run."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from policy.comparison import resolved
from policy.costs import chain_fees
from policy.realtime.looks import LOOKS
from policy.simulation.block_world import BlockWorld
from policy.simulation.history import History, load
from policy.simulation.planner import Latest, Portfolio, prepare
from policy.simulation.simulator import simulate
from policy.solvers.trade_set import cheapest
from policy.strategies.gas_outlook import dialled
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.predictive import Predictive
from policy.strategies.reactive import Threshold
from tests.bench.pace import Pace
from tests.policy.conftest import HOURS as HELD
from tests.policy.conftest import START, WARMUP, basket, fill, frames
from tests.policy.test_predictive import convinced, outlook, said

HOURS, ASSETS = 4_000, ("AAA", "BBB", "CCC", "DDD")
FEE, TRIGGER = 5e-4, 0.02
BLOCKS_PER_S = 10e6  # the same of the block loop
STEPS_PER_S = 20e6  # what the compiled loop is built for, a core; asserted at a quarter as machines are shared


def market() -> History:
    rng = np.random.default_rng(1)
    n = len(ASSETS)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((HOURS + 1, n)), axis=0))
    returns = np.zeros_like(close)
    returns[:-1] = close[1:] / close[:-1] - 1.0
    ts = np.int64(1_660_000_000) * 10**6 // 3_600_000_000 * 3_600_000_000 + np.arange(HOURS + 1) * 3_600_000_000
    day = (ts // 86_400_000_000) - ts[0] // 86_400_000_000
    flat = np.full(HOURS + 1, 20.0)
    inf = np.full(close.shape, np.inf)
    covariance = np.tile(1e-4 * np.eye(n), (int(day[-1]) + 1, 1, 1))
    return History(
        ts, ASSETS, close, returns, flat, np.full(HOURS + 1, 1500.0), inf, flat, flat, inf, covariance, day,
        np.ones(HOURS + 1, dtype=np.bool_), 0, 0, (), "",
    )  # fmt: skip


@pytest.fixture(scope="module")
def case():
    history = market()
    portfolio = Portfolio(
        "b", "soft", ASSETS, np.full(4, 0.25), np.full(4, TRIGGER), 1e6, 3.0, chain_fees(1, 0, 0), history.when(0),
        history.when(HOURS), np.full(4, 2 * FEE),
    )  # fmt: skip
    return prepare(history, portfolio)


def test_steps_a_second(pace, benchmark, case):
    plan, week = Threshold("t", TRIGGER).levels_over(case), case.history.week()
    simulate(case, plan, week)
    run = benchmark(lambda: simulate(case, plan, week, log=False))
    assert run.steps == case.last - case.first
    if pace.timed:
        rate = run.steps / pace.seconds(lambda: simulate(case, plan, week, log=False), 30, time.thread_time)
        benchmark.extra_info["million portfolio-steps a second"] = round(rate / 1e6, 1)
        assert rate > STEPS_PER_S / 4


def test_blocks_a_second_against_plain_python(pace, benchmark, case):
    """A month of blocks of one portfolio, gas_band at every block; the peer is the same loop without a compiler."""
    days = 30 if pace.timed else 4
    hours, h = 24 * days, case.history
    rng = np.random.default_rng(2)
    blocks = hours * 300
    returns = 0.0006 * rng.standard_normal((blocks, len(ASSETS)))
    gas = 20.0 * np.exp(0.3 * rng.standard_normal(blocks))
    hour = h.first + np.arange(blocks) // 300
    world = BlockWorld(12, int(h.ts[h.first] // 10**6), returns, gas, np.zeros(0), hour, (), semi_synthetic=True)
    log, none = np.log(gas), np.full(blocks, -1, dtype=np.int64)
    step = np.ptp(log) / (resolved.COLUMNS - 1)
    field = resolved.Field(world, 0, log.min(), step, (log - log.min()) / step, (), none[:0], none, none)
    fees = chain_fees(1)
    short = prepare(h, replace(case.portfolio, fees=fees, gamma=30.0, end=h.when(hours)))
    week, table = h.week(), resolved.gas_tables(short, field)

    def compiled():
        return resolved.simulate(short, field, week, look=LOOKS["gas_band_block"], table=table)

    compiled()
    run = benchmark(compiled)
    assert run.steps == hours
    assert run.trades > 0
    part = min(blocks, 20_000 if pace.timed else 3_000)

    def plain():
        return plain_blocks(short, world, table[0], table[1], field.gas_at, part)

    assert plain() == int((run.log.at_us // 10**6 < world.start_s + part * 12).sum())
    if pace.timed:
        rate = blocks / pace.seconds(compiled, 10, time.thread_time)
        peer = part / pace.seconds(plain, 1, time.thread_time)
        benchmark.extra_info["million portfolio-blocks a second"] = round(rate / 1e6, 1)
        benchmark.extra_info["times plain Python"] = round(rate / peer)
        month = 64 * 30 * 7_200 / rate
        benchmark.extra_info["a month for 64 portfolios, s of one core"] = round(month, 2)
        assert rate > BLOCKS_PER_S / 4
        assert month < 120.0


def plain_blocks(case, world, outer, inner, gas_at, blocks) -> int:
    """The block band in plain Python and numpy; the number of trades. Soft, all assets traded, nothing capped."""
    p, h = case.portfolio, case.history
    x, trades, pending, level = np.zeros(len(case.columns)), 0, False, 0.0
    fixed, unit = resolved.affine_gas(case)
    for b in range(blocks):
        d = h.day[world.hour[b]]
        M = case.M[d]
        r = float(np.sqrt(max(x @ M @ x, 0.0)))
        if pending:
            pending = False
            if r > level:
                step_out = np.empty_like(x)
                t = world.hour[b]
                leg = fixed[t, 1] + unit[t, 1] * world.gas_gwei[b]
                cheapest(x, M, 1.0 / p.tolerance, False, level, False, case.A[t], p.gamma, leg, case.fee,
                         case.impact[t], step_out)  # fmt: skip
                x, trades = step_out, trades + 1
        else:
            ahead = gas_at[min(b + 1, len(gas_at) - 1)]
            grid = np.arange(outer.shape[1])
            if r >= np.interp(ahead, grid, outer[d]) and r > np.interp(ahead, grid, inner[d]):
                pending, level = True, float(np.interp(ahead, grid, inner[d]))
        grown = (p.target + x) * (1.0 + world.returns[b, case.columns])
        x = grown / grown.sum() - p.target
    return trades


def test_a_decision_is_cheaper_than_all_weeks(pace, tmp_path):
    lake = fill(tmp_path, frames())
    history = load(lake, START, START + timedelta(hours=HELD - WARMUP))
    policy = convinced(Predictive(history, outlook(history, dialled(history, 0.6, 1))))
    case = prepare(history, basket(5, "soft", 1e6))
    step = case.last - 50
    state = case.state(step, case.portfolio.target + np.array([0.06, -0.03, -0.01, -0.01, -0.01]))
    handed = said(history, dialled(history, 0.6, 1), step)
    rule, found, plans = RulePolicy(policy), [], []
    one = pace.seconds(lambda: found.append(rule.decide(state, handed)), 5, time.thread_time)
    whole = pace.seconds(lambda: plans.append(replace(policy, latest=Latest()).levels_over(case)), 5, time.thread_time)
    assert policy.levels_at(state, handed).outer == pytest.approx(plans[0].outer[step], rel=1e-9)
    assert found[0].why
    if pace.timed:
        print(f"\none decision {1e3 * one:.1f} ms, the plan of all weeks {1e3 * whole:.1f} ms of thread time")
        assert one < 0.6 * whole


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_against_vectorbt_and_cvxportfolio(pace, case, capsys):
    """The same band rebalance (2 %, 5 bp of each traded weight): equal wealth, and how long each takes."""
    plan, week = Threshold("t", TRIGGER).levels_over(case), case.history.week()
    run = simulate(case, plan, week)
    ours = pace.seconds(lambda: simulate(case, plan, week), 20, time.thread_time)
    close = pd.DataFrame(
        case.history.close, columns=list(ASSETS), index=pd.to_datetime(case.history.ts, unit="us", utc=True)
    )
    theirs, wealth, orders = vectorbt_run(pace, close, run)
    growth = np.prod(1.0 + np.sum(held(case, run) * case.returns[: case.last], axis=1))
    spent = run.weekly[:, 1].sum()
    assert wealth == pytest.approx(growth * (1.0 - spent), rel=2e-3)
    assert orders >= 4 * run.trades
    hours = pace.pick(200, 20)  # cvxportfolio takes milliseconds a step: a slice, scaled
    slow = cvxportfolio_run(pace, close.iloc[: hours + 1]) * (HOURS / hours)
    if pace.timed:
        with capsys.disabled():
            print(
                f"\nband rebalance, 4 assets, {HOURS} hours: foredrift {ours * 1e3:.2f} ms, "
                f"vectorbt {theirs * 1e3:.1f} ms ({theirs / ours:.0f}x), cvxportfolio {slow:.1f} s ({slow / ours:.0f}x)"
            )
        assert ours < theirs
        assert ours < slow


def held(case, run):
    """(T, n) weights over each hour, replayed from the trade log."""
    w, out = case.portfolio.target.copy(), np.empty((case.last, 4))
    at = dict(zip(run.log.step, run.log.after, strict=True))
    for t in range(case.last):
        w = at.get(t, w)
        out[t] = w
        w = w * (1.0 + case.returns[t])
        w /= w.sum()
    return out


def vectorbt_run(pace: Pace, close: pd.DataFrame, run) -> tuple[float, float, int]:
    """Seconds, final wealth and orders of vectorbt on the trade times of ``run``: it is told when, ours decides too."""
    import vectorbt as vbt

    size = pd.DataFrame(np.nan, index=close.index, columns=close.columns)
    size.iloc[0] = 0.25
    size.iloc[run.log.step] = run.log.after

    def work():
        return vbt.Portfolio.from_orders(
            close.iloc[:-1], size.iloc[:-1], size_type="targetpercent", group_by=True, cash_sharing=True,
            call_seq="auto", fees=FEE, init_cash=1e6, freq="1h",
        )  # fmt: skip

    portfolio = work()
    last = close.iloc[-1] / close.iloc[-2]
    shares = portfolio.asset_value(group_by=False).iloc[-1]
    cash = float(portfolio.cash().iloc[-1])
    final = (float((shares * last).sum()) + cash) / 1e6
    return pace.seconds(work, 3, time.thread_time), final, int(portfolio.orders.count().sum())


def cvxportfolio_run(pace: Pace, close: pd.DataFrame) -> float:
    """Seconds cvxportfolio takes for a proportional band on ``close``: decide each hour, cost included."""
    import cvxportfolio as cvx

    target = pd.Series(0.25, index=close.columns)
    target["cash"] = 0.0

    class Band(cvx.policies.Policy):
        def values_in_time(self, current_weights, **kwargs):  # noqa: ARG002
            far = float((current_weights - target).abs().max()) > TRIGGER
            self._current_value = (target if far else current_weights) - 0.0
            return self._current_value

    returns = close.pct_change().shift(-1).iloc[:-1]
    returns["cash"] = 0.0
    simulator = cvx.MarketSimulator(
        returns=returns, costs=[cvx.TransactionCost(a=FEE, b=None)], cash_key="cash", min_history=pd.Timedelta("0d")
    )
    start = pd.Series(2.5e5, index=close.columns)
    start["cash"] = 0.0
    found = []
    took = pace.seconds(
        lambda: found.append(simulator.backtest(Band(), start_time=returns.index[0], h=start)), 1, time.thread_time
    )
    assert len(found[0].h) == len(close) - 1
    return took
