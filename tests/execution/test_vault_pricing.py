"""The oracle's rules in Python, without a chain: verdicts at their edges and relations between them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.execution import pricing
from policy.execution.pricing import Answer, Evidence, Source

NOW = 1_700_000_000
SOURCE = Source("t", 18, "f", 3_600, 8, "s", 3_600, 8, 100, pricing.FEED)
GOOD = Answer(7, 2_000 * 10**8, NOW - 10, NOW - 10)


def told(first: Answer | None, second: Answer | None = GOOD, source: Source = SOURCE) -> int:
    return pricing.price(0, [source], Evidence([first], [second]), NOW)[1]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (GOOD, pricing.GOOD),
        (None, pricing.UNREACHABLE),
        (replace(GOOD, answer=0), pricing.NOT_POSITIVE),
        (replace(GOOD, answer=-1), pricing.NOT_POSITIVE),
        (replace(GOOD, answer=2**127), pricing.NOT_POSITIVE),
        (replace(GOOD, answer=2**64), pricing.NOT_POSITIVE),
        (replace(GOOD, updated_at=NOW - 3_600), pricing.GOOD),
        (replace(GOOD, updated_at=NOW - 3_601), pricing.STALE),
        (replace(GOOD, updated_at=NOW + 1), pricing.STALE),
        (replace(GOOD, updated_at=0), pricing.STALE),
    ],
)
def test_one_feed_at_its_edges(answer: Answer | None, code: int):
    assert told(answer) == code
    assert told(GOOD, answer) == (pricing.GOOD if code == pricing.GOOD else pricing.SECOND_BAD)
    alone = replace(SOURCE, second_kind=pricing.ALONE)
    assert told(GOOD, answer, alone) == pricing.GOOD


@given(st.integers(1, 2**63), st.integers(1, 2**63), st.integers(0, 500))
def test_deviation_is_exactly_the_bound_of_the_second(first: int, second: int, bound: int):
    source = replace(SOURCE, deviation_bps=bound)
    code = told(replace(GOOD, answer=first), replace(GOOD, answer=second), source)
    assert (code == pricing.GOOD) == (abs(first - second) * 10_000 <= bound * second)


@given(st.integers(0, 18), st.integers(1, 10**15))
def test_feed_decimals_only_scale(decimals: int, answer: int):
    price, _ = pricing.read(replace(GOOD, answer=answer), 3_600, decimals, NOW)
    exact = answer * 10**8 // 10**decimals
    assert price == (exact if 0 < exact <= pricing.MAX_PRICE else 0)


@given(st.integers(1, pricing.MAX_TICK))
def test_powers_rise_and_mirror(tick: int):
    assert pricing.power(tick) > pricing.power(tick - 1) > 0
    mirrored = pricing.power(tick) * pricing.power(-tick)
    assert abs(mirrored - 2**192) <= 2**192 // 2**30  # the small one keeps 32 bits or more


@pytest.mark.parametrize(
    ("answer", "started", "ok"),
    [(0, NOW - 3_601, True), (0, NOW - 3_600, False), (1, NOW - 9_999, False), (0, 0, False), (0, NOW + 1, False)],
)
def test_sequencer(answer: int, started: int, ok: bool):
    code = pricing.sequencer_code(Answer(1, answer, started, started), 3_600, NOW)
    assert (code == pricing.GOOD) == ok
    assert pricing.sequencer_code(None, 3_600, NOW) == pricing.SEQUENCER
    _, codes = pricing.codes([SOURCE], Evidence([GOOD], [GOOD], Answer(1, answer, started, started)), NOW, 3_600)
    assert codes == ((pricing.GOOD,) if ok else (pricing.SEQUENCER,))


@given(st.integers(-200_000, 200_000), st.integers(1, 3_600))
def test_average_of_a_steady_tick_is_its_price_either_way(tick: int, window: int):
    quote_price = 10**8
    row = replace(SOURCE, second_s=window, decimals=18)
    up, _ = pricing.average(replace(row, second_kind=pricing.TWAP_0), (5, 5 + tick * window), quote_price, 18)
    down, _ = pricing.average(replace(row, second_kind=pricing.TWAP_1), (5, 5 - tick * window), quote_price, 18)
    assert up == down
    assert up == (quote_price * pricing.power(tick) >> 64) >> 32
    assert pricing.average(row, None, quote_price, 18)[1] == pricing.UNREACHABLE


def test_a_price_in_an_unpriced_quote_is_no_second_source():
    rows = [replace(SOURCE, second_kind=pricing.ALONE), replace(SOURCE, second_kind=pricing.TWAP_0, second_detail=0)]
    dead = Evidence([None, GOOD], [None, (0, 0)])
    assert pricing.price(1, rows, dead, NOW)[1] == pricing.SECOND_BAD
    names = [v.reason for v in pricing.verdicts(["A", "B"], *pricing.codes(rows, dead, NOW))]
    assert len(names) == 2
    assert names[0].startswith("A: the feed does not answer")
