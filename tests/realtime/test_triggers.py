import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.realtime.triggers import ORDER, Marks, NextBlock, TriggerLevels, pays, triggers

HEAD = NextBlock(100, 7_200_000 + 500, 20 * 10**9, 10**9)
QUIET = TriggerLevels(reserve_gwei=15.0, outer=0.05, hard=True, decided_epoch=2_000)
CALM = Marks(distance=0.01, in_tolerances=0.5)


def test_a_block_without_a_reason_has_none():
    assert triggers(HEAD, CALM, QUIET) == ()


@pytest.mark.parametrize(
    ("marks", "limits", "found"),
    [
        (CALM, replace(QUIET, reserve_gwei=21.0), "gas"),
        (replace(CALM, distance=0.05), QUIET, "price"),
        (replace(CALM, in_tolerances=0.99), QUIET, "breach"),
        (replace(CALM, cash_moved=True), QUIET, "cash"),
        (replace(CALM, new_round=True), QUIET, "oracle"),
        (replace(CALM, oracle_age_s=3_590.0), QUIET, "oracle"),
        (replace(CALM, nonce_moved=True), QUIET, "flight"),
        (CALM, replace(QUIET, decided_epoch=1_999), "hour"),
    ],
)
def test_each_reason_is_found_alone(marks, limits, found):
    assert triggers(HEAD, marks, limits) == (found,)


def test_a_soft_mandate_has_no_breach():
    assert triggers(HEAD, replace(CALM, in_tolerances=5.0), replace(QUIET, hard=False)) == ()


@given(st.integers(0, 10**12), st.integers(0, 10**11), st.floats(-10, 1_000))
def test_gas_is_a_reason_exactly_when_the_next_block_costs_no_more_than_the_reservation_price(base, tip, reserve):
    head = replace(HEAD, next_base_fee_wei=base, tip_wei=tip)
    assert pays(head, reserve) == (reserve > 0 and base + tip <= reserve * 1e9)
    if pays(head, reserve):
        assert pays(replace(head, next_base_fee_wei=base // 2), reserve)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["distance", "in_tolerances", "oracle_age_s"])
def test_what_is_no_number_is_no_reason_to_trade(bad, name):
    marks = replace(CALM, cash_moved=True, nonce_moved=True, **{name: bad})
    assert triggers(HEAD, marks, replace(QUIET, reserve_gwei=1e6)) == ("unknown",)
    assert triggers(HEAD, CALM, replace(QUIET, reserve_gwei=bad)) == ("unknown",)
    assert triggers(HEAD, marks, replace(QUIET, decided_epoch=0)) == ("hour", "unknown")


@given(
    st.builds(
        Marks, st.floats(0, 1), st.floats(0, 3), st.booleans(), st.booleans(), st.booleans(), st.floats(0, 10_000)
    ),
    st.builds(
        TriggerLevels,
        st.floats(0, 100),
        st.floats(0, 1),
        st.booleans(),
        st.just(3600.0),
        st.just(3600),
        st.integers(0, 3000),
    ),
)
def test_they_come_most_urgent_first_once_each_and_the_same_for_the_same_block(marks, limits):
    found = triggers(HEAD, marks, limits)
    assert found == triggers(HEAD, marks, limits)
    assert [ORDER.index(t) for t in found] == sorted({ORDER.index(t) for t in found})
    assert "unknown" not in found
