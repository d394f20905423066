"""An OFT between two local chains over LayerZero's published endpoint: dust, limits, pauses, verifiers, a thief."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ExecutionError
from lake.evm import Call, calldata, read, selector
from lake.rpc import Rpc
from policy.execution.base import Verdict
from policy.execution.bridges.base import TransferQuote
from policy.execution.bridges.events import address_of, event_topic, word
from policy.execution.bridges.oft import (
    INBOUND,
    LAZY,
    LZ_RECEIVE,
    PACKET_SENT,
    QUOTE_OFT,
    QUOTE_SEND,
    RECEIVED,
    SENT,
    endpoint_of,
    far_oft,
)
from policy.execution.bridges.oft_packet import OftPacket, packet_of
from policy.execution.contracts.compile import contract
from policy.execution.transfers.ledger import count
from policy.execution.transfers.machine import look_at_all
from policy.execution.transfers.saga import SagaState as S
from policy.localnet import tarballs
from policy.localnet.bridges import USD
from policy.localnet.layerzero import ENDPOINT, JOB_WEI, RECEIVER, WORKER, packets
from tests.transfers.real_bridges import DUST, OftCase, signature
from tests.transfers.real_matrix import RealLab

SEND = "send((uint32,bytes32,uint256,uint256,bytes,bytes,bytes),(uint256,uint256),address)"
LIMITS = "set_limits(uint32,uint256,uint256)"


@pytest.mark.chain
def test_calls_and_events_are_those_of_the_published_endpoint_and_oft():
    def faces(abi, kind):
        return {signature(x) for x in abi if x["type"] == kind}

    path = "artifacts/contracts/EndpointV2.sol/EndpointV2.json"
    endpoint = tarballs.tarball_artefact(tarballs.ENDPOINT, path).abi
    assert {LZ_RECEIVE, INBOUND, LAZY} <= faces(endpoint, "function")
    assert PACKET_SENT in {event_topic(s) for s in faces(endpoint, "event")}
    double = contract("oft_adapter").abi
    assert {SEND, QUOTE_OFT, QUOTE_SEND, "sharedDecimals()", "approvalRequired()"} <= faces(double, "function")
    assert {SENT, RECEIVED} == {event_topic(s) for s in faces(double, "event")}
    receiver = "lzReceive((uint32,bytes32,uint64),bytes32,bytes,address,bytes)"
    assert {receiver, "allowInitializePath((uint32,bytes32,uint64))", "nextNonce(uint32,bytes32)"} <= faces(
        double, "function"
    )
    assert selector(SEND).hex() == "c7c7f5b3", "the selector that IOFT publishes, and the port calls"


words = st.binary(min_size=32, max_size=32)


@given(
    st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.tuples(words, words, words, words), st.integers(0, 2**64 - 1),
)  # fmt: skip
def test_a_packet_is_153_bytes_in_the_published_places(numbers, who, shared):
    nonce, source, destination = numbers
    sender, receiver, guid, recipient = who
    made = OftPacket(nonce, source, sender, destination, receiver, guid, recipient, shared)
    raw = made.encoded()
    assert (len(raw), len(made.header)) == (153, 81)
    assert (raw[0], raw[1:9], raw[9:13]) == (1, nonce.to_bytes(8, "big"), source.to_bytes(4, "big"))
    assert (raw[13:45], raw[45:49], raw[49:81]) == (sender, destination.to_bytes(4, "big"), receiver)
    assert raw[81:113] == guid
    assert raw[113:] == recipient + shared.to_bytes(8, "big")
    assert packet_of(raw) == made
    assert made.payload_hash == keccak(raw[81:])


@pytest.mark.parametrize("raw", [b"", bytes(153), b"\1" + bytes(151), b"\1" + bytes(153)])
def test_other_bytes_are_no_plain_send(raw):
    with pytest.raises(ExecutionError, match="no packet of a plain OFT send"):
        packet_of(raw)


# ---------------------------------------------------------------- on two chains


@pytest.fixture
def c(chain_pair):
    return OftCase(chain_pair)


@pytest.mark.chain
def test_dust_stays_to_the_unit_and_an_amount_with_dust_never_leaves(c: OftCase):
    asked = c.transfer(amount=1_000 * USD + DUST - 1)
    quote = c.bridge.quote(asked, asked.since)
    assert isinstance(quote, TransferQuote)
    assert (quote.amount, quote.least, quote.fee) == (1_000 * USD, 1_000 * USD, 0)
    assert [v.check for v in c.bridge.preflight(asked)] == ["decimals"]
    before = c.balances()
    receipt = c.pair.nets[0].receipt(c.depart(asked))
    assert (receipt["status"], c.balances()) == ("0x0", before), "the port takes no other amount than it names"
    c.pair.mine(6)
    whole = replace(asked, amount=quote.amount, least=quote.least, nonce=c.vaults[0].snapshot().plan_nonce)
    c.depart(whole)
    assert c.balances()[0] == before[0] - quote.amount
    tiny = c.bridge.quote(replace(asked, amount=DUST - 1), asked.since)
    assert isinstance(tiny, Verdict)
    assert (tiny.check, str(DUST) in tiny.reason) == ("bridge_limit", True)


@pytest.mark.chain
def test_the_native_fee_goes_along_and_what_is_too_much_comes_back_to_the_keeper(c: OftCase):
    rpc: Rpc = c.pair.nets[0].deployer.rpc
    keeper = c.pair.nets[0].accounts["keeper"].address

    def wealth() -> int:
        return int(str(rpc.call("eth_getBalance", [keeper, "latest"])), 16)

    transfer, before = c.transfer(), wealth()
    assert transfer.native_fee_wei == 2 * JOB_WEI * 11 // 10, "the two workers' price and a tenth"
    receipt = c.pair.nets[0].receipt(c.depart(transfer))
    gas = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    assert before - wealth() == gas + 2 * JOB_WEI
    vault = int(str(rpc.call("eth_getBalance", [c.vaults[0].address, "latest"])), 16)
    assert vault == 0, "the vault keeps none of it"


@pytest.mark.chain
def test_a_dearer_messenger_than_was_quoted_stops_the_departure(c: OftCase):
    transfer, before = c.transfer(), c.balances()
    worker = c.pair.nets[0].world.extras[WORKER]
    c.admin(0, worker, "set_fee(uint256)", 2 * JOB_WEI)
    receipt = c.pair.nets[0].receipt(c.depart(transfer))
    assert (receipt["status"], c.balances()) == ("0x0", before)
    again = c.transfer()
    assert again.native_fee_wei == 3 * JOB_WEI * 11 // 10


@pytest.mark.chain
def test_a_rate_limit_of_either_side_sizes_the_transfer_down(c: OftCase):
    transfer = c.transfer()
    for out, into, most in ((300 * USD, 0, 300 * USD), (0, 200 * USD + 7, 200 * USD), (100 * USD, 50 * USD, 50 * USD)):
        c.limit(out, into)
        quote = c.bridge.quote(transfer, transfer.since)
        assert isinstance(quote, TransferQuote)
        assert quote.amount == most
        assert [v.check for v in c.bridge.preflight(transfer)] == ["bridge_limit"]
        assert c.bridge.preflight(replace(transfer, amount=quote.amount)) == ()


@pytest.mark.chain
def test_a_fee_kept_by_the_token_is_counted_and_bounded_by_the_route(c: OftCase):
    c.admin(0, c.oft(0), "set_fee(uint256)", 10)
    transfer = c.transfer()
    quote = c.bridge.quote(transfer, transfer.since)
    assert isinstance(quote, TransferQuote)
    assert (quote.fee, quote.least) == (USD, 999 * USD)
    transfer = replace(transfer, max_fee=quote.fee, least=quote.least)
    c.depart(transfer)
    c.finalize()
    c.arrive(transfer)
    c.finalize()
    seen = c.bridge.find(transfer)
    assert (seen.arrived, seen.fee, seen.settled_final) == (999 * USD, USD, True)
    c.admin(0, c.oft(0), "set_fee(uint256)", 16)
    c.pair.mine(6)
    dear, before = c.transfer(), c.balances()
    quote = c.bridge.quote(dear, dear.since)
    receipt = c.pair.nets[0].receipt(c.depart(replace(dear, max_fee=quote.fee, least=quote.least)))
    assert (receipt["status"], c.balances()) == ("0x0", before), "16 bp, the route allows 15"


@pytest.mark.chain
def test_a_message_that_nobody_verifies_is_looked_up_and_never_sent_again(c: OftCase):
    c.pair.verifiers.faults["down"] = 10**6
    transfer = c.departed()
    seen = c.bridge.find(transfer)
    assert (seen.departed, seen.final, seen.attested, seen.deliverable) == (True, True, False, False)
    assert seen.moving == transfer.amount
    assert "once its verifiers vouch for it anybody may commit and execute it" in seen.reason
    assert c.bridge.deliver(transfer, seen) is None
    c.pair.verifiers.faults.clear()
    c.pair.mine(100)
    c.finalize()
    c.arrive(transfer)
    c.finalize()
    assert c.bridge.find(transfer).arrived == transfer.amount, "it stays deliverable for ever"


@pytest.mark.chain
def test_what_nobody_commits_is_stuck_counted_once_and_ends_by_anybodys_call(c: OftCase, tmp_path):
    """Vouched for, and no executor commits it: who has no key says what it waits for, a keeper sends it."""
    lab = RealLab(c.pair, tmp_path)
    made = lab.plan("oft").transfer
    c.pair.verifiers.faults["uncommitted"] = 10**6
    lab.look()
    c.finalize()
    for waited in (12, 15_000, 12):
        c.pair.mine(1, seconds=waited)
        c.pair.mine(3)
        ctx = lab.fresh(live=False)
        with ctx.log.lease():
            look_at_all(ctx)
        [saga] = ctx.log.sagas()
        found = count(lab.fresh(sound=True))
        assert (found.mismatch, found.doubts, found.moving) == (0, (), made.amount)
    assert saga.state is S.STUCK
    call = f"anybody may call commitVerification of {c.pair.nets[1].world.extras[RECEIVER]}"
    assert call.lower() in saga.note.lower()
    assert "stuck" in dict(lab.alarms)
    assert not c.bridge.find(made).attested
    for _ in range(7):
        lab.look()
        c.pair.mine(3)
    [saga] = lab.fresh(sound=True).log.sagas()
    assert (saga.state, saga.arrived) == (S.SETTLED, made.amount)
    assert len(saga.of("deliver")) == 2, "the commit and the execution"
    found = count(lab.fresh(sound=True))
    assert (found.mismatch, found.doubts, found.moving) == (0, (), 0)


@pytest.mark.chain
def test_what_the_verifiers_vouch_for_is_compared_with_what_left(c: OftCase):
    c.pair.verifiers.faults["equivocating"] = 1
    transfer = c.departed()
    seen = c.bridge.find(transfer)
    assert (seen.attested, seen.deliverable) == (False, False)
    assert "is not what left" in seen.reason
    c.finalize()
    assert c.bridge.find(transfer).deliverable, "the verifiers put it right under the same nonce"
    c.arrive(transfer)


@pytest.mark.chain
def test_a_packet_taken_back_or_cleared_by_the_tokens_owner_is_said(c: OftCase):
    transfer = c.departed()
    far = c.pair.nets[1]
    [(packet, _)] = packets(c.pair.nets[0], transfer.since[0], c.pair.nets[0].node.head().number)
    oft, endpoint = c.oft(1), far.world.extras[ENDPOINT]
    rpc = far.deployer.rpc
    rpc.call("anvil_impersonateAccount", [oft])
    rpc.call("anvil_setBalance", [oft, hex(10**18)])

    def as_owner(text: str, *args: object) -> None:
        data = "0x" + calldata(text, *args).hex()
        rpc.call("eth_sendTransaction", [{"from": oft, "to": endpoint, "data": data, "gas": hex(300_000)}])
        rpc.call("evm_mine")
        c.pair.mine(2)

    where = (oft, packet.source, packet.sender, packet.nonce)
    as_owner("nilify(address,uint32,bytes32,uint64,bytes32)", *where, packet.payload_hash)
    assert "took it back" in c.bridge.find(transfer).reason
    c.finalize()
    assert c.bridge.find(transfer).deliverable, "verified anew"
    as_owner("clear(address,(uint32,bytes32,uint64),bytes32,bytes)", oft, packet.origin, packet.guid, packet.message)
    seen = c.bridge.find(transfer)
    assert (seen.arrived, seen.deliverable, seen.moving) == (0, False, transfer.amount)
    assert "cleared without a credit" in seen.reason


@pytest.mark.chain
def test_an_execution_with_too_little_gas_or_over_a_limit_leaves_everything_as_it_was(c: OftCase):
    transfer = c.departed()
    tx = c.bridge.deliver(transfer, c.bridge.find(transfer))
    assert c.send(1, tx, gas=70_000) == 0
    c.limit(0, 10)
    assert c.send(1, tx) == 0
    c.limit(0)
    seen = c.bridge.find(transfer)
    assert (seen.arrived, seen.deliverable) == (0, True)
    c.arrive(transfer)


@pytest.mark.chain
def test_messages_of_others_are_never_ours_and_explain_themselves(c: OftCase, tmp_path):
    """A stranger sends beside us, to himself and to us; nothing of it is a transfer, all of it is counted."""
    lab = RealLab(c.pair, tmp_path)
    net, far = c.pair.nets
    plan = lab.plan("oft")
    assert plan.saga is not None, plan.verdicts
    for _ in range(3):
        lab.look()
        c.pair.mine()
    c.approve(0, "searcher")
    thief = net.accounts["searcher"].address
    options = bytes.fromhex("000301001101") + (200_000).to_bytes(16, "big")
    for to in (thief, c.vaults[1].address):
        ask = (c.eid(1), word(to), plan.transfer.amount, 0, options, b"", b"")
        data = calldata(SEND, ask, (2 * JOB_WEI, 0), thief)
        net.send("searcher", c.oft(0), data, value=2 * JOB_WEI)
    c.finalize()
    seen = c.bridge.find(plan.transfer)
    assert (seen.deliverable, seen.arrived) == (True, 0)
    for packet, _ in packets(net, plan.transfer.since[0], net.node.head().number):
        if packet.nonce > 1:
            data = calldata(LZ_RECEIVE, packet.origin, c.oft(1), packet.guid, packet.message, b"")
            far.send("trader", far.world.extras[ENDPOINT], data)
    c.pair.mine(4)
    assert c.bridge.find(plan.transfer).arrived == 0
    found = count(lab.fresh(sound=True))
    assert (found.mismatch, found.doubts, found.moving) == (0, (), plan.transfer.amount)
    c.arrive(plan.transfer)
    c.pair.mine(4)
    found = count(lab.fresh(sound=True))
    assert (found.mismatch, found.doubts, found.moving) == (0, (), 0)


@pytest.mark.chain
def test_another_oft_than_the_routes_and_another_token_are_refused_by_name(c: OftCase):
    transfer = c.transfer()
    near, far = c.bridge.ends
    c.bridge.ends = (replace(near, oft=c.oft(1)), far)
    assert [v.check for v in c.bridge.preflight(transfer)] == ["route_mismatch"]
    c.bridge.ends = (replace(near, endpoint=near.oft), far)
    assert [v.check for v in c.bridge.preflight(transfer)] == ["route_mismatch"]
    c.bridge.ends = (near, far)
    other = replace(
        transfer, destination=replace(transfer.destination, token=c.pair.nets[1].world.token("ETH").address)
    )
    assert {v.check for v in c.bridge.preflight(other)} == {"representation_unknown", "decimals"}
    assert c.bridge.preflight(transfer) == ()
    assert far_oft(near.rpc, near.oft, far.chain) == far.oft
    assert endpoint_of(near.rpc, near.oft) == near.endpoint
    with pytest.raises(ExecutionError, match="no peer"):
        far_oft(near.rpc, near.oft, replace(far.chain, lz_eid=7))
    with pytest.raises(ExecutionError, match="no LayerZero endpoint id"):
        far_oft(near.rpc, near.oft, replace(far.chain, lz_eid=None))


@pytest.mark.chain
def test_the_keepers_key_sends_to_our_own_vault_alone(c: OftCase):
    """What the port writes: recipient of the route, no call on arrival, no token but the route's."""
    sent = []
    for amount in (DUST, 999 * USD, 5_000 * USD):
        c.depart(c.transfer(amount=amount))
        c.pair.mine(6)
        sent.append(amount)
    net = c.pair.nets[0]
    made = [p for p, _ in packets(net, 0, net.node.head().number)]
    assert [p.shared * DUST for p in made] == sent
    assert {address_of(p.recipient.hex()) for p in made} == {c.vaults[1].address}
    assert {address_of(p.receiver.hex()) for p in made} == {c.oft(1)}
    views = [Call(c.cash, "allowance(address,address)", "uint256", (c.vaults[0].address, c.oft(0)))]
    assert read(net.deployer.rpc, views) == [(0,)]
    assert c.pair.nets[1].world.extras[RECEIVER]
