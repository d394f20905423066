"""Every on-chain rule of the manager face: once kept, once broken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from eth_utils.crypto import keccak

from lake.evm import calldata
from policy.execution.vaults.reference.deployment import (
    SET_MANDATE,
    ZERO,
    TokenSource,
    VaultSetup,
    create,
    encode_mandate,
    oracle_code,
)
from tests.execution.vault_kit import DELAY, FREE, MANDATE, PRICES, Bench, bench, new_feed

pytestmark = pytest.mark.chain
USD = 10**6
ETH = 10**18


@pytest.fixture(scope="module")
def world() -> Iterator[Bench]:
    with bench(**FREE) as made:
        yield made


@pytest.fixture
def b(world: Bench) -> Iterator[Bench]:
    with world.undo():
        yield world


def good(b: Bench, usd: int = 3_000):
    return b.plan(b.fair(0, 1, usd * USD, 5))


def test_a_good_plan_moves_the_weights_and_says_so(b: Bench):
    b.rebalance(b.plan(b.fair(0, 1, 20_000 * USD, 5), b.fair(0, 2, 20_000 * USD, 5)))
    snapshot = b.adapter().snapshot()
    assert b.held(1) == 10 * ETH * 9_995 // 10_000
    assert snapshot.plan_nonce == 1
    assert snapshot.nav == 60_000 * USD + 2 * 19_990 * USD
    assert b.get(b.tokens[0], "allowance(address,address)", "uint256", b.vault, b.router) == 0


def test_only_the_keeper_trades(b: Bench):
    for role in ("owner", "guardian", "investor", "deployer"):
        assert b.refusal(good(b), role) == "keeper"
    assert b.refusal(good(b)) is None


def test_a_plan_lands_once_and_never_late(b: Bench):
    plan = b.plan(b.fair(0, 1, 3_000 * USD), deadline=b.now() + 12)
    assert b.refusal(plan, wait=12) is None
    assert b.refusal(plan, wait=13) == "deadline"
    forever = good(b)
    b.rebalance(forever)
    b.wait(3_600)
    assert b.refusal(forever) == "nonce"
    assert b.refusal(b.plan(b.fair(0, 1, 3_000 * USD), nonce=2)) == "nonce"


def test_the_hash_binds_every_part(b: Bench):
    plan = good(b)
    for wrong in (
        replace(plan, min_nav=1),
        replace(plan, deadline=plan.deadline - 1),
        replace(plan, legs=(replace(plan.legs[0], min_out=1),)),
    ):
        assert b.refusal(wrong) == "plan hash"


def test_only_listed_calls(b: Bench):
    leg = b.fair(0, 1, 3_000 * USD)
    assert b.refusal(b.plan(replace(leg, calldata=b"\x12\x34\x56\x78" + leg.calldata[4:]))) == "target"
    assert b.refusal(b.plan(replace(leg, calldata=leg.calldata[:3]))) == "target"
    assert b.refusal(b.plan(replace(leg, target=b.who["searcher"]))) == "target"
    assert b.refusal(b.plan(replace(leg, target=b.vault))) == "target"


def test_a_token_is_never_a_target_even_when_listed(b: Bench):
    b.change("set_call(address,bytes4,bool)", b.tokens[1], bytes.fromhex("a9059cbb"), True)
    steal = bytes.fromhex("a9059cbb") + bytes(64)
    assert b.refusal(b.plan(replace(b.fair(0, 1, USD), target=b.tokens[1], calldata=steal))) == "target"


def test_pairs_are_two_tokens_of_the_portfolio(b: Bench):
    leg = b.fair(0, 1, USD)
    assert b.refusal(b.plan(replace(leg, token_out=leg.token_in))) == "pair"
    assert b.refusal(b.plan(replace(leg, token_out=b.feeds[0]))) == "pair"


def test_measured_balances_decide(b: Bench):
    short = b.leg(0, 1, 2_000 * USD, ETH - 1, min_out=ETH)
    assert b.refusal(b.plan(short)) == "min out"
    assert b.refusal(b.plan(replace(short, min_out=ETH - 1))) is None


def test_a_leg_cannot_spend_more_than_it_says(b: Bench):
    greedy = replace(b.leg(0, 1, 2_000 * USD, ETH), amount_in=1_999 * USD)
    assert b.refusal(b.plan(greedy)) is not None  # the exact approval is too small for the call


def test_approvals_never_remain(b: Bench):
    lazy = replace(b.leg(0, 1, 2_000 * USD, ETH), amount_in=3_000 * USD)  # the call takes less than approved
    b.rebalance(b.plan(lazy))
    assert b.get(b.tokens[0], "allowance(address,address)", "uint256", b.vault, b.router) == 0


def test_value_floor_of_a_leg(b: Bench):
    small = 100 * USD  # so small that the plan as a whole is within its budget
    assert b.refusal(b.plan(b.fair(0, 1, small, 100))) is None
    assert b.refusal(b.plan(b.fair(0, 1, small, 101))) == "leg value"


def test_nav_floor_of_the_plan(b: Bench):
    legs = (b.fair(0, 1, 10_000 * USD, 10),)
    assert b.refusal(b.plan(*legs, min_nav=99_990 * USD)) is None
    assert b.refusal(b.plan(*legs, min_nav=99_990 * USD + 1)) == "nav floor"


def test_the_loss_budget_holds_over_any_window(b: Bench):
    b.rebalance(b.plan(b.fair(0, 1, 25_000 * USD, 100)))  # loses 0.25 % of a budget of 0.5 %
    b.wait(60)
    b.rebalance(b.plan(b.fair(0, 2, 20_000 * USD, 100)))  # 0.2 %
    b.wait(60)
    assert b.refusal(b.plan(b.fair(0, 1, 4_900 * USD, 100))) is None
    over = b.plan(b.fair(0, 1, 5_100 * USD, 100))
    assert b.refusal(over) == "loss budget"
    b.wait(MANDATE.window_s)  # a calendar window later the loss still counts: any window may straddle two
    assert b.refusal(over) == "loss budget"
    b.wait(MANDATE.window_s)
    assert b.refusal(over) is None


def test_the_window_cannot_be_changed_to_forget(b: Bench):
    b.rebalance(b.plan(b.fair(0, 1, 25_000 * USD, 100)))
    shorter = replace(MANDATE, window_s=DELAY)
    b.change(SET_MANDATE, encode_mandate(shorter))
    assert b.get(b.vault, "clock()", ",".join(["uint256"] * 7))[6] == 2_500_000


def test_progress_the_distance_to_targets_must_not_grow(b: Bench):
    b.rebalance(b.plan(b.fair(0, 1, 30_000 * USD), b.fair(0, 2, 20_000 * USD)))  # 50 / 30 / 20
    b.wait(60)
    assert b.refusal(b.plan(b.fair(1, 0, ETH))) == "progress"
    assert b.refusal(b.plan(b.fair(0, 2, 10_000 * USD))) is None  # to target
    assert b.refusal(b.plan(b.fair(0, 2, 20_000 * USD))) is None  # as far beyond it, no farther
    assert b.refusal(b.plan(b.fair(0, 2, 20_001 * USD))) == "progress"


def test_turnover_cap(b: Bench):
    assert b.refusal(b.plan(b.fair(0, 1, 30_000 * USD), b.fair(0, 2, 20_000 * USD))) is None
    assert b.refusal(b.plan(b.fair(0, 1, 30_000 * USD), b.fair(0, 2, 20_001 * USD))) == "turnover"


def test_cool_down(b: Bench):
    b.rebalance(good(b))
    later = good(b)
    assert b.refusal(later, wait=MANDATE.cooldown_s - 1) == "cooldown"
    assert b.refusal(later, wait=MANDATE.cooldown_s) is None


def test_number_of_legs(b: Bench):
    legs = [b.fair(0, 1, USD)] * MANDATE.max_legs
    assert b.refusal(b.plan()) == "legs"
    assert b.refusal(b.plan(*legs)) is None
    assert b.refusal(b.plan(*legs, legs[0])) == "legs"


def test_targets_are_out_of_the_keepers_reach(b: Bench):
    change = ("set_targets(uint256[])", [10_000, 0, 0])
    for role in ("keeper", "owner", "guardian"):
        assert b.why(role, b.vault, *change) == "timelock"
    b.change(*change)
    assert list(b.get(b.vault, "tokens()", "address[],uint256[],uint256[]")[2]) == [10_000, 0, 0]


def test_no_deposit_or_exit_in_the_block_of_a_plan(b: Bench):
    plan = good(b)
    b.rpc.call("evm_setAutomine", [False])
    try:
        nonce = int(str(b.rpc.call("eth_getTransactionCount", [b.who["keeper"], "latest"])), 16)
        assert nonce >= 0

        def queue(role: str, *call):
            data = "0x" + calldata(*call).hex()
            tx = {"from": b.who[role], "to": b.vault, "data": data, "gas": hex(1_000_000)}
            return b.rpc.call("eth_sendTransaction", [tx])

        first = queue("keeper", *b.args(plan))
        then = [
            queue("investor", "deposit(uint256,address)", USD, b.who["investor"]),
            queue("investor", "withdraw(uint256,address,address)", USD, b.who["investor"], b.who["investor"]),
            queue("investor", "redeemInKind(uint256,address,address)", 10**12, b.who["investor"], b.who["investor"]),
        ]
        b.rpc.call("evm_mine")
        receipts = [b.rpc.call("eth_getTransactionReceipt", [h]) for h in (first, *then)]
        assert len({r["blockNumber"] for r in receipts}) == 1
        assert [int(r["status"], 16) for r in receipts] == [1, 0, 0, 1]  # the in-kind exit uses no price: always open
        flow = queue("investor", "deposit(uint256,address)", USD, b.who["investor"])
        b.rpc.call("evm_increaseTime", [100])
        late = queue("keeper", *b.args(good(b)))
        b.rpc.call("evm_mine")
        receipts = [b.rpc.call("eth_getTransactionReceipt", [h]) for h in (flow, late)]
        assert [int(r["status"], 16) for r in receipts] == [1, 1]  # nobody stops a plan by a flow before it
    finally:
        b.rpc.call("evm_setAutomine", [True])


def test_the_guardian_only_pauses(b: Bench):
    assert b.why("investor", b.vault, "pause()") == "guardian"
    b.send("guardian", b.vault, "pause()")
    assert b.refusal(good(b)) == "paused"
    assert b.why("guardian", b.vault, "resume()") == "timelock"
    assert b.why("guardian", b.vault, "revoke_keeper()") == "owner"
    assert b.why("guardian", b.vault, "schedule(bytes)", b"") == "owner"
    b.change("resume()")
    assert b.refusal(good(b)) is None


def test_the_owner_revokes_at_once_and_names_a_keeper_slowly(b: Bench):
    b.send("owner", b.vault, "revoke_keeper()")
    assert b.refusal(good(b)) == "keeper"
    b.change("set_role(uint256,address)", 1, b.who["trader"])
    assert b.refusal(good(b), "trader") is None


def test_the_timelock_waits_expires_and_fires_once(b: Bench):
    data = calldata("set_delay(uint256)", 3_605)
    execute = ("execute(bytes)", data)
    assert b.why("owner", b.vault, *execute) == "unknown"
    b.send("owner", b.vault, "schedule(bytes)", data)
    assert b.why("owner", b.vault, "schedule(bytes)", data) == "scheduled"
    assert b.why("owner", b.vault, *execute, wait=DELAY - 1) == "early"
    assert b.why("owner", b.vault, *execute, wait=DELAY + 15 * 86_400) == "expired"
    b.wait(DELAY)
    assert b.why("keeper", b.vault, *execute) == "owner"
    with b.undo():
        b.send("owner", b.vault, "cancel(bytes32)", keccak(data))
        assert b.why("owner", b.vault, *execute) == "unknown"
    b.send("owner", b.vault, *execute)
    assert b.view("delay()") == 3_605
    assert b.why("owner", b.vault, *execute) == "unknown"


@pytest.mark.parametrize(
    ("spoil", "refused"),
    [
        (lambda b: b.send("deployer", b.feeds[1], "post(int256)", 0), True),
        (lambda b: b.send("deployer", b.feeds[1], "post(int256)", -5), True),
        (lambda b: b.send("deployer", b.feeds[1], "set_broken(bool)", True), True),
        (lambda b: b.send("deployer", b.feeds[1], "post_at(int256,uint256)", 2_000 * 10**8, b.now() - 90_001), True),
        (lambda b: b.send("deployer", b.feeds[1], "post_at(int256,uint256)", 2_000 * 10**8, b.now() - 89_900), False),
        (lambda b: b.send("deployer", b.feeds[1], "post_at(int256,uint256)", 2_000 * 10**8, 0), True),
        (lambda b: b.send("deployer", b.feeds[1], "post_at(int256,uint256)", 2_000 * 10**8, b.now() + 9_999), True),
        (lambda b: b.send("deployer", b.seconds[1], "set_broken(bool)", True), True),
        (lambda b: b.send("deployer", b.seconds[1], "post(int256)", 1_980 * 10**8), True),  # 1.0101 %
        (lambda b: b.send("deployer", b.seconds[1], "post(int256)", 2_020 * 10**8), False),  # 0.990 %
    ],
    ids=["zero", "negative", "dead", "stale", "old", "incomplete", "future", "second_dead", "apart", "near"],
)
def test_feeds(b: Bench, spoil, refused: bool):
    plan = good(b)
    spoil(b)
    assert b.refusal(plan) == ("oracle" if refused else None)
    assert bool(b.adapter().check(plan)) == refused
    assert b.view("totalAssets()") == 100_000 * USD  # last good prices: never zero, never a revert
    assert (b.view("maxDeposit(address)", b.who["investor"]) == 0) == refused


def test_l2_sequencer_and_its_grace():
    with bench(sequencer=True, **FREE) as b:
        up = b.get(b.get(b.vault, "oracle()", "address"), "sequencer()", "address")
        plan = good(b)
        assert b.refusal(plan) is None
        assert not b.adapter().check(plan)
        b.send("deployer", up, "post(int256)", 1)
        assert b.refusal(plan) == "oracle"
        assert b.adapter().check(plan)[0].check == "oracle"
        b.send("deployer", up, "post(int256)", 0)
        assert b.refusal(plan, wait=3_500) == "oracle"
        assert b.refusal(plan, wait=3_700) is None
        assert b.adapter().check(plan, now=b.now() + 3_500)
        assert not b.adapter().check(plan, now=b.now() + 3_700)


def test_another_oracle_only_slowly_and_over_the_same_tokens(b: Bench):
    def an_oracle(order: tuple[int, ...]) -> str:
        new = [new_feed(b.rpc, PRICES[i]) for i in order]
        rows = [TokenSource(b.tokens[i], b.decimals[i], 0, feed, 50_000) for i, feed in zip(order, new, strict=True)]
        setup = VaultSetup(rows, b.who["owner"], b.who["keeper"], b.who["guardian"], [])
        return create(b.rpc, oracle_code(setup), b.who["deployer"])

    vault = b.adapter()
    assert not vault.snapshot().verdicts
    good_one, swapped, short = an_oracle((0, 1, 2)), an_oracle((0, 2, 1)), an_oracle((0, 1))
    assert b.why("owner", b.vault, "set_oracle(address)", good_one) == "timelock"
    for wrong in (swapped, short):
        data = calldata("set_oracle(address)", wrong)
        b.send("owner", b.vault, "schedule(bytes)", data)
        b.wait(DELAY + 1)
        assert b.why("owner", b.vault, "execute(bytes)", data) == "oracle"
    b.change("set_oracle(address)", good_one)
    assert b.get(b.vault, "oracle()", "address").lower() == good_one.lower()
    seen = vault.state()  # the adapter notices by itself
    assert seen.layout.oracle == good_one
    assert seen.layout.sources[1].heartbeat_s == 50_000
    assert b.refusal(good(b)) is None


@pytest.mark.parametrize(
    ("signature", "args", "why"),
    [
        ("set_targets(uint256[])", ([5_000, 5_000],), "targets"),
        ("set_targets(uint256[])", ([5_000, 5_000, 1],), "targets"),
        ("set_role(uint256,address)", (0, ZERO), "roles"),
        ("set_role(uint256,address)", (3, ZERO), "roles"),
        ("set_delay(uint256)", (31 * 86_400,), "roles"),
        ("set_delay(uint256)", (3_599,), "roles"),
        ("set_terms(uint256,uint256,uint256)", (7 * 86_400 + 1, 0, 0), "terms"),
        ("set_terms(uint256,uint256,uint256)", (0, 301, 0), "terms"),
        ("set_terms(uint256,uint256,uint256)", (0, 0, 301), "terms"),
        ("set_fees(uint256,uint256,address)", (501, 0, ZERO[:-1] + "1"), "terms"),
        ("set_fees(uint256,uint256,address)", (0, 3_001, ZERO[:-1] + "1"), "terms"),
        ("set_fees(uint256,uint256,address)", (1, 0, ZERO), "terms"),
        ("set_budgets((uint256,uint256,uint256,uint256,uint256))", ((100, 0, 1, 1, 1),), "budgets"),
        ("set_budgets((uint256,uint256,uint256,uint256,uint256))", ((100, 1, 1, 1, 0),), "budgets"),
        ("set_budgets((uint256,uint256,uint256,uint256,uint256))", ((100, 1, 10**9 + 1, 1, 1),), "budgets"),
        ("set_mandate((uint256,uint256,uint256,uint256,uint256,uint256))", ((1, 1, 0, 1, 1, 1),), "mandate"),
        ("set_mandate((uint256,uint256,uint256,uint256,uint256,uint256))", ((1, 1, 1, 1, 0, 1),), "mandate"),
        ("set_mandate((uint256,uint256,uint256,uint256,uint256,uint256))", ((10_001, 1, 1, 1, 1, 1),), "mandate"),
    ],
)
def test_senseless_changes_are_refused_even_from_the_timelock(b: Bench, signature: str, args, why: str):
    data = calldata(signature, *args)
    b.send("owner", b.vault, "schedule(bytes)", data)
    b.wait(DELAY + 1)
    assert b.why("owner", b.vault, "execute(bytes)", data) == why
