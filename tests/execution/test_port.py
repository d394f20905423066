"""What leaves a vault for another chain, and every way that is denied by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lake.evm import Call, calldata, read
from lake.rpc import quantity
from policy.execution.bridges.routes import ROUTE_TYPE, read_row
from policy.execution.checks.port_rules import CLOSED, FAST, FINAL, Ask, counted, least_of, scaled
from policy.execution.vaults.reference.port_state import (
    SET_BENEFICIARY,
    SET_RATE,
    SET_ROUTE,
    SETTLE,
)
from tests.execution.port_fuzz import run
from tests.execution.port_kit import ACROSS, OFT, USD, Harbour, harbour
from tests.execution.vault_kit import SWAP

pytestmark = pytest.mark.chain
SNAPSHOT = Path(__file__).parent / "gas_snapshot.json"
SET_CALL = "set_call(address,bytes4,bool)"
MOST_WARM = 150_000


@pytest.fixture(scope="module")
def shared():
    with harbour() as h:
        yield h


@pytest.fixture
def h(shared: Harbour):
    with shared.b.undo():
        yield shared


def test_cash_leaves_for_our_own_vault_and_is_counted(h: Harbour):
    before, supply = h.b.held(0), h.b.view("totalSupply()")
    h.depart(h.ask(1_000 * USD))
    assert before - h.b.held(0) == 1_000 * USD
    assert h.burnt() == [(h.row.recipient, 1_000 * USD)]
    assert h.b.get(h.b.tokens[0], "allowance(address,address)", "uint256", h.b.vault, h.messenger) == 0
    book = h.book()
    assert book.rows[1] == replace(h.row, in_transit=1_000 * USD)
    assert counted(book, h.b.now()) == 1_000 * USD
    assert (h.b.view("clock()"), h.b.view("totalSupply()")) == (1, supply)
    assert h.b.get(h.b.vault, "losses()", ",".join(["uint256"] * 5))[3] == 0, "a departure is no loss"
    h.settle(1, 1_000 * USD)
    assert h.book().rows[1].in_transit == 0
    assert counted(h.book(), h.b.now()) == 1_000 * USD, "settling frees the route, never the rate"


DENIED = {
    "route": lambda a: replace(a, route=9),
    "amount": lambda a: replace(a, amount=5_000 * USD + 1),
    "bridge fee": lambda a: replace(a, fee=a.amount * 16 // 10_000),
    "speed": lambda a: replace(a, speed=FAST - 1),
    "deadline": lambda a: replace(a, deadline=1),
    "nonce": lambda a: replace(a, nonce=a.nonce + 1),
}


@pytest.mark.parametrize("word", DENIED)
def test_a_forbidden_departure_is_denied_by_name(h: Harbour, word: str):
    bad = DENIED[word](h.ask())
    assert h.refusal(bad) == word == h.expected(bad)[0]
    assert h.refusal(h.ask()) is None
    assert h.expected(h.ask()) == []


def test_nothing_and_whole_fees_do_not_leave(h: Harbour):
    for bad, word in ((h.ask(0), "amount"), (h.ask(1, fee=1), "bridge fee"), (h.ask(route=2**200), "route")):
        assert h.refusal(bad) == word
        assert h.expected(bad)[0] == word


@pytest.mark.parametrize("role", ["owner", "guardian", "investor", "trader"])
def test_only_the_keeper_sends(h: Harbour, role: str):
    assert h.refusal(h.ask(), role) == "keeper"


def test_a_pause_stops_departures_and_never_an_arrival(h: Harbour):
    h.depart()
    h.b.send("guardian", h.b.vault, "pause()")
    assert h.refusal(h.ask()) == "paused"
    held = h.b.held(0)
    h.b.send("deployer", h.b.tokens[0], "mint(address,uint256)", h.b.vault, 77)
    assert h.b.held(0) == held + 77
    h.settle(1, 1_000 * USD)
    assert h.book().rows[1].in_transit == 0


def test_departures_and_plans_share_one_clock(h: Harbour):
    h.depart()
    assert h.refusal(h.ask()) == "cooldown" == h.expected(h.ask())[0]
    assert h.b.refusal(h.b.plan(h.b.fair(0, 1, 1_000 * USD, 5))) == "cooldown"
    h.b.wait(60)
    h.b.rebalance(h.b.plan(h.b.fair(0, 1, 1_000 * USD, 5)))
    assert h.refusal(h.ask()) == "cooldown"
    assert h.refusal(h.ask(nonce=1), wait=72) == "nonce"


def test_no_flow_in_the_block_of_a_departure(h: Harbour):
    h.b.rpc.call("evm_setAutomine", [False])
    data = {"to": h.b.vault, "gas": hex(600_000)}
    deposit = calldata("deposit(uint256,address)", 10 * USD, h.b.who["investor"])
    sent = [
        h.b.rpc.call("eth_sendTransaction", [data | {"from": h.b.who[role], "data": "0x" + call.hex()}])
        for role, call in (("keeper", calldata(*h.args(h.ask()))), ("investor", deposit))
    ]
    h.b.rpc.call("evm_mine")
    h.b.rpc.call("evm_setAutomine", [True])
    assert [quantity(h.b.receipt(s)["status"]) for s in sent] == [1, 0]


def test_the_route_and_every_window_have_a_limit(h: Harbour):
    for _ in range(2):
        h.depart(h.ask(5_000 * USD))
        h.b.wait(60)
    bad = h.ask(5_000 * USD)
    assert h.refusal(bad) == "transit" == h.expected(bad)[0]
    h.settle(1, 10_000 * USD)
    for _ in range(2):
        h.depart(h.ask(5_000 * USD))
        h.settle(1, 5_000 * USD)
        h.b.wait(60)
    assert h.refusal(h.ask(1)) == "rate" == h.expected(h.ask(1))[0]
    h.b.wait(86_400)  # the neighbouring window counts as a whole
    assert h.refusal(h.ask(1)) == "rate" == h.expected(h.ask(1))[0]
    h.b.wait(86_400)
    assert h.refusal(h.ask(1)) is None


def test_another_window_forgives_nothing(h: Harbour):
    h.depart(h.ask(5_000 * USD))
    h.b.change(SET_RATE, 3_600 * 24 * 7, 5_000 * USD)
    assert h.refusal(h.ask(1)) == "rate" == h.expected(h.ask(1))[0]
    assert counted(h.book(), h.b.now()) == 5_000 * USD


def test_what_is_set_aside_for_claims_stays(h: Harbour):
    h.b.send("investor", h.b.vault, "redeemInKind(uint256,address,address,uint256)",
             h.b.view("totalSupply()") * 97 // 100, h.b.who["trader"], h.b.who["investor"], 1)  # fmt: skip
    bad = h.ask(5_000 * USD)
    assert h.b.get(h.b.tokens[0], "balanceOf(address)", "uint256", h.b.vault) > 90_000 * USD
    assert h.refusal(bad) == "held" == h.expected(bad)[0]
    assert h.refusal(h.ask(2_000 * USD)) is None


def test_a_bridge_that_takes_another_amount_than_asked_gets_nothing(h: Harbour):
    held = h.b.held(0)
    h.b.rpc.call("anvil_setCode", [h.messenger, "0x00"])  # says yes to everything and takes nothing
    assert h.refusal(h.ask()) == "spent"
    assert not h.try_depart(h.ask())
    assert (h.b.held(0), h.book().rows[1].in_transit) == (held, 0)


@pytest.mark.parametrize("fault", [1, 2, 5, 7])
def test_a_token_that_does_not_move_as_asked_sends_nothing(h: Harbour, fault: int):
    h.b.send("deployer", h.b.tokens[0], "set_fault(uint256,uint256,address,bytes)", fault, 50, h.b.vault, b"")
    assert not h.try_depart(h.ask())
    assert (h.burnt(), h.book().rows[1].in_transit, h.b.view("clock()")) == ([], 0, 0)


def test_a_token_that_calls_back_finds_the_vault_closed(h: Harbour):
    again = calldata(*h.args(h.ask(nonce=1)))
    h.b.send("deployer", h.b.tokens[0], "set_fault(uint256,uint256,address,bytes)", 4, 0, h.b.vault, again)
    h.depart()
    assert h.b.get(h.b.tokens[0], "hook_succeeded()", "uint256") == 0
    assert len(h.burnt()) == 1


def test_what_the_bridge_denies_moves_nothing(h: Harbour):
    h.b.send("deployer", h.transmitter, "set_paused(bool)", True)
    held = h.b.held(0)
    assert "paused" in str(h.refusal(h.ask())).lower()
    assert not h.try_depart(h.ask())
    assert (h.b.held(0), h.book().rows[1].in_transit, h.b.view("clock()")) == (held, 0, 0)


def test_native_coin_goes_with_an_oft_only(h: Harbour):
    assert not h.try_depart(h.ask(value=1))
    assert h.expected(h.ask(value=1)) == ["value"]
    assert not h.raw("keeper", b"", value=1)
    assert not h.raw("keeper", calldata("poke()"), value=1)
    assert not h.raw("investor", calldata("deposit(uint256,address)", USD, h.b.who["investor"]), value=1)
    assert quantity(h.b.rpc.call("eth_getBalance", [h.b.vault, "latest"])) == 0


def test_one_account_holds_every_share_while_a_route_is_open(h: Harbour):
    me, other = h.b.who["investor"], h.b.who["trader"]
    assert h.b.why("trader", h.b.vault, "deposit(uint256,address)", 10 * USD, other) == "holder"
    assert h.b.why("investor", h.b.vault, "deposit(uint256,address)", 10 * USD, other) == "holder"
    assert h.b.why("trader", h.b.vault, "deposit(uint256,address)", 10 * USD, me) == "holder"
    assert h.b.why("investor", h.b.vault, "transfer(address,uint256)", other, 1) == "holder"
    assert h.b.why("investor", h.b.vault, "deposit(uint256,address)", 10 * USD, me) is None
    assert _denied(h, SET_BENEFICIARY, other) == "beneficiary"
    assert _denied(h, SET_BENEFICIARY, "0x" + "0" * 40) == "route"
    h.b.change(SET_ROUTE, 1, CLOSED.encoded())
    assert h.refusal(h.ask()) == "route" == h.expected(h.ask())[0]
    h.b.change(SET_BENEFICIARY, "0x" + "0" * 40)
    assert h.b.why("trader", h.b.vault, "deposit(uint256,address)", 10 * USD, other) is None
    assert h.refusal(h.ask()) == "beneficiary" == h.expected(h.ask())[0]


def test_a_managers_fee_in_shares_stops_departures(h: Harbour):
    h.b.change("set_fees(uint256,uint256,address)", 100, 0, h.b.who["trader"])
    assert h.refusal(h.ask()) in {"fees", "beneficiary"}
    assert {"fees"} <= set(h.expected(h.ask()))


def test_only_the_timelock_sets_routes_and_a_route_is_sound(h: Harbour):
    for role in ("keeper", "owner", "guardian", "trader"):
        for args in ((SET_ROUTE, 2, h.row.encoded()), (SET_RATE, 1, 1), (SET_BENEFICIARY, h.b.who["trader"])):
            assert h.b.why(role, h.b.vault, *args) == "timelock"
        assert h.b.why(role, h.b.vault, "set_slack(uint256[])", [0, 0, 0]) == "timelock"
    zero = "0x" + "0" * 40
    wrong = {
        "route": replace(h.row, kind=4),
        "recipient": replace(h.row, recipient=zero),
        "decimals": replace(h.row, output_decimals=19),
        "destination": replace(h.row, kind=ACROSS, destination=31_337),
        "amount": replace(h.row, max_one=2**96),
        "bridge fee": replace(h.row, fee_bps=301),
        "speed": replace(h.row, speed=2**32),
        "token": replace(h.row, token=h.b.router, target=h.messenger),
        "target": replace(h.row, target=h.b.router),  # a call of plans
    }
    for word, row in wrong.items():
        assert _denied(h, SET_ROUTE, 2, row.encoded()) == word
    for target in (
        h.b.tokens[0],
        h.b.tokens[1],
        h.b.vault,
        "0x" + "77" * 20,
        h.b.get(h.b.vault, "oracle()", "address"),
    ):
        assert _denied(h, SET_ROUTE, 2, replace(h.row, target=target).encoded()) == "target"
    assert _denied(h, SET_ROUTE, 64, h.row.encoded()) == "route"
    assert h.b.get(h.b.vault, "route(uint256)", f"{ROUTE_TYPE},uint256", 2)[0][0] == 0


def _denied(h: Harbour, *args) -> str | None:
    """Why the vault denies a call of its own."""
    h.b.rpc.call("anvil_impersonateAccount", [h.b.vault])
    return h.b.why(h.b.vault, h.b.vault, *args)


def test_a_bridge_is_never_a_call_of_a_plan(h: Harbour):
    selector = bytes.fromhex("8e0250ee")
    assert _denied(h, SET_CALL, h.messenger, selector, True) == "target"
    h.b.change(SET_ROUTE, 1, CLOSED.encoded())
    assert _denied(h, SET_CALL, h.messenger, selector, True) == "target"
    # a listed router is no bridge before all its calls are struck off
    assert _denied(h, SET_ROUTE, 2, replace(h.row, target=h.b.router).encoded()) == "target"
    for signature in (SWAP, "idle(uint256)"):
        data = calldata(signature, *([h.b.vault, h.b.vault, 0, 0] if signature == SWAP else [0]))[:4]
        h.b.change(SET_CALL, h.b.router, data, False)
    assert _denied(h, SET_ROUTE, 2, replace(h.row, target=h.b.router).encoded()) is None


def test_settling_is_the_keepers_or_owners_and_frees_no_more_than_there_is(h: Harbour):
    h.depart()
    assert h.b.why("trader", h.b.vault, SETTLE, 1, 1, False) == "keeper"
    assert h.b.why("keeper", h.b.vault, SETTLE, 1, 1_000 * USD + 1, False) == "transit"
    h.settle(1, 1_000 * USD, "owner")
    assert read_row(h.b.rpc, h.b.vault, 1) == h.row


def test_a_changed_route_keeps_what_is_on_its_way(h: Harbour):
    h.depart()
    h.b.change(SET_ROUTE, 1, replace(h.row, max_one=7).encoded())
    assert read_row(h.b.rpc, h.b.vault, 1) == replace(h.row, max_one=7, in_transit=1_000 * USD)
    h.b.change(SET_ROUTE, 1, CLOSED.encoded())
    assert read_row(h.b.rpc, h.b.vault, 1).in_transit == 1_000 * USD
    assert h.book().rows == {}
    h.settle(1, 1_000 * USD)
    assert read_row(h.b.rpc, h.b.vault, 1).in_transit == 0
    assert read_row(h.b.rpc, h.b.vault, 64) == CLOSED


@pytest.mark.parametrize("decimals", [6, 8, 18])
def test_amounts_keep_their_worth_in_other_decimals(decimals: int):
    whole = 1_234_567_891
    assert scaled(whole, 6, decimals) == whole * 10 ** (decimals - 6)
    assert scaled(whole * 10 ** (decimals - 6) + (decimals > 6), decimals, 6) == whole + (decimals > 6)
    row = replace(CLOSED, kind=ACROSS, output_decimals=decimals)
    assert least_of(row, Ask(1, whole, 1, 0, 0, 0), 6) == (whole - 1) * 10 ** (decimals - 6)


def test_the_slow_key_widens_a_point_to_a_corridor(h: Harbour):
    """Arrived cash moves the weights; inside the corridor a plan may still turn around."""
    toward = h.b.plan(h.b.fair(0, 1, 10_000 * USD, 5))
    h.b.rebalance(toward)
    h.b.wait(60)
    back = h.b.fair(1, 0, 25 * 10**17)
    assert h.b.refusal(h.b.plan(back)) == "progress"
    assert [v.check for v in h.b.adapter().check(h.b.plan(back))] == ["progress"]
    h.b.change("set_slack(uint256[])", [6_000, 3_000, 3_000])
    assert h.b.refusal(h.b.plan(back)) is None
    assert h.b.adapter().check(h.b.plan(back)) == []
    assert h.b.adapter().state().book.slack_bps == (6_000, 3_000, 3_000)
    h.b.change("set_slack(uint256[])", [0, 0, 0])
    assert h.b.refusal(h.b.plan(back)) == "progress"
    assert _denied(h, "set_slack(uint256[])", [10_001, 0, 0]) == "slack"
    assert _denied(h, "set_slack(uint256[])", [0, 0]) == "slack"


def measure(h: Harbour) -> dict[str, int]:
    """Gas of the port's calls: the first departure over a route, and the next ones."""
    used = {"depart_cctp_first": quantity(h.depart()["gasUsed"])}
    h.b.wait(60)
    used["depart_cctp"] = quantity(h.depart()["gasUsed"])
    used["settle"] = quantity(h.settle(1, 500 * USD)["gasUsed"])
    return used


def test_gas_is_as_recorded_and_within_the_limit(h: Harbour):
    found = measure(h)
    assert found == json.loads(SNAPSHOT.read_text())["port"]
    assert found["depart_cctp"] <= MOST_WARM


def test_the_final_speed_may_be_asked_of_a_fast_route_and_not_the_other_way(h: Harbour):
    assert h.refusal(h.ask(speed=FINAL)) is None
    h.b.change(SET_ROUTE, 1, replace(h.row, speed=FINAL).encoded())
    assert h.refusal(h.ask(speed=FAST)) == "speed"
    assert (FAST, FINAL, OFT) == (1_000, 2_000, 3)


def test_a_vault_nobody_opened_sends_nothing():
    with harbour(opened=False) as h:
        assert h.refusal(h.ask()) == "beneficiary" == h.expected(h.ask())[0]
        assert _denied(h, SET_ROUTE, 1, h.row.encoded()) == "beneficiary"
        assert read(h.b.rpc, [Call(h.b.vault, "port()", "address,uint256")])[0] == ("0x" + "0" * 40, 0)
        h.b.send("trader", h.b.vault, "deposit(uint256,address)", 10 * USD, h.b.who["trader"])
        assert _denied(h, SET_BENEFICIARY, h.b.who["investor"]) == "beneficiary", "others hold shares"


def test_a_thief_with_the_keepers_key_sends_to_our_own_vault_alone():
    fuzz = run(120, seed=3)
    assert len(fuzz.left) > 10
    assert {"departed", "amount", "bridge fee", "cooldown"} <= set(fuzz.said)


if __name__ == "__main__":
    with harbour() as fresh:
        known = json.loads(SNAPSHOT.read_text())
        known["port"] = measure(fresh)
        SNAPSHOT.write_text(json.dumps(known, indent=2) + "\n")
