"""What is written of a plan is what was planned, to the unit; what adapters make of their books adds up."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.units import bps
from policy.execution.base import Hop, Leg, OtherVault, Plan, Quote, Receipt, Token, Verdict
from policy.execution.checks.oracle_rules import Answer
from policy.execution.checks.rules import PPB, Clock, Mandate, VaultBook
from policy.execution.records.codec import (
    bytes_of,
    hex_of,
    leg_json,
    leg_of,
    plain,
    plan_json,
    plan_of,
    settlement_json,
    verdict_json,
    verdicts_json,
)
from policy.execution.vaults.common import (
    Shares,
    as_quoted,
    before_of,
    deltas_of,
    quotes_of,
    require_own,
    settlement_of,
    snapshot_of,
)

TOKENS = (Token("USDC", "0xa", 6), Token("ETH", "0xb", 18))
PRICES = (100_000_000, 200_000_000_000)
words = st.text("0123456789abcdef", min_size=40, max_size=40).map(lambda t: "0x" + t)
amounts = st.integers(0, 2**256 - 1)
hops = st.builds(Hop, st.sampled_from(["uniswap_v2", "uniswap_v3"]), words, words, words, st.integers(0, 999_999))
legs = st.builds(
    Leg, words, words, amounts, amounts, amounts, st.lists(hops, max_size=3).map(tuple), words, st.binary(max_size=300)
)
plans = st.builds(
    Plan, st.text(max_size=20), words, st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 2**40), amounts,
    st.lists(legs, max_size=4).map(tuple), st.binary(min_size=32, max_size=32), st.integers(0, 10**9), words,
)  # fmt: skip


def through_json(data):
    return json.loads(json.dumps(data, allow_nan=False))


@given(plan=plans)
def test_a_plan_comes_back_from_its_record_to_the_unit(plan):
    assert plan_of(through_json(plan_json(plan))) == plan


@given(leg=legs)
def test_no_amount_of_a_leg_is_a_number_that_other_readers_would_round(leg):
    data = leg_json(leg)
    assert all(isinstance(data[k], str) for k in ("amount_in", "min_out", "quoted_out"))
    assert leg_of(through_json(data)) == leg


@given(st.binary(max_size=64))
def test_bytes_come_back_from_hex_with_or_without_its_mark(data):
    assert bytes_of(hex_of(data)) == data == bytes_of(hex_of(data)[2:])


@given(
    figures=st.dictionaries(
        st.text(max_size=5), st.integers(-(2**70), 2**70) | st.text(max_size=5) | st.floats(allow_nan=False), max_size=5
    )
)
def test_large_figures_of_a_verdict_are_written_as_text_and_small_ones_as_numbers(figures):
    data = verdict_json(Verdict("c", ok=True, reason="r", figures=figures))["figures"]
    for name, value in figures.items():
        large = isinstance(value, int) and abs(value) >= 2**53
        assert data[name] == (str(value) if large else value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(value=values)
def test_whatever_is_recorded_can_be_written_as_json_and_read_again(value):
    once = plain(value)
    assert through_json(once) == once
    assert plain(once) == once


@pytest.mark.parametrize(
    ("given_value", "written"),
    [
        (np.float64(1.5), 1.5),
        (np.int64(3), 3),
        (np.array([1.0, np.nan, np.inf]), [1.0, "nan", "inf"]),
        ((1, (2,)), [1, [2]]),
        ({1: np.bool_(True)}, {"1": True}),  # noqa: FBT003
    ],
)
def test_arrays_and_undefined_numbers_are_written_in_words(given_value, written):
    assert plain(given_value) == written


held = st.tuples(st.integers(0, 10**15), st.integers(0, 10**24))


def book(holdings: tuple[int, int]) -> VaultBook:
    return VaultBook(TOKENS, (4_000, 6_000), PRICES, holdings)


@given(before=held, after=held)
def test_the_book_before_is_found_again_from_the_book_after_and_what_moved(before, after):
    deltas = deltas_of(book(before), book(after))
    assert before_of(book(after), deltas).holdings == before
    assert {t.address: a - b for t, a, b in zip(TOKENS, after, before, strict=True)} == deltas


@given(after=held, more=st.integers(1, 10**20))
def test_a_book_before_never_holds_less_than_nothing(after, more):
    found = before_of(book(after), {"0xa": after[0] + more})
    assert found.holdings == (0, after[1])


@given(before=held, after=held, gas=st.integers(21_000, 10**7), price=st.integers(1, 10**12))
def test_a_settlement_says_what_moved_and_what_its_gas_cost(before, after, gas, price):
    receipt = Receipt("0xt", 5, "0xb", 1, gas, price)
    found = settlement_of(receipt, book(before), book(after), landed=True)
    assert (found.nav_before, found.nav_after) == (book(before).nav(), book(after).nav())
    assert found.gas_cost_wei == gas * price
    assert found.weights_after_bps == book(after).weights_bps()
    told = settlement_of(receipt, book(before), book(after), landed=False, nav=(7, 8))
    assert (told.nav_before, told.nav_after, told.landed) == (7, 8, False)
    data = through_json(settlement_json(found))
    assert int(data["gas_cost_wei"]) == gas * price
    assert {k: int(v) for k, v in data["deltas"].items()} == found.deltas


def test_a_feed_that_does_not_answer_has_no_round_and_is_not_dated_now():
    answer = Answer(*[77 if name == "round_id" else 1_700 for name in Answer.__dataclass_fields__])
    found = quotes_of(TOKENS, (1, 2), (answer, None))
    assert found[0] == Quote("0xa", 1, answer.round_id, answer.updated_at)
    assert found[1] == Quote("0xb", 2, 0, 0)


@given(holdings=held, spent=st.integers(0, 2 * 10**6), supply=st.integers(0, 10**24), paused=st.booleans())
def test_a_snapshot_has_the_budget_that_its_clock_leaves(holdings, spent, supply, paused):
    head = SimpleNamespace(number=9, hash="0xh", time=1_700_000_000, base_fee_wei=3)
    mandate = Mandate(loss_budget_ppb=10**6, turnover_bps=700)
    clock = Clock(nonce=4, window=head.time // mandate.window_s, lost_now=spent)
    mine = book(holdings)
    found = snapshot_of(head, mine, (), clock, mandate, Shares(1, supply, paused))
    assert found.loss_budget_left == mine.nav() * max(0, 10**6 - spent) // PPB
    assert (found.supply, found.paused, found.plan_nonce) == (supply, paused, 4)
    assert found.max_turnover_bps == bps(700)
    assert (found.block_number, found.block_hash, found.block_time) == (9, "0xh", head.time)


def plan_for(vault: str, chain_id: int, *own: Leg) -> Plan:
    return Plan("d1", vault, chain_id, 0, 2**40, 0, own, b"", 1, "0x")


def test_a_plan_of_another_vault_or_chain_is_never_taken_for_this_ones():
    require_own(plan_for("0xAA", 1), "0xaa", 1)
    require_own(plan_for("0xAA", 1), "0xaa")
    for vault, chain_id in (("0xab", 1), ("0xAA", 2)):
        with pytest.raises(OtherVault, match=f"the plan d1 is of vault {vault} on chain {chain_id}"):
            require_own(plan_for(vault, chain_id), "0xaa", 1)


def test_a_plan_as_quoted_is_judged_by_every_rule_and_stops_at_the_first_leg_that_fails():
    mine = book((2_000 * 10**6, 10**18))
    fair = Leg("0xa", "0xb", 100 * 10**6, 5 * 10**16, 5 * 10**16, (), "0xr")
    poor = Leg("0xa", "0xb", 100 * 10**6, 10**16, 10**16, (), "0xr")
    clock, now = Clock(), 1_700_000_000

    def checks(*own: Leg) -> list[str]:
        return [v.check for v in as_quoted(plan_for("0xv", 1, *own), mine, clock, Mandate(), now, lambda _: True)]

    assert checks(fair) == []
    assert checks(poor) == ["leg value"]
    assert checks(fair, poor) == ["leg value"]
    assert verdicts_json([Verdict("a", ok=False, reason="b")]) == [
        {"check": "a", "ok": False, "reason": "b", "figures": {}}
    ]
