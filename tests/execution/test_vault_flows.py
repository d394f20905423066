"""Who enters and leaves cannot take from those who stay: hold, fees, two prices, and plans that nobody stops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from lake.evm import calldata
from lake.rpc import quantity
from policy.execution.base import Plan
from policy.execution.vaults.reference.deployment import ZERO
from tests.execution.vault_kit import FREE, Bench, bench, make

pytestmark = pytest.mark.chain
USD = 10**6
HOLD_S = 90_000  # the longest heartbeat of the bench's feeds
DEPOSIT, MINT = "deposit(uint256,address)", "mint(uint256,address)"
REDEEM, WITHDRAW = "redeem(uint256,address,address)", "withdraw(uint256,address,address)"
IN_KIND, TRANSFER = "redeemInKind(uint256,address,address)", "transfer(address,uint256)"
RUN = "run(address,address,uint256,address[],bytes[])"
SELL, LEAVE = "sell_all(address,address,address,uint256,uint256,uint256)", "redeem_all(address,bool,address)"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Bench]:
    """A vault with its default hold and fees, at its targets."""
    with bench() as made:
        to_target(made)
        yield made


@pytest.fixture(scope="module")
def open_vault() -> Iterator[Bench]:
    """A vault without hold and fees, at its targets: what is left are the rules of plans and of prices."""
    with bench(**FREE) as made:
        to_target(made)
        yield made


@pytest.fixture
def b(guarded: Bench) -> Iterator[Bench]:
    with guarded.undo():
        yield guarded


@pytest.fixture
def free(open_vault: Bench) -> Iterator[Bench]:
    with open_vault.undo():
        yield open_vault


def to_target(b: Bench) -> None:
    nav = b.view("totalAssets()")
    for j in (1, 2):
        b.rebalance(b.plan(b.fair(0, j, nav * 3_000 // 10_000)))
        b.wait(61)


def worth(b: Bench, prices: Sequence[int] | None = None, of: str | None = None) -> float:
    """What an account (the vault) holds in USD at ``prices``, or the feeds'."""
    p = prices or [b.answer(i) for i in range(3)]
    return sum(b.held(i, of) * p[i] / 10 ** b.decimals[i] / 1e8 for i in range(3))


def one_block(b: Bench, *calls: tuple[str, str, str, tuple[object, ...]]) -> list[dict]:
    """Mine (role, to, signature, arguments) in one block, in this order."""
    b.rpc.call("evm_setAutomine", [False])
    try:
        sent = []
        for role, to, signature, args in calls:
            data = "0x" + calldata(signature, *args).hex()
            tx = {"from": b.who[role], "to": to, "data": data, "gas": hex(2_000_000)}
            sent.append(b.rpc.call("eth_sendTransaction", [tx]))
        b.rpc.call("evm_mine")
        receipts = [b.receipt(s) for s in sent]
        assert len({r["blockNumber"] for r in receipts}) == 1
        return receipts
    finally:
        b.rpc.call("evm_setAutomine", [True])


def statuses(receipts: Sequence[dict]) -> list[int]:
    return [quantity(r["status"]) for r in receipts]


def me(b: Bench, role: str) -> tuple[str, str]:
    return b.who[role], b.who[role]


# ---------------------------------------------------------------- the hold


@pytest.mark.parametrize("lag_bps", [0, 20, 45])
@pytest.mark.parametrize("in_kind", [True, False])
@pytest.mark.parametrize("bought_by", ["itself", "another"])
def test_no_swap_through_the_vault_in_one_transaction(b: Bench, lag_bps: int, in_kind: bool, bought_by: str):
    """Borrow, enter, leave, sell, repay: a swap at the oracle's price that the holders would pay for."""
    attacker, helper = make(b.rpc, "mock_attacker"), make(b.rpc, "mock_attacker")
    buyer = attacker if bought_by == "itself" else helper
    loan = 2_000_000 * USD
    b.send("trader", b.tokens[0], "approve(address,uint256)", attacker, 2**255)  # the lender
    before = worth(b)
    calls = []
    if buyer is helper:
        calls.append((b.tokens[0], calldata(TRANSFER, helper, loan)))
        inner = [calldata("approve(address,uint256)", b.vault, loan), calldata(DEPOSIT, loan, attacker)]
        calls.append((helper, calldata(RUN, b.tokens[0], ZERO, 0, [b.tokens[0], b.vault], inner)))
    else:
        calls += [(b.tokens[0], calldata("approve(address,uint256)", b.vault, loan))]
        calls += [(b.vault, calldata(DEPOSIT, loan, attacker))]
    calls.append((attacker, calldata(LEAVE, b.vault, in_kind, attacker)))
    market = [b.answer(i) * (10_000 + lag_bps) // 10_000 for i in (1, 2)]
    for i, price in zip((1, 2), market, strict=True):
        unit = 10 ** b.decimals[i]
        calls.append((attacker, calldata(SELL, b.tokens[i], b.router, b.tokens[0], price, unit, 5)))
    args = (b.tokens[0], b.who["trader"], loan, [c[0] for c in calls], [c[1] for c in calls])
    assert b.why("searcher", attacker, RUN, *args) == "hold"
    assert worth(b) == before


def test_what_is_bought_is_held_to_the_second(b: Bench):
    b.deposit("trader", 10_000)
    bought = b.now()
    shares = b.view("balanceOf(address)", b.who["trader"])
    ways = [
        (REDEEM, (shares, *me(b, "trader"))),
        (IN_KIND, (shares, *me(b, "trader"))),
        (IN_KIND, (1, *me(b, "trader"))),
        (WITHDRAW, (USD, *me(b, "trader"))),
        (TRANSFER, (b.who["searcher"], 1)),
    ]
    b.send("trader", b.vault, "approve(address,uint256)", b.who["searcher"], shares)
    moved = ("transferFrom(address,address,uint256)", b.who["trader"], b.who["searcher"], 1)
    assert b.view("held_until(address)", b.who["trader"]) == bought + HOLD_S
    for at, expected in ((bought + HOLD_S - 1, "hold"), (bought + HOLD_S, None)):
        wait = at - b.now()
        for signature, args in ways:
            if signature in (IN_KIND, TRANSFER):  # by then the others' feeds are too old
                assert b.why("trader", b.vault, signature, *args, wait=wait) == expected, (signature, at - bought)
        assert b.why("searcher", b.vault, *moved, wait=wait) == expected
    b.wait(HOLD_S - 60)
    assert b.view("maxRedeem(address)", b.who["trader"]) == b.view("maxWithdraw(address)", b.who["trader"]) == 0
    assert b.why("trader", b.vault, REDEEM, shares, *me(b, "trader"), wait=1) == "hold"
    b.wait(100)
    assert b.view("maxRedeem(address)", b.who["trader"]) == shares
    for signature, args in ways:
        assert b.why("trader", b.vault, signature, *args) is None


def test_who_holds_since_long_is_locked_only_by_his_own_purchase(b: Bench):
    """Anybody may buy for the investor: neither his shares nor their clock are touched."""
    free = b.view("balanceOf(address)", b.who["investor"])
    for _ in range(3):
        b.send("searcher", b.vault, DEPOSIT, 1_000 * USD, b.who["investor"])
        assert b.view("free_shares(address)", b.who["investor"]) == free
        b.wait(600)
    assert b.why("investor", b.vault, IN_KIND, free, *me(b, "investor")) is None
    assert b.why("investor", b.vault, IN_KIND, free + 1, *me(b, "investor")) == "hold"
    b.send("investor", b.vault, DEPOSIT, USD, b.who["investor"])
    assert b.view("free_shares(address)", b.who["investor"]) == 0


def test_what_others_buy_is_free_after_once_to_twice_the_hold_whatever_they_buy_more(b: Bench):
    """A stream of gifts: each is held at least the hold, at most twice, and no later gift renews an earlier one."""
    account = b.who["keeper"]  # owns no shares yet
    gifts: list[tuple[int, int]] = []
    step = HOLD_S // 4
    for round_ in range(14):
        if round_ < 10:
            before = b.view("balanceOf(address)", account)
            b.send("searcher", b.vault, DEPOSIT, (round_ + 1) * 100 * USD, account)
            gifts.append((b.now(), b.view("balanceOf(address)", account) - before))
        now, free = b.now(), b.view("free_shares(address)", account)
        least = sum(amount for at, amount in gifts if now >= at + 2 * HOLD_S)
        most = sum(amount for at, amount in gifts if now >= at + HOLD_S)
        assert least <= free <= most, round_
        b.wait(step)
    b.wait(HOLD_S)
    assert b.view("free_shares(address)", account) == b.view("balanceOf(address)", account)


def test_shares_received_are_free(b: Bench):
    b.send("investor", b.vault, TRANSFER, b.who["searcher"], 10**12)
    assert b.why("searcher", b.vault, IN_KIND, 10**12, *me(b, "searcher")) is None


def test_without_hold_and_fees_a_round_trip_in_one_block_is_possible_and_still_pays_nothing(free: Bench):
    b = free
    x = 1_000_000 * USD
    shares = b.view("previewDeposit(uint256)", x)
    before = b.held(0, "trader")
    done = one_block(
        b,
        ("trader", b.vault, DEPOSIT, (x, b.who["trader"])),
        ("trader", b.vault, REDEEM, (b.view("previewRedeem(uint256)", 0) + shares // 4, *me(b, "trader"))),
    )
    assert statuses(done) == [1, 1]
    assert b.held(0, "trader") <= before


def test_a_jump_of_the_feeds_in_the_block_of_entering_takes_nothing(b: Bench):
    """Enter, both feeds jump by what they may lag, leave, in one block: refused, in cash and in kind."""
    for kind in (REDEEM, IN_KIND):
        with b.undo():
            before = worth(b, of="trader")
            jump = [
                ("deployer", feed, "post(int256)", (b.answer(i) * 10_050 // 10_000,))
                for i in (1, 2)
                for feed in (b.feeds[i], b.seconds[i])
            ]
            shares = b.view("previewDeposit(uint256)", 1_000_000 * USD)
            enter = ("trader", b.vault, DEPOSIT, (1_000_000 * USD, b.who["trader"]))
            leave = ("trader", b.vault, kind, (shares, *me(b, "trader")))
            done = one_block(b, enter, *jump, leave)
            assert statuses(done) == [1, 1, 1, 1, 1, 0]
            prices = [b.answer(0), *(b.answer(i) * 10_000 // 10_050 for i in (1, 2))]
            assert worth(b, prices, "trader") < before


# ---------------------------------------------------------------- two prices and fees


def test_who_enters_pays_on_the_higher_and_who_leaves_is_paid_on_the_lower_price(free: Bench):
    b = free
    calm_in, calm_out = b.view("previewDeposit(uint256)", 10**9), b.view("previewRedeem(uint256)", 10**15)
    for second in (1_990, 2_010):  # within 100 bp of the feed, on either side
        b.send("deployer", b.seconds[1], "post(int256)", second * 10**8)
        assert (b.view("previewDeposit(uint256)", 10**9) < calm_in) == (second > 2_000)
        assert (b.view("previewRedeem(uint256)", 10**15) < calm_out) == (second < 2_000)
        assert b.view("totalAssets()") == b.adapter().snapshot().nav  # the feed's own price, as plans are judged


def test_the_accounting_assets_own_two_prices_count_against_the_caller(free: Bench):
    b = free
    calm_in, calm_out = b.view("previewDeposit(uint256)", 10**9), b.view("previewRedeem(uint256)", 10**15)
    b.send("deployer", b.seconds[0], "post(int256)", 10**8 * 9_950 // 10_000)
    assert b.view("previewDeposit(uint256)", 10**9) < calm_in  # cash is taken at the lower price
    b.send("deployer", b.seconds[0], "post(int256)", 10**8 * 10_050 // 10_000)
    assert b.view("previewRedeem(uint256)", 10**15) < calm_out  # and handed out at the higher


def test_fees_stay_with_the_holders_and_previews_tell_them_exactly(b: Bench):
    assert b.get(b.vault, "terms()", "uint256,uint256,uint256,uint256,uint256") == (HOLD_S, 100, 100, 0, 0)
    one = b.view("convertToAssets(uint256)", 10**15)
    shares = b.view("previewDeposit(uint256)", 10_000 * USD)
    b.deposit("trader", 10_000)
    assert b.view("balanceOf(address)", b.who["trader"]) == shares
    assert b.view("convertToAssets(uint256)", shares) < 9_910 * USD  # 100 bp, of which the others now have their part
    after_entry = b.view("convertToAssets(uint256)", 10**15)
    assert after_entry > one
    b.wait(HOLD_S)
    given = b.view("previewRedeem(uint256)", shares)
    had = b.held(0, "trader")
    b.send("trader", b.vault, REDEEM, shares, *me(b, "trader"))
    assert b.held(0, "trader") - had == given
    assert given < 9_812 * USD
    assert b.view("convertToAssets(uint256)", 10**15) > after_entry


def test_the_in_kind_exit_pays_the_exit_fee_too(b: Bench):
    part, supply = b.view("balanceOf(address)", b.who["investor"]) // 2, b.view("totalSupply()") + 10**6
    held, had = [b.held(i) for i in range(3)], [b.held(i, "investor") for i in range(3)]
    b.send("investor", b.vault, IN_KIND, part, *me(b, "investor"))
    got = [b.held(i, "investor") - had[i] for i in range(3)]
    assert got == [h * part // supply * 9_900 // 10_000 for h in held]


@pytest.mark.parametrize("who", ["investor", "searcher"])
def test_zero_amounts_are_refused_for_everybody(free: Bench, who: str):
    b, mine = free, me(free, who)
    calls = [(DEPOSIT, 0, mine[0]), (MINT, 0, mine[0]), (WITHDRAW, 0, *mine), (REDEEM, 0, *mine), (IN_KIND, 0, *mine)]
    for signature, *args in calls:
        assert b.why(who, b.vault, signature, *args) == "zero"
    assert b.why("investor", b.vault, REDEEM, 1, *me(b, "investor")) == "zero"  # shares worth less than one unit


def test_shares_cannot_be_sent_to_the_vault_itself(free: Bench):
    b = free
    assert b.why("investor", b.vault, TRANSFER, b.vault, 1) == "holder"
    assert b.why("investor", b.vault, DEPOSIT, USD, b.vault) == "holder"


# ---------------------------------------------------------------- plans that nobody stops


def sell_eth(b: Bench, part_bps: int = 200) -> Plan:
    """A plan made now: 2 % of NAV of the token that has risen, with a floor as tight as the legs allow."""
    b.price(1, 2_200 * 10**8)
    b.wait(61)
    nav = b.view("totalAssets()")
    amount = nav * part_bps // 10_000 * 10**12 // 2_200
    return b.plan(b.fair(1, 0, amount, 5), min_nav=nav * 99_985 // 100_000)


@pytest.mark.parametrize("part", [0.001, 0.2, 0.9])
def test_a_plan_survives_an_exit_in_kind_before_it(free: Bench, part: float):
    b = free
    plan = sell_eth(b, 50)
    b.send(
        "investor", b.vault, IN_KIND, int(b.view("balanceOf(address)", b.who["investor"]) * part), *me(b, "investor")
    )
    assert b.refusal(plan) is None
    assert not b.adapter().check(plan)
    b.rebalance(plan)


@pytest.mark.parametrize("usd", [1, 50_000, 900_000, 9_900_000])
def test_a_plan_survives_deposits_before_it(free: Bench, usd: int):
    b = free
    plan = sell_eth(b)
    b.deposit("trader", usd)
    assert b.refusal(plan) is None
    assert not b.adapter().check(plan)


def test_a_plan_survives_several_flows_in_the_block_before_it_and_in_its_own(free: Bench):
    b = free
    plan = sell_eth(b, 50)
    shares = b.view("balanceOf(address)", b.who["investor"])
    flows = [("trader", b.vault, DEPOSIT, (k * 100_000 * USD, b.who["trader"])) for k in (1, 2, 3)]
    exits = [("investor", b.vault, IN_KIND, (shares // 10, *me(b, "investor")))] * 3
    assert statuses(one_block(b, *flows, *exits)) == [1] * 6
    signature, *args = b.args(plan)
    done = one_block(b, *flows, ("keeper", b.vault, signature, tuple(args)))
    assert statuses(done) == [1] * 4


def test_no_flows_of_a_cent_push_out_the_balances_a_plan_was_made_on(free: Bench):
    """The weights are moved once, then block after block a cent comes: for ten minutes the plan lands all the same."""
    b = free
    plan = sell_eth(b)
    b.deposit("trader", 900_000)
    moved, used = b.now(), []
    for at in (1, 8, 40):
        while len(used) < at:
            b.rpc.call("evm_increaseTime", [12])
            b.send("searcher", b.vault, DEPOSIT, USD // 100, b.who["searcher"])
            used.append(0)
        with b.undo():
            used[-1] = quantity(b.rebalance(plan)["gasUsed"])
    kept = [word >> 224 for word in b.get(b.vault, "flows()", "uint256[4]")]
    assert kept == sorted(set(kept), reverse=True)  # one a block
    assert (used[39] - used[0]) / 39 < 20_000  # what a flow in between costs the plan that looks past it
    assert b.refusal(plan, wait=moved + 600 - b.now()) is None
    assert b.refusal(plan, wait=moved + 601 - b.now()) is not None


def test_places_of_balances_are_taken_anew_once_none_judges_a_plan(free: Bench):
    b = free

    def kept() -> list[int]:
        return [word >> 224 for word in b.get(b.vault, "flows()", "uint256[4]")]

    for usd in (1, 900_000):
        sold = sell_eth(b)
        b.deposit("trader", usd)
        assert kept() == [b.now(), 0, 0, 0]
        assert b.refusal(sold) is None
        b.wait(700)
    first = b.now()
    for step in range(5):
        b.deposit("trader", 1)
        b.wait(12)
        assert len([t for t in kept() if t >= first]) == min(step + 1, 4)


def test_balances_before_a_flow_judge_one_plan_and_for_ten_minutes_only(free: Bench):
    b = free
    first = sell_eth(b)
    b.deposit("trader", 900_000)
    assert b.refusal(first, wait=590) is None
    assert b.refusal(first, wait=601) is not None
    b.rebalance(first)
    b.wait(61)
    second = b.plan(b.fair(1, 0, 10**17, 5))
    assert b.refusal(second) == "progress"  # the snapshot was for the plan it was in the way of
    assert [v.check for v in b.adapter().check(second)] == ["progress"]


def test_what_a_plan_may_do_is_not_widened_by_a_flow(free: Bench):
    """A plan that is bad on both the balances of now and those before the flow stays refused."""
    b = free
    b.price(1, 2_200 * 10**8)
    b.wait(61)
    nav = b.view("totalAssets()")
    worse = b.plan(b.fair(0, 1, nav // 50 * 1, 5))  # buys what is overweight already
    b.send("investor", b.vault, IN_KIND, 10**12, *me(b, "investor"))
    assert b.refusal(worse) == "progress"
    low = b.plan(b.fair(1, 0, 10**18, 5), min_nav=nav + USD)
    assert b.refusal(low) == "nav floor"
    assert {v.check for v in b.adapter().check(low)} == {"nav floor"}


def test_a_stranger_without_shares_or_money_cannot_make_a_flow(free: Bench):
    b = free
    plan = sell_eth(b)
    signature, *args = b.args(plan)
    grief = [
        ("searcher", b.vault, WITHDRAW, (0, *me(b, "searcher"))),
        ("searcher", b.vault, REDEEM, (0, *me(b, "searcher"))),
        ("searcher", b.vault, IN_KIND, (0, *me(b, "searcher"))),
        ("searcher", b.vault, DEPOSIT, (0, b.who["investor"])),
        ("searcher", b.vault, MINT, (0, b.who["investor"])),
    ]
    assert statuses(one_block(b, *grief, ("keeper", b.vault, signature, tuple(args)))) == [0] * 5 + [1]


# ---------------------------------------------------------------- an oracle the market denies


def test_a_fill_that_beats_the_oracle_by_more_than_allowed_is_refused(free: Bench):
    b = free
    b.price(1, 2_200 * 10**8)
    b.wait(61)
    amount = 10**18
    assert b.refusal(b.plan(b.fair(1, 0, amount, -100))) is None
    too_good = b.plan(b.fair(1, 0, amount, -101))
    assert b.refusal(too_good) == "leg gain"
    assert [v.check for v in b.adapter().check(too_good)] == ["leg gain"]


def test_nobody_is_paid_at_a_nav_the_market_denies(free: Bench):
    """The feed is stuck far above the market: the keeper's plan proves it, he closes what is priced by it."""
    b = free
    assert b.why("trader", b.vault, "doubt(uint256)", 3_600) == "keeper"
    assert b.why("keeper", b.vault, "doubt(uint256)", 86_401) == "doubt"
    b.send("keeper", b.vault, "doubt(uint256)", 3_600)
    assert b.view("maxRedeem(address)", b.who["investor"]) == b.view("maxDeposit(address)", b.who["investor"]) == 0
    assert b.why("investor", b.vault, REDEEM, 10**12, *me(b, "investor")) == "doubted"
    assert b.why("trader", b.vault, DEPOSIT, USD, b.who["trader"]) == "doubted"
    assert b.why("investor", b.vault, IN_KIND, 10**12, *me(b, "investor")) is None
    assert b.why("keeper", b.vault, "doubt(uint256)", 0) == "keeper"  # who closed longer is not overruled by him
    assert b.why("investor", b.vault, REDEEM, 10**12, *me(b, "investor"), wait=3_601) is None
    b.send("guardian", b.vault, "doubt(uint256)", 0)
    assert b.why("investor", b.vault, REDEEM, 10**12, *me(b, "investor")) is None


def test_one_bad_price_stops_the_plans_that_trade_it_and_no_others(free: Bench):
    b = free
    b.price(1, 2_200 * 10**8)
    b.wait(61)
    b.rebalance(b.plan(b.fair(1, 0, 10**16)))  # the last good prices are those of now
    b.wait(61)
    healthy, sick = b.plan(b.fair(1, 0, 10**17, 5)), b.plan(b.fair(1, 2, 10**17, 5))
    b.send("deployer", b.feeds[2], "set_broken(bool)", True)
    assert b.refusal(healthy) is None
    assert not b.adapter().check(healthy)
    assert b.refusal(sick) == "oracle"
    assert [v.check for v in b.adapter().check(sick)] == ["oracle"]
    assert b.why("investor", b.vault, REDEEM, 10**12, *me(b, "investor")) == "oracle"
    landed = b.rebalance(healthy)
    assert quantity(landed["status"]) == 1
