"""Across between two local chains: its published pools, every way a deposit ends, and what a thief can do."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError
from lake.evm import Call, calldata, read, selector
from policy.execution.base import Verdict
from policy.execution.bridges import across_relay
from policy.execution.bridges.across import TRANSFER
from policy.execution.bridges.across_api import AcrossApi, AcrossAsk, AcrossFees
from policy.execution.bridges.across_relay import DEPOSITED, FILLED, REFUNDED, RELAY_TYPE, SLOW_ASKED, Relay
from policy.execution.bridges.base import TransferQuote
from policy.execution.bridges.events import event_topic, padded, word
from policy.execution.bridges.services import ServiceDown
from policy.execution.transfers.ledger import count
from policy.localnet import across as ax
from policy.localnet.across_quotes import LocalQuotes, asked_in_process
from policy.localnet.bridges import USD
from policy.localnet.tarballs import ACROSS, tarball_artefact
from tests.transfers.real_bridges import AcrossCase, signature
from tests.transfers.real_matrix import RealLab


@pytest.mark.chain
def test_calls_and_events_are_those_of_the_published_pool():
    abi = tarball_artefact(ACROSS, ax._ARTEFACTS).abi
    events = {event_topic(signature(x)) for x in abi if x["type"] == "event"}
    assert {DEPOSITED, FILLED, SLOW_ASKED, REFUNDED, ax.RELAYED} <= events
    calls = {selector(signature(x)) for x in abi if x["type"] == "function"}
    ours = (ax.FILL_RELAY, ax.ASK_SLOW, ax.FILL_SLOW, ax.REFUND, "pausedDeposits()", "fillDeadlineBuffer()")
    assert {selector(s) for s in ours} <= calls
    port = "depositV3(address,address,address,address,uint256,uint256,uint256,address,uint32,uint32,uint32,bytes)"
    assert selector(port) in calls, "the call that the vault's port writes"


words = st.binary(min_size=32, max_size=32)
small = st.integers(0, 2**32 - 1)
large = st.integers(0, 2**256 - 1)


@given(st.tuples(words, words, words, words, words), st.tuples(large, large, large, large), st.tuples(small, small))
def test_what_a_pool_logs_of_a_deposit_and_its_fill_is_read_as_one_relay(who, numbers, times):
    depositor, recipient, exclusive, token, output = who
    amount, out, origin, number = numbers
    relay = Relay(depositor, recipient, exclusive, token, output, amount, out, origin, number, *times)
    types = ["bytes32", "bytes32", "uint256", "uint256", "uint32", "uint32", "uint32", "bytes32", "bytes32", "bytes"]
    data = encode(types, [token, output, amount, out, 7, *times, recipient, exclusive, b""])
    topics = [DEPOSITED, f"0x{9:064x}", f"0x{number:064x}", "0x" + depositor.hex()]
    log = {"address": "0x", "topics": topics, "data": "0x" + data.hex()}
    assert across_relay.deposit_of(log, origin) == (relay, 9)
    types = [
        "bytes32",
        "bytes32",
        "uint256",
        "uint256",
        "uint256",
        "uint32",
        "uint32",
        *["bytes32"] * 4,
        across_relay._EXECUTION,
    ]
    rest = [exclusive, depositor, recipient, bytes(32), (recipient, bytes(32), 5, 2)]
    data = encode(types, [token, output, amount, out, 1, *times, *rest])
    topics = [FILLED, f"0x{origin:064x}", f"0x{number:064x}", "0x" + "11" * 32]
    fill = across_relay.fill_of({"address": "0x", "topics": topics, "data": "0x" + data.hex()})
    assert (fill.relay, fill.recipient, fill.amount, fill.slow) == (relay, recipient, 5, True)
    rest[3] = keccak(b"a call")
    data = encode(types, [token, output, amount, out, 1, *times, *rest])
    assert across_relay.fill_of({"address": "0x", "topics": topics, "data": "0x" + data.hex()}) is None
    assert relay.digest(1) != relay.digest(2)


# ---------------------------------------------------------------- on two chains


@pytest.fixture
def c(chain_pair):
    return AcrossCase(chain_pair)


@pytest.mark.chain
def test_the_name_of_a_transfer_is_the_hash_the_pool_itself_keeps(c: AcrossCase):
    transfer = c.departed()
    seen, made = c.bridge.find(transfer), c.deposit(transfer)
    far = c.pair.nets[1]
    asked = Call(c.pool(1), f"getV3RelayHash({RELAY_TYPE})", "bytes32", (made.relay.fields,))
    assert seen.message_id == "0x" + bytes(read(far.deployer.rpc, [asked])[0][0]).hex()
    assert (made.relay.depositor, made.relay.recipient) == (word(c.vaults[0].address), word(c.vaults[1].address))
    assert (made.relay.message, made.relay.exclusive) == (b"", bytes(32)), "no call comes with it, anybody may fill"
    assert made.relay.output_amount == transfer.least


@pytest.mark.chain
def test_a_slow_fill_is_an_arrival_and_may_bring_more_than_was_asked(c: AcrossCase):
    transfer = c.departed()
    deposit = c.deposit(transfer)
    far = c.pair.nets[1]
    far.send("trader", c.pool(1), calldata(ax.ASK_SLOW, deposit.relay.fields))
    c.finalize()
    assert "slow fill was asked for" in c.bridge.find(transfer).reason
    assert not ax.fill_slowly(far, deposit), "asked for once"
    saved = far.snapshot()
    root = keccak(encode([ax.SLOW_LEAF], [(deposit.relay.fields, 31_338, transfer.amount)]))
    bundle = ax._relay_roots(far, bytes(32), root)
    leaf = (deposit.relay.fields, 31_338, transfer.amount)
    assert ax._sent(far, "trader", calldata(ax.FILL_SLOW, leaf, bundle, []))
    c.pair.level()
    c.finalize()
    seen = c.bridge.find(transfer)
    assert (seen.arrived, seen.fee, seen.settled_final) == (transfer.amount, 0, True)
    assert seen.arrived > transfer.least
    far.revert(saved)


@pytest.mark.chain
def test_nobody_fills_after_the_deadline_and_nobody_is_refunded_twice(c: AcrossCase):
    transfer, before = c.departed(), c.balances()
    deposit = c.deposit(transfer)
    c.pass_deadline()
    assert not ax.fill(c.pair.nets[1], deposit)
    assert not ax.fill_slowly(c.pair.nets[1], deposit)
    c.pair.level()
    assert c.come_home(transfer) == ""
    held = c.balances()
    assert held == (before[0] + transfer.amount, before[1]), "the whole of what was put in, no fee"
    near, pool = c.pair.nets[0], c.pool(0)
    leaf = (0, near.chain_id, [transfer.amount], 0, c.cash, [c.vaults[0].address])
    again = calldata(ax.REFUND, 0, leaf, [])
    near.send("trader", pool, again)
    near.mine()
    assert c.balances() == held


@pytest.mark.chain
def test_two_deposits_that_come_home_in_one_sum_are_told_apart_and_a_gift_is_no_refund(c: AcrossCase):
    first = c.transfer(1_000)
    c.depart(first)
    c.pair.mine(6)
    second = c.transfer(700)
    c.depart(second)
    c.finalize()
    c.pass_deadline()
    near, me = c.pair.nets[0], c.vaults[0].address
    near.send("trader", c.cash, calldata("transfer(address,uint256)", me, first.amount))
    c.finalize()
    assert [c.bridge.find(t).returned for t in (first, second)] == [0, 0], "a stranger's gift of the same amount"
    assert c.come_home(first, second) == ""
    c.finalize()
    seen = [c.bridge.find(t) for t in (first, second)]
    assert [s.returned for s in seen] == [first.amount, second.amount]
    assert seen[0].credit_block == seen[1].credit_block


@pytest.mark.chain
def test_what_a_stranger_deposits_or_fills_for_us_is_a_gift_and_never_a_transfer(c: AcrossCase, tmp_path):
    """The count of the cash explains it as what it is: nothing of ours left for it."""
    lab = RealLab(c.pair, tmp_path)
    near, far = c.pair.nets
    plan = lab.plan("across")
    assert plan.saga is not None, plan.verdicts
    for _ in range(3):
        lab.look()
        c.pair.mine()
    near.send("trader", c.cash, calldata("approve(address,uint256)", c.pool(0), 2**255))
    now = near.node.head().time
    port = "depositV3(address,address,address,address,uint256,uint256,uint256,address,uint32,uint32,uint32,bytes)"
    us, there, zero = c.vaults[0].address, c.vaults[1].address, "0x" + "0" * 40
    ask = (us, there, c.cash, c.cash, 50 * USD, 49 * USD, far.chain_id, zero, now, now + 3_600, 0, b"")
    near.send("trader", c.pool(0), calldata(port, *ask))
    c.pair.mine(4)
    mine, theirs = ax.deposits(near, us)
    assert ax.fill(far, theirs)
    forged = replace(mine, relay=replace(mine.relay, deposit_id=mine.relay.deposit_id + 77))
    assert ax.fill(far, forged), "a relayer pays out of his own pocket for a deposit that is none"
    c.pair.level()
    c.pair.mine(4)
    found = count(lab.fresh(sound=True))
    assert (found.mismatch, found.doubts) == (0, ())
    assert found.moving == plan.transfer.amount, "ours is still on its way"
    assert ax.fill(far, mine)
    c.pair.level()
    c.pair.mine(4)
    found = count(lab.fresh(sound=True))
    assert (found.mismatch, found.doubts, found.moving) == (0, (), 0)
    assert c.bridge.find(plan.transfer).arrived == plan.transfer.least


REFUSALS = {
    "bridge_limit": lambda c, t: replace(t, amount=c.pair.quotes.least - 1),
    "too long": lambda c, t: replace(t, fill_deadline=t.fill_deadline + ax.FILL_BUFFER_S),
}


@pytest.mark.chain
@pytest.mark.parametrize("name", REFUSALS)
def test_too_little_and_too_long_a_wait_are_refused_by_name(c: AcrossCase, name):
    transfer = c.transfer()
    said = c.bridge.preflight(REFUSALS[name](c, transfer))
    assert [v.check for v in said] == ["bridge_limit"], said
    assert c.bridge.preflight(transfer) == ()


@pytest.mark.chain
def test_another_pool_than_the_routes_or_the_services_is_a_mismatch(c: AcrossCase):
    transfer = c.transfer()
    near, far = c.bridge.ends
    c.bridge.ends = (replace(near, pool=c.pool(1)), far)
    assert {v.check for v in c.bridge.preflight(transfer)} == {"route_mismatch"}
    c.bridge.ends = (near, replace(far, pool=c.vaults[1].address))
    assert {v.check for v in c.bridge.preflight(transfer)} == {"bridge_quote"}, "no pool answers there"
    c.bridge.ends = (near, far)
    c.pair.quotes.places[31_338] = ("0x" + "77" * 20, c.cash)
    try:
        assert [v.check for v in c.bridge.preflight(transfer)] == ["route_mismatch"]
    finally:
        c.pair.quotes.places[31_338] = (c.pool(1), c.cash)


@pytest.mark.chain
@pytest.mark.parametrize("fault", ["down", "garbage"])
def test_a_service_that_quotes_nothing_is_no_route_and_a_look_needs_none(c: AcrossCase, fault):
    transfer = c.transfer()
    c.pair.quotes.faults[fault] = 2
    said = c.bridge.quote(transfer, transfer.since)
    assert isinstance(said, Verdict)
    assert said.check == "bridge_quote"
    assert [v.check for v in c.bridge.preflight(transfer)] == ["bridge_quote"]
    c.depart(transfer)
    c.finalize()
    c.pair.quotes.faults[fault] = 10**6
    c.arrive(transfer)
    c.finalize()
    assert c.bridge.find(transfer).settled_final, "events alone say what became of it"


@pytest.mark.chain
def test_a_fee_above_the_routes_ceiling_leaves_nothing(c: AcrossCase):
    """The service is a hint: the vault's contract holds the ceiling."""
    c.pair.quotes.fee_pips = 2_000  # 20 bp, the route allows 15
    transfer = c.transfer()
    quote = c.bridge.quote(transfer, transfer.since)
    assert isinstance(quote, TransferQuote)
    before = c.balances()
    dear = replace(transfer, max_fee=quote.fee, least=quote.least)
    sent = c.depart(dear)
    receipt = c.pair.nets[0].receipt(sent)
    assert (receipt["status"], c.balances()) == ("0x0", before)


@pytest.mark.chain
def test_the_keepers_key_sends_to_our_own_vault_and_its_refund_comes_to_us(c: AcrossCase):
    """What the port writes, whatever it is asked for: depositor, recipient, token, no relayer of its own, no call."""
    for dollars in (1, 999, 5_000):
        made = c.deposit(c.departed(amount=dollars * USD, deadline=2**40))
        c.pair.mine(6)
        relay = made.relay
        assert (relay.depositor, relay.recipient) == (word(c.vaults[0].address), word(c.vaults[1].address))
        assert (relay.input_token, relay.output_token) == (word(c.cash), word(c.cash))
        assert (relay.exclusive, relay.exclusivity, relay.message, made.destination) == (bytes(32), 0, b"", 31_338)
    thief = c.pair.nets[0].accounts["searcher"].address
    logs = c.pair.nets[0].deployer.rpc.call(
        "eth_getLogs", [{"address": c.cash, "fromBlock": "0x0", "topics": [TRANSFER, None, padded(thief)]}]
    )
    assert not [x for x in logs if x["topics"][1] == padded(c.vaults[0].address)]


# ---------------------------------------------------------------- the quote service

ASK = AcrossAsk("0x" + "a1" * 20, "0x" + "b2" * 20, 1, 10, 10**9)
GOOD = {
    "totalRelayFee": {"pct": "1", "total": "250000"},
    "limits": {"minDeposit": "1000000", "maxDeposit": "5000000000"},
    "isAmountTooLow": False,
    "estimatedFillTimeSec": 3,
    "spokePoolAddress": "0x01",
    "destinationSpokePoolAddress": "0x02",
}


def service(answer) -> AcrossApi:
    return AcrossApi(client=httpx.Client(transport=httpx.MockTransport(answer)))


def test_the_service_is_asked_as_published():
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, dict(request.url.params)))
        row = {"originChainId": 1, "destinationChainId": 10, "originToken": ASK.input_token.upper().replace("X", "x")}
        routes = [{**row, "destinationToken": ASK.output_token}]
        return httpx.Response(200, json=routes if "routes" in request.url.path else GOOD)

    s = service(answer)
    assert s.fees(ASK) == AcrossFees(250_000, 10**6, 5 * 10**9, 3.0, ("0x01", "0x02"))
    assert s.serves(ASK)
    assert not s.serves(replace(ASK, output_token="0x" + "c3" * 20))
    chains = {"originChainId": "1", "destinationChainId": "10"}
    tokens = {"inputToken": ASK.input_token, "outputToken": ASK.output_token, "amount": "1000000000"}
    assert asked[0] == ("GET", "/api/suggested-fees", {**chains, **tokens})
    assert asked[1] == ("GET", "/api/available-routes", chains)
    low = service(lambda _: httpx.Response(400, json={"type": "AcrossApiError", "code": "AMOUNT_TOO_LOW"}))
    assert low.fees(ASK).too_low


BAD = {
    "another status": lambda _: httpx.Response(502),
    "another refusal": lambda _: httpx.Response(400, json={"code": "INVALID_PARAM"}),
    "a redirect": lambda _: httpx.Response(302, headers={"location": "https://example.org"}),
    "no JSON": lambda _: httpx.Response(200, text="<html>"),
    "another form": lambda _: httpx.Response(200, json={**GOOD, "limits": []}),
    "no number": lambda _: httpx.Response(200, json={**GOOD, "totalRelayFee": {"total": "much"}}),
    "limits turned": lambda _: httpx.Response(200, json={**GOOD, "limits": {"minDeposit": "9", "maxDeposit": "1"}}),
    "no time": lambda _: httpx.Response(200, text=json.dumps({**GOOD, "estimatedFillTimeSec": float("inf")})),
    "too much": lambda _: httpx.Response(200, content=b" " * (2**20 + 1)),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_service_that_does_not_say_is_no_quote(bad):
    with pytest.raises(ServiceDown, match="Across' quote service"):
        service(BAD[bad]).fees(ASK)
    if bad not in {"no number", "limits turned", "no time"}:
        with pytest.raises(ServiceDown, match="Across' quote service"):
            service(BAD[bad]).serves(ASK)


def test_a_service_nobody_reaches_names_no_place():
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("secret-host", request=request)

    with pytest.raises(ServiceDown, match="ConnectError") as error:
        service(fail).fees(ASK)
    assert "secret-host" not in str(error.value)


@pytest.mark.parametrize("url", ["http://app.across.to/api", "https://across.to.evil.org/api", "http://127.0.0.1:1"])
def test_only_across_own_hosts_are_asked(url):
    with pytest.raises(ConfigError, match="is not Across' quote service"):
        AcrossApi(url)
    if "127.0.0.1" in url:
        assert AcrossApi(url, local=True).service.url == url


@given(st.integers(1, 10**13), st.integers(0, 9_999))
def test_the_local_service_keeps_its_own_rules(amount, pips):
    quotes = LocalQuotes({1: ("0x01", ASK.input_token), 10: ("0x02", ASK.output_token)}, fee_pips=pips)
    said = asked_in_process(quotes).fees(replace(ASK, amount=amount))
    if amount < quotes.least:
        assert said.too_low
    else:
        assert 0 <= said.fee * 10**6 - amount * pips < 10**6
        assert (said.least, said.most) == (quotes.least, quotes.most)
    quotes.served = False
    assert not asked_in_process(quotes).serves(ASK)
    with pytest.raises(ServiceDown, match="400"):
        asked_in_process(quotes).serves(replace(ASK, destination=5))
