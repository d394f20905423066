"""A thief with the keeper's key at the port: random departures, settlements, waits and every other call it may make.

``python -m tests.execution.port_fuzz [steps] [seed]`` (``make port-fuzz``: 10,000 steps). Judged throughout: the chain
refuses with the word the Python side says first; whatever leaves goes to our own vault; no stretch of a window's length
holds more than the budget; the thief holds nothing; what left is what the vault lacks.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import dataclass, field, replace

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from lake.evm import calldata, selector
from policy.execution.bridges.routes import ROUTE_TYPE
from policy.execution.checks.port_rules import FAST, FINAL, Ask, counted
from policy.execution.vaults.reference.port_state import (
    DEPART,
    SET_BENEFICIARY,
    SET_RATE,
    SET_ROUTE,
    SET_SLACK,
    SETTLE,
)
from tests.execution.port_kit import BUDGET, THERE, USD, WINDOW_S, Harbour, harbour

THIEF = "searcher"
SECOND = 2
AMOUNTS = (0, 1, USD, 999 * USD, 4_999_999_999, 5_000 * USD, 5_000 * USD + 1, 12_000 * USD, 2**96, 2**200)


@dataclass
class Fuzz:
    """A run: its dice, what left when, and what was counted."""

    h: Harbour
    dice: random.Random
    left: list[tuple[int, int]] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)
    peak: int = 0
    start: int = 0
    fees: int = 0

    def step(self) -> None:
        """Do one thing a thief may do."""
        roll = self.dice.random()
        if roll < 0.62:  # noqa: PLR2004
            self.depart()
        elif roll < 0.78:  # noqa: PLR2004
            self.settle()
        elif roll < 0.9:  # noqa: PLR2004
            seconds = self.dice.choice([1, 12, 60, 61, 3_600, 40_000, WINDOW_S])
            self.h.b.rpc.call("evm_increaseTime", [seconds])
            self.h.b.rpc.call("evm_mine")
        else:
            self.anything()

    def depart(self) -> None:
        """Ask for a departure; chain and Python must say the same of it."""
        ask = self.ask()
        wait = self.dice.choice([1, 12, 61])
        expected = [] if max(ask.amount, ask.fee, ask.speed) >= 2**128 else self.h.expected(ask, wait)
        said = self.h.refusal(ask, wait=wait)
        if max(ask.amount, ask.fee, ask.speed) < 2**128:
            assert said == (expected[0] if expected else None), (ask, said, expected)
        assert not (said is None and max(ask.amount, ask.fee) >= 2**128), ask
        self.said[said or "departed"] += 1
        self.h.b.rpc.call("evm_setNextBlockTimestamp", [self.h.b.now() + wait])
        before = self.h.b.held(0)
        went = self.h.try_depart(ask)
        assert went == (said is None), (ask, said)
        assert before - self.h.b.held(0) == (ask.amount if went else 0)
        if went:
            self.left.append((self.h.b.now(), ask.amount))
            self.fees += ask.fee
            assert ask.fee * 10_000 <= ask.amount * 15

    def ask(self) -> Ask:
        """Roll a departure; half of them are near what is allowed."""
        roll, dice = self.dice.choice, self.dice
        amount = roll([*AMOUNTS, dice.randrange(1, 5_000 * USD), dice.randrange(1, 5_000 * USD)])
        fee = roll([0, 0, 0, amount * 15 // 10_000, amount * 15 // 10_000 + 1, amount, amount + 1])
        made = Ask(roll([1, 1, SECOND]), amount, fee, FINAL, 2**40, self.h.b.view("clock()"))
        if dice.random() < 0.25:  # noqa: PLR2004
            one = roll(["route", "speed", "deadline", "nonce", "value"])
            odd = {
                "route": roll([0, 3, 63, 64, 2**255]),
                "speed": roll([0, FAST - 1, FAST, 2**32 - 1, 2**32]),
                "deadline": roll([0, self.h.b.now(), self.h.b.now() + 12]),
                "nonce": roll([0, made.nonce + 1, max(0, made.nonce - 1)]),
                "value": roll([1, 10**18]),
            }
            made = replace(made, **{one: odd[one]})
        return made

    def settle(self) -> None:
        """Lie about what arrived, as far as the counter goes."""
        row = self.h.book().rows[self.dice.choice([1, SECOND])]
        amount = self.dice.choice([0, 1, row.in_transit, row.in_transit + 1, 2**256 - 1])
        route = next(i for i, r in self.h.book().rows.items() if r == row)
        assert self.h.raw("keeper", calldata(SETTLE, route, amount, True)) == (amount <= row.in_transit)

    def anything(self) -> None:
        """Every other call of the port with the thief in it, and bytes at random; none is taken."""
        thief = self.h.b.who[THIEF]
        mine = replace(self.h.row, recipient=to_checksum_address(thief), fee_bps=300)
        calls = [
            calldata(SET_ROUTE, 1, mine.encoded()),
            calldata(SET_RATE, 1, 2**90),
            calldata(SET_BENEFICIARY, thief),
            calldata(SET_SLACK, [10_000] * 3),
            calldata("execute(bytes)", calldata(SET_ROUTE, 1, mine.encoded())),
            calldata("schedule(bytes)", calldata(SET_ROUTE, 1, mine.encoded())),
            calldata("sweep(address,address)", self.h.b.tokens[0], thief),
            calldata("set_call(address,bytes4,bool)", self.h.messenger, bytes.fromhex("8e0250ee"), True),
            selector(SET_ROUTE) + encode(["uint256", ROUTE_TYPE], [1, mine.encoded()])[:-32],
            selector(DEPART) + self.dice.randbytes(self.dice.choice([0, 31, 224, 500])),
        ]
        call = self.dice.choice(calls)
        assert not self.h.raw(self.dice.choice(["keeper", "keeper", THIEF]), call), call.hex()

    def judge(self) -> None:
        """Hold the run to what the port promises."""
        h, now = self.h, self.h.b.now()
        assert {to for to, _ in h.burnt()} <= {h.row.recipient}
        assert sum(amount for _, amount in h.burnt()) == sum(amount for _, amount in self.left)
        assert self.start - h.b.held(0) == sum(amount for _, amount in self.left)
        assert h.b.held(0, THIEF) == h.b.view("balanceOf(address)", h.b.who[THIEF]) == 0
        assert h.b.get(h.b.tokens[0], "allowance(address,address)", "uint256", h.b.vault, h.messenger) == 0
        stretch = [sum(a for s, a in self.left if t - WINDOW_S < s <= t) for t, _ in self.left[-60:]]
        self.peak = max([self.peak, *stretch])
        assert self.peak <= BUDGET
        assert counted(h.book(), now) <= BUDGET


def run(steps: int, seed: int) -> Fuzz:
    """Play ``steps`` steps on a vault with two routes to one of ours; AssertionError names what broke."""
    with harbour() as h:
        h.b.change(SET_ROUTE, SECOND, replace(h.row, max_one=3_000 * USD, speed=FINAL, destination=THERE).encoded())
        h.b.send("deployer", h.b.tokens[0], "mint(address,uint256)", h.b.vault, 10**8 * USD)
        for token in h.b.tokens:
            held = h.b.get(token, "balanceOf(address)", "uint256", h.b.who[THIEF])
            h.b.send(THIEF, token, "transfer(address,uint256)", h.b.who["deployer"], held)
        fuzz = Fuzz(h, random.Random(seed), start=h.b.held(0))  # noqa: S311
        for i in range(steps):
            fuzz.step()
            if i % 25 == 0 or i == steps - 1:
                fuzz.judge()
        return fuzz


def main() -> None:
    """Run and print what happened."""
    steps, seed = (int(x) for x in (*sys.argv[1:], *("10000", "1")[len(sys.argv) - 1 :]))
    fuzz = run(steps, seed)
    sent = sum(a for _, a in fuzz.left)
    print(f"{steps} steps: {len(fuzz.left)} departures of {sent / USD:,.0f} in all, every one to our own vault")
    print(f"most in any {WINDOW_S} s: {fuzz.peak / USD:,.0f} of {BUDGET / USD:,.0f}; the thief holds 0")
    print(f"bridges may keep {fuzz.fees / USD:,.2f} of it")
    print("said: " + ", ".join(f"{word} {n}" for word, n in fuzz.said.most_common()))


if __name__ == "__main__":
    main()
