"""Laws of what is asked twice, traded whole or held secret: nodes that differ, coarse tokens, errors around keys."""

from __future__ import annotations

import traceback
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError, ExecutionError, RpcError
from lake.units import BPS
from policy.execution.base import Flows, Snapshot, Token
from policy.execution.checks.rules import VaultBook
from policy.execution.routing.router import Routing
from policy.execution.routing.wholeunits import COARSE_BPS, E18, coarse, in_whole_units, unit_value
from policy.execution.submission.quorum import Testimony as Told
from policy.execution.submission.quorum import Witness, alone, differences, quorum
from policy.execution.submission.shield import shielded
from policy.execution.vaults.simulated.adapter import SimulatedVault
from tests.execution.simlab import USDC, chain, pools, spec

SECRET = "ab" * 32
TAMPERED = [f.name for f in fields(Snapshot) if f.name != "verdicts"]


@pytest.fixture(scope="module")
def seen():
    """What a decision rests on: snapshot, pools, nonce."""
    node = chain()
    return SimulatedVault(spec(), node).snapshot(), tuple(pools().values()), 7


def another(value):
    """Return a value of the same kind that is not ``value``."""
    if value is None:
        return Flows(coming=1)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value + "0" if isinstance(value, str) else value[:-1]


def honest(seen) -> Told:
    snapshot, read, nonce = seen
    return Told(snapshot.block_hash, snapshot, read, nonce)


def said(name: str, told: Told | Exception) -> Witness:
    def testify(_: Snapshot) -> Told:
        if isinstance(told, Exception):
            raise told
        return told

    return Witness(name, testify)


def test_what_is_told_alike_differs_in_nothing(seen):
    assert differences(honest(seen), *seen) == []
    [verdict] = quorum([said("a", honest(seen)), said("b", honest(seen))], *seen)
    assert (verdict.check, verdict.ok, verdict.figures["confirmed"]) == ("quorum", True, 2)


@pytest.mark.parametrize("name", TAMPERED)
def test_any_one_field_told_otherwise_stops_the_signature(seen, name):
    snapshot, read, nonce = seen
    lie = replace(snapshot, **{name: another(getattr(snapshot, name))})
    told = Told(lie.block_hash, lie, read, nonce)
    assert differences(told, *seen)
    for order in ([honest(seen), told], [told, honest(seen)]):
        [verdict] = quorum([said("a", order[0]), said("b", order[1])], *seen)
        assert (verdict.check, verdict.ok) == ("nodes_disagree", False)
        assert "Nothing is signed" in verdict.reason


@pytest.mark.parametrize("field", ["price_e8", "round_id", "updated_at"])
@pytest.mark.parametrize("which", range(3))
def test_any_one_price_told_otherwise_is_named_by_its_token(seen, field, which):
    snapshot = seen[0]
    quotes = list(snapshot.quotes)
    quotes[which] = replace(quotes[which], **{field: getattr(quotes[which], field) + 1})
    [gap] = differences(replace(honest(seen), snapshot=replace(snapshot, quotes=tuple(quotes))), *seen)
    assert f"price of {snapshot.tokens[which].symbol} is" in gap


@pytest.mark.parametrize("which", range(4))
def test_a_pool_in_another_state_or_missing_is_named(seen, which):
    read = seen[1]
    for told in (
        read[:which] + read[which + 1 :],
        (*read[:which], replace(read[which], fee_pips=1), *read[which + 1 :]),
    ):
        [gap] = differences(replace(honest(seen), pools=told), *seen)
        assert read[which].address in gap


@given(answers=st.lists(st.sampled_from(["yes", "no", "silent"]), min_size=2, max_size=5))
def test_only_two_that_agree_and_none_that_differs_let_a_plan_go_on(seen, answers):
    told = {"yes": honest(seen), "no": replace(honest(seen), nonce=8), "silent": RpcError("down")}
    [verdict] = quorum([said(f"n{i}", told[a]) for i, a in enumerate(answers)], *seen)
    assert verdict.ok == ("no" not in answers and answers.count("yes") >= 2)
    if "no" not in answers:
        assert verdict.figures["confirmed"] == answers.count("yes")


def test_one_node_is_asked_nothing_and_warned_of(seen):
    one = [said("n0", RpcError("never asked"))]
    assert quorum(one, *seen) == []
    [verdict] = alone(one)
    assert verdict.ok
    assert "n0 alone tells prices" in verdict.reason
    assert alone([]) == alone([*one, *one]) == []


def holder_of(book_units: int, price_usd: int) -> VaultBook:
    """A book of cash and a token without decimals."""
    whole = Token("WHOLE", "0x" + "4" * 40, 0)
    return VaultBook((USDC, whole), (5_000, 5_000), (10**8, price_usd * 10**8), (10**12, book_units))


def at_price(price_usd: int, fee_bps: int):
    """A way that buys whole units for USDC, as a router answers: rounded down, a fee taken."""

    def route(amount: int) -> Routing | None:
        out = amount * (BPS - fee_bps) // (BPS * price_usd * 10**6)
        return Routing((), amount, out, 0.0, {}) if out else None

    return route


@given(price=st.integers(500, 10**6), usd=st.integers(1, 10**6), fee=st.integers(0, 100))
def test_a_coarse_token_is_bought_in_whole_units_for_the_least_that_buys_them(price, usd, fee):
    book, size, route = holder_of(3, price), usd * E18, at_price(price, fee)
    most = 10**6 * usd * 102 // 100
    found = in_whole_units(book, 0, 1, size, most, 0.0, route)
    assert (found is None) == (not coarse(book, 1, size))
    if found is None:
        return
    assert found.note.check == "whole_units"
    assert found.amount <= most
    assert 0 <= found.note.figures["units"] <= usd // price
    if found.way is None:
        assert (found.amount, found.note.figures["units"]) == (0, 0)
        assert "waits" in found.note.reason
        return
    assert found.way.out >= found.note.figures["units"]
    less = route(found.amount - found.amount // 10**5 - 2)
    assert less is None or less.out < found.note.figures["units"]


@given(held=st.integers(0, 40), price=st.integers(500, 10**6), usd=st.integers(1, 10**6))
def test_a_coarse_token_is_sold_in_whole_units_and_never_more_than_is_held(held, price, usd):
    book = holder_of(held, price)
    found = in_whole_units(book, 1, 0, usd * E18, 10**9, 0.0, at_price(price, 0))
    if not coarse(book, 1, usd * E18):
        assert found is None
        return
    assert found.amount == min(usd // price, held)
    assert found.amount * unit_value(book, 1) <= usd * E18
    assert found.way is None


@given(usd=st.integers(1, 10**9), price=st.integers(1, 10**9))
def test_a_token_is_coarse_from_ten_basis_points_of_the_trade_on(usd, price):
    assert coarse(holder_of(1, price), 1, usd * E18) == (price * BPS > COARSE_BPS * usd)


@pytest.mark.parametrize("raised", [ValueError(SECRET), KeyError(SECRET), MemoryError(SECRET), RuntimeError(SECRET)])
def test_what_a_library_raises_over_a_key_is_dropped_whole(raised):
    def work() -> None:
        key = SECRET
        try:
            raise TypeError(key)
        except TypeError as inner:
            raise raised from inner

    with pytest.raises(ExecutionError) as caught:
        shielded(work, ExecutionError, "the keystore does not open")
    assert str(caught.value) == f"the keystore does not open ({type(raised).__name__})"
    assert caught.value.__cause__ is caught.value.__context__ is None
    frames = [f for f in traceback.walk_tb(caught.value.__traceback__) if f[0].f_code.co_name == "shielded"]
    assert all(SECRET not in repr(f.f_locals) for f, _ in frames)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(3), ConfigError("no passphrase is set")])
def test_what_is_ours_or_an_interruption_stays_what_it_was_without_its_frames(raised):
    def work() -> None:
        key = SECRET
        raise raised from ValueError(key)

    with pytest.raises(type(raised)) as caught:
        shielded(work, ExecutionError, "m")
    assert caught.value is raised
    assert caught.value.__cause__ is caught.value.__context__ is None
    names = [f.f_code.co_name for f, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert "work" not in names


def test_work_that_succeeds_is_handed_through():
    assert shielded(lambda: 5, ExecutionError, "m") == 5
