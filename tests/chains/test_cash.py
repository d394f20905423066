"""The cash rule: no more shortages than it promises, in a simulation that knows nothing of how it was computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError
from policy.chains.cash import (
    ALPHA_LEAST,
    ALPHA_MOST,
    FEWEST,
    KEPT,
    FlowOutlook,
    alpha_of,
    demand_quantile,
    levels,
    outlook,
    service_level,
    space_price,
    spread,
)
from policy.simulation.chain_flows import LEAN, drawn


def withdrawals(r: np.random.Generator, hours: int, every_h: float, spread_: float) -> np.ndarray:
    """Return (hours,) what investors take out, lognormal lumps at random hours."""
    return (r.random(hours) < 1.0 / every_h) * 1_000.0 * np.exp(spread_ * r.standard_normal(hours))


def short_of(demand: np.ndarray, low: float, goal: float, lead_h: int) -> tuple[int, int]:
    """Return (withdrawals, those beyond the cash there was) with refills that take ``lead_h``, ordered at each hour."""
    cash, coming, count, short = goal, [], 0, 0
    for t, need in enumerate(demand):
        cash += sum(m for at, m in coming if at == t)
        coming = [(at, m) for at, m in coming if at > t]
        if need > 0:
            count += 1
            short += need > cash
            cash -= min(need, cash)  # what is short is paid by other means
        have = cash + sum(m for _, m in coming)
        if have < low:
            coming.append((t + lead_h, goal - have))
    return count, short


@pytest.mark.parametrize("alpha", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(
    ("every_h", "lead_h", "spread_"), [(72.0, 1, 0.6), (12.0, 6, 0.6), (72.0, 24, 1.0), (4, 2, 0.3)]
)
def test_simulated_shortages_stay_within_the_promise(alpha, every_h, lead_h, spread_):
    r = np.random.default_rng(5)
    seen = outlook(-withdrawals(r, 60_000, every_h, spread_))
    low = demand_quantile(seen, lead_h + 1.0, alpha)
    count, short = short_of(withdrawals(r, 60_000, every_h, spread_), low, 1.5 * low, lead_h)
    chance = 3.0 * np.sqrt(alpha * (1 - alpha) / count)
    assert count > 500
    assert short / count <= 1.0 - alpha + 0.01 + chance


def test_a_rule_of_the_normal_would_be_short_far_more_often():
    """The lump is what counts: two hours of the same variance hold less than one withdrawal."""
    r = np.random.default_rng(6)
    demand = withdrawals(r, 60_000, 72.0, 0.6)
    normal = 1.645 * demand.std() * np.sqrt(2.0)
    lumpy = demand_quantile(outlook(-demand), 2.0, 0.95)
    count, short = short_of(demand, normal, 1.5 * lumpy, 1)
    assert lumpy > 2.0 * normal
    assert short / count > 0.10


def exact(sizes: list[float], expected: float, alpha: float) -> float:
    """Quantile of one size and a Poisson number more of them, by enumeration of the sums."""
    totals = {x: sizes.count(x) / len(sizes) for x in set(sizes)}
    out: dict[float, float] = {}
    now, weight = dict(totals), np.exp(-expected)
    for k in range(12):
        for x, p in now.items():
            out[round(x, 6)] = out.get(round(x, 6), 0.0) + p * weight
        nxt: dict[float, float] = {}
        for x, p in now.items():
            for size in sizes:
                nxt[round(x + size, 6)] = nxt.get(round(x + size, 6), 0.0) + p / len(sizes)
        now, weight = nxt, weight * expected / (k + 1)
    total = 0.0
    for x in sorted(out):
        total += out[x]
        if total >= alpha - 1e-9:
            return x
    return max(out)


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    expected=st.floats(0.0, 1.5),
    alpha=st.floats(0.5, 0.99),
)
@settings(max_examples=40)
def test_the_quantile_is_that_of_the_enumerated_sums(sizes, expected, alpha):
    flows = FlowOutlook(expected, np.sort(np.array(sizes, dtype=float)), 0.0, 1.0)
    truth = exact([float(s) for s in sizes], expected, alpha)
    near = exact([float(s) for s in sizes], expected, min(0.999, alpha + 1e-4))
    top = max(sizes) * (2 + 3 * expected + 3 * np.sqrt(expected))
    found = demand_quantile(flows, 1.0, alpha)
    rounding = top / 511 * 8  # each of a few sizes is rounded up by at most a cell
    assert min(truth, top) - 1e-6 <= found <= near + rounding


@given(alpha=st.floats(0.5, 0.98), hours=st.floats(0.0, 48.0))
@settings(max_examples=40)
def test_more_service_and_more_delay_hold_no_less(alpha, hours):
    flows = FlowOutlook(1 / 30, np.sort(np.random.default_rng(1).lognormal(7, 0.6, 50)), 0.0, 1.0)
    cell = flows.sizes[-1] * 8 / 511
    base = demand_quantile(flows, hours, alpha)
    assert demand_quantile(flows, hours, alpha + 0.01) >= base
    assert demand_quantile(flows, hours + 5.0, alpha) >= base - 2 * cell


def test_service_level_is_the_newsvendors():
    assert service_level(1.0, 10.0) == 0.9
    assert service_level(1e-9, 1.0) == ALPHA_MOST
    assert service_level(5.0, 1.0) == ALPHA_LEAST
    with pytest.raises(ConfigError, match="0 or more, and more than 0"):
        service_level(1.0, 0.0)


def test_dear_help_raises_the_service_level_and_dear_room_lowers_it():
    flows = FlowOutlook(1 / 100, np.full(20, 1_000.0), 0.0, 1e5)
    figures = [alpha_of(flows, help_usd, 50.0, 1e-4) for help_usd in (1.0, 5.0, 20.0)]
    assert figures == sorted(figures)
    assert figures[0] < figures[-1]
    prices = [alpha_of(flows, 5.0, 50.0, carry) for carry in (1e-5, 1e-4, 1e-3)]
    assert prices == sorted(prices, reverse=True)
    assert alpha_of(flows, 1e9, 1.0, 1e-4) == alpha_of(flows, 2.0, 1e9, 1e-4)  # the cheaper way out counts


def test_room_is_dearer_where_transfers_are_and_where_there_is_little():
    assert space_price(10.0, 1e6, 1e4) == pytest.approx(2 * space_price(5.0, 1e6, 1e4))
    assert space_price(10.0, 1e6, 5e3) == pytest.approx(8 * space_price(10.0, 1e6, 1e4))


@given(carry=st.floats(1e-7, 1e-2), fix=st.floats(0.1, 100), variance=st.floats(1.0, 1e9))
def test_spread_is_miller_orrs(carry, fix, variance):
    """It minimises ``3/4 C sigma^2 / z^2 + r z`` in z, a third of it (Miller-Orr 1966)."""
    z = spread(fix, variance, carry) / 3

    def cost(z: float) -> float:
        return 0.375 * 2 * fix * variance / (2 * z * z) + carry * z

    assert cost(z) <= min(cost(0.99 * z), cost(1.01 * z))
    assert spread(fix, variance, 0.0) == float("inf")


def flows_of(drift: float = 0.0, variance: float = 1e6) -> FlowOutlook:
    return FlowOutlook(1 / 72, np.linspace(500.0, 3_000.0, 40), drift, variance)


@given(cash=st.floats(0.0, 1e5), alphas=st.lists(st.floats(0.5, 0.995), min_size=3, max_size=3))
@settings(max_examples=60)
def test_levels_fit_in_the_cash_there_is(cash, alphas):
    seen = [flows_of(-50.0), flows_of(), flows_of(80.0)]
    low, goal = levels(seen, alphas, 2.0, cash, [1e9] * 3)
    assert (low >= 0).all()
    assert low.sum() <= KEPT * cash + 1e-6
    assert (goal >= low).all()
    assert goal.sum() <= cash + 1e-6


def test_what_is_free_lies_where_it_will_be_withdrawn():
    low, goal = levels([flows_of(-100.0), flows_of(), flows_of(100.0)], [0.9] * 3, 2.0, 50_000.0, [1e9] * 3)
    assert low[0] == low[1] == low[2]
    assert goal[0] > goal[1] >= goal[2]
    capped = levels([flows_of(-100.0), flows_of(), flows_of(100.0)], [0.9] * 3, 2.0, 50_000.0, [10.0] * 3)[1]
    assert np.allclose(capped - low, 10.0)


def test_too_few_withdrawals_say_nothing():
    few = np.zeros(1_000)
    few[: FEWEST - 1] = -5.0
    assert outlook(few) is None
    assert outlook(few, np.full(3, 7.0)) is not None


def test_a_short_records_drift_counts_little():
    r = np.random.default_rng(2)
    flows = -withdrawals(r, 24 * 14, 20.0, 0.5)
    assert outlook(flows).drift_per_day == pytest.approx(0.5 * 24 * flows.mean())
    longer = outlook(np.tile(flows, 20))
    assert abs(longer.drift_per_day) > 0.9 * abs(24 * flows.mean())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_flows_that_were_not_read_are_refused(bad):
    with pytest.raises(ConfigError, match="no number"):
        outlook(np.array([0.0, bad, -5.0]))


@pytest.mark.parametrize(("hours", "alpha"), [(-1.0, 0.9), (1.0, 0.0), (1.0, 1.0)])
def test_a_service_level_that_is_none_is_refused(hours, alpha):
    with pytest.raises(ConfigError, match="0 < alpha < 1"):
        demand_quantile(flows_of(), hours, alpha)


def test_drawn_flows_are_what_the_document_says():
    flows = drawn(400_000, (1, 42161, 8453), 3)
    for i, chain_id in enumerate((1, 42161, 8453)):
        some = flows[:, i][flows[:, i] != 0.0]
        assert 400_000 / some.size == pytest.approx(72.0, rel=0.05)
        assert np.median(np.abs(some)) == pytest.approx(0.012, rel=0.05)
        assert (some > 0).mean() == pytest.approx(0.5 + LEAN.get(chain_id, 0.0) / 2, abs=0.03)
    assert np.array_equal(drawn(500, (1, 10, 8453), 3)[:, ::2], drawn(500, (1, 8453), 3))
    assert np.array_equal(drawn(500, (1,), 3, 2.0), 2.0 * drawn(500, (1,), 3))
    assert not drawn(500, (1,), 3, 0.0).any()
    with pytest.raises(ConfigError, match="give 1 or more"):
        drawn(0, (1,), 3)
