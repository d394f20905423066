"""The vault's own check of its orders, on the published bytecode of every venue that fills them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lake.evm import calldata, selector
from lake.rpc import quantity
from policy.execution.auctions.orders import ARM, VenueKind, digest
from tests.execution.auction_kit import USD, House, house
from tests.execution.vault_kit import FREE

pytestmark = pytest.mark.chain
SNAPSHOT = Path(__file__).parent / "gas_snapshot.json"
KINDS = list(VenueKind)
SIGNED = "isValidSignature(bytes32,bytes)"
LOSSES = "uint256,uint256,uint256,uint256,uint256"
CLOCK = f"uint256,uint256,{LOSSES}"
MAGIC = bytes.fromhex("1626ba7e")


@pytest.fixture(scope="module")
def shared():
    with house(**FREE) as h:
        yield h


@pytest.fixture
def h(shared: House):
    with shared.b.undo():
        yield shared


def pay(h: House, order, out: int | None = None) -> None:
    """CoW's solver pays beforehand."""
    if order.kind is VenueKind.COW:
        h.prepay("searcher", order.buy, out or order.least)


@pytest.mark.parametrize("kind", KINDS)
def test_an_armed_order_is_filled_and_pays_the_vault(h: House, kind):
    order = h.order(kind)
    out = order.least * 10_015 // 10_000
    before = h.b.held(0), h.b.held(1)
    h.arm(order)
    said = h.b.get(h.b.vault, "offer()", "uint256,bytes32,uint256,uint256,uint256")
    assert said == (order.nonce + 1, h.digest(order), order.amount, order.least, order.expiry)
    assert h.b.get(h.b.vault, SIGNED, "bytes4", h.digest(order), b"") == MAGIC
    pay(h, order, out)
    assert h.fill(order, out=out, tip=10**4), h.last
    got = h.b.held(1) - before[1]
    assert (h.b.held(0) - before[0], got >= order.least) == (-order.amount, True)
    if kind is VenueKind.COW:
        assert got == out
    if kind is VenueKind.PRIORITY:
        assert got == -(-order.least * (10**7 + 10**4) // 10**7)
    assert h.b.get(h.b.tokens[0], "allowance(address,address)", "uint256", h.b.vault, spender(h, kind)) == 0
    assert h.refused(order, out=out)  # a second time
    lost = h.b.get(h.b.vault, "losses()", LOSSES)
    h.b.send("keeper", h.b.vault, "disarm()")
    assert h.b.view("clock()") == order.nonce + 1
    assert h.b.get(h.b.vault, "losses()", LOSSES) == lost, "the charge of a filled order stays"
    h.b.wait(60)
    assert h.b.refusal(h.b.plan(h.b.fair(0, 1, 1_000 * USD, 5))) is None


def test_a_dutch_order_pays_what_it_asks_at_that_second(h: House):
    order = h.order(VenueKind.DUTCH)
    h.arm(order)
    h.b.rpc.call("evm_setNextBlockTimestamp", [order.starts + 120])
    before = h.b.held(1)
    assert h.fill(order)
    assert order.least < h.b.held(1) - before == order.asks(order.starts + 120) < order.start


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_the_armed_order_is_denied(h: House, kind):
    order = h.order(kind)
    pay(h, order, 2 * order.least)
    assert h.refused(order), "before it is armed"
    h.arm(order)
    thief = h.b.who["searcher"]
    others = {
        "amount": replace(order, amount=order.amount + 1),
        "limit": replace(order, least=order.least // 2),
        "token": replace(order, buy=h.b.tokens[2]),
        "expiry": replace(order, expiry=order.expiry + 1),
    }
    for what, other in others.items():
        assert h.refused(other), what
    if kind is VenueKind.COW:
        assert h.refused(order, out=order.least - 1), "clearing price under the limit"
        assert h.refused(order, who="investor"), "no solver"
        assert h.refused(replace(order, app=b"\1" * 32)), "appData"
    assert digest(order, thief, h.domains) != h.digest(order)
    assert h.b.why("trader", h.b.vault, SIGNED, digest(order, thief, h.domains), b"") == "not armed"
    assert not h.refused(order), "and the order itself is filled"


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"loss_bps": 101, "charge_ppb": 4_000_000}, "leg value"),
        ({"loss_bps": 30, "charge_ppb": 100_000}, "loss budget"),
        ({"amount": 50_001 * USD}, "turnover"),
        ({"i": 0, "j": 1, "amount": 49_000 * USD, "charge_ppb": 2_000_000}, "progress"),
    ],
)
def test_an_order_that_breaks_the_mandate_is_not_filled(h: House, over, said):
    h.b.rebalance(h.b.plan(h.b.fair(0, 1, 29_000 * USD, 0)))
    h.b.wait(60)
    order = h.order(VenueKind.DUTCH, **over)
    h.arm(order)
    assert h.b.why("trader", h.b.vault, SIGNED, h.digest(order), b"") == said
    assert h.refused(order)


def test_more_than_there_is_and_a_bad_price_are_not_filled(h: House):
    order = h.order(VenueKind.DUTCH, 1, 0, amount=10**18)
    h.arm(order)
    assert h.b.why("trader", h.b.vault, SIGNED, h.digest(order), b"") == "spent"
    h.b.send("keeper", h.b.vault, "disarm()")
    h.b.wait(60)
    order = h.order(VenueKind.DUTCH)
    h.arm(order)
    h.b.send("deployer", h.b.feeds[1], "post(int256)", 2_100 * 10**8)  # the second source disagrees
    assert h.b.why("trader", h.b.vault, SIGNED, h.digest(order), b"") == "oracle"


def test_a_price_that_moved_beyond_the_charge_makes_it_void_and_back_again(h: House):
    order = h.order(VenueKind.DUTCH, charge_ppb=10_000 * 10 * 3)  # 30 bp of a tenth of the vault
    h.arm(order)
    assert not h.refused(order)
    h.b.price(1, 1_990 * 10**8)  # what is bought got cheaper: worth less than what is charged
    assert h.b.why("trader", h.b.vault, SIGNED, h.digest(order), b"") == "loss budget"
    assert h.refused(order)
    h.b.price(1, 2_000 * 10**8)
    assert not h.refused(order)


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"expiry": 3_700}, "deadline"),
        ({"expiry": -30}, "deadline"),
        ({"nonce": 7}, "nonce"),
        ({"amount": 0}, "amount"),
        ({"least": 2**128}, "amount"),
        ({"charge_ppb": 10**9 + 1}, "loss budget"),
        ({"charge_ppb": 5_000_001}, "loss budget"),
        ({"buy": "0x" + "11" * 20}, "pair"),
        ({"buy": 0}, "pair"),
        ({"venue": "0x" + "22" * 20}, "target"),
        ({"venue": "0x" + "00" * 20}, "target"),
    ],
)
def test_arming_has_limits(h: House, over, said):
    order = h.order(VenueKind.DUTCH)
    if "expiry" in over:
        over = {"expiry": h.b.now() + over["expiry"]}
    if over.get("buy") == 0:
        over = {"buy": h.b.tokens[0]}
    assert h.why_not(order) is None
    assert h.why_not(replace(order, **over)) == said
    assert h.why_not(order, "trader") == "keeper"
    h.b.send("guardian", h.b.vault, "pause()")
    assert h.why_not(order) == "paused"


def test_one_thing_at_a_time(h: House):
    """While an order is armed no plan runs and no second order is armed; the next one needs a later block."""
    order = h.order(VenueKind.DUTCH)
    plan = h.b.plan(h.b.fair(0, 1, 1_000 * USD, 5))
    h.arm(order)
    assert h.b.refusal(plan, wait=70) == "armed"
    assert h.why_not(order, wait=70) == "armed"
    h.b.wait(601)  # expired: still the keeper's to end
    assert h.refused(order)
    assert h.b.refusal(plan) == "armed"
    h.b.send("keeper", h.b.vault, "disarm()")
    assert h.b.why("keeper", h.b.vault, "disarm()") == "not armed"
    assert h.b.refusal(plan) == "nonce"
    assert h.b.refusal(h.b.plan(h.b.fair(0, 1, 1_000 * USD, 5))) is None, "the fallback needs no rest"


def test_an_unfilled_order_gives_its_charge_back_exactly(h: House):
    h.b.rebalance(h.b.plan(h.b.fair(0, 1, 10_000 * USD, 50)))
    h.b.wait(60)
    before = h.b.get(h.b.vault, "losses()", LOSSES), h.b.get(h.b.vault, "clock()", CLOCK)[4:]
    order = h.order(VenueKind.COW)
    h.arm(order)
    assert h.b.get(h.b.vault, "losses()", LOSSES)[2] == before[0][2] + order.charge_ppb
    h.b.send("keeper", h.b.vault, "disarm()")
    assert (h.b.get(h.b.vault, "losses()", LOSSES), h.b.get(h.b.vault, "clock()", CLOCK)[4:]) == before
    assert h.b.get(h.b.tokens[0], "allowance(address,address)", "uint256", h.b.vault, spender(h, VenueKind.COW)) == 0
    assert h.refused(order)


def test_pause_key_and_tokens_void_it(h: House):
    order = h.order(VenueKind.DUTCH)
    h.arm(order)
    for role, call in (("guardian", "pause()"), ("owner", "pause()"), ("owner", "revoke_keeper()")):
        with h.b.undo():
            assert not h.refused(order)
            h.b.send(role, h.b.vault, call)
            assert h.b.why("trader", h.b.vault, SIGNED, h.digest(order), b"") in ("paused", "keeper")
            assert h.refused(order)


def test_an_order_from_before_a_pause_is_dead_for_ever(h: House):
    data = calldata("resume()")
    h.b.send("owner", h.b.vault, "schedule(bytes)", data)
    h.b.wait(3_601)
    order = h.order(VenueKind.DUTCH)
    h.arm(order)
    h.b.send("guardian", h.b.vault, "pause()")
    h.b.send("owner", h.b.vault, "execute(bytes)", data)
    assert h.refused(order)
    assert h.b.why("keeper", h.b.vault, "disarm()") == "not armed"
    h.b.wait(60)
    assert h.b.refusal(h.b.plan(h.b.fair(0, 1, 1_000 * USD, 5))) is None
    assert h.why_not(replace(order, expiry=h.b.now() + 600)) is None


def test_nobody_enters_or_leaves_at_oracle_prices_while_it_may_be_filled(h: House):
    me = h.b.who["investor"]
    enter = ("deposit(uint256,address)", 1_000 * USD, me)
    leave = ("withdraw(uint256,address,address)", 1_000 * USD, me, me)
    order = h.order(VenueKind.DUTCH)
    h.arm(order)
    h.b.rpc.call("evm_mine")
    for call in (enter, leave):
        assert h.b.why("investor", h.b.vault, *call) == "armed"
    assert h.b.view("maxDeposit(address)", me) == h.b.view("maxWithdraw(address)", me) == 0
    assert h.b.why("investor", h.b.vault, "redeemInKind(uint256,address,address)", 10**12, me, me) is None
    with h.b.undo():
        h.b.wait(601)  # nobody has to do anything for it
        assert h.b.why("investor", h.b.vault, *enter) is None
    assert h.fill(order)
    assert h.b.why("investor", h.b.vault, *enter) == "armed"
    h.b.send("keeper", h.b.vault, "disarm()")
    assert h.b.why("investor", h.b.vault, *enter) is None


def test_venues_are_listed_through_the_timelock_only():
    with house(listed=False, **FREE) as h:
        order = h.order(VenueKind.DUTCH)
        assert h.why_not(order) == "target"
        listing = ("set_call(address,bytes4,bool)", order.venue, selector(ARM), True)
        assert h.b.why("owner", h.b.vault, *listing) == "timelock"
        h.b.change(*listing)
        fresh = h.order(VenueKind.DUTCH)
        assert h.why_not(fresh) is None
        h.arm(fresh)
        assert h.fill(fresh)


def test_a_token_that_refuses_to_be_approved_does_not_keep_the_order(h: House):
    order = h.order(VenueKind.DUTCH)
    h.arm(order)
    h.b.rpc.call("anvil_setCode", [h.b.tokens[0], "0xfe"])
    h.b.send("keeper", h.b.vault, "disarm()")
    assert h.b.view("clock()") == order.nonce + 1


def measure(h: House) -> dict[str, int]:
    """Gas of every step, each kind a second time: the first one writes slots that were empty."""
    used: dict[str, int] = {}
    for kind in (VenueKind.DUTCH, *VenueKind):
        order = h.order(kind)
        used[f"arm_{kind}"] = quantity(h.arm(order)["gasUsed"])
        pay(h, order)
        assert h.fill(order, tip=1)
        used[f"fill_{kind}"] = quantity(h.last["gasUsed"])
        used["disarm"] = quantity(h.b.send("keeper", h.b.vault, "disarm()")["gasUsed"])
        h.b.wait(60)
    return used


def test_gas_is_as_recorded(h: House):
    """After a deliberate change: ``python -m tests.execution.test_auction_contract`` writes the new figures."""
    assert measure(h) == json.loads(SNAPSHOT.read_text())["auctions"]


def spender(h: House, kind) -> str:
    relayer, permit2 = h.b.get(h.b.vault, "venues()", "address,address,address,address,address")[1::3]
    return relayer if kind is VenueKind.COW else permit2


if __name__ == "__main__":
    with house(**FREE) as fresh:
        known = json.loads(SNAPSHOT.read_text())
        known["auctions"] = measure(fresh)
        SNAPSHOT.write_text(json.dumps(known, indent=2) + "\n")
