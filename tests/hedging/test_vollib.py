"""Prices, Greeks and implied volatilities against vollib, at extreme strikes, times and volatilities too."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from vollib.black import undiscounted_black
from vollib.black.greeks import analytical
from vollib.black.implied_volatility import implied_volatility_of_undiscounted_option_price as reference_vol

from policy.hedging import pricing
from policy.hedging.pricing import DELTA, GAMMA, PRICE, THETA, VEGA

DAYS, POINTS = 365.0, 100.0
forwards = st.floats(1e-2, 1e6)
moneyness = st.floats(-2.0, 2.0)  # ln(strike / forward)
times = st.floats(1e-4, 5.0)  # under an hour to five years
vols = st.floats(0.01, 5.0)
flags = st.sampled_from("cp")


def ours(F, K, tau, vol, flag):
    return pricing.greeks([F], [K], [tau], [vol], np.array([flag == "c"]))[0]


@settings(max_examples=400, deadline=None)
@given(forwards, moneyness, times, vols, flags)
def test_price_and_greeks(F, k, tau, vol, flag):
    K = F * math.exp(k)
    g = ours(F, K, tau, vol, flag)
    size = max(F, K)
    assert g[PRICE] == pytest.approx(undiscounted_black(F, K, vol, tau, flag), rel=1e-10, abs=1e-13 * size)
    args = (flag, F, K, tau, 0.0, vol)
    assert g[DELTA] == pytest.approx(analytical.delta(*args), rel=1e-10, abs=1e-13)
    assert g[GAMMA] * F == pytest.approx(analytical.gamma(*args) * F, rel=1e-10, abs=1e-13)
    assert g[VEGA] / F == pytest.approx(analytical.vega(*args) * POINTS / F, rel=1e-10, abs=1e-13)
    assert g[THETA] / F == pytest.approx(analytical.theta(*args) * DAYS / F, rel=1e-10, abs=1e-12)


@settings(max_examples=400, deadline=None)
@given(forwards, moneyness, times, vols, flags)
def test_implied_volatility(F, k, tau, vol, flag):
    """Both come from one price; where its rounding alone moves a volatility, each is given as much."""
    K = F * math.exp(k)
    price = undiscounted_black(F, K, vol, tau, flag)
    intrinsic = max(F - K if flag == "c" else K - F, 0.0)
    vega = ours(F, K, tau, vol, flag)[VEGA]
    assume(price - intrinsic > 1e-12 * max(F, K))
    assume(price < (F if flag == "c" else K) * (1 - 1e-9))
    assume(vega > 0)
    found = pricing.implied_vol([price], [F], [K], [tau], np.array([flag == "c"]))
    assert found.status[0] == pricing.OK
    rounding = 2.0**-52 * max(F, K) / vega
    reference = reference_vol(price, F, K, tau, flag)
    assert found.vol[0] == pytest.approx(reference, rel=1e-9, abs=16 * rounding)
    assert found.vol[0] == pytest.approx(vol, rel=1e-9, abs=16 * rounding)


@pytest.mark.parametrize("flag", ["c", "p"])
@pytest.mark.parametrize("price", [0.0, 10.0, 9.999])
def test_both_refuse_a_price_without_a_volatility(flag, price):
    """In the money by 10: no volatility gives intrinsic value or less."""
    F, K = (110.0, 100.0) if flag == "c" else (100.0, 110.0)
    found = pricing.implied_vol([price], [F], [K], [0.5], np.array([flag == "c"]))
    assert math.isnan(found.vol[0])
    assert found.status[0] in {pricing.AT_INTRINSIC, pricing.BAD_INPUT}
    try:
        reference = reference_vol(price, F, K, 0.5, flag)
    except Exception as refusal:  # noqa: BLE001 - vollib names its own
        assert "intrinsic" in str(refusal).lower() or "Below" in type(refusal).__name__  # noqa: PT017
    else:
        assert not reference > 0
