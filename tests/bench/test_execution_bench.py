"""Speed of the execution path: the router against a grid search in the same run, a decision printed by stage."""

from __future__ import annotations

import itertools
import random
import statistics
import time

import pytest

from policy.execution.engine import dry, step
from policy.execution.routing.router import best_execution
from tests.execution.simlab import chain, context
from tests.execution.test_router import A, B, grid, make_v2, make_v3


def eight_pools(seed: int = 3):
    rng = random.Random(seed)
    return [(make_v2 if i % 2 else make_v3)(rng, f"p{i}", A, B, 1.7) for i in range(8)]


@pytest.mark.parametrize("legs", [4, 8])
def test_the_router_on_eight_pools(benchmark, legs):
    pools = eight_pools()
    found = benchmark(best_execution, pools, A, B, 10**22, leg_cost_out=1e17, most_legs=legs)
    assert found is not None
    assert len(found.fills) > 1


def test_the_router_is_faster_than_a_five_percent_grid_over_three_pools(pace):
    pools, found, coarse = eight_pools()[:3], [], []
    router = pace.seconds(
        lambda: found.append(best_execution(pools, A, B, 10**22, leg_cost_out=0.0, most_legs=3)), tries=5
    )
    search = pace.seconds(lambda: coarse.append(grid(pools, 10**22, 0, 20)), tries=5)
    assert found[0].out >= coarse[0]
    if pace.timed:
        print(f"router {router * 1e3:.2f} ms, grid {search * 1e3:.2f} ms")
        assert router < search


def test_a_simulated_decision_by_stage(benchmark, tmp_path):
    ctx = dry(context(tmp_path, chain()))
    report = benchmark(step, ctx)
    assert report.outcome == "planned"


@pytest.mark.chain
@pytest.mark.parametrize("evidence", ["feeds only", "feeds, rounds, averages"])
def test_new_block_to_signed_plan_on_the_local_chain(pace, benchmark, vaultnet, tmp_path, capsys, evidence):
    """Live steps on a new block each, undone afterwards: the median up to the signature on disk, split by stage."""
    from tests.execution.chainlab import chain_context, watched

    numbers, splits = itertools.count(), []
    vaultnet.mine(160)  # half an hour of blocks on time, which an average over it looks back on

    def once() -> float:
        clock, saved = {}, vaultnet.snapshot()
        ctx = chain_context(
            tmp_path / str(next(numbers)), vaultnet, checkpoint=lambda n: clock.setdefault(n, time.perf_counter())
        )
        ctx = ctx if evidence == "feeds only" else watched(ctx, vaultnet)
        vaultnet.mine()
        report = step(ctx)
        vaultnet.revert(saved)
        assert report.outcome == "traded"
        names = [*itertools.takewhile(lambda n: n != "journal_signed", clock), "journal_signed"]
        ends = [clock[n] for n in names]
        splits.append({n: 1e3 * (b - a) for n, a, b in zip(names[1:], ends, ends[1:], strict=False)})
        return sum(splits[-1].values())

    benchmark.pedantic(once, rounds=15, warmup_rounds=1)
    typical = {name: statistics.median(s[name] for s in splits) for name in splits[0]}
    total = statistics.median(sum(s.values()) for s in splits)
    if pace.timed:
        with capsys.disabled():
            print(f"\nnew block to signed plan, {evidence}: median {total:.0f} ms")
            print("".join(f"  {name:<16}{ms:7.1f} ms\n" for name, ms in typical.items()), end="")
    assert {"snapshot", "guards", "decide", "simulate", "sign"} <= set(typical)
