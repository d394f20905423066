"""Backtest and chain agree: rebalances of the real vault, replayed by the simulated one from the recorded state.

FOREDRIFT_REPLAYS sets how many (200 take some minutes).
"""

from __future__ import annotations

import math
import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from policy.execution.engine import step
from policy.execution.routing.pool_reader import read_pools
from policy.execution.state_builder import state_of
from policy.execution.submission.gas import next_base_fee, usual_tip
from policy.execution.submission.node import BlockHeader
from policy.execution.vaults.simulated.adapter import SimulatedVault, VaultSpec, executor
from policy.execution.vaults.simulated.chain import Genesis, SimChain
from policy.execution.vaults.simulated.world import SimWorld
from tests.execution.chainlab import chain_context, known_pools

pytestmark = [pytest.mark.chain, pytest.mark.slow]
COUNT = int(os.environ.get("FOREDRIFT_REPLAYS", "10"))


def replica(snapshot, pools, mandate, clock, *, vault, keeper):
    """Return a simulated chain and vault in the recorded state of a real one, to replay what happened there.

    ``pools`` as read at the snapshot's block, ``mandate`` and ``clock`` as the real vault had them; feeds count as
    fresh when they were posted, whatever their own heartbeats (the guards judge those).
    """
    oldest = max(snapshot.block_time - min(q.updated_at for q in snapshot.quotes), 0)
    spec = VaultSpec(vault, keeper, snapshot.tokens, mandate, heartbeat_s=oldest + 3_600)
    world = SimWorld(
        balances={t.address: h for t, h in zip(snapshot.tokens, snapshot.holdings, strict=True)},
        pools={p.address: p for p in pools},
        prices={q.token: (q.price_e8, q.updated_at, q.round_id) for q in snapshot.quotes},
        clock=clock,
        targets_bps=snapshot.targets_bps,
        paused=snapshot.paused,
    )
    chain = SimChain(
        world,
        executor(spec),
        Genesis(snapshot.chain_id, snapshot.block_time, snapshot.block_number, snapshot.base_fee_wei),
        wei={keeper: 10**21},
    )
    return chain, SimulatedVault(spec, chain)


def test_replayed_rebalances_decide_exactly_the_same_and_fill_the_same(vaultnet, tmp_path):
    net = vaultnet
    rng = random.Random(7)
    infos = known_pools(net)
    middle, away = {"BTC": 20_000.0, "ETH": 1_500.0}, {"BTC": 0.0, "ETH": 0.0}
    base = chain_context(tmp_path, net)
    traded, worst, start = 0, 0.0, datetime.fromtimestamp(net.node.head().time, UTC)
    hours = 0
    while traded < COUNT:
        hours += 2
        away = {a: 0.9 * x + rng.gauss(0, 0.025) for a, x in away.items()}  # the pools' liquidity is in the middle
        prices = {a: middle[a] * math.exp(x) for a, x in away.items()}
        head = net.advance_prices(prices, gas_gwei=rng.uniform(5, 40), at=start + timedelta(hours=hours))
        recorded = {}

        def policy_seen(state, forecasts, recorded=recorded):
            recorded["state"] = state
            recorded["decision"] = base.policy.decide(state, forecasts)
            return recorded["decision"]

        ctx = replace(base, policy=Recorder(policy_seen))
        before = ctx.vault.state(head.hash)
        snapshot = ctx.vault.snapshot(head.hash)
        pools = read_pools(net.rpc, infos, head.hash)
        report = step(ctx)
        if report.outcome == "waited":
            continue
        assert report.outcome == "traded", report.verdicts
        traded += 1
        chain, vault = replica(
            snapshot, pools, before.mandate, before.clock, vault=ctx.vault_address, keeper=ctx.sender
        )
        # the same decision, exactly
        at = BlockHeader(head.number, head.hash, head.time, snapshot.base_fee_wei, head.gas_used, head.gas_limit)
        price = next_base_fee(at, ctx.limits.gas) + usual_tip(ctx.node.fee_history(1), ctx.limits.gas)
        state = state_of(vault.snapshot(), ctx.portfolio, ctx.view(snapshot), vault.pools(vault.snapshot()), price)
        decision = base.policy.decide(state, {})
        assert np.array_equal(state.weights, recorded["state"].weights)
        assert np.array_equal(decision.weights, recorded["decision"].weights)
        assert (decision.action, decision.why) == (recorded["decision"].action, recorded["decision"].why)
        # the same fills
        plan = vault.seal(report.plan)
        assert list(vault.check(plan)) == []
        simulation = vault.simulate(vault.build(plan), ctx.sender)
        assert simulation.ok
        for token, delta in report.settlement.deltas.items():
            if delta:
                worst = max(worst, abs(simulation.deltas[token] / delta - 1))
        assert dict(simulation.deltas) == dict(report.settlement.deltas)
    print(f"{traded} rebalances replayed, worst difference of a fill {worst:.2e}")
    assert worst < 1e-4


class Recorder:
    """The policy under its own name, with what it saw."""

    name = "to_target"

    def __init__(self, seen) -> None:
        self.decide = seen
