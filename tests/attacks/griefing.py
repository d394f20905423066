"""Stop the keeper's plans, or other people's flows, without paying what moving the weights costs."""

from __future__ import annotations

from policy.execution.base import Plan
from tests.attacks.outcome import Attack, Outcome, joined
from tests.attacks.scene import (
    DEPOSIT,
    IN_KIND,
    MINT,
    REDEEM,
    USD,
    WITHDRAW,
    Call,
    has,
    hold_s,
    one_block,
    prices,
    to_target,
    wealth,
)
from tests.execution.vault_kit import DELAY, Bench

CENT_USD = USD // 100


def beside(b: Bench, plan: Plan, *calls: Call) -> tuple[list[bool], bool]:
    """Mine ``calls`` and then the plan in one block; return which calls and whether the plan succeeded."""
    signature, *args = b.args(plan)
    done = one_block(b, *calls, ("keeper", b.vault, signature, tuple(args)))
    return done[:-1], done[-1]


def for_nothing(b: Bench) -> Outcome:
    """Zero-amount flows by somebody who has neither money nor shares."""
    he = b.who["searcher"]
    plan = b.plan(b.fair(0, 1, 10_000 * USD))
    cases: list[Call] = [
        ("searcher", b.vault, WITHDRAW, (0, he, he)),
        ("searcher", b.vault, REDEEM, (0, he, he)),
        ("searcher", b.vault, DEPOSIT, (0, b.who["investor"])),
        ("searcher", b.vault, MINT, (0, b.who["investor"])),
        ("searcher", b.vault, IN_KIND, (0, he, he)),
        ("searcher", b.vault, "transfer(address,uint256)", (b.who["investor"], 0)),
    ]
    found = []
    for case in cases:
        with b.undo():
            _, landed = beside(b, plan, case)
            found.append(Outcome(landed, f"{case[2].split('(')[0]}(0): plan {'lands' if landed else 'reverts'}"))
    stopped = sum(not f.held for f in found)
    return Outcome(not stopped, f"{stopped} of {len(found)} zero-amount calls stop the plan of their block")


def for_a_cent(b: Bench) -> Outcome:
    """Flows of a cent before a plan: in its block, and in each of the blocks before it."""
    he = b.who["trader"]
    b.deposit("trader", 1_000)
    b.wait(max(hold_s(b), 61))
    to_target(b)
    b.price(1, 2_200 * 10**8)
    b.wait(61)
    nav = b.view("totalAssets()")
    plan = b.plan(b.fair(1, 0, nav * 200 // 10_000 * 10**12 // 2_200))
    unit = b.view("convertToShares(uint256)", CENT_USD)
    dust: list[Call] = [
        ("searcher", b.vault, DEPOSIT, (CENT_USD, b.who["searcher"])),
        ("searcher", b.vault, DEPOSIT, (CENT_USD, he)),
        ("trader", b.vault, REDEEM, (unit, he, he)),
        ("trader", b.vault, IN_KIND, (unit, he, he)),
        ("searcher", b.tokens[0], "transfer(address,uint256)", (b.vault, CENT_USD)),
    ]
    found = []
    for call in dust:
        with b.undo():
            _, landed = beside(b, plan, call)
            found.append(Outcome(landed, f"{call[2].split('(')[0]} of a cent beside it"))
    with b.undo():
        for _ in range(6):
            one_block(b, *dust)
        why = b.refusal(plan)
        found.append(Outcome(why is None, f"six blocks full of them ({why})"))
    stopped = [f.figure for f in found if not f.held]
    return Outcome(not stopped, f"{len(stopped)} of {len(found)} stop the plan: {', '.join(stopped) or 'none'}")


def moved_before(b: Bench) -> Outcome:
    """A plan is on its way; just before it others come or leave, in money and in kind, large."""
    b.deposit("trader", 40_000)
    b.wait(max(hold_s(b), 61))
    to_target(b)
    b.price(1, 2_200 * 10**8)
    b.wait(61)
    nav, he = b.view("totalAssets()"), b.who["trader"]
    own = b.view("balanceOf(address)", he)
    sell = nav * 200 // 10_000 * 10**12 // 2_200
    plans = {"for USDC": b.plan(b.fair(1, 0, sell)), "for WBTC": b.plan(b.fair(1, 2, sell))}
    befores: dict[str, list[Call]] = {
        "50,000 in": [("searcher", b.vault, DEPOSIT, (50_000 * USD, b.who["searcher"]))],
        "2,000,000 in": [("searcher", b.vault, DEPOSIT, (2_000_000 * USD, b.who["searcher"]))],
        "28 % of NAV out in kind": [("trader", b.vault, IN_KIND, (own, he, he))],
        "20 % of NAV out in cash": [("trader", b.vault, REDEEM, (own * 7 // 10, he, he))],
        "both": [
            ("searcher", b.vault, DEPOSIT, (900_000 * USD, b.who["searcher"])),
            ("trader", b.vault, IN_KIND, (own, he, he)),
        ],
    }
    found = []
    for what, calls in befores.items():
        for name, plan in plans.items():
            with b.undo():
                _, landed = beside(b, plan, *calls)
                found.append(Outcome(landed, f"{what} stops the sale {name}"))
            with b.undo():
                one_block(b, *calls)
                why = b.refusal(plan)
                found.append(Outcome(why is None, f"{what} a block before stops the sale {name} ({why})"))
    stopped = [f for f in found if not f.held]
    return Outcome(
        not stopped, f"{len(stopped)} of {len(found)}" + (f": {joined(stopped, 2).figure}" if stopped else "")
    )


def crowded_out(b: Bench) -> Outcome:
    """The weights are moved once, then blocks full of flows of a cent follow, so that no trace of before is left."""
    b.deposit("trader", 40_000)
    b.deposit("searcher", 1_000)
    b.wait(max(hold_s(b), 61))
    to_target(b)
    b.price(1, 2_200 * 10**8)
    b.wait(61)
    nav, he, him = b.view("totalAssets()"), b.who["trader"], b.who["searcher"]
    plan = b.plan(b.fair(1, 0, nav * 200 // 10_000 * 10**12 // 2_200))
    unit = b.view("convertToShares(uint256)", CENT_USD)
    dust: Call = ("searcher", b.vault, IN_KIND, (unit, him, him))
    market = prices(b)
    before = wealth(b, ("trader", "searcher"), market)
    own = b.view("balanceOf(address)", he)
    one_block(b, ("trader", b.vault, REDEEM, (own * 9 // 10, he, he)))
    stopped, paid = 0, 0.0
    for _ in range(20):
        b.rpc.call("evm_increaseTime", [12])
        one_block(b, dust)
        stopped += b.refusal(plan) is not None
    paid = before - wealth(b, ("trader", "searcher"), market)
    return Outcome(stopped == 0, f"{stopped} of 20 blocks stopped, for {paid:,.0f} USD of exit fees")


def flash_before(b: Bench) -> Outcome:
    """In and out in kind in the plan's own block, before it, with borrowed money."""
    to_target(b)
    b.price(1, 2_200 * 10**8)
    b.wait(61)
    nav, he = b.view("totalAssets()"), b.who["trader"]
    sell = nav * 200 // 10_000 * 10**12 // 2_200
    found = []
    for usd in (50_000, 200_000, 2_000_000):
        for name, plan in (("USDC", b.plan(b.fair(1, 0, sell))), ("WBTC", b.plan(b.fair(1, 2, sell)))):
            shares = b.view("previewDeposit(uint256)", usd * USD)
            calls: list[Call] = [
                ("trader", b.vault, DEPOSIT, (usd * USD, he)),
                ("trader", b.vault, IN_KIND, (shares, he, he)),
            ]
            with b.undo():
                one_block(b, *calls)
                why = b.refusal(plan)
                found.append(Outcome(why is None, f"{usd:,} USD: sale for {name} {why or 'lands'}"))
    stopped = [f for f in found if not f.held]
    return Outcome(
        not stopped, f"{len(stopped)} of {len(found)}" + (f": {joined(stopped, 2).figure}" if stopped else "")
    )


def listed_only(b: Bench) -> Outcome:
    """A vault with an allow-list: a stranger buys for a holder, for himself, or is sent shares."""
    holder, he = b.who["investor"], b.who["trader"]
    asks = {
        "buys for a listed holder": ("trader", DEPOSIT, (USD, holder)),
        "mints for a listed holder": ("trader", MINT, (10**12, holder)),
        "buys for himself": ("trader", DEPOSIT, (USD, he)),
        "is sent shares": ("investor", "transfer(address,uint256)", (he, 1)),
    }
    through = [what for what, (role, s, a) in asks.items() if b.why(role, b.vault, s, *a) is None]
    shown = [b.view(f"max{x}(address)", he) for x in ("Deposit", "Mint")]
    return Outcome(not through and shown == [0, 0], f"a stranger {', '.join(through) or 'gets nowhere'}")


def guardian_for_ever(b: Bench) -> Outcome:
    """The guardian pauses again right after a resume that took the owner's delay."""
    b.send("guardian", b.vault, "pause()")
    b.change("resume()")
    why = b.why("guardian", b.vault, "pause()")
    removed = b.why("owner", b.vault, "revoke_guardian()") is None if has(b, "pending_owner()") else False
    me = b.who["investor"]
    left = b.why("investor", b.vault, IN_KIND, b.view("balanceOf(address)", me) // 2, me, me)
    text = f"again at once: {why or 'pauses'}; owner removes him at once: {'yes' if removed else f'after {DELAY} s'}"
    return Outcome(left is None and why is not None and removed, text)


ATTACKS = [
    Attack("H3 for nothing", "zero-amount flows by a stranger beside a plan", "vault", for_nothing),
    Attack("H3 listed vault", "the same where holders are listed", "listed", for_nothing),
    Attack("H3 for a cent", "flows of a cent beside and before a plan", "vault", for_a_cent),
    Attack("H3 weights moved", "large deposits and exits just before a plan", "vault", moved_before),
    Attack("H3 crowded out", "weights moved, then blocks full of cents", "vault", crowded_out),
    Attack("C1 kills a plan", "in and out in kind just before a plan", "vault", flash_before),
    Attack("L8 guardian", "pause again and again", "vault", guardian_for_ever),
    Attack("L9 listed holders", "a stranger buys for a listed holder", "listed", listed_only),
]
