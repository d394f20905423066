"""hedge_predictive: a forecast of the past only, waits where gas will fall, and no harm where evidence is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy.hedging import predictive
from policy.hedging.ledger import run
from policy.hedging.predictive import expected_gas, hedge_predictive, trusted, waiting_band
from policy.hedging.strategies import hedge_gas_band
from tests.hedging.test_strategies import FIRST, made, prices

LONG = 24 * 7 * 40


def daily(swing, seed=1, noise=0.05):
    """Gas that is cheap at night by ``swing`` in logs, and a history long enough for evidence."""
    case = made(price=prices(4, LONG), gas=4e-4)
    hour = np.arange(LONG) % 24
    wave = swing * np.cos(2 * np.pi * hour / 24) + noise * np.random.default_rng(seed).standard_normal(LONG)
    return replace(case, costs=replace(case.costs, gas=4e-4 * np.exp(wave)))


def test_the_expected_gas_is_close_where_the_day_repeats():
    gas = daily(1.0, noise=1e-6).costs.gas
    ahead = expected_gas(gas, 1.0)
    for row, hours in zip(ahead, predictive.AHEAD_H, strict=True):
        known = np.isfinite(row[: LONG - int(hours)])
        assert known[24 * 30 :].all()
        assert np.allclose(row[24 * 60 : LONG - 24], np.roll(gas, -int(hours))[24 * 60 : LONG - 24], rtol=0.02)


def test_the_forecast_knows_the_past_only():
    gas = daily(0.5).costs.gas
    changed = gas.copy()
    changed[3_000:] *= np.exp(np.random.default_rng(5).standard_normal(LONG - 3_000))
    a, b = expected_gas(gas, 1.0), expected_gas(changed, 1.0)
    assert np.array_equal(a[:, :3_000], b[:, :3_000], equal_nan=True)


def test_evidence_is_of_the_weeks_before_and_a_lucky_start_is_not_enough():
    rng = np.random.default_rng(0)
    base = 1.0 + 0.1 * rng.standard_normal(40)
    assert not trusted(base - 0.01 * rng.standard_normal(40), base)[: predictive.LEAST_WEEKS].any()
    better = trusted(base - 0.2 - 0.05 * rng.standard_normal(40), base)
    assert not better[: predictive.LEAST_WEEKS].any()
    assert better[predictive.LEAST_WEEKS :].all()
    assert not trusted(base + 0.05, base).any()
    changed = base.copy()
    changed[20:] += 5.0
    assert np.array_equal(trusted(changed, base + 0.2)[:21], trusted(base, base + 0.2)[:21])


def test_where_gas_repeats_waiting_pays_and_is_trusted():
    case = daily(1.2)
    base = run(case, hedge_gas_band(case, 3.0), FIRST).objective_bp(3.0)
    waiting = run(case, waiting_band(case, 3.0), FIRST).objective_bp(3.0)
    mine = run(case, hedge_predictive(case, 3.0, FIRST), FIRST).objective_bp(3.0)
    assert waiting < base
    assert mine <= base * 1.005


@pytest.mark.parametrize("gamma", [3.0, 30.0])
def test_where_gas_is_noise_nothing_is_lost(gamma):
    case = daily(0.0, noise=0.5)
    base = run(case, hedge_gas_band(case, gamma), FIRST).objective_bp(gamma)
    assert run(case, hedge_predictive(case, gamma, FIRST), FIRST).objective_bp(gamma) <= 1.005 * base


def test_flat_gas_is_the_gas_band():
    case = daily(0.0, noise=0.0)
    a, b = hedge_predictive(case, 10.0, FIRST), hedge_gas_band(case, 10.0)
    assert np.allclose(a.outer, b.outer, rtol=1e-6)
    assert np.array_equal(a.inner, b.inner)
