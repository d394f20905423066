"""The 25 planted mistakes: what went wrong elsewhere, and a run here that shows why it cannot, or what refuses it.

``python -m tests.transfers.planted`` prints the table of docs/cross-chain.md; test_planted.py holds the two equal.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from policy.execution.bridges.base import converted
from policy.execution.bridges.sim_book import BridgeBook
from policy.execution.transfers.journal import TransferLog, TransfersBusy
from policy.execution.transfers.ledger import count
from policy.execution.transfers.planning import plan_transfer
from policy.execution.transfers.saga import SagaState as S
from tests.transfers.lab import Lab, made
from tests.transfers.two_chains import CHAINS, KEEPER, USDC, VAULTS

IMPOSSIBLE = "impossible"


@dataclass(frozen=True)
class Mistake:
    number: int
    wrong: str
    how: str
    show: Callable[[Path], str]  # plants it; returns the refusal's name, or IMPOSSIBLE after asserting so


def refused(lab: Lab, name: str, **wish) -> str:
    checks = {v.check for v in lab.plan(**wish).verdicts}
    assert name in checks, checks
    return name


def book(lab: Lab, i: int, **changes) -> BridgeBook:
    c = lab.world.chains[i]
    c.set_world(replace(c.world, bridges=replace(c.world.bridges, **changes)))
    return c.world.bridges


def row(lab: Lab, i: int = 0, **changes) -> None:
    routes = lab.world.chains[i].world.bridges.routes
    book(lab, i, routes={**routes, 1: replace(routes[1], **changes)})


def settled(saga) -> bool:
    return saga.state is S.SETTLED


def out_of_gas(folder):
    lab = made(folder, least_delivery_gas=60_000)
    lab.plan()
    lab.until(lambda s: s.state is S.DEPARTED)
    lab.faults.left["low gas"] = 1
    saga = lab.until(settled)
    first, second = saga.of("deliver")
    assert first.failed
    assert second.gas_limit > first.gas_limit * 4
    return IMPOSSIBLE


def never_attested(folder):
    lab = made(folder)
    lab.plan()
    lab.world.attesters[0].faults["down"] = 10**6
    lab.until(lambda s: s.state is S.FINAL)
    lab.world.mine(1, skip_s=60_000)
    assert lab.until(lambda s: s.state is S.STUCK)
    assert count(lab.fresh()).moving == 1_000 * 10**6
    return refused(lab, "saga_open")


def too_much_between(folder):
    return refused(made(folder, max_in_transit_share=0.01), "transit_cap", dollars=50_000)


def unmapped(folder):
    lab = made(folder)
    book(lab, 1, peers=())
    return refused(lab, "representation_unknown")


def assumed_decimals(folder):
    lab = made(folder)
    book(lab, 1, decimals={USDC[0]: 6, USDC[1]: 18})
    return refused(lab, "decimals")


def nobody_trades_there(folder):
    lab = made(folder)
    lab.world.b.set_world(replace(lab.world.b.world, paused=True))
    return refused(lab, "recipient_not_ours")


def more_than_there_is(folder):
    lab = made(folder)
    a = lab.world.a
    book(lab, 0, moves=(*a.world.bridges.moves, (a.head().number, "withdrawal", -999_500 * 10**6)))
    a.set_world(replace(a.world, balances={USDC[0]: 500 * 10**6}))
    return refused(lab, "bridge_limit", dollars=1_000)


def shown_twice(folder):
    lab = made(folder)
    lab.plan()
    for _ in range(20):
        lab.look()
        lab.world.mine()
        found = count(lab.fresh())
        assert (found.mismatch, found.total) == (0, lab.world.start // 10**12)
    return IMPOSSIBLE


def dust(folder):
    assert converted(10**18 + 7, 18, 6) == (10**6, 7)
    lab = made(folder, decimals=(18, 6))
    plan = lab.plan(amount=1_000 * 10**18 + 7)
    assert plan.transfer.amount == 1_000 * 10**18, "what has no unit there stays here"
    return IMPOSSIBLE


def unarrived_spent(folder):
    lab = made(folder)
    lab.plan(2_000)
    lab.until(lambda s: s.state is S.DEPARTED)
    assert lab.fresh().ends[CHAINS[1]].vault.snapshot().holdings[0] == 10**12, "not on the destination before it is"
    return refused(lab, "saga_open", origin=1)


def old_balances(folder):
    lab = made(folder)
    plan = lab.plan()
    ctx = lab.fresh()
    with ctx.log.lease():
        again = plan_transfer(ctx, lab.wish())
    assert "saga_open" in {v.check for v in again.verdicts}
    world = lab.world
    world.depart(plan.transfer)
    world.mine()
    world.depart(replace(plan.transfer, saga_id="0x" + "7" * 64))
    world.mine()
    assert len(world.a.world.bridges.departed) == 1, "the vault's plan nonce lets one of them through"
    return IMPOSSIBLE


def dead_lock_holder(folder):
    lab = made(folder)
    first, second = (TransferLog(folder / "transfers.jsonl") for _ in range(2))
    with first.lease():
        try:
            with second.lease():
                raise AssertionError
        except TransfersBusy:
            pass
    lab.plan()
    assert lab.look()
    return IMPOSSIBLE


def filled_again(folder):
    lab = made(folder, "simulated-fill")
    lab.plan()
    saga = lab.until(lambda s: s.state is S.FILLABLE)
    assert lab.world.relay(saga.transfer) == ""
    assert lab.world.relay(saga.transfer) == "filled"
    signed = lab.until(settled).attempts
    assert len([a for a in signed if a.leg == "deliver"]) == 0
    return IMPOSSIBLE


def skipped_in_silence(folder):
    lab = made(folder, max_share=1e-9)
    plan = lab.plan()
    assert plan.saga is None
    assert all(v.reason for v in plan.verdicts)
    return refused(lab, "transit_cap")


def doomed_by_credit(folder):
    lab = made(folder)
    book(lab, 0, per_message_limit=400 * 10**6)
    plan = lab.plan(1_000)
    assert plan.transfer.amount == 400 * 10**6, "sized down to what the bridge takes"
    return IMPOSSIBLE


def address_of_another_chain(folder):
    lab = made(folder)
    row(lab, token=USDC[1])
    return refused(lab, "route_mismatch")


def raced(folder):
    lab = made(folder)
    lab.plan()
    return refused(lab, "saga_open")


def foreign_recipient(folder):
    lab = made(folder)
    row(lab, recipient=KEEPER)
    return refused(lab, "recipient_not_ours")


def refunded_elsewhere(folder):
    lab = made(folder, "simulated-fill")
    lab.plan()
    saga = lab.until(lambda s: s.state is S.FILLABLE)
    lab.world.mine(1, skip_s=20_000)
    lab.until(lambda s: s.state is S.REFUND_DUE)
    assert lab.world.come_home(saga.transfer) == ""
    credit = next(iter(lab.world.a.world.bridges.returned.values()))
    assert credit.recipient == VAULTS[0]
    return IMPOSSIBLE


def constant_gas(folder):
    lab = made(folder, least_delivery_gas=0)
    lab.plan()
    sent = lab.until(settled).of("deliver")[-1]
    assert sent.gas_limit == 210_000 * 3 // 2, "half as much again as the call used when it was simulated"
    return IMPOSSIBLE


def no_quote(folder):
    lab = made(folder)
    book(lab, 0, routes={})
    return refused(lab, "bridge_quote")


def inbound_limit(folder):
    lab = made(folder)
    book(lab, 1, inbound_limit=300 * 10**6)
    plan = lab.plan(1_000)
    assert plan.transfer.amount == 300 * 10**6
    return IMPOSSIBLE


def burn_limit(folder):
    lab = made(folder)
    row(lab, max_one=250 * 10**6)
    plan = lab.plan(1_000)
    assert plan.transfer.amount == 250 * 10**6, "the rest is the next decision's"
    return IMPOSSIBLE


def double_spend(folder):
    lab = made(folder)
    lab.plan()
    lab.until(lambda s: s.state is S.DEPARTED)
    lab.world.a.reorg(2, keep=False)
    saga = lab.look()[-1]
    assert saga.state in {S.SENT, S.SIGNED}
    assert not saga.of("deliver"), "nothing was delivered before it was final"
    lab.until(settled)
    assert lab.world.value() == lab.world.start
    return IMPOSSIBLE


def lagging_node(folder):
    lab = made(folder)
    lab.plan()
    lab.look()
    lab.world.mine()
    lab.faults.left |= {"no receipt A": 4, "lag A": 4}
    lab.until(settled)
    assert len(lab.world.a.world.bridges.departed) == 1
    return IMPOSSIBLE


MISTAKES = (
    Mistake(
        1,
        "a delivery signed with too little gas, retried with as little",
        "simulated anew at every try, half as much again",
        out_of_gas,
    ),
    Mistake(
        2,
        "an attestation that does not come for hours, taken for an error",
        "a state with an alarm; the value stays in the count",
        never_attested,
    ),
    Mistake(3, "a few of many transfers frozen for weeks", "a cap on all that is between the chains", too_much_between),
    Mistake(4, "burnt towards a chain that maps no token to it", "the destination's table is read before", unmapped),
    Mistake(5, "18 decimals assumed of a token that has 6", "decimals are read on both chains", assumed_decimals),
    Mistake(
        6, "money sent to where nobody can trade it", "the destination's vault is asked before", nobody_trades_there
    ),
    Mistake(
        7,
        "a transfer sized from what was bought, not from cash",
        "never more than lies there at one block",
        more_than_there_is,
    ),
    Mistake(8, "money between the chains counted twice, or missing", "one identity at every look", shown_twice),
    Mistake(9, "dust below a raw unit taken for cash", "integers; dust stays with the sender", dust),
    Mistake(
        10, "money not arrived yet netted away and sent back", "no transfer while its reverse is open", unarrived_spent
    ),
    Mistake(
        11,
        "a second transfer decided on old balances",
        "one plan nonce of the vault, one open transfer a pair",
        old_balances,
    ),
    Mistake(
        12, "a lock that outlives the process that held it", "the kernel's lock ends with the process", dead_lock_holder
    ),
    Mistake(
        13,
        "the same deposit filled again while it was pending",
        "nothing is sent that a look-up did not ask for",
        filled_again,
    ),
    Mistake(
        14,
        "transfers skipped by a guard, without a word",
        "every refusal has a name and its figures",
        skipped_in_silence,
    ),
    Mistake(
        15, "a transfer that must fail sent again for days", "sized down to what the bridge quotes", doomed_by_credit
    ),
    Mistake(
        16, "another chain's address in the configuration", "the port's own row is compared", address_of_another_chain
    ),
    Mistake(17, "two transfers of one need raced each other", "one open transfer a pair of chains", raced),
    Mistake(
        18,
        "the keeper could name the receiver",
        "the recipient is the route's, and must be our vault",
        foreign_recipient,
    ),
    Mistake(
        19,
        "the refund went to an intermediate contract",
        "depositor and refund address are the vault",
        refunded_elsewhere,
    ),
    Mistake(
        20,
        "a gas figure from a profile after prices changed",
        "no constant: gas is simulated at each try",
        constant_gas,
    ),
    Mistake(21, "a route whose fee can never be paid", "no quote is no route", no_quote),
    Mistake(
        22, "more sent than the destination may receive", "the destination's limit is part of the quote", inbound_limit
    ),
    Mistake(23, "more than one message may carry", "sized to the limit", burn_limit),
    Mistake(
        24, "delivered, and the departure reorganised away", "no delivery before the departure is final", double_spend
    ),
    Mistake(25, "one lagging node taken for absence", "absence proves nothing; the same bytes again", lagging_node),
)


def table() -> str:
    """The table as the document has it."""
    lines = ["| # | what went wrong elsewhere | here | shown by |", "|--:|---|---|---|"]
    for m in MISTAKES:
        with tempfile.TemporaryDirectory() as folder:
            outcome = m.show(Path(folder))
        what = "impossible" if outcome == IMPOSSIBLE else f"refused: `{outcome}`"
        lines.append(f"| {m.number} | {m.wrong} | {what}: {m.how} | `{m.show.__name__}` |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
