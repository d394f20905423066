"""What the owner may change and what holders keep meanwhile: tokens, claims, fees, roles, budgets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from lake.errors import ConfigError, ExecutionError
from lake.evm import calldata
from policy.execution.vaults.reference.deployment import (
    WORTHLESS,
    ZERO,
    TokenSource,
    VaultSetup,
    create,
    deploy,
    oracle_code,
    vault_code,
)
from policy.localnet.accounts import dev_accounts
from tests.execution.vault_kit import DELAY, FREE, PRICES, Bench, bench, make, new_feed

pytestmark = pytest.mark.chain
USD = 10**6
YEAR = 31_557_600
DEPOSIT, REDEEM = "deposit(uint256,address)", "redeem(uint256,address,address)"
IN_KIND, SKIPPING = "redeemInKind(uint256,address,address)", "redeemInKind(uint256,address,address,uint256)"
FAULT = "set_fault(uint256,uint256,address,bytes)"
SET_TOKENS = "set_tokens(address[],uint256[],uint256[],address)"
SET_FEES = "set_fees(uint256,uint256,address)"
RETURNS_FALSE = 2


@pytest.fixture(scope="module")
def world() -> Iterator[Bench]:
    with bench(**FREE) as made:
        nav = made.view("totalAssets()")
        for j in (1, 2):
            made.rebalance(made.plan(made.fair(0, j, nav * 3_000 // 10_000)))
            made.wait(61)
        yield made


@pytest.fixture
def b(world: Bench) -> Iterator[Bench]:
    feeds, seconds = list(world.feeds), list(world.seconds)
    with world.undo():
        yield world
    world.feeds, world.seconds = feeds, seconds


def me(b: Bench, role: str) -> tuple[str, str]:
    return b.who[role], b.who[role]


def shares(b: Bench, role: str) -> int:
    return b.view("balanceOf(address)", b.who[role])


def fault(b: Bench, i: int, kind: int) -> None:
    b.send("deployer", b.tokens[i], FAULT, kind, 0, b.vault, b"")


def an_oracle(b: Bench, tokens: Sequence[str], scales: Sequence[int], feeds: Sequence[str], given_up: int = -1) -> str:
    rows = [
        TokenSource(t, d, 0, ZERO, 1, second_kind=WORTHLESS) if i == given_up else TokenSource(t, d, 0, f, 90_000)
        for i, (t, d, f) in enumerate(zip(tokens, scales, feeds, strict=True))
    ]
    return create(b.rpc, oracle_code(VaultSetup(rows, ZERO, ZERO, ZERO, [])), b.who["deployer"])


def refused(b: Bench, signature: str, *args: object) -> str | None:
    """Why an announced change is refused when its time has come."""
    data = calldata(signature, *args)
    b.send("owner", b.vault, "schedule(bytes)", data)
    b.wait(DELAY + 1)
    return b.why("owner", b.vault, "execute(bytes)", data)


# ---------------------------------------------------------------- a token that cannot move


def test_what_cannot_move_is_claimed_later_to_the_last_unit(b: Bench):
    b.deposit("searcher", 50_000)
    held, supply, mine = b.held(0), b.view("totalSupply()") + 10**6, shares(b, "searcher")
    fault(b, 0, RETURNS_FALSE)
    assert b.why("searcher", b.vault, IN_KIND, mine, *me(b, "searcher")) == "transfer"
    one = b.view("convertToAssets(uint256)", 10**15)
    b.send("searcher", b.vault, SKIPPING, mine, *me(b, "searcher"), 1)
    part = held * mine // supply
    assert b.view("claims(address,address)", b.tokens[0], b.who["searcher"]) == part
    assert b.view("set_aside(address)", b.tokens[0]) == part
    assert b.get(b.vault, "balances()", "uint256[]")[0] == held - part
    assert b.adapter().state().book.holdings[0] == held - part  # neither value nor something to trade
    assert b.view("convertToAssets(uint256)", 10**15) >= one
    assert b.why("searcher", b.vault, "claim(address,address)", b.tokens[0], b.who["searcher"]) == "transfer"
    fault(b, 0, 0)
    had = b.held(0, "searcher")
    b.send("searcher", b.vault, "claim(address,address)", b.tokens[0], b.who["searcher"])
    assert b.held(0, "searcher") - had == part
    assert b.why("searcher", b.vault, "claim(address,address)", b.tokens[0], b.who["searcher"]) == "zero"
    assert b.view("set_aside(address)", b.tokens[0]) == 0


def test_nothing_is_left_to_nobody_when_the_last_holder_leaves_a_frozen_token(b: Bench):
    b.deposit("searcher", 50_000)
    fault(b, 0, RETURNS_FALSE)
    for role in ("searcher", "investor"):
        b.send(role, b.vault, SKIPPING, shares(b, role), *me(b, role), 1)
    assert b.view("totalSupply()") == 0
    fault(b, 0, 0)
    before = b.held(0)
    b.deposit("trader", 1_000_000)  # an outsider after the thaw gets nothing of it
    b.wait(12)
    had = b.held(0, "trader")
    b.send("trader", b.vault, REDEEM, shares(b, "trader"), *me(b, "trader"))
    assert b.held(0, "trader") - had <= 1_000_000 * USD
    for role in ("searcher", "investor"):
        b.send(role, b.vault, "claim(address,address)", b.tokens[0], b.who[role])
    assert before - b.held(0) >= before - 2 * USD


def sell_half_the_cash(b: Bench) -> None:
    b.rebalance(b.plan(b.fair(0, 2, b.adapter().state().book.holdings[0] // 2)))
    b.wait(61)


def test_plans_cannot_sell_what_is_set_aside(b: Bench):
    b.deposit("searcher", 50_000)
    b.send("searcher", b.vault, SKIPPING, shares(b, "searcher"), *me(b, "searcher"), 0b111)
    b.change("set_targets(uint256[])", [0, 5_000, 5_000])
    sell_half_the_cash(b)
    free = b.adapter().state().book.holdings[0]
    over = b.plan(b.fair(0, 1, free + 1))
    assert b.refusal(over) == "spent"
    assert [v.check for v in b.adapter().check(over)] == ["spent"]
    b.rebalance(b.plan(b.fair(0, 1, free)))
    assert b.adapter().state().book.holdings[0] == 0
    claimed = b.view("claims(address,address)", b.tokens[0], b.who["searcher"])
    assert b.held(0) == claimed > 0
    for token in b.tokens:
        b.send("searcher", b.vault, "claim(address,address)", token, b.who["searcher"])


def test_a_loss_of_a_token_that_is_set_aside_is_shared_by_its_claims(b: Bench):
    b.deposit("searcher", 50_000)
    b.send("searcher", b.vault, SKIPPING, shares(b, "searcher") // 2, *me(b, "searcher"), 1)
    b.send("searcher", b.vault, SKIPPING, shares(b, "searcher"), b.who["trader"], b.who["searcher"], 1)
    aside = b.view("set_aside(address)", b.tokens[0])
    first, second = (b.view("claims(address,address)", b.tokens[0], b.who[r]) for r in ("searcher", "trader"))
    assert first + second == aside
    b.change("set_targets(uint256[])", [0, 5_000, 5_000])
    sell_half_the_cash(b)
    b.rebalance(b.plan(b.fair(0, 1, b.adapter().state().book.holdings[0])))
    b.send("deployer", b.tokens[0], FAULT, 1, 5_000, b.vault, b"")  # now half of every transfer is burnt
    had = b.held(0, "searcher")
    b.send("searcher", b.vault, "claim(address,address)", b.tokens[0], b.who["searcher"])
    assert b.held(0, "searcher") - had == first - first * 5_000 // 10_000


# ---------------------------------------------------------------- tokens that come and go


def test_a_token_without_target_and_balance_needs_no_price(b: Bench):
    b.change("set_targets(uint256[])", [5_000, 5_000, 0])
    b.rebalance(b.plan(b.fair(2, 1, b.held(2))))
    b.wait(61)
    b.send("deployer", b.feeds[2], "set_broken(bool)", True)
    assert b.why("trader", b.vault, DEPOSIT, USD, b.who["trader"]) is None
    assert b.why("investor", b.vault, REDEEM, 10**12, *me(b, "investor")) is None
    assert b.view("maxRedeem(address)", b.who["investor"]) > 0
    assert b.refusal(b.plan(b.fair(1, 0, 10**16))) is None
    b.send("trader", b.tokens[2], "transfer(address,uint256)", b.vault, 2_000)  # 0.8 dollars, to stop the others?
    assert b.why("trader", b.vault, DEPOSIT, USD, b.who["trader"]) is None
    b.send("trader", b.tokens[2], "transfer(address,uint256)", b.vault, 10_000)
    assert b.why("trader", b.vault, DEPOSIT, USD, b.who["trader"]) == "oracle"  # now it is worth something


def test_the_owner_retires_one_token_and_adds_another(b: Bench):
    new = make(b.rpc, "mock_token", ["string", "string", "uint8"], ["LINK", "LINK", 18])
    b.send("deployer", new, "mint(address,uint256)", b.router, 10**27)
    feed = new_feed(b.rpc, 20 * 10**8)
    tokens, scales = [b.tokens[0], b.tokens[1], new], [6, 18, 18]
    args = (tokens, scales, [4_000, 3_000, 3_000], an_oracle(b, tokens, scales, [*b.feeds[:2], feed]))
    assert b.why("owner", b.vault, SET_TOKENS, *args) == "timelock"
    b.feeds[2:], b.seconds[2:] = [b.feeds[2], feed], [b.seconds[2]]
    assert refused(b, SET_TOKENS, *args) == "held"  # not while the vault still has some of it
    b.change("set_targets(uint256[])", [5_000, 5_000, 0])
    worse = b.plan(b.fair(0, 2, 1_000 * USD))
    assert b.refusal(worse) == "progress"  # distance rules hold meanwhile
    b.rebalance(b.plan(b.fair(2, 1, b.held(2))))
    b.wait(61)
    wrong = an_oracle(b, tokens[::-1], scales[::-1], [feed, b.feeds[1], b.feeds[0]])
    assert refused(b, SET_TOKENS, tokens, scales, [4_000, 3_000, 3_000], wrong) == "oracle"
    assert refused(b, SET_TOKENS, tokens[1:], scales[1:], [5_000, 5_000], wrong) == "asset"
    b.wait(15 * 86_400)  # the first announcement is void by now
    before = b.view("totalAssets()")
    b.change(SET_TOKENS, *args)
    assert b.view("totalAssets()") == before
    assert list(b.get(b.vault, "tokens()", "address[],uint256[],uint256[]")[2]) == [4_000, 3_000, 3_000]
    assert [t.address for t in b.adapter().state().layout.tokens][2].lower() == new.lower()
    amount = 1_000 * USD
    leg = b.leg(1, 0, 1, 1)
    data = calldata("swap(address,address,uint256,uint256)", b.tokens[0], new, amount, 50 * 10**18)
    buy = type(leg)(b.tokens[0], new, amount, 50 * 10**18, 50 * 10**18, (), b.router, data)
    b.rebalance(b.plan(buy))
    assert refused(b, "sweep(address,address)", b.tokens[2], b.who["owner"]) == "held"  # was held: never swept


def test_a_dead_token_is_given_up_and_all_goes_on(b: Bench):
    """Delisted with a balance: an oracle that gives it up reopens the vault; who is against it has left in kind."""
    b.change("set_targets(uint256[])", [5_000, 5_000, 0])
    b.send("deployer", b.feeds[2], "set_broken(bool)", True)
    b.send("deployer", b.seconds[2], "set_broken(bool)", True)
    assert b.why("trader", b.vault, DEPOSIT, USD, b.who["trader"]) == "oracle"
    oracle = an_oracle(b, b.tokens, b.decimals, b.feeds, given_up=2)
    b.feeds[2:] = b.seconds[2:] = []
    b.change("set_oracle(address)", oracle)
    assert b.why("trader", b.vault, DEPOSIT, USD, b.who["trader"]) is None
    assert b.adapter().snapshot().nav == b.view("totalAssets()")
    assert not b.adapter().snapshot().verdicts
    had = b.held(2, "investor")
    b.send("investor", b.vault, IN_KIND, 10**15, *me(b, "investor"))
    assert b.held(2, "investor") > had  # in kind it is still everybody's
    assert not b.adapter().check(b.plan(b.fair(0, 1, 10**9, prices=PRICES)))


def test_an_airdrop_is_swept_slowly_and_no_token_of_the_portfolio_ever(b: Bench):
    airdrop = make(b.rpc, "mock_token", ["string", "string", "uint8"], ["AIR", "AIR", 18])
    b.send("deployer", airdrop, "mint(address,uint256)", b.vault, 10**20)
    assert b.why("owner", b.vault, "sweep(address,address)", airdrop, b.who["owner"]) == "timelock"
    b.change("sweep(address,address)", airdrop, b.who["guardian"])
    assert b.get(airdrop, "balanceOf(address)", "uint256", b.who["guardian"]) == 10**20
    for token in b.tokens:
        assert refused(b, "sweep(address,address)", token, b.who["owner"]) == "held"


# ---------------------------------------------------------------- fees


def test_the_management_fee_accrues_by_time_and_previews_count_it(b: Bench):
    b.change(SET_FEES, 200, 0, b.who["deployer"])
    start, supply = b.now(), b.view("totalSupply()")
    b.wait(YEAR // 2)
    shares_before = b.view("previewDeposit(uint256)", 1_000 * USD)
    b.deposit("trader", 1_000)
    assert abs(shares(b, "trader") - shares_before) <= shares_before // 10**7  # some seconds more of fee
    paid = shares(b, "deployer")
    elapsed = b.now() - start
    exact = Fraction(supply * 200 * elapsed, 10_000 * YEAR - 200 * elapsed)
    assert 0 <= exact - paid <= exact / 10**6 + 2
    assert Fraction(paid, supply + paid) <= Fraction(200 * elapsed, 10_000 * YEAR)  # that part of all, no more
    b.send("trader", b.vault, "pay_fees()")
    assert shares(b, "deployer") - paid <= paid // 10**5


def test_the_performance_fee_is_paid_once_for_every_gain_above_the_mark(b: Bench):
    b.change(SET_FEES, 0, 2_000, b.who["deployer"])
    nav = b.view("totalAssets()")
    b.price(1, 2_400 * 10**8)  # 30 % of NAV up by a fifth: 6 %
    gain = b.view("totalAssets()") - nav
    b.send("trader", b.vault, "pay_fees()")
    value = b.view("convertToAssets(uint256)", shares(b, "deployer"))
    assert abs(value - gain // 5) <= gain // 10**4
    b.price(1, 2_000 * 10**8)
    b.send("trader", b.vault, "pay_fees()")
    b.price(1, 2_399 * 10**8)
    b.send("trader", b.vault, "pay_fees()")
    assert b.view("convertToAssets(uint256)", shares(b, "deployer")) <= value  # below the mark nothing is earned twice
    had = shares(b, "deployer")
    b.price(1, 2_600 * 10**8)
    said = b.view("previewRedeem(uint256)", 10**15)
    cash = b.held(0, "investor")
    b.send("investor", b.vault, REDEEM, 10**15, *me(b, "investor"))
    assert b.held(0, "investor") - cash == said  # with the fee that falls due
    assert shares(b, "deployer") > had


def test_fees_begin_when_they_are_agreed_and_not_before(b: Bench):
    b.wait(YEAR)
    b.price(1, 4_000 * 10**8)
    b.change(SET_FEES, 500, 3_000, b.who["deployer"])
    b.send("trader", b.vault, "pay_fees()")
    assert b.view("convertToAssets(uint256)", shares(b, "deployer")) < 10 * USD
    b.change(SET_FEES, 0, 0, ZERO)
    had = shares(b, "deployer")
    b.wait(YEAR)
    b.price(1, 9_000 * 10**8)
    assert b.why("trader", b.vault, "pay_fees()") is None
    b.send("trader", b.vault, "pay_fees()")
    assert shares(b, "deployer") == had


# ---------------------------------------------------------------- permits and roles


def signed(b: Bench, role: str, spender: str, value: int, nonce: int, deadline: int, name: str = "Foredrift portfolio"):
    domain = {"name": name, "version": "1", "chainId": 31_337, "verifyingContract": b.vault}
    fields = [("owner", "address"), ("spender", "address"), ("value", "uint256"), ("nonce", "uint256")]
    kinds = {"Permit": [{"name": n, "type": t} for n, t in [*fields, ("deadline", "uint256")]]}
    body = {"owner": b.who[role], "spender": spender, "value": value, "nonce": nonce, "deadline": deadline}
    made = Account.sign_message(encode_typed_data(domain, kinds, body), dev_accounts()[role].key)
    r, s = made.r.to_bytes(32, "big"), made.s.to_bytes(32, "big")
    return ("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)", b.who[role], spender, value, deadline), (
        made.v,
        r,
        s,
    )


def test_a_permit_approves_once_in_time_and_for_this_vault(b: Bench):
    spender, deadline = b.who["trader"], b.now() + 1_000
    call, seal = signed(b, "investor", spender, 777, 0, deadline)
    assert b.why("searcher", b.vault, *call, *seal, wait=1_001) == "deadline"
    other, bad = signed(b, "investor", spender, 777, 0, deadline, name="another vault")
    assert b.why("searcher", b.vault, *other, *bad) == "permit"
    assert b.why("searcher", b.vault, *call[:3], 778, call[4], *seal) == "permit"
    high = (55 - seal[0], seal[1], (0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
                                    - int.from_bytes(seal[2], "big")).to_bytes(32, "big"))  # fmt: skip
    assert b.why("searcher", b.vault, *call, *high) == "permit"  # the same signature in its other form
    b.send("searcher", b.vault, *call, *seal)
    assert b.view("allowance(address,address)", b.who["investor"], spender) == 777
    assert b.why("searcher", b.vault, *call, *seal) == "permit"
    assert b.view("nonces(address)", b.who["investor"]) == 1


def test_a_new_owner_accepts_before_he_is_one(b: Bench):
    b.change("set_role(uint256,address)", 0, b.who["trader"])
    assert b.get(b.vault, "owner()", "address").lower() == b.who["owner"].lower()
    assert b.why("searcher", b.vault, "accept_ownership()") == "owner"
    b.send("trader", b.vault, "accept_ownership()")
    assert b.get(b.vault, "owner()", "address").lower() == b.who["trader"].lower()
    assert b.why("owner", b.vault, "pause()") == "guardian"
    assert b.why("trader", b.vault, "accept_ownership()") == "owner"


def test_the_guardian_cannot_keep_a_vault_shut_whose_owner_wants_it_open(b: Bench):
    b.send("guardian", b.vault, "pause()")
    b.change("resume()")
    assert b.why("guardian", b.vault, "pause()") == "resumed"
    assert b.why("guardian", b.vault, "pause()", wait=DELAY - 300) == "resumed"
    assert b.why("guardian", b.vault, "pause()", wait=DELAY + 1) is None
    assert b.why("owner", b.vault, "pause()") is None  # the owner may at any time
    assert b.why("guardian", b.vault, "revoke_guardian()") == "owner"
    b.send("owner", b.vault, "revoke_guardian()")
    assert b.why("guardian", b.vault, "pause()", wait=10 * DELAY) == "guardian"


# ---------------------------------------------------------------- set-up


def test_a_wrong_set_up_is_refused_with_its_reason(world: Bench):
    b = world
    feed = new_feed(b.rpc, 10**8)

    def setup(**over: object) -> VaultSetup:
        rows = [
            TokenSource(t, d, w, feed, 90_000, **over)  # type: ignore[arg-type]
            for t, d, w in zip(b.tokens, b.decimals, (4_000, 3_000, 3_000), strict=True)
        ]
        return VaultSetup(rows, b.who["owner"], b.who["keeper"], b.who["guardian"], [])

    with b.undo():
        b.wait(1)
        b.send("deployer", feed, "post(int256)", 10**8)
        with pytest.raises(ExecutionError, match=r"feed decimals.*not what is configured"):
            deploy(b.rpc, setup(feed_decimals=18), b.who["deployer"])
        wrong = setup()
        rows = [*wrong.sources]
        rows[1] = TokenSource(b.tokens[1], 8, 3_000, feed, 90_000)
        with pytest.raises(ExecutionError, match=r"token decimals.*not what is configured"):
            deploy(b.rpc, VaultSetup(rows, ZERO[:-1] + "1", ZERO, ZERO, []), b.who["deployer"])
        oracle = create(b.rpc, oracle_code(setup()), b.who["deployer"])
        with pytest.raises(ExecutionError, match=r"no code at the address of the investors' half"):
            create(b.rpc, vault_code(setup(), oracle, b.who["trader"], b.vault, b.vault), b.who["deployer"])
        for wrong, said in (
            ({"delay_s": 0}, "delay_s"),
            ({"hold_s": -1}, "hold_s"),
            ({"entry_bps": 400}, "fees"),
        ):
            with pytest.raises(ConfigError, match=said):
                deploy(b.rpc, VaultSetup(setup().sources, *[b.who["owner"]] * 3, [], **wrong), b.who["deployer"])


def test_defaults_of_hold_and_fees_follow_the_feeds(world: Bench):
    b = world
    rows = [TokenSource(b.tokens[0], 6, 5_000, b.feeds[0], 3_900, deviation_bps=101)]
    rows.append(TokenSource(b.tokens[1], 18, 5_000, b.feeds[1], 86_400 + 600))
    made = VaultSetup(rows, ZERO, ZERO, ZERO, [])
    assert made.terms() == (87_000, 101, 101)
    assert VaultSetup(rows, ZERO, ZERO, ZERO, [], hold_s=0, entry_bps=0, exit_bps=0).terms() == (0, 0, 0)


def test_absurd_balances_break_no_view(b: Bench):
    """A gift of any size: views saturate, they never revert, and who holds shares can still leave in kind."""
    for power in (128, 196, 250):
        with b.undo():
            for i in (0, 1):
                b.send("deployer", b.tokens[i], "mint(address,uint256)", b.vault, 2**power)
            assert b.view("totalAssets()") > 0
            for name in ("maxDeposit", "maxMint", "maxWithdraw", "maxRedeem"):
                b.view(f"{name}(address)", b.who["investor"])
            for name in ("convertToShares", "convertToAssets"):
                for amount in (0, 1, 10**18, 2**255):
                    b.view(f"{name}(uint256)", amount)
            assert b.why("investor", b.vault, IN_KIND, 10**9, *me(b, "investor")) is None


def test_all_halves_lay_out_their_storage_alike():
    """The vault runs the other two halves on its own storage: one slot apart and money moves to nobody."""
    pytest.importorskip("vyper", reason="the compiler is the extra foredrift[chain]")
    from policy.execution.contracts.compile import layout

    vault, half = layout("foredrift_vault"), layout("foredrift_investors")
    assert layout("foredrift_auctions") == layout("foredrift_port") == vault
    assert len(vault) > 20
    assert {name: half[name] for name in vault} == vault
    own = {name: slot for name, slot in half.items() if name not in vault}
    assert min(own.values()) > max(v for n, v in vault.items() if "nonreentrant" not in n)
