"""The oracle's rules in Python, without a chain: verdicts at their edges and relations between them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.execution.checks import oracle_rules
from policy.execution.checks.oracle_rules import Answer, FeedAnswers, PriceSource

NOW = 1_700_000_000
SOURCE = PriceSource("t", 18, "f", 3_600, 8, "s", 3_600, 8, 100, oracle_rules.FEED)
GOOD = Answer(7, 2_000 * 10**8, NOW - 10, NOW - 10)


def told(first: Answer | None, second: Answer | None = GOOD, source: PriceSource = SOURCE) -> int:
    return oracle_rules.price(0, [source], FeedAnswers([first], [second]), NOW)[1]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (GOOD, oracle_rules.GOOD),
        (None, oracle_rules.UNREACHABLE),
        (replace(GOOD, answer=0), oracle_rules.NOT_POSITIVE),
        (replace(GOOD, answer=-1), oracle_rules.NOT_POSITIVE),
        (replace(GOOD, answer=2**127), oracle_rules.NOT_POSITIVE),
        (replace(GOOD, answer=2**64), oracle_rules.NOT_POSITIVE),
        (replace(GOOD, updated_at=NOW - 3_600), oracle_rules.GOOD),
        (replace(GOOD, updated_at=NOW - 3_601), oracle_rules.STALE),
        (replace(GOOD, updated_at=NOW + 1), oracle_rules.STALE),
        (replace(GOOD, updated_at=0), oracle_rules.STALE),
    ],
)
def test_one_feed_at_its_edges(answer: Answer | None, code: int):
    assert told(answer) == code
    assert told(GOOD, answer) == (oracle_rules.GOOD if code == oracle_rules.GOOD else oracle_rules.SECOND_BAD)
    alone = replace(SOURCE, second_kind=oracle_rules.ALONE)
    assert told(GOOD, answer, alone) == oracle_rules.GOOD


@given(st.integers(1, 2**63), st.integers(1, 2**63), st.integers(0, 500))
def test_deviation_is_exactly_the_bound_of_the_second(first: int, second: int, bound: int):
    source = replace(SOURCE, deviation_bps=bound)
    code = told(replace(GOOD, answer=first), replace(GOOD, answer=second), source)
    assert (code == oracle_rules.GOOD) == (abs(first - second) * 10_000 <= bound * second)


@given(st.integers(0, 18), st.integers(1, 10**15))
def test_feed_decimals_only_scale(decimals: int, answer: int):
    price, _ = oracle_rules.read(replace(GOOD, answer=answer), 3_600, decimals, NOW)
    exact = answer * 10**8 // 10**decimals
    assert price == (exact if 0 < exact <= oracle_rules.MAX_PRICE else 0)


def test_the_ratios_are_those_of_the_contract():
    assert [(1 << 128) * 10_000 ** (1 << k) // 10_001 ** (1 << k) for k in range(19)] == list(oracle_rules.RATIOS)


@given(st.integers(1, oracle_rules.MAX_TICK))
def test_powers_rise_and_mirror(tick: int):
    assert oracle_rules.power(tick) > oracle_rules.power(tick - 1) > 0
    mirrored = oracle_rules.power(tick) * oracle_rules.power(-tick)
    assert abs(mirrored - 2**192) <= 2**192 // 2**30  # the small one keeps 32 bits or more


@pytest.mark.parametrize(
    ("answer", "started", "ok"),
    [(0, NOW - 3_601, True), (0, NOW - 3_600, False), (1, NOW - 9_999, False), (0, 0, False), (0, NOW + 1, False)],
)
def test_sequencer(answer: int, started: int, ok: bool):
    code = oracle_rules.sequencer_code(Answer(1, answer, started, started), 3_600, NOW)
    assert (code == oracle_rules.GOOD) == ok
    assert oracle_rules.sequencer_code(None, 3_600, NOW) == oracle_rules.SEQUENCER
    _, codes = oracle_rules.codes(
        [SOURCE], FeedAnswers([GOOD], [GOOD], Answer(1, answer, started, started)), NOW, 3_600
    )
    assert codes == ((oracle_rules.GOOD,) if ok else (oracle_rules.SEQUENCER,))


@given(st.integers(-200_000, 200_000), st.integers(1, 3_600))
def test_average_of_a_steady_tick_is_its_price_either_way(tick: int, window: int):
    quote_price = 10**8
    row = replace(SOURCE, second_s=window, decimals=18)
    up, _ = oracle_rules.average(replace(row, second_kind=oracle_rules.TWAP_0), (5, 5 + tick * window), quote_price, 18)
    down, _ = oracle_rules.average(
        replace(row, second_kind=oracle_rules.TWAP_1), (5, 5 - tick * window), quote_price, 18
    )
    assert up == down
    assert up == (quote_price * oracle_rules.power(tick) >> 64) >> 32
    assert oracle_rules.average(row, None, quote_price, 18)[1] == oracle_rules.UNREACHABLE


def test_a_price_in_an_unpriced_quote_is_no_second_source():
    rows = [
        replace(SOURCE, second_kind=oracle_rules.ALONE),
        replace(SOURCE, second_kind=oracle_rules.TWAP_0, second_detail=0),
    ]
    dead = FeedAnswers([None, GOOD], [None, (0, 0)])
    assert oracle_rules.price(1, rows, dead, NOW)[1] == oracle_rules.SECOND_BAD
    names = [v.reason for v in oracle_rules.verdicts(["A", "B"], *oracle_rules.codes(rows, dead, NOW))]
    assert len(names) == 2
    assert names[0].startswith("A: the feed does not answer")
