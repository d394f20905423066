"""A stolen keeper's key, for weeks: how much of the vault it takes before the contract itself stops it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from policy.execution.base import Plan
from policy.execution.checks.rules import Mandate
from policy.execution.vaults.reference.deployment import encode_mandate
from tests.attacks.outcome import Attack, Outcome, joined
from tests.attacks.scene import has, nav_usd, prices, to_target, weights
from tests.execution.vault_kit import Bench

DAY_S = 86_400
DAYS = 100
MOST_A_DAY, MOST_EVER = 10.0, 200.0  # bp of NAV, as the default mandate states them
SET_MANDATE = "set_mandate((uint256,uint256,uint256,uint256,uint256,uint256))"


def shipped_mandate(b: Bench) -> None:
    """Give the vault the limits that a deployment has by default."""
    b.change(SET_MANDATE, encode_mandate(Mandate()))
    if has(b, "budgets()"):
        from policy.execution.vaults.reference import deployment

        b.change(deployment.SET_BUDGETS, deployment.encode_budgets(Mandate()))


def ring(b: Bench, loss_bps: float) -> Plan:
    """Return a ring of three legs that loses from every token in proportion: the progress rule sees nothing."""
    nav, at = b.view("totalAssets()"), [b.answer(i) for i in range(3)]
    moved, loss = nav * 16 // 100, int(nav * loss_bps / 10_000)

    def amount(i: int, usd6: int) -> int:
        return usd6 * 10**8 * 10 ** b.decimals[i] // (at[i] * 10**6)

    held = weights(b)
    over = [max(0.0, h - t) for h, t in zip(held, (0.4, 0.3, 0.3), strict=True)]
    extra = min(0.3, sum(over) * nav / max(1, loss))
    parts = [h * (1 - extra) + (extra * o / sum(over) if sum(over) else 0) for h, o in zip(held, over, strict=True)]
    ways = [(0, 1), (1, 2), (2, 0)]
    return b.plan(*(b.leg(i, j, amount(i, moved), amount(j, moved - int(parts[j] * loss))) for i, j in ways))


def robbed(b: Bench, sizes: tuple[float, ...]) -> str | None:
    """Land the greediest plan that is taken; return why none was, None after one."""
    why: str | None = "nothing tried"
    for size in sizes:
        plan = ring(b, size)
        why = b.refusal(plan)
        if why is None:
            b.rebalance(plan)
            b.wait(61)
            return None
    return why


def days(b: Bench, count: int) -> Iterator[int]:
    """Yield ``count`` days with prices that move 3 % a day, as markets do: there is always drift to hide behind."""
    rng = random.Random(1)
    for day in range(count):
        for i in (1, 2):
            b.price(i, int(b.answer(i) * (1 + rng.choice([-0.03, 0.03]))))
        yield day
        b.wait(DAY_S - b.now() % DAY_S + 5)


def theft(b: Bench, count: int, sizes: tuple[float, ...], a_day: int = 14) -> tuple[float, float, int, str]:
    """Return bp lost in all and at most in a day, the days it lasted, and what stopped it."""
    kept, worst, last, why = 1.0, 0.0, 0, ""
    for day in days(b, count):
        before = nav_usd(b, prices(b))
        for _ in range(a_day):
            why = robbed(b, sizes) or ""
            if why:
                break
        lost = 1 - nav_usd(b, prices(b)) / before
        kept, worst, last = kept * (1 - lost), max(worst, lost * 1e4), day + 1
        if why == "paused":
            break
    return (1 - kept) * 1e4, worst, last, why


def for_weeks(b: Bench) -> Outcome:
    """The default mandate, robbed at its limits every day."""
    shipped_mandate(b)
    to_target(b)
    lost, worst, last, why = theft(b, 12, (39, 20, 9.5, 4.5, 2, 0.4))
    still = "" if why == "paused" else f", {lost / last:.1f} a day goes on"
    text = f"{lost:.0f} bp in {last} days, {worst:.1f} in the worst{still}; then {why or 'not stopped'}"
    return Outcome(worst <= MOST_A_DAY + 0.1 and lost <= MOST_EVER and why in {"paused", "loss budget"}, text)


def below_the_pause(b: Bench) -> Outcome:
    """Stay below what counts as a strike, so that only the long budgets bind: a hundred days."""
    shipped_mandate(b)
    to_target(b)
    lost, worst, last, why = theft(b, DAYS, (8.5,), a_day=1)
    text = f"{lost:.0f} bp in {last} days, {worst:.1f} in the worst; then {why or 'not stopped'}"
    return Outcome(worst <= MOST_A_DAY + 0.1 and lost <= MOST_EVER, text)


def window_edges(b: Bench) -> Outcome:
    """Take the whole budget just before a window ends and again just after."""
    shipped_mandate(b)
    to_target(b)
    for i in (1, 2):
        b.price(i, b.answer(i) * 103 // 100)
    b.wait(2 * DAY_S - b.now() % DAY_S - 700)
    before, took = nav_usd(b, prices(b)), []
    for _ in range(2):
        start = nav_usd(b, prices(b))
        for _ in range(6):
            if robbed(b, (39, 20, 9.5, 4.5, 2.0, 0.4, 0.1)):
                break
        took.append((1 - nav_usd(b, prices(b)) / start) * 1e4)
        b.wait(max(1, DAY_S - b.now() % DAY_S + 1) if len(took) == 1 else 1)
    lost = (1 - nav_usd(b, prices(b)) / before) * 1e4
    budget = Mandate().loss_budget_ppb / 1e5
    return Outcome(lost <= budget + 0.01, f"{took[0]:.2f} + {took[1]:.2f} bp across the edge, budget {budget:.0f}")


def lagging_oracle(b: Bench) -> Outcome:
    """Sell at the oracle's low price to the thief, buy back at the market's, in one plan and in turns."""
    shipped_mandate(b)
    to_target(b)
    found = []
    for off in (50, -50):
        with b.undo():
            market = [b.answer(0), b.answer(1) * (10_000 + off) // 10_000, b.answer(2)]
            real = [p / 1e8 / 10**d for p, d in zip(market, b.decimals, strict=True)]
            before, plans, why = nav_usd(b, real), 0, ""
            for _ in range(30):
                first = b.fair(1, 0, b.held(1) * 8 // 10) if off > 0 else b.fair(0, 1, b.held(0) * 6 // 10)
                i, j = (0, 1) if off > 0 else (1, 0)
                back = b.fair(i, j, first.quoted_out, prices=market)
                why = b.refusal(plan := b.plan(first, back)) or ""
                if why:
                    break
                b.rebalance(plan)
                b.wait(61)
                plans += 1
            lost = (1 - nav_usd(b, real) / before) * 1e4
            found.append(Outcome(lost <= MOST_A_DAY, f"{off:+d} bp: {plans} plans, {lost:.1f} bp ({why})", lost))
    return joined(found)


def too_good(b: Bench) -> Outcome:
    """A fill far better than the oracle, which lets a later leg lose what the first one won."""
    shipped_mandate(b)
    to_target(b)
    b.price(1, b.answer(1) * 90 // 100)  # ETH is below its target: buying it is progress
    nav = b.view("totalAssets()")
    gift = b.fair(0, 1, nav // 100, -400)
    loss = b.fair(1, 0, gift.quoted_out, 90)
    why = b.refusal(b.plan(gift, loss))
    won = b.refusal(b.plan(gift))
    return Outcome(won is not None and why is not None, f"a leg 4 % above the oracle: {won or 'taken'}")


def resumed(b: Bench) -> Outcome:
    """Once stopped, more plans, a new mandate or waiting must not help without the owner's timelock."""
    shipped_mandate(b)
    to_target(b)
    lost, _, _, why = theft(b, 12, (39, 9.5, 4.5, 2, 0.4))
    asks = ["resume()", "pause()", "revoke_guardian()"]
    whys = [b.why("keeper", b.vault, a) for a in asks]
    whys.append(b.why("keeper", b.vault, SET_MANDATE, encode_mandate(Mandate())))
    b.wait(3 * DAY_S)
    after = b.refusal(ring(b, 0.4))
    stopped = why == "paused" and after == "paused" and all(w is not None for w in whys)
    return Outcome(stopped, f"stopped by {why!r} after {lost:.0f} bp; three days later {after or 'it goes on'}")


ATTACKS = [
    Attack("H4 stolen key", "the keeper's key robs at the limits every day", "vault", for_weeks, short=False),
    Attack("H4 below the pause", "a hundred days below what pauses the vault", "vault", below_the_pause, short=False),
    Attack("H4 window edges", "the whole budget before and after a window's edge", "vault", window_edges),
    Attack("H4 after the stop", "go on once the vault has paused itself", "vault", resumed, short=False),
    Attack("held: keeper on a lag", "round trips against a lagging oracle", "vault", lagging_oracle),
    Attack("H4 a leg too good", "a leg that beats the oracle by 4 %", "vault", too_good),
]
