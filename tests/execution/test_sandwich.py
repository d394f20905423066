"""The attacker's break-even against an attack played out in exact pool arithmetic."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lake.units import bps
from policy.execution.routing.amm import V2Pool, quote
from policy.execution.routing.sandwich import attack, break_even, depth_of, tolerance_bps
from policy.execution.submission.channels import Cost, choose_channel
from tests.execution.test_router import A, B, make_v2, make_v3


def worst_attack(depth, victim_in, tolerance):
    """The most an attacker earns before gas while the victim still gets its minimum; 0 if none pays."""
    low, high = 0.0, depth.x * 10
    for _ in range(80):
        middle = (low + high) / 2
        if float(attack(depth, victim_in, middle)[1]) <= tolerance / 10_000:
            low = middle
        else:
            high = middle
    profit, _ = attack(depth, victim_in, np.linspace(0.0, low, 257))
    return max(0.0, float(profit.max()))


def play(pool, victim_in: int, front_in: int) -> tuple[int, int]:
    """Attacker's profit and the victim's output, by exact swaps; the attacker sells what it bought."""
    token_out = B
    front = quote(pool, A, front_in)
    if front is None:
        return 0, quote(pool, A, victim_in).out
    victim = quote(front.after, A, victim_in)
    back = quote(victim.after, token_out, front.out)
    return back.out - front_in, victim.out


def pools(seed: int):
    rng = random.Random(seed)
    return (make_v2 if seed % 2 else make_v3)(rng, "p", A, B, 1.7)


def narrow_enough(pool, amount: int) -> bool:
    """Whether the attack stays in one liquidity range."""
    fill = quote(pool, A, amount)
    return fill is not None and (isinstance(pool, V2Pool) or fill.after.liquidity == pool.liquidity)


@pytest.mark.parametrize("seed", range(20))
def test_the_curve_attack_is_the_played_attack(seed):
    pool = pools(seed)
    depth = depth_of(pool, A)
    victim = int(depth.x * 0.01)
    clean = quote(pool, A, victim).out
    for share in (0.001, 0.01, 0.03):
        front = int(depth.x * share)
        if not narrow_enough(pool, front + victim):
            continue
        profit, out = play(pool, victim, front)
        model_profit, shortfall = attack(depth, float(victim), float(front))
        assert float(model_profit) == pytest.approx(profit, rel=1e-6, abs=depth.x * 1e-12)
        assert float(shortfall) == pytest.approx(1 - out / clean, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_no_attack_pays_below_the_break_even_and_one_does_above(seed):
    pool = pools(seed)
    depth = depth_of(pool, A)
    victim, gas = float(depth.x * 0.02), depth.x * 2e-6
    even = break_even(depth, victim, gas)
    assert 0 < even < 1
    sizes = np.geomspace(depth.x * 1e-7, depth.x * 5, 20_000)
    profit, shortfall = attack(depth, victim, sizes)
    assert profit[shortfall <= even * (1 - 1e-6)].max() <= gas * (1 + 1e-6)
    assert profit[shortfall <= even * 1.01].max() > gas


@pytest.mark.parametrize("seed", range(6))
def test_the_optimal_attackers_victim_gets_exactly_its_minimum(seed):
    """What the searcher takes from a pool grows with the tolerance; the shortfall equals it (measured on chain)."""
    depth = depth_of(pools(seed), A)
    victim = depth.x * 0.05
    earned = [worst_attack(depth, victim, bps(t)) for t in (10, 50, 100, 300)]
    assert earned == sorted(earned)
    assert earned[-1] > 0
    sizes = np.linspace(0, depth.x, 200_000)
    profit, shortfall = attack(depth, victim, sizes)
    best = shortfall[np.where(shortfall <= 0.01, profit, -1).argmax()]
    assert best == pytest.approx(0.01, rel=1e-2)


def test_dearer_gas_and_smaller_trades_allow_more_tolerance():
    depth = depth_of(pools(1), A)
    by_gas = [break_even(depth, depth.x * 0.01, depth.x * g) for g in (1e-8, 1e-7, 1e-6, 1e-5)]
    by_size = [break_even(depth, depth.x * s, depth.x * 1e-6) for s in (0.1, 0.03, 0.01, 0.003)]
    assert by_gas == sorted(by_gas)
    assert by_size == sorted(by_size)
    assert break_even(depth, depth.x * 1e-9, depth.x) == 1.0


def test_tolerance_is_what_the_market_needs_within_the_mandate():
    assert tolerance_bps(0.0012, 0.01, bps(100)) == (12, False)
    assert tolerance_bps(0.0012, 0.0005, bps(100)) == (12, True)
    assert tolerance_bps(0.5, 0.01, bps(100)) == (100, False)
    assert tolerance_bps(0.0, 0.0, bps(100)) == (1, True)


def test_in_the_open_the_tolerance_falls_to_the_break_even():
    assert tolerance_bps(0.0050, 0.00201, bps(100), hidden=False) == (20, False)
    assert tolerance_bps(0.0050, 0.0090, bps(100), hidden=False) == (50, False)
    assert tolerance_bps(0.0050, 0.00001, bps(100), hidden=False) == (1, True)
    for seed in range(10):
        depth = depth_of(pools(seed), A)
        victim, gas = depth.x * 0.03, depth.x * 3e-6
        granted, risky = tolerance_bps(0.02, break_even(depth, victim, gas), bps(300), hidden=False)
        assert risky or worst_attack(depth, victim, granted) <= gas
        assert granted == 200 or worst_attack(depth, victim, bps(granted + 1)) > gas


def test_the_chosen_channel_is_the_cheaper_one_in_random_cases():
    """Truth: play the sandwich with the searcher's own rule, private loses only the wait. 200 cases."""
    rng = random.Random(5)
    right = 0
    for seed in range(200):
        pool = pools(seed)
        depth = depth_of(pool, A)
        victim = depth.x * 10 ** rng.uniform(-3.5, -1.3)
        gas = depth.x * 10 ** rng.uniform(-7, -4)
        tolerance, risky = tolerance_bps(10 ** rng.uniform(-4, -2), break_even(depth, victim, gas), bps(100))
        delay = depth.x * 10 ** rng.uniform(-7, -4)
        fills = depth.y * depth.keep * victim / (depth.x + depth.keep * victim)
        loss = tolerance / 10_000 * fills if risky else 0.0
        name, verdict = choose_channel(("public", "private"), loss, delay)
        assert verdict.figures["mev_usd"] == loss
        attacked = worst_attack(depth, victim, tolerance) > gas
        true_public = (tolerance / 10_000 * fills if attacked else 0.0) + delay
        true_private = 2.5 * delay
        right += name == ("public" if true_public <= true_private else "private")
    assert right >= 190


def test_the_choice_counts_refunds_and_delay():
    costs = {"public": Cost(1, 1), "private": Cost(3, 0), "share": Cost(4, -0.2)}
    assert choose_channel(("public", "private"), 0.0, 1.0, costs)[0] == "public"
    assert choose_channel(("public", "private"), 10.0, 1.0, costs)[0] == "private"
    assert choose_channel(("public", "private", "share"), 100.0, 1.0, costs)[0] == "share"
    assert choose_channel(("public", "private"), 10.0, 100.0, costs)[0] == "public"
