"""The valuation of a Lagoon vault, proposed from what its Safe holds at oracle prices, and what settles its requests.

The vault checks no valuation: whatever its manager pushes, and the Safe then settles with, is what holders come and go
at. So a proposal is held to a rate of change, a pushed figure to our own at the same block, and a settlement is
executed without being sent before its owners are asked to sign. Nothing here signs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from eth_utils.crypto import keccak

from lake.answers import data, fields, rows
from lake.evm import calldata, head_of, read_logs
from lake.units import BPS
from policy.execution.base import Verdict
from policy.execution.checks.verdicts import passed, refused
from policy.execution.submission.reverts import revert_of
from policy.execution.vaults.lagoon.adapter import LagoonVault
from policy.execution.vaults.lagoon.requests import Requests
from policy.execution.vaults.safe.adapter import APPROVE, SafeState
from policy.execution.vaults.safe.install import OwnerCall

PUSH = "updateNewTotalAssets(uint256)"
SETTLE_DEPOSIT, SETTLE_REDEEM = "settleDeposit(uint256)", "settleRedeem(uint256)"
VALUED = "0x" + keccak(text="TotalAssetsUpdated(uint256)").hex()
PAID = "0x" + keccak(text="SettleRedeem(uint40,uint40,uint256,uint256,uint256,uint256)").hex()
DAY_S = 86_400
LONGEST_DAYS = 30.0
"""A vault that was not valued for longer may still not change by more than in this time."""


@dataclass(frozen=True, slots=True)
class NavLimits:
    """How far a valuation may go: ``change_bps`` from the last one in a day (more days: with their root, 30 at most),
    and ``pushed_bps`` a pushed one from our own.
    """

    change_bps: int = 1_000
    pushed_bps: int = 100


@dataclass(frozen=True, slots=True)
class Valuation:
    """What is proposed. ``nav``: the Safe's value, raw units of the accounting asset; ``step``: what comes next.

    ``value``: the valuation manager pushes ``nav``; ``settle``: the Safe's owners sign ``calls``; ``nothing``: no
    request waits. ``verdicts`` are those on the figures; one that failed stops the step.
    """

    nav: int
    requests: Requests
    step: str
    calls: tuple[OwnerCall, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def good(self) -> bool:
        """Whether every verdict lets the step go on."""
        return all(v.ok for v in self.verdicts)


def proposed(vault: LagoonVault, limits: NavLimits | None = None) -> Valuation:
    """Return the valuation of now and the step it leads to, all of one block; RpcError as it comes."""
    limits = limits or NavLimits()
    s = vault.state()
    asked, nav = vault.requests(s.head.hash), s.book.nav()
    found = [*_priced(vault, s), *_open(asked), _change(vault, asked, nav, s.head.time, limits)]
    pushed = None if asked.pushed is None else _pushed(asked.pushed, nav, limits)
    waiting = asked.coming or asked.leaving_shares
    if pushed is None or not pushed.ok:
        told = [pushed] if pushed is not None else []
        step = "value" if waiting or told else "nothing"
        calls: tuple[OwnerCall, ...] = (_push(vault, nav),)
        return Valuation(nav, asked, step, calls if step == "value" else (), (*found, *told))
    calls = settling(vault, asked, cast("int", asked.pushed))
    found += [pushed, _executed(vault, asked, calls, cast("int", asked.pushed))]
    return Valuation(nav, asked, "settle", calls, tuple(found))


def settling(vault: LagoonVault, asked: Requests, pushed: int) -> tuple[OwnerCall, ...]:
    """Return the Safe's calls that settle with the pushed valuation: what redemptions take is approved to the unit."""
    pay = asked.leaving(pushed)
    cash, where = vault.spec.tokens[0], vault.investors
    words = f"settle deposits and redemptions at {_shown(pushed, cash.decimals)} {cash.symbol}"
    settle = OwnerCall(where, calldata(SETTLE_DEPOSIT, pushed), words)
    if not pay:
        return (settle,)
    give = f"let the vault take {_shown(pay, cash.decimals)} {cash.symbol} for redemptions"
    back = OwnerCall(cash.address, calldata(APPROVE, where, 0), "and no more")
    return (OwnerCall(cash.address, calldata(APPROVE, where, pay), give), settle, back)


def _push(vault: LagoonVault, nav: int) -> OwnerCall:
    cash = vault.spec.tokens[0]
    return OwnerCall(vault.investors, calldata(PUSH, nav), f"value the vault at {_shown(nav, cash.decimals)}")


def _priced(vault: LagoonVault, s: SafeState) -> list[Verdict]:
    """Return the failed verdicts on prices of what is held: a valuation with a doubtful price is none."""
    held = {t.address for t, h in zip(s.book.tokens, s.book.holdings, strict=True) if h} | {s.book.tokens[0].address}
    doubts = [*vault.price_verdicts(s), *(v for v in vault.rate_verdicts(s) if not v.ok)]
    return [v for v in doubts if v.figures["token"] in held]


def _open(asked: Requests) -> list[Verdict]:
    if not asked.paused:
        return []
    return [refused("paused", f"the Lagoon vault {asked.vault} is paused: its owner resumes it, then settle")]


def _change(vault: LagoonVault, asked: Requests, nav: int, now: int, limits: NavLimits) -> Verdict:
    """Return whether the share's price moves no further than its rate of change allows since the last valuation."""
    if not asked.supply:
        return passed("nav_change", "there are no shares yet: the first valuation changes nobody's price")
    days = min(max(1.0, (now - _valued_at(vault)) / DAY_S), LONGEST_DAYS)
    allowed = int(limits.change_bps * math.sqrt(days))
    change = (nav - asked.total_assets) * BPS // max(1, asked.total_assets)
    figures: dict[str, str | int | float] = {"change_bps": change, "allowed_bps": allowed, "days": round(days, 2)}
    words = f"the share's price changes by {change} bp in {days:.1f} days, {allowed} bp are allowed"
    if abs(change) <= allowed:
        return passed("nav_change", words, **figures)
    return refused("nav_change", f"{words}; look at prices and holdings before anybody signs this", **figures)


def _valued_at(vault: LagoonVault) -> int:
    """Return when the vault was last valued, Unix seconds; 0 where it never was."""
    ask = {"address": vault.investors, "topics": [VALUED], "fromBlock": "0x0", "toBlock": "latest"}
    logs = read_logs(vault.rpc, ask)
    return head_of(vault.rpc, cast("int", logs[-1]["blockNumber"])).time if logs else 0


def _pushed(pushed: int, nav: int, limits: NavLimits) -> Verdict:
    """Return whether a pushed valuation is ours: settling with another pays some holders with what is others'."""
    gap = abs(pushed - nav) * BPS // max(1, nav)
    figures: dict[str, str | int | float] = {
        "pushed": str(pushed),
        "nav": str(nav),
        "gap_bps": gap,
        "allowed_bps": limits.pushed_bps,
    }
    if gap <= limits.pushed_bps:
        return passed("nav_pushed", f"the pushed valuation is {gap} bp from our own", **figures)
    words = (
        f"{pushed} was pushed as valuation, the Safe's holdings are worth {nav} at oracle prices: {gap} bp apart, "
        f"{limits.pushed_bps} bp are allowed; do not settle, let the valuation manager push {nav}"
    )
    return refused("nav_pushed", words, **figures)


def _executed(vault: LagoonVault, asked: Requests, calls: Sequence[OwnerCall], pushed: int) -> Verdict:
    """Execute the settlement without sending it, and return whether it goes through and pays the redemptions.

    A vault that finds too little cash in its Safe settles the deposits and silently leaves the redemptions.
    """
    what, head = "eth_simulateV1", head_of(vault.rpc)
    run = [{"from": asked.safe, "to": c.to, "data": "0x" + c.data.hex()} for c in calls]
    body = {"blockStateCalls": [{"calls": run}], "validation": False}
    found: Sequence[Any] = fields(rows(vault.rpc.call(what, [body, hex(head.number)]), what, 1)[0], what).rows(
        "calls", len(calls)
    )
    for call, row in zip(calls, found, strict=True):
        told = fields(row, what)
        if told.quantity("status", 1) != 1:
            return refused("settlement", f"it would revert: {call.words}: {revert_of(told)}")
    paid = sum(
        int.from_bytes(data(log["data"])[2 * 32 : 3 * 32], "big")
        for row in found
        for log in row.get("logs", [])
        if log["topics"][0] == PAID and str(log["address"]).lower() == vault.investors.lower()
    )
    need, have = asked.leaving(pushed), vault.state(head.number).book.holdings[0] + asked.coming
    figures = {"needed": str(need), "paid": str(paid), "cash": str(have)}
    if need and not paid:
        cash = vault.spec.tokens[0]
        words = (
            f"redemptions need {_shown(need, cash.decimals)} {cash.symbol}, the Safe will hold "
            f"{_shown(have, cash.decimals)}: the vault would leave them unsettled, or they were asked for after the "
            "valuation; rebalance first (it raises the cash), then value and settle"
        )
        return refused("settlement", words, **figures)
    return passed("settlement", f"it would go through and pay {paid} for redemptions", **figures)


def _shown(amount: int, decimals: int) -> str:
    return f"{amount / 10**decimals:,.6f}".rstrip("0").rstrip(".")
