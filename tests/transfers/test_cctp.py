"""CCTP between two local chains: the published layout, every way a delivery is held up, and what a thief can do."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError, ExecutionError
from lake.evm import calldata, selector
from policy.execution.base import Verdict
from policy.execution.bridges.attestations import Attested, CircleAttestations
from policy.execution.bridges.base import TransferQuote
from policy.execution.bridges.cctp import MESSAGE_RECEIVED, MESSAGE_SENT, MINTED, RECEIVE
from policy.execution.bridges.cctp_message import BurnMessage, decoded
from policy.execution.bridges.events import event_topic
from policy.execution.bridges.services import ServiceDown
from policy.execution.contracts.compile import contract
from policy.localnet.bridges import CCTP_ROUTE, MESSENGER, TRANSMITTER, USD
from tests.transfers.real_chains import CctpCase

PUBLISHED = {
    "cctp_transmitter": {
        "sendMessage": "14b157ab",
        "receiveMessage": "57ecfd28",
        "usedNonces": "feb61724",
        "signatureThreshold": "a82f2e26",
        "isEnabledAttester": "7af82f60",
        "localDomain": "8d3638f4",
        "paused": "5c975abb",
        "MessageSent": "8c5261668696ce22758910d05bab8f186d6eb247ceac2af2e82c7dc17669b036",
        "MessageReceived": "ff48c13eda96b1cceacc6b9edeedc9e9db9d6226afbc30146b720c19d3addb1c",
    },
    "cctp_messenger": {
        "depositForBurn": "8e0250ee",
        "handleReceiveFinalizedMessage": "11cffb67",
        "handleReceiveUnfinalizedMessage": "7c92f219",
        "localMinter": "cb75c11c",
        "remoteTokenMessengers": "82a5e665",
        "DepositForBurn": "0c8c1cbdc5190613ebd485511d4e2812cfa45eecb79d845893331fedad5130a5",
        "MintAndWithdraw": "50c55e915134d457debfa58eb6f4342956f8b0616d51a89a3659360178e1ab63",
    },
}
"""Selectors and topics of Circle's published interface, version 2.1."""


def signature(item: dict) -> str:
    return f"{item['name']}({','.join(i['type'] for i in item['inputs'])})"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_doubles_have_the_published_calls_and_events(name):
    abi = [x for x in contract(name).abi if x["type"] in {"function", "event"}]
    faces = {
        x["name"]: selector(signature(x)).hex() if x["type"] == "function" else event_topic(signature(x))[2:]
        for x in abi
    }
    assert {k: faces.get(k) for k in PUBLISHED[name]} == PUBLISHED[name]
    ours = {MESSAGE_SENT, MESSAGE_RECEIVED, MINTED}
    assert ours & {"0x" + v for v in faces.values()} == ours & {"0x" + v for v in PUBLISHED[name].values()}


addresses = st.binary(min_size=20, max_size=20).map(lambda b: "0x" + b.hex())
words = st.integers(0, 2**256 - 1)


@given(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), st.tuples(*[addresses] * 5),
    st.tuples(*[words] * 4), st.binary(min_size=32, max_size=32),
)  # fmt: skip
def test_a_message_is_376_bytes_in_the_published_places(domains, who, numbers, nonce):
    from eth_utils.address import to_checksum_address

    messenger, there, burnt, recipient, depositor = map(to_checksum_address, who)
    amount, most, fee, expires = numbers
    made = BurnMessage(
        *domains, messenger, there, 2_000, burnt, recipient, amount, depositor, most, nonce, bytes(32), 1_000, fee,
        expires,
    )  # fmt: skip
    raw = made.encoded()
    assert len(raw) == 376
    assert (raw[:4], raw[4:8], raw[12:44]) == (bytes([0, 0, 0, 1]), domains[0].to_bytes(4, "big"), nonce)
    words_of_body = encode(["address", "address", "uint256", "address"], [burnt, recipient, amount, depositor])
    assert raw[148:152] + words_of_body == raw[148:280]
    assert decoded(raw) == made
    assert decoded(made.asked().encoded()) == made.asked()


@pytest.mark.parametrize("raw", [b"", bytes(376), bytes(375), b"\0\0\0\1" + bytes(372)])
def test_other_bytes_are_no_burn(raw):
    with pytest.raises(ExecutionError, match="no burn"):
        decoded(raw)


# ---------------------------------------------------------------- on two chains


@pytest.fixture
def c(chain_pair):
    return CctpCase(chain_pair)


@pytest.mark.chain
@pytest.mark.parametrize("fault", ["down", "garbage", "expired", "equivocating"])
def test_a_faulty_attestation_is_waited_out_and_never_sent(c: CctpCase, fault):
    transfer = c.departed()
    c.pair.attester.faults[fault] = 1
    seen = c.bridge.find(transfer)
    assert (seen.known, seen.departed, seen.deliverable, seen.arrived) == (True, True, False, 0)
    assert seen.reason
    assert c.bridge.deliver(transfer, seen) is None
    assert bool(c.pair.attester.renewed) == (fault == "expired")
    c.arrive(transfer)
    assert c.balances()[1] == 1_001_000 * USD


@pytest.mark.chain
def test_what_anybody_else_signed_or_no_longer_may_is_not_delivered(c: CctpCase, monkeypatch):
    from policy.localnet import attester
    from policy.localnet.accounts import attesters, dev_accounts

    transfer = c.departed()
    for signers in ((dev_accounts()["searcher"], attesters()[1]), attesters()[:1], attesters()[::-1], ()):
        monkeypatch.setattr(attester, "attesters", lambda s=signers: s)
        seen = c.bridge.find(transfer)
        assert not seen.deliverable, signers
    monkeypatch.undo()
    first, second = attesters()
    c.admin(1, c.end(1).transmitter, "rotate(address,address)", first.address, dev_accounts()["searcher"].address)
    assert "not by attesters" in c.bridge.find(transfer).reason
    c.admin(1, c.end(1).transmitter, "rotate(address,address)", dev_accounts()["searcher"].address, first.address)
    c.arrive(transfer)
    assert second.address != first.address


@pytest.mark.chain
def test_a_delivery_with_too_little_gas_leaves_everything_as_it_was(c: CctpCase):
    transfer = c.departed()
    tx = c.bridge.deliver(transfer, c.bridge.find(transfer))
    assert c.send(1, tx, gas=70_000) == 0
    seen = c.bridge.find(transfer)
    assert (seen.arrived, seen.deliverable) == (0, True)
    assert c.send(1, c.bridge.deliver(transfer, seen)) == 1
    c.finalize()
    assert c.bridge.find(transfer).arrived == transfer.amount


@pytest.mark.chain
def test_a_stranger_may_deliver_and_it_is_ours_all_the_same(c: CctpCase):
    transfer = c.departed()
    c.send(1, c.bridge.deliver(transfer, c.bridge.find(transfer)))  # the sender is no account of ours
    c.finalize()
    seen = c.bridge.find(transfer)
    assert (seen.arrived, seen.settled_final, c.bridge.deliver(transfer, seen)) == (transfer.amount, True, None)


@pytest.mark.chain
def test_an_arrival_is_found_while_the_service_is_down_for_good(c: CctpCase):
    transfer = c.departed()
    c.arrive(transfer)
    c.finalize()
    c.pair.attester.faults["down"] = 10**6
    assert c.bridge.find(transfer).arrived == transfer.amount
    second = c.departed()
    seen = c.bridge.find(second)
    assert (seen.arrived, seen.attested) == (0, False), "the first one's mint is not the second's"
    assert "did not answer" in seen.reason


@pytest.mark.chain
def test_a_paused_destination_holds_a_message_and_loses_nothing(c: CctpCase):
    transfer = c.departed()
    c.pause(1)
    seen = c.bridge.find(transfer)
    assert (seen.attested, seen.deliverable, seen.reason) == (True, False, "the bridge is paused on the destination")
    c.pause(1, on=False)
    c.arrive(transfer)


@pytest.mark.chain
def test_a_used_message_that_minted_nothing_to_us_is_no_arrival(c: CctpCase):
    """Verified by the mint, not by the status: a handler that says yes and mints nothing."""
    transfer = c.departed()
    code = c.pair.nets[1].deployer.rpc.call("eth_getCode", [c.end(1).messenger, "latest"])
    silent = "0x600160005260206000f3"  # returns 1
    tx = c.bridge.deliver(transfer, c.bridge.find(transfer))
    c.pair.nets[1].deployer.rpc.call("anvil_setCode", [c.end(1).messenger, silent])
    assert c.send(1, tx) == 1
    c.pair.nets[1].deployer.rpc.call("anvil_setCode", [c.end(1).messenger, code])
    c.finalize()
    seen = c.bridge.find(transfer)
    assert (seen.arrived, seen.settled_final) == (0, False)
    assert "nothing was minted to our vault" in seen.reason


@pytest.mark.chain
def test_a_fast_transfer_pays_its_fee_and_is_not_final(c: CctpCase):
    transfer = c.transfer(speed="fast")
    quote = c.bridge.quote(transfer, transfer.since)
    assert isinstance(quote, TransferQuote)
    assert (quote.fee, quote.least) == (100_000, 1_000 * USD - 100_000)
    transfer = replace(transfer, max_fee=quote.fee, least=quote.least)
    c.depart(transfer)
    seen = c.bridge.find(transfer)
    assert (seen.deliverable, seen.final) == (True, False)
    c.send(1, c.bridge.deliver(transfer, seen))
    c.pair.mine()
    seen = c.bridge.find(transfer)
    assert (seen.arrived, seen.fee, seen.settled_final) == (quote.least, quote.fee, False)


@pytest.mark.chain
def test_a_service_that_quotes_nothing_is_no_route(c: CctpCase):
    transfer = c.transfer()
    c.bridge.attestations.chains.pop(101)
    try:
        said = c.bridge.quote(transfer, transfer.since)
    finally:
        c.pair.attester.chains[101] = (c.pair.nets[1].deployer.rpc, c.end(1).transmitter, 3)
    assert isinstance(said, Verdict)
    assert said.check == "bridge_quote"


@pytest.mark.chain
def test_the_port_reads_as_transfers_need_it(c: CctpCase):
    vault = c.vaults[0]
    row = vault.port_route(CCTP_ROUTE)
    assert row is not None
    assert (row.kind, row.destination, row.recipient) == ("cctp", 31_338, c.vaults[1].address)
    assert vault.port_route(9) is None
    transfer = c.departed()
    [made] = vault.departures(transfer.since[0], c.pair.nets[0].node.head().number)
    assert (made.route, made.saga_id, made.amount, made.least) == (1, transfer.saga_id, 1_000 * USD, 1_000 * USD)
    assert (made.nonce, vault.port_transit(1)) == (transfer.nonce, transfer.amount)
    assert vault.departures(5, 4) == ()
    tx = vault.build_settle(transfer, returned=False)
    c.pair.nets[0].send("keeper", tx.to, tx.data)
    c.pair.mine()
    assert vault.port_transit(1) == 0
    with pytest.raises(ExecutionError, match="not open"):
        vault.build_departure(replace(c.departure(transfer), route=7))
    with pytest.raises(ExecutionError, match="32 bytes"):
        vault.build_departure(replace(c.departure(transfer), saga_id="0x12"))


@pytest.mark.chain
def test_messages_towards_a_thief_are_not_ours(c: CctpCase):
    """Anybody may burn; a burn of the thief's own beside ours changes nothing of what is seen."""
    transfer = c.departed()
    net, cash = c.pair.nets[0], c.cash
    messenger = net.world.extras[MESSENGER]
    thief = net.accounts["searcher"].address
    word = bytes(12) + bytes.fromhex(thief[2:])
    net.send("searcher", cash, calldata("approve(address,uint256)", messenger, 2**255))
    burn = "depositForBurn(uint256,uint32,bytes32,address,bytes32,uint256,uint32)"
    net.send("searcher", messenger, calldata(burn, transfer.amount, 101, word, cash, bytes(32), 0, 2_000))
    c.finalize()
    c.arrive(transfer)
    c.finalize()
    assert c.bridge.find(transfer).arrived == transfer.amount
    assert net.world.extras[TRANSMITTER] == c.end(0).transmitter


# ---------------------------------------------------------------- Circle's service


def service(answer) -> CircleAttestations:
    return CircleAttestations(client=httpx.Client(transport=httpx.MockTransport(answer)))


def test_circles_service_is_asked_as_published_and_believed_in_nothing_else():
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, dict(request.url.params)))
        if "fees" in request.url.path:
            body = [{"finalityThreshold": 1_000, "minimumFee": 1.3}, {"finalityThreshold": 2_000, "minimumFee": 0}]
            return httpx.Response(200, json=body)
        ready = {"message": "0x0102", "attestation": "0xaabb", "status": "complete"}
        waits = {"message": "0x03", "attestation": "PENDING", "status": "pending_confirmations"}
        return httpx.Response(200, json={"messages": [ready, waits]})

    s = service(answer)
    assert s.of(0, "0xfeed") == (Attested(b"\x01\x02", b"\xaa\xbb"), Attested(b"\x03", b""))
    assert (s.fee_pips(0, 6, 1_000), s.fee_pips(0, 6, 2_000), s.fee_pips(0, 6, 500)) == (130, 0, None)
    s.renew(keccak(b"x"))
    assert asked[0] == ("GET", "/v2/messages/0", {"transactionHash": "0xfeed"})
    assert asked[-1][:2] == ("POST", f"/v2/reattest/0x{keccak(b'x').hex()}")
    assert service(lambda _: httpx.Response(404)).of(0, "0xfeed") == ()


BAD = {
    "another status": lambda _: httpx.Response(502),
    "a redirect": lambda _: httpx.Response(302, headers={"location": "https://example.org"}),
    "no JSON": lambda _: httpx.Response(200, text="<html>"),
    "another form": lambda _: httpx.Response(200, text=json.dumps({"messages": [{"message": 7}]})),
    "bad hex": lambda _: httpx.Response(200, json={"messages": [{"message": "0xzz", "status": "complete"}]}),
    "a list": lambda _: httpx.Response(200, json=[1]),
    "too much": lambda _: httpx.Response(200, content=b" " * (2**20 + 1)),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_service_that_does_not_say_is_no_absence(bad):
    with pytest.raises(ServiceDown, match="service"):
        service(BAD[bad]).of(0, "0xfeed")


def test_a_service_nobody_reaches_names_no_place():
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("secret-host", request=request)

    with pytest.raises(ServiceDown, match="ConnectError") as error:
        service(fail).of(0, "0xfeed")
    assert "secret-host" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["http://iris-api.circle.com", "https://iris-api.circle.com.evil.org", "https://evil.org"]
)
def test_only_circles_own_hosts_are_asked(url):
    with pytest.raises(ConfigError, match="is not Circle's attestation service"):
        CircleAttestations(url)


def test_the_calls_are_the_published_ones():
    assert selector(RECEIVE).hex() == PUBLISHED["cctp_transmitter"]["receiveMessage"]
