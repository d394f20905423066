"""Transfers between chains: the cheapest by brute force, never a circle, never both ways."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError
from policy.chains.netting import MOST, net, refills


def brute(surplus: np.ndarray, fixed: np.ndarray, rate: np.ndarray) -> tuple[float, float]:
    """Return (met, cost) of the best forest of transfers, by every order in which pairs could be served in full."""
    gives = [c for c in range(surplus.size) if surplus[c] > 0]
    takes = [c for c in range(surplus.size) if surplus[c] < 0]
    pairs = [(a, b) for a, b in itertools.product(gives, takes) if np.isfinite(fixed[a, b])]
    best = (0.0, 0.0)
    for order in itertools.permutations(pairs):
        left, cost, met = surplus.copy(), 0.0, 0.0
        for a, b in order:
            m = min(left[a], -left[b])
            if m > 1e-9:
                left[a] -= m
                left[b] += m
                met += m
                cost += fixed[a, b] + rate[a, b] * m
        if met > best[0] + 1e-6 or (met > best[0] - 1e-6 and cost < best[1]):
            best = (met, cost)
    return best


def prices(draw, C: int) -> tuple[np.ndarray, np.ndarray]:
    fixed = np.array(draw(st.lists(st.floats(0.1, 20.0), min_size=C * C, max_size=C * C))).reshape(C, C)
    shut = np.array(draw(st.lists(st.booleans(), min_size=C * C, max_size=C * C))).reshape(C, C)
    fixed[shut & (draw(st.integers(0, 3)) == 0)] = np.inf
    return fixed, np.full((C, C), draw(st.sampled_from([0.0, 5e-5, 6e-4])))


@given(data=st.data(), C=st.integers(2, 4))
@settings(max_examples=120)
def test_cheapest_by_brute_force(data, C):
    surplus = np.array(data.draw(st.lists(st.integers(-500, 500), min_size=C, max_size=C)), dtype=float)
    if (surplus > 0).sum() * (surplus < 0).sum() > 4:
        return
    fixed, rate = prices(data.draw, C)
    moves = net(surplus, fixed, rate)
    met = sum(m.usd for m in moves)
    cost = sum(fixed[m.origin, m.destination] + rate[m.origin, m.destination] * m.usd for m in moves)
    best = brute(surplus, fixed, rate)
    assert met == pytest.approx(best[0], abs=1e-5)
    assert cost == pytest.approx(best[1], abs=1e-5)


@given(data=st.data(), C=st.integers(1, MOST))
@settings(max_examples=80)
def test_a_forest_and_nothing_sent_on(data, C):
    surplus = np.array(data.draw(st.lists(st.floats(-1e6, 1e6), min_size=C, max_size=C)))
    fixed, rate = prices(data.draw, C)
    moves = net(surplus, fixed, rate)
    assert len(moves) <= max(0, C - 1)
    origins, ends = {m.origin for m in moves}, {m.destination for m in moves}
    assert not origins & ends  # so neither a circle nor both directions
    for c in range(C):
        out = sum(m.usd for m in moves if m.origin == c)
        into = sum(m.usd for m in moves if m.destination == c)
        assert out <= max(surplus[c], 0.0) * (1 + 1e-9)
        assert into <= max(-surplus[c], 0.0) * (1 + 1e-9)
    assert all(np.isfinite(fixed[m.origin, m.destination]) for m in moves)


def test_a_needed_route_that_is_shut_leaves_the_need():
    fixed = np.full((3, 3), 2.0)
    fixed[0, 1] = np.inf
    moves = net(np.array([100.0, -60.0, -40.0]), fixed, np.zeros((3, 3)))
    assert [(m.origin, m.destination, m.usd) for m in moves] == [(0, 2, 40.0)]


def test_one_transfer_where_one_will_do():
    fixed = np.full((4, 4), 1.0)
    moves = net(np.array([100.0, 90.0, -90.0, 0.0]), fixed, np.zeros((4, 4)))
    assert [(m.usd, m.destination) for m in moves] == [(90.0, 2)]


@pytest.mark.parametrize(
    ("surplus", "fixed", "words"),
    [
        (np.zeros(7), np.zeros((7, 7)), "at most 6"),
        (np.zeros(3), np.zeros((2, 2)), "a price each pair"),
        (np.array([np.nan, 1.0]), np.zeros((2, 2)), "is no number"),
        (np.array([1.0, -1.0]), np.full((2, 2), np.nan), "is no number"),
    ],
)
def test_what_is_no_need_is_refused(surplus, fixed, words):
    with pytest.raises(ConfigError, match=words):
        net(surplus, fixed, np.zeros(fixed.shape))


@given(
    cash=st.lists(st.floats(0, 1e5), min_size=3, max_size=3),
    coming=st.lists(st.one_of(st.just(0.0), st.floats(0, 5e4)), min_size=3, max_size=3),
    low=st.lists(st.floats(0, 3e4), min_size=3, max_size=3),
    width=st.lists(st.floats(0, 5e4), min_size=3, max_size=3),
)
@settings(max_examples=120)
def test_filling_up_takes_from_nobody_below_the_return_point(cash, coming, low, width):
    cash_, coming_, low_, goal = (np.array(v) for v in (cash, coming, low, [a + b for a, b in zip(low, width)]))  # noqa: B905
    out = np.empty((3, 3))
    refills(cash_, coming_, low_, low_, goal, np.full((3, 3), 1.0), np.zeros((3, 3)), out)
    short = cash_ + coming_ < low_
    for c in range(3):
        sent, got = out[c].sum(), out[:, c].sum()
        assert sent == 0.0 or (not short[c] and coming_[c] == 0.0)
        assert cash_[c] - sent >= min(cash_[c], (2 * low_[c] + goal[c]) / 3) - 1e-6
        assert got == 0.0 or (short[c] and cash_[c] + coming_[c] + got <= goal[c] + 1e-6)
    assert (out > 0).sum() <= 2
