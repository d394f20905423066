"""The mandate's rules by the reference vault's own integer arithmetic (contracts/foredrift_vault.vy, oracle.vy).

Values are USD x 1e18, prices USD x 1e8, losses billionths of NAV; every division rounds as the contract does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lake.units import BPS
from policy.execution.base import Exposure, Leg, Plan, Token, Verdict

PPB = 10**9
E10 = 10**10


DAY_S = 86_400
FLOW_AGE_S = 600
"""Balances from before a flow that are older judge no plan, seconds (contracts/limits.vy)."""


@dataclass(frozen=True, slots=True)
class Mandate:
    """The keeper's limits: shares in basis points, loss budgets in billionths of NAV.

    A band policy spends 30 to 60 bp a YEAR on fees and impact. The defaults leave it room, and a stolen key little:
    10 bp in any ``window_s`` (a day), 100 bp in any ``long_window_s`` (90 days), 200 bp until the owner resumes the
    vault anew. The vault pauses itself when nine tenths of the last are gone, or of the first ``strikes`` times within
    a long window. ``leg_gain_bps``: a leg that beats the oracle by more proves the oracle wrong; as much as the two
    sources of a price may differ.
    """

    leg_loss_bps: int = 100
    turnover_bps: int = 5_000
    max_legs: int = 8
    cooldown_s: int = 60
    window_s: int = DAY_S
    loss_budget_ppb: int = 1_000_000
    leg_gain_bps: int = 100
    long_window_s: int = 90 * DAY_S
    long_budget_ppb: int = 10_000_000
    life_budget_ppb: int = 20_000_000
    strikes: int = 5


@dataclass(frozen=True, slots=True)
class Clock:
    """Plan nonce, block and time of the last plan, and the losses that count, in billionths of NAV.

    ``window`` and ``long_window``: the calendar windows of the two rolling budgets; ``life``: lost since the owner last
    resumed the vault; ``strikes``: how often the short budget was used up in the long window.
    """

    nonce: int = 0
    last_block: int = 0
    last_time: int = 0
    window: int = 0
    lost_before: int = 0
    lost_now: int = 0
    long_window: int = 0
    long_before: int = 0
    long_now: int = 0
    life: int = 0
    strikes: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """What the vault held before somebody came or left at ``time``, rounded as the vault keeps it."""

    time: int
    holdings: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VaultBook:
    """Tokens in order (the first is the accounting asset), mandated weights, oracle prices and holdings.

    ``slack_bps``: how far each weight may lie from its target before that is distance; empty: a point, as 0 for all.
    """

    tokens: tuple[Token, ...]
    targets_bps: tuple[int, ...]
    prices_e8: tuple[int, ...]
    holdings: tuple[int, ...]
    slack_bps: tuple[int, ...] = ()

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
        others = sum(self.value(i, amount) for i, amount in enumerate(self.holdings) if i)
        return self.holdings[0] + int(others * 10 ** self.tokens[0].decimals // (price * E10)) if price else 0

    def distance(self) -> int:
        """Return the sum of what abs(weight - target) exceeds its slack by, x 1e9, each rounded down."""
        total = self.total()
        slack = self.slack_bps or (0,) * len(self.targets_bps)
        gaps = (
            max(0, abs(self.value(i, h) * BPS - t * total) - s * total)
            for i, (h, t, s) in enumerate(zip(self.holdings, self.targets_bps, slack, strict=True))
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
    """Return the clock with ``loss`` booked in the present short window."""
    number, before, booked = _added(clock.window, clock.lost_before, clock.lost_now, now // window_s, loss)
    return replace(clock, window=number, lost_before=before, lost_now=booked)


def long_lost(clock: Clock, window_s: int, now: int) -> int:
    """Return the loss counted against the long budget now: this calendar window and the whole one before."""
    return lost(Clock(window=clock.long_window, lost_before=clock.long_before, lost_now=clock.long_now), window_s, now)


def loss_left(clock: Clock, mandate: Mandate, now: int) -> int:
    """Return what may still be lost now within all three budgets, billionths of NAV."""
    left = (
        mandate.loss_budget_ppb - lost(clock, mandate.window_s, now),
        mandate.long_budget_ppb - long_lost(clock, mandate.long_window_s, now),
        mandate.life_budget_ppb - clock.life,
    )
    return max(0, min(left))


def spend(clock: Clock, mandate: Mandate, now: int, loss: int) -> tuple[Clock, bool]:
    """Return the clock with a plan's ``loss`` booked in all budgets, and whether the vault now pauses itself."""
    if not loss:
        return clock, False
    counted, budget = lost(clock, mandate.window_s, now), mandate.loss_budget_ppb
    row = clock.long_window, clock.long_before, clock.long_now
    number, before, booked = _added(*row, now // mandate.long_window_s, loss)
    strikes = clock.strikes if number == clock.long_window else 0
    strikes += (counted + loss) * 10 >= budget * 9 > counted * 10
    after = replace(
        add_loss(clock, mandate.window_s, now, loss),
        long_window=number,
        long_before=before,
        long_now=booked,
        life=clock.life + loss,
        strikes=min(strikes, 255),
    )
    return after, strikes >= mandate.strikes or after.life * 10 >= mandate.life_budget_ppb * 9


def _added(window: int, before: int, booked: int, number: int, loss: int) -> tuple[int, int, int]:
    if window == number:
        return number, before, booked + loss
    return number, booked if window + 1 == number else 0, loss


def stolen_key(mandate: Mandate) -> Exposure:
    """Return the most a thief with the keeper's key takes at the oracle's prices, by the budgets alone."""

    def within(seconds: int) -> int:
        short = -(-seconds // mandate.window_s) * mandate.loss_budget_ppb
        long = -(-seconds // mandate.long_window_s) * mandate.long_budget_ppb
        return min(short, long, mandate.life_budget_ppb)

    return Exposure(within(DAY_S), within(90 * DAY_S), mandate.life_budget_ppb)


def broken(check: str, reason: str, **figures: str | int | float) -> Verdict:
    """Return a failed verdict."""
    return Verdict(check, ok=False, reason=reason, figures=figures)


def before_trading(plan: Plan, book: VaultBook, clock: Clock, mandate: Mandate, now: int, block: int) -> list[Verdict]:
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
    plan: Plan, book: VaultBook, mandate: Mandate, swap: Swap, allowed: Callable[[Leg], bool]
) -> tuple[VaultBook, int, list[Verdict]]:
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
        if book.value(j, got) * BPS > sold * (BPS + mandate.leg_gain_bps):
            failed.append(
                broken(
                    "leg gain",
                    f"leg {number} beats the oracle by more than {mandate.leg_gain_bps} bp: the oracle is wrong, "
                    "close deposits and exits (doubt) until it is right",
                    leg=number,
                )
            )
        turnover += sold
        holdings[i] -= spent
        holdings[j] += got
    return replace(book, holdings=tuple(holdings)), turnover, failed


def after_trading(
    plan: Plan,
    before: VaultBook,
    after: VaultBook,
    turnover: int,
    clock: Clock,
    mandate: Mandate,
    now: int,
    flows: Sequence[Flow] = (),
) -> tuple[int, list[Verdict]]:
    """Return the loss (billionths, rounded up) and the rules the whole plan breaks.

    Turnover, floor and progress hold on the balances, or all three on those from before one of the last ``flows``.
    """
    usd_before, usd_after = before.total(), after.total()
    loss = -(-(usd_before - usd_after) * PPB // usd_before) if usd_after < usd_before else 0
    failed = _over_budget(clock, mandate, now, loss)
    late = _whole_plan(plan, before, after, turnover, mandate)
    if late and not any(_held_before(plan, before, after, turnover, clock, mandate, now, flow) for flow in flows):
        failed += late
    return loss, failed


def _over_budget(clock: Clock, mandate: Mandate, now: int, loss: int) -> list[Verdict]:
    spent = {
        "the window": (lost(clock, mandate.window_s, now), mandate.loss_budget_ppb),
        "the long window": (long_lost(clock, mandate.long_window_s, now), mandate.long_budget_ppb),
        "the time since the owner last resumed the vault": (clock.life, mandate.life_budget_ppb),
    }
    return [
        broken(
            "loss budget",
            f"loss {loss} ppb on top of {counted} in {where} exceeds {budget}",
            loss_ppb=loss,
            spent_ppb=counted,
        )
        for where, (counted, budget) in spent.items()
        if loss and counted + loss > budget
    ]


def _whole_plan(plan: Plan, before: VaultBook, after: VaultBook, turnover: int, mandate: Mandate) -> list[Verdict]:
    failed = []
    if turnover * BPS > mandate.turnover_bps * before.total():
        failed.append(
            broken(
                "turnover", f"more than {mandate.turnover_bps} bp of NAV would be sold", cap_bps=mandate.turnover_bps
            )
        )
    if after.nav() < plan.min_nav:
        failed.append(
            broken("nav floor", f"NAV after is {after.nav()}, the floor is {plan.min_nav}", nav=str(after.nav()))
        )
    if after.distance() > before.distance():
        failed.append(
            broken(
                "progress", "the distance to the targets would grow", before=before.distance(), after=after.distance()
            )
        )
    return failed


def _held_before(
    plan: Plan, before: VaultBook, after: VaultBook, turnover: int, clock: Clock, mandate: Mandate, now: int, flow: Flow
) -> bool:
    """Return whether what the plan does keeps its rules on the balances from before a flow since the last plan."""
    if flow.time <= clock.last_time or now - flow.time > FLOW_AGE_S:
        return False
    new = tuple(h + a - b for h, a, b in zip(flow.holdings, after.holdings, before.holdings, strict=True))
    was, then = replace(before, holdings=flow.holdings), replace(after, holdings=new)
    if min(new) < 0 or not was.total() or not then.total():
        return False
    return not _whole_plan(plan, was, then, turnover, mandate)


def wrong_keeper(sender: str, keeper: str) -> Sequence[Verdict]:
    """Return the verdict against a sender who is not the keeper."""
    return () if sender.lower() == keeper.lower() else (broken("keeper", f"{sender} is not the keeper"),)
