"""Speed of the execution path. The router's bound holds in CI; the price of a whole decision is printed by stage."""

from __future__ import annotations

import random
import statistics

import pytest

from policy.execution.engine import dry, step
from policy.execution.router import best_execution
from tests.execution.simlab import chain, context
from tests.execution.test_router import A, B, make_v2, make_v3

ROUTER_MS = 5.0
DECISION_MS = 250.0


def eight_pools(seed: int = 3):
    rng = random.Random(seed)
    return [(make_v2 if i % 2 else make_v3)(rng, f"p{i}", A, B, 1.7) for i in range(8)]


@pytest.mark.parametrize("legs", [4, 8])
def test_the_router_solves_eight_pools_in_under_five_milliseconds(benchmark, legs):
    pools = eight_pools()
    found = benchmark(best_execution, pools, A, B, 10**22, leg_cost_out=1e17, most_legs=legs)
    assert found is not None
    assert len(found.fills) > 1
    assert benchmark.stats["median"] * 1e3 < ROUTER_MS


def test_a_simulated_decision_by_stage(benchmark, tmp_path):
    ctx = dry(context(tmp_path, chain()))
    report = benchmark(step, ctx)
    assert report.outcome == "planned"
    assert benchmark.stats["median"] * 1e3 < DECISION_MS


@pytest.mark.chain
def test_new_block_to_signed_plan_on_the_local_chain(vaultnet, tmp_path):
    """Live steps, each undone afterwards; the stages up to and including the signature count.

    The median is printed; the bound is held by the quickest, which a busy machine disturbs least.
    """
    from tests.execution.chainlab import chain_context

    totals, stages = [], []
    for i in range(7):
        saved = vaultnet.snapshot()
        report = step(chain_context(tmp_path / str(i), vaultnet))
        vaultnet.revert(saved)
        assert report.outcome == "traded"
        before_sending = {k: v for k, v in report.stages_ms.items() if k != "follow"}
        totals.append(sum(before_sending.values()))
        stages.append(before_sending)
    typical = {k: round(statistics.median(s[k] for s in stages), 1) for k in stages[0]}
    print(f"median {statistics.median(totals):.0f} ms: {typical}")
    assert min(totals) < DECISION_MS
