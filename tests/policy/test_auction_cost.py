"""The auction's cost model: against a simulation of it, the published closed form, and the choice between the ways."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from policy.auction_cost import (
    Auction,
    Fillers,
    auction_cost,
    closed_form,
    decay_for,
    gas_bp,
    priority_cost,
    sigma_block_bp,
)
from policy.costs import GAS_BASE, GAS_PER_LEG
from policy.simulation.channels import auctions

ETH = 2_500.0


def pool_bp(size_usd: float, gwei: float) -> float:
    """A pool of 5 bp in which 5 million dollars move the price by 1 %, and the vault's own gas."""
    return 5.0 + 0.5 * size_usd / 5e6 * 100 + gas_bp(GAS_BASE + GAS_PER_LEG, gwei, ETH, size_usd)


def cost(size_usd: float, gwei: float, **more) -> float:
    return auction_cost(size_usd, gwei, 0.6, 15.5, native_usd=ETH, **more).total_bp


@pytest.mark.parametrize(
    ("size_usd", "gwei", "auction"),
    [
        (3e3, 1, False),
        (3e4, 1, False),
        (3e5, 1, True),
        (3e6, 1, True),
        (3e4, 15, False),
        (3e5, 15, True),
        (3e6, 15, True),
    ],
)
def test_the_pool_is_taken_where_it_costs_less(size_usd, gwei, auction):
    assert (cost(size_usd, gwei) + 1.0 < pool_bp(size_usd, gwei)) == auction


@pytest.mark.parametrize(("sigma", "decay"), [(2.0, 1.0), (3.7, 3.0), (6.0, 9.0)])
def test_the_closed_form_is_what_a_simulation_of_random_blocks_gives(sigma, decay):
    rng = np.random.default_rng(3)
    lost, waited = [], []
    for _ in range(4_000):
        z, t = 3 * decay, 0.0
        while True:
            dt = rng.exponential()
            z += -decay * dt + sigma * np.sqrt(dt) * rng.standard_normal()
            t += dt
            if z <= 0:
                break
        lost.append(-z)
        waited.append(t)
    loss, extra = closed_form(sigma, decay)
    assert np.mean(lost) == pytest.approx(loss, rel=0.07)
    assert np.mean(waited) == pytest.approx(3.0 + extra, rel=0.07)


def test_the_walk_is_what_a_simulation_of_the_auction_gives():
    rng, terms, need = np.random.default_rng(5), Auction(60.0, 3.0, 34), Fillers().best_bp
    sigma, spread = sigma_block_bp(0.6), 15.5 * np.sqrt(np.pi / 2)
    gap = rng.normal(-60.0, spread, 40_000)
    open_, lost, blocks = np.ones(gap.size, bool), np.zeros(gap.size), np.zeros(gap.size)
    for k in range(1, terms.blocks + 1):
        hit = open_ & (gap >= need)
        lost[hit], blocks[hit], open_ = gap[hit], k, open_ & ~hit
        gap = gap + 3.0 + rng.normal(0.0, sigma, gap.size)
    found = auction_cost(1e9, 0.0, 0.6, 15.5, native_usd=ETH, auction=terms)
    assert found.loss_bp == pytest.approx(lost[~open_].mean(), rel=0.04)
    assert found.wait_s == pytest.approx(12 * blocks[~open_].mean(), rel=0.03)
    assert found.unfilled == pytest.approx(open_.mean(), abs=0.01)


def test_what_makes_it_dearer():
    assert cost(3e5, 1) < cost(3e5, 30)  # gas
    assert cost(3e5, 1, fillers=Fillers(hedge_bp=3)) < cost(3e5, 1, fillers=Fillers(hedge_bp=9))
    assert cost(3e5, 1, fillers=Fillers(count=8)) < cost(3e5, 1, fillers=Fillers(count=1))
    assert decay_for(2.0, 60.0) <= decay_for(8.0, 60.0)
    assert decay_for(3.0, 60.0) < decay_for(3.0, 60.0, wait_bp_block=0.5)
    assert priority_cost(3e5, 1, native_usd=ETH).wait_s < auction_cost(3e5, 1, 0.6, 15.5, native_usd=ETH).wait_s


def test_the_ledger_s_channels_are_the_model_of_decisions():
    """What nobody fills becomes a swap; else the two agree to the half basis point of the walk's grid."""
    value = np.array([1e4, 1e5, 1e6])
    unit = np.full(3, 5e-9 * ETH)
    dutch = auctions()["dutch"]
    found = dutch.expected_bp(value, unit, np.full(3, 12.0), Fillers().best_bp)
    for v, f in zip(value, found, strict=True):
        one = auction_cost(v, 5.0, 0.6, 15.5, native_usd=ETH, auction=Auction(60.0, 3.0, 34))
        assert f == pytest.approx(one.keeper_bp + (1 - one.unfilled) * one.loss_bp + one.unfilled * 12.0, abs=0.5)
    assert dutch.fallback == "pool"
    assert (dutch.fill >= 0).all()
    assert np.all(np.diff(dutch.fill) <= 1e-9), "who needs more fills less"
    assert pl.Series(dutch.delay_blocks).is_between(0, 34).all()
