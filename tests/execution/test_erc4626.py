"""ERC-4626's MUSTs and the fair treatment of holders, as properties of the vault in many states.

Every MUST of the standard is one test; the states (empty, funded, mixed holdings, a gift in, rich shares) come from
the fixture ``b``. Sources: EIP-4626, EIP-7575, EIP-165.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.execution.vault_kit import FREE, HUGE, Bench, bench

pytestmark = pytest.mark.chain
USD = 10**6
AMOUNTS = st.one_of(st.integers(1, 10), st.integers(1, 10**12), st.sampled_from([1, USD - 1, USD, 99_999 * USD + 1]))
QUICK = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
DEPOSIT, MINT = "deposit(uint256,address)", "mint(uint256,address)"
WITHDRAW, REDEEM = "withdraw(uint256,address,address)", "redeem(uint256,address,address)"
IN_KIND = "redeemInKind(uint256,address,address)"


FEES = {"hold_s": 0, "entry_bps": 30, "exit_bps": 70}


@pytest.fixture(scope="module", params=[FREE, FEES], ids=["free", "fees"])
def world(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """With and without fees; what the hold does to max* and to every exit is in test_vault_flows.py."""
    with bench(**request.param) as made:
        yield made


def kept(b: Bench) -> int:
    """What the exit fee leaves of 10,000."""
    return 10_000 - int(b.get(b.vault, "terms()", "uint256,uint256,uint256,uint256,uint256")[2])


def mixed(b: Bench) -> None:
    b.rebalance(b.plan(b.fair(0, 1, 30_000 * USD, 17), b.fair(0, 2, 19_999 * USD, 3)))
    b.wait(60)


def gift(b: Bench) -> None:
    b.send("trader", b.tokens[0], "transfer(address,uint256)", b.vault, 12_345_678_901)


def emptied(b: Bench) -> None:
    shares = b.view("balanceOf(address)", b.who["investor"])
    b.send("investor", b.vault, REDEEM, shares, b.who["investor"], b.who["investor"])
    b.wait(12)


def risen(b: Bench) -> None:
    mixed(b)
    b.price(1, 3_333 * 10**8 + 7)


@pytest.fixture(params=[None, mixed, gift, emptied, risen], ids=["funded", "mixed", "gift", "emptied", "risen"])
def b(world: Bench, request: pytest.FixtureRequest) -> Iterator[Bench]:
    with world.undo():
        if request.param:
            request.param(world)
        yield world


def shares_of(b: Bench, role: str) -> int:
    return b.view("balanceOf(address)", b.who[role])


def simulate(b: Bench, role: str, signature: str, *args) -> int:
    """What the call would return in the next block."""
    from lake.evm import calldata

    head = b.rpc.call("eth_getBlockByNumber", ["latest", False])
    ahead = {"number": hex(int(head["number"], 16) + 1), "time": hex(int(head["timestamp"], 16) + 1)}
    call = {"from": b.who[role], "to": b.vault, "data": "0x" + calldata(signature, *args).hex()}
    return int(b.rpc.call("eth_call", [call, "latest", {}, ahead]), 16)


def view_next(b: Bench, signature: str, *args) -> int:
    """A view as the next block would answer it."""
    return simulate(b, "deployer", signature, *args)


def test_asset_and_share(b: Bench):
    assert b.get(b.vault, "asset()", "address").lower() == b.tokens[0].lower()
    assert b.get(b.vault, "share()", "address").lower() == b.vault.lower()
    assert b.get(b.vault, "decimals()", "uint8") == 6 + 6


@pytest.mark.parametrize(
    ("code", "known"),
    [("01ffc9a7", True), ("36372b07", True), ("87dfe5a0", True), ("2f0a18c5", True), ("ffffffff", False)],
)
def test_erc165(world: Bench, code: str, known: bool):
    assert world.get(world.vault, "supportsInterface(bytes4)", "bool", bytes.fromhex(code)) is known


@QUICK
@given(x=AMOUNTS)
def test_previews_bound_and_match_what_happens(b: Bench, x: int):
    """MUST: previewDeposit <= deposit, previewMint >= mint, previewWithdraw >= withdraw, previewRedeem <= redeem."""
    me, owner = b.who["trader"], b.who["investor"]
    ways = [("previewDeposit", "trader", DEPOSIT, (me,)), ("previewMint", "trader", MINT, (me,))]
    if x <= view_next(b, "maxWithdraw(address)", owner):
        ways.append(("previewWithdraw", "investor", WITHDRAW, (owner, owner)))
    if x <= view_next(b, "maxRedeem(address)", owner):
        ways.append(("previewRedeem", "investor", REDEEM, (owner, owner)))
    for preview, role, signature, accounts in ways:
        said = b.view(f"{preview}(uint256)", x)
        if said:
            assert said == simulate(b, role, signature, x, *accounts)
        else:
            assert b.why(role, b.vault, signature, x, *accounts) == "zero"


@QUICK
@given(x=AMOUNTS)
def test_conversions_round_down_and_do_not_know_the_caller(b: Bench, x: int):
    shares, assets = b.view("convertToShares(uint256)", x), b.view("convertToAssets(uint256)", x)
    assert shares == view_next(b, "convertToShares(uint256)", x)
    assert b.view("convertToAssets(uint256)", shares) <= x
    assert b.view("convertToShares(uint256)", assets) <= x
    assert b.view("previewDeposit(uint256)", x) <= shares
    assert b.view("previewMint(uint256)", x) >= assets
    assert b.view("previewWithdraw(uint256)", x) >= shares
    assert b.view("previewRedeem(uint256)", x) <= assets


@QUICK
@given(x=AMOUNTS)
def test_no_round_trip_pays(b: Bench, x: int):
    """Rounding is against the caller, whatever path in and out he takes (a16z's RT properties)."""
    me = b.who["trader"]
    for way_in, signature in ((x, DEPOSIT), (b.view("previewDeposit(uint256)", x), MINT)):
        if not way_in:
            continue
        with b.undo():
            cash, had = b.held(0, "trader"), shares_of(b, "trader")
            if b.why("trader", b.vault, signature, way_in, me) == "zero":
                continue
            b.send("trader", b.vault, signature, way_in, me)
            paid, got = cash - b.held(0, "trader"), shares_of(b, "trader") - had
            assert got == 0 or paid > 0
            b.wait(12)
            assert b.view("previewRedeem(uint256)", got) <= paid
            assert b.view("previewWithdraw(uint256)", paid) >= got


def test_deposit_and_mint_emit_and_move_exactly(b: Bench):
    me, other = b.who["trader"], b.who["searcher"]
    # an exit fee of the last holder belongs to the virtual shares: each then costs far more
    some = 10**14 + 3 if b.view("previewMint(uint256)", 10**14) < 10**12 else 10**6 + 3
    for signature, amount in ((DEPOSIT, 777 * USD + 1), (MINT, some)):
        cash, vault_cash, had, supply = (
            b.held(0, "trader"),
            b.held(0),
            shares_of(b, "searcher"),
            b.view("totalSupply()"),
        )
        receipt = b.send("trader", b.vault, signature, amount, other)
        paid, got = cash - b.held(0, "trader"), shares_of(b, "searcher") - had
        assert b.held(0) - vault_cash == paid
        assert b.view("totalSupply()") - supply == got
        assert amount in (paid, got)
        log = receipt["logs"][-1]
        assert [t[-40:] for t in log["topics"][1:]] == [me[2:].lower(), other[2:].lower()]
        assert [int(log["data"][2 + 64 * i : 66 + 64 * i], 16) for i in range(2)] == [paid, got]


def test_withdraw_and_redeem_emit_and_move_exactly(world: Bench):
    b, owner, to = world, world.who["investor"], world.who["searcher"]
    with b.undo():
        for signature, amount in ((WITHDRAW, 777 * USD + 1), (REDEEM, 10**14 + 3)):
            cash, had = b.held(0, "searcher"), shares_of(b, "investor")
            receipt = b.send("investor", b.vault, signature, amount, to, owner)
            got, burnt = b.held(0, "searcher") - cash, had - shares_of(b, "investor")
            assert amount in (got, burnt)
            log = receipt["logs"][-1]
            assert [t[-40:] for t in log["topics"][1:]] == [a[2:].lower() for a in (owner, to, owner)]
            assert [int(log["data"][2 + 64 * i : 66 + 64 * i], 16) for i in range(2)] == [got, burnt]


@pytest.mark.parametrize("signature", [WITHDRAW, REDEEM, IN_KIND])
def test_others_exit_only_with_allowance(world: Bench, signature: str):
    b, owner, me = world, world.who["investor"], world.who["trader"]
    with b.undo():
        amount = 100 * USD
        burnt = b.view("previewWithdraw(uint256)", amount) if signature == WITHDRAW else amount
        assert b.why("trader", b.vault, signature, amount, me, owner) == "allowance"
        b.send("investor", b.vault, "approve(address,uint256)", me, burnt)
        b.send("trader", b.vault, signature, amount, me, owner)
        assert b.view("allowance(address,address)", owner, me) == 0
        b.send("investor", b.vault, "approve(address,uint256)", me, HUGE)
        b.send("trader", b.vault, signature, amount, me, owner)
        assert b.view("allowance(address,address)", owner, me) == HUGE


def test_max_is_reachable_and_the_limit(b: Bench):
    """MUST: max* never more than would be accepted; here it is also the most that is."""
    b.wait(12)
    owner = b.who["investor"]
    most, shares = b.view("maxWithdraw(address)", owner), b.view("maxRedeem(address)", owner)
    if b.view("balanceOf(address)", owner):
        assert b.why("investor", b.vault, WITHDRAW, most, owner, owner) is None
        assert b.why("investor", b.vault, REDEEM, shares, owner, owner) is None
    assert b.why("investor", b.vault, WITHDRAW, most + 1, owner, owner) in {"balance", "cash"}
    assert most <= b.held(0)
    assert b.view("maxDeposit(address)", owner) >= 10**30
    assert b.view("maxMint(address)", owner) >= 10**30


def test_views_never_revert_and_max_is_zero_when_closed(b: Bench):
    """MUST NOT revert: totalAssets, convertTo*, max*; with dead feeds they answer at last good prices."""
    b.send("deployer", b.vault, "poke()")
    b.wait(12)
    total, who = b.view("totalAssets()"), b.who["investor"]
    one = b.view("convertToAssets(uint256)", 10**12)
    for way in range(3):
        with b.undo():
            if way == 0:
                for feed in b.feeds:
                    b.send("deployer", feed, "set_broken(bool)", True)
            elif way == 1:
                b.rpc.call("evm_increaseTime", [200_000])
                b.rpc.call("evm_mine")
            else:
                b.send("guardian", b.vault, "pause()")
            assert b.view("totalAssets()") == total
            assert b.view("convertToAssets(uint256)", 10**12) == one
            for name in ("maxDeposit", "maxMint", "maxWithdraw", "maxRedeem"):
                assert b.view(f"{name}(address)", who) == 0
            assert b.why("investor", b.vault, DEPOSIT, USD, who) in {"oracle", "paused"}
            some = min(10**6, shares_of(b, "investor"))
            assert b.why("investor", b.vault, IN_KIND, some, who, who) == (None if some else "zero")
    for name in ("convertToShares(uint256)", "convertToAssets(uint256)"):
        assert b.view(name, HUGE) > 0  # saturates, does not revert


def test_in_kind_exit_is_pro_rata_and_needs_nothing(b: Bench):
    owner = b.who["investor"]
    for feed in (*b.feeds, *b.seconds):
        b.send("deployer", feed, "set_broken(bool)", True)
    b.send("guardian", b.vault, "pause()")
    b.send("owner", b.vault, "revoke_keeper()")
    shares, supply = shares_of(b, "investor"), b.view("totalSupply()")
    held = [b.held(i) for i in range(3)]
    had = [b.held(i, "investor") for i in range(3)]
    if not shares:
        assert b.why("investor", b.vault, IN_KIND, 0, owner, owner) == "zero"
        return
    b.send("investor", b.vault, IN_KIND, shares // 3, owner, owner)
    for i in range(3):
        assert b.held(i, "investor") - had[i] == held[i] * (shares // 3) // (supply + 10**6) * kept(b) // 10_000


def test_inflation_attack_costs_more_than_it_takes(world: Bench):
    b = world
    with b.undo():
        emptied(b)
        b.send(
            "searcher", b.vault, DEPOSIT, 1 if kept(b) == 10_000 else USD, b.who["searcher"]
        )  # fees make one unit none
        b.send("searcher", b.tokens[0], "transfer(address,uint256)", b.vault, 10_000 * USD)
        b.wait(12)
        before = shares_of(b, "trader")
        b.send("trader", b.vault, DEPOSIT, 15_000 * USD, b.who["trader"])
        b.wait(12)
        fair = b.view("convertToAssets(uint256)", shares_of(b, "trader") - before)
        assert fair >= 15_000 * USD * 996 // 1_000
        assert b.view("convertToAssets(uint256)", shares_of(b, "searcher")) < 5_100 * USD  # of the 10,000 given


def test_allow_list_of_holders():
    from policy.localnet.accounts import dev_accounts

    listed = dev_accounts()["investor"].address
    with bench(holders=[listed], **FREE) as b:
        other = b.who["trader"]
        b.wait(12)
        assert b.view("maxDeposit(address)", other) == 0
        assert b.why("investor", b.vault, DEPOSIT, USD, other) == "holder"
        assert b.why("trader", b.vault, DEPOSIT, USD, listed) == "holder"  # nor may a stranger buy for a holder
        assert b.why("investor", b.vault, "transfer(address,uint256)", other, 1) == "holder"
        assert b.adapter().describe().permissioned
        assert b.why("investor", b.vault, "set_holder(address,bool)", other, True) == "timelock"
        b.change("set_holder(address,bool)", other, True)
        b.send("investor", b.vault, "transfer(address,uint256)", other, 10**12)
        b.change("set_holder(address,bool)", other, False)
        assert b.why("trader", b.vault, REDEEM, 10**12, other, other) is None  # struck off, yet free to leave
        b.change("set_permissioned(bool)", False)
        b.send("investor", b.vault, DEPOSIT, USD, other)


@pytest.mark.parametrize("decimals", [(6, 18, 8), (18, 6, 18), (8, 8, 6)])
def test_every_mix_of_decimals(decimals: tuple[int, int, int]):
    with bench(decimals=decimals, **FREE) as b:
        unit = 10 ** decimals[0]
        assert b.view("totalAssets()") == 100_000 * unit
        b.rebalance(b.plan(b.fair(0, 1, 30_000 * unit), b.fair(0, 2, 15_000 * unit)))
        b.wait(12)
        assert 100_000 * unit - b.view("totalAssets()") in range(unit // 10 + 1)
        assert b.adapter().snapshot().nav == b.view("totalAssets()")
        shares = shares_of(b, "investor")
        b.send("investor", b.vault, REDEEM, shares // 4, b.who["investor"], b.who["investor"])
