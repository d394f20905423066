"""A stolen keeper's key at the auctions: orders it arms and fills itself, and fillers who act in the middle of one."""

from __future__ import annotations

from dataclasses import replace

from lake.evm import calldata
from policy.execution.auctions.orders import VenueKind
from policy.execution.checks.rules import Mandate
from tests.attacks.keeper import MOST_A_DAY, MOST_EVER, days, shipped_mandate
from tests.attacks.outcome import Attack, Outcome
from tests.attacks.scene import DEPOSIT, nav_usd, prices, weights
from tests.execution.auction_kit import House
from tests.execution.vault_kit import HUGE

USD = 10**6
REENTERS = 4
THIEF = "searcher"


def own(h: House, loss_bps: int) -> str | None:
    """Arm an order at ``loss_bps`` under the oracle towards the targets, fill it with the thief's account, end it.

    As large as its loss may be charged, and as the progress rule lets it be; return why not, None when it was filled.
    """
    b = h.b
    over = [w - t for w, t in zip(weights(b), (0.4, 0.3, 0.3), strict=True)]
    i, j = over.index(max(over)), over.index(min(over))
    part = min(over[i], -over[j], 0.09)
    if part < 1e-4:
        return "progress"
    amount = int(part * b.view("totalAssets()") * 10**8 * 10 ** b.decimals[i] // (b.answer(i) * 10**6))
    order = h.order(
        VenueKind.DUTCH, i, j, loss_bps=loss_bps, amount=amount, charge_ppb=int(part * loss_bps * 100_000 * 1.02) + 10
    )
    order = replace(order, start=order.least, starts=order.starts - 24, ends=order.starts - 12)
    why = h.why_not(order)
    if why is None:
        h.arm(order)
        filled = h.fill(order, THIEF)
        b.send("keeper", b.vault, "disarm()")
        why = None if filled else "not filled"
    b.wait(61)
    return why


def at_the_floor(h: House) -> Outcome:
    """Every day the dearest orders that still fit the budget, filled by the thief himself."""
    b = h.b
    shipped_mandate(b)
    kept, worst, last, fills, why = 1.0, 0.0, 0, 0, ""
    for day in days(b, 20):
        before = nav_usd(b, prices(b))
        for loss in (98, 60, 30, 12):
            for _ in range(4):
                why = own(h, loss) or ""
                fills += not why
                if why:
                    break
        lost = 1 - nav_usd(b, prices(b)) / before
        kept, worst, last = kept * (1 - lost), max(worst, lost * 1e4), day + 1
        if why == "paused":
            break
    lost = (1 - kept) * 1e4
    text = f"{fills} fills: {lost:.0f} bp in {last} days, {worst:.1f} in the worst; then {why or 'not stopped'}"
    return Outcome(fills > 0 and worst <= MOST_A_DAY + 0.1 and lost <= MOST_EVER, text)


def charge_given_back(h: House) -> Outcome:
    """Arm, fill and end; then arm and end without a fill, again and again: no charge of a fill may come back."""
    b = h.b
    shipped_mandate(b)
    before, gone = nav_usd(b, prices(b)), 0
    for _ in range(12):
        gone += own(h, 80) is None
        spare = h.order(VenueKind.DUTCH, amount=USD, charge_ppb=1)
        if h.why_not(spare) is None:
            h.arm(spare)
            b.send("keeper", b.vault, "disarm()")
        b.wait(61)
    lost = (1 - nav_usd(b, prices(b)) / before) * 1e4
    return Outcome(gone > 0 and lost <= Mandate().loss_budget_ppb / 1e5 + 0.01, f"{gone} fills, {lost:.1f} bp in a day")


def in_the_middle(h: House) -> Outcome:
    """A filler deposits between the two halves of the swap, when the vault holds less than it is owed."""
    b = h.b
    token, me = b.tokens[0], b.who[THIEF]
    fault = "set_fault(uint256,uint256,address,bytes)"
    b.send("deployer", token, "mint(address,uint256)", token, 50_000 * USD)
    b.send("deployer", token, fault, REENTERS, 0, token, calldata("approve(address,uint256)", b.vault, HUGE))
    b.send(THIEF, token, "transfer(address,uint256)", me, 1)
    enter = (fault, REENTERS, 0, b.vault, calldata(DEPOSIT, 50_000 * USD, me))

    def entered() -> int:
        return int(b.view("balanceOf(address)", me))

    with b.undo():  # without an order the way in is open: what follows would work
        b.send("deployer", token, *enter)
        b.send(THIEF, token, "transfer(address,uint256)", me, 1)
        works = entered() > 0
    order = h.order(VenueKind.DUTCH, amount=30_000 * USD, charge_ppb=2_000_000)
    h.arm(order)
    b.send("deployer", token, *enter)
    filled = h.fill(order, THIEF)
    return Outcome(
        works and filled and entered() == 0, f"way in else open: {works}; filled: {filled}, shares {entered()}"
    )


def after_the_key_is_gone(h: House) -> Outcome:
    """What the thief armed before the owner took the key away is filled afterwards."""
    b = h.b
    shipped_mandate(b)
    order = h.order(VenueKind.DUTCH, loss_bps=80, amount=12_000 * USD, charge_ppb=1_000_000)
    h.arm(order)
    open_before = not h.refused(order, THIEF)
    b.send("owner", b.vault, "revoke_keeper()")
    filled = h.fill(order, THIEF)
    return Outcome(open_before and not filled, f"filled before: {open_before}, after: {filled}")


def closed_doors(h: House) -> Outcome:
    """Orders armed without end to keep holders in: who leaves in kind always can, and others an hour later at most."""
    b = h.b
    me = b.who["investor"]
    shut = 0
    for _ in range(3):
        h.arm(h.order(VenueKind.DUTCH, amount=USD, charge_ppb=1, expiry=b.now() + 3_600))
        b.rpc.call("evm_mine")
        shut += b.why("investor", b.vault, "withdraw(uint256,address,address)", USD, me, me) == "armed"
        in_kind = b.why("investor", b.vault, "redeemInKind(uint256,address,address)", 10**12, me, me)
        if in_kind is not None:
            return Outcome(held=False, figure=f"no exit in kind: {in_kind}")
        b.send("keeper", b.vault, "disarm()")
        b.wait(61)
    h.arm(h.order(VenueKind.DUTCH, amount=USD, charge_ppb=1, expiry=b.now() + 3_600))
    b.wait(3_601)
    after = b.why("investor", b.vault, "withdraw(uint256,address,address)", USD, me, me)
    return Outcome(after is None, f"cash exit shut {shut} of 3 times, never in kind; an hour later {after or 'open'}")


ATTACKS = [
    Attack("orders: at the floor", "the key fills its own worst orders daily", "auctions", at_the_floor, short=False),
    Attack("orders: charge back", "get the charge of a fill back by unfilled orders", "auctions", charge_given_back),
    Attack("orders: mid-fill deposit", "enter between the two halves of a fill", "auctions", in_the_middle),
    Attack("orders: key gone", "fill an order after the key was taken away", "auctions", after_the_key_is_gone),
    Attack("orders: closed doors", "keep holders in by orders without end", "auctions", closed_doors),
]
