"""People who want to leave: frozen and dead tokens, absurd balances, lost shares; and tokens that call back."""

from __future__ import annotations

from dataclasses import replace

from lake.evm import calldata
from policy.execution.vaults.reference.adapter import plan_hash
from tests.attacks.outcome import Attack, Outcome, joined
from tests.attacks.scene import (
    DEPOSIT,
    IN_KIND,
    MINT,
    REDEEM,
    SKIPPING,
    USD,
    WITHDRAW,
    a_share,
    has,
    hold_s,
    prices,
    terms,
    to_target,
)
from tests.execution.vault_kit import Bench, make

FEE, RETURNS_FALSE, REENTERS = 1, 2, 4
FAULT = "set_fault(uint256,uint256,address,bytes)"
CLAIM = "claim(address,address)"


def fault(b: Bench, i: int, kind: int, argument: int = 0, data: bytes = b"") -> None:
    """Make token ``i`` misbehave (0: behave again); a hook calls the vault with ``data``."""
    b.send("deployer", b.tokens[i], FAULT, kind, argument, b.vault, data)


def owned(b: Bench, role: str) -> float:
    """Return the tokens of ``role`` in USD."""
    return sum(b.held(i, role) * p for i, p in enumerate(prices(b)))


def frozen(b: Bench) -> Outcome:
    """USDC stops moving: everybody leaves without it, it thaws; who gets what."""
    to_target(b)
    b.deposit("searcher", 50_000)
    b.wait(max(hold_s(b), 61))
    fault(b, 0, RETURNS_FALSE)
    roles, found = ("searcher", "investor"), []
    due = {r: b.view("balanceOf(address)", b.who[r]) * a_share(b, prices(b)) for r in roles}
    had = {r: owned(b, r) for r in roles}
    for role in roles:
        me = b.who[role]
        b.send(role, b.vault, SKIPPING, b.view("balanceOf(address)", me), me, me, 1)
    fault(b, 0, 0)
    stranger = owned(b, "trader")
    why = b.why("trader", b.vault, DEPOSIT, 1_000 * USD, b.who["trader"])
    if why is None:
        b.send("trader", b.vault, DEPOSIT, 1_000 * USD, b.who["trader"])
    for role in roles:
        if b.why(role, b.vault, CLAIM, b.tokens[0], b.who[role]) is None:
            b.send(role, b.vault, CLAIM, b.tokens[0], b.who[role])
        part = (owned(b, role) - had[role]) / (due[role] * (1 - terms(b)[2] / 10_000))
        found.append(Outcome(part > 0.995, f"{role} got {part:.0%} of his claim"))
    found.append(Outcome(stranger - owned(b, "trader") < 1_001, "a stranger's deposit"))
    again = b.why("searcher", b.vault, CLAIM, b.tokens[0], b.who["searcher"])
    found.append(Outcome(again is not None or not has(b, "balances()"), "claimed twice"))
    return joined(found, 2)


def claims_apart(b: Bench) -> Outcome:
    """What is set aside is no part of the portfolio: not for exits, not for plans, not for others' claims."""
    if not has(b, "balances()"):
        return Outcome(held=False, figure="no claims: what was skipped is forfeited")
    to_target(b)
    b.deposit("searcher", 50_000)
    b.wait(hold_s(b) + 1)
    me, him = b.who["investor"], b.who["searcher"]
    share = a_share(b, prices(b))
    b.send("searcher", b.vault, SKIPPING, b.view("balanceOf(address)", him) // 2, him, him, 0b111)
    after = a_share(b, prices(b))
    aside = b.get(b.vault, "claims(address,address)", "uint256", b.tokens[0], him)
    whys = {
        "another's claim": b.why("investor", b.vault, CLAIM, b.tokens[0], me),
        "a plan that sells it": b.refusal(b.plan(b.fair(0, 1, b.held(0) - aside // 2))),
    }
    cash = b.held(0)
    everything = b.view("balanceOf(address)", me)
    b.send("investor", b.vault, IN_KIND, everything, me, me)
    rest = b.view("balanceOf(address)", him)
    b.send("searcher", b.vault, IN_KIND, rest, him, him)
    left = b.held(0) >= aside
    b.send("searcher", b.vault, CLAIM, b.tokens[0], him)
    fine = after >= share * (1 - 1e-9) and left and all(w is not None for w in whys.values())
    return Outcome(fine, f"{aside / USD:,.0f} of {cash / USD:,.0f} USDC set aside; refused: {', '.join(whys)}")


def dead_feed(b: Bench) -> Outcome:
    """One feed dies for good: what others can do, and whether the owner can retire the token."""
    to_target(b)
    me, data = b.who["investor"], calldata
    zero = data("set_targets(uint256[])", [5_000, 5_000, 0])
    b.send("owner", b.vault, "schedule(bytes)", zero)
    b.wait(3_601)
    b.send("owner", b.vault, "execute(bytes)", zero)
    out = b.held(2)
    b.rebalance(b.plan(b.fair(2, 1, out * 45 // 100)))
    b.wait(61)
    b.rebalance(b.plan(b.fair(2, 0, b.held(2) * 90 // 100)))
    b.wait(61)
    b.rebalance(b.plan(b.fair(2, 0, b.held(2))))
    b.wait(61)
    b.send("deployer", b.feeds[2], "set_broken(bool)", True)
    b.rpc.call("evm_increaseTime", [12])
    b.rpc.call("evm_mine")
    whys = {
        "deposit": b.why("trader", b.vault, DEPOSIT, USD, b.who["trader"]),
        "redeem": b.why("investor", b.vault, REDEEM, 10**12, me, me),
        "in kind": b.why("investor", b.vault, IN_KIND, 10**12, me, me),
        "a plan of the others": b.refusal(b.plan(b.fair(0, 1, 1_000 * USD))),
    }
    stopped = [f"{n} ({w})" for n, w in whys.items() if w is not None]
    return Outcome(not stopped, f"empty token without price stops {', '.join(stopped) or 'nothing'}")


def absurd_balance(b: Bench) -> Outcome:
    """Gifts so large that a product overflows: the views that never revert."""
    found = []
    me = b.who["investor"]
    views = ("totalAssets()", "convertToAssets(uint256)", "maxDeposit(address)", "maxMint(address)",
             "maxWithdraw(address)", "maxRedeem(address)")  # fmt: skip
    for i, bits in ((0, 200), (1, 200), (1, 254)):
        with b.undo():
            b.send("deployer", b.tokens[i], "mint(address,uint256)", b.vault, 2**bits)
            args = {"uint256": 10**12, "address": me, "": None}
            dead = []
            for view in views:
                kind = view[view.index("(") + 1 : -1]
                if not has(b, view, *([args[kind]] if kind else [])):
                    dead.append(view.split("(")[0])
            left = b.why("investor", b.vault, IN_KIND, 10**6, me, me)
            found.append(
                Outcome(not dead and left is None, f"2^{bits} of token {i}: {', '.join(dead) or 'no view'} reverts")
            )
    return joined(found, 2)


def lost_shares(b: Bench) -> Outcome:
    """Shares sent to the vault itself or to nobody, by transfer, by purchase and by exit."""
    me, nobody = b.who["investor"], "0x" + "00" * 20
    ways = {
        "transfer to the vault": ("investor", "transfer(address,uint256)", (b.vault, 1)),
        "transfer to nobody": ("investor", "transfer(address,uint256)", (nobody, 1)),
        "deposit for the vault": ("trader", DEPOSIT, (USD, b.vault)),
        "mint for the vault": ("trader", MINT, (10**12, b.vault)),
    }
    through = [w for w, (role, s, a) in ways.items() if b.why(role, b.vault, s, *a) is None]
    if has(b, "balances()"):
        self_ways = {
            "redeem to the vault": (REDEEM, (10**12, b.vault, me)),
            "withdraw to the vault": (WITHDRAW, (USD, b.vault, me)),
            "in kind to the vault": (IN_KIND, (10**12, b.vault, me)),
            "claim for the vault": (SKIPPING, (10**12, b.vault, me, 7)),
        }
        for what, (signature, args) in self_ways.items():
            with b.undo():
                share = a_share(b, prices(b))
                if b.why("investor", b.vault, signature, *args) is None:
                    b.send("investor", b.vault, signature, *args)
                    if a_share(b, prices(b)) < share * (1 - 1e-9) or what.startswith("claim"):
                        through.append(what)
    return Outcome(not through, f"taken: {', '.join(through) or 'none'}")


def manager_face(b: Bench) -> Outcome:
    """What a manager needs: a foreign token got out, ownership handed over in two steps, permits, no zero delay."""
    foreign = make(b.rpc, "mock_token", ["string", "string", "uint8"], ["air", "AIR", 18])
    b.send("deployer", foreign, "mint(address,uint256)", b.vault, 10**18)
    he, missing = b.who["trader"], []
    sweep, own = calldata("sweep(address,address)", foreign, he), calldata("sweep(address,address)", b.tokens[1], he)
    for data in (sweep, own, calldata("set_role(uint256,address)", 0, he), calldata("set_delay(uint256)", 0)):
        b.send("owner", b.vault, "schedule(bytes)", data)
    b.wait(3_601)
    if b.why("owner", b.vault, "execute(bytes)", sweep) is not None:
        missing.append("sweep of an airdrop")
    if b.why("owner", b.vault, "execute(bytes)", own) is None:
        missing.append("the portfolio can be swept")
    if b.why("owner", b.vault, "execute(bytes)", calldata("set_delay(uint256)", 0)) is None:
        missing.append("delay 0 is taken")
    b.send("owner", b.vault, "execute(bytes)", calldata("set_role(uint256,address)", 0, he))
    if b.get(b.vault, "owner()", "address").lower() == he.lower():
        missing.append("owner changed in one step")
    if not has(b, "DOMAIN_SEPARATOR()"):
        missing.append("no permit")
    if not has(b, "fee_recipient()"):
        missing.append("no fees")
    return Outcome(not missing, f"missing: {', '.join(missing) or 'nothing'}")


def calls_back(b: Bench) -> Outcome:
    """A token calls the vault in the middle of a transfer, in every call that moves one."""
    to_target(b)
    hook, me, n = b.tokens[1], b.who["investor"], 10**9
    b.send("investor", b.vault, "transfer(address,uint256)", hook, 10**12)
    inside = {
        "deposit": calldata(DEPOSIT, 1, hook),
        "mint": calldata(MINT, n, hook),
        "redeem": calldata(REDEEM, n, hook, hook),
        "withdraw": calldata(WITHDRAW, 1, hook, hook),
        "in kind": calldata(IN_KIND, n, hook, hook),
        "in kind, skipping": calldata(SKIPPING, n, hook, hook, 7),
        "transfer": calldata("transfer(address,uint256)", me, 1),
        "transferFrom": calldata("transferFrom(address,address,uint256)", hook, me, 1),
        "claim": calldata(CLAIM, b.tokens[1], hook),
        "pay_fees": calldata("pay_fees()"),
    }
    through, tried = [], 0
    for name, data in inside.items():
        for outer in ("plan", "in kind", "claim"):
            with b.undo():
                if outer == "claim":
                    if not has(b, "balances()"):
                        continue
                    b.send("investor", b.vault, SKIPPING, 10**12, me, me, 2)
                fault(b, 1, REENTERS, 0, data)
                before = b.get(hook, "hook_succeeded()", "uint256")
                if outer == "plan":
                    plan = b.plan(b.fair(1, 0, 10**16))
                    if b.refusal(plan) is None:
                        b.rebalance(plan)
                elif outer == "in kind":
                    b.send("investor", b.vault, IN_KIND, 10**12, me, me)
                else:
                    b.send("investor", b.vault, CLAIM, b.tokens[1], me)
                tried += 1
                if b.get(hook, "hook_succeeded()", "uint256") > before:
                    through.append(f"{name} during {outer}")
    return Outcome(
        not through, f"{len(through)} of {tried} calls went through{': ' if through else ''}{', '.join(through[:3])}"
    )


def turned_token(b: Bench) -> Outcome:
    """A token begins to take 3 % of every transfer; what is left approved after a plan."""
    plan = b.plan(b.fair(0, 1, 10_000 * USD))
    with b.undo():
        fault(b, 1, FEE, 300)
        first = b.refusal(plan)
        second = b.refusal(b.plan(b.leg(0, 1, 10_000 * USD, 5 * 10**18, 0)))
    with b.undo():
        fault(b, 0, FEE, 300)
        third = b.why("trader", b.vault, DEPOSIT, 1_000 * USD, b.who["trader"])
    b.rebalance(plan)
    left = b.get(b.tokens[0], "allowance(address,address)", "uint256", b.vault, b.router)
    told = f"plan {first}, without minimum {second}, deposit {third}; {left} left approved"
    return Outcome(None not in (first, second, third) and left == 0, told)


def replayed(b: Bench) -> Outcome:
    """A plan again, late, of another vault, of another chain."""
    late = b.plan(b.fair(0, 1, 1_000 * USD), deadline=b.now() + 12)
    edges = b.refusal(late, wait=12) is None and b.refusal(late, wait=13) == "deadline"
    plan = b.plan(b.fair(0, 1, 1_000 * USD))
    b.rebalance(plan)
    b.wait(61)
    fresh = b.plan(b.fair(0, 1, 1_000 * USD))
    others = [replace(fresh, chain_id=1), replace(fresh, vault=b.who["trader"])]
    whys = [b.refusal(plan), *(b.refusal(replace(o, plan_hash=plan_hash(o))) for o in others)]
    return Outcome(edges and whys == ["nonce", "plan hash", "plan hash"], f"{', '.join(map(str, whys))}, deadline")


def other_roles(b: Bench) -> Outcome:
    """Every role calls what is another's; nothing reaches around the timelock."""
    he = b.who["trader"]
    change = calldata("set_delay(uint256)", 7_200)
    owned_by = {
        "resume()": (), "set_role(uint256,address)": (1, he), "set_oracle(address)": (he,),
        "set_delay(uint256)": (7_200,), "set_call(address,bytes4,bool)": (b.router, b"\1\2\3\4", True),
        "set_targets(uint256[])": ([4_000, 3_000, 3_000],), "execute(bytes)": (change,),
        "set_terms(uint256,uint256,uint256)": (0, 0, 0), "set_fees(uint256,uint256,address)": (500, 3_000, he),
        "sweep(address,address)": (b.tokens[1], he), "set_permissioned(bool)": (False,),
        "set_tokens(address[],uint256[],uint256[],address)": (b.tokens, [6, 18, 8], [4_000, 3_000, 3_000], he),
        "set_budgets((uint256,uint256,uint256,uint256,uint256))": ((1, 1, 1, 1, 1),),
    }  # fmt: skip
    through = [f"{role} {s.split('(')[0]}" for role in ("keeper", "guardian", "trader", "owner")
               for s, a in owned_by.items() if b.why(role, b.vault, s, *a) is None]  # fmt: skip
    more = {"pause()": ("keeper", "trader"), "schedule(bytes)": ("keeper", "guardian", "trader"),
            "revoke_keeper()": ("keeper", "guardian", "trader"), "accept_ownership()": ("keeper", "trader", "guardian"),
            "revoke_guardian()": ("keeper", "guardian", "trader"), "doubt(uint256)": ("trader",)}  # fmt: skip
    for s, roles in more.items():
        args = (change,) if "bytes" in s else (600,) if "uint" in s else ()
        through += [f"{role} {s.split('(')[0]}" for role in roles if b.why(role, b.vault, s, *args) is None]
    b.send("guardian", b.vault, "pause()")
    me = b.who["investor"]
    free = b.why("investor", b.vault, IN_KIND, 10**12, me, me)
    return Outcome(
        not through and free is None,
        f"through: {', '.join(through) or 'none'}; in kind while paused: {free or 'works'}",
    )


ATTACKS = [
    Attack("M4 frozen token", "USDC stops moving, all leave, it thaws", "vault", frozen),
    Attack("M4 claims apart", "what is set aside, reached by others", "vault", claims_apart),
    Attack("M5 dead feed", "a feed dies for good; the token has no target", "vault", dead_feed),
    Attack("M8 manager", "airdrop, hand-over, permits, fees, delay 0", "vault", manager_face),
    Attack("L6 absurd balances", "gifts that overflow a product", "vault", absurd_balance),
    Attack("L10 lost shares", "shares and claims sent where nobody owns them", "vault", lost_shares),
    Attack("held: call-backs", "a token calls the vault in the middle of it", "vault", calls_back),
    Attack("held: turned token", "a token begins to take 3 %; approvals left", "vault", turned_token),
    Attack("held: replay", "a plan again, late, elsewhere", "vault", replayed),
    Attack("held: roles", "every role calls what is another's", "vault", other_roles),
]
