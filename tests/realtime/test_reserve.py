import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.realtime import reserve
from policy.solvers import bands

cost = st.floats(1e-7, 1e-2)


@given(g=cost, k=cost, m=st.floats(0.0, 1.0), B=st.floats(0.1, 100.0))
def test_the_gas_that_a_distance_pays_is_the_gas_whose_band_ends_there(g, k, m, B):
    outer, inner = bands.solve(g, k, B, m)
    paid, back = reserve.soft(outer, *(np.array([v]) for v in (k, m, B)))
    assert paid[0] == pytest.approx(g, rel=1e-6)
    assert back[0] == pytest.approx(inner[0], rel=1e-6, abs=1e-9)


@given(k=cost, m=st.floats(0.0, 1.0), B=st.floats(0.1, 100.0))
def test_a_wider_distance_pays_more_and_one_inside_the_fee_s_band_nothing(k, m, B):
    r = np.linspace(0.0, 0.5, 200)
    paid, back = reserve.soft(r, np.full(200, k), np.full(200, m), np.full(200, B))
    assert (np.diff(paid) >= -1e-15).all()
    assert (paid[r <= 0.5 * (k / B) ** (1.0 / 3.0)] == 0.0).all()
    assert ((back >= 0.0) & (back <= r)).all()


@given(now=cost, usual=cost, k=cost, m=st.floats(0.0, 1e-3), exit_h=st.floats(1.0, 1_000.0))
def test_in_a_hard_mandate_it_pays_exactly_where_the_band_acts(now, usual, k, m, exit_h):
    one = (np.array([v]) for v in (now, usual, k, m, exit_h))
    outer, _, rate = bands.hard_band(*one, early=True)
    value = rate * exit_h
    for r in (outer[0] - 1e-6, min(outer[0] + 1e-6, 1.0)):
        if r > 0.0 and (r >= 1.0 or now < usual):
            paid = reserve.hard(np.array([r]), np.array([usual]), np.array([k]), value)[0]
            assert (now <= paid) == (r >= outer[0]) or abs(now - paid) < 1e-6 * usual + 2e-6 * value[0]


def test_the_tolerance_is_paid_for_at_any_gas():
    one = np.ones(1)
    assert reserve.hard(one, one * 1e-4, one * 1e-4, one * 1e-3)[0] == np.inf
