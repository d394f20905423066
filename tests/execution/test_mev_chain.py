"""The engine against a sandwich searcher on the local chain: public loses at most its tolerance, private nothing."""

from __future__ import annotations

import pytest

from lake.units import bps
from policy.execution.context import Limits
from policy.execution.engine import step
from policy.execution.planner import PlanRules
from policy.localnet.searcher import SandwichSearcher
from tests.execution.chainlab import chain_context

pytestmark = pytest.mark.chain


def shortfalls(report):
    """Fraction each token bought fell short of its quote, and of what was tolerated."""
    quoted, least = {}, {}
    for leg in report.plan.legs:
        quoted[leg.token_out] = quoted.get(leg.token_out, 0) + leg.quoted_out
        least[leg.token_out] = least.get(leg.token_out, 0) + leg.min_out
    return [
        (1 - report.settlement.deltas[t] / q, 1 - least[t] / q)
        for t, q in quoted.items()
        if report.settlement.deltas.get(t, 0) > 0
    ]


def limits(ctx, z):
    rules = PlanRules(max_slippage_bps=bps(150), max_legs=6, z=z)
    return Limits(plan=rules, feeds=ctx.limits.feeds)


def run(net, folder, channel, z, *, deep=False, **more):
    """A step with the searcher watching; ETH only through the shallow v2 pool unless ``deep``."""
    net.node.searchers.append(SandwichSearcher(net.node, net.world))
    ctx = chain_context(folder, net)
    shallow = [net.world.pools[n].address for n in ("v2:ETH/USDC:3000", "v3:BTC/USDC:3000")]

    def pools(snapshot):
        return [p for p in ctx.pools(snapshot) if deep or p.address in shallow]

    return step(chain_context(folder, net, channel=channel, limits=limits(ctx, z), pools=pools, **more))


class Leak:
    """A relay that calls itself private and publishes what it is given."""

    name, private = "leak", True

    def __init__(self, public) -> None:
        self.send, self.cancel = public.send, public.cancel


def test_an_attacked_plan_loses_at_most_its_tolerance_and_a_private_one_nothing(vaultnet, tmp_path):
    saved = vaultnet.snapshot()
    leak = {"leak": Leak(chain_context(tmp_path, vaultnet).channels["public"])}
    leaked = run(vaultnet, tmp_path / "leak", "leak", 8.0, channels=leak)
    assert leaked.outcome == "traded", leaked.verdicts
    for lost, tolerated in shortfalls(leaked):
        assert lost <= tolerated + 1e-9
    worst = max(shortfalls(leaked))
    assert worst[0] > 0.9 * worst[1] > 0  # the searcher was there and took what it could
    vaultnet.node.searchers.clear()
    vaultnet.revert(saved)
    private = run(vaultnet, tmp_path / "private", "private", 8.0)
    assert private.outcome == "traded"
    assert all(lost == 0 for lost, _ in shortfalls(private))


def test_in_the_open_the_tolerance_falls_to_the_break_even_and_no_more_is_lost(vaultnet, tmp_path):
    """The shallow pool's break-even is below the least tolerance of 1 bp: that basis point is all there is to take."""
    report = run(vaultnet, tmp_path, "public", 8.0)
    assert report.outcome == "traded", report.verdicts
    lost, tolerated = max(shortfalls(report))
    assert lost <= tolerated + 1e-9
    assert min(t for _, t in shortfalls(report)) <= 1.0001e-4  # 8 deviations of the price alone would ask for 50 bp
    assert lost <= 1.0001e-4


def test_the_automatic_choice_hides_what_is_worth_attacking(vaultnet, tmp_path):
    report = run(vaultnet, tmp_path, "auto", 8.0)
    assert report.outcome == "traded"
    assert report.channel == "private"
    verdict = next(v for v in report.verdicts if v.check == "channel")
    assert verdict.figures["mev_usd"] > 0
    assert all(lost == 0 for lost, _ in shortfalls(report))


def test_where_no_attack_can_pay_public_is_chosen_and_nothing_is_lost(vaultnet, tmp_path):
    """Deep pools with a fee above the victim's own price impact: the break-even is never reached."""
    report = run(vaultnet, tmp_path, "auto", 8.0, deep=True)
    assert report.outcome == "traded"
    assert report.channel == "public"
    assert all(lost == 0 for lost, _ in shortfalls(report))
