"""In and out of the vault at the oracle's price: with borrowed money, on a lagging feed, through other accounts.

Held means: whoever did it is not richer at the market's prices, and a share of those who did nothing is worth no less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eth_abi.abi import encode

from policy.execution.vaults.reference.deployment import create
from policy.localnet.accounts import dev_accounts
from tests.attacks.outcome import Attack, Outcome, joined
from tests.attacks.scene import (
    DEPOSIT,
    IN_KIND,
    MINT,
    REDEEM,
    USD,
    WITHDRAW,
    Call,
    a_share,
    entry_bps,
    has,
    hold_s,
    nav_usd,
    one_block,
    prices,
    raised,
    to_target,
    wealth,
    weights,
)
from tests.execution.vault_kit import HUGE, Bench

ROLES = ("trader", "searcher")
CENT = 0.01
LAGS_BPS = (0, 20, 45)
PERMIT = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"


def tried(b: Bench, act: Callable[[], object], what: str, lag_bps: int = 0, roles: Sequence[str] = ROLES) -> Outcome:
    """Let ``act`` happen while the market is ``lag_bps`` above the feeds; judge attacker, holders and mandate."""
    market = prices(b, lag_bps)
    mine, share, before = wealth(b, roles, market), a_share(b, market), weights(b)
    act()
    gain, loss_bps = wealth(b, roles, market) - mine, (1 - a_share(b, market) / share) * 1e4
    moved = max(abs(x - y) for x, y in zip(before, weights(b), strict=True))
    out = b.view("totalSupply()") == 0 or all(b.view("balanceOf(address)", b.who[r]) == 0 for r in roles)
    wrecked = out and moved > 0.01  # whoever stays in has paid for the weights he moved with his capital
    text = f"{what}: attacker {gain:+,.2f} USD, holders {-loss_bps:+.2f} bp"
    return Outcome(
        gain <= CENT and loss_bps < 1e-4 and not wrecked,
        text + (f", weights moved {moved:.0%}" if wrecked else ""),
        loss_bps,
    )


def each(b: Bench, cases: Sequence[tuple[str, int, Callable[[], object]]]) -> Outcome:
    """Try every case from the same state."""
    found = []
    for what, lag, act in cases:
        with b.undo():
            found.append(tried(b, act, what, lag))
    return joined(found, 2)


def pair(b: Bench, usd: int, last: Callable[[int], list[Call]], *between: Call) -> Callable[[], object]:
    """Return an act: deposit ``usd`` and, in the same block, ``between`` and what ``last`` makes of the shares got."""
    shares = b.view("previewDeposit(uint256)", usd * USD)
    enter: Call = ("trader", b.vault, DEPOSIT, (usd * USD, b.who["trader"]))
    return lambda: one_block(b, enter, *between, *last(shares))


def leave(b: Bench, role: str, shares: int, signature: str = IN_KIND) -> Call:
    """Return the exit of ``role`` with ``shares``."""
    return (role, b.vault, signature, (shares, b.who[role], b.who[role]))


def in_kind_at_once(b: Bench) -> Outcome:
    """Deposit and leave in kind in one block, with and without a lag of the feeds."""
    to_target(b)
    sizes = [(x, lag) for x in (100_000, 900_000, 9_900_000) for lag in LAGS_BPS]
    return each(
        b, [(f"{x:,} USD, lag {lag} bp", lag, pair(b, x, lambda s: [leave(b, "trader", s)])) for x, lag in sizes]
    )


def across_an_update(b: Bench) -> Outcome:
    """Deposit, the feeds' update, redeem: one block."""
    to_target(b)
    return each(
        b,
        [
            (f"{x:,} USD, +50 bp", 50, pair(b, x, lambda s: [leave(b, "trader", s, REDEEM)], *raised(b, 50)))
            for x in (100_000, 1_000_000)
        ],
    )


def other_doors(b: Bench) -> Outcome:
    """The same by mint, by withdraw, in other orders."""
    to_target(b)
    me, x = b.who["trader"], 500_000 * USD
    shares = b.view("previewDeposit(uint256)", x)
    enter: Call = ("trader", b.vault, MINT, (shares, me))
    cash: Call = ("trader", b.vault, WITHDRAW, (x, me, me))
    return each(
        b,
        [
            ("mint, in kind", 45, lambda: one_block(b, enter, leave(b, "trader", shares))),
            ("mint, update, withdraw", 50, lambda: one_block(b, enter, *raised(b, 50), cash)),
            ("update, mint, in kind", 0, lambda: one_block(b, *raised(b, 50), enter, leave(b, "trader", shares))),
            ("mint, redeem half, in kind", 45, lambda: one_block(
                b, enter, leave(b, "trader", shares // 2, REDEEM), leave(b, "trader", shares // 2))),
        ],
    )  # fmt: skip


def second_account(b: Bench) -> Outcome:
    """One account buys, another leaves: by transfer, by transferFrom, by buying for it."""
    to_target(b)
    x, other = 500_000, b.who["searcher"]
    given = b.view("previewDeposit(uint256)", x * USD)
    move: Call = ("trader", b.vault, "transfer(address,uint256)", (other, given))
    allow: Call = ("trader", b.vault, "approve(address,uint256)", (other, HUGE))
    pull: Call = ("searcher", b.vault, "transferFrom(address,address,uint256)", (b.who["trader"], other, given))
    direct: Call = ("searcher", b.vault, IN_KIND, (given, other, b.who["trader"]))
    buy: Call = ("trader", b.vault, DEPOSIT, (x * USD, other))
    out = leave(b, "searcher", given)
    return each(
        b,
        [
            ("transfer", 45, pair(b, x, lambda _: [move, out])),
            ("transferFrom", 45, pair(b, x, lambda _: [allow, pull, out])),
            ("exit by allowance", 45, pair(b, x, lambda _: [allow, direct])),
            ("bought for another", 45, lambda: one_block(b, buy, out)),
            ("for another, cash", 50, lambda: one_block(b, buy, *raised(b, 50), leave(b, "searcher", given, REDEEM))),
        ],
    )


def some_blocks_later(b: Bench) -> Outcome:
    """In, an update some blocks on, out: as late as a second before the hold ends."""
    to_target(b)
    hold = hold_s(b)

    def later(seconds: int, buyer: str = "trader") -> Callable[[], object]:
        def act() -> None:
            shares = b.view("previewDeposit(uint256)", 500_000 * USD)
            one_block(b, (buyer, b.vault, DEPOSIT, (500_000 * USD, b.who["trader"])))
            b.rpc.call("evm_increaseTime", [seconds])
            one_block(b, *raised(b, 50), leave(b, "trader", shares, REDEEM))

        return act

    waits = [12, 60, *([hold - 3_600] if hold > 3_600 else [3_000])]
    cases = [(f"{s} s later", 50, later(s)) for s in waits]
    return each(b, [*cases, ("bought by another, 60 s", 50, later(60, "searcher"))])


def apart_sources(b: Bench) -> Outcome:
    """The second source has moved, the first has not: enter and leave on whichever is better."""
    to_target(b)
    x = 500_000

    def ahead(bps: int, door: str) -> Callable[[], object]:
        def act() -> None:
            for i in (1, 2):
                b.send("deployer", b.seconds[i], "post(int256)", b.answer(i) * (10_000 + bps) // 10_000)
            shares = b.view("previewDeposit(uint256)", x * USD)
            one_block(b, ("trader", b.vault, DEPOSIT, (x * USD, b.who["trader"])), leave(b, "trader", shares, door))

        return act

    return each(
        b,
        [
            ("second +90 bp, in kind", 90, ahead(90, IN_KIND)),
            ("second -90 bp, redeem", -90, ahead(-90, REDEEM)),
            ("second +90 bp, redeem", 90, ahead(90, REDEEM)),
        ],
    )


def old_holder(b: Bench) -> Outcome:
    """Somebody whose hold is over leaves on a feed that is still above the market, and one who leaves in kind."""
    to_target(b)
    b.deposit("trader", 30_000)
    b.wait(max(hold_s(b), 61))
    shares = b.view("balanceOf(address)", b.who["trader"])
    exits = [(f"{d.split('(')[0]} at {lag:+d} bp", lag, d) for d in (REDEEM, IN_KIND) for lag in (-45, -20, 45)]
    cases = [(what, lag, lambda d=d: one_block(b, leave(b, "trader", shares, d))) for what, lag, d in exits]
    found = []
    for what, lag, act in cases:  # the weights he leaves behind are his own share's: judged by value alone
        with b.undo():
            market = prices(b, lag)
            mine, share = wealth(b, ROLES, market), a_share(b, market)
            act()
            gain, loss = wealth(b, ROLES, market) - mine, 1 - a_share(b, market) / share
            found.append(Outcome(gain <= CENT and loss < 1e-8, f"{what}: {gain:+,.2f} USD", gain))
    return joined(found, 2)


def old_shares_new_lot(b: Bench) -> Outcome:
    """Free shares leave on the news while a second account buys as many anew on the old price: no capital is held."""
    b.deposit("trader", 30_000)
    b.wait(max(hold_s(b), 61))
    to_target(b)
    own, he = b.view("balanceOf(address)", b.who["trader"]), b.who["trader"]
    anew: Call = ("searcher", b.vault, DEPOSIT, (30_000 * USD, he))
    found = []
    for door in (IN_KIND, REDEEM):
        for lag, between in ((45, []), (50, raised(b, 50))):
            if door == IN_KIND and between:
                continue
            cases = {"before": [anew, *between], "after": [*between, leave(b, "trader", own, door), anew]}
            for order, calls in cases.items():
                rest = [leave(b, "trader", own, door)] if order == "before" else []
                with b.undo():
                    market = prices(b, lag)
                    mine, others = wealth(b, ROLES, market), b.view("balanceOf(address)", b.who["investor"])
                    theirs = others * a_share(b, market)
                    one_block(b, *calls, *rest)
                    gain, loss = wealth(b, ROLES, market) - mine, theirs - others * a_share(b, market)
                    what = f"{door.split('(')[0]}, bought {order}: attacker {gain:+,.2f} USD, holders {-loss:+,.2f}"
                    found.append(Outcome(gain <= CENT and loss <= CENT, what, loss))
    return joined(found, 2)


def by_permit(b: Bench) -> Outcome:
    """The buyer signs a permit, another account moves or redeems his shares in the same block; the permit again."""
    from eth_account import Account
    from eth_account.messages import encode_typed_data

    if not has(b, "DOMAIN_SEPARATOR()"):
        return Outcome(held=True, figure="no permits")
    to_target(b)
    account, other, x = dev_accounts()["trader"], b.who["searcher"], 500_000
    given = b.view("previewDeposit(uint256)", x * USD)

    def permit(owner_key: bytes, owner: str, *, nonce: int = 0, chain_id: int = 31_337, vault: str = "") -> Call:
        domain = {"name": b.get(b.vault, "name()", "string"), "version": "1", "chainId": chain_id,
                  "verifyingContract": vault or b.vault}  # fmt: skip
        fields = [{"name": n, "type": k} for n, k in (("owner", "address"), ("spender", "address"),
                  ("value", "uint256"), ("nonce", "uint256"), ("deadline", "uint256"))]  # fmt: skip
        values = {"owner": owner, "spender": other, "value": given, "nonce": nonce, "deadline": 2**40}
        signed = Account.sign_message(encode_typed_data(domain, {"Permit": fields}, values), owner_key)
        parts = (signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big"))
        return ("searcher", b.vault, PERMIT, (owner, other, given, 2**40, *parts))

    good = permit(account.key, account.address)
    pull: Call = ("searcher", b.vault, "transferFrom(address,address,uint256)", (account.address, other, given))
    direct: Call = ("searcher", b.vault, IN_KIND, (given, other, account.address))
    cases = [("permit, in kind", 45, pair(b, x, lambda _: [good, direct])),
             ("permit, transferFrom", 45, pair(b, x, lambda _: [good, pull, leave(b, "searcher", given)]))]  # fmt: skip
    first = each(b, cases)
    forged = {
        "another's key": permit(dev_accounts()["searcher"].key, account.address),
        "another chain": permit(account.key, account.address, chain_id=1),
        "another vault": permit(account.key, account.address, vault=b.router),
        "a later nonce": permit(account.key, account.address, nonce=1),
        "nobody": permit(account.key, "0x" + "00" * 20),
    }
    taken = [what for what, (role, to, s, a) in forged.items() if b.why(role, to, s, *a) is None]
    b.send(*good[:3], *good[3])
    taken += ["again"] if b.why(*good[:3], *good[3]) is None else []
    text = f"{first.figure}; forged or repeated permits taken: {', '.join(taken) or 'none'}"
    return Outcome(first.held and not taken, text, first.harm)


def fee_tricks(b: Bench) -> Outcome:
    """A manager's fees: taken twice in a block, on a passing price, on gifts, by a stranger, across an exit."""
    if not has(b, "fee_recipient()"):
        return Outcome(held=True, figure="no fees")
    to_target(b)
    b.change("set_fees(uint256,uint256,address)", 100, 1_000, b.who["guardian"])
    pay: Call = ("searcher", b.vault, "pay_fees()", ())
    found = []
    with b.undo():
        b.wait(86_400)
        supply = b.view("totalSupply()")
        one_block(b, *[pay] * 5)
        first = b.view("balanceOf(address)", b.who["guardian"])
        one_block(b, *[pay] * 5)
        twice = b.view("balanceOf(address)", b.who["guardian"]) - first
        lost = (1 - supply / b.view("totalSupply()")) * 1e4
        a_day = 100 * (86_400 + 120) / 31_557_600
        found.append(
            Outcome(twice <= first // 1_000 and lost <= a_day, f"ten payments after a day: {lost:.3f} bp", lost)
        )
    with b.undo():  # a price that comes and goes pays the gain once, and not again below the mark
        supply = b.view("totalSupply()")
        for _ in range(4):
            for bps in (60, -60):
                one_block(b, *raised(b, bps), pay)
        lost = (1 - supply / b.view("totalSupply()")) * 1e4
        found.append(Outcome(lost < 60 * 0.6 * 0.1 + 0.1, f"a price up and down four times: {lost:.2f} bp", lost))
    with b.undo():  # a gift is a gain, the fee on it never more than its part
        before = a_share(b, prices(b))
        b.send("trader", b.tokens[0], "transfer(address,uint256)", b.vault, 10_000 * USD)
        b.send(*pay[:3])
        found.append(Outcome(a_share(b, prices(b)) > before * 1.08, "a gift"))
    return joined(found, 3)


LOAN = """
# pragma version 0.4.3
interface T:
    def transfer(a: address, v: uint256) -> bool: nonpayable
    def transferFrom(a: address, b: address, v: uint256) -> bool: nonpayable
    def approve(a: address, v: uint256) -> bool: nonpayable
    def balanceOf(a: address) -> uint256: view
interface V:
    def deposit(a: uint256, r: address) -> uint256: nonpayable
    def redeemInKind(a: uint256, r: address, o: address) -> DynArray[uint256, 8]: nonpayable
interface R:
    def swap(i: address, o: address, a: uint256, b: uint256): nonpayable
@external
def go(lender: address, usd: address, vault: address, x: uint256, market: address, sells: DynArray[address, 4],
       prices: DynArray[uint256, 4], units: DynArray[uint256, 4]):
    extcall T(usd).transferFrom(lender, self, x)
    extcall T(usd).approve(vault, x)
    s: uint256 = extcall V(vault).deposit(x, self)
    extcall V(vault).redeemInKind(s, self, self)
    for i: uint256 in range(len(sells), bound=4):
        have: uint256 = staticcall T(sells[i]).balanceOf(self)
        extcall T(sells[i]).approve(market, have)
        extcall R(market).swap(sells[i], usd, have, have * prices[i] // units[i] // 100 * 9995 // 10000)
    extcall T(usd).transfer(lender, x)
    extcall T(usd).transfer(msg.sender, staticcall T(usd).balanceOf(self))
"""
GO = "go(address,address,address,uint256,address,address[],uint256[],uint256[])"


def one_transaction(b: Bench) -> Outcome:
    """Borrow, deposit, leave in kind, sell at the market, pay back: one transaction without capital."""
    import vyper

    to_target(b)
    code = bytes.fromhex(vyper.compile_code(LOAN, output_formats=["bytecode"])["bytecode"][2:])
    contract = create(b.rpc, code + encode([], []), b.who["deployer"])
    b.send("trader", b.tokens[0], "approve(address,uint256)", contract, HUGE)  # the trader stands for the lender
    found = []
    for lag, usd in ((20, 2_000_000), (45, 2_000_000), (45, 20_000_000)):
        with b.undo():
            at = [b.answer(i) * (10_000 + lag) // 10_000 for i in (1, 2)]
            asked = (b.who["trader"], b.tokens[0], b.vault, usd * USD, b.router, b.tokens[1:], at, [10**18, 10**8])
            why = b.why("searcher", contract, GO, *asked)
            if why is not None:
                found.append(Outcome(True, f"{usd:,} USD at {lag} bp: refused ({why})"))  # noqa: FBT003
                continue
            before, held = nav_usd(b, prices(b, lag)), b.held(0, "searcher")
            b.send("searcher", contract, GO, *asked)
            lost = (1 - nav_usd(b, prices(b, lag)) / before) * 1e4
            won = (b.held(0, "searcher") - held) / USD
            found.append(Outcome(lost <= 0, f"{usd:,} USD at {lag} bp: {won:+,.2f} USD, holders {-lost:+.1f} bp", lost))
    return joined(found, 2)


def wreck_and_repair(b: Bench) -> Outcome:
    """Wreck the weights again and again; the keeper repairs at 10 bp a trade."""
    to_target(b)
    share, refused, rounds = a_share(b, prices(b)), "", 6
    for _ in range(rounds):
        x = 20 * b.view("totalAssets()")
        got = b.view("previewDeposit(uint256)", x)
        ok = one_block(b, ("trader", b.vault, DEPOSIT, (x, b.who["trader"])), leave(b, "trader", got))
        if not ok[1]:
            refused = "the exit is refused"
            break
        b.wait(61)
        nav = b.view("totalAssets()")
        needs = [(i, nav * 3 // 10 - int(b.held(i) * prices(b)[i] * USD)) for i in (1, 2)]
        legs = [b.fair(0, i, min(need, nav * 245 // 1_000), 10) for i, need in needs if need > nav // 1_000]
        if legs and b.refusal(plan := b.plan(*legs)) is None:
            b.rebalance(plan)
            b.wait(61)
    lost = (1 - a_share(b, prices(b)) / share) * 1e4
    return Outcome(lost < 1e-4, f"{refused or f'{rounds} rounds'}: holders {-lost:+.2f} bp")


def someones_clock(b: Bench) -> Outcome:
    """Keep a holder in by buying for him, again and again: his own shares stay free."""
    to_target(b)
    free, me = b.view("balanceOf(address)", b.who["investor"]), b.who["investor"]
    whys = []
    for _ in range(5):
        b.send("trader", b.vault, DEPOSIT, USD, me)
        b.wait(600)
        whys.append(b.why("investor", b.vault, IN_KIND, free, me, me))
        whys.append(b.why("investor", b.vault, REDEEM, free // 10, me, me))
        whys.append(b.why("investor", b.vault, "transfer(address,uint256)", b.who["searcher"], free))
    stopped = [w for w in whys if w is not None]
    return Outcome(
        not stopped, f"stopped {len(stopped)} of {len(whys)} times" + (f" ({stopped[0]})" if stopped else "")
    )


def inflation(b: Bench) -> Outcome:
    """First deposit of one raw unit, a gift, then the victim: who loses what."""
    me = b.who["investor"]
    b.send("investor", b.vault, REDEEM, b.view("balanceOf(address)", me), me, me)
    b.wait(12)
    found = []
    for first, gift, victim in ((1, 1_000 * USD, 1_000 * USD), (1, 10**6 * USD, 1_000 * USD), (100, 999 * USD, 100)):
        with b.undo():
            paid = next(x for x in (first, 100, USD) if b.why("trader", b.vault, DEPOSIT, x, b.who["trader"]) is None)
            b.send("trader", b.vault, DEPOSIT, paid, b.who["trader"])
            b.send("trader", b.tokens[0], "transfer(address,uint256)", b.vault, gift)
            what = f"gift {gift // USD:,} USD"
            if (why := b.why("searcher", b.vault, DEPOSIT, victim, b.who["searcher"])) is not None:
                found.append(Outcome(held=True, figure=f"{what}: {victim} raw units are refused ({why})"))
                continue
            b.send("searcher", b.vault, DEPOSIT, victim, b.who["searcher"])
            fee = victim * entry_bps(b) / 10_000 / USD  # what he agreed to
            back, mine = (b.view("convertToAssets(uint256)", b.view("balanceOf(address)", b.who[r])) / USD for r in
                          ("searcher", "trader"))  # fmt: skip
            lost, cost = victim / USD - fee - back, (paid + gift) / USD - mine
            found.append(Outcome(cost > 100 * lost, f"{what}: costs him {cost:,.0f}, victim loses {lost:.4f}", lost))
    return joined(found, 3)


ATTACKS = [
    Attack("C1 deposit, in kind", "deposit and leave in kind in one block", "vault", in_kind_at_once),
    Attack("C1 one transaction", "flash loan, in, out in kind, sold at the market", "vault", one_transaction),
    Attack("C1 other doors", "the same by mint and withdraw, in other orders", "vault", other_doors),
    Attack("C1 second account", "shares moved to, or bought for, another account", "vault", second_account),
    Attack("C1 wreck, repair", "weights wrecked in rounds, the keeper repairs", "vault", wreck_and_repair),
    Attack("H1 update between", "deposit, feed update, redeem in one block", "vault", across_an_update),
    Attack("H1 blocks later", "the same over several blocks, up to the hold's end", "vault", some_blocks_later),
    Attack("H1 sources apart", "enter and leave on the better of two sources", "vault", apart_sources),
    Attack("H1 old holder", "leave on a feed that is above the market", "vault", old_holder),
    Attack("H1 old shares", "old shares leave, as many are bought anew", "vault", old_shares_new_lot),
    Attack("C1 by permit", "shares moved by a signed permit; forged permits", "vault", by_permit),
    Attack("M8 fee tricks", "a manager's fees taken twice, on passing prices", "vault", fee_tricks),
    Attack("H1 another's clock", "lock a holder in by buying for him", "vault", someones_clock),
    Attack("held: inflation", "first deposit, gift, victim", "vault", inflation),
]
