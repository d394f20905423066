"""What the vault itself lets a thief with the keeper's key take: the budgets' bound, whatever the plans look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from policy.execution.checks.rules import Mandate
from policy.execution.vaults.reference.deployment import SET_BUDGETS, encode_budgets
from tests.execution.vault_kit import FREE, PRICES, Bench, bench

pytestmark = pytest.mark.chain
USD = 10**6
YEAR = 31_557_600


def ring(b: Bench, part_bps: int) -> object:
    """Three legs round all tokens that lose from each in proportion to its weight: progress sees nothing."""
    nav, prices = b.view("totalAssets()"), [b.answer(i) for i in range(3)]
    amount, loss = nav * 12 // 100, nav * part_bps // 100_000

    def units(i: int, usd6: int) -> int:
        return usd6 * 10**8 * 10 ** b.decimals[i] // (prices[i] * 10**6)

    worth = [b.held(i) * prices[i] * 10**6 // (10 ** b.decimals[i] * 10**8) for i in range(3)]
    weights = [10_000 * w // sum(worth) for w in worth]
    weights[0] += 100  # and a little more of what there is too much of, for the rounding
    steps = ((0, 1), (1, 2), (2, 0))
    legs = [b.leg(i, j, units(i, amount), units(j, amount - loss * weights[j] // 10_100)) for i, j in steps]
    return b.plan(*legs)


@pytest.fixture(scope="module")
def stolen() -> Iterator[Bench]:
    with bench(Mandate(), **FREE) as made:
        nav = made.view("totalAssets()")
        for j in (1, 2):
            made.rebalance(made.plan(made.fair(0, j, nav * 3_000 // 10_000)))
            made.wait(61)
        made.send("trader", made.tokens[0], "transfer(address,uint256)", made.vault, 1_000 * USD)  # room for progress
        yield made


def rob(b: Bench, days: int, sizes: Sequence[int], plans_a_day: int = 8) -> list[tuple[int, float]]:
    """Take what the vault lets one take, for so many days; (time, part lost) of each plan that landed."""
    taken = []
    for _ in range(days):
        for _ in range(plans_a_day):
            good = next((p for size in sizes if b.refusal(p := ring(b, size)) is None), None)
            if good is None:
                break
            before = b.view("totalAssets()")
            b.rebalance(good)
            taken.append((b.now(), 1 - b.view("totalAssets()") / before))
            b.wait(61)
        b.wait(86_400 - b.now() % 86_400 + 5)
    return taken


def test_a_greedy_thief_is_stopped_by_the_vault_itself(stolen: Bench):
    """He takes all a day allows: after five such days the vault pauses, with at most 10 bp gone in any of them."""
    b = stolen
    with b.undo():
        taken = rob(b, 14, (95, 50, 20, 5))
        assert b.get(b.vault, "pause_reason()", "uint256") == 3
        assert b.adapter().state().pause == "a loss budget that is used up"
        assert sum(x for _, x in taken) <= 50.5e-4
        for at, _ in taken:
            assert sum(x for t, x in taken if at <= t < at + 86_400) <= 10.01e-4
        assert b.why("owner", b.vault, "resume()") == "timelock"
        b.change("resume()")
        assert b.adapter().state().clock.strikes == b.adapter().state().clock.life == 0
        assert b.adapter().state().clock.long_now > 0  # the windows go on counting


def test_a_patient_thief_takes_the_long_budget_and_no_more(stolen: Bench):
    """He stays below the strikes: 100 bp in 90 days, 200 bp for ever, as described."""
    b = stolen
    said = b.adapter().describe().stolen_key
    assert said.words() == (
        "a stolen keeper's key takes at most 10 bp of NAV in a day, 100 bp in 90 days, 200 bp for ever"
    )
    with b.undo():
        budgets = list(encode_budgets(Mandate()))
        taken = rob(b, 30, (88,), plans_a_day=1)
        assert 70e-4 < sum(x for _, x in taken) <= said.quarter_ppb / 1e9
        for _ in range(4):  # the rest of his years, a window at a time
            b.wait(budgets[1])
            b.price(0, PRICES[0])
            taken += rob(b, 14, (88,), plans_a_day=1)
        assert 150e-4 < sum(x for _, x in taken) <= said.ever_ppb / 1e9
        assert b.get(b.vault, "pause_reason()", "uint256") == 3
        for at, _ in taken:
            assert sum(x for t, x in taken if at <= t < at + budgets[1]) <= said.quarter_ppb / 1e9


def test_a_change_of_the_long_window_forgives_nothing(stolen: Bench):
    b = stolen
    with b.undo():
        b.rebalance(ring(b, 80))
        before = b.adapter().state().clock.long_now
        assert before > 0
        b.change(SET_BUDGETS, encode_budgets(Mandate(long_window_s=30 * 86_400)))
        after = b.adapter().state().clock
        assert after.long_before + after.long_now == before
