"""Speed of one decision on three chains, against the same choice made with SciPy's solver in the same run."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from policy.chains.placement import PlacementTerms, place
from policy.chains.placement_kernel import QUARTERS, lines, part_worth, rooms
from policy.chains.transfer_costs import bridge_terms
from policy.costs import gas_lines, impact_per_square
from policy.simulation.planner import apply
from policy.strategies.reactive import GAS_BAND
from tests.chains.test_global_state import TARGET
from tests.chains.test_placement import IDS, three

DECISION_S = 0.100
BENEFIT = 600.0


def peer(state, benefit: float) -> float:
    """The gain by SLSQP on every set of chains and quarter of the trade."""
    y = (TARGET - state.state().weights) * state.nav_usd
    gas = np.array([gas_lines(p.market.fees, p.market.gas_gwei, p.market.native_usd) for p in state.places])
    cost, room, C = np.empty((3, 3)), np.empty(3), len(IDS)
    lines(y, gas[:, 0].copy(), gas[:, 1].copy(), np.array([p.market.fee for p in state.places]),
          np.array([impact_per_square(1.0, p.market.depth_usd) for p in state.places]), cost)  # fmt: skip
    rooms(y, np.array([p.usd for p in state.places]), np.ones((3, 3), dtype=np.bool_), room)
    best = 0.0
    for size in range(1, C + 1):
        for chosen in itertools.combinations(range(C), size):
            c = list(chosen)
            for quarter in range(1, QUARTERS + 1):
                done = min(quarter / QUARTERS, room[c].sum())
                if done < 0.02:
                    continue
                found = minimize(
                    lambda s, c=c: float(cost[c, 1] @ s + cost[c, 2] @ s**2), np.full(size, done / size),
                    bounds=[(0.0, room[i]) for i in c], method="SLSQP",
                    constraints={"type": "eq", "fun": lambda s, d=done: s.sum() - d},
                )  # fmt: skip
                best = max(best, benefit * part_worth(done, 0.0) - cost[c, 0].sum() - float(found.fun))
    return best


def test_a_decision_on_three_chains_against_scipy(pace, benchmark):
    """State of the whole, the policy's levels, the placement with every route: one decision."""
    state = three((100_000, 150_000, 150_000), 90_000)
    terms = PlacementTerms(np.full(3, 20_000.0), {(a, b): bridge_terms("cctp") for a in IDS for b in IDS if a != b})

    def decide():
        whole = state.state()
        move = apply(whole, GAS_BAND.levels_at(whole, {}))
        return place(state, TARGET, BENEFIT, terms), move

    placed, _ = decide()
    assert placed.action in {"trade", "transfer"}
    free = place(state, TARGET, BENEFIT, PlacementTerms(np.zeros(3), {}))
    assert free.gain_usd == pytest.approx(peer(state, BENEFIT), rel=1e-4)  # SLSQP stops at 1e-6
    benchmark(decide)
    if pace.timed:
        own, theirs = pace.seconds(decide, 20), pace.seconds(lambda: peer(state, BENEFIT), 3)
        benchmark.extra_info["milliseconds a decision"] = round(own * 1e3, 2)
        benchmark.extra_info["times the peer's speed"] = round(theirs / own, 1)
        assert own < DECISION_S
        assert own < theirs
