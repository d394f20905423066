"""Strangers, holders, a keeper and feeds that lag: who stays loses at most the keeper's budget, and nothing locks.

The market has its own prices; every feed and second source is anywhere within 50 bp of them. After each flow, the value
of a passive holder's share AT THE MARKET'S PRICES has not fallen beyond rounding; after each plan, the loss at the
oracle's prices is within the rolling budgets; at the end everybody leaves. ``make fuzz`` runs 10,000 sequences.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lake.evm import Call, calldata, read
from lake.rpc import quantity
from policy.execution.checks.rules import Mandate
from policy.execution.vaults.reference.adapter import REBALANCE, encode_legs
from tests.execution.vault_kit import FREE, PRICES, Bench, bench

SEQUENCES = int(os.environ.get("FOREDRIFT_FUZZ_SEQUENCES", "60"))
pytestmark = [pytest.mark.chain, pytest.mark.timeout(max(300, SEQUENCES))]
USD, VIRTUAL, LAG_BPS = 10**6, 10**6, 50
HOLD_S = 3_600
LIMITS = Mandate(cooldown_s=1, loss_budget_ppb=1_000_000, long_budget_ppb=3_000_000, life_budget_ppb=4_000_000)
STRANGERS = ("trader", "searcher")
TALLY: Counter[str] = Counter()
ROUNDING = Fraction(1, 10**9)

who = st.sampled_from(STRANGERS)
step = st.one_of(
    st.tuples(st.just("enter"), who, st.integers(1, 10**13), st.booleans()),
    st.tuples(st.just("leave"), who, st.integers(1, 10_000), st.sampled_from(["cash", "kind", "skip"])),
    st.tuples(st.just("give"), who, st.integers(0, 2), st.integers(1, 10**6)),
    st.tuples(st.just("send"), who, who, st.integers(1, 10_000)),
    st.tuples(st.just("lag"), st.integers(0, 2), st.integers(-LAG_BPS, LAG_BPS), st.integers(-LAG_BPS, LAG_BPS)),
    st.tuples(st.just("wait"), st.sampled_from([1, 60, HOLD_S - 1, HOLD_S, 2 * HOLD_S])),
)
flows = st.lists(step, min_size=2, max_size=10)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Bench]:
    """Default fees, and a hold shorter than the bench's feeds would have, so that sequences get past it."""
    with bench(LIMITS, hold_s=HOLD_S) as made:
        prepared(made)
        yield made
        print(f"\nstrangers: {dict(TALLY)}")


@pytest.fixture(scope="module")
def unguarded() -> Iterator[Bench]:
    """No hold, no fees: with feeds at the market, the two prices and the rounding alone protect who stays."""
    with bench(LIMITS, **FREE) as made:
        prepared(made)
        yield made


def prepared(b: Bench) -> None:
    nav = b.view("totalAssets()")
    for j in (1, 2):
        b.rebalance(b.plan(b.fair(0, j, nav * 2_900 // 10_000)))
        b.wait(61)


@dataclass
class Run:
    """One sequence; ``market`` are the true prices, ``skipped`` what was left behind as claims."""

    b: Bench
    now: int
    market: list[int] = field(default_factory=lambda: list(PRICES))
    losses: list[tuple[int, Fraction]] = field(default_factory=list)

    def fire(self, role: str, to: str, data: bytes, wait: int = 1) -> bool:
        self.now += wait
        self.b.rpc.call("evm_setNextBlockTimestamp", [self.now])
        tx = {"from": self.b.who[role], "to": to, "data": "0x" + data.hex(), "gas": hex(3_000_000)}
        TALLY["calls"] += 1
        return quantity(self.b.receipt(self.b.rpc.call("eth_sendTransaction", [tx]))["status"]) == 1

    def worth(self, prices: list[int] | None = None) -> Fraction:
        """Value of a share, in raw units of cash at ``prices`` (the market's); exact."""
        b, p = self.b, prices or self.market
        asks = [Call(b.vault, "balances()", "uint256[]"), Call(b.vault, "totalSupply()", "uint256")]
        (held,), (supply,) = read(b.rpc, asks)
        total = sum(Fraction(h * x, 10**d) for h, x, d in zip(held, p, b.decimals, strict=True))  # type: ignore[call-overload]
        return (total * USD / p[0] + 1) / (int(str(supply)) + VIRTUAL)

    def shares(self, role: str) -> int:
        return self.b.view("balanceOf(address)", self.b.who[role])

    def lag(self, i: int, first_bps: int, second_bps: int) -> None:
        for feed, bps in ((self.b.feeds[i], first_bps), (self.b.seconds[i], second_bps)):
            assert self.fire("deployer", feed, calldata("post(int256)", self.market[i] * (10_000 + bps) // 10_000))


def flow(run: Run, kind: str, *args) -> bool:
    """One call of a stranger's; it takes nothing from who stays."""
    b, role = run.b, args[0]
    mine = b.who[role]
    if kind == "enter":
        call = calldata("deposit(uint256,address)", args[1], mine if args[2] else b.who[STRANGERS[0]])
    elif kind == "leave":
        amount = max(1, run.shares(role) * args[1] // 10_000)
        signature = "redeem(uint256,address,address)" if args[2] == "cash" else "redeemInKind(uint256,address,address)"
        if args[2] == "skip":
            signature, rest = signature[:-1] + ",uint256)", (amount, mine, mine, 0b010)
            call = calldata(signature, *rest)
        else:
            call = calldata(signature, amount, mine, mine)
    elif kind == "give":
        call = calldata("transfer(address,uint256)", b.vault, args[2] * 10 ** b.decimals[args[1]] // 10**6 or 1)
    else:
        call = calldata("transfer(address,uint256)", b.who[args[1]], run.shares(role) * args[2] // 10_000)
    before = run.worth()
    ok = run.fire(role, b.tokens[args[1]] if kind == "give" else b.vault, call)
    TALLY[f"{kind} {'done' if ok else 'refused'}"] += 1
    assert run.worth() >= before * (1 - ROUNDING), f"{kind} took from who stays"
    return ok


def plan(run: Run, size_bps: int, loss_bps: int) -> None:
    """The keeper, honest or not, towards the targets at the oracle's price less some bp."""
    b = run.b
    feeds = [b.answer(i) for i in range(3)]
    held = list(b.get(b.vault, "balances()", "uint256[]"))
    worth = [h * p * USD // (10**d * 10**8) for h, p, d in zip(held, feeds, b.decimals, strict=True)]
    gaps = [w - sum(worth) * t // 10_000 for w, t in zip(worth, (4_000, 3_000, 3_000), strict=True)]
    i, j = gaps.index(max(gaps)), gaps.index(min(gaps))
    usd = min(gaps[i], -gaps[j]) * size_bps // 10_000
    amount = usd * 10 ** b.decimals[i] * 10**8 // (USD * feeds[i])
    if amount <= 0 or i == j:
        return
    made = b.plan(b.fair(i, j, amount, loss_bps))
    before = run.worth(feeds)
    data = calldata(REBALANCE, encode_legs(made.legs), made.plan_hash, made.nonce, made.deadline, made.min_nav)
    ok = run.fire("keeper", b.vault, data)
    TALLY[f"plan {'done' if ok else 'refused'}"] += 1
    lost = 1 - run.worth(feeds) / before
    if ok and lost > 0:
        run.losses.append((run.now, lost))
    for seconds, budget in (
        (LIMITS.window_s, LIMITS.loss_budget_ppb),
        (LIMITS.long_window_s, LIMITS.long_budget_ppb),
        (10**10, LIMITS.life_budget_ppb),
    ):
        for start, _ in run.losses:
            window = sum((x for t, x in run.losses if start <= t < start + seconds), Fraction(0))
            assert window <= Fraction(budget, 10**9), "a budget was overdrawn"


def play(run: Run, kind: str, *args) -> None:
    if kind == "lag":
        run.lag(*args)
    elif kind == "wait":
        run.now += args[0]
        for i in range(3):  # the feeds stay fresh where they are
            for feed in (run.b.feeds[i], run.b.seconds[i]):
                answer = run.b.get(feed, "latestRoundData()", "uint80,int256")[1]
                run.fire("deployer", feed, calldata("post(int256)", answer))
    elif kind == "plan":
        plan(run, *args)
    elif kind == "market":
        run.market[args[0]] = run.market[args[0]] * (10_000 + args[1]) // 10_000
        run.lag(args[0], 0, 0)
    elif kind == "pause":
        run.fire("guardian", run.b.vault, calldata("pause()"))
    else:
        flow(run, kind, *args)


def everybody_leaves(run: Run) -> None:
    """In kind, whatever happened before, as soon as the hold is over; claims are paid in full."""
    b = run.b
    run.now += 2 * HOLD_S
    for role in ("investor", *STRANGERS):
        amount = run.shares(role)
        mine = b.who[role]
        if amount:
            call = calldata("redeemInKind(uint256,address,address)", amount, mine, mine)
            assert run.fire(role, b.vault, call), "funds are locked"
        for token in b.tokens:
            if b.view("claims(address,address)", token, mine):
                assert run.fire(role, b.vault, calldata("claim(address,address)", token, mine)), "a claim is locked"
    assert b.view("totalSupply()") == 0


def execute(world: Bench, steps) -> None:
    with world.undo():
        run = Run(world, world.now())
        for kind, *args in steps:
            play(run, kind, *args)
        everybody_leaves(run)
        TALLY["sequences"] += 1


QUICK = settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@QUICK
@given(steps=flows)
def test_no_sequence_of_flows_takes_from_who_stays_whatever_feeds_do_within_their_lag(guarded: Bench, steps):
    execute(guarded, steps)


@QUICK
@given(steps=flows.map(lambda rows: [r for r in rows if r[0] != "lag"]))
def test_nor_without_hold_and_fees_while_feeds_are_at_the_market(unguarded: Bench, steps):
    execute(unguarded, steps)


def script(rng: random.Random) -> list:
    """A random sequence: strangers who time the feeds, a keeper of either kind, a guardian now and then."""
    pick, upto = rng.choice, rng.randrange
    steps: list = []

    def ends() -> list:
        """Feeds at an end of what they may lag, cash against the others."""
        bps = pick([-LAG_BPS, LAG_BPS])
        seconds = [pick([bps, upto(-LAG_BPS, LAG_BPS + 1)]) for _ in range(2)]
        return [("lag", 0, -bps, -bps), *(("lag", i, bps, s) for i, s in zip((1, 2), seconds, strict=True))]

    for _ in range(rng.randint(3, 8)):
        kind, role = rng.random(), pick(STRANGERS)
        if kind < 0.4:  # in at one end, out at another
            steps += [*ends(), ("enter", role, upto(10**6, 10**13), rng.random() < 0.8)]
            if rng.random() < 0.7:
                steps += [("wait", pick([HOLD_S, 2 * HOLD_S])), *ends()]
                steps.append(("leave", role, upto(1, 10_001), pick(["cash", "kind", "skip"])))
        elif kind < 0.55:
            steps.append(("leave", role, upto(1, 10_001), pick(["cash", "kind", "skip"])))
        elif kind < 0.8:
            steps.append(("plan", upto(1, 10_001), pick([-90, 0, 5, 30, 99])))
        elif kind < 0.88:
            steps.append(("wait", pick([1, 60, HOLD_S - 1, 86_400, 45 * 86_400])))
        else:
            rare = ("give", role, upto(3), upto(1, 10**6)), ("send", role, pick(STRANGERS), upto(1, 10_001))
            steps.append(pick([*rare, ("market", upto(1, 3), upto(-1_500, 1_501)), ("pause",)]))
    return steps


def test_random_sequences_of_everybody(guarded: Bench):
    """Scripts from fixed seeds; a failure names its seed and replays alone."""
    for seed in range(SEQUENCES):
        steps = script(random.Random(seed))
        try:
            execute(guarded, steps)
        except AssertionError as error:
            error.add_note(f"seed {seed}: {steps}")
            raise
    assert min(TALLY[f"{k} done"] for k in ("enter", "leave", "plan")) * 20 > TALLY["sequences"]  # it does bite
