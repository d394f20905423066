"""What the field's property suites hold of an ERC-4626 vault, as laws of the project's own; also with hold and fees on.

| suite and property | law |
|---|---|
| a16z asset, totalAssets, max* (x4): never revert; crytic MustNotRevert (8) | `test_views_never_revert_and_max_is_zero_when_closed` |
| a16z convert* and preview* do not know the caller; crytic SenderIndependent (6) | `test_nobody_is_told_anything_else`, `test_conversions_round_down_and_do_not_know_the_caller` |
| a16z preview* (4) against deposit, mint, withdraw, redeem; crytic "predicted by" (4) | `test_previews_bound_and_match_what_happens` |
| a16z deposit, mint, withdraw, redeem move exactly; crytic FunctionalAccounting (8) | `test_deposit_and_mint_emit_and_move_exactly`, `test_withdraw_and_redeem_emit_and_move_exactly`, `test_an_allowance_of_the_asset_falls_by_what_is_paid` |
| a16z access control (2); crytic RedeemUsingApproval (6) | `test_others_exit_only_with_allowance` |
| a16z RT deposit/mint then redeem/withdraw (4) | `test_in_and_out_pays_nothing`, `test_no_round_trip_pays` |
| a16z RT redeem/withdraw then deposit/mint (4) | `test_out_and_in_pays_nothing` |
| crytic Rounding (12): nothing is free | `test_nothing_is_free`, `test_conversions_round_down_and_do_not_know_the_caller` |
| crytic Security: decimals, inflation | `test_asset_and_share`, `test_inflation_attack_costs_more_than_it_takes` |
| crytic ERC-20 basic (16) | `test_shares_are_a_token_like_any_other` |

Where a suite demands that a call return false or 0, this vault refuses it with a word; both are held to be the same.
"""  # noqa: E501 - a table

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.execution.test_erc4626 import (
    AMOUNTS,
    DEPOSIT,
    FEES,
    IN_KIND,
    MINT,
    REDEEM,
    USD,
    WITHDRAW,
    mixed,
    shares_of,
    simulate,
)
from tests.execution.vault_kit import FREE, Bench, bench

pytestmark = pytest.mark.chain
FEW = settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
TRANSFER, FROM = "transfer(address,uint256)", "transferFrom(address,address,uint256)"
APPROVE = "approve(address,uint256)"
OUT = st.integers(1, 40_000 * USD)


@pytest.fixture(scope="module", params=[FREE, FEES, {}], ids=["free", "fees", "hold and fees"])
def world(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Without anything, with fees, and as a vault is born: held for 25 hours, a fee each way."""
    with bench(**request.param) as made:
        yield made


@pytest.fixture(params=[None, mixed], ids=["funded", "mixed"])
def b(world: Bench, request: pytest.FixtureRequest) -> Iterator[Bench]:
    with world.undo():
        if request.param:
            request.param(world)
        yield world


def hold_s(b: Bench) -> int:
    """How long bought shares are held."""
    return int(b.get(b.vault, "terms()", "uint256,uint256,uint256,uint256,uint256")[0])


@FEW
@given(x=AMOUNTS, minted=st.booleans())
@example(x=5_000 * USD, minted=False)
@example(x=5_000 * USD + 1, minted=True)
def test_in_and_out_pays_nothing(b: Bench, x: int, minted: bool):
    """redeem(deposit(a)) <= a, withdraw(a) burns >= deposit(a); the same through mint; once the hold is over."""
    me = b.who["trader"]
    with b.undo():
        cash, way_in = b.held(0, "trader"), b.view("previewDeposit(uint256)", x) if minted else x
        signature = MINT if minted else DEPOSIT
        if not way_in or b.why("trader", b.vault, signature, way_in, me) is not None:
            return
        b.send("trader", b.vault, signature, way_in, me)
        paid, got = cash - b.held(0, "trader"), shares_of(b, "trader")
        if hold_s(b):
            assert b.why("trader", b.vault, REDEEM, got, me, me) == "hold"
            b.wait(hold_s(b))
        assert b.view("previewWithdraw(uint256)", paid) >= got
        if b.view("previewRedeem(uint256)", got):
            b.send("trader", b.vault, REDEEM, got, me, me)
        assert b.held(0, "trader") <= cash
        assert shares_of(b, "trader") == 0 or b.view("previewRedeem(uint256)", got) == 0


@FEW
@given(x=OUT, burnt=st.booleans())
@example(x=5_000 * USD, burnt=False)
@example(x=5_000 * USD + 1, burnt=True)
def test_out_and_in_pays_nothing(b: Bench, x: int, burnt: bool):
    """deposit(redeem(s)) <= s, mint(s) costs >= redeem(s); deposit(a) <= withdraw(a), mint(withdraw(a)) >= a."""
    me = b.who["investor"]
    with b.undo():
        had, cash = shares_of(b, "investor"), b.held(0, "investor")
        signature, amount = (REDEEM, x * 10**6) if burnt else (WITHDRAW, x)
        if b.why("investor", b.vault, signature, amount, me, me) is not None:
            return
        b.send("investor", b.vault, signature, amount, me, me)
        gone, got = had - shares_of(b, "investor"), b.held(0, "investor") - cash
        b.wait(12)
        assert b.view("previewMint(uint256)", gone) >= got
        assert b.view("previewDeposit(uint256)", got) <= gone
        if b.view("previewDeposit(uint256)", got):
            b.send("investor", b.vault, DEPOSIT, got, me)
        assert shares_of(b, "investor") <= had


def test_an_allowance_of_the_asset_falls_by_what_is_paid(b: Bench):
    me = b.who["trader"]
    for signature, amount in ((DEPOSIT, 1_234_567), (MINT, 10**12 + 1)):
        most = b.view("previewMint(uint256)", amount) if signature == MINT else amount
        b.send("trader", b.tokens[0], APPROVE, b.vault, most - 1)
        assert b.why("trader", b.vault, signature, amount, me) is not None
        b.send("trader", b.tokens[0], APPROVE, b.vault, most + 5)
        cash = b.held(0, "trader")
        b.send("trader", b.vault, signature, amount, me)
        paid = cash - b.held(0, "trader")
        assert 0 < paid <= most
        assert b.get(b.tokens[0], "allowance(address,address)", "uint256", me, b.vault) == most + 5 - paid


@FEW
@given(x=st.integers(1, 10**24))
def test_nothing_is_free(b: Bench, x: int):
    who = b.who["trader"]
    for view in ("previewDeposit", "previewRedeem", "convertToShares", "convertToAssets"):
        assert b.view(f"{view}(uint256)", 0) == 0
    assert b.view("previewMint(uint256)", x) > 0
    assert b.view("previewWithdraw(uint256)", x) > 0
    for signature in (DEPOSIT, MINT):
        assert b.why("trader", b.vault, signature, 0, who) == "zero"
    for signature in (REDEEM, WITHDRAW, IN_KIND):
        assert b.why("investor", b.vault, signature, 0, b.who["investor"], b.who["investor"]) == "zero"


@FEW
@given(x=AMOUNTS)
def test_nobody_is_told_anything_else(b: Bench, x: int):
    """Previews, conversions and limits of deposits do not depend on who asks, nor on what he has."""
    views = [f"{v}(uint256)" for v in ("previewDeposit", "previewMint", "previewWithdraw", "previewRedeem")]
    views += ["convertToShares(uint256)", "convertToAssets(uint256)"]
    for view in views:
        assert len({simulate(b, role, view, x) for role in ("investor", "trader", "identity", "keeper")}) == 1
    poor = b.who["identity"]
    assert b.held(0, "identity") == 0
    for limit in ("maxDeposit(address)", "maxMint(address)"):
        assert b.view(limit, poor) == b.view(limit, b.who["trader"]) > 10**30


def test_shares_are_a_token_like_any_other(b: Bench):
    """Supply, balances, transfers and allowances of the shares, by a holder whose hold is over."""
    me, other, third = (b.who[r] for r in ("investor", "searcher", "identity"))
    had, supply = shares_of(b, "investor"), b.view("totalSupply()")
    assert sum(shares_of(b, r) for r in b.who) == supply
    assert b.view("balanceOf(address)", "0x" + "0" * 40) == 0
    assert b.why("investor", b.vault, TRANSFER, "0x" + "0" * 40, 1) == "holder"
    assert b.why("investor", b.vault, TRANSFER, other, had + 1) == "balance"
    for amount in (0, 1, had // 3):
        b.send("investor", b.vault, TRANSFER, me, amount)
        assert shares_of(b, "investor") == had
    b.send("investor", b.vault, TRANSFER, other, had // 3)
    assert (shares_of(b, "investor"), shares_of(b, "searcher")) == (had - had // 3, had // 3)
    assert b.view("totalSupply()") == supply
    for allowed in (7, 10**6):  # set, and set again
        b.send("searcher", b.vault, APPROVE, third, allowed)
        assert b.view("allowance(address,address)", other, third) == allowed
    assert b.why("identity", b.vault, FROM, other, me, 10**6 + 1) == "allowance"
    assert b.why("identity", b.vault, FROM, other, "0x" + "0" * 40, 1) == "holder"
    assert b.why("identity", b.vault, FROM, other, other, 10**6) is None
    assert b.why("investor", b.vault, FROM, other, me, 1) == "allowance"
    b.rpc.call("anvil_setBalance", [third, hex(10**18)])
    b.send("identity", b.vault, FROM, other, me, 10**6)
    assert b.view("allowance(address,address)", other, third) == 0
    assert shares_of(b, "searcher") == had // 3 - 10**6
    assert b.why("identity", b.vault, FROM, other, me, 0) is None
    b.send("searcher", b.vault, APPROVE, third, had)
    assert b.why("identity", b.vault, FROM, other, me, had // 3) == "balance"
