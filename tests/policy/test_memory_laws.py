"""What a decision came from, written and read again to the bit: state, forecasts, memory; and the decision in words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lake.errors import ExecutionError
from policy.base import Decision, Forecast, Market, State, tradable
from policy.costs import chain_fees
from policy.explain import explain
from policy.memory import (
    PolicyMemory,
    expect,
    forecasts_from,
    forecasts_json,
    state_from,
    state_json,
)
from policy.names import BASELINE, BOUNDS, LIVE_NAMES, OTHER, PARTS, REACTIVE_NAMES, TRAITS, traits

N = 3
AT = datetime(2024, 3, 14, 15, 0, 7, 123_456, tzinfo=UTC)
numbers = st.floats(allow_nan=False)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))
memories = st.builds(
    PolicyMemory,
    st.sampled_from(["gas_band", "predictive"]),
    moments,
    st.dictionaries(
        st.text("abc_", min_size=1, max_size=4),
        arrays(np.float64, st.sampled_from([(), (2,), (2, 3), (1, 2, 2)]), elements=numbers),
        max_size=4,
    ),
)
states = st.builds(
    lambda weights, gas, usual, last, shut, scenario: State(
        AT, ("ETH", "BTC", "USDC"), weights, np.full(N, 1 / N), np.array([0.05, np.inf, 0.1]), 1e6, 3.0, scenario,
        np.diag(weights), Market(gas, 2_000.0, chain_fees(8453), weights, weights + 1.0, usual, shut), last, 0.5,
    ),
    arrays(np.float64, (N,), elements=st.floats(0, 1)), st.floats(0, 1e4), st.none() | st.floats(0, 1e4),
    st.none() | moments, st.none() | arrays(np.bool_, (N,)), st.sampled_from(["soft", "hard"]),
)  # fmt: skip
forecasts = st.lists(
    st.builds(
        Forecast, st.sampled_from(["gas", "drift"]), st.sampled_from(["1", "ETH"]), moments, st.integers(1, 10**6),
        st.none() | st.tuples(*[numbers] * 5), st.none() | numbers, st.text(max_size=5),
        st.booleans(), st.text(max_size=9),
    ),
    max_size=5,
)  # fmt: skip


def through(data):
    return json.loads(json.dumps(data, allow_nan=False))


def same(a: object, b: object) -> bool:
    """Whether two records are equal to the bit, arrays by their bytes."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and a.tobytes() == b.tobytes()
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__)
    return a == b


@given(state=states)
def test_a_state_comes_back_to_the_bit(state):
    assert same(state_from(through(state_json(state))), state)


@given(rows=forecasts)
def test_forecasts_come_back_whatever_order_they_were_in(rows):
    view = {(f.target, f.key, f.horizon_s): f for f in rows}
    data = forecasts_json(view)
    assert forecasts_from(through(data)) == view
    assert forecasts_json(dict(reversed(view.items()))) == data


@given(memory=memories)
def test_a_memory_comes_back_to_the_bit_with_its_digest(memory):
    again = PolicyMemory.from_json(through(memory.to_json()))
    assert (again.policy, again.at, again.digest) == (memory.policy, memory.at, memory.digest)
    assert set(again.values) == set(memory.values)
    assert all(same(again.values[n], np.asarray(v)) for n, v in memory.values.items())


@given(memory=memories, name=st.sampled_from(["gas_band", "predictive"]))
def test_a_memory_is_taken_by_its_own_policy_only(memory, name):
    if memory.policy == name:
        assert expect(memory, name) is memory
        return
    with pytest.raises(ExecutionError, match=f"that of {memory.policy}, not of {name}"):
        expect(memory, name)


def test_any_change_of_what_is_known_changes_the_digest():
    base = PolicyMemory("gas_band", AT, {"a": np.array([1.0, 2.0])})
    others = [
        PolicyMemory("band", AT, base.values),
        PolicyMemory("gas_band", AT.replace(second=8), base.values),
        PolicyMemory("gas_band", AT, {"a": np.array([1.0, np.nextafter(2.0, 3.0)])}),
        PolicyMemory("gas_band", AT, {"b": np.array([1.0, 2.0])}),
        PolicyMemory("gas_band", AT, {}),
    ]
    assert len({m.digest for m in (base, *others)}) == 6
    assert PolicyMemory("gas_band", AT, {"x": np.array(3.5)}).number("x") == 3.5


@given(state=states)
def test_every_asset_has_a_market_where_nothing_else_is_said(state):
    shut = state.market.tradable
    assert tradable(state).tolist() == ([True] * N if shut is None else shut.tolist())


def one_state() -> State:
    market = Market(20.0, 2_000.0, chain_fees(1), np.full(N, 0.003), np.full(N, 1e7))
    names = ("ETH", "BTC", "USDC")
    weights, target = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.3, 0.3])
    return State(AT, names, weights, target, np.full(N, 0.05), 1e6, 3.0, "soft", np.eye(N), market)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("trade", "Trade now (soft"),
        ("forced", "the mandate leaves no choice"),
        ("split", "Trade a part now"),
        ("wait", "Wait"),
    ],
)
def test_a_decision_says_what_it_weighed_against_what(action, words):
    state = one_state()
    to = state.weights if action == "wait" else state.target
    text = explain(state, Decision(action, to, 120.0, 45.5, 7.0, "gas is low", "gas_band"))
    assert words in text
    assert "2024-03-14 15:00 UTC" in text
    assert "45.50 USD" in text
    assert "120.00 USD" in text
    assert ("74.50 USD" in text) == (action != "wait")
    assert ("7.00 USD" in text) == (action == "wait")
    assert "decided by the fallback gas_band" in text
    assert ("50.00% ->" in text) == (action != "wait")
    assert "BTC" not in text


def test_what_is_known_of_a_policy_is_one_row():
    assert set(REACTIVE_NAMES) <= set(LIVE_NAMES) <= set(PARTS)
    assert BASELINE in REACTIVE_NAMES
    assert not set(BOUNDS) & set(LIVE_NAMES)
    assert all(traits(n).role in {"reactive", "predictive", "bound"} for n in TRAITS)
    assert all(not traits(n).reads for n in REACTIVE_NAMES)
    assert traits("nobody's") == OTHER


GROUNDS = "#ffffff", "#11171c"
"""The papers that a policy's mark is drawn on: the report's and MLflow's, light and dark."""


def linear(colour: str) -> np.ndarray:
    share = np.array(list(bytes.fromhex(colour.removeprefix("#")))) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)  # sRGB, IEC 61966-2-1


def contrast(a: str, b: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""
    low, high = sorted(float(linear(c) @ (0.2126, 0.7152, 0.0722)) + 0.05 for c in (a, b))
    return high / low


def lab(colour: str) -> np.ndarray:
    """Return L*, a*, b* (CIE 1976, D65)."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear(colour)
    x, y, z = np.cbrt(xyz / (0.9505, 1.0, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_each_policy_has_a_colour_that_is_seen_on_both_grounds_and_told_from_every_other():
    colours = {name: TRAITS[name].colour for name in TRAITS}
    assert {n: c for n, c in colours.items() if min(contrast(c, g) for g in GROUNDS) < 3} == {}, "WCAG 1.4.11"
    apart = {(a, b): np.linalg.norm(lab(x) - lab(y)) for (a, x), (b, y) in combinations(colours.items(), 2)}
    assert {pair: d for pair, d in apart.items() if d < 20} == {}
