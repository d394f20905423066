"""The mandate's rules by the reference vault's own integer arithmetic (contracts/foredrift_vault.vy, oracle.vy).

Values are USD x 1e18, prices USD x 1e8, losses billionths of NAV; every division rounds as the contract does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lake.units import BPS
from policy.execution.base import Leg, Plan, Token, Verdict

PPB = 10**9
E10 = 10**10


@dataclass(frozen=True, slots=True)
class Mandate:
    """The keeper's limits: shares in basis points, the loss budget in billionths of NAV over any ``window_s``."""

    leg_loss_bps: int = 100
    turnover_bps: int = 5_000
    max_legs: int = 8
    cooldown_s: int = 60
    window_s: int = 86_400
    loss_budget_ppb: int = 20_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """Plan nonce, block and time of the last plan, and the losses of the last two calendar windows."""

    nonce: int = 0
    last_block: int = 0
    last_time: int = 0
    window: int = 0
    lost_before: int = 0
    lost_now: int = 0


@dataclass(frozen=True, slots=True)
class Book:
    """Tokens in order (the first is the accounting asset), mandated weights, oracle prices and holdings."""

    tokens: tuple[Token, ...]
    targets_bps: tuple[int, ...]
    prices_e8: tuple[int, ...]
    holdings: tuple[int, ...]

    def index(self, address: str) -> int:
        """Return the position of a token, -1 if it is not in the portfolio."""
        return next((i for i, t in enumerate(self.tokens) if t.address == address), -1)

    def value(self, i: int, amount: int) -> int:
        """Return USD x 1e18 of ``amount`` raw units of token ``i``, rounded down."""
        return int(amount * self.prices_e8[i] * E10 // 10 ** self.tokens[i].decimals)

    def total(self) -> int:
        """Return USD x 1e18 of the whole portfolio."""
        return sum(self.value(i, amount) for i, amount in enumerate(self.holdings))

    def nav(self) -> int:
        """Return NAV in raw units of the accounting asset, rounded down; 0 without a price."""
        price = self.prices_e8[0]
        return int(self.total() * 10 ** self.tokens[0].decimals // (price * E10)) if price else 0

    def distance(self) -> int:
        """Return the sum of abs(weight - target) x 1e9, each rounded down."""
        total = self.total()
        gaps = (
            abs(self.value(i, h) * BPS - t * total)
            for i, (h, t) in enumerate(zip(self.holdings, self.targets_bps, strict=True))
        )
        return sum(gap * PPB // (total * BPS) for gap in gaps) if total else 0

    def weights_bps(self) -> tuple[int, ...]:
        """Return the weights in basis points, rounded to nearest; zeros for an empty portfolio."""
        total = self.total()
        return tuple(
            (2 * self.value(i, h) * BPS + total) // (2 * total) if total else 0 for i, h in enumerate(self.holdings)
        )


def lost(clock: Clock, window_s: int, now: int) -> int:
    """Return the loss counted against the budget now: this calendar window and the whole one before."""
    number = now // window_s
    if clock.window == number:
        return clock.lost_before + clock.lost_now
    return clock.lost_now if clock.window + 1 == number else 0


def add_loss(clock: Clock, window_s: int, now: int, loss: int) -> Clock:
    """Return the clock with ``loss`` booked in the present window."""
    number = now // window_s
    if clock.window == number:
        return replace(clock, lost_now=clock.lost_now + loss)
    before = clock.lost_now if clock.window + 1 == number else 0
    return replace(clock, window=number, lost_before=before, lost_now=loss)


def broken(check: str, reason: str, **figures: str | int | float) -> Verdict:
    """Return a failed verdict."""
    return Verdict(check, ok=False, reason=reason, figures=figures)


def before_trading(plan: Plan, book: Book, clock: Clock, mandate: Mandate, now: int, block: int) -> list[Verdict]:
    """Return the rules ``plan`` breaks before any leg moves: deadline, nonce, legs, cool-down, emptiness."""
    failed = []
    if now > plan.deadline:
        failed.append(
            broken(
                "deadline", f"block time {now} is past the deadline {plan.deadline}", now=now, deadline=plan.deadline
            )
        )
    if plan.nonce != clock.nonce:
        failed.append(
            broken(
                "nonce",
                f"plan nonce {plan.nonce}, the vault expects {clock.nonce}",
                given=plan.nonce,
                required=clock.nonce,
            )
        )
    if not 0 < len(plan.legs) <= mandate.max_legs:
        failed.append(
            broken("legs", f"{len(plan.legs)} legs, 1 to {mandate.max_legs} are allowed", legs=len(plan.legs))
        )
    if clock.nonce > 0 and (now < clock.last_time + mandate.cooldown_s or block == clock.last_block):
        free = clock.last_time + mandate.cooldown_s
        failed.append(broken("cooldown", f"the vault rests until {free}, it is {now}", now=now, free_at=free))
    if book.total() <= 0:
        failed.append(broken("empty", "the vault holds nothing"))
    return failed


Swap = Callable[[Leg], tuple[int, int]]
"""Executes a leg and returns (spent, got) in raw units."""


def trade(
    plan: Plan, book: Book, mandate: Mandate, swap: Swap, allowed: Callable[[Leg], bool]
) -> tuple[Book, int, list[Verdict]]:
    """Run the legs in order; return the book afterwards, the turnover (USD x 1e18) and the rules broken."""
    holdings = list(book.holdings)
    failed: list[Verdict] = []
    turnover = 0
    for number, leg in enumerate(plan.legs):
        i, j = book.index(leg.token_in), book.index(leg.token_out)
        if i < 0 or j < 0 or i == j:
            failed.append(
                broken(
                    "pair", f"leg {number}: {leg.token_in} -> {leg.token_out} is no pair of the portfolio", leg=number
                )
            )
            continue
        if not allowed(leg):
            failed.append(broken("target", f"leg {number}: {leg.target} is not on the allow-list", leg=number))
            continue
        spent, got = swap(leg)
        if spent > leg.amount_in or spent > holdings[i]:
            failed.append(
                broken(
                    "spent",
                    f"leg {number} spent {spent}, at most {min(leg.amount_in, holdings[i])} may leave",
                    leg=number,
                )
            )
            continue
        if got < leg.min_out:
            failed.append(
                broken(
                    "min out", f"leg {number} got {got}, at least {leg.min_out} must arrive", leg=number, got=str(got)
                )
            )
        sold = book.value(i, spent)
        if book.value(j, got) * BPS < sold * (BPS - mandate.leg_loss_bps):
            failed.append(
                broken(
                    "leg value",
                    f"leg {number} loses more than {mandate.leg_loss_bps} bp against the oracle",
                    leg=number,
                )
            )
        turnover += sold
        holdings[i] -= spent
        holdings[j] += got
    return replace(book, holdings=tuple(holdings)), turnover, failed


def after_trading(
    plan: Plan, before: Book, after: Book, turnover: int, clock: Clock, mandate: Mandate, now: int
) -> tuple[int, list[Verdict]]:
    """Return the loss (billionths, rounded up) and the rules the whole plan breaks."""
    failed = []
    usd_before, usd_after = before.total(), after.total()
    if turnover * BPS > mandate.turnover_bps * usd_before:
        failed.append(
            broken(
                "turnover", f"more than {mandate.turnover_bps} bp of NAV would be sold", cap_bps=mandate.turnover_bps
            )
        )
    if after.nav() < plan.min_nav:
        failed.append(
            broken("nav floor", f"NAV after is {after.nav()}, the floor is {plan.min_nav}", nav=str(after.nav()))
        )
    loss = -(-(usd_before - usd_after) * PPB // usd_before) if usd_after < usd_before else 0
    spent = lost(clock, mandate.window_s, now)
    if spent + loss > mandate.loss_budget_ppb:
        failed.append(
            broken(
                "loss budget",
                f"loss {loss} ppb on top of {spent} exceeds {mandate.loss_budget_ppb}",
                loss_ppb=loss,
                spent_ppb=spent,
            )
        )
    if after.distance() > before.distance():
        failed.append(
            broken(
                "progress", "the distance to the targets would grow", before=before.distance(), after=after.distance()
            )
        )
    return loss, failed


def wrong_keeper(sender: str, keeper: str) -> Sequence[Verdict]:
    """Return the verdict against a sender who is not the keeper."""
    return () if sender.lower() == keeper.lower() else (broken("keeper", f"{sender} is not the keeper"),)
