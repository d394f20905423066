"""Each series behind a decision is judged for itself: a dead one never hides behind a live one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import RpcError
from policy.execution.base import Quote, Token
from policy.execution.checks import feed_rounds
from policy.execution.checks.feed_rounds import recent_rounds
from policy.execution.checks.guards import (
    AHEAD_S,
    FAR_ABOVE,
    GAS_CEILING_GWEI,
    RoundAnswer,
    data_fresh,
    dated,
    forecasts_issued,
    gas_plausible,
    quote_age,
)
from policy.execution.checks.inputs import CLOCKS_APART, Input, inputs_json, judged, oldest
from policy.execution.checks.verdicts import explain, passed, refusals, refused

NOW = datetime(2024, 3, 14, 15, tzinfo=UTC)
LIMIT = timedelta(hours=3)
ages = st.integers(-600, 20_000).map(lambda s: timedelta(seconds=s))
inputs = st.lists(
    st.builds(
        lambda kind, name, age, own, bridged: Input(kind, name, NOW - age, own, bridged),
        st.sampled_from(["price", "gas", "pool"]),
        st.sampled_from(["ETH", "BTC", "chain 1"]),
        ages,
        st.none() | st.just(timedelta(hours=1)),
        st.booleans(),
    ),
    max_size=6,
)


@given(rows=inputs)
def test_every_input_that_is_too_old_or_of_the_future_is_refused_by_name(rows):
    found = judged(rows, NOW, LIMIT)
    for one in rows:
        age, allowed = NOW - one.at, one.max_age or LIMIT
        own = [v for v in found if v.figures.get("input") == str(one) and v.figures["age_s"] == age.total_seconds()]
        if age < -CLOCKS_APART:
            assert any(v.check == "data_future" and not v.ok for v in own)
        elif age > allowed:
            wanted = "data_carried" if one.bridged else "data_stale"
            assert any(v.check == wanted and v.ok == one.bridged for v in own)
    assert all(v.ok for v in found) or not any(v.check == "data_fresh" for v in found)


@given(rows=inputs)
def test_without_a_refusal_the_oldest_that_must_be_recent_is_named(rows):
    found = judged(rows, NOW, LIMIT)
    must = [i for i in rows if not i.bridged]
    if refusals(found) or not must:
        return
    first = min(must, key=lambda i: i.at)
    assert found[-1].check == "data_fresh"
    assert found[-1].figures["age_s"] == (NOW - first.at).total_seconds()
    assert oldest(must) == first


@given(rows=inputs)
def test_the_record_lists_every_input_oldest_first(rows):
    data = inputs_json(rows)
    assert [r["at"] for r in data] == sorted(i.at.isoformat() for i in rows)
    assert sorted(r["name"] for r in data) == sorted(i.name for i in rows)
    assert oldest([]) is None


def test_an_input_is_named_in_words_with_what_to_do():
    [stale] = refusals(judged([Input("price", "ETH", NOW - timedelta(hours=4))], NOW, LIMIT))
    assert stale.reason == (
        "price of ETH: nothing since 2024-03-14 11:00 UTC, 4:00:00 ago, 3:00:00 is allowed; foredrift ingest"
    )


@given(age_s=st.integers(-600, 20_000))
def test_market_data_are_fresh_stale_or_dated_after_now(age_s):
    verdict = data_fresh(NOW - timedelta(seconds=age_s), NOW, LIMIT)
    wanted = "data_future" if age_s < -AHEAD_S else "data_stale" if age_s > LIMIT.total_seconds() else "data_fresh"
    assert (verdict.check, verdict.ok) == (wanted, wanted == "data_fresh")


def test_no_market_data_are_a_refusal_and_no_age_of_nothing():
    assert data_fresh(None, NOW, LIMIT).check == "data_missing"


@given(gas=st.floats(-10, 1e7), highest=st.none() | st.floats(0.0, 1e4))
def test_gas_passes_between_nothing_and_what_any_chain_and_its_own_record_had(gas, highest):
    verdict = gas_plausible(gas, highest)
    wrong = not 0 <= gas <= GAS_CEILING_GWEI or (highest is not None and highest > 0 and gas > FAR_ABOVE * highest)
    assert verdict.ok != wrong
    assert ("wei" in verdict.reason) == (wrong and not 0 <= gas <= GAS_CEILING_GWEI) or "gwei" in verdict.reason


def test_gas_that_is_no_number_is_refused():
    assert not gas_plausible(float("nan"), 50.0).ok
    assert not gas_plausible(float("inf"), None).ok


@given(blocks=st.integers(0, 50), allowed=st.integers(0, 50), left=st.integers(-100, 100))
def test_quotes_count_for_so_many_blocks_and_never_past_the_deadline(blocks, allowed, left):
    plan = SimpleNamespace(block_number=100, deadline=1_000 + left)
    verdict = quote_age(plan, 100 + blocks, 1_000, allowed)
    assert verdict.ok == (blocks <= allowed and left > 0)


def forecast(minutes_ahead: float) -> SimpleNamespace:
    return SimpleNamespace(target="gas", key="1", issued_at=NOW + timedelta(minutes=minutes_ahead))


@given(ahead=st.lists(st.floats(-60, 60), max_size=5))
def test_forecasts_from_after_now_are_refused_and_counted(ahead):
    found = forecasts_issued({i: forecast(m) for i, m in enumerate(ahead)}, NOW)
    late = [m for m in ahead if timedelta(minutes=m) > timedelta(seconds=AHEAD_S)]
    assert bool(found) == bool(late)
    if late:
        assert found[0].figures["forecasts"] == len(late)


@given(times=st.lists(st.integers(0, 200), min_size=1, max_size=6), now=st.integers(0, 200))
def test_a_round_dated_after_the_block_is_named(times, now):
    rounds = [RoundAnswer(i, 5, t, t, i) for i, t in enumerate(times)]
    found = dated("ETH", rounds, now)
    late = [i for i, t in enumerate(times) if t > now]
    assert bool(found) == bool(late)
    if late:
        assert found[0].figures["round"] == str(late[-1])


FEED, MUTE = "0x" + "f" * 40, "0x" + "e" * 40


@pytest.mark.parametrize("newest", [0, 2, 9])
def test_the_newest_rounds_are_read_oldest_first_and_unknown_ones_left_out(monkeypatch, newest):
    asked = []

    def answers(rpc, views, block):
        del rpc
        assert block == "0xhash"
        out = []
        for view in views:
            number = view.args[0]
            asked.append((view.to, number))
            out.append(RpcError("no data") if view.to == MUTE or number < 1 else (number, 7, 1, 1, number))
        return out

    monkeypatch.setattr(feed_rounds, "try_read", answers)
    tokens = (Token("USDC", "0xa", 6, None), Token("ETH", "0xb", 18, FEED), Token("BTC", "0xc", 8, MUTE))
    quotes = tuple(Quote(t.address, 1, newest, 1) for t in tokens)
    found = recent_rounds(None, SimpleNamespace(tokens=tokens, quotes=quotes, block_hash="0xhash"), 4)
    wanted = [n for n in range(max(0, newest - 3), newest + 1) if n >= 1]
    assert {t: [r.round_id for r in rows] for t, rows in found.items()} == ({"0xb": wanted} if wanted else {})
    assert all(number >= 0 for _, number in asked)


@given(oks=st.lists(st.booleans(), max_size=6))
def test_a_line_of_refusals_names_each_and_nothing_else(oks):
    made = [(passed if ok else refused)(f"check_{i}", f"reason {i}") for i, ok in enumerate(oks)]
    assert explain(made) == "; ".join(f"check_{i}: reason {i}" for i, ok in enumerate(oks) if not ok)
